"""The charts of a search report."""

from __future__ import annotations

from typing import Any

from bort.ose.metrics import row_name, standing

_MOST_BLOCKS_SHADED = 200
_ACCENT, _GREY = "#2563eb", "#9ca3af"


def front_chart(rows: list[dict[str, Any]], metrics: dict[str, Any]) -> Any:
    """Parameters, time and error of the candidates, with their Pareto front."""
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
                text=[f"{row_name(row)}<br>error {row['error']:.4f}<br>W {row['coefficient']:.4f}" for row in shown],
                hoverinfo="text",
            )
        )
    figure.add_trace(
        plotly.Scatter(
            x=[rows[0]["parameters"]],
            y=[rows[0]["time"]],
            mode="markers",
            name=f"{standing(metrics)}: {row_name(rows[0])}",
            marker={"symbol": "star", "size": 20, "color": "#dc2626"},
            hoverinfo="name",
        )
    )
    figure.update_xaxes(title="parameters")
    figure.update_yaxes(title=f"inference, {metrics['time_unit']}")
    figure.update_layout(legend={"orientation": "h", "y": 1.12})
    return figure


def weights_chart(rows: list[dict[str, Any]]) -> Any:
    """W of the candidates, best first."""
    import plotly.graph_objects as plotly

    figure = plotly.Figure(layout={"height": 360, "template": "plotly_white", "margin": {"t": 40}})
    figure.add_trace(
        plotly.Bar(
            x=[row_name(row) for row in rows],
            y=[row["coefficient"] for row in rows],
            marker={"color": [_ACCENT if row["pareto"] else _GREY for row in rows]},
        )
    )
    figure.update_xaxes(title="D,A,H,I (blue: on the Pareto front)", type="category")
    figure.update_yaxes(title="W")
    return figure


def order_chart(order: dict[str, Any], metrics: dict[str, Any]) -> Any:
    """Cost of all members relative to T, in order and with blocks.

    Args:
        order: The journal's `order` event.
        metrics: Metrics of the run.
    """
    import plotly.graph_objects as plotly

    shapes, parameters, times, blocks, taken = zip(*order["members"], strict=True)
    names = [",".join(map(str, shape)) for shape in shapes]
    most_parameters, longest = order["maximum"]
    shares = [own / most_parameters for own in parameters]
    figure = plotly.Figure(layout={"height": 400, "template": "plotly_white", "margin": {"t": 40}})
    for name, values in (("parameters", shares), ("time", [own / longest for own in times])):
        line = plotly.Scatter(y=values, mode="lines", name=f"{name}, share of T's", text=names)
        figure.add_trace(line)
    candidates = [place for place, is_taken in enumerate(taken) if is_taken]
    found = metrics["candidates"][0]["place"]
    for name, places, marker in (
        ("candidates, the first of each block", candidates, {"color": "#111827", "size": 7}),
        (standing(metrics), [found], {"symbol": "star", "size": 16, "color": "#dc2626"}),
    ):
        own = [shares[place] for place in places]
        texts = [names[place] for place in places]
        figure.add_trace(plotly.Scatter(x=places, y=own, mode="markers", name=name, marker=marker, text=texts))
    if metrics["epsilon"] > 1 and len(candidates) <= _MOST_BLOCKS_SHADED:
        for block in range(0, len(candidates), 2):
            within = [place for place, own in enumerate(blocks) if own == block]
            figure.add_vrect(x0=within[0] - 0.5, x1=within[-1] + 0.5, fillcolor="#64748b", opacity=0.12, line_width=0)
    figure.update_xaxes(
        title=f"place in the order by (parameters, time); shaded: every other block of {metrics['epsilon']}"
    )
    figure.update_yaxes(title="share of the maximum point's", type="log")
    figure.update_layout(legend={"orientation": "h", "y": 1.12})
    return figure
