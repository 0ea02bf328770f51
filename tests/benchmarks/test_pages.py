"""The committed pages, the drawing and the figures in the documents are what the results say."""

from __future__ import annotations

import json
import re

import pytest
from benchmarks.common import Benchmark, Shown, Target
from benchmarks.fingerprints import ROOT
from benchmarks.pages import PAGES, Result, index, made, page_of, replaced, results

from benchmarks import blocks, pages, plot


@pytest.fixture(scope="module")
def wanted():
    try:
        return made()
    except LookupError as error:
        pytest.skip(f"needs the repository's history: {error}")


def test_committed_pages_and_figures_are_up_to_date(wanted):
    old = [str(file.relative_to(ROOT)) for file, text in wanted.items() if file.read_text("utf-8") != text]
    assert not old, f"run `make pages`: {', '.join(old)}"


def test_every_result_has_its_facts():
    for name, result in results().items():
        record = result.record
        assert re.fullmatch(r"[0-9a-f]{10}\+?", record["commit"]), name
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", record["date"]), name
        assert record["command"].startswith(f"python -m {record['benchmark']}"), name
        assert record["processor"], name
        assert record["packages"]["torch"], name
        assert result.benchmark.page in PAGES, name
        assert name.startswith(result.benchmark.name), name
        assert result.shown.figure or any(target.leads for target in result.shown.targets), name
        assert result.benchmark.sources, name
        assert all((ROOT / source).exists() for source in result.benchmark.sources), name


def test_results_about_the_whole_package_are_stale_once_it_changes():
    found = results()
    assert all("src" in found[name].benchmark.sources for name in ("chaos", "coverage", "fuzz"))


def test_every_link_of_the_index_leads_to_a_heading():
    text = (ROOT / "benchmarks" / "RESULTS.md").read_text("utf-8")
    links = re.findall(r"\((results/\w+\.md)#([^)]+)\)", text)
    assert links
    for file, anchor in links:
        headings = re.findall(r"^## (.*)$", (ROOT / "benchmarks" / file).read_text("utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_block_is_used():
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert {name for file in documents for name in blocks.named_in(file.read_text("utf-8"))} == blocks.BLOCKS.keys()


def result(monkeypatch, *, stale: bool = False, targets: tuple[Target, ...] = ()) -> Result:
    benchmark = Benchmark(
        "thing", "ose", "Thing", "What is it?", ("src",), lambda *_: Shown("It is.", "T", targets, "7")
    )
    monkeypatch.setattr(pages, "fingerprints", lambda sources: dict.fromkeys(sources, "new" if stale else "old"))
    facts = {"date": "2026-01-02", "command": "c", "processor": "p", "cores": 2, "system": "s", "python": "3"}
    facts |= {"commit": "abc", "sources": {"src": "old"}, "figures": {}, "settings": {}, "packages": {"torch": "2"}}
    made = Result("thing", facts)
    object.__setattr__(made, "benchmark", benchmark)
    return made


def test_the_index_has_a_line_for_each_leading_target(monkeypatch):
    targets = (Target("a", 2.0, ">=", 1.0), Target("b", 0.0, ">=", 1.0, leads=False))
    lines = [line for line in index([result(monkeypatch, targets=targets)]).splitlines() if line.startswith("| ")][2:]
    assert lines == [
        "| [What is it?](results/ose.md#thing) | a | 2 | >= 1 | met | 2026-01-02 | `abc` |",
        "|  | 1 more, on its page | 0 met |  |  | 2026-01-02 | `abc` |",
    ]


def test_a_stale_result_says_so(monkeypatch):
    old = result(monkeypatch, stale=True)
    assert "2026-01-02, stale" in index([old])
    assert "changed since commit `abc`" in page_of("ose", [old])
    new = result(monkeypatch)
    assert "2026-01-02, stale" not in index([new])
    assert "changed since" not in page_of("ose", [new])
    assert "It is." not in page_of("speed", [new])


def test_a_block_replaces_what_is_between_its_markers():
    text = "a\n<!-- BEGIN figures x -->\nold\n<!-- END figures x -->\nb\n"
    assert replaced(text, "x", "new\n") == "a\n<!-- BEGIN figures x -->\nnew\n<!-- END figures x -->\nb\n"
    assert replaced(replaced(text, "x", "new"), "x", "old") == text


@pytest.mark.parametrize(
    "text",
    [
        "<!-- BEGIN figures x -->",
        "<!-- END figures x --> <!-- BEGIN figures x -->",
        "<!-- BEGIN figures x --> <!-- END figures x --> <!-- END figures x -->",
    ],
)
def test_broken_markers_are_refused(text):
    with pytest.raises(ValueError, match="once each"):
        replaced(text, "x", "new")


def test_an_unknown_block_is_refused():
    with pytest.raises(KeyError, match="nothing"):
        blocks.made("nothing", {})


def test_the_drawing_moves_with_its_figures():
    found = results()
    before = plot.drawn(found)
    record = json.loads(json.dumps(found["inference"].record))
    for row in record["figures"]["results"]:
        row["texts_per_second"] /= 2
    assert plot.drawn(found | {"inference": Result("inference", record)}) != before
    assert plot.drawn(found) == before
