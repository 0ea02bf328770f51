"""`bort evaluate`: a model's scores on labelled data."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bort.bounds import NonNegativeInt, validate
from bort.cli.results import EvaluateResult
from bort.errors import BortError

if TYPE_CHECKING:
    from bort.tasks.metrics import Score

_OF_A_FILE = ("text", "text_b", "label", "label_separator", "delimiter", "long")
"""Settings of a labelled file, which a task of a suite does not use."""


@dataclass
class EvaluateArguments:
    """Arguments of `bort evaluate`.

    Example:
        >>> EvaluateArguments("runs/mine", "test.csv").cast
        'auto'
    """

    model: str
    """fine-tuned model: a folder or a hub name"""
    data: str = field(default="", metadata={"needed": "unless it is given as an object"})
    """labelled file (.csv, .tsv, .jsonl, .parquet) or hub data set (owner/name:split); with --task: folder with the
    suite's official files, or hub"""
    task: str | None = None
    """name of a GLUE, SuperGLUE or RACE task, whose development data is scored with its official metrics"""
    submit: str | None = None
    """with --task: folder for the answers to its test data in the leaderboard's format, and for a zip of all answers"""
    cast: Literal["auto", "improved", "released"] = "auto"
    """with --task: how rows become model inputs (see bort finetune); auto: as in fine-tuning"""
    text: str = "text"
    """column with the text"""
    text_b: str = "text_b"
    """column with the second text of a pair"""
    label: list[str] | str = "label"
    """column with the label or the list of labels; several names are 0/1 columns, one per label"""
    label_separator: str | None = None
    """separator of several labels in the label column, such as ; in a;b; an empty cell means no labels"""
    delimiter: str | None = None
    """cell separator of CSV or TSV files: a character, or comma, semicolon, tab, pipe; by default detected from the
    header"""
    long: Literal["first", "mean", "max"] = "first"
    """how to answer a single text that is longer than the model's limit (see bort predict)"""
    json: bool = False
    """print one JSON object and nothing else on standard output"""
    resamples: NonNegativeInt = 1000
    """bootstrap resamples for the confidence intervals; 0 for no intervals"""

    def check(self) -> None:
        """Refuse settings that a task of a suite, or a labelled file, leaves without effect.

        Raises:
            BortError: The first such setting.
        """
        if self.task is None and self.cast != type(self).cast:
            raise BortError("has no effect without --task: leave it out", setting="cast", value=self.cast)
        for name in _OF_A_FILE if self.task is not None else ():
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise BortError("has no effect with --task: leave it out", setting=name, value=getattr(self, name))


def evaluate(arguments: EvaluateArguments, *, data: Any = None) -> EvaluateResult:
    """Score a fine-tuned model on labelled data, with the metrics of its kind or the official ones of a task.

    Classification: accuracy, F1 and Matthews correlation. Multi-label: micro and macro F1, exact match and mean average
    precision, at the model's thresholds. Regression: Pearson and Spearman correlation, and RMSE.

    Intervals are 95 % bootstrap confidence intervals over rows.

    Example:
        >>> import bort
        >>> rows = [{"text": "Where is it?", "label": "delivery"}, {"text": "It is torn.", "label": "damage"}]
        >>> bort.evaluate(bort.EvaluateArguments("runs/topics"), data=rows).scores["accuracy"].value
        1.0
    """
    from bort.data.tables.examples import Columns
    from bort.data.tables.objects import examples_of
    from bort.predict.predictor import Predictor
    from bort.progress import bar, say

    validate(arguments)
    if data is None and not arguments.data:
        rule = "is needed: a labelled file; or with --task the folder with the suite's official files, or hub"
        raise BortError(rule, setting="data")
    if arguments.task is not None:
        if data is not None:
            raise BortError("a task brings its own data: give their folder, or hub", setting="data")
        return _evaluate_task(arguments, arguments.task)
    if arguments.submit is not None:
        raise BortError("needs --task: which task is answered", setting="submit", value=arguments.submit)
    columns = Columns(arguments.text, arguments.text_b, arguments.label, arguments.delimiter, arguments.label_separator)
    examples = examples_of(arguments.data if data is None else data, columns)
    predictor = Predictor(arguments.model, long=arguments.long)
    targets = predictor.task.targets(examples)
    logits = []
    with bar("evaluating", len(examples)) as shown:
        for start in range(0, len(examples), 1024):
            logits.append(predictor.logits(examples[start : start + 1024]))
            shown.update(min(start + 1024, len(examples)))
    import numpy as np

    scores = predictor.task.score(np.concatenate(logits), targets, resamples=arguments.resamples)
    result: dict[str, Any] = {name: score.value for name, score in scores.items()}
    if arguments.resamples:
        result["confidence"] = {name: [score.low, score.high] for name, score in scores.items()}
    result["rows"] = len(examples)
    for line in predictor.told():
        say(line)
    if arguments.json:
        print(json.dumps(result))
    else:
        _print_table(arguments, result, arguments.data if data is None else "the given data")
    return EvaluateResult(result, scores, len(examples))


def _evaluate_task(arguments: EvaluateArguments, name: str) -> EvaluateResult:
    """A suite's task: official scores if there are labels, and the file for the leaderboard."""
    from bort.cli.submit import pack_and_say
    from bort.predict.suite_task import SuitePredictor
    from bort.progress import console, out
    from bort.tasks.suites.published import PUBLISHED, claimed
    from bort.tasks.suites.scoring import METRIC_TITLES, shown
    from bort.tasks.suites.table import find

    tasks = find([name])
    if len(tasks) > 1:
        raise BortError("is a suite; name one of its tasks, or use bort submit", setting="task", value=name)
    task, result = tasks[0], dict[str, Any]()
    found: dict[str, Score] = {}
    predictor = SuitePredictor(arguments.model, task, arguments.data, arguments.cast)
    if arguments.submit is None or predictor.is_scorable():
        part, rows, found = predictor.scores(arguments.resamples)
        result = {metric: score.value for metric, score in found.items()}
        if arguments.resamples:
            result["confidence"] = {metric: [score.low, score.high] for metric, score in found.items()}
        result |= {"task": task.name, "part": part, "rows": rows}
        if not arguments.json:
            _print_table(arguments, result, f"{task.title}, {'development' if part == 'dev' else part} data")
            claims = ", ".join(f"{model} {claim}" for model in PUBLISHED if (claim := claimed(model, task.name)))
            titles = "/".join(METRIC_TITLES[metric] for metric in task.metrics)
            own = f"{titles} {shown(task, result)}"
            out().print(f"{own}; claimed by the papers, hidden test: {claims}" if claims else own, soft_wrap=True)
    if arguments.submit is not None:
        result["file"] = str(predictor.submit(arguments.submit))
        say = console() if arguments.json else out()
        say.print(result["file"], soft_wrap=True)
        result |= pack_and_say(arguments.submit, [task.suite], say)
    if arguments.json:
        print(json.dumps(result))
    file = Path(result["file"]) if "file" in result else None
    return EvaluateResult(result, found, result.get("rows", 0), file)


def _print_table(arguments: EvaluateArguments, result: dict[str, Any], data: str) -> None:
    from rich.table import Table

    from bort.progress import out

    table = Table(title=f"{arguments.model} on {data} ({result['rows']:,} rows)", title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    if arguments.resamples:
        table.add_column("95 % interval", justify="right")
    for name, value in result.items():
        if isinstance(value, float):
            row = [name, f"{value:.4f}"]
            if arguments.resamples:
                low, high = result["confidence"][name]
                row.append(f"{low:.4f} – {high:.4f}")
            table.add_row(*row)
    out().print(table)
