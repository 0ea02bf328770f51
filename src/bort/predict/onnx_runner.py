"""A graph of an exported folder, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
        """Open a session of the exported graph, with weights narrowed to 7 bits if the processor needs it."""
        graph = self.manifest.checked(self.folder, self.spec.model)
        if self.spec.precision == "int8" and self.weight_bits == LEAST_WEIGHT_BITS:
            graph = narrowed_graph(graph, self.folder)
        return open_session(self.folder, graph, threads, beside=self.manifest.files)


def open_session(
    folder: Path,
    graph: bytes,
    threads: int | None = None,
    weights: Mapping[str, NDArray[Any]] = MappingProxyType({}),
    *,
    beside: Collection[str] = (),
) -> Any:
    """Load a graph whose weights are in `folder` or in memory.

    Args:
        folder: May hold symbolic links to files elsewhere, like the hub's cache.
        graph: Content of the graph's file.
        threads: Threads per call; by default one per core.
        weights: Weights in memory, by name. They are not copied and must not change.
        beside: Names of the files of `folder` that may be read if they are links, for the weights in them.

    Raises:
        BortError: ONNX Runtime is not installed, or cannot load the graph.
    """
    try:
        import onnxruntime
    except ImportError:
        raise BortError("needs ONNX Runtime: pip install onnxruntime", file=folder) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # The graph is already optimised; further passes would only delay the first answer.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.resolve()))
    # Otherwise its threads keep spinning after a call, and take cores from other work.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    for file in (folder / name for name in beside if name.endswith(".onnx.data")):
        # ONNX Runtime follows no link out of the folder, so the file is read instead of mapped.
        if file.is_symlink() and file.is_file():
            content = file.read_bytes()
            options.add_external_initializers_from_files_in_memory([file.name], [content], [len(content)])
    # Single-threaded calls run in parallel, and would contend for a shared memory arena.
    options.enable_cpu_mem_arena = threads != 1
    if weights:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers([*weights], values)
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        # The fallback would print a banner and try the same provider again.
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"], enable_fallback=False)
    except Exception as error:  # it has a class for each kind of error, none of them public
        first = lines_of(error)[0][:200]
        raise BortError(f"the model cannot be loaded: {first}", file=folder) from None
