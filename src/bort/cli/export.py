"""`bort export`: a folder that answers fast, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass
class ExportArguments:
    """Arguments of `bort export`."""

    model: str
    """a fine-tuned classifier or regressor: a folder or a hub name"""
    out: str
    """folder to write"""
    engine: Literal["onnxruntime", "openvino"] = "onnxruntime"
    """what shall run the model; OpenVINO is an extra: pip install bort[openvino]"""
    precision: Literal["auto", "fp32", "int8"] = "auto"
    """auto: int8 where it passes the gate; fp32 where it does not, or where there is no gate"""
    calibrate: str | None = None
    """texts (a file as of predict) from which int8 learns the ranges of its inputs; by default those of --gate for
    OpenVINO, and each batch's own for ONNX Runtime"""
    gate: str | None = None
    """labelled file on which both precisions are scored"""
    max_drop: float = 0.5
    """most points of the score that int8 may lose"""
    weight_bits: int = 7
    """7: the same answers on every processor; 8: a little more exact, for processors with VNNI only"""
    text: str = "text"
    """name of the column with the text"""
    text_b: str = "text_b"
    """name of the column with the second text of a pair"""
    label: str = "label"
    """name of the column with the label"""


def export(arguments: ExportArguments) -> dict[str, Any]:
    """Write a model for ONNX Runtime or OpenVINO, in fp32 or int8, with all that prediction needs.

    fp32 is checked against PyTorch. int8 is not written where it loses more than --max_drop points on --gate.
    """
    import tempfile
    from itertools import islice
    from pathlib import Path

    from bort.data.examples import Columns, read_examples, stream_rows
    from bort.errors import BortError
    from bort.files import folder_aside, new_folder
    from bort.progress import console, out
    from bort.runtime.exporting import MOST_CALIBRATION_ROWS, Exporter, write_json
    from bort.runtime.gate import judge
    from bort.runtime.quantization import Quantization

    if not arguments.max_drop >= 0:
        raise BortError("must be at least 0", column="max_drop", value=arguments.max_drop)
    quantization = Quantization(weight_bits=arguments.weight_bits)
    target = new_folder(arguments.out)
    columns = Columns(arguments.text, arguments.text_b, arguments.label)
    rows = read_examples(arguments.gate, columns) if arguments.gate else []
    texts = rows if arguments.engine == "openvino" else []
    if arguments.calibrate:
        texts = [example for _, example in islice(stream_rows(arguments.calibrate, columns), MOST_CALIBRATION_ROWS)]
    exporter = Exporter(arguments.model, arguments.engine)
    if exporter.source.task.choices and (rows or texts):
        raise BortError("is not there yet for models that choose between texts", column="gate")
    with tempfile.TemporaryDirectory() as work, folder_aside(target) as aside:
        folders = {name: Path(work) / name for name in ("fp32", "int8")}
        for folder in folders.values():
            folder.mkdir()
        exporter.write(folders["fp32"], None)
        metrics: dict[str, Any] = {"engine": arguments.engine, "off_pytorch": exporter.check(folders["fp32"])}
        chosen = None
        if arguments.precision == "int8" or (arguments.precision == "auto" and rows):
            if texts:
                exporter.calibrate(folders["fp32"], texts)
            exporter.write(folders["int8"], quantization)
            chosen = quantization
            if rows:
                verdict = judge(str(folders["fp32"]), str(folders["int8"]), rows, arguments.max_drop)
                metrics["gate"] = verdict.figures()
                verdict.report(aside / "report.html")
                if not verdict.passed:
                    chosen = None
                    lost = f"int8 loses {verdict.drop:.2f} points of {verdict.metric}, more than {arguments.max_drop:g}"
                    console().print(f"{lost}: fp32 is written; {target / 'report.html'} shows where", soft_wrap=True)
        metrics["precision"] = "fp32" if chosen is None else "int8"
        write_json(aside / "metrics.json", metrics)
        exporter.write(aside, chosen, {**metrics, "quantization": exporter.described(chosen)})
    metrics["bytes"] = sum(file.stat().st_size for file in target.iterdir())
    out().print(f"{target}: {metrics['precision']}, {metrics['bytes'] / 1e6:.1f} MB", soft_wrap=True)
    return metrics
