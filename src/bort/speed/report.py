"""Results of a benchmark, for a terminal and as an HTML report."""

from __future__ import annotations

import contextlib
from typing import Any

from bort.report import Report
from bort.speed.race import REFERENCE_ENGINE

_LEFT = ("model", "engine")


def tables(figures: dict[str, Any], *, brief: bool = False) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, header and rows of each table; `brief` omits the ranges, for a terminal."""
    found = []
    references = sorted(
        {key for row in figures["results"] for key in row if key.startswith("times ")}, key=lambda name: "base" in name
    )
    for load in dict.fromkeys(row["load"] for row in figures["results"]):
        header = [*_LEFT, "ms", "range", "tokens/s", *(f"x {name[6:].split()[0]}" for name in references)]
        rows = [
            [
                row["model"],
                row["engine"],
                _short(row["ms"]["median"]),
                f"{_short(row['ms']['low'])} to {_short(row['ms']['high'])}",
                f"{row['tokens_per_second']:,.0f}",
                *(f"{row[name]['median']:.1f}" if name in row else "" for name in references),
            ]
            for row in sorted(
                (row for row in figures["results"] if row["load"] == load), key=lambda row: row["ms"]["median"]
            )
        ]
        if brief:
            place = header.index("range")
            header, *rows = [[*row[:place], *row[place + 1 :]] for row in (header, *rows)]
        found.append((load, header, rows))
    for load in dict.fromkeys(row["load"] for row in figures["like_for_like"]):
        same = [row for row in figures["like_for_like"] if row["load"] == load]
        others = list(dict.fromkeys(name for row in same for name in row["times"]))
        cells = [
            [
                row["model"],
                row["engine"],
                *(f"{row['times'][o]['median']:.1f}" if o in row["times"] else "" for o in others),
            ]
            for row in same
        ]
        title = f"{load}: times as fast as the others in the same engine and precision"
        found.append((title, [*_LEFT, *(f"x {name}" for name in others)], cells))
    firsts = [
        [
            row["model"],
            row["engine"],
            f"{row['seconds']['median']:.2f}",
            f"{row['megabytes']:.0f}",
            f"{row['disk']:.1f}",
        ]
        for row in figures["first_answers"]
    ]
    if firsts:
        found.append(("First answer of a new process", [*_LEFT, "seconds", "peak MB in memory", "MB on disk"], firsts))
    return found


def notes(figures: dict[str, Any]) -> list[str]:
    """Notes that explain the tables."""
    rounds = " and ".join(str(count) for count in dict.fromkeys(figures["rounds"].values()))
    found = [
        f"{_threads(figures)}; medians of {rounds} rounds in which all took turns. Token ids in, "
        "logits out; models without a folder have random weights, which does not change their speed.",
    ]
    if any(key.startswith("times ") for row in figures["results"] for key in row):
        found.append(
            f"x bert-large, x bert-base: how many times as fast as these in {REFERENCE_ENGINE} (PyTorch, fp32), in "
            "whatever engine the row is."
        )
    if figures["left_out"]:
        found.append(f"Not measured: {', '.join(figures['left_out'])}; name them with --engines.")
    return found


def speed_report(figures: dict[str, Any]) -> Report:
    """Make the HTML report of a benchmark.

    Args:
        figures: The content of `benchmark.json`.
    """
    own = figures["like_for_like"][0]["model"] if figures["like_for_like"] else figures["results"][0]["model"]
    page = Report("Speed", f"{own} on {figures['environment']['processor']}, {_threads(figures)}")
    keys = [key for key in figures["results"][0] if key.startswith("times ")]
    best = [
        (max(row[key]["median"] for row in figures["results"] if row["model"] == own and key in row), key[6:])
        for key in keys
    ]
    page.tiles([(f"{value:.1f} x", f"{name}, at best") for value, name in best])
    for note in notes(figures):
        page.paragraph(note)
    for load in dict.fromkeys(row["load"] for row in figures["results"]):
        page.chart(_chart(load, [row for row in figures["results"] if row["load"] == load]))
    for title, header, rows in tables(figures):
        page.heading(title)
        page.table(header, [[_number(cell) for cell in row] for row in rows])
    page.heading("Run it again")
    page.code(figures["command"])
    return page


def _chart(load: str, rows: list[dict[str, Any]]) -> Any:
    """Milliseconds by model, with one bar per engine, on a logarithmic axis."""
    import plotly.graph_objects as plotly

    figure = plotly.Figure(layout={"title": load, "height": 420, "template": "plotly_white", "barmode": "group"})
    for engine in dict.fromkeys(row["engine"] for row in rows):
        own = [row for row in rows if row["engine"] == engine]
        spread = {
            "array": [row["ms"]["high"] - row["ms"]["median"] for row in own],
            "arrayminus": [row["ms"]["median"] - row["ms"]["low"] for row in own],
        }
        figure.add_trace(
            plotly.Bar(
                name=engine,
                x=[row["model"] for row in own],
                y=[row["ms"]["median"] for row in own],
                error_y={"type": "data", **spread, "thickness": 1},
            )
        )
    figure.update_yaxes(title="milliseconds", type="log")
    return figure


def _threads(figures: dict[str, Any]) -> str:
    return f"{figures['threads']} thread{'s' if figures['threads'] > 1 else ''}"


def _short(milliseconds: float) -> str:
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def _number(cell: str) -> Any:
    """Convert a numeric cell to a number, which tables align to the right."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(cell.replace(",", ""))
    return cell
