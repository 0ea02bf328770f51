"""Run one graph of an exported folder, with all threads on one batch, or with each thread on its own batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from bort.cores import usable_cores
from bort.errors import BortError
from bort.files import folder_state
from bort.predict.encoding import Feed
from bort.predict.graph_spec import GraphSpec
from bort.predict.int8_weights import weight_bits
from bort.predict.manifest import Manifest

Compute = Callable[[Feed], NDArray[np.float32]]
"""Computes the outputs, *shape* (rows, outputs), of one batch, *shape* (rows, length)."""


class Runner(ABC):
    """A graph; several threads may share it.

    Args:
        folder: The exported folder.
        manifest: Manifest of the folder.
        spec: Which of its graphs to run.
        threads: Threads for the computation; by default one per core.
    """

    rounds_lengths = False
    """Whether to round lengths up: some padding costs less than preparing each new length."""

    def __init__(self, folder: Path, manifest: Manifest, spec: GraphSpec, threads: int | None = None) -> None:
        self.folder, self.manifest, self.spec = folder, manifest, spec
        self.threads = threads or usable_cores()
        self.weight_bits = weight_bits()
        """Bits of int8 weights: 8 as in the file, or 7."""
        self._state = folder_state(folder)  # before the files are checked
        self._opened: dict[bool, Compute] = {}
        self._opening = Lock()

    def opened(self, *, shared: bool) -> Compute:
        """Return a function that computes a batch; the first call loads the model.

        Args:
            shared: Whether all threads work on one batch; otherwise each call uses one thread, and as many calls as
                there are threads may run in parallel.

        Raises:
            BortError: The model cannot be loaded, its engine is not installed, or the folder has been replaced.
        """
        shared = shared or self.threads == 1  # then both modes are the same
        if shared not in self._opened:
            with self._opening:
                if shared not in self._opened:
                    self._check_unchanged()
                    compute = self.load(shared=shared)
                    self._check_unchanged()  # it may have been replaced while it was read
                    self._opened[shared] = compute
        return self._opened[shared]

    def _check_unchanged(self) -> None:
        """Refuse a folder that has been replaced since it was opened: what is left to load is that of another model.

        Raises:
            BortError: A file is another one.
        """
        if folder_state(self.folder) != self._state:
            try:
                self.manifest.check(self.folder)
            except (BortError, OSError):
                raise BortError("has been replaced since it was opened; open it again", file=self.folder) from None

    @abstractmethod
    def load(self, *, shared: bool) -> Compute:
        """Load the model, whose files are already checked.

        Raises:
            BortError: The model cannot be loaded, or its engine is not installed.
        """
