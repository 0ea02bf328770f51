"""The masked-LM loss without the logits: decoded a chunk at a time, each forgotten once it has given its gradient.

The vocabulary projection is linear, so its gradients are known as soon as a chunk's logits are. Computing them in the
forward pass, chunk by chunk, needs memory for one chunk of logits instead of all of them three times over (logits,
log-softmax, gradient), at the same number of multiplications.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_CHUNK_POSITIONS = 128


class _LinearCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of `hidden @ weight.T + bias`; see `linear_cross_entropy`."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        mixed = torch.is_autocast_enabled(hidden.device.type)
        compute = torch.get_autocast_dtype(hidden.device.type) if mixed else weight.dtype
        with torch.autocast(hidden.device.type, enabled=False):
            matrix = weight.to(compute)
            grad_hidden, grad_weight, grad_bias = torch.empty_like(hidden), torch.zeros_like(weight), None
            loss = torch.zeros((), device=hidden.device)
            for start in range(0, len(targets), _CHUNK_POSITIONS):
                rows = hidden[start : start + _CHUNK_POSITIONS].to(compute)
                wanted = targets[start : start + _CHUNK_POSITIONS, None]
                logits = torch.addmm(bias.to(compute), rows, matrix.T).float()  # (chunk, V)
                normaliser = logits.logsumexp(-1, keepdim=True)
                loss += (normaliser - logits.gather(-1, wanted)).sum()
                # From here on the buffer holds the gradient: softmax, less one at the target, over the positions.
                grad = logits.sub_(normaliser).exp_()
                grad.scatter_add_(-1, wanted, grad.new_full(wanted.shape, -1.0)).div_(len(targets))
                grad_bias = grad.sum(0) if grad_bias is None else grad_bias.add_(grad.sum(0))
                grad = grad.to(compute)
                grad_hidden[start : start + _CHUNK_POSITIONS] = grad @ matrix
                if compute == weight.dtype:
                    grad_weight.addmm_(grad.T, rows)
                else:
                    grad_weight += grad.T @ rows
        ctx.gradients = grad_hidden, grad_weight, grad_bias
        return loss / len(targets)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight, grad_bias = ctx.gradients
        del ctx.gradients
        scale = grads[0]
        return grad_hidden.mul_(scale), grad_weight.mul_(scale), grad_bias.mul_(scale), None


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of a linear layer's outputs, without keeping them; can be differentiated once.

    Args:
        hidden: What the layer is applied to. *Shape:* (positions, H).
        weight: *Shape:* (V, H).
        bias: *Shape:* (V,).
        targets: Class of each position, at least one. *Shape:* (positions,).

    Returns:
        A scalar, in fp32.
    """
    loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, targets)  # type: ignore[no-untyped-call]
    return loss
