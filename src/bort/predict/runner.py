"""One graph of an exported folder, ready to compute: by all threads together, or by each thread on its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from bort.cores import usable_cores
from bort.predict.encoding import Feed
from bort.predict.graph_spec import GraphSpec
from bort.predict.int8_weights import weight_bits
from bort.predict.manifest import Manifest

Compute = Callable[[Feed], NDArray[np.float32]]
"""From one batch, of *shape* (rows, length), to its outputs, *shape* (rows, outputs)."""


class Runner(ABC):
    """A graph; several threads may share it.

    Args:
        folder: Where it lies.
        manifest: Of the folder.
        spec: Which of its graphs.
        threads: Of the computation; by default one a core.
    """

    rounds_lengths = False
    """Whether fewer different lengths are worth some padding, because each new one has to be prepared for."""

    def __init__(self, folder: Path, manifest: Manifest, spec: GraphSpec, threads: int | None = None) -> None:
        self.folder, self.manifest, self.spec = folder, manifest, spec
        self.threads = threads or usable_cores()
        self.weight_bits = weight_bits()
        """Of int8: those of the file, or one less."""
        self._opened: dict[bool, Compute] = {}
        self._opening = Lock()

    def opened(self, *, shared: bool) -> Compute:
        """What computes a batch; the model is loaded when it is first asked for.

        Args:
            shared: Whether all threads work on one batch; else each call is computed by one thread, and as many calls
                may be made at once as there are threads.

        Raises:
            BortError: The model cannot be loaded, or its engine is not installed.
        """
        shared = shared or self.threads == 1  # then both are the same
        if shared not in self._opened:
            with self._opening:
                if shared not in self._opened:
                    self._opened[shared] = self.load(shared=shared)
        return self._opened[shared]

    @abstractmethod
    def load(self, *, shared: bool) -> Compute:
        """Load the model, whose files are what was exported.

        Raises:
            BortError: It cannot be loaded, or its engine is not installed.
        """
