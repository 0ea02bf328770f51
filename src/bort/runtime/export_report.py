"""The page of an export: what int8 costs, which blocks it costs most, and on which rows."""

from __future__ import annotations

from pathlib import Path

from bort.report import Report
from bort.runtime.blocks import shares
from bort.runtime.precision import Choice

_MOST_SHOWN = 50


def write_report(file: Path, choice: Choice, model: str) -> None:
    """Write `report.html`."""
    whole, verdict, kept = choice.whole, choice.verdict, choice.kept
    page = Report(f"Export of {model}", f"{choice.told[0].upper()}{choice.told[1:]}.")
    tiles = [(f"{verdict.fp32:.2f}", f"{verdict.metric}, fp32"), (f"{whole.int8:.2f}", f"{whole.metric}, int8")]
    if kept:
        tiles.append((f"{verdict.int8:.2f}", f"{verdict.metric}, int8 but for {len(kept)} of {len(choice.movement)}"))
    page.tiles(tiles)
    if choice.movement:
        page.heading("Where it comes from")
        page.paragraph("How far the outputs move with one block alone in int8: its share of the sum of all.")
        rows = sorted(shares(choice.movement).items(), key=lambda item: -item[1])
        written = {block: "int8" if choice.quantization and block not in kept else "fp32" for block, _ in rows}
        page.table(["block", "share", "written in"], [(block, f"{share:.1%}", written[block]) for block, share in rows])
    where = (
        "Right in fp32 and wrong in int8" if verdict.kind == "classification" else "Further off in int8 than in fp32"
    )
    page.heading(f"{where}: {len(verdict.lost):,} rows")
    if verdict.lost:
        page.table(["row", "label", "fp32", "int8", "text"], verdict.lost[:_MOST_SHOWN])
    if len(verdict.lost) > _MOST_SHOWN:
        page.paragraph(f"The first {_MOST_SHOWN} are shown.")
    page.write(file)
