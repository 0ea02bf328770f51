"""`bort finetune`: train a classifier on labelled texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bort.bounds import validate
from bort.cli.results import FinetuneResult
from bort.errors import BortError
from bort.finetuning.arguments import FinetuneArguments


def finetune(
    arguments: FinetuneArguments,
    *,
    train: Any = None,
    dev: Any = None,
    test: Any = None,
    unlabelled: Any = None,
    teacher: Callable[[Sequence[Any]], Sequence[Any]] | None = None,
) -> FinetuneResult:
    """Fit a classifier or regressor on labelled texts or pairs of texts.

    The data are tables with the columns `text` and `label`, and `text_b` for pairs (other names can be set). The
    default method is Agora: in rounds, fine-tune a model for each combination of the grid, add new texts near the best
    model's mistakes, labelled by a teacher, and train on them too. --method plain fine-tunes each combination once;
    --method head leaves the encoder as it is and fits a linear head, in seconds. Every run fits that head first and
    shows it next to the result. Instead of a table, --task names tasks of GLUE, SuperGLUE and RACE, whose official
    files are in --data. To continue an interrupted run, repeat the command with --resume.

    Example: data may be given as objects instead (`train`, `dev`, `test`, `unlabelled`: tables of pandas, polars,
    pyarrow or datasets, or lists of mappings), and the teacher as a function of texts.

        >>> import tempfile
        >>> import bort
        >>> found = {"damage": ["The zip broke.", "It is torn."], "delivery": ["Where is it?", "It has not come."]}
        >>> rows = [{"text": text, "label": label} for label, texts in found.items() for text in texts] * 3
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = bort.finetune(bort.FinetuneArguments(method="head", out=f"{folder}/run"), train=rows)
        >>> result.labels, result.metric, sorted(result.scores)
        (('damage', 'delivery'), 'accuracy', ['dev'])
    """
    arguments = _with_data(arguments, {"train": train, "dev": dev, "test": test, "unlabelled": unlabelled})
    validate(arguments)
    if teacher is not None and arguments.method != "agora":
        raise BortError("does not use a teacher: give none, or agora", setting="method", value=arguments.method)
    if arguments.task and arguments.data:
        from bort.finetuning.suites import finetune_each, tasks_to_fit

        if len(tasks := tasks_to_fit(arguments)) > 1:
            check_all(arguments, tasks)
            results = finetune_each(arguments, tasks, lambda own: _fit(own, teacher), _print_scores)
            _print_table(arguments, results)
            if results["failed"]:
                rule = "failed; the other tasks are done, and --resume tries these again"
                raise BortError(rule, file=arguments.out, column="task", value=", ".join(results["failed"]))
            return FinetuneResult(results, Path(arguments.out))
        arguments = dataclasses.replace(arguments, task=[tasks[0].name])
    metrics = _fit(arguments, teacher)
    _print_scores(arguments, metrics)
    return FinetuneResult.of(arguments.out, metrics)


def _with_data(arguments: FinetuneArguments, given: dict[str, Any]) -> FinetuneArguments:
    """Save data that were given as objects in the run's folder, where `--resume` finds them."""
    from bort.data.tables.objects import kept_file
    from bort.runs import DATA_FOLDER

    folder = Path(arguments.out).expanduser() / DATA_FOLDER
    files: dict[str, Any] = {
        part: kept_file(data, folder, part, arguments.columns, labelled=part != "unlabelled")
        for part, data in given.items()
        if data is not None
    }
    return dataclasses.replace(arguments, **files)


def check_all(arguments: FinetuneArguments, tasks: Sequence[Any]) -> None:
    """Check the settings for all tasks before the first one is trained.

    Raises:
        BortError: Agora with a task that has choices.
    """
    from bort.agora.checks import check_choices

    for task in tasks:
        check_choices(dataclasses.replace(arguments, task=[task.name]))


def _fit(arguments: FinetuneArguments, teacher: Callable[[Sequence[Any]], Sequence[Any]] | None) -> dict[str, Any]:
    from bort.agora.run import finetune as fit

    return fit(arguments, teacher=teacher)


def _print_scores(arguments: FinetuneArguments, metrics: dict[str, Any]) -> None:
    from bort.progress import out

    metric = metrics["metric"]
    held_out = "held-out" if metrics.get("held_out") else "test"
    for part, name in (("dev", "development"), ("test", held_out)):
        if part in metrics:
            out().print(f"{name} {metric} {_interval(metrics, part, metric)}")
    others = {"plain": "plain fine-tuning", "teacher": "the teacher", "fine_tuned": "fine-tuned, not kept"}
    for other, name in others.items():
        if other in metrics:
            part = "test" if "test" in metrics[other] else "dev"
            out().print(f"  {name}: {_interval(metrics[other], part, metric)}")
    if "linear_head" in metrics and metrics["result"] != "head":
        part = "test" if "test" in metrics["linear_head"] else "dev"
        out().print(f"  linear head: {_interval(metrics['linear_head'], part, metric)}")
    _print_official(metrics)
    out().print(f"{arguments.out}: model, metrics.json and report.html", soft_wrap=True)


def _print_official(metrics: dict[str, Any]) -> None:
    """Print the scores of a suite's task, in % as on the leaderboards, next to the claims of the papers."""
    from bort.progress import out

    if "official" not in metrics:
        return
    from bort.tasks.suites.published import PUBLISHED, claimed
    from bort.tasks.suites.scoring import METRIC_TITLES, shown
    from bort.tasks.suites.table import TASKS

    parts = {"dev": "development", "test": "held-out" if metrics.get("held_out") else "test"}
    for name, found in metrics["official"].items():
        task = TASKS[name]
        titles = "/".join(METRIC_TITLES[metric] for metric in task.metrics)
        own = ", ".join(f"{parts[part]} {shown(task, scores['scores'])}" for part, scores in found.items())
        claims = ", ".join(f"{model} {claim}" for model in PUBLISHED if (claim := claimed(model, name)))
        beside = f"; claimed by the papers, hidden test: {claims}" if claims else ""
        out().print(f"{task.title} {titles}: {own}{beside}", soft_wrap=True)


def _print_table(arguments: FinetuneArguments, results: dict[str, Any]) -> None:
    from rich.table import Table

    from bort.finetuning.suites import TABLE_HEAD, suite_rows, table_rows
    from bort.progress import out

    table = Table(title=f"{arguments.model}, in %; the papers' figures are their authors' claims", title_justify="left")
    for place, name in enumerate(TABLE_HEAD):
        table.add_column(name, justify="left" if place < 2 else "right")
    for row in table_rows(results["official"]):
        table.add_row(*row)
    table.add_section()
    for row in suite_rows(results["suites"]):
        table.add_row(*row)
    out().print(table)
    out().print(f"{arguments.out}: a folder for each task, results.json and report.html", soft_wrap=True)


def _interval(metrics: dict[str, Any], part: str, metric: str) -> str:
    low, high = metrics[f"{part}_confidence"][metric]
    return f"{metrics[part][metric]:.3f} (95 %: {low:.3f} to {high:.3f})"


__all__ = ["FinetuneArguments", "finetune"]
