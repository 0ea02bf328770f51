"""Random numbers: a training seeds the global generators, and gives them back to the caller as they were."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Iterator

import numpy as np
import torch

_in_use = threading.RLock()


@contextlib.contextmanager
def own_randomness() -> Iterator[None]:
    """Restore the random states of Python, NumPy and PyTorch at the end, on a GPU only if it was in use before.

    The generators are those of the whole process, so trainings in other threads wait.
    """
    with _in_use:
        pythons, numpys = random.getstate(), np.random.get_state()
        # Asking a GPU for its state would start it.
        gpus = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
        try:
            with torch.random.fork_rng(gpus):
                yield
        finally:
            random.setstate(pythons)
            np.random.set_state(numpys)


def _free_in_child() -> None:
    """A child process has none of the threads that may have held the lock."""
    global _in_use
    _in_use = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_in_child)
