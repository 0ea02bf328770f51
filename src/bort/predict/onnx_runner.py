"""A graph of an exported folder, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError, lines_of
from bort.predict.encoding import Feed
from bort.predict.graph.narrowing import narrowed_graph
from bort.predict.int8_weights import LEAST_WEIGHT_BITS
from bort.predict.runner import Compute, Runner


class OnnxRunner(Runner):
    """See `Runner`."""

    def load(self, *, shared: bool) -> Compute:
        """Open a session."""
        session = self.session(self.threads if shared else 1)

        def compute(feed: Feed) -> NDArray[np.float32]:
            outputs: NDArray[np.float32] = session.run(None, feed)[0]
            return outputs

        return compute

    def session(self, threads: int) -> Any:
        """Of the graph that was exported, its weights narrowed to 7 bits where the processor needs that."""
        graph = self.manifest.checked(self.folder, self.spec.model)
        if self.spec.precision == "int8" and self.weight_bits == LEAST_WEIGHT_BITS:
            graph = narrowed_graph(graph, self.folder)
        return open_session(self.folder, graph, threads)


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
    # Calls of one thread are made side by side; they would wait for each other at a common store of memory.
    options.enable_cpu_mem_arena = threads != 1
    if weights:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers([*weights], values)
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        # Where it fails it would print a banner of its own and try the same again.
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"], enable_fallback=False)
    except Exception as error:  # it has a class for each kind of damage, none of them public
        first = lines_of(error)[0][:200]
        raise BortError(f"the model cannot be loaded: {first}", file=folder) from None
