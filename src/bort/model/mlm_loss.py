"""Losses over the vocabulary in chunks of positions; the logits of a chunk are freed once its gradient is known.

The vocabulary projection is linear, so its gradients are known as soon as a chunk's logits are. Computing them in the
forward pass, chunk by chunk, needs memory for one chunk of logits instead of three times all of them (logits,
log-softmax, gradient), at the same number of multiplications. If a teacher's distribution is given by a few dozen
tokens per position, distillation adds a second gradient on the same chunk before the same two multiplications.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_CHUNK_POSITIONS = 128


@dataclass(frozen=True)
class SoftTargets:
    """A teacher's distributions at temperature T, each as a weighted sample of the vocabulary, and the loss weights.

    Args:
        ids: Sampled tokens; one may occur twice. *Shape:* (positions, samples).
        log_p: The teacher's log-probabilities of them. *Shape:* (positions, samples).
        weights: Weight of each sample; they sum to 1 per position. *Shape:* (positions, samples).
        temperature: Softmax temperature T of the teacher's and the student's distributions.
        mlm_weight: Weight of the cross-entropy with the true tokens.
        kd_weight: Weight of T² KL(teacher ‖ student).
    """

    ids: Tensor
    log_p: Tensor
    weights: Tensor
    temperature: float
    mlm_weight: float
    kd_weight: float


def soft_distance(logits: Tensor, soft: SoftTargets) -> Tensor:
    """Compute T² KL(teacher ‖ student) from given logits, averaged over positions.

    Args:
        logits: *Shape:* (positions, V).
        soft: The teacher's distributions.
    """
    log_q = torch.log_softmax(logits.float() / soft.temperature, -1)
    apart = soft.weights.float() * (soft.log_p.float() - log_q.gather(-1, soft.ids))
    return soft.temperature**2 * apart.sum(-1).mean()


class _VocabularyLoss(torch.autograd.Function):
    """The losses of `hidden @ weight.T + bias`; see the functions below."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, soft: SoftTargets | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        mixed = torch.is_autocast_enabled(hidden.device.type)
        compute = torch.get_autocast_dtype(hidden.device.type) if mixed else weight.dtype
        positions, hard_weight = len(targets), 1.0 if soft is None else soft.mlm_weight
        with torch.autocast(hidden.device.type, enabled=False):
            matrix = weight.to(compute)
            grad_hidden, grad_weight, grad_bias = torch.empty_like(hidden), torch.zeros_like(weight), None
            hard_loss, soft_loss = torch.zeros(2, device=hidden.device)
            for start in range(0, positions, _CHUNK_POSITIONS):
                chunk = slice(start, start + _CHUNK_POSITIONS)
                rows = hidden[chunk].to(compute)
                logits = torch.addmm(bias.to(compute), rows, matrix.T).float()  # (chunk, V)
                grad = None
                if soft is not None:
                    distance, grad = _soft_gradient(logits, soft, chunk, positions)
                    soft_loss += distance
                if hard_weight:
                    wanted = targets[chunk, None]
                    normaliser = logits.logsumexp(-1, keepdim=True)
                    hard_loss += (normaliser - logits.gather(-1, wanted)).sum()
                    # From here on the buffer holds the gradient: softmax minus one-hot target, divided by positions.
                    hard = logits.sub_(normaliser).exp_()
                    hard.scatter_add_(-1, wanted, hard.new_full(wanted.shape, -1.0)).mul_(hard_weight / positions)
                    grad = hard if grad is None else grad.add_(hard)
                assert grad is not None, "a loss of no weight"
                grad_bias = grad.sum(0) if grad_bias is None else grad_bias.add_(grad.sum(0))
                grad = grad.to(compute)
                grad_hidden[chunk] = grad @ matrix
                if compute == weight.dtype:
                    grad_weight.addmm_(grad.T, rows)
                else:
                    grad_weight += grad.T @ rows
        ctx.gradients = grad_hidden, grad_weight, grad_bias
        hard_loss, soft_loss = hard_loss / positions, soft_loss / positions
        total = hard_weight * hard_loss + (0.0 if soft is None else soft.kd_weight * soft_loss)
        ctx.mark_non_differentiable(hard_loss, soft_loss)
        return total, hard_loss, soft_loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight, grad_bias = ctx.gradients
        del ctx.gradients
        scale = grads[0]
        return grad_hidden.mul_(scale), grad_weight.mul_(scale), grad_bias.mul_(scale), None, None


def _soft_gradient(logits: Tensor, soft: SoftTargets, chunk: slice, positions: int) -> tuple[Tensor, Tensor]:
    """T² KL summed over a chunk's positions, and its share of the gradient. *Shapes:* (chunk, V) -> (), (chunk, V)."""
    ids, weights = soft.ids[chunk], soft.weights[chunk].float()
    tempered = logits / soft.temperature
    normaliser = tempered.logsumexp(-1, keepdim=True)
    apart = weights * (soft.log_p[chunk].float() + normaliser - tempered.gather(-1, ids))
    distance = soft.temperature**2 * apart.sum()
    grad = tempered.sub_(normaliser).exp_().mul_(weights.sum(-1, keepdim=True))
    # The gradient of T² CE(z / T) in z is T (softmax(z / T) - p).
    grad.scatter_add_(-1, ids, -weights).mul_(soft.kd_weight * soft.temperature / positions)
    return distance, grad


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean cross-entropy of a linear layer's outputs without storing them; differentiable once.

    Args:
        hidden: Input of the layer. *Shape:* (positions, H).
        weight: *Shape:* (V, H).
        bias: *Shape:* (V,).
        targets: Class of each position, at least one. *Shape:* (positions,).

    Returns:
        A scalar, in fp32.
    """
    loss: Tensor = _VocabularyLoss.apply(hidden, weight, bias, targets, None)[0]  # type: ignore[no-untyped-call]
    return loss


def linear_distillation(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, soft: SoftTargets
) -> tuple[Tensor, Tensor, Tensor]:
    """Combine cross-entropy with the true tokens and distillation from sampled distributions, without storing logits.

    Args:
        hidden: Input of the layer. *Shape:* (positions, H).
        weight: *Shape:* (V, H).
        bias: *Shape:* (V,).
        targets: True token of each position, at least one. *Shape:* (positions,).
        soft: The teacher's distributions and the loss weights, of which at least one is above 0.

    Returns:
        The weighted sum, differentiable once; the mean cross-entropy (0 if its weight is 0) and
        T² KL(teacher ‖ student), both without a gradient. Scalars, in fp32.
    """
    total, hard, distance = _VocabularyLoss.apply(hidden, weight, bias, targets, soft)  # type: ignore[no-untyped-call]
    return total, hard, distance
