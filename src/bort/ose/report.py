"""The page that a search leaves behind."""

from __future__ import annotations

import shlex
from typing import Any

from bort.ose.algorithm import SearchResult
from bort.ose.arguments import ExtractArguments
from bort.ose.plan import SearchPlan
from bort.ose.space import Shape
from bort.report import Report, made_with
from bort.runs import Run

_MOST_BLOCKS_SHADED = 200
_ACCENT, _GREY = "#2563eb", "#9ca3af"


def extract_report(
    run: Run, arguments: ExtractArguments, plan: SearchPlan, outcome: SearchResult[Shape], metrics: dict[str, Any]
) -> None:
    """Write `report.html`.

    Args:
        run: Its folder.
        arguments: Its settings.
        plan: The space and its costs.
        outcome: Of the search.
        metrics: What `metrics.json` says.
    """
    rows, best = metrics["candidates"], outcome.best
    top = metrics["maximum"]
    report = Report(
        f"Architecture search: {run.path.name}",
        "Which encoder saves most of the maximum point's size and time, for the error that it makes (OSE, arXiv "
        "2010.08512).",
    )
    report.tiles(
        [
            (str(best.member), "found: depth, heads, hidden, intermediate"),
            (f"{best.ranked.cost.parameters / 1e6:.2f} M", f"parameters, of {top['parameters'] / 1e6:.2f} M of T"),
            (_time(best.ranked.cost.time, metrics), f"an inference, of {_time(top['time'], metrics)} of T"),
            (f"{best.error:.3f}", _error_in_words(metrics)),
            (f"{best.coefficient:.4f}", "W-coefficient"),
        ]
    )
    report.heading("The Pareto front")
    report.table(
        ["D,A,H,I", "error", "parameters", metrics["time_unit"], "W"],
        [
            [_name(row), row["error"], row["parameters"], float(row["time"]), row["coefficient"]]
            for row in sorted(metrics["front"], key=lambda row: row["error"])
        ],
    )
    report.paragraph(
        "No other candidate is smaller, faster and more accurate at once: choose here by what the model is for. "
        + _decided(metrics),
    )
    if plan.warning:
        report.paragraph(f"The space lacks the weak AB^nC property: {plan.warning}.", warning=True)
    if metrics["diverged"]:
        text = f"{metrics['diverged']} of {len(rows)} candidates diverged. They score 0, and are in the table below."
        report.paragraph(text, warning=True)
    if metrics["failed"]:
        text = (
            f"{metrics['failed']} of {len(rows)} candidates failed: their training raised an error. The table names "
            "its class, journal.jsonl has its traceback, and --resume tries them again."
        )
        report.paragraph(text, warning=True)
    report.paragraph(_how(arguments, metrics))
    report.heading("Size, time and error")
    report.chart(_front_chart(rows, metrics))
    report.paragraph(
        "Full circles are the Pareto front: no other candidate is smaller, faster and more accurate at once. The star "
        "is what was found."
    )
    report.heading("W by candidate")
    report.chart(_weights_chart(rows))
    report.table(
        ["D,A,H,I", "W", "error", "parameters", metrics["time_unit"], "learning rate", "front", "seconds"],
        [
            [
                _name(row),
                row["coefficient"],
                row["failed"] or ("diverged" if row["diverged"] else f"{row['error']:.4f}"),
                row["parameters"],
                float(row["time"]),
                "" if row["learning_rate"] is None else f"{row['learning_rate']:g}",
                "yes" if row["pareto"] else "",
                row["seconds"],
            ]
            for row in rows
        ],
    )
    report.heading("The order of the space, and its blocks")
    report.chart(_order_chart(outcome, metrics))
    report.paragraph(_guarantee(metrics))
    if metrics["latency"] is not None:
        _latency(report, plan, metrics)
    _cost(report, arguments, metrics)
    report.heading("Going on")
    report.code(
        f"bort pretrain --architecture {run.path} --corpus … --tokenizer … --max-steps … --out …\n"
        f"bort pretrain --init {run.path / metrics['top'][0]} --corpus … --tokenizer … --max-steps … --out …"
    )
    report.heading("The same again")
    again = shlex.quote(str(run.path / "config.yaml"))
    report.code(f"bort extract --config {again} --no-resume --out {shlex.quote(str(run.path) + '-again')}")
    made_with(report)
    report.write(run.path / "report.html")


def _name(row: dict[str, Any]) -> str:
    return ",".join(str(row[axis]) for axis in Shape._fields)


def _decided(metrics: dict[str, Any]) -> str:
    """What W alone takes, and whether errors had a say in it."""
    decision, bound = metrics["decision"], metrics["max_error"]
    text = f"W alone would take {_name(metrics['by_w_alone'])}"
    text += "." if bound is None else f"; the answer is bound to an error of at most {bound:g}."
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
    if metrics["error_kind"] == "kl":
        return "error: KL to the teacher's outputs (nats)"
    return (
        f"error: cross-entropy with the teacher's outputs (nats; a perfect student: {metrics['teacher_entropy']:.3f})"
    )


def _how(arguments: ExtractArguments, metrics: dict[str, Any]) -> str:
    rates = ", ".join(f"{rate:g}" for rate in arguments.learning_rates)
    clipped = "" if arguments.clip_weights is None else f", weights kept within ±{arguments.clip_weights:g}"
    text = (
        f"T is {'⟨' + _name(metrics['maximum']) + '⟩'}. Its outputs come from {metrics['teacher']}. Each candidate saw "
        f"the same {arguments.steps} batches of {arguments.rows_per_step} rows of {arguments.row_length} tokens in the "
        f"same order, with {arguments.optimizer} (learning rates {rates}{clipped}), from the same seed. "
    )
    if arguments.optimizer == "sgd" and arguments.clip_weights is not None:
        return text + (
            "SGD and bounded weights are two assumptions of the paper's theorem. That the loss is smooth enough, and "
            "the steps are enough, is not shown; its bound is not claimed for this run."
        )
    return text + "The paper's theorem assumes SGD and bounded weights; its bound is not claimed for this run."


def _guarantee(metrics: dict[str, Any]) -> str:
    if metrics["epsilon"] == 1:
        return "Every member in a block was trained: the one found has the greatest W."
    kept, width = f"{metrics['kept_savings']:.3f}", metrics["epsilon"] - 1
    return (
        f"One member of each block of {metrics['epsilon']} was trained, the first. It saves at least {kept} times what "
        f"any other of its block does (computed). Where ln(error) changes by at most L from one member to the next, "
        f"the W found is at least {kept} exp(-{width} L) times the greatest. The candidates' own errors show an L of "
        f"{metrics['roughness']:.4f} or more, which would make it {metrics['guarantee_by_roughness']:.3f}; members "
        "that were not trained may be rougher."
    )


def _latency(report: Report, plan: SearchPlan, metrics: dict[str, Any]) -> None:
    latency = metrics["latency"]
    report.heading("Measured inference times")
    report.paragraph(
        f"{latency['members']} members were timed on {metrics['device']}, and a polynomial fitted. Of members left out "
        f"of the fit it is off by {100 * latency['mean_error']:.1f} % on average, {100 * latency['worst_error']:.1f} % "
        f"at most; the rank correlation is {latency['spearman']:.3f}."
    )
    polynomial = plan.costs.latency
    assert polynomial is not None
    timed = sorted(plan.costs.timed.items(), key=lambda item: item[1])
    report.table(
        ["D,A,H,I", "timed, ms", "polynomial, ms"],
        [[",".join(map(str, shape)), ms, polynomial(shape).total] for shape, ms in timed],
    )


def _cost(report: Report, arguments: ExtractArguments, metrics: dict[str, Any]) -> None:
    report.heading("What the search cost")
    report.table(
        ["what", "how much"],
        [
            ["candidates trained", f"{len(metrics['candidates'])} of {metrics['members']} members"],
            ["training steps of each", f"{arguments.steps} x {len(arguments.learning_rates)} learning rates"],
            ["tokens", f"{metrics['training_tokens'] / 1e6:.2f} M"],
            ["training", f"{metrics['training_seconds'] / 60:.1f} min on {metrics['device']}, {metrics['precision']}"],
            ["training all members as long (reckoned)", f"{metrics['all_members_seconds'] / 60:.1f} min"],
        ],
    )


def _front_chart(rows: list[dict[str, Any]], metrics: dict[str, Any]) -> Any:
    import plotly.graph_objects as plotly

    sound = [row for row in rows if row["error"] is not None]
    figure = plotly.Figure(layout={"height": 440, "template": "plotly_white", "margin": {"t": 40}})
    errors = [row["error"] for row in sound]
    for name, on_front in (("on the front", True), ("not on it", False)):
        shown = [row for row in sound if row["pareto"] == on_front]
        figure.add_trace(
            plotly.Scatter(
                x=[row["parameters"] for row in shown],
                y=[row["time"] for row in shown],
                mode="markers",
                name=name,
                marker={
                    "symbol": "circle" if on_front else "circle-open",
                    "size": 12,
                    "line": {"width": 1 if on_front else 3, "color": None if not on_front else "#111827"},
                    "color": [row["error"] for row in shown],
                    "cmin": min(errors),
                    "cmax": max(errors),
                    "colorscale": "Viridis",
                    "showscale": on_front,
                    "colorbar": {"title": "error"},
                },
                text=[f"{_name(row)}<br>error {row['error']:.4f}<br>W {row['coefficient']:.4f}" for row in shown],
                hoverinfo="text",
            )
        )
    figure.add_trace(
        plotly.Scatter(
            x=[rows[0]["parameters"]],
            y=[rows[0]["time"]],
            mode="markers",
            name=f"found: {_name(rows[0])}",
            marker={"symbol": "star", "size": 20, "color": "#dc2626"},
            hoverinfo="name",
        )
    )
    figure.update_xaxes(title="parameters")
    figure.update_yaxes(title=f"inference, {metrics['time_unit']}")
    figure.update_layout(legend={"orientation": "h", "y": 1.12})
    return figure


def _weights_chart(rows: list[dict[str, Any]]) -> Any:
    import plotly.graph_objects as plotly

    figure = plotly.Figure(layout={"height": 360, "template": "plotly_white", "margin": {"t": 40}})
    figure.add_trace(
        plotly.Bar(
            x=[_name(row) for row in rows],
            y=[row["coefficient"] for row in rows],
            marker={"color": [_ACCENT if row["pareto"] else _GREY for row in rows]},
        )
    )
    figure.update_xaxes(title="D,A,H,I (blue: on the Pareto front)", type="category")
    figure.update_yaxes(title="W")
    return figure


def _order_chart(outcome: SearchResult[Shape], metrics: dict[str, Any]) -> Any:
    import plotly.graph_objects as plotly

    members, maximum = outcome.ordering.members, outcome.ordering.maximum
    figure = plotly.Figure(layout={"height": 400, "template": "plotly_white", "margin": {"t": 40}})
    for name, shares in (
        ("parameters", [ranked.cost.parameters / maximum.parameters for ranked in members]),
        ("time", [ranked.cost.time / maximum.time for ranked in members]),
    ):
        figure.add_trace(
            plotly.Scatter(
                x=[ranked.place for ranked in members],
                y=shares,
                mode="lines",
                name=f"{name}, share of T's",
                text=[str(ranked.member) for ranked in members],
            )
        )
    taken = [ranked for ranked in members if ranked.taken]
    figure.add_trace(
        plotly.Scatter(
            x=[ranked.place for ranked in taken],
            y=[ranked.cost.parameters / maximum.parameters for ranked in taken],
            mode="markers",
            name="candidates, the first of each block",
            marker={"color": "#111827", "size": 7},
            text=[str(ranked.member) for ranked in taken],
        )
    )
    found = outcome.best.ranked
    figure.add_trace(
        plotly.Scatter(
            x=[found.place],
            y=[found.cost.parameters / maximum.parameters],
            mode="markers",
            name="found",
            marker={"symbol": "star", "size": 16, "color": "#dc2626"},
        )
    )
    if metrics["epsilon"] > 1 and len(taken) <= _MOST_BLOCKS_SHADED:
        for block in range(0, len(taken), 2):
            places = [ranked.place for ranked in members if ranked.block == block]
            figure.add_vrect(x0=places[0] - 0.5, x1=places[-1] + 0.5, fillcolor="#64748b", opacity=0.12, line_width=0)
    figure.update_xaxes(
        title=f"place in the order by (parameters, time); shaded: every other block of {metrics['epsilon']}"
    )
    figure.update_yaxes(title="share of the maximum point's", type="log")
    figure.update_layout(legend={"orientation": "h", "y": 1.12})
    return figure
