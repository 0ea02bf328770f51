"""The reports of training runs."""

from __future__ import annotations

from typing import Any

from bort.finetuning.hyper_parameters import HyperParameters
from bort.report import Report, confusion_chart, lines_chart
from bort.tasks.suites.published import PUBLISHED, claimed
from bort.tasks.suites.scoring import METRIC_TITLES, shown
from bort.tasks.suites.table import TASKS

_MOST_CHARTED = 30
_MOST_DOUBTS = 10


def finetune_report(name: str, metrics: dict[str, Any], trials: list[dict[str, Any]]) -> Report:
    """Build the report of a run without a teacher.

    Args:
        name: Name of the run's folder.
        metrics: Contents of `metrics.json`.
        trials: The journal's `trial` events.
    """
    part = "test" if "test" in metrics else "dev"
    metric = metrics["metric"]
    lead = f"Best of {len(trials)} by development {metric}."
    if metrics["result"] == "head":
        lead = f"A linear head on the frozen encoder: {metrics['linear_head']['described']}."
    report = Report(f"Fine-tuning: {name}", lead)
    tiles = []
    for judged, told in (("test", "test"), ("dev", "development")):
        if judged in metrics:
            low, high = metrics[f"{judged}_confidence"][metric]
            caption = f"{told} {metric} (95 %: {low:.3f} to {high:.3f})"
            tiles.append((f"{metrics[judged][metric]:.3f}", caption))
    rows = metrics["rows"]
    report.tiles([*tiles, (f"{rows['train']:,}", "training examples")])
    used = metrics["labels_used"]
    report.paragraph(
        f"Models that had learned {used['selection']:,} labels were compared; the development score is theirs. The "
        f"result has learned {used['result']:,}."
    )
    findings_section(report, metrics)
    if "test" not in metrics:
        text = "No test data were given. The development data chose the model, so their score is optimistic."
        if not trials:
            text = "No test data were given. The figures are out of fold: each text is predicted by models that have"
            text += " not seen it."
        report.paragraph(text, warning=bool(trials))
    report.heading(f"All scores ({'test' if part == 'test' else 'development'} data)")
    intervals = metrics[f"{part}_confidence"]
    report.table(
        ["metric", "value", "95 % from", "to"],
        [[score, value, *intervals[score]] for score, value in metrics[part].items()],
    )
    official_section(report, metrics)
    labels_section(report, metrics)
    head_section(report, metrics)
    if trials:
        _grid(report, metric, trials)
    failures_section(report, metrics)
    return report


def _grid(report: Report, metric: str, trials: list[dict[str, Any]]) -> None:
    report.heading("The grid")
    # The order by which the run chooses, see `Round.winner`.
    best_first = sorted(trials, key=lambda trial: (-trial["score"], trial["loss"], -trial["place"]))
    named = [(str(HyperParameters(**trial["theta"])), trial) for trial in best_first]
    best, curve = named[0][0], best_first[0]["evaluations"]
    report.chart(
        lines_chart(
            f"Development {metric} of the best combination",
            {best: ([e["step"] for e in curve], [e[metric] for e in curve])},
            "optimiser steps",
            metric,
        )
    )
    report.table(
        ["combination", f"development {metric}", "best step", "steps"],
        [[name, trial["score"], trial["best_step"], trial["steps"]] for name, trial in named],
    )


def head_section(report: Report, metrics: dict[str, Any]) -> None:
    """Add the section that compares the result with a linear head on the frozen encoder, with the labels of each.

    Args:
        report: The report.
        metrics: Contents of `metrics.json`.
    """
    if "linear_head" not in metrics:
        return
    head, metric = metrics["linear_head"], metrics["metric"]
    used = metrics["labels_used"]
    parts = [(f"development {metric}", "dev"), (f"{metric} out of fold", "out_of_fold"), (f"test {metric}", "test")]
    if "fine_tuned" in metrics:
        fine_tuned = metrics["fine_tuned"]
        part, told = ("dev", "on the development data")
        if "out_of_fold" in fine_tuned:
            part, told = "out_of_fold", "in cross-validation"
        low, high = fine_tuned[f"{part}_confidence"][metric]
        text = (
            f"Fine-tuning did not beat it {told}: {fine_tuned[part][metric]:.3f} (95 %: {low:.3f} to {high:.3f}). "
            "So the linear head is the result; --no-keep-better keeps the other."
        )
        report.paragraph(text, warning=True)
    rows = []
    for title, part in parts:
        own = metrics[part][metric] if part in metrics else ""
        labels = "" if own == "" else used[{"test": "result", "dev": "selection"}.get(part, part)]
        if part in head:
            low, high = head[f"{part}_confidence"][metric]
            rows.append([title, own, labels, head[part][metric], f"{low:.3f} to {high:.3f}", head["labels_used"][part]])
    report.heading("Beside a linear head")
    report.paragraph(
        f"On the same encoder, frozen: {head['described']}. The labels are those that a figure's model saw."
    )
    report.table(["figure", "the result", "its labels", "linear head", "95 %", "its labels"], rows)


def official_section(report: Report, metrics: dict[str, Any]) -> None:
    """Add the section on a suite's official scores, if the run was on one of its tasks.

    Args:
        report: The report.
        metrics: Contents of `metrics.json`.
    """
    if "official" not in metrics:
        return
    report.heading("Scores as the suite publishes them, in %")
    names = {"dev": "development", "test": "held out" if metrics.get("held_out") else "test"}
    rows = []
    for name, parts in metrics["official"].items():
        task = TASKS[name]
        claims = [claimed(model, name) for model in PUBLISHED]
        titles = "/".join(METRIC_TITLES[metric] for metric in task.metrics)
        rows += [
            [task.title, titles, names[part], shown(task, found["scores"]), *claims] for part, found in parts.items()
        ]
    report.table(["task", "metrics", "data", "this model", *(f"{m}, hidden test (claimed)" for m in PUBLISHED)], rows)


def findings_section(report: Report, metrics: dict[str, Any]) -> None:
    """Add the section on problems in the data, if there are any.

    Args:
        report: The report.
        metrics: Contents of `metrics.json`.
    """
    if metrics["findings"]:
        report.heading("What is odd about the data")
    for finding in metrics["findings"]:
        report.paragraph(f"{finding[0].upper()}{finding[1:]}.", warning=True)
    if doubts := metrics["inspection"]["doubts"][:_MOST_DOUBTS]:
        report.paragraph("Labels to look at; the least probable come first. bort check shows all of them.")
        rows = [[f"{one['part']} {one['line'] or ''}", one["label"], one["answer"], one["text"]] for one in doubts]
        report.table(["where", "label", "a linear head says", "text"], rows)


def failures_section(report: Report, metrics: dict[str, Any]) -> None:
    """Add the section on failed or diverged trials, if there are any.

    Args:
        report: The report.
        metrics: Contents of `metrics.json`.
    """
    if metrics["failed"]:
        report.heading("Trials that failed")
        report.table(["round", "combination", "error"], [list(failed.values()) for failed in metrics["failed"]])


def labels_section(report: Report, metrics: dict[str, Any]) -> None:
    """Add the section on single labels: the confusion matrix, and each label's recall and precision.

    Args:
        report: The report.
        metrics: Contents of `metrics.json`.
    """
    rows = metrics["by_label"]
    if not rows:
        return
    matrix = metrics["confusion"]
    report.heading("Label by label" if matrix is None else "Which label was taken for which")
    if matrix is not None and len(rows) <= _MOST_CHARTED:
        report.chart(confusion_chart(matrix, metrics["labels"]))
    least = [name for name in ("threshold",) if name in rows[0]]
    if least:
        report.paragraph("A text gets each label whose probability is above its threshold, which development data set.")
    figures = [[*_figures(row), *(row[name] for name in least)] for row in rows]
    report.table(["label", "examples", "recall", "precision", *least], figures)


def _figures(row: dict[str, Any]) -> list[Any]:
    true, answered, right = row["examples"], row["answered"], row["right"]
    recall = right / true if true else "none in the data"
    return [row["label"], true, recall, right / answered if answered else "never predicted"]
