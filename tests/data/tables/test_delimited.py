"""Tables as other programs write them: delimiters, empty columns, line ends, encodings, compression, malformed rows."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from pathlib import Path

import pytest

from bort.data.tables.delimited import delimiter_of
from bort.data.tables.examples import Columns, Example, read_examples, stream_rows
from bort.errors import BortError

EXPECTED = [Example("a, b; c", label="x"), Example("d", label="y")]


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", 'text;label\n"a, b; c";x\nd;y\n', "semicolons"),
        ("a.csv", "text\tlabel\r\na, b; c\tx\r\nd\ty\r\n", "tabs"),
        ("a.csv", "label|text\nx|a, b; c\ny|d\n", "pipes"),
        ("a.csv", '\ufeffsep=;\r\ntext;label\r\n"a, b; c";x\r\nd;y\r\n', ""),
        ("a.csv", 'sep=,\ntext,label\n"a, b; c",x\nd,y\n', ""),
        ("a.tsv", 'text,label\n"a, b; c",x\nd,y\n', "commas"),
        ("a.csv", '\n\nid;text;label\n1;"a, b; c";x\n2;d;y\n', "semicolons"),
    ],
)
def test_the_delimiter_is_found_by_the_header_and_said(tmp_path, capsys, name, content, said):
    path = write(tmp_path, name, content)
    assert read_examples(path) == EXPECTED
    heard = capsys.readouterr().err
    assert heard == (f"{path}: its cells are taken to be separated by {said}\n" if said else "")


def test_the_usual_delimiter_goes_first(tmp_path, capsys):
    path = write(tmp_path, "a.csv", "text,label;x\na;b,c\n")
    assert read_examples(path, labelled=False) == [Example("a;b")]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("asked", ["semicolon", ";"])
def test_a_named_delimiter(tmp_path, asked):
    # Only the user can know that the comma belongs to the names.
    path = write(tmp_path, "a.csv", "text;gold, label\na;x\nb;y\n")
    columns = Columns(label="gold, label", delimiter=asked)
    assert [each.label for each in read_examples(path, columns)] == ["x", "y"]
    path = write(tmp_path, "a.csv", "text:label\na:x\n")
    assert read_examples(path, Columns(delimiter=":")) == [Example("a", label="x")]
    with pytest.raises(BortError, match=r"a.csv:3: .*quote a cell that holds a ':'"):
        read_examples(write(tmp_path, "a.csv", "text:label\na:x\nb:c:d\n"), Columns(delimiter=":"))


def test_names_of_delimiters():
    assert [delimiter_of(name) for name in (None, "tab", r"\t", "comma", "|")] == [None, "\t", "\t", ",", "|"]
    for name in ("", "::", '"', "\n", " "):
        with pytest.raises(BortError, match=r"--delimiter: value .* must be one character"):
            delimiter_of(name)


def test_a_missing_column_is_looked_for_among_the_real_ones(tmp_path):
    path = write(tmp_path, "a.csv", "sentence;label\na;x\n")
    with pytest.raises(BortError, match="column 'text': this column must exist; the columns are 'sentence', 'label'"):
        read_examples(path)


@pytest.mark.parametrize(
    "content",
    [
        "text,label,,\na,x,,\nb,y,,\n",
        "text,label,,\na,x\nb,y,,\n",
        "text,label\na,x,\nb,y,,,\n",
        "text,label, \na,x, \nb,y, \n",
        "text,label,,\na,x,,\nb,y,,\n,,,\n,,,\n",
        "text,,label,,\na,,x,,\nb,,y,,\n",
        "text,,,label\na,,,x\nb,,,y\n",
    ],
)
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_empty_columns_and_rows_are_ignored(tmp_path, content, kind):
    path = write(tmp_path, f"a.{kind}", content if kind == "csv" else content.replace(",", "\t"))
    assert read_examples(path) == [Example("a", label="x"), Example("b", label="y")]


def test_a_cell_behind_the_last_column_is_refused_where_it_holds_something(tmp_path):
    with pytest.raises(
        BortError, match=r"a.csv:2: .*as many cells as the header, 2, not 3; quote a cell that holds a comma"
    ):
        read_examples(write(tmp_path, "a.csv", "text,label,\na,b,x\n"))


def test_an_unnamed_first_column_is_kept_in_answers(tmp_path):
    path = write(tmp_path, "a.csv", ",text\n0,a\n")
    assert [row for row, _ in stream_rows(path)] == [{"": "0", "text": "a"}]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "a.jsonl"])
def test_carriage_returns_alone_are_named(tmp_path, name):
    with pytest.raises(BortError, match=r"the lines end with a carriage return alone, as on old Macs"):
        read_examples(write(tmp_path, name, "text,label\ra,x\rb,y\r"), labelled=False)


def test_a_carriage_return_inside_of_a_text_is_none(tmp_path):
    assert [each.text for each in read_examples(write(tmp_path, "a.txt", "a\rb\nc"), labelled=False)] == ["a\rb", "c"]
    assert read_examples(write(tmp_path, "a.txt", "a\r"), labelled=False)[0].text == "a"


def test_a_quoted_header_of_tsv_is_named(tmp_path):
    with pytest.raises(BortError, match=r"a.tsv:1: the names .* with a quote, which .tsv takes .* name the file .csv"):
        read_examples(write(tmp_path, "a.tsv", '"text"\t"label"\n"a"\t"x"\n'))


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["a.csv", "a.txt"])
def test_utf_16_is_named(tmp_path, codec, name):
    path = write(tmp_path, name, "text,label\na,b\n".encode(codec))
    with pytest.raises(BortError, match=r":1: must .*; this looks like UTF-16; convert it"):
        read_examples(path, labelled=False)
    with pytest.raises(BortError, match="looks like UTF-16"):
        list(stream_rows(path, on_bad=lambda error, row: None))


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_compression_is_told_by_the_first_bytes(tmp_path, pack):
    packed = pack(b"text,label\na,x\n" * 3)
    assert len(read_examples(write(tmp_path, "a.csv", packed))) == 5
    assert len(list(stream_rows(io.BufferedReader(io.BytesIO(packed)), format="csv"))) == 5


def test_zstd_is_told_by_its_first_bytes(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    packed = zstandard.ZstdCompressor().compress(b"text,label\na,x\n")
    assert len(read_examples(write(tmp_path, "a.csv", packed))) == 1


def test_a_text_that_begins_as_bzip2_does_is_text(tmp_path):
    assert read_examples(write(tmp_path, "a.txt", "BZh9 is a name"), labelled=False)[0].text == "BZh9 is a name"


def test_a_path_may_begin_with_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "a.csv", "text,label\na,x\n")
    assert read_examples("~/a.csv") == [Example("a", label="x")]


def test_addresses_and_patterns_are_named(tmp_path):
    with pytest.raises(BortError, match=r"^https://example.org/x.csv: is an address; name a local file"):
        read_examples("https://example.org/x.csv")
    with pytest.raises(BortError, match=r"\*.csv: no such file; patterns are not expanded"):
        read_examples(tmp_path / "*.csv")


QUOTED = [
    ('"he said ""no"""', "other", True),
    ('"a"', '"b"', True),
    ('"a"', "b", False),
    ('he "said"', '"no" and "yes"', False),
    ('"', '""', False),
]


@pytest.mark.parametrize(("one", "other", "told"), QUOTED)
def test_quotes_in_tsv_are_text_and_told_of_where_they_look_like_csv(tmp_path, capsys, one, other, told):
    path = write(tmp_path, "a.tsv", f"text\tlabel\n{one}\tx\n{other}\ty\n")
    assert [each.text for each in read_examples(path)] == [one, other]
    assert ("texts begin and end with a quote" in capsys.readouterr().err) == told


def bad_rows(path: Path, **settings) -> tuple[list[str], list[tuple[int | None, str, dict]]]:
    found: list[tuple[int | None, str, dict]] = []
    rows = stream_rows(path, on_bad=lambda error, row: found.append((error.line, error.rule, row)), **settings)
    return [example.text for _, example in rows], found


@pytest.mark.parametrize(
    ("name", "content", "texts", "bad"),
    [
        ("a.csv", 'text,id\na,1\nb\n"c\nd",2,3\ne,4\n', ["a", "e"], [(3, "b"), (4, '"c\nd",2,3')]),
        ("a.csv", 'text,id\na,1\nb "x,2\n"he "x"",3\nc,3\n', ["a", 'b "x', "c"], [(4, '"he "x"",3')]),
        ("a.csv", b'text,id\na,1\n"b\xff\nc",2\nd\0,2\ne,3\n', ["a", "e"], [(3, '"b\ufffd\nc",2'), (5, "d\0,2")]),
        ("a.tsv", b"text\tid\na\t1\nb\n\xe9\t2\nc\t3\n", ["a", "c"], [(3, "b"), (4, "\ufffd\t2")]),
        ("a.jsonl", b'{"text": "a"}\n{"text": \n[1]\n{"x": 1}\n\xff\n{"text": "b"}\n', ["a", "b"],
         [(2, '{"text": '), (3, "[1]"), (4, '{"x": 1}'), (5, "\ufffd")]),
    ],
)  # fmt: skip
def test_malformed_rows_are_handed_over_in_their_place(tmp_path, name, content, texts, bad):
    path = write(tmp_path, name, content)
    got, found = bad_rows(path)
    assert got == texts
    assert [(line, row["raw"]) for line, _, row in found] == bad
    with pytest.raises(BortError, match=f":{bad[0][0]}: "):
        list(stream_rows(path))


def test_rows_with_a_bad_text_are_handed_over_with_their_cells(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": 3, "id": 1}\n{"text": "a"}\n{"text": null}\n')
    got, found = bad_rows(path)
    assert got == ["a"]
    assert found == [(1, "must be a string", {"text": 3, "id": 1}), (3, "must be a string", {"text": None})]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", 'text,id\n"a,1\nb,2\n', "never closed"),
        ("a.csv", "id,label\na,1\n", "column 'text'"),
        ("a.csv", b"te\xffxt,id\na,1\n", "must be UTF-8"),
        ("a.csv.gz", gzip.compress(b"text\n" + b"a\n" * 10_000, mtime=0)[:30], "damaged"),
    ],
)
def test_what_is_no_matter_of_a_row_is_refused_all_the_same(tmp_path, name, content, message):
    with pytest.raises(BortError, match=message):
        bad_rows(write(tmp_path, name, content))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "a.jsonl"])
@pytest.mark.parametrize("content", ["", "\ufeff"])
def test_an_empty_stream_has_no_rows(tmp_path, name, content):
    assert list(stream_rows(write(tmp_path, name, content))) == []


# Numbers as labels


def test_1_and_1_0_are_one_class_of_json(tmp_path):
    rows = ['{"text": "a", "label": 1}', '{"text": "b", "label": 1.0}', '{"text": "c", "label": 0}']
    assert [each.label for each in read_examples(write(tmp_path, "a.jsonl", "\n".join(rows)))] == ["1", "1", "0"]
    rows = ['{"text": "a", "label": 1}', '{"text": "b", "label": 1.5}', '{"text": "c", "label": 1.0}']
    assert [each.label for each in read_examples(write(tmp_path, "a.jsonl", "\n".join(rows)))] == ["1", 1.5, "1"]
