"""HTML report of an export: how much int8 loses, in which blocks, and on which rows."""

from __future__ import annotations

from typing import Any

from bort.export.timing import WAYS
from bort.report import Report

_COLUMNS = ("row", "label", "fp32", "int8", "text")
MOST_LOST = 50
"""Maximum number of rows that int8 made worse, in `metrics.json` and in the report."""
_WORSE = {
    "classification": "Right in fp32 and wrong in int8",
    "regression": "Further off in int8 than in fp32",
    "multilabel": "More labels wrong in int8 than in fp32",
}


def export_report(metrics: dict[str, Any]) -> Report:
    """Make the report of an export with a gate.

    Args:
        metrics: The content of `metrics.json`.
    """
    gate = metrics["gate"]
    kept, blocks = gate.get("kept_fp32", []), gate.get("blocks", {})
    page = Report(f"Export of {metrics['model']}", f"{gate['told']}.")
    whole = gate.get("whole_int8", gate["int8"])
    tiles = [(f"{gate['fp32']:.2f}", f"{gate['metric']}, fp32"), (f"{whole:.2f}", f"{gate['metric']}, int8")]
    if kept:
        tiles.append((f"{gate['int8']:.2f}", f"{gate['metric']}, int8 but for {len(kept)} of {len(blocks)}"))
    page.tiles(tiles)
    if times := metrics.get("ms_per_text"):
        page.heading("How fast each is here")
        page.paragraph("Milliseconds a text, where so many are asked about at once.")
        page.table(["", *WAYS], [(name, *(f"{found[way]:.3g}" for way in WAYS)) for name, found in times.items()])
    if blocks:
        page.heading("Where it comes from")
        page.paragraph("How far the outputs move with one block alone in int8: its share of the sum of all.")
        rest = metrics["precision"].partition("+")[0]  # of two engines, the gate is about the first
        rows = [(block, f"{share:.1%}", "fp32" if block in kept else rest) for block, share in blocks.items()]
        page.table(["block", "share", "written in"], sorted(rows, key=lambda row: -blocks[row[0]]))
    page.heading(f"{_WORSE[gate['task']]}: {gate['lost_rows']:,} of the rows")
    if metrics["lost"]:
        # fp32 is right on these rows, so its prediction is the label.
        columns = [name for name in _COLUMNS if not (gate["task"] == "classification" and name == "fp32")]
        page.table(columns, [[row[name] for name in columns] for row in metrics["lost"]])
    if gate["lost_rows"] > MOST_LOST:
        page.paragraph(f"The first {MOST_LOST} are shown.")
    if thresholds := metrics.get("thresholds"):
        page.heading("Answers that are sure enough")
        page.paragraph(
            f"An answer counts where its probability lies above its label's threshold: {thresholds['answered']:.1%} of"
            f" the rows are answered; {thresholds['right']:.1%} of the labels given are right. The thresholds were set"
            " on these same rows."
        )
        rows = [(name, least, *thresholds["counts"][name]) for name, least in thresholds["by_label"].items()]
        page.table(["label", "threshold", "rows", "answered", "rightly"], rows)
    return page
