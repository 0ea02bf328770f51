"""The report page of a search."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from bort.ose.charts import front_chart, order_chart, weights_chart
from bort.ose.metrics import is_answered, row_name, standing
from bort.report import Report


def extract_report(run: Path, metrics: dict[str, Any], order: dict[str, Any]) -> Report:
    """Create the report page of a search.

    Args:
        run: Folder of the run.
        metrics: Contents of `metrics.json`.
        order: The journal's `order` event.
    """
    rows, top = metrics["candidates"], metrics["maximum"]
    best, answered = rows[0], is_answered(metrics)
    report = Report(
        f"Architecture search: {run.name}",
        "Which encoder saves most of the maximum point's size and time, for the error that it makes (OSE, arXiv "
        "2010.08512).",
    )
    report.tiles(
        [
            (f"⟨{row_name(best)}⟩", f"{standing(metrics)}: depth, heads, hidden, intermediate" + _vocabulary(best)),
            (f"{best['parameters'] / 1e6:.2f} M", f"parameters, of {top['parameters'] / 1e6:.2f} M of T"),
            (_time(best["time"], metrics), f"an inference, of {_time(top['time'], metrics)} of T"),
            (f"{best['error']:.3f}", _error_in_words(metrics)),
            (f"{best['coefficient']:.4f}", "W-coefficient"),
        ]
    )
    if not answered:
        text = f"No candidate has an error of at most {metrics['max_error']:g}, so there is no answer. --resume with a "
        report.paragraph(text + "greater --max-error judges the candidates again.", warning=True)
    report.heading("The Pareto front")
    report.table(
        [_axes(best), "error", "parameters", metrics["time_unit"], "W", "level with the best W"],
        [
            [
                row_name(row),
                row["error"],
                row["parameters"],
                float(row["time"]),
                row["coefficient"],
                _yes(row["level"]),
            ]
            for row in sorted(metrics["front"], key=lambda row: row["error"])
        ],
    )
    report.paragraph(
        "No other candidate is smaller, faster and more accurate at once: choose here by what the model is for. "
        + _decided(metrics),
    )
    report.paragraph(_trust(metrics))
    if metrics["weak_abnc"] != "holds":
        report.paragraph(f"The space lacks the weak AB^nC property: {metrics['weak_abnc']}.", warning=True)
    if metrics["diverged"]:
        text = f"{metrics['diverged']} of {len(rows)} candidates diverged. They score 0, and are in the table below."
        report.paragraph(text, warning=True)
    if metrics["failed"]:
        text = (
            f"{metrics['failed']} of {len(rows)} candidates failed: their training raised an error. The table names "
            "its class, journal.jsonl has its traceback, and --resume tries them again."
        )
        report.paragraph(text, warning=True)
    report.paragraph(_how(metrics))
    report.heading("Size, time and error")
    report.chart(front_chart(rows, metrics))
    report.paragraph(
        "Full circles are the Pareto front: no other candidate is smaller, faster and more accurate at once. The star "
        + ("is what was found." if answered else "has the greatest W.")
    )
    report.heading("W by candidate")
    report.chart(weights_chart(rows))
    report.table(
        [_axes(best), "W", "error", "parameters", metrics["time_unit"], "learning rate", "front", "seconds"],
        [
            [
                row_name(row),
                row["coefficient"],
                row["failed"] or ("diverged" if row["diverged"] else f"{row['error']:.4f}"),
                row["parameters"],
                float(row["time"]),
                "" if row["learning_rate"] is None else f"{row['learning_rate']:g}",
                _yes(row["pareto"]),
                row["seconds"],
            ]
            for row in rows
        ],
    )
    report.heading("The order of the space, and its blocks")
    report.chart(order_chart(order, metrics))
    report.paragraph(_guarantee(metrics))
    if metrics["latency"] is not None:
        _latency(report, metrics)
    _cost(report, metrics)
    report.heading("Going on")
    following = "--corpus … --tokenizer … --max-steps … --out …"
    checkpoint = f"bort pretrain --init {shlex.quote(str(run / metrics['top'][0]))} {following}"
    anew = f"bort pretrain --architecture {shlex.quote(str(run))} {following}"
    report.code(checkpoint if metrics["inherited"] or not answered else f"{anew}\n{checkpoint}")
    report.heading("The same again")
    again = f"bort extract --config {shlex.quote(str(run / 'config.yaml'))} --no-resume"
    if metrics["max_error"] is not None:  # a resumed run may have another than its config.yaml
        again += f" --max-error {metrics['max_error']}"
    report.code(f"{again} --out {shlex.quote(str(run) + '-again')}")
    return report


def _axes(row: dict[str, Any]) -> str:
    return "D,A,H,I,V" if "vocabulary" in row else "D,A,H,I"


def _vocabulary(row: dict[str, Any]) -> str:
    return ", vocabulary" if "vocabulary" in row else ""


def _yes(told: bool) -> str:
    return "yes" if told else ""


def _trust(metrics: dict[str, Any]) -> str:
    """Whether more steps or another seed would change the answer."""
    said = [
        f"The rank correlation of the errors after {int(steps) // 2} and {steps} steps is {rank:.2f}."
        for steps, rank in metrics["agreement_with_half_the_steps"].items()
        if rank is not None
    ]
    if (before := metrics["untrained_rank_correlation"]) is not None:
        said.append(f"That of the errors before and after these trainings is {before:.2f}.")
    noise = metrics["noise"]
    if noise["band"] is None:
        return " ".join([*said, "No candidate was trained from a second seed, so the noise of the errors is unknown."])
    others = max(len(metrics["level"]) - 1, 0)
    said.append(
        f"The best {len(noise['repeated'])} were trained again from another seed: ln(error) of equal candidates "
        f"differs by up to {noise['band']:.3f}, twice the deviation. {others} candidates are level with the best W by "
        "that."
    )
    return " ".join(said)


def _decided(metrics: dict[str, Any]) -> str:
    """Which candidate W alone would choose, and whether the errors influenced that."""
    decision, bound = metrics["decision"], metrics["max_error"]
    text = f"W alone would take {row_name(metrics['by_w_alone'])}"
    text += "." if bound is None else f"; the answer's error may be at most {bound:g}."
    text += (
        f" ln(error) spreads by {decision['spread_ln_error']:.3f} over the candidates, ln(savings) by "
        f"{decision['spread_ln_savings']:.3f} (standard deviations)."
    )
    if decision["rank_correlation"] is not None:
        text += (
            f" The rank correlation of W with the savings alone is {decision['rank_correlation']:.2f}: near 1, the "
            "errors decided nothing."
        )
    members = f"{metrics['could_win_as_perfect_students']} of {metrics['in_blocks']} members"
    return f"{text} {members} could have won at all, as perfect students."


def _time(value: float, metrics: dict[str, Any]) -> str:
    return f"{value:.1f} ms" if metrics["time_unit"] == "ms" else f"{value / 1e9:.3g} G operations"


def _error_in_words(metrics: dict[str, Any]) -> str:
    if metrics["outputs"] == "embeddings":
        return "error: 1 - cosine to the teacher's vectors"
    if metrics["error_kind"] == "kl":
        return "error: KL to the teacher's outputs (nats)"
    return (
        f"error: cross-entropy with the teacher's outputs (nats; a perfect student: {metrics['teacher_entropy']:.3f})"
    )


def _how(metrics: dict[str, Any]) -> str:
    rates = ", ".join(f"{rate:g}" for rate in metrics["learning_rates"])
    bound, sgd = metrics["clip_weights"], metrics["optimizer"] == "sgd"
    clipped = "" if bound is None else f", weights kept within ±{bound:g}"
    kind = "texts of up to" if metrics["outputs"] == "embeddings" else "rows of"
    start = "with the weights that it has in T" if metrics["inherited"] else "from the same seed"
    text = (
        f"T is ⟨{row_name(metrics['maximum'])}⟩. Its outputs come from {metrics['teacher']}. Each candidate saw the "
        f"same {metrics['steps']} batches of {metrics['rows_per_step']} {kind} {metrics['row_length']} tokens in the "
        f"same order, with {metrics['optimizer']} (learning rates {rates}{clipped}), {start}. "
    )
    if sgd and bound is not None:
        return text + (
            "SGD and bounded weights are two assumptions of the paper's theorem. That the loss is smooth enough, and "
            "the steps are enough, is not shown; its bound is not claimed for this run."
        )
    return text + "The paper's theorem assumes SGD and bounded weights; its bound is not claimed for this run."


def _guarantee(metrics: dict[str, Any]) -> str:
    bound, lost, unknown = metrics["max_error"], metrics["diverged"] + metrics["failed"], ""
    if lost:
        unknown = f" {lost} of {len(metrics['candidates'])} candidates gave no error, so their W is unknown."
    if not is_answered(metrics):
        return f"There is no answer.{unknown}"
    if metrics["epsilon"] == 1:
        among = "" if bound is None else f" of those with an error of at most {bound:g}"
        return f"Every member in a block was trained: the one found has the greatest W{among}.{unknown}"
    whose = "the W found" if bound is None else "the greatest W of the candidates, whatever their errors,"
    kept, width = f"{metrics['kept_savings']:.3f}", metrics["epsilon"] - 1
    return (
        f"One member of each block of {metrics['epsilon']} was trained, the first. It saves at least {kept} times what "
        f"any other of its block does (computed). Where ln(error) changes by at most L from one member to the next, "
        f"{whose} is at least {kept} exp(-{width} L) times the greatest. The candidates' own errors show an L of "
        f"{metrics['roughness']:.4f} or more, which would make it {metrics['guarantee_by_roughness']:.3f}; members "
        f"that were not trained may be rougher.{unknown}"
    )


def _latency(report: Report, metrics: dict[str, Any]) -> None:
    latency = metrics["latency"]
    report.heading("Measured inference times")
    report.paragraph(
        f"{latency['members']} members were timed on {metrics['device']}, and a polynomial fitted. Of members left out "
        f"of the fit it is off by {100 * latency['mean_error']:.1f} % on average, {100 * latency['worst_error']:.1f} % "
        f"at most; the rank correlation is {latency['spearman']:.3f}."
    )
    report.table(
        ["D,A,H,I", "timed, ms", "polynomial, ms"],
        [
            [",".join(map(str, shape)), ms, told]
            for shape, ms, told in sorted(latency["timed"], key=lambda timed: float(timed[1]))
        ],
    )


def _cost(report: Report, metrics: dict[str, Any]) -> None:
    report.heading("What the search cost")
    report.paragraph("Tokens and time are those of all trainings, also of those with fewer steps or from another seed.")
    report.table(
        ["what", "how much"],
        [
            ["candidates trained", f"{len(metrics['candidates'])} of {metrics['members']} members"],
            ["training steps of each", f"{metrics['steps']} x {len(metrics['learning_rates'])} learning rates"],
            ["tokens, at most", f"{metrics['training_tokens'] / 1e6:.2f} M"],
            [
                "all trainings",
                f"{metrics['training_seconds'] / 60:.1f} min on {metrics['device']}, {metrics['precision']}",
            ],
            ["training all members as long (estimated)", f"{metrics['all_members_seconds'] / 60:.1f} min"],
        ],
    )
