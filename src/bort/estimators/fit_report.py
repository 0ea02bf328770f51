"""The results of a fit: scores with intervals, figures by label, and wrong predictions."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bort.data.tables.examples import Example
from bort.data.tables.labels import Label, shown_label
from bort.tasks.metrics import Score, scores_of

_SHOWN_ERRORS = 10
_SHOWN_CHARACTERS = 60
_TITLES = {"dev": "development", "test": "held out"}


@dataclass(frozen=True)
class LabelFigures:
    """Metrics of one label. Recall is None if no text has the label, precision if it is never predicted."""

    label: str
    examples: int
    recall: float | None
    precision: float | None
    f1: float | None


@dataclass(frozen=True)
class WrongAnswer:
    """A text whose prediction differs from its label.

    Attributes:
        text: The text, or the first text of a pair.
        text_b: The second text of a pair.
        label: The label, all labels as a tuple, or the value.
        answer: The model's prediction.
        probability: Probability of the prediction; None for several labels and for a regression.
    """

    text: str
    text_b: str | None
    label: Label
    answer: Label
    probability: float | None


@dataclass(frozen=True)
class FitReport:
    """The results of a fit: notebooks and `print` show them as text, `to_dict` converts them for JSON.

    Attributes:
        metric: The metric that selected the model.
        scores: Scores of each part (`dev`; also `test` if examples were held out of the training data), by metric, with
            95 % bootstrap intervals. The development score selected the model, so it is optimistic.
        rows: Number of examples of each part.
        part: The part that `labels` and `errors` are about: `test` if there is one, else `dev`.
        labels: Metrics of each label; empty for a regression.
        errors: Wrong predictions, the most confident first; for several labels those with the highest loss first, for a
            regression those with the largest error. At most 1000.
        findings: Problems found in the data, in sentences.
        seconds: Duration of the fit.

    Example:
        >>> import bort
        >>> texts = ["Where is it?", "When does it come?", "The zip broke.", "It is torn."] * 5
        >>> labels = ["delivery", "delivery", "damage", "damage"] * 5
        >>> report = bort.BortClassifier().fit(texts, labels).report_
        >>> report.part, report.metric, [each.label for each in report.labels]
        ('dev', 'accuracy', ['damage', 'delivery'])
    """

    metric: str
    scores: Mapping[str, Mapping[str, Score]]
    rows: Mapping[str, int]
    part: str
    labels: tuple[LabelFigures, ...]
    errors: tuple[WrongAnswer, ...]
    findings: tuple[str, ...]
    seconds: float

    @classmethod
    def of(cls, metrics: Mapping[str, Any], examples: Sequence[Example]) -> FitReport:
        """Make the report of a run.

        Args:
            metrics: The content of `metrics.json`.
            examples: The examples of the part that is reported on.

        Example:
            >>> figures = {"metric": "pearson", "rows": {"dev": 100}, "dev": {"pearson": 0.9}, "seconds": 2.5}
            >>> figures |= {"dev_confidence": {"pearson": [0.8, 0.95]}, "by_label": [], "wrong": [], "findings": []}
            >>> print(FitReport.of(figures, []))
            development pearson 0.900 (95 %: 0.800 to 0.950), 100 examples
        """
        scores = {part: scores_of(metrics, part) for part in ("dev", "test") if part in metrics}
        return cls(
            metrics["metric"],
            scores,
            metrics["rows"],
            "test" if "test" in scores else "dev",
            tuple(_label_figures(row) for row in metrics["by_label"]),
            tuple(_wrong(examples[each["row"]], each) for each in metrics["wrong"]),
            tuple(metrics["findings"]),
            float(metrics["seconds"]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Convert the report to JSON types.

        Example:
            >>> scores = {"dev": {"accuracy": Score(0.9, 0.8, 0.95)}}
            >>> FitReport("accuracy", scores, {"dev": 100}, "dev", (), (), (), 2.5).to_dict()["scores"]
            {'dev': {'accuracy': {'value': 0.9, 'low': 0.8, 'high': 0.95}}}
        """
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        lines = [self._headline(part) for part in self.scores]
        if self.labels:
            width = max(5, *(len(each.label) for each in self.labels))
            lines += ["", f"{'label':{width}}  examples  recall  precision    F1"]
            for each in self.labels:
                recall, precision, f1 = map(_share, (each.recall, each.precision, each.f1))
                lines.append(f"{each.label:{width}}  {each.examples:8}  {recall:>6}  {precision:>9}  {f1}")
        if self.errors:
            lines += ["", f"{len(self.errors)} answers differ, such as"]
            lines += [_shown(error) for error in self.errors[:_SHOWN_ERRORS]]
        return "\n".join([*lines, *self.findings])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def _headline(self, part: str) -> str:
        score = self.scores[part][self.metric]
        return (
            f"{_TITLES[part]} {self.metric} {score.value:.3f} (95 %: {score.low:.3f} to {score.high:.3f}), "
            f"{self.rows[part]} examples"
        )


def _label_figures(row: Mapping[str, Any]) -> LabelFigures:
    true, given, right = row["examples"], row["answered"], row["right"]
    recall, precision, f1 = (
        part / whole if whole else None for part, whole in ((right, true), (right, given), (2 * right, true + given))
    )
    return LabelFigures(row["label"], true, recall, precision, f1)


def _wrong(example: Example, told: Mapping[str, Any]) -> WrongAnswer:
    assert example.label is not None
    label, answer = example.label, told["answer"]
    if isinstance(answer, list):
        answer = tuple(answer)
    elif isinstance(answer, float) and not isinstance(label, tuple):
        label = float(label)
    return WrongAnswer(example.text, example.text_b, label, answer, told.get("probability"))


def _shown(error: WrongAnswer) -> str:
    text = error.text if error.text_b is None else f"{error.text} | {error.text_b}"
    text = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
    if error.probability is not None:
        return f"  {text!r}: {error.answer} ({error.probability:.2f}), labelled {error.label}"
    label, answer = (
        f"{each:.3g}" if isinstance(each, float) else shown_label(each) for each in (error.label, error.answer)
    )
    return f"  {text!r}: {answer}, labelled {label}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
