"""The loss of a pre-training step: masked LM, a teacher's distributions, a teacher's embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bort.model.devices import use_bf16
from bort.model.mlm_loss import SoftTargets
from bort.pretraining.arguments import KdLoss, PretrainArguments
from bort.pretraining.distill.mlm_teacher import MaskedLMTeacher
from bort.pretraining.distill.shared_vocabulary import TeacherBeside
from bort.pretraining.distill.targets import weights_of
from bort.pretraining.taught_rows import Batch


def distillation(student: Tensor, teacher: Tensor, *, temperature: float = 2.0, kind: KdLoss = "kl") -> Tensor:
    """Distance of the student's distribution from the teacher's at the masked positions, times T².

    `kl` is KL(teacher ‖ student) of the tempered distributions, averaged over positions (Hinton et al. 2015; the
    paper's stated loss). `as-released` is what the released code computes: the student's tempered *probabilities* are
    passed to a divergence that expects logits, so the softmax is applied twice, and a mean replaces the sum over the
    vocabulary. Its gradient is orders of magnitude smaller; it exists for fidelity only.

    Args:
        student: Logits. *Shape:* (positions, vocab).
        teacher: Logits; no gradient flows into them. *Shape:* (positions, vocab).
        temperature: T.
        kind: `kl` or `as-released`.

    Returns:
        A scalar.
    """
    student, teacher = student.float() / temperature, teacher.detach().float() / temperature
    if kind == "kl":
        log_p, log_q = functional.log_softmax(teacher, -1), functional.log_softmax(student, -1)
        divergence = functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    else:
        p = functional.softmax(teacher, -1)
        log_q = functional.log_softmax(functional.softmax(student, -1), -1)
        divergence = (p * ((p + 1e-12).log() - log_q)).mean(-1).mean()
    return temperature**2 * divergence


def embedding_distance(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of pooled vectors from the teacher's: of each vector, and of the similarities within the batch.

    Args:
        student: *Shape:* (batch, D).
        teacher: *Shape:* (batch, D).

    Returns:
        The mean of 1 - cosine, and the mean squared difference of the two matrices of cosines within the batch (the
        relational term of Park et al. 2019). Scalars.
    """
    student, teacher = functional.normalize(student.float(), dim=-1), functional.normalize(teacher.float(), dim=-1)
    cosine = 1.0 - (student * teacher).sum(-1).mean()
    among = (student @ student.T - teacher @ teacher.T).square().mean()
    return cosine, among


def token_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cosine over tokens; tokens whose teacher vector is zero are left out.

    Args:
        student: *Shape:* (tokens, D).
        teacher: *Shape:* (tokens, D).

    Returns:
        A scalar, 0 if no token is left.
    """
    known = teacher.abs().sum(-1) > 0
    cosine = functional.cosine_similarity(student.float(), teacher.float(), dim=-1)
    return ((1.0 - cosine) * known).sum() / known.sum().clamp(min=1)


class Objective:
    """Computes the loss of a batch, and its parts. Teachers that run at each step compute in the run's precision.

    Args:
        settings: Weights and temperature.
        teacher: A masked LM that runs at each step, or None.
        layers: The embedding teacher's layer for each student layer that is compared token by token.
        beside: An encoder that runs at each step, or None.
    """

    def __init__(
        self,
        settings: PretrainArguments,
        teacher: MaskedLMTeacher | None = None,
        layers: dict[int, int] | None = None,
        beside: TeacherBeside | None = None,
    ) -> None:
        self.settings, self.teacher, self.layers, self.beside = settings, teacher, layers or {}, beside
        self.mlm_weight = settings.weight_of_mlm

    def __call__(self, model: Any, batch: Batch, *, keep_logits: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the weighted sum, with a gradient, and its terms by name, detached.

        Args:
            model: The student.
            batch: The collator's output.
            keep_logits: Decode all masked positions at once, which takes more memory.
        """
        if self.beside is not None:
            with self._autocast(batch):
                batch = batch | self.beside.answer(batch)
        student: dict[str, Any] = {
            name: batch[name] for name in ("input_ids", "attention_mask", "labels", "ordinary") if name in batch
        }
        if "ids" in batch:
            student["soft_targets"] = self._soft_targets(batch)
        # A teacher that runs at each step is compared by logits.
        output = model(**student, loss_only=self.teacher is None and not keep_logits)
        total, parts = torch.zeros((), device=batch["input_ids"].device), {}
        if "ids" in batch:
            total, parts = total + output.loss, {"mlm": output.hard_loss, "kd": output.soft_loss}
        elif output.loss is not None:
            total, parts = total + self.mlm_weight * output.loss, {"mlm": output.loss}
        if self.teacher is not None:
            with self._autocast(batch):
                theirs = self.teacher.logits(batch["input_ids"], batch["labels"], batch.get("attention_mask"))
            # The student may continue a model with a padded word embedding.
            ours = output.logits[:, : theirs.shape[-1]]
            parts["kd"] = distillation(ours, theirs, temperature=self.settings.temperature, kind=self.settings.kd_loss)
            total = total + self.settings.kd_weight * parts["kd"]
        if "pooled" in batch:
            total = total + self._embedding_loss(output, batch, parts)
        return total, {name: part.detach() for name, part in parts.items()}

    def _autocast(self, batch: Batch) -> torch.autocast:
        """The trainer's autocast covers the student alone."""
        device, bf16 = batch["input_ids"].device.type, use_bf16(self.settings.precision)
        return torch.autocast(device, torch.bfloat16, enabled=bf16)

    def _soft_targets(self, batch: Batch) -> SoftTargets:
        return SoftTargets(
            ids=batch["ids"],
            log_p=batch["log_p"].float(),
            weights=weights_of(batch["log_p"].float(), self.settings.teacher_tail),
            temperature=self.settings.temperature,
            mlm_weight=self.mlm_weight,
            kd_weight=self.settings.kd_weight,
        )

    def _embedding_loss(self, output: Any, batch: Batch, parts: dict[str, Tensor]) -> Tensor:
        ways = [embedding_distance(pooled, batch["pooled"]) for pooled in output.pooled]
        parts["embedding"] = torch.stack([cosine for cosine, _ in ways]).mean()
        parts["similarity"] = torch.stack([among for _, among in ways]).mean()
        total = self.settings.embedding_weight * parts["embedding"]
        total = total + self.settings.similarity_weight * parts["similarity"]
        if output.layers:
            distances = [
                token_distance(ours, batch[f"layer_{self.layers[number]}"]) for number, ours in output.layers.items()
            ]
            parts["tokens"] = torch.stack(distances).mean()
            total = total + self.settings.token_weight * parts["tokens"]
        return total
