"""The report of an inspection from the output of `bort check --json`, and its tables, which the terminal shows too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bort.report import Report

_MOST_LABELS, _MOST_DOUBTS, _MOST_NEAR = 100, 200, 100
Rows = list[list[object]]


def parts_table(found: dict[str, Any]) -> tuple[list[str], Rows]:
    """Table of the rows and lengths of each part: header and rows."""
    rows: Rows = []
    for name, count in found["data"]["rows"].items():
        line: list[object] = [name, count]
        if lengths := found["lengths"].get(name):
            line += [lengths[what] for what in ("median", "most", "longest", "cut")]
        rows.append(line)
    head = ["part", "rows"]
    if found["lengths"]:
        limit = next(iter(found["lengths"].values()))["limit"]
        head += ["median tokens", "95 % have at most", "longest", f"cut at {limit}"]
    return head, rows


def labels_table(labels: dict[str, dict[str, int]], most: int) -> tuple[list[str], Rows]:
    """Table of the labels' counts in each part, the most frequent first: header and rows."""
    totals: dict[str, int] = {}
    for counts in labels.values():
        for name, count in counts.items():
            totals[name] = totals.get(name, 0) + count
    ordered = sorted(totals, key=lambda name: -totals[name])
    rows: Rows = [[name, *(counts.get(name, 0) for counts in labels.values())] for name in ordered[:most]]
    if len(ordered) > most:
        rows.append([f"… and {len(ordered) - most} more", *("" for _ in labels)])
    return ["label", *labels], rows


def doubts_table(doubts: Sequence[dict[str, Any]], most: int) -> tuple[list[str], Rows]:
    """Table of possibly wrong labels with their probabilities, the most doubtful first: header and rows."""
    rows: Rows = [
        [
            one["part"] if one["line"] is None else f"{one['part']} {one['line']}",
            _with_share(one["label"], one["probability_given"]),
            _with_share(one["answer"], one["probability"]),
            one["text"],
        ]
        for one in doubts[:most]
    ]
    return ["where", "label", "the head says", "text"], rows


def _with_share(label: str, probability: float | None) -> str:
    return label if probability is None else f"{label} ({probability:.2f})"


def check_report(found: dict[str, Any]) -> Report:
    """Build the report.

    Args:
        found: The output of `bort check --json`.
    """
    rows, labels = found["data"]["rows"], found["labels"]
    report = Report("What is in the data", ", ".join(rows))
    tiles = [(f"{sum(rows.values()):,}", "rows")]
    if labels:
        tiles.append((f"{len({name for counts in labels.values() for name in counts}):,}", "labels"))
    for kind, caption in (("near", "near duplicates"), ("doubts", "labels to look at")):
        if found[kind] is not None:
            tiles.append((f"{len(found[kind]):,}", caption))
    report.tiles(tiles)
    report.heading("What is odd")
    for finding in found["findings"]:
        report.paragraph(f"{finding[0].upper()}{finding[1:]}.", warning=True)
    if not found["findings"]:
        report.paragraph("Nothing was found.")
    report.heading("Parts and lengths")
    report.table(*parts_table(found))
    if labels:
        report.heading("Labels")
        report.table(*labels_table(labels, _MOST_LABELS))
    if found["doubts"]:
        _doubts(report, found["doubts"], found["judged"])
    if found["near"]:
        _near(report, found["near"], found["compared"])
    return report


def _doubts(report: Report, doubts: list[dict[str, Any]], judged: int) -> None:
    shown = min(_MOST_DOUBTS, len(doubts))
    report.heading("Labels to look at")
    report.paragraph(
        f"A linear head that has not seen a text is confident of another label than the given one, in "
        f"{len(doubts)} of {judged} labels. The most doubtful come first"
        + (f"; these are the first {shown}." if shown < len(doubts) else ".")
    )
    report.table(*doubts_table(doubts, _MOST_DOUBTS))


def _near(report: Report, near: list[dict[str, Any]], compared: int) -> None:
    report.heading("Near duplicates")
    report.paragraph(f"The nearest pairs among {compared} texts, by the cosine of their vectors.")
    rows = [
        [
            f"{one['near_place']}: {one['near_text']}",
            one["labels"][1] or "",
            f"{one['place']}: {one['text']}",
            one["labels"][0] or "",
            one["cosine"],
        ]
        for one in near[:_MOST_NEAR]
    ]
    report.table(["text", "label", "almost the same", "label", "cosine"], rows)
