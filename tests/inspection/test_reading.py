"""Files read for inspection, with all their faults."""

import json

import pytest

from bort.data.tables.examples import Columns
from bort.errors import BortError
from bort.inspection.reading import part_names, read_part, read_parts


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def test_rows_that_break_a_rule_are_told_and_the_others_read(tmp_path):
    file = written(
        tmp_path / "a.jsonl",
        [{"text": "one", "label": "a"}, {"text": " ", "label": "a"}, {"text": "two", "label": None}, {"text": "three"}],
    )
    part = read_part(file, Columns())
    assert [example.text for example in part.examples] == ["one"]
    assert [message.split(":")[1] for message in part.refused] == ["2", "3", "4"]
    assert "must not be blank" in part.refused[0]


def test_the_first_row_of_json_lines_may_lack_its_label(tmp_path):
    rows = [{"text": "one"}, {"text": "two", "label": "a"}, {"text": "three", "label": "b"}]
    part = read_part(written(tmp_path / "a.jsonl", rows), Columns())
    assert [example.label for example in part.examples] == ["a", "b"]
    (message,) = part.refused
    assert "a.jsonl:1: column 'label': this column must exist" in message


def test_labels_read_as_one_are_told(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nx,spam\ny,spam \nz,Spam\n", "utf-8")
    (alike,) = read_part(str(tmp_path / "a.csv"), Columns()).spellings
    assert (alike.labels, alike.counts, alike.differ_in) == (("spam", "spam "), (1, 1), "spacing")
    rows = [{"text": "x", "label": 1}, {"text": "y", "label": 1.0}, {"text": "z", "label": 2}]
    (alike,) = read_part(written(tmp_path / "b.jsonl", rows), Columns()).spellings
    assert {*alike.labels} == {"1", "1.0"}


def test_what_stays_two_labels_is_not_told_as_one(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nx,1\ny,1.0\n", "utf-8")
    part = read_part(str(tmp_path / "a.csv"), Columns())
    assert {example.label for example in part.examples} == {"1", "1.0"}
    assert not part.spellings


def test_amounts_may_be_written_in_several_ways(tmp_path):
    rows = [{"text": "x", "label": 1}, {"text": "y", "label": 1.0}, {"text": "z", "label": 2.5}]
    assert not read_part(written(tmp_path / "b.jsonl", rows), Columns()).spellings


def test_a_file_without_labels(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n", "utf-8")
    assert not read_part(str(tmp_path / "a.txt"), Columns()).labelled
    file = written(tmp_path / "b.jsonl", [{"text": "one", "topic": "a"}])
    part = read_part(file, Columns())
    assert (part.labelled, part.columns) == (False, ("text", "topic"))
    assert read_part(file, Columns(label="topic")).labelled
    with pytest.raises(BortError, match="kind"):
        read_part(file, Columns(label="kind"))


@pytest.mark.parametrize("rows", [[{"text": "a", "label": ["x", "y"]}], [{"text": "a", "label": []}]])
def test_several_labels_a_text(tmp_path, rows):
    part = read_part(written(tmp_path / "a.jsonl", rows), Columns())
    assert [one.label for one in part.examples] == [tuple(row["label"]) for row in rows]
    assert (part.labelled, part.spellings) == (True, ())


def test_a_file_without_a_whole_row(tmp_path):
    file = written(tmp_path / "a.jsonl", [{"text": "", "label": "a"}])
    with pytest.raises(BortError, match="no row that can be read"):
        read_part(file, Columns())


def test_nan_among_numbers_is_told(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na,1\nb,2\nc,nan\nd,1\n", "utf-8")
    for kind in ("auto", "classification", "regression"):
        part = read_part(str(tmp_path / "a.csv"), Columns(), kind)
        assert len(part.examples) == 3
        (message,) = part.refused
        assert "a.csv:4: column 'label': value 'nan': a label must be a finite number" in message


@pytest.mark.parametrize("odd", [0, 2])
def test_one_label_among_lists_is_told(tmp_path, odd):
    rows = [{"text": "a", "label": "x" if n == odd else ["x", "y"]} for n in range(4)]
    part = read_part(written(tmp_path / "a.jsonl", rows), Columns())
    assert (len(part.examples), part.kind) == (3, "multilabel")
    (message,) = part.refused
    assert f"a.jsonl:{odd + 1}: column 'label': value 'x': must be a list of labels" in message


@pytest.mark.parametrize(
    ("train", "dev", "kept", "message"),
    [
        ("xyx", "xzy", 3, "dev.jsonl:2: column 'label': value 'z': the label must be one of 'x', 'y'"),
        ("123", ["1", 2.5, 3.0], 3, "dev.jsonl:2: column 'label': value '2.5': the label must be one of '1', '2', '3'"),
        ([["x"], ["y"]], [["x"], "y"], 1, "dev.jsonl:2: column 'label': value 'y': must be a list of labels"),
        ([1.5, 2], [1, "x"], 1, "dev.jsonl:2: column 'label': value 'x': a label must be a finite number"),
    ],
)
def test_other_files_are_judged_by_the_training_data(tmp_path, train, dev, kept, message):
    files = [
        written(tmp_path / f"{name}.jsonl", [{"text": str(n), "label": label} for n, label in enumerate(labels)])
        for name, labels in (("train", train), ("dev", dev))
    ]
    read = read_parts(files, Columns())
    assert (read["train"].refused, read["train"].unusable) == ((), "")
    (told,) = read["dev"].refused
    assert message in told
    assert len(read["dev"].examples) == kept


def test_a_file_of_another_kind_is_refused(tmp_path):
    lists = written(tmp_path / "lists.jsonl", [{"text": "a", "label": ["x", "y"]}])
    single = written(tmp_path / "single.jsonl", [{"text": "a", "label": "x"}])
    with pytest.raises(BortError, match=r"single.jsonl: has no row that can be read; .*must be a list of labels"):
        read_parts([lists, single], Columns())


def test_training_data_that_are_useless_as_a_whole(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na,x\nb,x\n", "utf-8")
    (tmp_path / "b.csv").write_text("text;label\na;3\nb;2,5\n", "utf-8")
    unlabelled = written(tmp_path / "u.jsonl", [{"text": "a"}])
    read = read_parts([unlabelled, str(tmp_path / "a.csv"), str(tmp_path / "b.csv")], Columns())
    assert "needs at least two distinct labels; there is only 'x'" in read["a"].unusable
    assert "b.csv:3: column 'label': value '2,5'" in read_parts([str(tmp_path / "b.csv")], Columns())["b"].unusable
    assert not read_parts([str(tmp_path / "b.csv")], Columns(), "classification")["b"].unusable


def test_very_many_rows_are_checked_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("bort.inspection.reading._AT_ONCE", 2)
    rows = [{"text": "a", "label": "no" if n % 3 == 1 else n + 0.5} for n in range(9)]
    part = read_part(written(tmp_path / "a.jsonl", rows), Columns(), "regression")
    assert [example.line for example in part.examples] == [1, 3, 4, 6, 7, 9]
    assert [message.split(":")[1] for message in part.refused] == ["2", "5", "8"]


def test_names_of_parts():
    assert part_names(["x/train.csv", "x/dev.jsonl.gz"]) == ["train", "dev"]
    assert part_names(["x/a.csv", "y/a.csv"]) == ["x/a.csv", "y/a.csv"]
