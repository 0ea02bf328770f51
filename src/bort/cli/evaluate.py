"""`bort evaluate`: a model's scores on labelled data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass
class EvaluateArguments:
    """Arguments of `bort evaluate`."""

    model: str
    """a fine-tuned model: a folder or a hub name"""
    data: str
    """labelled file (.csv, .tsv, .jsonl, .parquet) or hub data set (owner/name:split)"""
    text: str = "text"
    """name of the column with the text"""
    text_b: str = "text_b"
    """name of the column with the second text of a pair"""
    label: str = "label"
    """name of the column with the label"""
    json: bool = False
    """print one JSON object and nothing else on standard output"""
    resamples: int = 1000
    """bootstrap resamples for the confidence intervals; 0 for none"""


def evaluate(arguments: EvaluateArguments) -> dict[str, Any]:
    """Score a fine-tuned model: accuracy, F1 and Matthews' correlation, or Pearson's and Spearman's.

    Intervals are 95 % by bootstrap over the rows.
    """
    from bort.data.examples import Columns, read_examples
    from bort.errors import BortError
    from bort.progress import bar, console
    from bort.runtime.predictor import Predictor

    if arguments.resamples < 0:
        raise BortError("must be at least 0", column="resamples", value=arguments.resamples)
    examples = read_examples(arguments.data, Columns(arguments.text, arguments.text_b, arguments.label))
    predictor = Predictor(arguments.model)
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
    if predictor.cut:
        console().print(f"texts longer than {predictor.max_length} tokens, which were cut: {predictor.cut:,}")
    if arguments.json:
        print(json.dumps(result))
    else:
        _print_table(arguments, result)
    return result


def _print_table(arguments: EvaluateArguments, result: dict[str, Any]) -> None:
    from rich.table import Table

    from bort.progress import out

    table = Table(title=f"{arguments.model} on {arguments.data} ({result['rows']:,} rows)", title_justify="left")
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
