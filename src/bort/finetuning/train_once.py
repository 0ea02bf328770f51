"""One fine-tuning: a model, one set of hyper-parameters, early stopping on the development data."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainerCallback

from bort.data.batches import shuffled_length_batches
from bort.data.tables.labels import Kind
from bort.finetuning.hyper_parameters import HyperParameters, TrainingLimits, usual_interval
from bort.finetuning.taught_vectors import HEAD_OF_VECTORS, VECTOR_WEIGHT, taught_vectors
from bort.finetuning.used_vocabulary import only_used_rows
from bort.model.checkpoints import quiet
from bort.predict.classifiers import predict_logits, tensors
from bort.predict.encoding import TokenizedExamples
from bort.tasks.task import Targets, Task
from bort.training import checkpoints
from bort.training.schedule import warmup_then_linear
from bort.training.settings import trainer_settings


@dataclass
class Labelled:
    """Tokenised examples and their targets.

    Attributes:
        encoded: The examples.
        targets: As returned by `Task.collected`.
        vectors: A teacher's vectors of the examples, which the first token learns too. *Shape:* (examples, D).
    """

    encoded: TokenizedExamples
    targets: Targets
    vectors: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def digest(self) -> str:
        """Hash the data, to detect that a training began with others.

        Fractions enter as rounded sums: a model's probabilities differ in their last digits on another machine, and are
        the same data nevertheless.
        """
        found = hashlib.sha256()
        for name, rows in sorted(self.encoded.columns.items()):
            found.update(f"{name} {len(rows)}".encode())
            found.update(np.fromiter(map(len, rows), np.int64).tobytes())
            found.update(np.fromiter(chain.from_iterable(rows), np.int64).tobytes())
        exact = self.targets.dtype.kind != "f"
        found.update(self.targets.tobytes() if exact else _rounded_sums(self.targets).tobytes())
        if self.vectors is not None:
            found.update(self.vectors.tobytes())
        return found.hexdigest()


def _rounded_sums(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return a weighted sum of each column relative to the norm, with other weights for each row."""
    rows = values.reshape(len(values), -1).astype(np.float64)
    sums = np.cos(np.arange(len(rows))) @ rows / (np.linalg.norm(rows) or 1.0)
    return np.asarray(sums.round(3) + 0.0)  # no negative zero


@dataclass
class TrainingResult:
    """Result of a training.

    Attributes:
        score: The best development score; -inf without development data, or if the outputs were never finite.
        step: The optimiser step at which it was reached.
        steps: Total number of optimiser steps.
        evaluations: The step and the score of each evaluation as JSON values; the score is None if the outputs were not
            finite.
    """

    score: float
    step: int
    steps: int
    evaluations: list[dict[str, Any]]


def train_once(
    model: PreTrainedModel,
    task: Task,
    theta: HyperParameters,
    train: Labelled,
    dev: Labelled | None,
    *,
    pad_token_id: int,
    limits: TrainingLimits,
    folder: Path,
    class_weights: Tensor | None = None,
    bf16: bool = False,
    on_progress: Callable[[float, str], None] = lambda share, note: None,
) -> TrainingResult:
    """Fine-tune `model` in place, and leave it with its best weights.

    A killed run resumes from its checkpoint in `folder`, and ends with the same weights. Checkpoints of other training
    data are deleted, and the training starts anew.

    Args:
        model: A classifier with a new head for `task`.
        task: Defines the loss and the metric.
        theta: The hyper-parameters.
        train: Training data.
        dev: Data that choose the step to keep; with None, the last step is kept.
        pad_token_id: Id of padding.
        limits: When to stop.
        folder: Folder for checkpoints.
        class_weights: Weight of each label in the loss. *Shape:* (labels,).
        bf16: Autocast to bf16.
        on_progress: Called with the completed share of the longest possible run, and a short note.
    """
    epoch_steps = math.ceil(len(train) / theta.batch_size)
    steps = max(1, limits.max_epochs * epoch_steps)
    if limits.max_steps is not None:
        steps = min(steps, limits.max_steps)
    settings = trainer_settings(
        folder,
        max_steps=steps,
        per_device_train_batch_size=theta.batch_size,
        learning_rate=theta.learning_rate,
        weight_decay=theta.weight_decay,
        bf16=bf16,
        optim="adamw_torch_fused",
        logging_strategy="no",
        seed=theta.seed,
    )
    seen, interval = [*train.encoded.columns["input_ids"]], steps
    if dev is not None:
        interval = usual_interval(epoch_steps, steps, len(dev), theta.batch_size)
        seen += dev.encoded.columns["input_ids"]
    with only_used_rows(model, seen, pad_token_id), taught_vectors(model, train.vectors):
        watch = _Watch(model, task, dev, pad_token_id, limits, steps, interval, bf16, on_progress, train.digest())
        checkpoint = watch.latest_checkpoint(folder)
        if checkpoint is not None:
            watch.restore(checkpoint)
        with quiet():
            trainer = _TrialTrainer(
                train,
                task,
                theta,
                pad_token_id,
                class_weights,
                model=model,
                args=settings,
                callbacks=[watch],
                train_dataset=range(len(train)),
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        if watch.best:
            model.load_state_dict(watch.best, strict=train.vectors is None)
    return TrainingResult(watch.score, watch.step, int(trainer.state.global_step), watch.evaluations)


class _Watch(TrainerCallback):
    """Evaluates, keeps the best weights, stops early, and requests checkpoints."""

    def __init__(
        self,
        model: PreTrainedModel,
        task: Task,
        dev: Labelled | None,
        pad_token_id: int,
        limits: TrainingLimits,
        steps: int,
        eval_steps: int,
        bf16: bool,
        on_progress: Callable[[float, str], None],
        data: str,
    ) -> None:
        import time

        self._now = time.monotonic
        self.model, self.task, self.dev, self.pad_token_id = model, task, dev, pad_token_id
        self.limits, self.steps, self.bf16, self.on_progress = limits, steps, bf16, on_progress
        self._data = data
        self.eval_steps = min(limits.eval_steps or eval_steps, steps)
        self.score, self.step = -math.inf, 0
        self.best: dict[str, Tensor] = {}
        self.evaluations: list[dict[str, Any]] = []
        self._saved = self._now()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Evaluate every `eval_steps` steps and at the end."""
        step = state.global_step
        if self.dev is not None and (step % self.eval_steps == 0 or step == self.steps):
            self._evaluate(step, self.dev)
            since = sum(1 for known in self.evaluations if known["step"] > self.step)
            if since >= self.limits.patience:
                control.should_training_stop = True
        self.on_progress(step / self.steps, f"best {self.task.metric} {self.score:.3f}" if self.best else "")
        if self._now() - self._saved >= self.limits.checkpoint_seconds and not control.should_training_stop:
            control.should_save = True

    def _evaluate(self, step: int, dev: Labelled) -> None:
        logits = predict_logits(self.model, dev.encoded, self.pad_token_id, bf16=self.bf16)
        score = -math.inf  # diverged: below any metric
        if np.isfinite(logits).all():
            score = self.task.score(logits, dev.targets, resamples=0)[self.task.metric].value
        self.evaluations.append({"step": step, self.task.metric: score if math.isfinite(score) else None})
        if score > self.score or not self.best:
            self.score, self.step = score, step
            self.best = {
                name: tensor.detach().cpu().clone()
                for name, tensor in self.model.state_dict().items()
                if not name.startswith(HEAD_OF_VECTORS)
            }

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Add the best weights so far to the trainer's checkpoint, then mark it as complete."""
        self._saved = self._now()
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self.best:
            save_file({name: tensor.contiguous() for name, tensor in self.best.items()}, folder / "best.safetensors")
        known = {"score": self.score, "step": self.step, "evaluations": self.evaluations}
        checkpoints.complete(folder, (known if self.best else {"evaluations": []}) | {"data": self._data})

    def latest_checkpoint(self, folder: Path) -> Path | None:
        """Return the newest complete checkpoint; if it is of other training data, delete them all and return None."""
        checkpoint = checkpoints.latest_checkpoint(folder)
        # Version 0.1.0 did not record the data.
        if checkpoint is None or checkpoints.about(checkpoint).get("data", self._data) == self._data:
            return checkpoint
        checkpoints.discard(folder)
        return None

    def restore(self, checkpoint: Path) -> None:
        """Restore what `on_save` wrote."""
        known = checkpoints.about(checkpoint)
        self.evaluations = known["evaluations"]
        if self.evaluations:
            self.score, self.step = known["score"], known["step"]
            self.best = load_file(checkpoint / "best.safetensors")


class _Batches:
    """Samples batches of similar lengths, in an order that depends only on the seed and the epoch."""

    def __init__(self, lengths: list[int], rows: int, seed: int) -> None:
        self.lengths, self.rows, self.seed, self.epoch = lengths, rows, seed, 0
        self.batch_size, self.drop_last = rows, False

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which determines the order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.rows)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(shuffled_length_batches(self.lengths, rows=self.rows, seed=self.seed, epoch=self.epoch))


class _TrialTrainer(Trainer):
    """The `transformers` trainer with batches of similar lengths, class weights, and the warm-up as a share."""

    def __init__(
        self,
        data: Labelled,
        task: Task,
        theta: HyperParameters,
        pad_token_id: int,
        class_weights: Tensor | None,
        **trainer: Any,
    ) -> None:
        super().__init__(**trainer)
        self.data, self.task, self.theta = data, task, theta
        self.pad_token_id, self.class_weights = pad_token_id, class_weights
        self.targets = torch.from_numpy(data.targets)
        self.vectors = None if data.vectors is None else torch.from_numpy(data.vectors)
        self.model_accepts_loss_kwargs = False

    def get_train_dataloader(self) -> Any:
        """Batches of examples of similar lengths."""
        sampler = _Batches(self.data.encoded.lengths, self.theta.batch_size, self.theta.seed)
        loader: DataLoader[Any] = DataLoader(self.train_dataset, batch_sampler=sampler, collate_fn=self._collate)
        return self.accelerator.prepare(loader)

    def _collate(self, indices: list[int]) -> dict[str, Tensor]:
        batch = {**tensors(self.data.encoded.batch(indices, self.pad_token_id)), "labels": self.targets[indices]}
        return batch if self.vectors is None else batch | {"vectors": self.vectors[indices]}

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Linear warm-up over its share of the steps, then linear decay to 0."""
        if getattr(self, "lr_scheduler", None) is None:
            self.lr_scheduler: Any = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer,
                # The step about to be taken, so that the learning rate of the first one is not 0.
                lambda step: warmup_then_linear(min(1.0, (step + 1) / (num_training_steps + 1)), self.theta.warmup),
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Loss of a batch by `LOSSES`, plus the weighted loss of the teacher's vectors if there are any."""
        labels, vectors = inputs.pop("labels"), inputs.pop("vectors", None)
        output = model(**inputs)
        loss = LOSSES[self.task.kind](output.logits.float(), labels, self.class_weights)
        if vectors is not None:
            loss = loss + VECTOR_WEIGHT * getattr(model, HEAD_OF_VECTORS).distance(vectors)
        return (loss, output) if return_outputs else loss


def class_loss(logits: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Class-weighted cross-entropy, averaged over the rows.

    For class indices, PyTorch's mean divides by the sum of the batch's class weights. Then each batch would count the
    same however rare its classes are, and hard labels would have another loss than the same labels as distributions.

    Args:
        logits: *Shape:* (rows, classes).
        targets: Classes (integers), *shape* (rows,), or distributions, *shape* (rows, classes).
        class_weights: *Shape:* (classes,).
    """
    weights = None if class_weights is None else class_weights.to(logits)
    return nn.functional.cross_entropy(logits, targets, weight=weights, reduction="none").mean()


def value_loss(logits: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Mean squared error. *Shape:* logits (rows, 1), targets (rows,)."""
    return nn.functional.mse_loss(logits.squeeze(-1), targets)


def labels_loss(logits: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy, averaged over rows and labels; the loss of positive labels is weighted.

    Args:
        logits: *Shape:* (rows, labels).
        targets: Probabilities of the labels, or 0 and 1. *Shape:* (rows, labels).
        class_weights: *Shape:* (labels,).
    """
    weights = None if class_weights is None else class_weights.to(logits)
    return nn.functional.binary_cross_entropy_with_logits(logits, targets.to(logits), pos_weight=weights)


LOSSES: Mapping[Kind, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "classification": class_loss,
    "regression": value_loss,
    "multilabel": labels_loss,
}
