"""Data of an export: labelled rows to judge int8 on, and texts to calibrate it on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from bort.data.tables.examples import Example, read_examples, stream_rows
from bort.errors import BortError
from bort.export.arguments import ExportArguments
from bort.export.exporter import MOST_CALIBRATION_ROWS, Exporter

_CALIBRATING_SHARE = 4
"""One in this many texts of the gate calibrates int8, if no other texts are given."""


@dataclass(frozen=True)
class ExportData:
    """The data of an export.

    Args:
        arguments: Settings of the export.
        gate: All labelled rows.
        judging: The labelled rows that int8 is judged on.
        calibrating: Texts to calibrate on; none of them is in `judging`.
        texts: The texts of `--calibrate`, up to `MOST_CALIBRATION_ROWS`.
    """

    arguments: ExportArguments
    gate: Sequence[Example]
    judging: Sequence[Example]
    calibrating: Sequence[Example]
    texts: Sequence[Example]

    @classmethod
    def read(cls, arguments: ExportArguments) -> ExportData:
        """Read the files.

        Raises:
            BortError: A file is invalid, or settings contradict each other.
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
            if not texts:
                raise BortError("holds no texts", file=arguments.calibrate)
        if arguments.activations != "dynamic":
            return cls(arguments, gate, *set_apart(gate, texts), texts)
        return cls(arguments, gate, gate, (), texts)

    def check(self, exporter: Exporter) -> None:
        """Check the data and settings against the model, before the long work starts.

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
        if arguments.min_cosine != type(arguments).min_cosine:
            rule = "is for encoders, and this has a task: its int8 is judged on the rows of --gate"
            raise BortError(rule, setting="min_cosine", value=arguments.min_cosine)
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
    """Split data into rows to judge int8 on and texts to calibrate it on, without overlap.

    Args:
        gate: Labelled rows.
        texts: Texts to calibrate on. Those that are also in the gate are left out; if none remain, a random quarter of
            the gate's texts is used to calibrate instead of to judge.
    """

    judged = set(map(_key, gate))
    others = [text for text in texts if _key(text) not in judged]
    if others or not gate:
        return list(gate), others[:MOST_CALIBRATION_ROWS]
    if len(judged) < 2:
        raise BortError("must hold at least two different texts: one calibrates, the other judges", file=gate[0].source)
    calibrating, judging = drawn_apart(gate, _CALIBRATING_SHARE)
    return judging, calibrating[:MOST_CALIBRATION_ROWS]


def drawn_apart(rows: Sequence[Example], share: int) -> tuple[list[Example], list[Example]]:
    """Draw one in `share` of the different texts at random, at least one and at most `MOST_CALIBRATION_ROWS`.

    Returns:
        The rows of the drawn texts, and those of the other texts; copies of a text stay together.

    Example:
        >>> drawn, others = drawn_apart([Example(text) for text in "aabbccdd"], 4)
        >>> len(drawn), len(others)
        (2, 6)
    """
    different = list(dict.fromkeys(map(_key, rows)))
    drawn = np.random.default_rng(0).permutation(len(different))
    drawn = drawn[: min(MOST_CALIBRATION_ROWS, max(1, len(different) // share))]
    chosen = {different[place] for place in drawn}
    return [row for row in rows if _key(row) in chosen], [row for row in rows if _key(row) not in chosen]


def _key(example: Example) -> tuple[str, str | None]:
    return example.text, example.text_b
