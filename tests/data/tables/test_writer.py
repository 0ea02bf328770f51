"""Tables out: whole or absent, and read back as they were."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bort.data.tables.examples import stream_rows
from bort.data.tables.writer import output_format, row_writer
from bort.errors import BortError

# What no reader of ours takes: NUL, and half of a surrogate pair.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
NAME = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff\t\r\n"), min_size=1, max_size=6).filter(
    str.strip
)
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT)
ANYTHING = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))


@st.composite
def tables(draw, cells):
    others = draw(st.lists(NAME.filter(lambda name: name not in ("text", "text_b")), max_size=3, unique=True))
    row = st.fixed_dictionaries({"text": TEXT, **dict.fromkeys(others, cells)})
    return draw(st.lists(row, min_size=1, max_size=5))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("rows")


def write(path: Path, rows) -> None:
    with row_writer(str(path), output_format(str(path))) as one:
        for row in rows:
            one(row)


def through(path: Path, rows) -> list[dict]:
    write(path, rows)
    return [row for row, _ in stream_rows(path)]


# Round trips


@given(tables(ANYTHING))
def test_json_lines_keep_everything(folder, rows):
    assert through(folder / "a.jsonl", rows) == rows


@given(tables(TEXT))
@example([{"text": "\r"}])
@example([{"text": "a\rb", "x": "\r\n"}, {"text": '"', "x": '""'}])
@example([{"text": ""}, {"text": ","}])
@example([{"text": "\ufeff"}, {"text": "\u2028\x0b\x0c\x1c\x85"}])
def test_csv_keeps_every_text(folder, rows):
    assert through(folder / "a.csv", rows) == rows
    with open(folder / "a.csv", encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == rows, "and so for Python's own reader"


@given(tables(TEXT))
@example([{"text": '"', "x": "\\"}, {"text": "\t\r\n", "x": ""}])
def test_tsv_keeps_every_text_but_its_tabs_and_line_ends(folder, rows):
    for row in rows:
        for name in row:
            row[name] = row[name] or "-"  # one column and no text is a blank line
    blank = str.maketrans("\t\r\n", "   ")
    assert through(folder / "a.tsv", rows) == [
        {name: cell.translate(blank) for name, cell in row.items()} for row in rows
    ]


@given(SCALAR)
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_numbers_stay_numbers_and_nothing_stays_nothing(folder, kind, value):
    (row,) = through(folder / f"b.{kind}", [{"text": "a", "x": value}])
    match value:
        case None:
            assert row["x"] == ""
        case bool():
            assert row["x"] == json.dumps(value)
        case int() | float():
            assert float(row["x"]) == float(value) or math.isclose(float(row["x"]), value)
        case _:
            assert row["x"] == (value if kind == "csv" else value.translate(str.maketrans("\t\r\n", "   ")))


def test_lists_and_objects_are_json_in_a_table(folder):
    rows = [{"text": "a", "x": ["é", {"b": None}], "y": {"k": [True]}}]
    for kind in ("csv", "tsv"):
        (row,) = through(folder / f"c.{kind}", rows)
        assert json.loads(row["x"]) == rows[0]["x"]
        assert json.loads(row["y"]) == rows[0]["y"]


def test_the_order_of_columns_is_that_of_the_first_row(folder):
    rows = through(folder / "d.csv", [{"text": "a", "x": 1}, {"x": 2, "text": "b"}, {"text": "c"}])
    assert rows == [{"text": "a", "x": "1"}, {"text": "b", "x": "2"}, {"text": "c", "x": ""}]


@pytest.mark.parametrize("name", ["e.csv", "e.tsv"])
def test_a_column_that_comes_late_comes_last(tmp_path, name):
    rows = [{"text": 'a "1",', "n": ""}, {"text": "b\n\rc", "y": 1}, {"z": "\r", "text": ""}, {"text": "d", "y": "ä,"}]
    found = through(tmp_path / name, rows)
    expected = [{"text": "", "n": "", "y": "", "z": ""} | {k: str(v) for k, v in row.items()} for row in rows]
    if name == "e.tsv":
        expected = [{k: v.translate(str.maketrans("\t\r\n", "   ")) for k, v in row.items()} for row in expected]
    assert found == expected
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert through(tmp_path / f"one{name}", [{"text": ""}, {"text": "", "x": 1}]) == [
        {"text": "", "x": ""},
        {"text": "", "x": "1"},
    ]


def test_standard_output_cannot_grow_a_column_and_says_so(capsys):
    with row_writer("-", "csv") as one:
        one({"text": "a"})
        one({"text": "b", "y": 1})
        one({"text": "c"})
    said = capsys.readouterr()
    assert said.out == "text\na\nb\nc\n"
    assert "columns that the first row lacks are left out: 'y' (row 2); JSON lines keep them" in said.err


def test_what_is_no_number_is_null(tmp_path):
    row = {"text": "a", "x": math.nan, "y": [math.inf, {"z": -math.inf}], "w": 1.5}
    write(tmp_path / "n.jsonl", [row])

    def refuse(word):
        raise AssertionError(word)

    line = (tmp_path / "n.jsonl").read_text()
    assert json.loads(line, parse_constant=refuse) == {"text": "a", "x": None, "y": [None, {"z": None}], "w": 1.5}
    (found,) = through(tmp_path / "n.csv", [row])
    assert (found["x"], json.loads(found["y"], parse_constant=refuse)) == ("", [None, {"z": None}])


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_value_with_many_levels_is_written_as_it_was_read(tmp_path, kind):
    deep = 400 * "[" + "NaN" + 400 * "]"
    with row_writer(str(tmp_path / "out"), kind) as write:
        write({"text": "a", "n": json.loads(deep)})
    assert deep.replace("NaN", "null") in (tmp_path / "out").read_text()
    value = json.loads("[]")
    for _ in range(5000):
        value = [value]
    with (
        pytest.raises(BortError, match="out: cannot be written: a value holds too many lists or objects"),
        row_writer(str(tmp_path / "out"), kind) as write,
    ):
        write({"n": value})


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_what_the_shell_has_opened_is_appended_to(tmp_path, path):
    code = (
        f"from bort.data.tables.writer import row_writer\nwith row_writer({path!r}, 'csv') as one: one({{'text': 'a'}})"
    )
    target = tmp_path / "all.csv"
    target.write_text("old\n")
    with open(target, "a") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
    assert target.read_text() == "old\ntext\na\n"


def test_an_output_may_lie_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(Path("~/o.csv"), [{"text": "a"}])
    assert (tmp_path / "o.csv").read_text() == "text\na\n"


def test_the_header_of_a_tsv_is_one_line(tmp_path):
    write(tmp_path / "f.tsv", [{"text": "a", "x\ty\nz": 1}])
    assert (tmp_path / "f.tsv").read_text() == "text\tx y z\na\t1\n"


# Whole or absent


@pytest.mark.parametrize("error", [ValueError("ours"), BortError("theirs"), KeyboardInterrupt()])
@pytest.mark.parametrize("name", ["g.csv", "g.jsonl"])
def test_an_exception_leaves_what_was_there(tmp_path, name, error):
    path = tmp_path / "deep" / name

    def interrupted() -> None:
        with row_writer(str(path), output_format(name)) as one:
            one({"text": "x" * 100_000})
            raise error

    with pytest.raises(type(error)):
        interrupted()
    assert not any(path.parent.iterdir())
    path.write_text("as it was")
    with pytest.raises(type(error)):
        interrupted()
    assert [file.read_text() for file in path.parent.iterdir()] == ["as it was"]


def test_the_file_appears_at_the_end(tmp_path):
    path = tmp_path / "h.jsonl"
    with row_writer(str(path), "jsonl") as one:
        one({"text": "a"})
        assert not path.exists()
    assert path.read_text() == '{"text": "a"}\n'
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_no_rows_make_an_empty_file(tmp_path):
    write(tmp_path / "i.csv", [])
    assert (tmp_path / "i.csv").read_bytes() == b""


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_what_the_system_says_is_told(tmp_path, monkeypatch):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    for path, rule in (
        ("folder.csv", "is a folder; name a file"),
        ("file/a.csv", "cannot be written"),
        (f"{'n' * 300}.csv", "cannot be written: File name too long"),
    ):
        with pytest.raises(BortError, match=rule):
            write(tmp_path / path, [{"text": "a"}])
    monkeypatch.setattr(sys, "stdout", Full())
    with (
        pytest.raises(BortError, match="standard output: cannot be written: No space left"),
        row_writer("-", "csv") as one,
    ):
        one({"text": "a"})
    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(BrokenPipeError), row_writer("-", "csv") as one:
        one({"text": "a"})
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(BortError, match="standard output: is closed"), row_writer("-", "csv"):
        pass


def test_an_error_of_the_block_is_not_taken_for_the_files(tmp_path):
    with pytest.raises(OSError, match="of the block") as caught, row_writer(str(tmp_path / "j.csv"), "csv"):
        raise OSError(5, "of the block")
    assert not isinstance(caught.value, BortError)


# Formats


@pytest.mark.parametrize(
    ("path", "asked", "kind"),
    [
        ("a.csv", "auto", "csv"),
        ("A.TSV", "auto", "tsv"),
        ("a.b.ndjson", "auto", "jsonl"),
        ("a.jsonl", "csv", "csv"),
        ("a", "tsv", "tsv"),
        ("-", "auto", "jsonl"),
        ("-", "csv", "csv"),
    ],
)
def test_format(path, asked, kind):
    assert output_format(path, asked) == kind


@pytest.mark.parametrize("path", ["a", "a.txt", "a.csv.gz", "", ".csv"])
def test_format_of_another_extension(path):
    with pytest.raises(BortError, match=r"extension must be one of \.csv, \.tsv, \.jsonl, \.ndjson"):
        output_format(path)
