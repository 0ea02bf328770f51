"""The processor at hand, what it computes in, and the memory that it takes."""

from __future__ import annotations

import sys

import torch

from bort.bounds import Precision
from bort.cores import usable_cores
from bort.errors import BortError

INFERENCE_TOKENS = {"cpu": 1024, "cuda": 16384}
"""Tokens of a batch that is only predicted: on a CPU as many as its caches hold the intermediate layers of."""


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
            raise BortError("this GPU does not compute in bf16", setting="precision", value=precision)
        return bool(has)
    if precision == "bf16":
        return True
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def best_device() -> torch.device:
    """The first GPU, or the CPU, where PyTorch gets no more threads than this process may use cores."""
    if torch.get_num_threads() > (cores := usable_cores()):
        torch.set_num_threads(cores)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe() -> str:
    """A few words on the device, for journals and cards."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"CPU, {torch.get_num_threads()} threads"


def used_memory_bytes() -> int:
    """Memory that this process's tensors take on its GPU; without one, all that the process takes."""
    if torch.cuda.is_available():
        return int(torch.cuda.memory_allocated())
    import psutil

    return int(psutil.Process().memory_info().rss)


def peak_memory_bytes() -> int:
    """The most of the memory that `used_memory_bytes` counts, so far."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
