"""The report page and the model card of an Agora run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from bort.finetuning.report import (
    failures_section,
    findings_section,
    head_section,
    labels_section,
    official_section,
)
from bort.report import Curve, Report, lines_chart

AS_PUBLISHED = (
    "The paper's rules (arXiv 2010.07990). It does not say how texts are changed, how many are made per mistake or"
    " which are dropped; these choices are ours. So are two guards: the best combination stays until the last round,"
    " and none above the median is dropped."
)
_COMPARED = (
    ("by Agora", None),
    ("plain fine-tuning, best of the same combinations", "plain"),
    ("linear head on the frozen encoder", "linear_head"),
    ("teacher", "teacher"),
)


def agora_report(name: str, metrics: dict[str, Any]) -> Report:
    """Build the report of a run.

    Args:
        name: Name of its folder.
        metrics: Contents of `metrics.json`.
    """
    metric, rounds = metrics["metric"], metrics["rounds"]
    where = "held-out" if metrics["held_out"] else "test"
    report = Report(f"Fine-tuning by Agora: {name}", _lead(metrics))
    low, high = metrics["test_confidence"][metric]
    gain = metrics["test"][metric] - metrics["plain"]["test"][metric]
    report.tiles(
        [
            (f"{metrics['test'][metric]:.3f}", f"{where} {metric} (95 %: {low:.3f} to {high:.3f})"),
            (f"{gain:+.3f}", f"against plain fine-tuning on {metrics['labels_used']['plain']} labels"),
            (f"{metrics['teacher']['test'][metric]:.3f}", "the teacher's"),
            (f"{_learned_from(metrics):,}", f"texts, {metrics['labels_used']['result']:,} labelled"),
        ]
    )
    report.paragraph(_of_labels(metrics))
    if metrics["as_published"]:
        report.paragraph(AS_PUBLISHED)
    if metrics["teacher"]["weak"] or not metrics["teacher"]["taught"]:
        report.paragraph(_of_poor_teacher(metrics), warning=True)
    if metrics["nothing_added"] is not None and metrics["teacher"]["taught"]:
        report.paragraph(f"No texts were added: {metrics['nothing_added']}.")
    if metrics["stopped_early"]:
        report.paragraph("Time ran out: this is the best model so far.", warning=True)
    if metrics["held_out"]:
        text = (
            f"No test data were given: {metrics['rows']['test']} of the training texts were held out, and judge here."
        )
        report.paragraph(text)
    findings_section(report, metrics)
    report.heading(f"On {where} data")
    report.table(
        ["model", metric, "95 % from", "to", f"development {metric}"],
        [_compared(metrics if part is None else metrics[part], name, metric) for name, part in _COMPARED],
    )
    text = "The development data steer what is trained on, so the score on them is not a fair estimate for other data."
    report.paragraph(text)
    official_section(report, metrics)
    labels_section(report, metrics)
    head_section(report, metrics)
    report.heading("Round by round")
    report.chart(lines_chart(f"Development {metric} of each combination", _curves(rounds), "round", metric))
    report.table(
        ["round", "fitted", "to texts", f"best {metric}", "mistakes", "new texts", "kept", "combinations gone"],
        [
            [
                f"{r['round']}{' (replayed)' if r['replayed'] else ''}",
                len(r["trials"]),
                r["train_size"],
                r["trials"][r["best"]]["score"],
                r["mistakes"],
                r["made"],
                r["kept"],
                ", ".join(r["trials"][place]["theta"] for place in r["pruned"]) or "none",
            ]
            for r in rounds
        ],
    )
    failures_section(report, metrics)
    dropped = sum((Counter(r["dropped"]) for r in rounds), Counter())
    if dropped:
        report.heading("New texts that were dropped")
        report.table(["why", "how many"], dropped.most_common())
    _weights(report, metrics)
    _labels(report, metrics)
    _examples(report, metrics["examples"])
    return report


def _lead(metrics: dict[str, Any]) -> str:
    """Return what the result is, in a few words."""
    if metrics["result"] == "head":
        return f"A linear head on the frozen encoder: {metrics['linear_head']['described']}."
    if not metrics["teacher"]["taught"]:
        return "One round of plain fine-tuning: no teacher was worth learning from."
    if metrics["nothing_added"] is not None:
        return "Plain fine-tuning, as no texts were added."
    how = (
        "Round after round, new texts near the best model's mistakes, labelled by a teacher, joined the training data."
    )
    return f"{how} The result is plain fine-tuning, without them." if metrics["best_round"] == 1 else how


def _learned_from(metrics: dict[str, Any]) -> int:
    """Return the number of texts that the result has learned: those of the last training, or else of its round.

    A linear head learns labelled texts alone.
    """
    if metrics["result"] == "head":
        return int(metrics["labels_used"]["result"])
    last, best_round = metrics["last_training"], metrics["rounds"][metrics["best_round"] - 1]
    return int(last["texts"] if last else best_round["train_size"])


def _of_labels(metrics: dict[str, Any]) -> str:
    used, last = metrics["labels_used"], metrics["last_training"]
    text = (
        f"The settings were chosen by models that had learned from {used['selection']} labels; the development score is"
        f" theirs. The result has learned from {used['result']} labels"
    )
    if last:
        passes = "1 pass" if last["epochs"] == 1 else f"{last['epochs']} passes"
        text += f": {last['texts']:,} texts in all, in {passes}, with nothing held back"
    if used["teacher"]:
        text += f". The teacher's head has learned from {used['teacher']} labels"
    return f"{text}. Plain fine-tuning, its rival here, is the best of the first round, with {used['plain']} labels."


def _of_poor_teacher(metrics: dict[str, Any]) -> str:
    weak = "The teacher is right in less than two thirds of the labelled data. " if metrics["teacher"]["weak"] else ""
    if metrics["teacher"]["taught"]:
        return f"{weak}What it teaches may do harm."
    result = "the linear head" if metrics["result"] == "head" else "plain fine-tuning"
    return (
        f"{weak}Nothing was learned from the teacher: on the development texts that it answers, "
        f"{metrics['nothing_added']}. The result is {result}. A better teacher helps; --weak-teacher use learns from "
        "this one all the same."
    )


def _compared(metrics: dict[str, Any], name: str, metric: str) -> list[Any]:
    return [name, metrics["test"][metric], *metrics["test_confidence"][metric], metrics["dev"][metric]]


def _curves(rounds: Sequence[dict[str, Any]]) -> dict[str, Curve]:
    scores: dict[str, list[tuple[float, float]]] = {}
    for done in rounds:
        for trial in done["trials"]:
            scores.setdefault(trial["theta"], []).append((done["round"], trial["score"]))
    return {theta: ([x for x, _ in points], [y for _, y in points]) for theta, points in scores.items()}


def _weights(report: Report, metrics: dict[str, Any]) -> None:
    """Add the weights of teacher and student to the report."""
    teacher, student = metrics["label_weights"]["teacher"], metrics["label_weights"]["student"]
    if not student:
        return
    how = "to the powers" if metrics["labels"] else "as a mean with the weights"
    report.heading("Who labelled the new texts")
    report.paragraph(
        f"The teacher and {_student(metrics)} together, {how} {teacher:.2f} and {student:.2f}, which suit the"
        " development data best."
    )


def _student(metrics: dict[str, Any]) -> str:
    """Return who labels with the teacher: in the last training if it learns new texts, otherwise in the rounds."""
    if metrics["last_training"] and metrics["best_round"] > 1:
        return "plain models trained on all given labels"
    return "the best model of each round"


def _labels(report: Report, metrics: dict[str, Any]) -> None:
    if not metrics["train_labels"] or len(metrics["train_labels"]) > 30:
        return
    report.heading("Labels of the training texts")
    given = metrics["given_labels"]
    report.table(
        ["label", "given", "added", "in all"],
        [[name, given[name], total - given[name], total] for name, total in metrics["train_labels"].items()],
    )
    counts = metrics["train_labels"].values()
    if max(counts) > 3 * max(1, min(counts)):
        text = (
            "Some labels are more than three times as frequent as others. --balance lets the rare ones count as much."
        )
        report.paragraph(text, warning=True)


def _examples(report: Report, examples: Sequence[dict[str, Any]]) -> None:
    for number, found in groupby(examples, key=lambda one: one["round"]):
        report.heading(f"From mistakes to new texts: round {number}")
        rows = []
        for one in found:
            taken = "" if one["taken_for"] is None else f" (taken for {one['taken_for']})"
            rows.append([one["mistake"], f"{one['label']}{taken}", one["new_text"], one["new_label"]])
        report.table(["mistake", "its label", "new text", "the label it got"], rows)


def model_card(folder: Path, metrics: dict[str, Any]) -> str:
    """Return the README of the model's folder.

    Args:
        folder: The model's folder.
        metrics: Contents of `metrics.json`.
    """
    metric, rows = metrics["metric"], metrics["rows"]
    where = "held out of the training data" if metrics["held_out"] else "of the test data"
    table = "\n".join(
        f"| {name} | {found['test'][metric]:.3f} | {found['test_confidence'][metric][0]:.3f} to "
        f"{found['test_confidence'][metric][1]:.3f} |"
        for name, found in ((name, metrics if part is None else metrics[part]) for name, part in _COMPARED)
    )
    teacher = metrics["teacher"]["name"]
    both = f" together with {_student(metrics)}" if metrics["label_weights"]["student"] else ""
    adding = sum(done["kept"] > 0 for done in metrics["rounds"])
    rounds = "1 round" if adding == 1 else f"{adding} rounds"
    grown = f"{rounds} added texts near the model's mistakes,\nlabelled by {teacher}{both}"
    head = metrics["result"] == "head"
    if head or metrics["best_round"] == 1:
        grown += ", which the result has not learned"
    if not adding:
        grown = f"no texts were added: {metrics['nothing_added']}"
    if not metrics["teacher"]["taught"]:
        grown = f"no texts were added because of the teacher, {teacher}:\n{metrics['nothing_added']}"
    how, chosen = "fine-tuned by", f"Combination: {metrics['best_theta']}, round {metrics['best_round']}"
    if head:
        how = "frozen, with a linear head that was not beaten by"
        chosen = f"Linear head: {metrics['linear_head']['described']}"
    listed = ", ".join(metrics["labels"])
    answers = {
        "classification": f"Answers with one of: {listed}.",
        "multilabel": f"Answers with all that fit, or none, of: {listed}.",
        "regression": "Answers with a number.",
    }[metrics["task"]]
    return f"""---
library_name: transformers
pipeline_tag: text-classification
---

# {folder.name}

A {metrics["task"]} model: `{metrics["model"]}`, {how} Agora (arXiv 2010.07990) with `bort finetune`. {answers}

{rows["train"]} labelled texts were given; {grown}.
{rows["dev"]} development texts chose the model and steered its training data.

{metric} on {rows["test"]} texts {where}:

| model | {metric} | 95 % interval |
|---|---:|---:|
{table}

{chosen}. Settings are in `config.yaml`, all figures in
`metrics.json`, charts and examples in `report.html`.

```python
import bort
print(bort.Predictor("{folder}").predict(["a text"]))
```
"""
