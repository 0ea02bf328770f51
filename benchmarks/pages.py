"""Generate the result pages, and the figures in README and docs, from `benchmarks/results/*.json`.

    python -m benchmarks.pages

`benchmarks/RESULTS.md` is the index, `benchmarks/results/<page>.md` have the tables. In a document, `benchmarks.blocks`
generates the text between `<!-- BEGIN figures NAME -->` and `<!-- END figures NAME -->`. `benchmarks.plot` generates
the README's chart. Nothing is measured here.
"""

from __future__ import annotations

import argparse
import importlib
import json
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.common import FOLDER, Benchmark, Shown, table, targets_table
from benchmarks.fingerprints import ROOT, fingerprints
from bort.files import write_aside

PAGES = {
    "speed": "Speed and memory",
    "nano": "bort-nano and few labels",
    "agora": "Agora",
    "ose": "The search for an architecture",
    "tasks": "GLUE and SuperGLUE",
    "house": "Robustness and tests",
}
"""Pages in the order of the index, and their headings."""
NOTE = "<!-- Made by `python -m benchmarks.pages` from benchmarks/results/*.json. Do not edit. -->"


@dataclass(frozen=True)
class Result:
    """One file of `results/`, with the text that its benchmark makes from it."""

    name: str
    record: dict[str, Any]

    @cached_property
    def benchmark(self) -> Benchmark:
        """The benchmark that measured it."""
        found: Benchmark = importlib.import_module(self.record["benchmark"]).BENCHMARK
        return found

    @cached_property
    def shown(self) -> Shown:
        """The result in words and tables."""
        return self.benchmark.show(self.record["figures"], argparse.Namespace(**self.record["settings"]))

    @property
    def title(self) -> str:
        """Heading; if a benchmark has several results, it contains the end of the result's name."""
        variant = self.name.removeprefix(self.benchmark.name).lstrip("_").replace("_", " ")
        return self.benchmark.title + (f": {variant}" if variant else "")

    @property
    def anchor(self) -> str:
        """The heading's anchor, as on GitHub."""
        kept = "".join(c for c in self.title.lower() if c.isalnum() or c in " -_")
        return kept.replace(" ", "-")

    @cached_property
    def stale(self) -> bool:
        """Whether the code that the figures depend on has changed since."""
        return self.changed(self.benchmark.sources)

    def changed(self, sources: Sequence[str]) -> bool:
        """Whether files have changed since the measurement, or their fingerprints were not stored."""
        return any(self.record["sources"].get(name) != now for name, now in fingerprints(sources).items())

    @property
    def commit(self) -> str:
        """The short commit, for the index."""
        commit: str = self.record["commit"]
        return commit[:7]

    @property
    def when(self) -> str:
        """The date, marked if the result is stale."""
        return self.record["date"] + (", stale" if self.stale else "")


def results(folder: Path = FOLDER / "results") -> dict[str, Result]:
    """All results by name, ordered by page and, on a page, by date."""
    files = sorted(folder.glob("*.json"))
    found = [Result(file.stem, json.loads(file.read_text("utf-8"))) for file in files]
    order = list(PAGES)
    found.sort(key=lambda r: (order.index(r.benchmark.page), r.record["date"], r.name))
    return {result.name: result for result in found}


def index(found: Iterable[Result]) -> str:
    """`benchmarks/RESULTS.md`."""
    parts = [
        NOTE,
        "# Results",
        """
        All measurements and their targets. "level": the figure is within one standard error (±) of its target. "stale":
        the code behind the figure has changed since it was measured. An asterisk marks a setting that was chosen on
        test figures. Figures from different machines or dates are not comparable; ratios within a table are.
        [LOG.md](LOG.md) has finished experiments without a target, [README.md](README.md) explains how to measure.
        """,
    ]
    found = list(found)
    for page, heading in PAGES.items():
        rows = [row for result in found if result.benchmark.page == page for row in _rows(result, page)]
        if rows:
            head = ["question", "figure", "measured", "target", "result", "date", "commit"]
            parts += [f"## {heading}", _left(table(head, rows))]
    return _joined(parts)


def _rows(result: Result, page: str) -> list[list[str]]:
    """A result's rows in the index: one per target, or one with the answer."""
    link = f"[{result.benchmark.question}](results/{page}.md#{result.anchor})"
    end = [result.when, f"`{result.commit}`"]
    targets = [target for target in result.shown.targets if target.leads]
    if not targets:
        what = result.title if result.title != result.benchmark.title else ""
        return [[link, what, result.shown.figure, "none", "", *end]]
    rows = [[link, t.what, t.measured, t.wanted, t.result, *end] for t in targets]
    others = [target for target in result.shown.targets if not target.leads]
    if others:
        met = sum(target.met for target in others)
        rows.append([link, f"{len(others)} more, on its page", f"{met} met", "", "", *end])
    return [rows[0], *(["", *row[1:]] for row in rows[1:])]


def page_of(page: str, found: Iterable[Result]) -> str:
    """`benchmarks/results/<page>.md`."""
    parts = [NOTE, f"# {PAGES[page]}", "[All results](../RESULTS.md)"]
    for result in found:
        if result.benchmark.page != page:
            continue
        record, shown = result.record, result.shown
        packages = ", ".join(f"{package} {version}" for package, version in record["packages"].items())
        parts += [f"## {result.title}", f"**{result.benchmark.question}**"]
        if result.stale:
            parts.append(f"> Stale: the code behind it has changed since commit `{record['commit']}`.")
        parts += [shown.about, shown.body, targets_table(shown.targets)]
        parts.append(
            f"Reproduce: `{record['command']}`  \n{record['date']} (UTC), commit `{record['commit']}`, "
            f"{record['processor']}, {record['cores']} cores, {record['system']}, Python {record['python']}, {packages}"
        )
    return _joined(parts)


def _joined(parts: Iterable[str]) -> str:
    """Join paragraphs; plain text is wrapped."""
    made = []
    for part in parts:
        text = textwrap.dedent(part).strip("\n")
        if text:
            made.append(
                text if _is_laid_out(text) else textwrap.fill(" ".join(text.split()), 120, break_on_hyphens=False)
            )
    return "\n\n".join(made) + "\n"


def _is_laid_out(text: str) -> bool:
    return text.lstrip().startswith(("|", "#", "<", "1. ", "Reproduce")) or "\n\n" in text


def _left(markdown: str) -> str:
    """A table with all columns left-aligned, for columns of words."""
    return markdown.replace("---:", "---")


def replaced(text: str, name: str, block: str) -> str:
    """Put a block between its two markers.

    Raises:
        ValueError: The text does not hold both markers once, in their order.
    """
    begin, end = f"<!-- BEGIN figures {name} -->", f"<!-- END figures {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"must hold {begin} and {end} once each, in this order")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{block.strip()}\n{end}{after}"


def made(root: Path = ROOT) -> dict[Path, str]:
    """Every page and document with up-to-date figures."""
    from benchmarks import blocks, plot

    found = results(root / "benchmarks" / "results")
    pages = {root / "benchmarks" / "RESULTS.md": index(found.values())}
    for page in PAGES:
        pages[root / "benchmarks" / "results" / f"{page}.md"] = page_of(page, found.values())
    pages[root / plot.FILE] = plot.drawn(found)
    for document in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        text = document.read_text("utf-8")
        for name in blocks.named_in(text):
            text = replaced(text, name, blocks.made(name, found))
        pages[document] = text
    return pages


def main() -> None:
    for file, text in made().items():
        if not file.is_file() or file.read_text("utf-8") != text:
            with write_aside(file) as out:
                out.write(text)
            print(file.relative_to(ROOT))


if __name__ == "__main__":
    main()
