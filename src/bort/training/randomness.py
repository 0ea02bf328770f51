"""Random numbers: a training seeds the global generators, and gives them back to the caller as they were."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def own_randomness() -> Iterator[None]:
    """Restore the random states of Python, NumPy and PyTorch at the end, on a GPU only if it was in use before."""
    pythons, numpys = random.getstate(), np.random.get_state()
    # Asking a GPU for its state would start it.
    gpus = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    try:
        with torch.random.fork_rng(gpus):
            yield
    finally:
        random.setstate(pythons)
        np.random.set_state(numpys)
