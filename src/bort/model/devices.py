"""The available device, its precision and the memory in use."""

from __future__ import annotations

import sys

import torch

from bort.bounds import Precision
from bort.cores import usable_cores
from bort.errors import BortError

INFERENCE_TOKENS = {"cpu": 1024, "cuda": 16384}
"""Tokens per inference batch; on a CPU few enough that the activations of the intermediate layers fit its caches."""


def use_bf16(precision: Precision) -> bool:
    """Whether to compute in bf16: as requested, or by default if the hardware has instructions for it.

    A CPU without AVX512-BF16 or AMX emulates bf16, which is slower than fp32.

    Raises:
        BortError: bf16 is requested on a GPU that lacks it.
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
    """Return the first GPU, or else the CPU; also limit PyTorch's threads to the cores this process may use."""
    if torch.get_num_threads() > (cores := usable_cores()):
        torch.set_num_threads(cores)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe() -> str:
    """Describe the device in a few words, for run records and model cards."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"CPU, {torch.get_num_threads()} threads"


def used_memory_bytes() -> int:
    """Return the GPU memory of this process's tensors or, without a GPU, the memory of the whole process."""
    if torch.cuda.is_available():
        return int(torch.cuda.memory_allocated())
    import psutil

    return int(psutil.Process().memory_info().rss)


def peak_memory_bytes() -> int:
    """Return the peak so far of the memory that `used_memory_bytes` measures."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
