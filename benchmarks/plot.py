"""The README's chart: accuracy with few labels, by task and against texts per second.

Made from results/few_labels.json and results/inference.json.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.quality.rivals import Scores, measured, overall

FILE = "docs/accuracy.svg"
WIDTH, HEIGHT = 860, 400
TOP, BOTTOM = 74, 336
LEFT, MIDDLE = (56, 476), (516, 844)
LOWEST, HIGHEST = 45.0, 100.0
INK, GREY, LINE = "#24292f", "#57606a", "#d8dee4"


@dataclass(frozen=True)
class Series:
    """A method's place in the chart."""

    student: str
    method: str
    label: str
    colour: str
    shape: str
    timed: str
    """The model in results/inference.json whose speed it has."""
    below: int = 0
    """Pixels by which its label is moved down, to avoid overlaps."""

    def mark(self, x: float, y: float) -> str:
        """A circle, a diamond, a square or a triangle."""
        if self.shape == "circle":
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5" fill="{self.colour}"/>'
        corners = {
            "square": ((-5, -5), (5, -5), (5, 5), (-5, 5)),
            "diamond": ((0, -7), (7, 0), (0, 7), (-7, 0)),
            "triangle": ((0, -6), (6, 5), (-6, 5)),
        }[self.shape]
        points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
        return f'<polygon points="{points}" fill="{self.colour}"/>'


SERIES = (
    Series("bort-nano", "Agora", "bort-nano, Agora", "#0969da", "circle", "bort-nano", below=-5),
    Series("all-MiniLM-L6-v2", "Agora", "MiniLM, Agora", "#8250df", "diamond", "minilm-l6", below=-18),
    Series("bort-nano", "plain fine-tuning", "bort-nano, plain", "#1a7f37", "triangle", "bort-nano", below=6),
    Series("bort-nano", "linear head", "bort-nano, head", "#bc4c00", "square", "bort-nano"),
    Series(
        "all-mpnet-base-v2",
        "model2vec with its own classifier",
        "model2vec",
        "#cf222e",
        "diamond",
        "static all-mpnet-base-v2",
    ),
    Series("", "TF-IDF + logistic regression", "TF-IDF", "#57606a", "square", "TF-IDF + logistic regression", below=-8),
)


def drawn(results: Mapping[str, Any]) -> str:
    """The SVG."""
    figures = results["few_labels"].record["figures"]
    rows = {(row["student"], row["method"]): row["test"] for row in figures["rows"]}
    sizes = {task: {"labels": parts["train"] + parts["dev"]} for task, parts in figures["sizes"].items()}
    shown = [series for series in SERIES if (series.student, series.method) in rows]
    tasks = sorted(sizes, key=lambda task: sizes[task]["labels"])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" font-family="-apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="12">',
        "<title>Test accuracy with few labels, by task and against texts per second</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT[0], 18, "Test accuracy in %, by task and its labels", bold=True),
        _text(MIDDLE[0], 18, "Mean accuracy and texts per second (2 cores, best engine)", bold=True),
        *_legend(shown),
        *_grid(),
    ]
    width = (LEFT[1] - LEFT[0]) / len(tasks)
    for place, task in enumerate(tasks):
        centre = LEFT[0] + width * (place + 0.5)
        parts.append(_text(centre, BOTTOM + 18, task, anchor="middle"))
        parts.append(_text(centre, BOTTOM + 34, f"{sizes[task]['labels']} labels", anchor="middle", colour=GREY))
        for number, series in enumerate(shown):
            values = [100 * score for score in measured(rows[series.student, series.method].get(task, ()))]
            if not values:
                continue
            x = centre + (number - (len(shown) - 1) / 2) * 14
            if len(values) > 1:
                low, high = _y(min(values)), _y(max(values))
                parts.append(f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="{series.colour}" stroke-width="1.5"/>')
            parts.append(series.mark(x, _y(statistics.mean(values))))
    parts += _rates(shown, rows, results["inference"].record["figures"]["results"])
    return "\n".join([*parts, "</svg>"]) + "\n"


def _rates(
    shown: Sequence[Series],
    rows: Mapping[tuple[str, str], Scores],
    timed: Sequence[Mapping[str, Any]],
) -> list[str]:
    """The right panel: lists of 256 texts of natural lengths, with the fastest engine."""
    parts = [_text(_x(tick), BOTTOM + 18, f"{tick:,}", anchor="middle") for tick in (1_000, 10_000, 100_000)]
    parts += [f'<path d="M{_x(tick):.1f} {BOTTOM}v5" stroke="{GREY}"/>' for tick in (1_000, 10_000, 100_000)]
    for series in shown:
        tests = rows[series.student, series.method]
        if len(tests) < max(map(len, rows.values())):
            continue  # a mean over fewer tasks is not comparable
        y = _y(overall(tests))
        rates = [r["texts_per_second"] for r in timed if r["model"] == series.timed and r["load"] == "256 texts"]
        if rates:
            x = _x(max(rates))
            end = x > (MIDDLE[0] + MIDDLE[1]) / 2
            parts.append(series.mark(x, y))
            parts.append(
                _text(x + (-11 if end else 11), y + 4 + series.below, series.label, anchor="end" if end else "start")
            )
    return parts


def _legend(shown: Sequence[Series]) -> list[str]:
    parts, x = [], LEFT[0] + 6
    for series in shown:
        parts += [series.mark(x, 42), _text(x + 12, 46, series.label)]
        x += 34 + 6.4 * len(series.label)
    return parts


def _grid() -> list[str]:
    parts = []
    for value in range(50, 101, 10):
        for start, end in (LEFT, MIDDLE):
            parts.append(f'<path d="M{start} {_y(value):.1f}H{end}" stroke="{LINE}"/>')
        parts.append(_text(LEFT[0] - 8, _y(value) + 4, str(value), anchor="end", colour=GREY))
        parts.append(_text(MIDDLE[0] - 8, _y(value) + 4, str(value), anchor="end", colour=GREY))
    return parts


def _x(rate: float) -> float:
    """Position on a logarithmic axis from 500 to 200,000 texts per second."""
    return MIDDLE[0] + (MIDDLE[1] - MIDDLE[0]) * math.log(rate / 500) / math.log(200_000 / 500)


def _y(percent: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * (percent - LOWEST) / (HIGHEST - LOWEST)


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = INK, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{weight}>{text}</text>'
