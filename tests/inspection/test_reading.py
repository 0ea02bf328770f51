"""Files read for inspection, with all their faults."""

import json

import pytest

from bort.data.tables.examples import Columns
from bort.errors import BortError
from bort.inspection.reading import part_names, read_part


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


def test_names_of_parts():
    assert part_names(["x/train.csv", "x/dev.jsonl.gz"]) == ["train", "dev"]
    assert part_names(["x/a.csv", "y/a.csv"]) == ["x/a.csv", "y/a.csv"]
