"""An exported folder, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError
from bort.runtime.exported_engine import ExportedEngine, Feed
from bort.runtime.manifest import Manifest


class OnnxEngine(ExportedEngine):
    """See `ExportedEngine`."""

    def __init__(self, folder: Path, manifest: Manifest, threads: int | None = None) -> None:
        super().__init__(folder, manifest, threads)
        self._session = open_session(folder, manifest.checked(folder, manifest.model), threads)

    def compute(self, feed: Feed) -> NDArray[np.float32]:
        """The outputs of one batch. *Shape:* (rows, outputs)."""
        logits: NDArray[np.float32] = self._session.run(["logits"], feed)[0]
        return logits


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
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it has a class for each kind of damage, none of them public
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise BortError(f"the model cannot be loaded: {first}", file=folder) from None
