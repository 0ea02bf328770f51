import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.data.tables.examples import Columns, Example, read_examples
from bort.data.tables.objects import DataError, column_values, examples_of, texts_of, write_examples

ROWS = [{"text": "a cat", "label": "x"}, {"text": "a dog", "label": "y"}]
TABLES = {
    "mappings": ROWS,
    "pandas": pd.DataFrame(ROWS),
    "an index of its own": pd.DataFrame(ROWS, index=["p", "q"]),
    "pyarrow": pa.Table.from_pylist(ROWS),
    "columns": {"text": ["a cat", "a dog"], "label": pd.Series(["x", "y"])},
}


@pytest.mark.parametrize("form", TABLES)
def test_tables_in_memory_are_read_as_files_are(form):
    assert examples_of(TABLES[form]) == [Example("a cat", None, "x"), Example("a dog", None, "y")]
    assert [example.line for example in examples_of(TABLES[form])] == [1, 2]


def test_row_names_of_pandas_are_no_texts():
    frame = pd.DataFrame({"message": ["a cat", "a dog", "a cow"]}, index=["p", "q", "r"])
    assert texts_of(frame) == [Example("a cat"), Example("a dog"), Example("a cow")]
    assert (
        texts_of(frame.reset_index(drop=True)[1:]) == texts_of(frame[["message"]][1:]) == texts_of(["a dog", "a cow"])
    )
    assert frame.index.tolist() == ["p", "q", "r"]


def test_polars_tables():
    polars = pytest.importorskip("polars")
    assert examples_of(polars.DataFrame(ROWS)) == examples_of(ROWS)


def test_class_labels_of_a_data_set_become_names():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    assert [example.label for example in examples_of(table)] == ["yes", "no"]


def test_a_file_is_read_too(tmp_path):
    examples = [Example("a", "b", 1.5), Example("c", "d", 2.0)]
    write_examples(examples, tmp_path / "rows.jsonl")
    assert examples_of(tmp_path / "rows.jsonl") == read_examples(tmp_path / "rows.jsonl") == examples


@given(st.lists(st.tuples(*[st.text(min_size=1).filter(lambda t: t.strip() and "\0" not in t)] * 2), min_size=1))
def test_texts_are_what_was_given(pairs):
    assert texts_of(pairs) == texts_of(pa.table({"q": [a for a, _ in pairs], "r": [b for _, b in pairs]}))
    assert [(e.text, e.text_b) for e in texts_of(pairs, labelled=True)] == pairs


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        ([{"text": "a"}], "data: column 'label': this column must exist; the columns are 'text'"),
        ([{"text": "a", "label": None}], "data:1: column 'label': .*must not be missing"),
        (pd.DataFrame({"text": ["a", "b"], "label": ["x", None]}), "data:2: .*must not be missing"),
        (pd.DataFrame({"text": ["a", " "], "label": ["x", "y"]}), "data:2: .*must not be blank"),
        (pd.DataFrame({"text": ["a", "b"], "label": ["x", 1]}), "different types"),
        (pd.DataFrame({"text": ["a"], "label": [2**70]}), "a whole number of more than 64 bits"),
        (pd.DataFrame({"text": ["a"], "label": pd.arrays.SparseArray([1])}), "a type that Arrow lacks: Sparse"),
        (pd.DataFrame([["a", "b", "x"]], columns=["text", "text", "label"]), "'text': .* two columns of one name"),
        (pa.table([["a"], ["b"], ["x"]], names=["text", "text", "label"]), "'text': .* two columns of one name"),
        ({"text": ["a"], "label": []}, "equally long"),
        ([{"text": "a\ud83d b", "label": "x"}], r"data:1: value 'a\\ud83d b': must be valid Unicode"),
        ([{"text": "a", "text_b": "\ud83d", "label": "x"}], "data:1: .*half of a surrogate pair"),
        ([{"text": "a", "label": ["x", "\ud83d"]}], "data:1: .*half of a surrogate pair"),
        ([{"text": "a", "text_b": "b", "label": 1}, {"text": "a", "label": 1}], "data:2: .*every row or in none"),
        (["a", "b"], "must be a path, or a table"),
        (3, "must be a path, or a table"),
    ],
)
def test_bad_tables(data, rule):
    from bort.errors import BortError

    with pytest.raises(BortError, match=rule):
        examples_of(data)


@pytest.mark.parametrize(
    ("label", "read"),
    [
        (np.int64(3), "3"),
        (np.bool_(True), "true"),
        (np.float32(0.5), 0.5),
        (np.str_("x"), "x"),
        ([np.int64(1), np.int64(0)], ("0", "1")),
    ],
)
def test_labels_of_numpy_are_read_as_those_of_python(label, read):
    [example] = examples_of([{"text": "a", "label": label}])
    assert (example.label, type(example.label)) == (read, type(read))


def test_columns_have_names():
    table = {"message": ["a"], "kind": [3]}
    assert examples_of(table, Columns(text="message", label="kind")) == [Example("a", None, "3")]


@pytest.mark.parametrize("other", [[1j, 2], ["x", 1], pd.arrays.SparseArray([0, 1]), [2**70, 0]])
def test_other_columns_of_a_table_may_hold_anything(other):
    table = pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"], "text_pair": ["c", "d"], "other": other})
    assert [example.label for example in examples_of(table)] == ["x", "y"]
    assert texts_of(table) == [Example("a", "c"), Example("b", "d")]


@pytest.mark.parametrize("text", ["a\ud83d b", ("a", "\ud83d")])
def test_half_a_surrogate_pair_is_no_text(text):
    with pytest.raises(DataError, match=r"X:1: .*half of a surrogate pair"):
        texts_of([text])


@pytest.mark.parametrize("column", ["text", 3, None, b"text"])
def test_what_is_no_column(column):
    with pytest.raises(DataError, match="must be a list"):
        column_values(column)
