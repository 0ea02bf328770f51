"""Several suite tasks in one command: one run per task, and a table of all results."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bort.errors import BortError
from bort.files import write_aside
from bort.finetuning.arguments import FinetuneArguments
from bort.progress import say
from bort.report import Report
from bort.runs import environment
from bort.tasks.suites.published import PUBLISHED, PUBLISHED_SUITES, claimed
from bort.tasks.suites.reading import has_part, require_part
from bort.tasks.suites.scoring import METRIC_TITLES, shown, suite_score
from bort.tasks.suites.table import SUITES, TASKS, find, plain_name
from bort.tasks.suites.task_entry import SuiteTask

TABLE_HEAD = ("task", "metrics", "development", "test", *(f"{model}, test (claimed)" for model in PUBLISHED))


def tasks_to_fit(arguments: FinetuneArguments) -> list[SuiteTask]:
    """The requested tasks that can be trained.

    For a suite, tasks whose files are missing are reported and left out; tasks without training data are left out too.

    Raises:
        BortError: A name is unknown, a task named on its own has no training data, or no task is left.
    """
    by_suite = [name for name in arguments.task if plain_name(name) in SUITES]
    named = {task.name for task in find([name for name in arguments.task if name not in by_suite])}
    chosen, absent = [], []
    for task in find(arguments.task):
        if task.name in named and not task.trains:
            rule = f"has no training data; {task.predicted_by} models predict it"
            raise BortError(rule, setting="task", value=task.name)
        if task.name in named or (task.trains and has_part(task, arguments.data, "train")):
            chosen.append(task)
            if task.name in named:
                require_part(task, arguments.data, "train")
        elif task.trains:
            absent.append(task.title)
    if absent:
        say(f"left out, as {arguments.data} has no training data of them: {', '.join(absent)}")
    if not chosen:
        raise BortError("holds the training data of none of the tasks", file=arguments.data, value=arguments.task)
    return chosen


def finetune_each(
    arguments: FinetuneArguments,
    tasks: Sequence[SuiteTask],
    fit: Callable[[FinetuneArguments], dict[str, Any]],
    show: Callable[[FinetuneArguments, dict[str, Any]], None] = lambda own, metrics: None,
) -> dict[str, Any]:
    """Fit each task in its own folder within `arguments.out`, and write a table of all results there.

    A task that fails is reported and left out; the others continue. With `resume`, finished tasks are read from disk,
    and unfinished and failed ones are continued.

    Args:
        arguments: The settings that all runs share.
        tasks: The tasks to fit.
        fit: Fits one task and returns its `metrics.json`.
        show: Prints it. If nobody reads it any more, the other tasks are fitted all the same.

    Returns:
        `tasks`, the `metrics.json` of each; `official`, the official scores by task; `suites`, each suite's score so
        far; `failed`, the error by task, with a traceback unless it is a `BortError`.

    Raises:
        Exception: All tasks failed; this is the first error.
    """
    metrics: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    first_error: Exception | None = None
    for number, task in enumerate(tasks, start=1):
        say(f"{task.title}, {number} of {len(tasks)}")
        own = replace(arguments, task=[task.name], out=str(Path(arguments.out) / task.name))
        try:
            metrics[task.name] = fit(own)
        except Exception as error:  # days of training on the other tasks must not be lost
            first_error = first_error or error
            failed[task.name] = str(error) if isinstance(error, BortError) else traceback.format_exc()
            say(f"{task.title} failed: {error or type(error).__name__}")
        else:
            with suppress(BrokenPipeError):
                show(own, metrics[task.name])
        if metrics:
            _write(arguments, _results(metrics, failed))
    if first_error is not None and not metrics:
        raise first_error
    return _results(metrics, failed)


def _results(metrics: Mapping[str, dict[str, Any]], failed: Mapping[str, str]) -> dict[str, Any]:
    official = {name: parts for each in metrics.values() for name, parts in each["official"].items()}
    official = {name: official[name] for name in TASKS if name in official}
    development = {name: parts["dev"]["scores"] for name, parts in official.items() if "dev" in parts}
    figures: dict[str, dict[str, Any]] = {}
    for suite in SUITES:
        of_suite = {name: scores for name, scores in development.items() if TASKS[name].suite == suite}
        if any(not TASKS[name].diagnostic for name in of_suite):
            figure, count = suite_score(of_suite, TASKS)
            figures[suite] = {"development": figure, "tasks": count, "of": suite_size(suite)}
    return {"tasks": dict(metrics), "official": official, "suites": figures, "failed": dict(failed)}


def suite_size(suite: str) -> int:
    """Number of tasks that a suite's score is the mean of."""
    return sum(task.suite == suite and task.trains and not task.diagnostic for task in TASKS.values())


def table_rows(official: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Rows of the table, in %, with the test scores that the papers claim.

    Args:
        official: Scores of each part, by task name.
    """
    rows = []
    for name, parts in official.items():
        task = TASKS[name]
        own = [shown(task, parts[part]["scores"]) if part in parts else "" for part in ("dev", "test")]
        metrics = "/".join(METRIC_TITLES[metric] for metric in task.metrics)
        rows.append([task.title, metrics, *own, *(claimed(model, name) for model in PUBLISHED)])
    return rows


def suite_rows(suites: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """A row per suite score; claimed scores are shown only for complete suites, as others are not comparable."""
    rows = []
    for suite, found in suites.items():
        whole = found["tasks"] == found["of"]
        about = "mean" if whole else f"mean of {found['tasks']} of {found['of']} tasks"
        claims = [
            f"{claims[suite]:.1f}" if whole and suite in claims else ""  # type: ignore[index]
            for claims in PUBLISHED_SUITES.values()
        ]
        rows.append([SUITES[suite], about, f"{100 * found['development']:.1f}", "", *claims])  # type: ignore[index]
    return rows


def _write(arguments: FinetuneArguments, results: Mapping[str, Any]) -> None:
    """Write the results so far, because a suite may take days."""
    out = Path(arguments.out)
    kept = {name: results[name] for name in ("official", "suites", "failed")}
    kept |= {"model": arguments.model, "method": arguments.method, "environment": environment()}
    kept["runs"] = {
        name: {"train": each["rows"]["train"], "best_theta": each["best_theta"]}
        for name, each in results["tasks"].items()
    }
    with write_aside(out / "results.json") as file:
        json.dump(kept, file, indent=2, default=float)
        file.write("\n")
    suite_report(out.name, kept).write(out / "report.html")


def suite_report(name: str, results: Mapping[str, Any]) -> Report:
    """Build the report of several tasks.

    Args:
        name: Name of their folder.
        results: Contents of `results.json`.
    """
    runs = results["runs"]
    report = Report(f"Suite: {name}", f"{results['model']}, {len(runs)} tasks, --method {results['method']}, in %.")
    report.table(TABLE_HEAD, [*table_rows(results["official"]), *suite_rows(results["suites"])])
    report.paragraph(
        "Development data chose each model, so these scores are optimistic; the last columns are the papers' claims of "
        "the hidden test sets. Our test scores are of labelled test data, or of held-out training data after Agora."
    )
    if results["failed"]:
        report.paragraph(f"Failed, see results.json: {', '.join(TASKS[task].title for task in results['failed'])}.")
    report.heading("Runs")
    report.table(
        ["task", "training rows", "best combination", "folder"],
        [[TASKS[task].title, run["train"], run["best_theta"], f"{task}/report.html"] for task, run in runs.items()],
    )
    report.made_with(results["environment"])
    return report
