"""Losses of pre-training: the masked LM's, and distillation from a teacher of the same vocabulary."""

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
