"""The page of an export: what int8 costs, which blocks it costs most, and on which rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from bort.export.precision import Choice, shares
from bort.export.timing import WAYS, Speeds
from bort.predict.thresholds import Thresholds
from bort.report import Report

_COLUMNS = ("row", "label", "fp32", "int8", "text")
_MOST_SHOWN = 50
_WORSE = {
    "classification": "Right in fp32 and wrong in int8",
    "regression": "Further off in int8 than in fp32",
    "multilabel": "More labels wrong in int8 than in fp32",
}


def write_report(
    file: Path,
    model: str,
    choice: Choice,
    times: Mapping[str, Speeds] = MappingProxyType({}),
    thresholds: Thresholds | None = None,
) -> None:
    """Write `report.html`."""
    whole, verdict, kept = choice.whole, choice.verdict, choice.kept
    page = Report(f"Export of {model}", f"{choice.told}.")
    tiles = [(f"{verdict.fp32:.2f}", f"{verdict.metric}, fp32"), (f"{whole.int8:.2f}", f"{whole.metric}, int8")]
    if kept:
        tiles.append((f"{verdict.int8:.2f}", f"{verdict.metric}, int8 but for {len(kept)} of {len(choice.movement)}"))
    page.tiles(tiles)
    if times:
        page.heading("How fast each is here")
        page.paragraph("Milliseconds a text, where so many are asked about at once.")
        page.table(["", *WAYS], [(name, *(f"{found[way]:.3g}" for way in WAYS)) for name, found in times.items()])
    if choice.movement:
        page.heading("Where it comes from")
        page.paragraph("How far the outputs move with one block alone in int8: its share of the sum of all.")
        blocks = sorted(shares(choice.movement).items(), key=lambda item: -item[1])
        written = {block: "int8" if choice.quantization and block not in kept else "fp32" for block, _ in blocks}
        page.table(
            ["block", "share", "written in"], [(block, f"{share:.1%}", written[block]) for block, share in blocks]
        )
    classes = verdict.kind == "classification"
    where = _WORSE[verdict.kind]
    page.heading(f"{where}: {len(verdict.lost):,} of the rows")
    if verdict.lost:
        # What fp32 answers rightly is the label itself.
        columns = [name for name in _COLUMNS if not (classes and name == "fp32")]
        shown = [dict(zip(_COLUMNS, row, strict=True)) for row in verdict.lost[:_MOST_SHOWN]]
        page.table(columns, [[row[name] for name in columns] for row in shown])
    if len(verdict.lost) > _MOST_SHOWN:
        page.paragraph(f"The first {_MOST_SHOWN} are shown.")
    if thresholds:
        page.heading("Answers that are sure enough")
        page.paragraph(
            f"An answer counts where its probability lies above its label's threshold: {thresholds.answered:.1%} of the"
            f" rows are answered, {thresholds.right:.1%} of those rightly. The thresholds were set on these same rows."
        )
        rows = [(name, least, *thresholds.counts[name]) for name, least in thresholds.by_label.items()]
        page.table(["label", "threshold", "rows", "answered", "rightly"], rows)
    page.write(file)
