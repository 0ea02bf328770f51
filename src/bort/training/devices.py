"""The processor at hand and what it computes in."""

from __future__ import annotations

import torch

from bort.errors import BortError
from bort.training.arguments import Precision


def use_bf16(precision: Precision) -> bool:
    """Whether to compute in bf16: as asked, or where the hardware has instructions for it.

    A CPU without AVX512-BF16 or AMX emulates bf16, which is slower than fp32.

    Raises:
        BortError: bf16 is asked for on a GPU that lacks it.
    """
    if precision == "fp32":
        return False
    if torch.cuda.is_available():
        has = torch.cuda.is_bf16_supported(including_emulation=False)
        if precision == "bf16" and not has:
            raise BortError("this GPU does not compute in bf16", column="precision", value=precision)
        return bool(has)
    if precision == "bf16":
        return True
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def best_device() -> torch.device:
    """The first GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe() -> str:
    """A few words on the device, for journals and cards."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"CPU, {torch.get_num_threads()} threads"
