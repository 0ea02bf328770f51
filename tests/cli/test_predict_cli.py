"""`bort predict`: order, formats, columns, bounded memory, and nothing half-written."""

from __future__ import annotations

import csv
import gc
import io
import itertools
import json
import os
import sys
import threading
from pathlib import Path

import pytest

from bort.cli.predict import PredictArguments, predict
from bort.data.tables.examples import Columns, Example, stream_rows
from bort.predict.bulk.blocks import BadRows, errors_path, read_blocks
from bort.predict.predictor import Predictor

LABELS = ("cat", "other", 'a, "b"')
"""Those of the fixture `classifier`."""
ADDED = ["prediction", "probability", *(f"p({name})" for name in LABELS)]


@pytest.fixture(scope="module")
def expected(classifier, sentences):
    """What the model says of each sentence, asked all at once."""
    return [answer.label for answer in Predictor(classifier).predict(sentences)]


def lines(texts) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


@pytest.mark.parametrize("window", [1, 7, 1024])
def test_order_is_kept_across_windows(bort, classifier, sentences, expected, window):
    chosen = slice(0, 60)
    done = bort("predict", "--model", classifier, "--window", window, stdin=lines(sentences[chosen]))
    assert (done.status, done.err) == (0, "")
    rows = done.rows()
    assert [row["text"] for row in rows] == sentences[chosen]
    assert [row["prediction"] for row in rows] == expected[chosen]
    assert len(set(expected[chosen])) == 3
    for row in rows:
        assert list(row) == ["text", *ADDED]
        shares = [row[f"p({name})"] for name in LABELS]
        assert sum(shares) == pytest.approx(1, abs=2e-6)
        assert row["probability"] == max(shares)
        assert row["prediction"] == LABELS[shares.index(max(shares))]


TABLE = [
    {"id": "007", "text": 'a "quoted", text', "note": "x"},
    {"id": "2", "text": "", "note": "empty"},
    {"id": "", "text": "café  naïve 漢字 🙂", "note": " spaces "},
    {"id": "4", "text": "=1+1", "note": "'"},
]


def written(path: Path, rows) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        match path.suffix:
            case ".jsonl":
                file.writelines(json.dumps(row) + "\n" for row in rows)
            case ".txt":
                file.writelines(row["text"] + "\n" for row in rows)
            case ".csv":
                table = csv.DictWriter(file, rows[0].keys())
                table.writeheader()
                table.writerows(rows)
            case ".tsv":
                file.writelines("\t".join(cells) + "\n" for cells in [rows[0].keys(), *(row.values() for row in rows)])
    return path


def test_every_format_in_and_out(bort, classifier, tmp_path):
    """Whatever goes in and out, the texts, the columns and the answers are the same."""
    answers = [answer.label for answer in Predictor(classifier).predict([row["text"] for row in TABLE])]
    for source, target in itertools.product((".csv", ".tsv", ".jsonl", ".txt"), (".csv", ".tsv", ".jsonl")):
        given = written(tmp_path / f"in{source}", TABLE)
        out = tmp_path / f"new/out{target}"
        assert bort("predict", "--model", classifier, "--input", given, "--output", out).status == 0
        rows = [row for row, _ in stream_rows(out)]
        kept = ["text"] if source == ".txt" else ["id", "text", "note"]
        assert list(rows[0]) == [*kept, *ADDED]
        assert [{name: row[name] for name in kept} for row in rows] == [
            {name: row[name] for name in kept} for row in TABLE
        ]
        assert [row["prediction"] for row in rows] == answers
        assert sorted(path.name for path in out.parent.iterdir()) == [out.name]
        out.unlink()


def test_standard_input_and_output_in_any_format(bort, classifier, tmp_path):
    table = written(tmp_path / "in.csv", TABLE).read_bytes()
    done = bort("predict", "--model", classifier, "--input_format", "csv", "--output_format", "tsv", stdin=table)
    rows = [row for row, _ in stream_rows(io.BytesIO(done.out.encode()), format="tsv")]
    assert [row["id"] for row in rows] == ["007", "2", "", "4"]
    done = bort("predict", "--model", classifier, "--input_format", "csv", "--output", tmp_path / "o.csv", stdin=table)
    assert (done.status, done.out) == (0, "")


def test_other_column_names_and_pairs(bort, classifier, tmp_path, sentences):
    pairs = [{"question": a, "answer": b} for a, b in zip(sentences[:5], sentences[5:10], strict=True)]
    given = written(tmp_path / "pairs.jsonl", pairs)
    words = ["predict", "--model", classifier, "--input", given]
    done = bort(*words, "--text", "question", "--text_b", "answer")
    predictor = Predictor(classifier)
    assert [row["prediction"] for row in done.rows()] == [
        answer.label for answer in predictor.predict([(row["question"], row["answer"]) for row in pairs])
    ]
    alone = bort(*words, "--text", "question").rows()
    assert [row["p(cat)"] for row in alone] != [row["p(cat)"] for row in done.rows()]
    bort(*words).refused("pairs.jsonl:1", "'text'", "'question', 'answer'")
    bort(*words, "--text", "question", "--text_b", "reply").refused("pairs.jsonl:1", "'reply'")


def test_a_second_text_here_and_there_changes_no_other_row(bort, classifier, tmp_path, sentences):
    """Rows without a second text are single texts, whatever stands in the same window."""
    rows = [
        {"text": text, "text_b": sentences[-1] if index % 3 == 0 else ""} for index, text in enumerate(sentences[:9])
    ]
    given = written(tmp_path / "some.csv", rows)
    answers = [bort("predict", "--model", classifier, "--input", given, "--window", w).rows() for w in (1, 2, 9)]
    for one, two, all_ in zip(*answers, strict=True):
        for name in LABELS:
            assert one[f"p({name})"] == pytest.approx(all_[f"p({name})"], abs=2e-5)
            assert two[f"p({name})"] == pytest.approx(all_[f"p({name})"], abs=2e-5)


def test_regression(bort, regressor, sentences):
    rows = bort("predict", "--model", regressor, stdin=lines(sentences[:6])).rows()
    assert all(list(row) == ["text", "prediction"] for row in rows)
    values = [answer.label for answer in Predictor(regressor).predict(sentences[:6])]
    assert [row["prediction"] for row in rows] == pytest.approx(values, abs=1e-5)


def test_columns_of_our_names_are_replaced(bort, classifier, tmp_path):
    given = written(tmp_path / "again.jsonl", [{"prediction": "old", "text": "a cat", "probability": 2}])
    row = bort("predict", "--model", classifier, "--input", given).rows()[0]
    assert list(row) == ["prediction", "text", *ADDED[1:]]
    assert row["prediction"] in LABELS
    assert row["probability"] <= 1


@pytest.mark.parametrize("column", ["prediction", "probability", "p(cat)"])
def test_the_answer_replaces_no_text(bort, classifier, tmp_path, column):
    file, folder = tmp_path / "a.csv", tmp_path / "out"
    file.write_text(f"{column},text\nIt rains.,b\n")
    words = ["predict", "--model", classifier, "--input", file]
    for output in (file, f"{folder}/"):
        bort(*words, "--output", output, "--text", column).refused("--text", column, "must be another column")
    bort(*words, "--output", file, "--text-b", column).refused("--text-b", column)
    assert file.read_text() == f"{column},text\nIt rains.,b\n"
    assert not list(folder.glob("*.csv"))


def test_a_file_may_be_answered_in_place(bort, classifier, tmp_path):
    given = written(tmp_path / "same.csv", TABLE)
    assert bort("predict", "--model", classifier, "--input", given, "--output", given, "--window", 1).status == 0
    assert [row["id"] for row, _ in stream_rows(given)] == ["007", "2", "", "4"]


def test_a_long_text_is_cut_and_told_of(bort, classifier):
    long = "the old baker walked " * 5000
    done = bort("predict", "--model", classifier, stdin=lines([long, "short", long]))
    assert done.err == "texts longer than 32 tokens, which were cut: 2\n"
    first, _, third = done.rows()
    assert first["text"] == long.rstrip("\n")
    assert first["prediction"] == third["prediction"]
    assert len(long) > 100_000


# What is wrong


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("bad.csv", b"text,id\na,1\nb,2\nc\nd,4\n", [":4:", "as many cells"]),
        ("bad.csv", b'text,id\na,1\n"b,2\n', [":3:", "quote"]),
        ("bad.tsv", b"text\tid\na\t1\n\xff\t2\n", [":3:", "UTF-8"]),
        ("bad.jsonl", b'{"text": "a"}\n{"text": 3}\n', [":2:", "'text'", "value 3"]),
        ("bad.jsonl", b'{"text": "a"}\n{"tekst": "b"}\n', [":2:", "'tekst'"]),
        ("bad.jsonl", b'{"text": "a"}\n\n{"text": \n', [":3:", "JSON"]),
        ("bad.jsonl", b'{"text": "a"}\n{"text": "\\ud800"}\n', [":2:", "surrogate"]),
        ("bad.txt", b"a\nb\x00\n", [":2:", "NUL"]),
        ("other.csv", b"txt,id\na,1\n", [":1:", "'text'", "did you mean 'txt'?"]),
        ("other.xls", b"text\na\n", [".xls"]),
    ],
)
@pytest.mark.parametrize("window", [1, 1024])
def test_a_bad_row_leaves_no_file(bort, classifier, tmp_path, name, content, parts, window):
    given, out = tmp_path / name, tmp_path / "answers"
    given.write_bytes(content)
    words = ["predict", "--model", classifier, "--input", given, "--window", window]
    bort(*words, "--output", out / "new.csv").refused(f"{given}{'' if parts[0][0] != ':' else parts[0]}", *parts)
    assert not list(out.glob("**/*"))
    out.mkdir(exist_ok=True)
    (out / "old.csv").write_text("as it was")
    bort(*words, "--output", out / "old.csv").refused(*parts)
    assert [path.read_text() for path in out.iterdir()] == ["as it was"]


@pytest.mark.parametrize(
    ("name", "content"), [("in.csv", b"text,id\n"), ("in.csv", b""), ("in.jsonl", b""), ("in.txt", b"")]
)
def test_nothing_to_do_gives_an_empty_output(bort, classifier, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    for target in ("o.csv", "o.jsonl"):
        done = bort("predict", "--model", classifier, "--input", tmp_path / name, "--output", tmp_path / target)
        assert (done.status, done.out, done.err) == (0, "", "")
        assert (tmp_path / target).read_bytes() == b""
    done = bort("predict", "--model", classifier, stdin=b"")
    assert (done.status, done.out, done.err) == (0, "", "")


def test_an_output_that_cannot_be_written(bort, classifier, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").write_text("x")
    words = ["predict", "--model", classifier, "--output"]
    bort(*words, tmp_path / "folder.csv", stdin=b"a\n").refused("folder.csv", "is a folder")
    bort(*words, tmp_path / "file" / "o.csv", stdin=b"a\n").refused("o.csv", "cannot be written")
    bort(*words, tmp_path / "o.xlsx", stdin=b"a\n").refused("o.xlsx", ".csv, .tsv, .jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.csv"]
    assert not any((tmp_path / "folder.csv").iterdir())


BAD = {
    "in.csv": b'id,text\n1,a cat\n2\n3,"a ""dog"""\n4,x\xff\n5,a bird\n',
    "in.jsonl": b'{"id": "1", "text": "a cat"}\n2\n{"id": "3", "text": "a \\"dog\\""}\n{"id": "4", "text": 4}\n'
    b'{"id": "5", "text": "a bird"}\n',
    "first.jsonl": b'{"text": 1, "id": "0"}\n{"text": "a cat", "id": "1"}\nx\n',
}


@pytest.mark.parametrize("window", [1, 2, 1024])
@pytest.mark.parametrize(
    ("name", "good", "lines"), [("in.csv", "135", [3, 5]), ("in.jsonl", "135", [2, 4]), ("first.jsonl", "1", [1, 3])]
)
def test_rows_that_cannot_be_read_are_left_out_and_kept_apart(bort, classifier, tmp_path, name, good, lines, window):
    given, out = tmp_path / name, tmp_path / "o.csv"
    given.write_bytes(BAD[name])
    words = ["predict", "--model", classifier, "--input", given, "--window", window, "--output", out]
    done = bort(*words, "--on-error", "skip")
    assert done.status == 0
    assert f"rows that cannot be read, left out: 2, see {out}.errors.jsonl" in done.err
    rows = [row for row, _ in stream_rows(out)]
    assert [row["id"] for row in rows] == list(good)
    texts = [row["text"] for row in rows]
    assert [row["prediction"] for row in rows] == [each.label for each in Predictor(classifier).predict(texts)]
    kept = [json.loads(line) for line in Path(f"{out}.errors.jsonl").read_text("utf-8").splitlines()]
    assert [row["line"] for row in kept] == lines
    for row in kept:
        assert row["error"].startswith(f"{given}:{row['line']}: ")
        assert row["row"]
    bort(*words).refused(f"{given}:{lines[0]}:")


@pytest.mark.parametrize("window", [1, 2, 1024])
@pytest.mark.parametrize(("name", "ids"), [("in.csv", "1 3 5"), ("in.jsonl", "1 345"), ("first.jsonl", "01 ")])
def test_rows_that_cannot_be_read_may_stay_without_a_prediction(bort, classifier, tmp_path, name, ids, window):
    given, out, errors = tmp_path / name, tmp_path / "o.csv", tmp_path / "bad.jsonl"
    given.write_bytes(BAD[name])
    words = ["predict", "--model", classifier, "--input", given, "--window", window, "--on_error", "label"]
    assert bort(*words, "--output", out, "--errors", errors).status == 0
    rows = [row for row, _ in stream_rows(out)]
    assert [row["id"] or " " for row in rows] == list(ids)
    assert [bool(row["prediction"]) != bool(row["error"]) for row in rows] == [True] * len(ids)
    assert {*ADDED, "id", "text", "error"} == {*rows[0]}
    assert len(errors.read_text("utf-8").splitlines()) == 2
    printed = bort(*words)
    assert [row["prediction"] or "" for row in printed.rows()] == [row["prediction"] for row in rows]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "o.csv", "bad.jsonl"])


@pytest.mark.parametrize(
    ("name", "start", "good", "bad"),
    [
        ("a.jsonl", "", '{"text": "a"}\n', "1\n"),
        ("a.jsonl", "", '{"text": "a"}\n', '{"text": 3}\n'),
        ("a.csv", "text,id\n", "a,1\n", "b\n"),
        ("a.txt", "", "a\n", "a bad one\0\n"),
    ],
)
def test_rows_that_cannot_be_read_fill_blocks_too(tmp_path, name, start, good, bad):
    """Or a file of them would be held in memory as a whole."""
    given = tmp_path / name
    given.write_text(start + bad * 5 + good + bad * 7)
    for on_error, sizes in (("label", [4, 4, 4, 1]), ("skip", [1])):
        with BadRows(on_error, "-", None) as found:
            blocks = list(read_blocks([(str(given), None)], Columns(), None, found, rows=4))
        assert [len(block) for block in blocks] == sizes
        rows = [example for block in blocks for _, example in block]
        assert [place for place, each in enumerate(rows) if isinstance(each, Example)] == [5 if len(rows) > 1 else 0]
        lines = [each.line for each in rows if not isinstance(each, Example)]
        assert lines == sorted(lines)
        assert found.count == 12


def test_a_broken_table_stops_whatever_is_asked(bort, classifier, tmp_path):
    given, out = tmp_path / "in.csv", tmp_path / "o.csv"
    given.write_text('text,id\na,1\nb\n"c,2\nd,3\n')
    bad = bort("predict", "--model", classifier, "--input", given, "--output", out, "--on-error", "skip")
    assert (bad.status, bad.out) == (2, "")
    assert "never closed" in bad.err
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]
    bort("predict", "--model", classifier, "--errors", out, stdin=b"a\n").refused("--errors", "--on-error skip")


def test_without_bad_rows_there_is_no_file_of_them(bort, classifier, tmp_path):
    """Nor one of an earlier run."""
    given = written(tmp_path / "in.csv", TABLE)
    (tmp_path / "o.csv.errors.jsonl").write_text("{}\n")
    done = bort(
        "predict", "--model", classifier, "--input", given, "--output", tmp_path / "o.csv", "--on-error", "skip"
    )
    assert (done.status, done.err) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "o.csv"]


def test_an_errors_file_that_was_named_is_left_alone(tmp_path):
    named = tmp_path / "bad.jsonl"
    named.write_text("{}\n")
    with BadRows("skip", str(tmp_path / "o.csv"), str(named)) as bad:
        pass
    bad.remove_earlier()
    assert named.exists()


@pytest.mark.parametrize(
    ("command", "model", "other"), [("predict", "classifier", "--text-b"), ("embed", "teacher_folder", "--column")]
)
def test_a_column_error_of_the_input_is_kept(bort, request, tmp_path, command, model, other):
    given = tmp_path / "in.jsonl"
    given.write_text('{"error": "E7", "text": "a cat"}\n{"text": 3, "error": "E8"}\n{"text": "a dog"}\n')
    words = [command, "--model", request.getfixturevalue(model), "--input", given, "--output", "-"]
    words += ["--on-error", "label"]
    first, second, third = bort(*words).rows()
    assert (first["error"], third["error"]) == ("E7", None)
    assert "must be a string" in second["error"]
    bort(*words, "--text", "error").refused("--text", "writes the reasons")
    bort(*words, other, "error").refused(other, "writes the reasons")


def test_labels_in_a_cell_can_be_told_apart(bort, multilabeller, tmp_path):
    words = ["predict", "--model", multilabeller, "--output-format"]
    name = Predictor(multilabeller).task.names[0]
    bort(*words, "csv", "--label-separator", name[1], stdin=b"a\n").refused("--label-separator", repr(name))
    assert bort(*words, "jsonl", "--label-separator", name[1], stdin=b"a\n").status == 0
    written(tmp_path / "a.jsonl", TABLE)
    written(tmp_path / "b.csv", TABLE)
    words = [*words, "auto", "--output", f"{tmp_path}/out/", "--input", f"{tmp_path}/*.*"]
    bort(*words, "--label-separator", name[1]).refused("--label-separator", repr(name))
    assert not [*(tmp_path / "out").iterdir()], "no file is labelled before one is refused"
    bort("predict", "--model", multilabeller, "--label-separator", "", stdin=b"a\n").refused(
        "--label-separator", "must not be empty"
    )


def test_a_named_delimiter_and_a_table_taken_for_lines(bort, classifier, tmp_path):
    done = bort(
        "predict", "--model", classifier, "--input-format", "csv", "--delimiter", ":", stdin=b"id:text\n1:a, b\n"
    )
    assert [(row["id"], row["text"]) for row in done.rows()] == [("1", "a, b")]
    done = bort("predict", "--model", classifier, stdin=b"id,text\n1,a\n")
    assert len(done.rows()) == 2
    assert "if it is the header of a table, give --input-format csv" in done.err


def test_a_leading_tilde_is_the_home_folder(bort, classifier, tmp_path, monkeypatch):
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    written(home / "in.csv", TABLE)
    (work / "c.yaml").write_text("input: ~/in.csv\noutput: ~/new/o.csv\n")
    assert bort("predict", "--model", classifier, "--config", "c.yaml").status == 0
    assert bort("predict", "--model", classifier, "--input=~/in.csv", "--output=~/p.csv").status == 0
    assert (home / "new/o.csv").read_bytes() == (home / "p.csv").read_bytes() != b""
    assert [path.name for path in work.iterdir()] == ["c.yaml"]


def test_columns_that_come_late_come_last(bort, classifier, tmp_path):
    given = written(tmp_path / "in.jsonl", [{"text": "a", "x": 1}, {"text": "b"}, {"text": "c", "y": 2}])
    words = ["predict", "--model", classifier, "--input", given, "--output"]
    assert bort(*words, tmp_path / "o.csv").status == 0
    rows = [row for row, _ in stream_rows(tmp_path / "o.csv")]
    assert [(row["x"], row["y"]) for row in rows] == [("1", ""), ("", ""), ("", "2")]
    assert list(rows[0])[-1] == "y"
    assert bort(*words, tmp_path / "o.jsonl").status == 0
    assert [row.get("y") for row, _ in stream_rows(tmp_path / "o.jsonl")] == [None, None, 2]


def test_a_model_that_does_not_answer(bort, world, tmp_path):
    bort("predict", "--model", world.encoder, stdin=b"a\n").refused("fine-tune it first", "bort finetune")
    bort("predict", "--model", tmp_path, stdin=b"a\n").refused(tmp_path, "no config.json")
    bort("predict", "--model", "nosuch", stdin=b"a\n").refused("'nosuch'", "hub name")


def test_closed_streams(bort, classifier, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(Exception, match="standard input: is closed"):
        predict(PredictArguments(classifier))


def test_devices_and_links_are_not_replaced(bort, classifier, tmp_path):
    real, link, pipe = tmp_path / "real.jsonl", tmp_path / "link.jsonl", tmp_path / "pipe"
    real.write_text("old")
    link.symlink_to(real)
    assert bort("predict", "--model", classifier, "--output", link, stdin=b"a\n").status == 0
    assert link.is_symlink()
    assert json.loads(real.read_text())["text"] == "a"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()), daemon=True)
    reader.start()
    assert (
        bort("predict", "--model", classifier, "--output", pipe, "--output_format", "jsonl", stdin=b"a\n").status == 0
    )
    reader.join(10)
    assert json.loads(got[0])["text"] == "a"
    assert pipe.is_fifo()
    assert [errors_path(str(path), "skip", None) for path in (pipe, "/dev/stdout", "/dev/fd/1", "-")] == [None] * 4
    assert errors_path(str(link), "label", None) == f"{link}.errors.jsonl"


# Streams without end


class Endless:
    """A stream that gives one text after another, and looks around before each."""

    def __init__(self, look, count: int) -> None:
        self.look, self.count, self.given = look, count, 0

    def readline(self, size: int = -1) -> bytes:
        self.look(self.given)
        if self.given == self.count:
            return b""
        self.given += 1
        return b"text %d\n" % self.given


class Flushed(io.TextIOWrapper):
    """A standard output of which only what was flushed is seen, as through a pipe."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=False)

    @property
    def rows(self) -> int:
        return self.buffer.getvalue().count(b"\n")


@pytest.mark.parametrize("window", [1, 4])
def test_answers_come_before_the_next_window_is_asked_for(classifier, monkeypatch, window):
    out = Flushed()
    monkeypatch.setattr(sys, "stdout", out)

    def look(given: int) -> None:
        assert out.rows == given // window * window, f"{given} texts given"

    stdin = type("Stdin", (), {"buffer": Endless(look, 10)})
    monkeypatch.setattr(sys, "stdin", stdin)
    assert predict(PredictArguments(classifier, window=window)).rows == 10
    assert out.rows == 10


def test_no_more_than_a_window_is_held(classifier, monkeypatch):
    window, most = 8, 0

    def look(given: int) -> None:
        nonlocal most
        if given > 40 and given % 3 == 0:
            most = max(most, sum(type(thing) is Example for thing in gc.get_objects()))

    before = sum(type(thing) is Example for thing in gc.get_objects())
    monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"buffer": Endless(look, 100)}))
    monkeypatch.setattr(sys, "stdout", Flushed())
    assert predict(PredictArguments(classifier, window=window)).rows == 100
    assert 0 < most - before <= 2 * window
