import contextlib
import csv
import gzip
import io
import itertools
import json
import lzma
import math
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bort.data.tables import lines as lines_module
from bort.data.tables.examples import Columns, Example, read_examples, stream_rows
from bort.data.tables.labels import encode_labels, encode_values, infer_kind, label_names
from bort.errors import BortError

COLUMNS = Columns()


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(source, *parts: object, columns: Columns = COLUMNS, labelled: bool = True) -> str:
    """Read, and check that the message holds each part; a number stands for the line of the file."""
    with pytest.raises(BortError) as caught:
        read_examples(source, columns, labelled=labelled)
    message = str(caught.value)
    assert str(source) in message
    assert "\n" not in message
    for part in parts:
        assert (f"{source}:{part}:" if isinstance(part, int) else str(part)) in message
    return message


def labelled(*labels: str | float | None) -> list[Example]:
    return [Example("x", label=label, source="a.csv", line=line) for line, label in enumerate(labels, start=2)]


# Formats


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label,id\n"a, ""b""\nc",x,7\r\nsecond,y,8\r\n'),
        ("a.tsv", 'label\ttext\nx\ta, "b"\ny\tsecond'),
        ("a.jsonl", '{"text": "a", "label": "x"}\n\n  \n{"label": "y", "text": "second"}\n'),
    ],
)
@pytest.mark.parametrize("packing", ["", ".gz", ".xz", ".zst", ".GZ"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_formats_and_packings(tmp_path, name, content, packing, mark):
    raw = mark + content.encode()
    if packing == ".zst":
        zstandard = pytest.importorskip("zstandard")
        packed = zstandard.ZstdCompressor().compress(raw[:20]) + zstandard.ZstdCompressor().compress(raw[20:])
    else:
        packed = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[packing.lower()](raw)
    first, second = read_examples(write(tmp_path, name + packing, packed))
    assert first.text == {"a.csv": 'a, "b"\nc', "a.tsv": 'a, "b"', "a.jsonl": "a"}[name]
    assert (first.label, second.text, second.label) == ("x", "second", "y")
    # The second row starts behind a cell of two lines (CSV), behind two blank lines (JSON).
    assert (first.line, second.line) == {"a.csv": (2, 4), "a.tsv": (2, 3), "a.jsonl": (1, 4)}[name]
    assert first.source == str(tmp_path / (name + packing))


def test_example_equality_ignores_where_it_came_from():
    assert Example("a", source="x", line=1) == Example("a", source="y", line=2)
    assert Example("a") != Example("a", label="1")


def test_columns_and_pairs(tmp_path):
    path = write(tmp_path, "a.csv", "q,a,gold,text_b\nwho,me, yes ,unused\n")
    assert read_examples(path, Columns("q", "a", "gold")) == [Example("who", "me", "yes")]
    path = write(tmp_path, "b.jsonl", '{"text": "a", "text_b": null}\n{"text": "b", "text_b": " "}\n{"text": "c"}')
    assert [each.text_b for each in read_examples(path, labelled=False)] == [None, None, None]


def test_label_types(tmp_path):
    values = ["7", "true", "1.5", "2.0", '" a "', '"é"', "-3"]
    rows = "\n".join(f'{{"text": "a", "label": {value}}}' for value in values)
    got = [each.label for each in read_examples(write(tmp_path, "a.json", rows))]
    assert got == ["7", "true", 1.5, 2.0, "a", "é", "-3"]
    assert [type(label) for label in got[:4]] == [str, str, float, float]
    path = write(tmp_path, "a.csv", "text,label\na,1.50\nb,01\n")
    assert [each.label for each in read_examples(path)] == ["1.50", "01"]


def test_plain_text_is_unlabelled(tmp_path):
    path = write(tmp_path, "a.txt", 'one, "two"\r\n\n{three}')
    got = read_examples(path, labelled=False)
    assert [(each.text, each.line, each.label) for each in got] == [
        ('one, "two"', 1, None),
        ("", 2, None),
        ("{three}", 3, None),
    ]
    refused(path, "plain text has no labels")


def test_unlabelled_rows_keep_all_their_columns_and_may_be_blank(tmp_path):
    path = write(tmp_path, "a.csv", "id,text,label\n7,,\n")
    assert list(stream_rows(path)) == [({"id": "7", "text": "", "label": ""}, Example(""))]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_blank_lines(tmp_path, name):
    # A text where there is one column, nothing where there are more.
    path = write(tmp_path, name, "\ntext\na\n\nb\n")
    assert [(each.text, each.line) for each in read_examples(path, labelled=False)] == [("a", 3), ("", 4), ("b", 5)]
    comma = "," if name == "a.csv" else "\t"
    path = write(tmp_path, name, f"text{comma}label\n\na{comma}x\n\n\n")
    assert [each.line for each in read_examples(path)] == [3]


def test_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["a", "é"], "label": [1, 0], "id": [5, 6]}), path)
    got = read_examples(path)
    assert got == [Example("a", label="1"), Example("é", label="0")]
    assert [each.line for each in got] == [1, 2]
    assert next(stream_rows(path))[0] == {"text": "a", "label": 1, "id": 5}
    refused(path, "column 'sentence'", "'text', 'label', 'id'", columns=Columns(text="sentence"))
    parquet.write_table(pyarrow.table({"text": ["a", None], "label": [1.5, math.nan]}), path)
    refused(path, 2, "column 'text'", "value None", "must be a string")
    refused(write(tmp_path, "b.parquet", b"PAR1 and no more"), "must be a whole Parquet file")
    refused(write(tmp_path, "c.parquet", b""), "must be a whole Parquet file")


def test_what_python_has_no_value_for_in_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    texts, path = pyarrow.array(["a", "b"]), tmp_path / "a.parquet"
    infinity = pyarrow.array([0, 2**31 - 1], pyarrow.int32()).cast(pyarrow.date32())
    late = pyarrow.array([0, 2**62], pyarrow.timestamp("us"))
    twice = pyarrow.StructArray.from_arrays([texts, texts], ["x", "x"])
    torn = pyarrow.array([b"a", b"\xff"]).view(pyarrow.string())
    for odd in (infinity, late, twice, torn):
        parquet.write_table(pyarrow.table({"text": texts, "odd": odd}), path)
        refused(path, "column 'odd'", "must hold values that Python can represent (", labelled=False)


def test_stream_is_lazy_and_names_itself():
    class Endless(io.RawIOBase):
        count = 0
        name = "<stdin>"

        def readable(self):
            return True

        def readline(self, size=-1):
            self.count += 1
            return b'{"text": "a"}\n' if self.count < 5 else b'{"text": 1}\n'

    handle = Endless()
    rows = stream_rows(handle, format="jsonl")
    assert list(itertools.islice(rows, 3)) == [({"text": "a"}, Example("a"))] * 3
    assert handle.count == 3
    with pytest.raises(BortError, match=r"<stdin>:5: column 'text': value 1: must be a string"):
        list(rows)


def test_stream_needs_a_text_format():
    with pytest.raises(BortError, match="name its format"):
        next(stream_rows(io.BytesIO(b"a")))
    with pytest.raises(BortError, match="must be one of csv, tsv, jsonl, txt, not parquet"):
        next(stream_rows(io.BytesIO(b"a"), format="parquet"))
    with pytest.raises(BortError, match=r"<stream>: value 'xml': the format must be one of csv"):
        next(stream_rows(io.BytesIO(b"a"), format="xml"))


def test_memory_is_bounded_by_the_row_not_by_the_file(tmp_path, monkeypatch):
    # Many rows pass a bound that each of them keeps.
    monkeypatch.setattr(lines_module, "LONGEST_ROW_BYTES", 100)
    for name, header in [("a.txt", ""), ("a.csv", "text\n"), ("a.tsv", "text\n")]:
        path = write(tmp_path, name, header + "word\n" * 100)
        assert len(read_examples(path, labelled=False)) == 100
    path = write(tmp_path, "a.jsonl", '{"text": "a"}\n' * 100)
    assert len(read_examples(path, labelled=False)) == 100
    refused(write(tmp_path, "long.txt", "a\n" + "b" * 101), 2, "no longer than 100 bytes", labelled=False)
    text = 'text,label\na,b\n"c' + "\nd" * 200
    refused(write(tmp_path, "long.csv", text), 3, "no longer than 100 bytes; is a quote left open?")


def test_cell_of_ten_megabytes(tmp_path):
    text = "emoji 🙂 " * 1_000_000
    assert len(text.encode()) > 10_000_000
    path = write(tmp_path, "a.csv", f'text,label\n"{text}",x\n')
    assert read_examples(path)[0].text == text


# The hub


def fake_hub(monkeypatch, answer):
    datasets = pytest.importorskip("datasets")
    asked = []

    def load_dataset(name, config, *, split):
        asked.append((name, config, split))
        if isinstance(answer, Exception):
            raise answer
        features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["bad", "good"]))
        return datasets.Dataset.from_list(answer, features=features)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_hub(monkeypatch):
    asked = fake_hub(monkeypatch, [{"text": "a", "label": 1}, {"text": "b", "label": 0}])
    got = read_examples("nyu-mll/glue@sst2:train[:10%]")
    assert got == [Example("a", label="good"), Example("b", label="bad")]
    assert (got[1].source, got[1].line) == ("nyu-mll/glue@sst2:train[:10%]", 2)
    read_examples("owner/name:test")
    assert asked == [("nyu-mll/glue", "sst2", "train[:10%]"), ("owner/name", None, "test")]


def test_hub_hidden_labels(monkeypatch):
    fake_hub(monkeypatch, [{"text": "a", "label": -1}])
    refused("owner/name:test", 1, "column 'label'", "a label must not be missing")
    assert read_examples("owner/name:test", labelled=False) == [Example("a")]


def test_hub_refusals(monkeypatch):
    fake_hub(monkeypatch, ConnectionError("Couldn't reach 'owner/name' on the Hub\nmore"))
    refused("owner/name:test", "the hub cannot be reached (offline?), and no local file has this name")
    fake_hub(monkeypatch, ValueError("Unknown split 'tset'"))
    refused("owner/name:tset", "cannot be loaded (Unknown split 'tset')")
    fake_hub(monkeypatch, [{"text": "a", "label": 1}])
    refused("owner/name:test", "column 'sentence'", "'text', 'label'", columns=Columns(text="sentence"))


def test_local_file_goes_before_the_hub(tmp_path, monkeypatch):
    (tmp_path / "owner").mkdir()
    write(tmp_path, "owner/name:train", "")
    monkeypatch.chdir(tmp_path)
    refused("owner/name:train", "the extension must be one of")


# Rules


def test_missing_file_folder_and_extension(tmp_path):
    refused(tmp_path / "none.csv", "no such file")
    refused(tmp_path / "none", "no such file", "owner/name:split")
    (tmp_path / "folder.csv").mkdir()
    refused(tmp_path / "folder.csv", "is a folder")
    refused(write(tmp_path, "a.xlsx", ""), "value '.xlsx'", "must be one of .csv, .tsv, .jsonl")
    refused(write(tmp_path, "a.csv.zip", ""), "value '.zip'")
    refused(write(tmp_path, "a.xml.gz", ""), "value '.xml.gz'")
    refused(write(tmp_path, "a.parquet.gz", ""), "value '.parquet.gz'")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_empty_file(tmp_path, name, content):
    refused(write(tmp_path, name, content), "is empty")
    refused(write(tmp_path, name, content), "is empty", labelled=False)


def test_header_alone_is_empty(tmp_path):
    refused(write(tmp_path, "a.csv", "text,label\n"), "is empty; there must be at least one row")
    refused(write(tmp_path, "a.txt", ""), "is empty", labelled=False)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.txt"])
def test_invalid_utf8(tmp_path, name):
    path = write(tmp_path, name, b'text\n"ok"\ncaf\xe9\n' if name != "a.jsonl" else b'{"text": "a"}\n\ncaf\xe9')
    refused(path, 3, "must be UTF-8; byte 4 of the line, 0xe9, is not", labelled=False)


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16(tmp_path, codec):
    path = write(tmp_path, "a.csv", "text,label\na,b\n".encode(codec))
    refused(path, 1, "looks like UTF-16" if codec == "utf-16" else "NUL")


def test_nul(tmp_path):
    refused(write(tmp_path, "a.csv", b"text,label\na,b\na\0,b\n"), 3, "must not hold NUL bytes")
    path = write(tmp_path, "a.jsonl", '{"text": "a\\u0000", "label": 1}')
    refused(path, 1, "column 'text'", r"value 'a\x00'", "must not hold NUL characters")


def test_missing_column_names_the_nearest(tmp_path):
    path = write(tmp_path, "a.csv", "\nSentence,lable\na,b\n")
    refused(
        path, 2, "column 'sentence'", "'Sentence', 'lable'; did you mean 'Sentence'?", columns=Columns(text="sentence")
    )
    refused(path, 2, "column 'label'", "did you mean 'lable'?", columns=Columns(text="Sentence"))
    path = write(tmp_path, "a.jsonl", '{"text": "a", "label": 1}\n{"txet": "a", "label": 1}\n')
    refused(path, 2, "column 'text'", "the columns are 'txet', 'label'; did you mean 'txet'?")
    path = write(tmp_path, "a.tsv", "text\tlabel\na\tb\n")
    refused(path, 1, "column 'premise'", columns=Columns(text_b="premise"))
    assert "did you mean" not in refused(path, 1, "column 'xyz'", columns=Columns(text="xyz"))
    assert read_examples(write(tmp_path, "b.tsv", "text\na\n"), labelled=False) == [Example("a")]


def test_header_twice(tmp_path):
    refused(write(tmp_path, "a.csv", "text,label,text\na,b,c\n"), 1, "column 'text'", "must not stand twice")


@pytest.mark.parametrize(("row", "cells"), [("a,b,c", 3), ("a", 1)])
def test_ragged_row(tmp_path, row, cells):
    path = write(tmp_path, "a.csv", f'text,label\n"x\ny",b\n{row}\n')
    refused(path, 4, f"value '{row}'", f"as many cells as the header, 2, not {cells}; quote a cell that holds a comma")
    path = write(tmp_path, "a.tsv", f"text\tlabel\nx\tb\n{row}\n".replace(",", "\t"))
    refused(path, 3, f"as many cells as the header, 2, not {cells}")


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ('"a,b\nc,d\n', 2),
        ('a,b\nc,"d\ne,f', 3),
        ('"a\n""b""\nc",x\n"d\ne","f\ng,h\n', 6),  # the quote before f; that before d is closed
        ('"', 2),
        ('a,"b""\n', 2),
    ],
)
def test_quote_never_closed(tmp_path, rows, line):
    refused(write(tmp_path, "a.csv", "text,label\n" + rows), line, "the quote opened on this line is never closed")


def test_quote_closed_too_soon(tmp_path):
    refused(write(tmp_path, "a.csv", 'text,label\na,b\n"he said "hi"",b\n'), 3, "must be valid CSV", "doubled")


def test_lone_carriage_return(tmp_path):
    refused(write(tmp_path, "a.csv", "text,label\na\rb,c\n"), 2, "quote a cell that holds a carriage return")


@pytest.mark.parametrize("line", ["{", "[1", "{'text': 1}", '{"text": "a"} {"text": "b"}', "[" * 100_000, "9" * 5000])
def test_invalid_json(tmp_path, line):
    path = write(tmp_path, "a.jsonl", f'{{"text": "a", "label": 1}}\n{line}\n')
    refused(path, 2, "value ", "must be valid JSON, one whole object on each line")


@pytest.mark.parametrize(
    ("line", "key"),
    [('{"text": "a", "label": 1, "label": 2}', "label"), ('{"text": "a", "label": 1, "x": [{"y": 1, "y": 1}]}', "y")],
)
def test_a_key_that_stands_twice(tmp_path, line, key):
    path = write(tmp_path, "a.jsonl", f'{{"text": "a", "label": 1}}\n{line}\n')
    refused(path, 2, f"the key '{key}' must not stand twice in a JSON object")
    assert len(list(stream_rows(path, on_bad=lambda error, row: None))) == 1


@pytest.mark.parametrize("line", ['["a"]', '"a"', "1", "null"])
def test_json_that_is_no_object(tmp_path, line):
    refused(write(tmp_path, "a.json", f"\n{line}\n"), 2, "must be a JSON object")


def test_half_a_surrogate_pair(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": "\\ud83d\\ude42"}\n{"text": "a", "id": ["\\uD83D"]}\n')
    assert next(stream_rows(path))[1].text == "🙂"
    refused(path, 2, "column 'id'", "half of a surrogate pair", labelled=False)


@pytest.mark.parametrize(("value", "shown"), [("1", "1"), ("null", "None"), ('["a"]', "['a']")])
def test_text_that_is_no_string(tmp_path, value, shown):
    path = write(tmp_path, "a.jsonl", f'{{"text": {value}, "label": 1}}\n')
    refused(path, 1, "column 'text'", f"value {shown}", "must be a string")
    refused(path, 1, "must be a string", labelled=False)
    if value != "null":
        path = write(tmp_path, "a.jsonl", f'{{"text": "a", "text_b": {value}, "label": 1}}\n')
        refused(path, 1, "column 'text_b'", f"value {shown}", "must be a string")


@pytest.mark.parametrize("text", ["", "  ", "\u3000"])
def test_blank_text(tmp_path, text):
    path = write(tmp_path, "a.csv", f"text,label\na,x\n{text},x\n")
    refused(path, 3, "column 'text'", f"value {text!r}", "must not be blank")
    assert read_examples(path, labelled=False)[1].text == text


@pytest.mark.parametrize("value", ["null", '""', '" "'])
def test_missing_label(tmp_path, value):
    path = write(tmp_path, "a.jsonl", f'{{"text": "a", "label": "x"}}\n{{"text": "a", "label": {value}}}')
    refused(path, 2, "column 'label'", "value ", "a label must not be missing")


@pytest.mark.parametrize("value", ["[[1]]", "{}"])
def test_label_of_another_type(tmp_path, value):
    path = write(tmp_path, "a.jsonl", f'{{"text": "a", "label": {value}}}')
    refused(path, 1, "column 'label'", f"value {value}", "a label must be a string, a number or a truth value")


def test_a_label_among_several_that_is_missing(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": "a", "label": [null]}')
    refused(path, 1, "column 'label'", "value [None]", "a label must not be missing")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_label_not_finite(tmp_path, value):
    path = write(tmp_path, "a.jsonl", f'{{"text": "a", "label": {value}}}')
    refused(path, 1, "column 'label'", "value ", "a label must be a finite number")


@pytest.mark.parametrize("value", ["nan", "inf", "-Infinity"])
def test_spelled_label_not_finite_among_numbers(tmp_path, value):
    path = write(tmp_path, "a.csv", f"text,gold\na,0.5\nb,{value}\n")
    refused(path, 3, "column 'gold'", f"value '{value}'", "finite", columns=Columns(label="gold"))
    # Among words it is a word: "nan" is the code of a language.
    assert len(read_examples(write(tmp_path, "b.csv", f"text,label\na,deu\nb,{value}\n"))) == 2


def test_second_text_in_some_rows(tmp_path):
    path = write(tmp_path, "a.csv", "text,text_b,label\na,b,x\nc, ,x\n")
    refused(path, 3, "column 'text_b'", "value ' '", "in every row or in none; line 2 has it and line 3 does not")
    path = write(tmp_path, "a.jsonl", '{"text": "a", "label": 1}\n{"text": "a", "text_b": "b", "label": 1}\n')
    refused(path, 2, "column 'text_b'", "value 'b'", "line 2 has it and line 1 does not")
    assert [each.text_b for each in read_examples(path, labelled=False)] == [None, "b"]


def test_damaged_archives(tmp_path):
    raw = b"text,label\n" + b"".join(b"%d,x\n" % (number * 7919 % 10_007) for number in range(50_000))
    for ending, compress in [(".gz", gzip.compress), (".xz", lzma.compress)]:
        packed = compress(raw)
        refused(write(tmp_path, "a.csv" + ending, packed[: len(packed) // 2]), "the data is damaged")
        refused(write(tmp_path, "b.csv" + ending, b"no archive"), 1, "the data is damaged")


def test_damaged_zstd(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    packed = zstandard.ZstdCompressor().compress(b"text,label\n" + b"a,b\n" * 1000)
    refused(write(tmp_path, "a.csv.zst", packed[:-3]), "the data is damaged")
    refused(write(tmp_path, "b.csv.zst", b"no archive"), 1, "the data is damaged")


def test_zstd_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    refused(write(tmp_path, "a.csv.zst", b""), "needs the package zstandard: pip install 'bort[zst]'")


# Labels


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (["1", "2"], "classification"),
        (["1", "2.5"], "regression"),
        (["1.0", "2.0"], "classification"),
        ([1.0, 2.5], "regression"),
        (["2.5", "x"], "classification"),
        (["2.5", "nan"], "classification"),
        (["1_5", "2.5"], "classification"),
        (["-1e-3", "7"], "regression"),
    ],
)
def test_infer_kind(labels, kind):
    assert infer_kind(labelled(*labels)) == kind


def test_infer_kind_refuses_what_has_no_labels():
    with pytest.raises(BortError, match="at least one"):
        infer_kind([])
    with pytest.raises(BortError, match=r"a\.csv:3: .*must not be missing"):
        infer_kind(labelled("1", None))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["10", "2", "1", "2"], ["1", "2", "10"]),
        (["1", "-1", "0"], ["-1", "0", "1"]),
        (["class 10", "class 9", "Class"], ["Class", "class 9", "class 10"]),
        (["01", "1"], ["01", "1"]),
        (["b", "a1", "a"], ["a", "a1", "b"]),
        ([2.0, 1.0], ["1", "2"]),
        ([2.0, 1.0, 1.5], ["1", "1.5", "2"]),
        (["1.0", 1.0, 2.0], ["1.0", "2"]),
        (["1.0", "2.0"], ["1.0", "2.0"]),
        (["9" * 5000 + "x", "8" * 5000 + "x"], ["8" * 5000 + "x", "9" * 5000 + "x"]),
        (["²", "1"], ["1", "²"]),
    ],
)
def test_label_names(labels, names):
    assert label_names(labelled(*labels)) == names


@given(st.lists(st.text(min_size=1), min_size=2, unique=True))
def test_label_names_do_not_depend_on_the_order_of_rows(labels):
    names = label_names(labelled(*labels))
    assert sorted(names) == sorted(labels)
    assert names == label_names(labelled(*reversed(labels)))
    assert [names[code] for code in encode_labels(labelled(*labels), names)] == labels


def test_label_names_needs_two():
    with pytest.raises(BortError, match=r"a\.csv: a classifier needs at least two distinct labels; there is only 'x'"):
        label_names(labelled("x", "x"))
    with pytest.raises(BortError, match="there is none"):
        label_names([])


def test_encode_labels():
    assert encode_labels(labelled("b", "a", 1.0), ["a", "b", "1.0"]) == [1, 0, 2]
    with pytest.raises(BortError) as caught:
        encode_labels(labelled("good", "godo"), ["good", "bad"])
    assert str(caught.value).startswith("a.csv:3: column 'label': value 'godo': the label must be one of 'good', 'bad'")
    assert str(caught.value).endswith("did you mean 'good'?")
    with pytest.raises(BortError, match=r"'7', …"):
        encode_labels(labelled("x"), [str(number) for number in range(20)])


def test_encode_values():
    assert encode_values(labelled("1", " 2.5", -3.0, "1e2")) == [1.0, 2.5, -3.0, 100.0]
    for value in ["x", "nan", math.inf, None]:
        with pytest.raises(BortError, match=r"a\.csv:3: column 'label': value .*: a label must"):
            encode_values(labelled("1", value))


# Properties

# All of Unicode but NUL and lone surrogates.
characters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
texts = st.text(characters, min_size=1).filter(str.strip)
rows_of_texts = st.lists(st.tuples(texts, texts, texts.map(str.strip)), min_size=1)
hard = [
    ("emoji 🙂 👩‍👩‍👧", "日本語\u2028\x85\x1c", 'a"b'),
    (',"\n', "\r\n x", "'"),
    ("x\x01\x7f", "\ufeff", "x" * 1_000_000),
]


def read_back(path: Path) -> list[tuple[str, str | None, str | float | None]]:
    return [(each.text, each.text_b, each.label) for each in read_examples(path)]


@given(rows=rows_of_texts)
@example(rows=hard)
@settings(deadline=None)
def test_csv_round_trip(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "round.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([("text", "text_b", "label"), *rows])
    assert read_back(path) == rows


@given(rows=rows_of_texts, ascii_only=st.booleans())
@example(rows=hard, ascii_only=False)
@example(rows=hard, ascii_only=True)
@settings(deadline=None)
def test_json_round_trip(tmp_path_factory, rows, ascii_only):
    path = tmp_path_factory.getbasetemp() / "round.jsonl"
    dicts = [dict(zip(("text", "text_b", "label"), row, strict=True)) for row in rows]
    content = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in dicts)
    path.write_text(content, encoding="utf-8", newline="\n")
    assert read_back(path) == rows
    assert [row for row, _ in stream_rows(path)] == dicts


@given(rows=rows_of_texts)
@example(rows=hard)
@settings(deadline=None)
def test_tsv_round_trip(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "round.tsv"
    ends = str.maketrans("\t\r\n", "   ")
    rows = [(one.translate(ends) + ".", two.translate(ends) + ".", label.translate(ends)) for one, two, label in rows]
    lines = ["\t".join(row) + "\n" for row in [("text", "text_b", "label"), *rows]]
    path.write_text("".join(lines), encoding="utf-8", newline="\n")
    assert read_back(path) == rows


STARTS = {"csv": b"text,label\n", "tsv": b"text\tlabel\n", "jsonl": b'{"text": "a", "label": 1}\n', "txt": b""}


@given(
    st.one_of(st.binary(max_size=50), st.text('ab1",\t\r\n {}[]:\\u', max_size=50).map(str.encode)),
    st.sampled_from(sorted(STARTS)),
    st.booleans(),
)
def test_any_bytes_give_rows_or_a_bort_error(content, form, labelled):
    # Anything but a BortError fails the test.
    with contextlib.suppress(BortError):
        for row, got in stream_rows(io.BytesIO(STARTS[form] + content), format=form, labelled=labelled):
            assert got.text == row["text"]
