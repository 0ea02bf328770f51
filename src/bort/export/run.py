"""One export from its settings to a folder: check fp32, calibrate, let the gate choose, set thresholds, write."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

from bort.data.tables.examples import Example, read_examples, stream_rows
from bort.errors import BortError
from bort.export.arguments import ExportArguments
from bort.export.encoder_export import EncoderExport
from bort.export.exporter import MOST_CALIBRATION_ROWS, Exporter, write_json
from bort.export.gate import movement
from bort.export.precision import Choice, Trials
from bort.export.report import write_report
from bort.files import folder_aside, new_folder
from bort.predict.graph.quantization import Quantization
from bort.predict.predictor import Predictor
from bort.predict.thresholds import Thresholds
from bort.progress import bar, console

_CALIBRATING_SHARE = 4
"""One row of the gate in so many calibrates, where no other texts are given."""


def export_model(arguments: ExportArguments) -> dict[str, Any]:
    """Write an exported folder, and say on standard error what was decided.

    Returns:
        What `metrics.json` holds, and the folder's size in `bytes`.

    Raises:
        BortError: The model cannot be exported, the data do not fit it, or int8 was asked for and the gate refuses it;
            nothing is written then.
    """
    data = _Data.read(arguments)
    target, steps = new_folder(arguments.out), count(1)
    with tempfile.TemporaryDirectory() as work, folder_aside(target) as aside, bar("exporting") as shown:

        def say(what: str) -> None:
            shown.update(next(steps), what)

        say(f"loading {arguments.model}")
        exporter = Exporter(arguments.model, arguments.engine)
        data.check(exporter)
        done: _Export | EncoderExport
        if exporter.encoder is None:
            done = _Export(arguments, exporter, data, Path(work), say)
        else:
            done = EncoderExport(arguments, exporter, data.texts, Path(work), say)
        metrics = done.write(aside)
    for line in done.told():
        console().print(line, soft_wrap=True)
    if isinstance(done, _Export) and done.choice:
        console().print(f"see {target / 'report.html'}", soft_wrap=True)
    return metrics | {"bytes": sum(file.stat().st_size for file in target.iterdir())}


@dataclass(frozen=True)
class _Data:
    """What an export is given to read.

    Args:
        arguments: Of the export.
        gate: All labelled rows.
        judging: Those that judge int8.
        calibrating: Texts to calibrate on, none of which is among those that judge.
        texts: Those of `--calibrate`, whatever they are good for.
    """

    arguments: ExportArguments
    gate: Sequence[Example]
    judging: Sequence[Example]
    calibrating: Sequence[Example]
    texts: Sequence[Example]

    @classmethod
    def read(cls, arguments: ExportArguments) -> _Data:
        """Read the files.

        Raises:
            BortError: A file breaks a rule, or settings contradict each other.
        """
        if arguments.min_precision is not None and not arguments.gate:
            raise BortError("needs labelled data: give --gate", setting="min_precision")
        if arguments.activations == "dynamic" and arguments.engine == "openvino":
            raise BortError("int8 of OpenVINO is calibrated", setting="activations", value="dynamic")
        columns = arguments.columns
        gate = read_examples(arguments.gate, columns) if arguments.gate else []
        texts: list[Example] = []
        if arguments.calibrate:
            texts = [example for _, example in islice(stream_rows(arguments.calibrate, columns), MOST_CALIBRATION_ROWS)]
        if arguments.activations != "dynamic":
            return cls(arguments, gate, *set_apart(gate, texts), texts)
        return cls(arguments, gate, gate, (), texts)

    def check(self, exporter: Exporter) -> None:
        """Find at the start what would be found after minutes.

        Raises:
            BortError: The data or settings do not fit the model.
        """
        arguments, task = self.arguments, exporter.task
        if task is None:
            for setting in ("gate", "min_precision"):
                if getattr(arguments, setting) is not None:
                    rule = "is for classifiers, and this is an encoder: its int8 is judged on the texts of --calibrate"
                    raise BortError(rule, setting=setting, value=getattr(arguments, setting))
            self._check_calibration()
            return
        if task.choices and (self.gate or self.calibrating):
            raise BortError("is not there yet for models that choose between texts", setting="gate")
        task.targets(self.gate)
        if arguments.min_precision is not None and task.kind == "regression":
            raise BortError("is for classifiers, and this is a regression", setting="min_precision")
        self._check_calibration()

    def _check_calibration(self) -> None:
        arguments = self.arguments
        needed = arguments.activations == "calibrated" or arguments.engine == "openvino"
        if arguments.precision == "int8" and needed and not self.calibrating:
            raise BortError("int8 needs texts to calibrate on: give --calibrate or --gate", file=arguments.model)


def set_apart(gate: Sequence[Example], texts: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """The rows that judge, and texts to calibrate on, none of which is the same.

    Args:
        gate: Labelled rows.
        texts: Given to calibrate on. Those that stand in the gate too are left out; where none is left, a quarter of
            the gate calibrates instead of judging.
    """

    def key(example: Example) -> tuple[str, str | None]:
        return example.text, example.text_b

    judged = {key(row) for row in gate}
    others = [text for text in texts if key(text) not in judged]
    if others or not gate:
        return list(gate), others[:MOST_CALIBRATION_ROWS]
    drawn = np.random.default_rng(0).permutation(len(gate))
    drawn = np.sort(drawn[: min(MOST_CALIBRATION_ROWS, max(1, len(gate) // _CALIBRATING_SHARE))])
    calibrating = [gate[place] for place in drawn]
    chosen = {key(row) for row in calibrating}
    judging = [row for row in gate if key(row) not in chosen]
    if not judging:
        raise BortError("must hold at least two different texts: one calibrates, the other judges", file=gate[0].source)
    return judging, calibrating


class _Export:
    """The steps of one export, in a folder to work in."""

    def __init__(
        self, arguments: ExportArguments, exporter: Exporter, data: _Data, work: Path, say: Callable[[str], None]
    ) -> None:
        self.arguments, self.exporter, self.data, self.work, self.say = arguments, exporter, data, work, say
        self.choice: Choice | None = None
        self.thresholds: Thresholds | None = None

    def write(self, folder: Path) -> dict[str, Any]:
        """Decide and write; returns the figures.

        Raises:
            BortError: fp32 differs from PyTorch, or the gate refuses the int8 that was asked for.
        """
        arguments, exporter, data = self.arguments, self.exporter, self.data
        fp32 = self._folder("fp32")
        self.say("writing fp32")
        exporter.write(fp32, None)
        self.say("comparing fp32 with PyTorch")
        metrics: dict[str, Any] = {"engine": arguments.engine, "off_pytorch": exporter.check(fp32)}
        if data.calibrating and (data.gate or arguments.precision == "int8"):
            self.say(f"calibrating int8 on {len(data.calibrating)} texts")
            exporter.calibrate(fp32, data.calibrating)
        chosen = Quantization(weight_bits=arguments.weight_bits) if arguments.precision == "int8" else None
        if data.gate:
            chosen = self._gated(fp32)
            assert self.choice is not None
            metrics["gate"] = self.choice.figures()
        elif chosen is not None and data.calibrating:
            metrics["moved"] = self._moved(fp32, chosen)
        if arguments.min_precision is not None:
            self.thresholds = self._thresholds(chosen, arguments.min_precision)
            metrics["thresholds"] = self.thresholds.figures()
        if self.choice:
            write_report(folder / "report.html", arguments.model, self.choice, self.thresholds)
        metrics["precision"] = "fp32" if chosen is None else "int8"
        metrics["quantization"] = exporter.described(chosen)
        self.say(f"writing {metrics['precision']}")
        write_json(folder / "metrics.json", metrics)
        exporter.write(folder, chosen, metrics, self.thresholds.by_label if self.thresholds else None)
        return metrics

    def told(self) -> Iterator[str]:
        """Lines for a person."""
        if self.choice:
            yield self.choice.told
        elif self.arguments.precision == "int8" and self.exporter.activations == "dynamic":
            yield "int8 takes its scales from each text anew, so texts are computed one by one; --calibrate is faster"
        if self.thresholds:
            yield from self.thresholds.told()

    def _gated(self, fp32: Path) -> Quantization | None:
        arguments, exporter = self.arguments, self.exporter
        trials = Trials(exporter, fp32, self.data.judging, arguments.max_drop, self._folder("tried"), self.say)
        self.choice = trials.choose(Quantization(weight_bits=arguments.weight_bits), arguments.precision)
        if arguments.precision == "int8" and self.choice.quantization is None:
            rule = "Nothing is written; allow more with --max-drop, give more rows to --gate, or take --precision auto"
            raise BortError(f"{self.choice.verdict.told}. {rule}", setting="precision", value="int8")
        return self.choice.quantization

    def _thresholds(self, chosen: Quantization | None, least_precision: float) -> Thresholds:
        """Of the model that is served, on all labelled rows."""
        folder = self._folder("chosen")
        self.exporter.write(folder, chosen)
        logits = Predictor(str(folder)).logits(self.data.gate)
        assert self.exporter.task is not None
        return Thresholds.learned(self.exporter.task, logits, self.data.gate, least_precision)

    def _moved(self, fp32: Path, chosen: Quantization) -> float:
        """How far int8 moves the answers to the calibration texts, where there are no labels."""
        folder = self._folder("chosen")
        self.exporter.write(folder, chosen)
        answers = [Predictor(str(one)).logits(self.data.calibrating) for one in (fp32, folder)]
        assert self.exporter.task is not None
        return movement(self.exporter.task, answers[0], answers[1])

    def _folder(self, name: str) -> Path:
        folder = self.work / name
        folder.mkdir()
        return folder
