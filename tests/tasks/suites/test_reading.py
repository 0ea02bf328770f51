"""The official files: every row of them read, and what is malformed refused with its place."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.tasks.suites.reading import count_units, has_part, is_labelled, read_part, say_what_is_odd
from bort.tasks.suites.table import TASKS
from official_files import MNLI_PAIRS

PARTS = [(name, part) for name, task in TASKS.items() for part in task.counts]
WHOLE = [
    *[(name, part) for name in ("cola", "sst2", "mrpc", "stsb", "rte", "wnli") for part in ("train", "dev", "test")],
    *[(name, part) for name in ("cb", "copa", "wsc") for part in ("train", "dev", "test")],
    *[("qnli", "dev"), ("qnli", "test"), ("ax", "test")],
]


@pytest.mark.parametrize(("name", "part"), WHOLE)
def test_official_files_have_the_official_number_of_rows(shared, name, part):
    task = TASKS[name]
    rows = read_part(task, shared / "data" / task.suite, part, labelled=part != "test")
    assert count_units(rows, task) == task.counts[part]
    assert [row.idx[0] for row in rows] == list(range(len(rows)))
    # MRPC's test file is the one that comes with labels.
    assert is_labelled(rows) == (part != "test" or name == "mrpc")


def test_67349_rows_are_read_in_seconds(shared):
    started = time.process_time()
    read_part(TASKS["sst2"], shared / "data", "train")
    assert time.process_time() - started < 10


@pytest.mark.parametrize("name", ["wic", "boolq", "multirc", "record", "superglue_rte"])
def test_official_examples_of_tasks_that_are_not_at_hand(shared, name):
    task = TASKS[name]
    rows = read_part(task, shared / "data/superglue", "train")
    assert {row.example.label for row in rows} == set(task.labels)
    assert len({row.idx[0] for row in rows}) == 32
    assert count_units(rows, task) == {"multirc": 154}.get(name, 32)  # a passage of MultiRC has several answers


@pytest.mark.parametrize("name", ["race_m", "race_h"])
def test_official_passages_of_race(shared, name):
    rows = read_part(TASKS[name], shared / "data/race", "dev", labelled=True)
    assert len({row.idx[0] for row in rows}) == 25
    assert all(len(row.example.choices) == 4 for row in rows)
    assert {row.example.label for row in rows} == set("ABCD")


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_every_part_is_read_from_its_layout(official, name, part):
    task = TASKS[name]
    assert has_part(task, official, part)
    assert has_part(task, official / task.suite, part)
    rows = read_part(task, official, part)
    hidden = part == "test" and name not in ("axb", "axg", "race_m", "race_h")
    assert is_labelled(rows) != hidden
    if not hidden and task.labels:
        assert {row.example.label for row in rows} <= set(task.labels)
    assert len({row.example.source for row in rows}) == (3 if task.suite == "race" else 1)


def test_a_tasks_own_folder_may_be_named(official):
    assert read_part(TASKS["cola"], official / "glue/CoLA", "dev") == read_part(TASKS["cola"], official, "dev")


def test_both_rte_are_told_apart(official):
    glue, superglue = (read_part(TASKS[name], official, "train")[0].example for name in ("rte", "superglue_rte"))
    assert glue.source.endswith("glue/RTE/train.tsv")
    assert superglue.source.endswith("superglue/RTE/train.jsonl")


def test_quotes_are_text(official):
    texts = [row.example.text for row in read_part(TASKS["cola"], official, "train")]
    assert 'She said "no".' in texts


def test_what_is_not_there(official, tmp_path):
    with pytest.raises(BortError, match="no such folder"):
        read_part(TASKS["cola"], tmp_path / "nosuch", "dev")
    with pytest.raises(BortError, match=r"holds no dev data of CoLA: there must be CoLA/dev.tsv"):
        read_part(TASKS["cola"], tmp_path, "dev")
    with pytest.raises(BortError, match=r"there must be train/middle/\*.txt"):
        read_part(TASKS["race_m"], tmp_path, "train")
    with pytest.raises(BortError, match="AX has no train data; it has test"):
        read_part(TASKS["ax"], official, "train")
    assert not has_part(TASKS["ax"], official, "train")
    with pytest.raises(BortError, match=r"test.tsv:2: a label must be there"):
        read_part(TASKS["cola"], official, "test", labelled=True)


COPA = {"premise": "It fell.", "choice1": "a", "choice2": "b", "question": "cause", "label": 0, "idx": 0}
WIC = {"word": "b", "sentence1": "A b.", "sentence2": "A b.", "start1": 2, "end1": 3, "start2": 2, "end2": 3}
SPANS = {"span1_text": "Ann", "span1_index": 0, "span2_text": "she", "span2_index": 1}
RECORD = {"idx": 0, "passage": {"text": "Ann", "entities": [{"start": 0, "end": 2}]}}
MALFORMED = [
    ("cola", "x\t1\t\tText\nx\t0\tText", r"train.tsv:2: .*as many cells as the format has columns, 4, not 3"),
    ("cola", "x\t1\t\tText\nx\t2\t\tText", r"train.tsv:2: column 'label': value '2': must be one of 0, 1"),
    ("cola", "x\t1\t\t ", r"train.tsv:1: column 'sentence': .*must not be blank"),
    ("mrpc", "Quality\t#1 String\nx\ty", r"train.tsv:2: column '#2 String': must be there; the fields are 'Quality'"),
    (
        "stsb",
        "sentence1\tsentence2\tscore\na\tb\t5.5",
        r":2: column 'score': value '5.5': must be a number from 0 to 5",
    ),
    ("stsb", "sentence1\tsentence2\tscore\na\tb\tnan", r":2: column 'score'"),
    (
        "rte",
        "index\tsentence1\tsentence2\tlabel\nx\ta\tb\tentailment",
        r":2: column 'index': value 'x': must be a whole",
    ),
    ("cb", '{"premise": "a", "hypothesis": 3, "idx": 0}', r":1: column 'hypothesis': value 3: must be a text"),
    ("cb", '{"premise": "a", "hypothesis": "b"', r"train.jsonl:1: .*must be valid JSON"),
    ("cb", "[1]", r"train.jsonl:1: .*must be a JSON object"),
    ("copa", json.dumps(COPA | {"question": "why"}), r":1: column 'question': value 'why': must be cause or effect"),
    ("copa", json.dumps(COPA | {"label": 2}), r":1: column 'label': value 2: must be one of 0, 1"),
    ("copa", json.dumps(COPA | {"idx": -1}), r":1: column 'idx': value -1: must be a whole number from 0"),
    ("wic", json.dumps(WIC | {"end1": 9}), r":1: column 'end1': value 9: must lie within the sentence"),
    ("wsc", json.dumps({"text": "Ann she", "target": SPANS | {"span1_index": 7}}), r":1: column 'target': value 7"),
    ("wsc", json.dumps({"text": "Ann she", "target": 1}), r":1: column 'target': value 1: must be an object"),
    ("multirc", '{"idx": 0, "passage": {"text": "a", "questions": 1}}', r":1: column 'questions': value 1"),
    ("record", json.dumps(RECORD | {"qas": [{"query": "Who?", "idx": 0}]}), r"must hold @placeholder"),
    ("record", json.dumps(RECORD | {"qas": [{"idx": 0}]}), r":1: column 'query': must be there"),
]


@pytest.mark.parametrize(("name", "text", "message"), MALFORMED)
def test_a_malformed_row_is_refused_with_its_place(tmp_path, name, text, message):
    task = TASKS[name]
    file = tmp_path / task.title / task.files["train"][0]
    file.parent.mkdir()
    file.write_text(text + "\n", "utf-8")
    with pytest.raises(BortError, match=message) as caught:
        read_part(task, tmp_path, "train")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"1.txt:1: must be one JSON object"),
        ("[]", "must be one JSON object"),
        ('{"article": "a", "questions": ["q"], "options": []}', "column 'options': .*one item a question"),
        ('{"article": "a", "questions": ["q"], "options": [["a", "b"]]}', "must hold 4 options"),
        ('{"article": "a", "questions": ["q"], "options": [["a","b","c","d"]], "answers": ["E"]}', "one of A, B, C, D"),
    ],
)
def test_a_malformed_passage_is_refused(tmp_path, text, message):
    file = tmp_path / "train/middle/1.txt"
    file.parent.mkdir(parents=True)
    file.write_text(text, "utf-8")
    with pytest.raises(BortError, match=message):
        read_part(TASKS["race_m"], tmp_path, "train")


def test_qqps_torn_rows_are_counted_and_left_out(tmp_path, capsys):
    """Some of its questions hold line breaks, in the official files; copies differ in how many."""
    head = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    file = tmp_path / "QQP/train.tsv"
    file.parent.mkdir()
    file.write_text(head + "1\t1\t2\tWho?\tWho is it?\t1\n" + "torn\tin two\n" * 21, "utf-8")
    assert len(read_part(TASKS["qqp"], tmp_path, "train")) == 1
    assert "QQP: 21 torn rows of train data are left out (lines 3, 4, 5, 6, 7, …)" in capsys.readouterr().err
    file.write_text(head + "torn\tin two\n", "utf-8")
    with pytest.raises(BortError, match="holds no row of QQP's train data"):
        read_part(TASKS["qqp"], tmp_path, "train")


def test_qqp_has_blank_questions_and_its_own_numbers(official, capsys):
    rows = read_part(TASKS["qqp"], official, "train", labelled=True)
    assert [row.idx[0] for row in rows] == [*range(133273, 133273 + 7 * 12, 7), 402555]
    assert rows[-1].example == Example("How can I create an Android app?", "", "0")
    say_what_is_odd(rows, TASKS["qqp"], "train")
    said = capsys.readouterr().err
    assert "2 torn rows of train data are left out (lines 15, 16)" in said
    assert "1 rows of train data have a blank text" in said
    assert [row.idx[0] for row in read_part(TASKS["qqp"], official, "test")] == list(range(12))


def test_a_pair_without_any_text_is_refused(tmp_path):
    (tmp_path / "QQP").mkdir()
    (tmp_path / "QQP/train.tsv").write_text("question1\tquestion2\tis_duplicate\n \t\t1\n", "utf-8")
    with pytest.raises(BortError, match=r"train.tsv:2: column 'question1': value ' ': must not be blank"):
        read_part(TASKS["qqp"], tmp_path, "train")


@pytest.mark.parametrize(
    ("name", "part", "columns"), [("mnli", "train", 12), ("mnli_mm", "dev", 16), ("mnli", "test", 10)]
)
def test_mnli_in_its_official_columns(official, name, part, columns):
    rows = read_part(TASKS[name], official, part)
    assert len(rows) == len(MNLI_PAIRS)
    texts = [(row.example.text, row.example.text_b) for row in rows]
    assert texts == [(one.strip(), other) for one, other in MNLI_PAIRS]
    header, *_ = Path(rows[0].example.source).read_text("utf-8").split("\n")
    assert header.count("\t") == columns - 1
    labels = {row.example.label for row in rows}
    assert labels == ({None} if part == "test" else {"entailment", "neutral", "contradiction"})


def test_rows_without_an_agreed_label_are_left_out(tmp_path, capsys):
    """MultiNLI as its authors give it marks them with a dash; GLUE's copy has none."""
    (tmp_path / "MNLI").mkdir()
    text = "sentence1\tsentence2\tgold_label\na\tb\tneutral\na\tc\t-\na\td\tentailment\n"
    (tmp_path / "MNLI/dev_matched.tsv").write_text(text, "utf-8")
    rows = read_part(TASKS["mnli"], tmp_path, "dev", labelled=True)
    assert [row.example.text_b for row in rows] == ["b", "d"]
    assert "MNLI: 1 rows of dev data without an agreed label are left out" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["diagnostic", "AX", "glue/diagnostic", "."])
def test_ax_is_found_where_the_standard_script_puts_it(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / "diagnostic.tsv").write_text("index\tsentence1\tsentence2\n0\ta\tb\n", "utf-8")
    assert has_part(TASKS["ax"], tmp_path, "test")
    assert len(read_part(TASKS["ax"], tmp_path, "test")) == 1


def test_a_test_file_is_not_taken_for_that_of_a_diagnostic(tmp_path):
    row = {"premise": "a", "hypothesis": "b", "label": "entailment", "idx": 0}
    for folder, found in (("RTE", {"superglue_rte"}), ("AX-g", {"superglue_rte", "axg"})):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "test.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
        names = ("superglue_rte", "axb", "axg")
        assert {name for name in names if has_part(TASKS[name], tmp_path / folder, "test")} == found
    assert has_part(TASKS["axg"], tmp_path, "test")
    assert not has_part(TASKS["axb"], tmp_path, "test")


# The hub


HUB = {
    "cola": ({"sentence": "It is.", "label": "acceptable", "idx": 0}, ("It is.", None, "1", (0,))),
    "mnli": ({"premise": "a", "hypothesis": "b", "label": "neutral", "idx": 7}, ("a", "b", "neutral", (7,))),
    "stsb": ({"sentence1": "a", "sentence2": "b", "label": 2.5, "idx": 3}, ("a", "b", 2.5, (3,))),
    "boolq": ({"passage": "a", "question": "b", "label": "True", "idx": 1}, ("a", "b", "true", (1,))),
    "multirc": (
        {"paragraph": "p", "question": "q?", "answer": "a", "label": "True"}
        | {"idx": {"paragraph": 1, "question": 2, "answer": 3}},
        ("p", "q? a", "1", (1, 2, 3)),
    ),
    "qqp": ({"question1": "a?", "question2": "", "label": "duplicate", "idx": 362246}, ("a?", "", "1", (362246,))),
    "record": (
        {"passage": "p", "query": "Is @placeholder in?", "entities": ["Ann"], "answers": ["Ann"]}
        | {"idx": {"passage": 4, "query": 5}},
        ("p", "Is Ann in?", "1", (4, 5)),
    ),
    "wsc": (
        {"text": "Ann said she is.", "span1_text": "Ann", "span1_index": 0, "span2_text": "she", "span2_index": 2}
        | {"label": "False", "idx": 6},
        ("* Ann * said # she # is.", "she means Ann", "false", (6,)),
    ),
}


@pytest.mark.parametrize("name", HUB)
def test_rows_of_the_hub(monkeypatch, name):
    row, (text, text_b, label, idx) = HUB[name]
    asked = []
    monkeypatch.setattr(
        "bort.tasks.suites.reading.numbered_rows",
        lambda source, *_, **__: asked.append(source) or iter([(1, dict(row))]),
    )
    found = read_part(TASKS[name], "hub", "dev")
    assert [(f.example.text, f.example.text_b, f.example.label, f.idx) for f in found] == [(text, text_b, label, idx)]
    config = {"wsc": "wsc.fixed"}.get(name, name)
    part = "validation_matched" if name == "mnli" else "validation"
    owner = "nyu-mll/glue" if TASKS[name].suite == "glue" else "aps/super_glue"
    assert asked == [f"{owner}@{config}:{part}"]


def test_the_hub_is_asked_through_datasets(monkeypatch):
    datasets = pytest.importorskip("datasets")
    asked = []
    features = {"sentence": datasets.Value("string"), "idx": datasets.Value("int32")}
    features["label"] = datasets.ClassLabel(names=["negative", "positive"])
    rows = [{"sentence": "fine", "label": 1, "idx": 0}, {"sentence": "bad", "label": -1, "idx": 1}]

    def load_dataset(name, config, *, split):
        asked.append((name, config, split))
        return datasets.Dataset.from_list(rows, features=datasets.Features(features))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = read_part(TASKS["sst2"], "hub", "test")
    assert [row.example.label for row in found] == ["1", None]
    assert asked == [("nyu-mll/glue", "sst2", "test")]


def test_questions_of_the_hubs_race_are_numbered_within_their_passage(monkeypatch):
    row = {"article": "a", "question": "q", "options": ["1", "2", "3", "4"], "answer": "B"}
    rows = [(i, row | {"example_id": name}) for i, name in enumerate(("high1.txt", "high1.txt", "high2.txt"), start=1)]
    monkeypatch.setattr("bort.tasks.suites.reading.numbered_rows", lambda *_, **__: iter(rows))
    found = read_part(TASKS["race_h"], "hub", "test")
    assert [row.idx for row in found] == [("high1.txt", 0), ("high1.txt", 1), ("high2.txt", 0)]
    assert found[0].example.choices == ("q 1", "q 2", "q 3", "q 4")
