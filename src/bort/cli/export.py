"""`bort export`: a folder that answers fast, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from bort.bounds import Above, AtMost, NonNegativeFloat, validate


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
    """auto: int8 where it passes the gate and is not slower on this machine; else, or without a gate, fp32"""
    calibrate: str | None = None
    """texts (a file as of predict) from which int8 learns the ranges of its inputs; by default those of --gate for
    OpenVINO, and each batch's own for ONNX Runtime"""
    gate: str | None = None
    """labelled file on which both precisions are scored"""
    max_drop: NonNegativeFloat = 0.5
    """most points of the score that int8 may lose"""
    min_precision: Annotated[float, Above(0), AtMost(1)] | None = None
    """share of each label's answers on --gate that must be right: below the probability at which they are, prediction
    gives no label"""
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

    fp32 is checked against PyTorch. int8 is not written where it loses more than --max-drop points on --gate.
    """
    import tempfile
    from itertools import count, islice
    from pathlib import Path

    from bort.data.tables.examples import Columns, read_examples, stream_rows
    from bort.errors import BortError
    from bort.export.exporter import MOST_CALIBRATION_ROWS, Exporter, write_json
    from bort.export.precision import Trials
    from bort.export.quantization import Quantization
    from bort.export.report import write_report
    from bort.files import folder_aside, new_folder
    from bort.predict.thresholds import Thresholds
    from bort.progress import bar, console, out

    validate(arguments)
    if arguments.min_precision is not None and not arguments.gate:
        raise BortError("needs labelled data: give --gate", setting="min_precision")
    quantization = Quantization(weight_bits=arguments.weight_bits)
    target = new_folder(arguments.out)
    columns = Columns(arguments.text, arguments.text_b, arguments.label)
    rows = read_examples(arguments.gate, columns) if arguments.gate else []
    texts = rows if arguments.engine == "openvino" else []
    if arguments.calibrate:
        texts = [example for _, example in islice(stream_rows(arguments.calibrate, columns), MOST_CALIBRATION_ROWS)]
    steps = count(1)
    with tempfile.TemporaryDirectory() as work, folder_aside(target) as aside, bar("exporting") as shown:

        def say(what: str) -> None:
            shown.update(next(steps), what)

        say(f"loading {arguments.model}")
        exporter = Exporter(arguments.model, arguments.engine)
        if exporter.source.task.choices and (rows or texts):
            raise BortError("is not there yet for models that choose between texts", setting="gate")
        exporter.source.task.targets(rows)  # a wrong label shall not be found after minutes
        if arguments.min_precision is not None and exporter.source.task.kind == "regression":
            raise BortError("is for classifiers, and this is a regression", setting="min_precision")
        fp32, tried = Path(work) / "fp32", Path(work) / "tried"
        fp32.mkdir()
        tried.mkdir()
        say("writing fp32")
        exporter.write(fp32, None)
        say("comparing fp32 with PyTorch")
        metrics: dict[str, Any] = {"engine": arguments.engine, "off_pytorch": exporter.check(fp32)}
        if texts and (rows or arguments.precision == "int8"):
            say(f"calibrating int8 on {min(len(texts), MOST_CALIBRATION_ROWS)} texts")
            exporter.calibrate(fp32, texts)
        chosen = quantization if arguments.precision == "int8" else None
        thresholds = None
        if rows:
            trials = Trials(exporter, fp32, rows, arguments.max_drop, tried, say)
            choice = trials.choose(quantization, arguments.precision)
            chosen = choice.quantization
            metrics["gate"] = choice.figures()
            if arguments.min_precision is not None:
                names = exporter.source.task.names
                thresholds = Thresholds.learned(choice.logits, rows, names, arguments.min_precision)
                metrics["thresholds"] = thresholds.figures()
            write_report(aside / "report.html", arguments.model, choice, thresholds)
        metrics["precision"] = "fp32" if chosen is None else "int8"
        metrics["quantization"] = exporter.described(chosen)
        say(f"writing {metrics['precision']}")
        write_json(aside / "metrics.json", metrics)
        exporter.write(aside, chosen, metrics, thresholds.by_label if thresholds else {})
    if rows:
        console().print(f"{choice.told}; see {target / 'report.html'}", soft_wrap=True)
    for line in thresholds.told() if thresholds else ():
        console().print(line, soft_wrap=True)
    metrics["bytes"] = sum(file.stat().st_size for file in target.iterdir())
    out().print(f"{target}: {metrics['precision']}, {metrics['bytes'] / 1e6:.1f} MB", soft_wrap=True)
    return metrics
