"""The leaderboards' files: names, headers, spellings, official numbers, and the zip of them."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from bort.errors import BortError
from bort.tasks.suites import submission
from bort.tasks.suites.reading import count_units, read_part
from bort.tasks.suites.submission import content, count_answers, pack, write
from bort.tasks.suites.table import TASKS

NAMES = {
    "glue": ["CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI-m", "MNLI-mm", "QNLI", "RTE", "WNLI", "AX"],
    "superglue": ["BoolQ", "CB", "COPA", "MultiRC", "ReCoRD", "RTE", "WiC", "WSC", "AX-b", "AX-g"],
}
DIGITS, TRUTH = {"0", "1"}, {"true", "false"}
TWO, THREE = {"entailment", "not_entailment"}, {"entailment", "neutral", "contradiction"}
GLUE_SPELLINGS = {"cola": DIGITS, "sst2": DIGITS, "mrpc": DIGITS, "qqp": DIGITS, "wnli": DIGITS}
GLUE_SPELLINGS |= {"mnli": THREE, "mnli_mm": THREE, "ax": THREE, "qnli": TWO, "rte": TWO}
SUPERGLUE_SPELLINGS = {"boolq": TRUTH, "wic": TRUTH, "wsc": {"True", "False"}, "cb": THREE, "copa": {0, 1}}
SUPERGLUE_SPELLINGS |= {"superglue_rte": TWO, "axb": TWO, "axg": TWO}


def answered(official, name: str) -> tuple[list, str]:
    """The test rows of a task, and its file for outputs that take each label in turn."""
    task = TASKS[name]
    rows = read_part(task, official, "test")
    width = len(task.labels) or 1
    logits = np.eye(width, dtype=np.float32)[np.arange(len(rows)) % width] * 3.14159
    return rows, content(task, rows, logits)


def test_the_file_names_are_the_servers():
    for suite, names in NAMES.items():
        ending = {"glue": "tsv", "superglue": "jsonl"}[suite]
        found = [task.submission for task in TASKS.values() if task.suite == suite]
        assert found == [f"{name}.{ending}" for name in names]


@pytest.mark.parametrize("name", [*GLUE_SPELLINGS, "stsb"])
def test_glue_files(official, name):
    rows, text = answered(official, name)
    assert text.endswith("\n")
    header, *lines = text.splitlines()
    assert header == "index\tprediction"
    cells = [line.split("\t") for line in lines]
    assert [cell[0] for cell in cells] == [str(i) for i in range(len(rows))]
    if name == "stsb":
        assert {cell[1] for cell in cells} == {"3.142"}
    else:
        assert {cell[1] for cell in cells} == GLUE_SPELLINGS[name]


@pytest.mark.parametrize("name", SUPERGLUE_SPELLINGS)
def test_superglue_files(official, name):
    rows, text = answered(official, name)
    records = [json.loads(line) for line in text.splitlines()]
    assert all(list(record) == ["idx", "label"] for record in records)
    assert [record["idx"] for record in records] == [row.idx[0] for row in rows]
    assert {record["label"] for record in records} == SUPERGLUE_SPELLINGS[name]
    assert not any(isinstance(record["label"], bool) for record in records)


def test_multirc_file_is_nested_as_the_data(official):
    _, text = answered(official, "multirc")
    records = [json.loads(line) for line in text.splitlines()]
    given = [json.loads(line) for line in (official / "superglue/MultiRC/test.jsonl").read_text().splitlines()]
    assert [record["idx"] for record in records] == [passage["idx"] for passage in given]
    for record, passage in zip(records, given, strict=True):
        assert list(record) == ["idx", "passage"]
        questions = record["passage"]["questions"]
        assert [q["idx"] for q in questions] == [q["idx"] for q in passage["passage"]["questions"]]
        for question, theirs in zip(questions, passage["passage"]["questions"], strict=True):
            assert [a["idx"] for a in question["answers"]] == [a["idx"] for a in theirs["answers"]]
            assert all(a["label"] in (0, 1) and list(a) == ["idx", "label"] for a in question["answers"])


def test_record_file_has_an_entity_a_question(official):
    _, text = answered(official, "record")
    records = [json.loads(line) for line in text.splitlines()]
    assert [record["idx"] for record in records] == [10, 11, 12, 13, 14, 15]
    assert all(record["label"] in ("Ann Lee", "Bob", "Rome") for record in records)


def test_race_file_has_the_letters_of_each_passage(official):
    rows, text = answered(official, "race_m")
    passages = json.loads(text)
    assert [passage["id"] for passage in passages] == ["middle0.txt", "middle1.txt", "middle2.txt"]
    assert [letter for passage in passages for letter in passage["answers"]] == list("ABCDAB")
    assert len(rows) == 6


@pytest.fixture
def small(monkeypatch, official):
    """The table with the made-up files' numbers of rows for official ones."""
    tasks = {}
    for name, task in TASKS.items():
        count = count_units(read_part(task, official, "test"), task)
        tasks[name] = replace(task, counts={**task.counts, "test": count})
    monkeypatch.setattr(submission, "TASKS", tasks)
    return tasks


def answer_all(official, tasks, folder, names) -> None:
    for name in names:
        rows = read_part(tasks[name], official, "test")
        write(tasks[name], rows, np.zeros((len(rows), len(tasks[name].labels) or 1), np.float32), folder)


@pytest.mark.parametrize("suite", ["glue", "superglue", "race"])
def test_a_whole_zip(official, small, tmp_path, suite):
    names = [name for name, task in small.items() if task.suite == suite]
    answer_all(official, small, tmp_path, names)
    path, lacking = pack(suite, tmp_path)
    assert (path.name, lacking) == (f"{suite}.zip", {})
    with zipfile.ZipFile(path) as packed:
        assert packed.namelist() == [small[name].submission for name in names]
        for name in names:
            assert packed.read(small[name].submission) == (tmp_path / small[name].submission).read_bytes()
    before = path.read_bytes()
    pack(suite, tmp_path)
    assert path.read_bytes() == before
    for name in names:
        assert count_answers(small[name], tmp_path / small[name].submission) == small[name].counts["test"]


def test_what_a_zip_lacks_is_named(official, small, tmp_path):
    answer_all(official, small, tmp_path, ["cola", "mrpc"])
    (tmp_path / "MRPC.tsv").write_text("index\tprediction\n0\t1\n")
    path, lacking = pack("glue", tmp_path)
    assert zipfile.ZipFile(path).namelist() == ["CoLA.tsv"]
    assert lacking["MRPC"] == "1 answers where the leaderboard wants 12"
    assert lacking["STS-B"] == "no answers"
    assert len(lacking) == 10


def test_answers_of_an_earlier_submission_are_left_out(official, small, tmp_path):
    answer_all(official, small, tmp_path, ["cola", "mrpc"])
    path, lacking = pack("glue", tmp_path, ["mrpc", "stsb"])
    assert zipfile.ZipFile(path).namelist() == ["CoLA.tsv"]
    assert lacking["MRPC"] == "no new answers, and MRPC.tsv is of an earlier submission"
    assert lacking["STS-B"] == "no answers"


@pytest.mark.parametrize("end", ["\u2028", "\u0085", "\u2029", "\x0c", "\x1e", "\r"])
def test_an_entity_of_record_may_hold_what_unicode_takes_for_a_line_end(official, tmp_path, end):
    rows = [replace(row, candidate=f"Ann{end}Lee") for row in read_part(TASKS["record"], official, "test")]
    file = write(TASKS["record"], rows, np.zeros((len(rows), 2), np.float32), tmp_path)
    assert count_answers(TASKS["record"], file) == 6
    path, lacking = pack("superglue", tmp_path)
    assert path.is_file()
    assert lacking["ReCoRD"] == "6 answers where the leaderboard wants 10,000"


@pytest.mark.parametrize(
    ("name", "text"), [("cola", "a\tb\n"), ("cola", ""), ("multirc", '{"idx": 0}\n'), ("copa", "x\n")]
)
def test_a_foreign_file_is_refused(tmp_path, name, text):
    file = tmp_path / TASKS[name].submission
    file.write_text(text)
    with pytest.raises(BortError, match=f"must be a file of answers to {TASKS[name].title}"):
        count_answers(TASKS[name], file)
