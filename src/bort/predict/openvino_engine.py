"""An exported folder, run by OpenVINO."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.cores import usable_cores
from bort.errors import BortError
from bort.predict.encoding import Feed
from bort.predict.exported_engine import ExportedEngine


class OpenVinoEngine(ExportedEngine):
    """See `ExportedEngine`."""

    def load(self) -> None:
        """Compile the model."""
        folder, manifest = self.folder, self.manifest
        openvino = load_openvino(folder)
        weights = Path(manifest.model).with_suffix(".bin").name
        if weights not in manifest.files:
            raise BortError("must be named by manifest.json; export the model again", file=folder / weights)
        # Mapped, not read: what is not looked at, as most of a table of words, costs no memory. The library asks for
        # an array that may be written to; this one would never write to the file. It must live as long as the model.
        self._weights = np.memmap(folder / weights, np.uint8, "c")
        # Where a processor has bf16, OpenVINO would take it for fp32.
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        settings["INFERENCE_NUM_THREADS"] = self.threads or usable_cores()
        graph = manifest.checked(folder, manifest.model)
        try:
            core = openvino.Core()
            model = core.read_model(graph.decode(), openvino.Tensor(self._weights, shared_memory=True))
            self._compiled = core.compile_model(model, "CPU", settings)
            self._idle = [self._compiled.create_infer_request()]
        except (RuntimeError, ValueError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[-1][:200]
            raise BortError(f"the model cannot be loaded: {first}", file=folder) from None

    def compute(self, batch: Feed) -> NDArray[np.float32]:
        """The outputs of one batch. *Shape:* (rows, outputs)."""
        # A request holds one batch at a time; taking from a list and giving back are single steps in Python.
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        try:
            logits: NDArray[np.float32] = request.infer(batch, share_inputs=True)[0]
        finally:
            self._idle.append(request)
        return logits


def load_openvino(model: str | Path) -> Any:
    """Import OpenVINO, without its telemetry: it would tell its maker of each import.

    Raises:
        BortError: It is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError:
        raise BortError("needs OpenVINO: pip install bort[openvino]", file=model) from None
    return openvino
