"""The page on Python: its examples run, as do each library's ten jobs, and its table counts their lines."""

from __future__ import annotations

import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from bort.data.tables.examples import read_examples
from bort.model.checkpoints import example_data, locate

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text("utf-8")
JOBS = PAGE.partition("## Ten everyday jobs")[2]
_SNIPPET = re.compile(r"^([\w-]+)(, not run)?:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS = {"sentence-transformers": "sentence_transformers", "scikit-learn": "sklearn"}


def jobs() -> dict[str, dict[str, tuple[str, bool]]]:
    """By job and library the snippet, and whether it is run."""
    sections = re.split(r"^### (.+)$", JOBS, flags=re.MULTILINE)[1:]
    return {
        name: {found[1]: (found[3], not found[2]) for found in _SNIPPET.finditer(body)}
        for name, body in zip(sections[::2], sections[1::2], strict=True)
    }


def lines_of(code: str) -> int:
    """Lines that are neither blank nor a comment."""
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in code.splitlines())


def table() -> dict[str, dict[str, str]]:
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*$", JOBS, re.M)
    )
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def test_the_table_counts_the_lines_of_ten_jobs():
    counted = {
        name: {library: str(lines_of(code)) for library, (code, _) in snippets.items()}
        for name, snippets in jobs().items()
    }
    assert len(counted) == 10
    assert counted == {
        name: {library: count for library, count in row.items() if count != "–"} for name, row in table().items()
    }
    assert all("bort" in row and run for row in jobs().values() for _, run in [row["bort"]])


@pytest.fixture
def given(tmp_path, monkeypatch):
    """What the page says is there, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    examples = read_examples(example_data("support") / "train.jsonl")[:60]
    pool = read_examples(example_data("support") / "unlabelled.jsonl", labelled=False)[:20]
    texts, labels = [example.text for example in examples], [str(example.label) for example in examples]
    return {
        "MODEL": shutil.copytree(locate("bort-nano"), tmp_path / "encoder-folder").as_posix(),
        "texts": texts,
        "labels": labels,
        "dev_texts": texts[:20],
        "dev_labels": labels[:20],
        "new": [example.text for example in pool[:4]],
        "unlabelled": [example.text for example in pool],
        "pairs": list(pairwise(texts[:21])),
        "values": [len(text) / 10 + 0.05 for text in texts[:20]],
    }


@pytest.mark.slow
@pytest.mark.parametrize("library", ["bort", "sentence-transformers", "scikit-learn", "transformers"])
@pytest.mark.filterwarnings("ignore")  # of the other libraries that the page compares with
def test_every_job_runs(library, given, capsys):
    pytest.importorskip(NEEDS.get(library, library))
    namespace = dict(given)
    for name, snippets in jobs().items():
        code, runs = snippets.get(library, ("", False))
        if runs:
            exec(compile(code, f"{library}: {name}", "exec"), namespace)
    known = {*given["labels"]}
    assert len(namespace["answers"]) == 4
    assert all(str(getattr(answer, "label", answer)) in known for answer in namespace["answers"])
    assert len(namespace["probabilities"]) == 4
    assert len(namespace["found"]) == 20
    assert namespace["vectors"].shape[0] == 60
    assert "precision" in capsys.readouterr().out


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.partition("## Ten everyday jobs")[0], re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), {})
    out = capsys.readouterr().out
    assert "delivery" in out
    assert "accuracy" in out
