"""What the training of bort-nano does otherwise on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor


def device_of(name: str) -> torch.device:
    """The device of a name (`cpu`, `cuda`); ends the program where there is no such GPU."""
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit(f"--device {name}: PyTorch finds no GPU here")
    return torch.device(name)


def precision_of(device: torch.device) -> torch.dtype:
    """bf16, or fp32 on a GPU that only emulates it."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float32
    return torch.bfloat16


def moved(device: torch.device, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors on the device, without waiting until a GPU has done what it is busy with."""
    if device.type == "cpu":
        return tensors
    return tuple(tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors)
