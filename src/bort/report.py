"""One static HTML page per run: a title, key figures, charts and tables. It loads no external resources."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from bort.files import write_aside

Curve = tuple[Sequence[float], Sequence[float]]
"""The x and the y of the points of a line."""

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: #2563eb; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.lead { opacity: .75; margin-top: 0 }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.2rem 0 }
.tile { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem 1rem; min-width: 8rem }
.tile b { display: block; font-size: 1.4rem } .tile span { opacity: .7; font-size: .85rem }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin: .5rem 0 }
th, td { text-align: left; padding: .3rem .7rem; border-bottom: 1px solid var(--line) }
td { overflow-wrap: anywhere }
th { font-weight: 600; background: var(--soft) } td.number, th.number { text-align: right }
.warning { border-left: 4px solid #d97706; padding: .4rem .8rem; background: #d9770618 }
.chart { background: #fff; border: 1px solid var(--line); border-radius: .5rem; padding: .25rem }
pre { background: var(--soft); padding: .8rem; white-space: pre-wrap; overflow-wrap: anywhere; border-radius: .4rem }
"""


class Report:
    """An HTML page that collects sections and is then written.

    Args:
        title: Heading of the page.
        lead: One sentence under it.
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self.title = title
        self._parts = [f"<h1>{html.escape(title)}</h1>", f'<p class="lead">{html.escape(lead)}</p>']
        self._charts = 0

    def tiles(self, figures: Iterable[tuple[str, str]]) -> None:
        """Add key figures, as (value, caption)."""
        cells = "".join(
            f'<div class="tile"><b>{html.escape(value)}</b><span>{html.escape(caption)}</span></div>'
            for value, caption in figures
        )
        self._parts.append(f'<div class="tiles">{cells}</div>')

    def heading(self, text: str) -> None:
        """Start a section."""
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def paragraph(self, text: str, *, warning: bool = False) -> None:
        """Add a paragraph, highlighted if it is a warning."""
        kind = ' class="warning"' if warning else ""
        self._parts.append(f"<p{kind}>{html.escape(text)}</p>")

    def code(self, text: str) -> None:
        """Add a command or a listing."""
        self._parts.append(f"<pre>{html.escape(text)}</pre>")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Add a table; numbers are right-aligned."""
        rows = list(rows)
        body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
        numeric = [any(_is_number(row[column]) for row in rows) for column in range(len(header))]
        head = "".join(
            f"<th{' class=number' if right else ''}>{html.escape(name)}</th>"
            for name, right in zip(header, numeric, strict=True)
        )
        self._parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")

    def chart(self, figure: Any) -> None:
        """Add a plotly figure; the page embeds the library's script once."""
        inline = figure.to_html(
            full_html=False,
            include_plotlyjs=self._charts == 0,
            config={"displaylogo": False, "responsive": True},
            div_id=f"chart-{self._charts}",  # random by default
        )
        self._charts += 1
        self._parts.append(f'<div class="chart">{inline}</div>')

    def made_with(self, made: Mapping[str, Any]) -> None:
        """Add the command, machine and package versions that produced the figures.

        Args:
            made: The result of `bort.runs.environment`.
        """
        self.heading("Made with")
        self.code(made["command"])
        machine = [["processor", f"{made['processor']}, {made['cores']} cores"], ["python", made["python"]]]
        self.table(["what", "which"], [*machine, *([name, version] for name, version in made["packages"].items())])

    def text(self) -> str:
        """The page's HTML; the same sections always give the same text."""
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{_STYLE}</style></head><body>"
            + "\n".join(self._parts)
            + "</body></html>\n"
        )

    def write(self, path: str | Path) -> None:
        """Write the page, whole or not at all."""
        with write_aside(path) as file:
            file.write(self.text())


def lines_chart(title: str, series: dict[str, Curve], x: str, y: str) -> Any:
    """A line chart of named (xs, ys) series with labelled axes."""
    import plotly.graph_objects as plotly

    figure = plotly.Figure(layout={"title": title, "height": 380, "template": "plotly_white"})
    for name, (xs, ys) in series.items():
        mode = "lines+markers" if len(xs) < 60 else "lines"
        figure.add_trace(plotly.Scatter(x=list(xs), y=list(ys), name=_plain(name), mode=mode))
    figure.update_xaxes(title=x)
    if all(float(value).is_integer() and value < 20 for xs, _ in series.values() for value in xs):
        figure.update_xaxes(dtick=1)  # rounds are counted, not measured
    figure.update_yaxes(title=y)
    return figure


def confusion_chart(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> Any:
    """A heat map of true against predicted labels, annotated with the counts."""
    import plotly.graph_objects as plotly

    size = 140 + 42 * len(labels)
    layout = {"height": size + 60, "width": max(420, size + 160), "template": "plotly_white"}
    figure = plotly.Figure(layout=layout)
    names = [_plain(label) for label in labels]
    heat = plotly.Heatmap(
        z=matrix, x=names, y=names, text=matrix, texttemplate="%{text}", colorscale="Blues", showscale=False
    )
    figure.add_trace(heat)
    figure.update_xaxes(title="predicted", type="category")
    figure.update_yaxes(title="true", type="category", autorange="reversed")
    return figure


def _plain(text: str) -> str:
    """Escape a text, because plotly interprets some HTML tags."""
    return html.escape(text, quote=False)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    if _is_number(value):
        shown = f"{value:,}" if isinstance(value, Integral) else f"{float(value):.4g}"
        return f'<td class="number">{shown}</td>'
    return f"<td>{html.escape(str(value))}</td>"
