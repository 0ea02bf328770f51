"""An exported folder, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.cores import usable_cores
from bort.errors import BortError
from bort.predict.encoding import Feed
from bort.predict.exported_engine import ExportedEngine


class OnnxEngine(ExportedEngine):
    """See `ExportedEngine`."""

    def load(self) -> None:
        """Open a session."""
        self._threads = self.threads or usable_cores()
        self._session = self._open(self._threads)
        # The same model with one thread a call, for many batches at once.
        self._stream: Any = self._session if self._threads == 1 else None
        self._opening = Lock()

    def _open(self, threads: int) -> Any:
        return open_session(self.folder, self.manifest.checked(self.folder, self.manifest.model), threads)

    def compute(self, batch: Feed) -> NDArray[np.float32]:
        """The outputs of one batch, all threads at work on it. *Shape:* (rows, outputs)."""
        return _outputs(self._session, batch)

    def compute_all(self, batches: Sequence[Feed]) -> Iterator[NDArray[np.float32]]:
        """The outputs of many batches, each thread at work on one of its own: then none waits for another."""
        if self._threads == 1 or len(batches) < 2 * self._threads:
            yield from super().compute_all(batches)
            return
        from concurrent.futures import ThreadPoolExecutor

        with self._opening:
            if self._stream is None:
                self._stream = self._open(1)
        with ThreadPoolExecutor(self._threads) as pool:
            yield from pool.map(lambda batch: _outputs(self._stream, batch), batches)


def _outputs(session: Any, batch: Feed) -> NDArray[np.float32]:
    found: NDArray[np.float32] = session.run(None, batch)[0]
    return found


def open_session(
    folder: Path,
    graph: bytes,
    threads: int | None = None,
    weights: Mapping[str, NDArray[Any]] = MappingProxyType({}),
) -> Any:
    """Load a graph whose weights lie in `folder`, or in memory.

    Args:
        folder: It may hold links to files elsewhere, as the hub's cache does.
        graph: Content of the graph's file.
        threads: Of a call; by default one a core.
        weights: Those in memory, by name. They are not copied, and must not change.

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
    for file in folder.glob("*.onnx.data"):
        if file.is_symlink():  # ONNX Runtime follows no link out of the folder, and maps no file for us
            content = file.read_bytes()
            options.add_external_initializers_from_files_in_memory([file.name], [content], [len(content)])
    if weights:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers([*weights], values)
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        # Where it fails it would print a banner of its own and try the same again.
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"], enable_fallback=False)
    except Exception as error:  # it has a class for each kind of damage, none of them public
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise BortError(f"the model cannot be loaded: {first}", file=folder) from None
