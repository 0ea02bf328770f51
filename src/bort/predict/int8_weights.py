"""8 bits of a weight where the processor adds up their products without overflow, 7 elsewhere.

Before VNNI a processor adds two products of 8 bits in 16, which overflow. With one bit less they fit. An export writes
the full range, and whoever opens it on such a processor takes a bit away.
"""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LEAST_WEIGHT_BITS = 7
_FULL, _NARROW = 127, 63
_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "i8mm"})
"""As Linux names them."""


@cache
def weight_bits() -> int:
    """Bits of int8 weights that this processor multiplies exactly: 8 with VNNI (AVX512 or AVX), AMX or i8mm, else 7."""
    return 8 if processor_flags() & _FLAGS else LEAST_WEIGHT_BITS


@cache
def processor_flags() -> frozenset[str]:
    """What the processor can do, by Linux's names; elsewhere only what matters for int8, where that can be told."""
    system = platform.system()
    if system == "Linux":
        try:
            lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        except OSError:
            return frozenset()
        found = (line.partition(":")[2] for line in lines if line.lower().startswith(("flags", "features")))
        return frozenset(next(found, "").split())
    if system == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "hw.optional.arm.FEAT_I8MM"]
        try:
            said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5).stdout
        except (OSError, subprocess.TimeoutExpired):
            return frozenset()
        return frozenset({"i8mm"} if said.strip() == "1" else ())
    features = getattr(getattr(np, "_core", None), "_multiarray_umath", None)
    has = getattr(features, "__cpu_features__", {}).get("AVX512VNNI", False)
    return frozenset({"avx512_vnni"} if has else ())


def narrowed(whole: NDArray[np.int8]) -> tuple[NDArray[np.int8], float] | None:
    """Weights of 8 bits in 7, and what their scales are multiplied by; None where they fit into 7 already.

    Args:
        whole: *Shape:* any.
    """
    if not whole.size or max(-int(whole.min()), int(whole.max())) <= _NARROW + 1:  # OpenVINO's go from -63 to 64
        return None
    return np.rint(whole * (_NARROW / _FULL)).astype(np.int8), _FULL / _NARROW
