"""The page of an inspection, and its tables, which the terminal shows as well."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bort.inspection.examine import Examined
from bort.inspection.inspect import Doubt, Inspection
from bort.report import Report, made_with

_MOST_LABELS, _MOST_DOUBTS, _MOST_NEAR = 100, 200, 100
Rows = list[list[object]]


def parts_table(examined: Examined) -> tuple[list[str], Rows]:
    """Rows and lengths of each part: heading and lines."""
    rows: Rows = []
    for name, count in examined.inspection.check.rows.items():
        line: list[object] = [name, count]
        if found := examined.lengths.get(name):
            line += [found.median, found.most, found.longest, found.cut]
        rows.append(line)
    head = ["part", "rows"]
    if examined.lengths:
        limit = next(iter(examined.lengths.values())).limit
        head += ["median tokens", "95 % have at most", "longest", f"cut at {limit}"]
    return head, rows


def labels_table(examined: Examined, most: int) -> tuple[list[str], Rows]:
    """How often each label stands in each part, the most frequent first: heading and lines."""
    totals: dict[str, int] = {}
    for counts in examined.labels.values():
        for name, count in counts.items():
            totals[name] = totals.get(name, 0) + count
    ordered = sorted(totals, key=lambda name: -totals[name])
    rows: Rows = [[name, *(counts.get(name, 0) for counts in examined.labels.values())] for name in ordered[:most]]
    if len(ordered) > most:
        rows.append([f"… and {len(ordered) - most} more", *("" for _ in examined.labels)])
    return ["label", *examined.labels], rows


def doubts_table(doubts: Sequence[Doubt], most: int) -> tuple[list[str], Rows]:
    """Labels that are perhaps wrong, the most doubtful first, with their probabilities: heading and lines."""
    rows: Rows = [
        [
            one.part if one.line is None else f"{one.part} {one.line}",
            _with_share(one.label, one.probability_given),
            _with_share(one.answer, one.probability),
            one.text,
        ]
        for one in doubts[:most]
    ]
    return ["where", "label", "the head says", "text"], rows


def _with_share(label: str, probability: float | None) -> str:
    return label if probability is None else f"{label} ({probability:.2f})"


def write_page(examined: Examined, told: Sequence[str], path: str | Path) -> None:
    """Write the page.

    Args:
        examined: What was found.
        told: Further findings, in sentences.
        path: The file.
    """
    inspection = examined.inspection
    rows = inspection.check.rows
    report = Report("What is in the data", ", ".join(rows))
    tiles = [(f"{sum(rows.values()):,}", "rows")]
    if examined.labels:
        tiles.append((f"{len({name for counts in examined.labels.values() for name in counts}):,}", "labels"))
    if inspection.near is not None:
        tiles.append((f"{len(inspection.near):,}", "near duplicates"))
    if inspection.doubts is not None:
        tiles.append((f"{len(inspection.doubts):,}", "labels to look at"))
    report.tiles(tiles)
    findings = [*inspection.sentences(), *told]
    report.heading("What is odd")
    for finding in findings:
        report.paragraph(f"{finding[0].upper()}{finding[1:]}.", warning=True)
    if not findings:
        report.paragraph("Nothing was found.")
    report.heading("Parts and lengths")
    report.table(*parts_table(examined))
    if examined.labels:
        report.heading("Labels")
        report.table(*labels_table(examined, _MOST_LABELS))
    model_sections(report, inspection)
    made_with(report)
    report.write(path)


def model_sections(report: Report, inspection: Inspection) -> None:
    """The sections on labels that are perhaps wrong, and on near duplicates, where there are any.

    Args:
        report: The page.
        inspection: What was found.
    """
    if inspection.doubts:
        shown = min(_MOST_DOUBTS, len(inspection.doubts))
        report.heading("Labels to look at")
        report.paragraph(
            f"A linear head that has not seen a text is confident of another label than the given one, in "
            f"{len(inspection.doubts)} of {inspection.judged} labels. The most doubtful come first"
            + (f"; these are the first {shown}." if shown < len(inspection.doubts) else ".")
        )
        report.table(*doubts_table(inspection.doubts, _MOST_DOUBTS))
    if inspection.near:
        report.heading("Near duplicates")
        report.paragraph(f"The nearest pairs among {inspection.compared} texts, by the cosine of their vectors.")
        rows = [
            [
                f"{one.near_place}: {one.near_text}",
                one.labels[1] or "",
                f"{one.place}: {one.text}",
                one.labels[0] or "",
                one.cosine,
            ]
            for one in inspection.near[:_MOST_NEAR]
        ]
        report.table(["text", "label", "almost the same", "label", "cosine"], rows)
