"""A graph of an exported folder, run by OpenVINO."""

from __future__ import annotations

import hashlib
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError, lines_of
from bort.predict.encoding import Feed
from bort.predict.int8_weights import LEAST_WEIGHT_BITS, narrowed, processor_flags
from bort.predict.runner import Compute, Runner


@cache
def _core() -> Any:
    """The only core of this process, which keeps OpenVINO's CPU plugin loaded.

    The plugin gives the thread that loads it a stack for signals, large enough for AMX, and frees it as it is unloaded,
    perhaps by another thread: the next signal with a Python handler would then end the process with SIGSEGV.
    """
    import openvino

    return openvino.Core()


class OpenVinoRunner(Runner):
    """See `Runner`. OpenVINO must prepare each new shape, so lengths are rounded up in fp32, too."""

    rounds_lengths = True

    def __init__(self, *where: Any) -> None:
        super().__init__(*where)
        self._kept: list[NDArray[np.uint8]] = []

    def load(self, *, shared: bool) -> Compute:
        """Compile the model, or load it as compiled at the export on a processor of the same kind."""
        return partial(self._infer, self._compiled(shared=shared), [])

    def _infer(self, compiled: Any, idle: list[Any], feed: Feed) -> NDArray[np.float32]:
        """Run an idle infer request, or a new one. As a method, it keeps the mapped weights of the model alive."""
        # A request computes one batch at a time; pop and append of a list are atomic.
        try:
            request = idle.pop()
        except IndexError:
            request = compiled.create_infer_request()
        try:
            outputs: NDArray[np.float32] = request.infer(feed, share_inputs=True)[0]
        finally:
            idle.append(request)
        return outputs

    def prepared(self) -> tuple[bytes, str]:
        """The compiled model as file content, which loads faster, and the version and processor that it is for."""
        content = self._compiled(shared=True).export_model()
        return content.getvalue(), prepared_for(load_openvino(self.folder), self.weight_bits)

    def _compiled(self, *, shared: bool) -> Any:
        openvino = load_openvino(self.folder)
        settings = compile_settings(self.threads, shared=shared)
        try:
            if (found := self._prepared(openvino, settings)) is not None:
                return found
            return _core().compile_model(self.model(), "CPU", settings)
        except (RuntimeError, ValueError) as error:
            first = lines_of(error)[-1][:200]
            raise BortError(f"the model cannot be loaded: {first}", file=self.folder) from None

    def model(self) -> Any:
        """Read the exported model, with weights narrowed to 7 bits if the processor needs it."""
        openvino = load_openvino(self.folder)
        weights = self._mapped(Path(self.spec.model).with_suffix(".bin").name)
        graph = self.manifest.checked(self.folder, self.spec.model).decode()
        model = _core().read_model(graph, openvino.Tensor(weights, shared_memory=True))
        if self.spec.precision == "int8" and self.weight_bits == LEAST_WEIGHT_BITS:
            narrow(model, openvino)
        return model

    def _prepared(self, openvino: Any, settings: dict[str, Any]) -> Any:
        """Load the compiled model of the folder; None if it has none for this version and processor."""
        wanted = prepared_for(openvino, self.weight_bits)
        if not self.spec.prepared or self.spec.prepared_for != wanted:
            return None
        content = self._mapped(self.spec.prepared)
        try:
            return _core().import_model(openvino.Tensor(content, shared_memory=True), "CPU", settings)
        except (RuntimeError, ValueError):
            return None

    def _mapped(self, name: str) -> NDArray[np.uint8]:
        """Map a file instead of reading it: parts never accessed, such as most of a word embedding, use no memory."""
        if name not in self.manifest.files:
            raise BortError("must be named by manifest.json; export the model again", file=self.folder / name)
        # OpenVINO requires a writable array; this one is copy-on-write and never changes the file. It must live as long
        # as the model.
        mapped: NDArray[np.uint8] = np.memmap(self.folder / name, np.uint8, "c")
        self._kept.append(mapped)
        return mapped


def compile_settings(threads: int, *, shared: bool) -> dict[str, Any]:
    """OpenVINO's settings: for the latency of one call, or for the throughput of one parallel call per thread.

    Args:
        threads: Threads for the computation.
        shared: Whether all threads work on one call.
    """
    # By default, OpenVINO runs fp32 models in bf16 if the processor supports it.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    if shared:
        return settings | {"PERFORMANCE_HINT": "LATENCY"}
    return settings | {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": threads}


def prepared_for(openvino: Any, weight_bits: int) -> str:
    """The version of OpenVINO, kind of processor, and weight bits that a compiled model is for."""
    flags = hashlib.sha256(" ".join(sorted(processor_flags())).encode()).hexdigest()[:16]
    return f"{openvino.get_version()} {flags} {weight_bits}"


def narrow(model: Any, openvino: Any) -> None:
    """Narrow the int8 weights of a model to 7 bits, in place."""
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant" or node.get_element_type() != openvino.Type.i8:
            continue
        found = narrowed(np.array(node.data))
        if found is None:
            continue
        whole, factor = found
        for target in node.output(0).get_target_inputs():
            scaled = [after.get_node() for after in target.get_node().output(0).get_target_inputs()]
            for product in scaled:
                scales = product.input_value(1).get_node()
                changed = openvino.opset1.constant((np.array(scales.data) * factor).astype(np.float32))
                product.input(1).replace_source_output(changed.output(0))
        node.output(0).replace(openvino.opset1.constant(whole).output(0))


def load_openvino(model: str | Path) -> Any:
    """Import OpenVINO without its telemetry, which reports each import.

    Raises:
        BortError: OpenVINO is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError:
        raise BortError("needs OpenVINO: pip install bort[openvino]", file=model) from None
    return openvino
