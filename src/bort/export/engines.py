"""Choice of the engines that an export tries."""

from __future__ import annotations

from importlib.util import find_spec

from bort.errors import BortError
from bort.export.arguments import ExportArguments
from bort.export.exporter import EngineName, Exporter


def exporters(arguments: ExportArguments, *, has_texts: bool) -> tuple[list[Exporter], str]:
    """Load the model for the requested engine, or for each installed one.

    Args:
        arguments: Settings of the export.
        has_texts: Whether there are texts to compare engines on.

    Returns:
        One or two exporters, ONNX Runtime's first, and a note on why an engine is left out, or "".

    Raises:
        BortError: The model cannot be loaded, or no engine supports it.
    """
    if arguments.engine != "auto":
        return [Exporter(arguments.model, arguments.engine)], ""
    found: list[Exporter] = []
    refused: BortError | None = None
    try:
        found.append(Exporter(arguments.model, "onnxruntime"))
    except BortError as error:
        refused = error
    said = _why_alone(arguments, has_texts=has_texts) if found else ""
    if not said and find_spec("openvino") is not None:
        name: EngineName = "openvino"
        try:
            found.append(Exporter(arguments.model, name, found[0] if found else None))
        except BortError as error:
            said = f"OpenVINO is left out: {error}"
    if not found:
        assert refused is not None
        raise refused
    return found, said


def _why_alone(arguments: ExportArguments, *, has_texts: bool) -> str:
    if find_spec("openvino") is None:
        return ""
    if not has_texts:
        return "ONNX Runtime is taken: --gate or --calibrate gives texts to compare the engines on"
    if arguments.activations == "dynamic" and arguments.precision != "fp32":
        return "ONNX Runtime is taken: OpenVINO's int8 is never dynamic"
    if arguments.precision != "fp32" and find_spec("nncf") is None:
        return "ONNX Runtime is taken: OpenVINO's int8 needs NNCF (pip install bort[openvino])"
    return ""
