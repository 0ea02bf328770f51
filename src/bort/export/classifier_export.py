"""Export of a classifier or regressor: int8 is judged on labelled rows, which also set thresholds on request."""

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
    """Finds the accurate candidates for the export of a classifier or regressor.

    Args:
        arguments: Settings of the export.
        data: The labelled rows and texts.
        work: An empty folder to work in.
        say: Called with a short note on the current step.
    """

    def __init__(self, arguments: ExportArguments, data: ExportData, work: Path, say: Callable[[str], None]) -> None:
        self.arguments, self.data, self.work, self.say = arguments, data, work, say
        self._trials: Trials | None = None

    def candidates(self, exporter: Exporter) -> list[ExportCandidate]:
        """The candidates of one engine: fp32, int8 or both.

        Raises:
            BortError: fp32 differs from PyTorch, or int8 was requested and the gate rejects it.
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
        """Whether a folder with two engines passes the gate; each of the two alone does."""
        return self._trials is None or self._trials.judged(folder).passed

    def thresholds(self, exporter: Exporter, folder: Path) -> Thresholds | None:
        """Thresholds of the labels for the written model, learned on all labelled rows; None if not requested."""
        least = self.arguments.min_precision
        if least is None:
            return None
        assert exporter.task is not None
        return Thresholds.learned(exporter.task, Predictor(str(folder)).logits(self.data.gate), self.data.gate, least)

    def _moved(self, exporter: Exporter, fp32: Path, int8: Path) -> float:
        """How far int8 moves the predictions for the calibration texts, for exports without labels."""
        answers = [Predictor(str(one)).logits(self.data.calibrating) for one in (fp32, int8)]
        assert exporter.task is not None
        return movement(exporter.task, answers[0], answers[1])

    def _folder(self, name: str) -> Path:
        folder = self.work / name
        folder.mkdir()
        return folder
