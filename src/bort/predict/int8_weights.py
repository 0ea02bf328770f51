"""Int8 weights of 8 bits on processors that sum their products without overflow, and of 7 bits on others.

Processors without VNNI add two 8-bit products in 16 bits, which can overflow; with 7-bit weights the sum fits. Exports
store the full range, and such processors drop one bit when they load it.
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
    """The processor's features, as Linux names them; elsewhere only those that matter for int8, if detectable."""
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
    """Round 8-bit weights to 7 bits, and return the factor for their scales; None if they already fit in 7 bits.

    Args:
        whole: *Shape:* any.
    """
    if not whole.size or max(-int(whole.min()), int(whole.max())) <= _NARROW + 1:  # OpenVINO's go from -63 to 64
        return None
    return np.rint(whole * (_NARROW / _FULL)).astype(np.int8), _FULL / _NARROW
