"""An exported folder, run by ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError
from bort.predict.exported_engine import ExportedEngine, Feed


class OnnxEngine(ExportedEngine):
    """See `ExportedEngine`."""

    def load(self) -> None:
        """Open a session."""
        self._threads = self.threads or usable_cores()
        self._session = self._open(self._threads)

    def _open(self, threads: int) -> Any:
        return open_session(self.folder, self.manifest.checked(self.folder, self.manifest.model), threads)

    def compute(self, feed: Feed) -> NDArray[np.float32]:
        """The outputs of one batch, all threads at work on it. *Shape:* (rows, outputs)."""
        return _logits(self._session, feed)

    def compute_all(self, feeds: Sequence[Feed]) -> Iterator[NDArray[np.float32]]:
        """The outputs of many batches, each thread at work on one of its own: then none waits for another."""
        if self._threads == 1 or len(feeds) < 2 * self._threads:
            yield from super().compute_all(feeds)
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(self._threads) as pool:
            yield from pool.map(lambda feed: _logits(self._stream, feed), feeds)

    @cached_property
    def _stream(self) -> Any:
        """The same model, one thread a call."""
        return self._open(1)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _logits(session: Any, feed: Feed) -> NDArray[np.float32]:
    found: NDArray[np.float32] = session.run(["logits"], feed)[0]
    return found


def open_session(folder: Path, graph: bytes, threads: int | None = None) -> Any:
    """Load a graph whose weights lie in `folder`.

    Raises:
        BortError: ONNX Runtime is not installed, or cannot read it.
    """
    try:
        import onnxruntime
    except ImportError:
        raise BortError("needs ONNX Runtime: pip install onnxruntime", file=folder) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # The graph was written as it shall run; to look for more would only delay the first answer.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.resolve()))
    # Its threads would go on waiting at full speed after an answer, and take the cores from whoever comes next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it has a class for each kind of damage, none of them public
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise BortError(f"the model cannot be loaded: {first}", file=folder) from None
