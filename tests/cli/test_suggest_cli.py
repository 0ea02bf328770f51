"""`bort suggest`: files in, a file to label in out."""

import csv
import json
import weakref

import pytest

from bort.cli.suggest import _drawn
from bort.model.checkpoints import example_data


@pytest.fixture
def labelled(tmp_path):
    lines = (example_data("support") / "train.jsonl").read_text("utf-8").splitlines()[::3]
    (tmp_path / "train.jsonl").write_text("\n".join(lines), "utf-8")
    return tmp_path / "train.jsonl"


@pytest.fixture
def pool(tmp_path, labelled):
    known = json.loads(labelled.read_text("utf-8").splitlines()[0])["text"]
    texts = ["The zip broke.", "the ZIP broke. ", " ", known, "Where is my parcel?", "Thank you!", "I cannot log in."]
    rows = [{"id": n, "text": text, "label": "old"} for n, text in enumerate(texts)]
    (tmp_path / "pool.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return tmp_path / "pool.jsonl"


def test_rows_to_label_of_an_encoder(bort, labelled, pool, tmp_path):
    out = tmp_path / "next.csv"
    done = bort("suggest", pool, "--model", "bort-nano", "--labelled", labelled, "--output", out, "--count", 3)
    assert done.status == 0, done.err
    assert "3 of 7 texts, to be labelled" in done.out
    with open(out, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "text", "label", "prediction", "probability"]
    assert len({row["id"] for row in rows} - {"1", "2", "3"}) == 3
    assert {row["label"] for row in rows} == {""}
    assert all(0 < float(row["probability"]) <= 1 for row in rows)


def test_what_is_labelled_repeated_or_blank_is_left_out(bort, labelled, pool):
    done = bort("suggest", pool, "--model", "bort-nano", "--labelled", labelled)
    assert {row["id"] for row in done.rows()} == {0, 4, 5, 6}
    assert all(row["label"] is None for row in done.rows())


def test_an_encoder_needs_labels(bort, pool):
    bort("suggest", pool, "--model", "bort-nano").refused("bort-nano", "give labelled texts")


def test_empty_input_gives_empty_output(bort, labelled):
    done = bort("suggest", "--model", "bort-nano", "--labelled", labelled, stdin=b"")
    assert (done.status, done.out) == (0, "")


def test_pairs_and_single_texts_do_not_mix(bort, labelled, tmp_path):
    (tmp_path / "pairs.csv").write_text("text,text_b\na,b\nc,d\n", "utf-8")
    done = bort("suggest", tmp_path / "pairs.csv", "--model", "bort-nano", "--labelled", labelled)
    done.refused("train.jsonl:1", "must hold pairs")


@pytest.mark.parametrize(
    "words", [["--text", "prediction"], ["--text-b", "probability"], ["--label", "x", "prediction"]]
)
def test_the_answer_replaces_no_text_and_no_label(bort, pool, words):
    bort("suggest", pool, "--model", "bort-nano", *words).refused(words[0], words[-1], "must be another column")


def test_the_label_column_is_no_text_column(bort, pool):
    words = ["suggest", pool, "--model", "bort-nano"]
    bort(*words, "--label", "text").refused("--label", "text", "must be another column than the text's")


def test_a_number_written_in_two_ways_is_one_class(bort, pool, tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nIt is torn.,0\nIt is late.,1\n")
    (tmp_path / "b.csv").write_text("text,label\nA hole.,0.0\nWhere is it?,1.0\n")
    words = ["suggest", pool, "--model", "bort-nano", "--labelled", tmp_path / "a.csv", tmp_path / "b.csv"]
    assert {row["prediction"] for row in bort(*words).rows()} == {"0", "1"}


def test_an_input_is_not_replaced(bort, labelled, pool, tmp_path):
    before = pool.read_bytes()
    words = ["suggest", pool, "--model", "bort-nano", "--labelled", labelled, "--output"]
    for output in (pool, labelled):
        bort(*words, output).refused("--output", "would replace a file that this command reads")
    assert pool.read_bytes() == before


def test_only_as_many_rows_are_held_as_may_be_considered(capsys):
    """Each is as likely to be drawn; fewer rows stay as they are."""
    assert _drawn(iter(range(5)), 5) == [*range(5)]
    held = weakref.WeakSet()

    class Row:
        def __init__(self, number):
            self.number = number
            held.add(self)

    drawn = [row.number for row in _drawn(map(Row, range(1000)), 100)]
    assert drawn == sorted({*drawn})
    assert len(drawn) == 100
    assert 400 < sum(drawn) / 100 < 600
    assert "100 of the 1,000 texts are drawn" in capsys.readouterr().err
    most = []
    _drawn((most.append(len(held)) or Row(number) for number in range(300)), 10)
    assert max(most) <= 12


def test_several_labels_a_text(bort, pool, tmp_path):
    rows = [("It is torn.", ["x"]), ("It is late.", ["x", "y"]), ("Where is it?", ["y"]), ("Hello", [])] * 2
    listed = [{"text": f"{text} {n}", "label": labels} for n, (text, labels) in enumerate(rows)]
    (tmp_path / "many.jsonl").write_text("\n".join(map(json.dumps, listed)), "utf-8")
    words = ["suggest", pool, "--model", "bort-nano", "--labelled", tmp_path / "many.jsonl", "--count", 2]
    found = bort(*words).rows()
    assert len(found) == 2
    for row in found:
        assert (row["label"], row["probability"]) == (None, None)
        assert {*row["prediction"]} <= {"x", "y"}
    (tmp_path / "many.csv").write_text("text,x,y\na,1,0\nb,0,1\nc,1,1\nd,0,0\n")
    words = ["suggest", pool, "--model", "bort-nano", "--labelled", tmp_path / "many.csv", "--label", "x", "y"]
    assert all((row["x"], row["y"]) == (None, None) for row in bort(*words).rows())
