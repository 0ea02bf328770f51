"""The export of a classifier or regressor: labelled rows judge int8, and set thresholds where that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bort.errors import BortError
from bort.export.arguments import ExportArguments
from bort.export.candidate import ExportCandidate
from bort.export.data import ExportData
from bort.export.exporter import Exporter
from bort.export.gate import movement
from bort.export.precision import Trials
from bort.predict.graph.quantization import Quantization
from bort.predict.predictor import Predictor
from bort.predict.thresholds import Thresholds

_DYNAMIC = "int8 takes its scales from each text anew, so texts are computed one by one; --calibrate is faster"


class ClassifierExport:
    """What is exact enough of a classifier or regressor.

    Args:
        arguments: Of the export.
        data: Labelled rows and texts.
        work: An empty folder to work in.
        say: Takes a few words on what is being done.
    """

    def __init__(self, arguments: ExportArguments, data: ExportData, work: Path, say: Callable[[str], None]) -> None:
        self.arguments, self.data, self.work, self.say = arguments, data, work, say
        self._trials: Trials | None = None

    def candidates(self, exporter: Exporter) -> list[ExportCandidate]:
        """fp32, int8 or both in one engine.

        Raises:
            BortError: fp32 differs from PyTorch, or the gate refuses the int8 that was asked for.
        """
        data, wanted, engine = self.data, self.arguments.precision, exporter.form.engine
        fp32 = self._folder(f"{engine}-fp32")
        self.say(f"writing fp32 for {engine}")
        exporter.write(fp32, None)
        self.say("comparing fp32 with PyTorch")
        facts: dict[str, Any] = {"off_pytorch": exporter.check(fp32)}
        if data.calibrating and (data.gate or wanted == "int8"):
            self.say(f"calibrating int8 on {len(data.calibrating)} texts")
            exporter.calibrate(fp32, data.calibrating)
        exact = ExportCandidate(exporter, None, fp32, facts)
        if not data.gate:
            if wanted != "int8":
                return [exact]
            folder = self._folder(f"{engine}-int8")
            exporter.write(folder, Quantization())
            if data.calibrating:
                facts["moved"] = self._moved(exporter, fp32, folder)
            told = () if data.calibrating else (_DYNAMIC,)
            return [ExportCandidate(exporter, Quantization(), folder, facts, told)]
        trials = Trials(exporter, fp32, data.judging, self.arguments.max_drop, self._folder(f"{engine}-try"), self.say)
        self._trials = self._trials or trials
        choice = trials.choose(Quantization(), wanted)
        facts["gate"] = choice.figures()
        if wanted == "int8" and choice.quantization is None:
            rule = "Nothing is written; allow more with --max-drop, give more rows to --gate, or take --precision auto"
            raise BortError(f"{choice.verdict.told}. {rule}", setting="precision", value="int8")
        found = [] if wanted == "int8" else [ExportCandidate(exporter, None, fp32, facts, (choice.told,), choice)]
        if choice.quantization is not None:
            folder = trials.work.rename(self.work / f"{engine}-int8")
            found.append(ExportCandidate(exporter, choice.quantization, folder, facts, (choice.told,), choice))
        return found

    def passes(self, folder: Path) -> bool:
        """Whether a folder with two engines, each of which passes, does so too."""
        return self._trials is None or self._trials.judged(folder).passed

    def thresholds(self, exporter: Exporter, folder: Path) -> Thresholds | None:
        """Of the labels of what is served, learned on all labelled rows, where that is asked for."""
        least = self.arguments.min_precision
        if least is None:
            return None
        assert exporter.task is not None
        return Thresholds.learned(exporter.task, Predictor(str(folder)).logits(self.data.gate), self.data.gate, least)

    def _moved(self, exporter: Exporter, fp32: Path, int8: Path) -> float:
        """How far int8 moves the answers to the calibration texts, where there are no labels."""
        answers = [Predictor(str(one)).logits(self.data.calibrating) for one in (fp32, int8)]
        assert exporter.task is not None
        return movement(exporter.task, answers[0], answers[1])

    def _folder(self, name: str) -> Path:
        folder = self.work / name
        folder.mkdir()
        return folder
