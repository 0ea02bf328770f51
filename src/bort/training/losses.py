"""Losses of distillation: from a teacher of the same vocabulary, and from the embeddings of any other."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

KdLoss = Literal["kl", "as-released"]


def distillation(student: Tensor, teacher: Tensor, *, temperature: float = 2.0, kind: KdLoss = "kl") -> Tensor:
    """Distance of the student's distribution from the teacher's at the masked positions, times T².

    `kl` is KL(teacher ‖ student) of the tempered distributions, a mean over positions (Hinton et al. 2015; the
    paper's stated loss). `as-released` is what the released code computes: the tempered *probabilities* of the student
    go into a divergence that takes them for logits, so the softmax is applied twice, and the sum over the
    vocabulary is a mean. Its gradient is smaller by orders of magnitude; it is here for fidelity only.

    Args:
        student: Logits. *Shape:* (positions, vocab).
        teacher: Logits; no gradient flows into them. *Shape:* (positions, vocab).
        temperature: T.
        kind: Which of the two.

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
    """How far pooled vectors are from the teacher's, each by itself and all among each other.

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
    """Mean of 1 - cosine over tokens; those for which the teacher has a zero vector are left out.

    Args:
        student: *Shape:* (tokens, D).
        teacher: *Shape:* (tokens, D).

    Returns:
        A scalar, 0 where no token is left.
    """
    known = teacher.abs().sum(-1) > 0
    cosine = functional.cosine_similarity(student.float(), teacher.float(), dim=-1)
    return ((1.0 - cosine) * known).sum() / known.sum().clamp(min=1)
