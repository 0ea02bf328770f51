"""Several labels a text: lists, cells with a separator, columns of 0 and 1."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.data.tables.checks import check_examples
from bort.data.tables.examples import Columns, Example, read_examples
from bort.data.tables.labels import encode_label_lists, infer_kind, label_names, shown_label, unify_labels
from bort.data.tables.objects import examples_of, write_examples
from bort.errors import BortError

SPLIT = Columns(label_separator=";")
FLAGS = Columns(label=("b", "a"))


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, "utf-8")
    return path


def labels(path: Path, columns: Columns = SPLIT) -> list:
    return [example.label for example in read_examples(path, columns)]


def test_lists_in_json_lines(tmp_path):
    rows = [["b", "a"], [], ["a", "a"], [1, 1.0, "x", True]]
    path = write(tmp_path, "a.jsonl", "".join(json.dumps({"text": "t", "label": row}) + "\n" for row in rows))
    assert labels(path, Columns()) == [("a", "b"), (), ("a",), ("1", "true", "x")]
    examples = read_examples(path)
    assert infer_kind(examples) == "multilabel"
    assert label_names(examples) == ["1", "a", "b", "true", "x"]
    assert encode_label_lists(examples, ["a", "b", "1", "true", "x"]) == [[0, 1], [], [0], [2, 3, 4]]


def test_labels_of_later_tables_are_named_as_in_earlier_ones():
    parts = [["1.0", "a"], [None, 1.0, "1", "2"], [2.0, "a"], [("1", "2.0")]]
    unified = unify_labels([[Example("t", label=label) for label in part] for part in parts])
    assert [[each.label for each in part] for part in unified] == [
        ["1.0", "a"],
        [None, 1.0, "1.0", "2"],
        ["2", "a"],
        [("1.0", "2")],
    ]


def test_a_column_is_named_once():
    with pytest.raises(BortError, match=r"--label: .*must name each column once"):
        Columns(label=("a", "b", "a"))


@pytest.mark.parametrize("columns", [Columns(label="text"), Columns("a", "b", label=("c", "b"))])
def test_a_label_column_is_no_text_column(tmp_path, columns):
    row = {"text": "t", "a": "t", "b": "t", "c": "1"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    for data in (str(tmp_path / "a.jsonl"), [row]):
        with pytest.raises(BortError, match=r"--label: .*must be another column than the text's"):
            examples_of(data, columns)


def test_lists_in_parquet_and_data_sets(tmp_path):
    import datasets
    import pyarrow
    import pyarrow.parquet

    table = {"text": ["s", "t"], "label": [["b", "a"], []]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "a.parquet")
    assert labels(tmp_path / "a.parquet", Columns()) == [("a", "b"), ()]
    features = {"text": datasets.Value("string"), "label": datasets.List(datasets.ClassLabel(names=["no", "yes"]))}
    data = datasets.Dataset.from_dict({"text": ["s", "t"], "label": [[1, 0], []]}, features=datasets.Features(features))
    assert [example.label for example in examples_of(data)] == [("no", "yes"), ()]


def test_a_separator_within_the_cell(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\ns,b ; a\nt,\nu,a;\nv,c\n")
    assert labels(path) == [("a", "b"), (), ("a",), ("c",)]
    assert labels(path, Columns(label_separator=" ; ")) == [("a", "b"), (), ("a;",), ("c",)]
    with pytest.raises(BortError, match=r"a\.csv:3: .*a label must not be missing"):
        read_examples(path)


def test_a_separator_is_not_empty():
    with pytest.raises(BortError, match=r"--label-separator.*must not be empty"):
        Columns(label_separator="")


def test_a_column_for_each_label(tmp_path):
    path = write(tmp_path, "a.csv", "text,a,b\nr,1,0\ns,0,1\nt,1.0,TRUE\nu,false,0.0\n")
    assert labels(path, FLAGS) == [("a",), ("b",), ("a", "b"), ()]
    path = write(tmp_path, "a.jsonl", '{"text": "t", "a": true, "b": 0}\n{"text": "u", "a": 0.0, "b": 1}\n')
    assert labels(path, FLAGS) == [("a",), ("b",)]


@pytest.mark.parametrize(
    ("name", "content", "columns", "message"),
    [
        ("a.csv", "text,a,b\nt,1,2\n", FLAGS, r"a\.csv:2: column 'b': value '2': a column of one label must"),
        ("a.csv", "text,a,b\nt,1,\n", FLAGS, r"a\.csv:2: column 'b'.*must hold 0 or 1"),
        ("a.csv", "text,a\nt,1\n", FLAGS, "column 'b': this column must exist"),
        ("a.jsonl", '{"text": "t", "label": ["a"]}\n{"text": "u", "label": "a"}\n', Columns(),
         r"a\.jsonl:2: .*value 'a': must be a list of labels in every row or in none; line 1 has one"),
        ("a.jsonl", '{"text": "t", "label": 2}\n{"text": "u", "label": ["a"]}\n', Columns(),
         r"a\.jsonl:2: .*line 1 has none"),
        ("a.jsonl", '{"text": "t", "label": ["a"]}\n{"text": "u", "label": null}\n', SPLIT,
         r"a\.jsonl:2: .*must not be missing"),
        ("a.jsonl", '{"text": "t", "label": "a"}\n' + '{"text": "u", "label": ["a"]}\n' * 2, Columns(),
         r"a\.jsonl:1: .*value 'a': must be a list of labels in every row or in none; line 2 has one"),
        ("a.jsonl", '{"text": "t", "label": ["a", ""]}\n', Columns(), "must not be missing"),
        ("a.jsonl", '{"text": "t", "label": ["a", ["b"]]}\n', Columns(), "a string, a number or a truth value"),
        ("a.jsonl", '{"text": "t", "label": [NaN]}\n', Columns(), "finite"),
    ],
)  # fmt: skip
def test_refused_where_it_is_unclear(tmp_path, name, content, columns, message):
    with pytest.raises(BortError, match=message):
        read_examples(write(tmp_path, name, content), columns)


names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).map(str.strip).filter(bool)


@given(st.lists(st.sets(names), min_size=1))
def test_what_is_written_is_read_back(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("labels")
    examples = [Example("t", None, tuple(sorted(row))) for row in rows]
    write_examples(examples, folder / "a.jsonl")
    assert read_examples(folder / "a.jsonl") == examples


def test_columns_of_labels_are_written_as_such(tmp_path):
    examples = [Example("s", None, ("a",)), Example("t", None, ())]
    write_examples(examples, tmp_path / "a.jsonl", FLAGS)
    assert read_examples(tmp_path / "a.jsonl", FLAGS) == examples
    assert json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0]) == {"text": "s", "b": 0, "a": 1}


def test_labels_that_there_are_not():
    examples = [Example("t", None, ("a", "bb"), "x.jsonl", 3)]
    with pytest.raises(BortError, match=r"x\.jsonl:3: .*'bb': the label must be one of 'a', 'bbb'; did you mean 'bbb'"):
        encode_label_lists(examples, ["a", "bbb"])
    with pytest.raises(BortError, match=r"x\.jsonl:3: .*must be a list of labels"):
        encode_label_lists([Example("t", None, "a", "x.jsonl", 3)], ["a", "b"])
    assert encode_label_lists([Example("t", None, ("1.0",))], ["1", "2"]) == [[0]]


def test_checks_know_lists():
    rows = [
        Example("t", None, label, "x", line) for line, label in enumerate([("a", "b"), ("a", "b"), ("a",), ("A",)], 1)
    ]
    found = check_examples({"train": rows})
    assert found.conflicting_texts == 1
    assert found.conflicts[0].labels == ("a; b", "a", "A")
    assert [each.labels for each in found.look_alikes] == [("a", "A")]
    assert shown_label(()) == "(none)"
    assert [shown_label("a"), shown_label(1.5)] == ["a", "1.5"]
