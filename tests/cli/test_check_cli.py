"""`bort check`: each kind of finding, in the table, in JSON and on the page."""

import json
import random

import pytest

from bort.data.tables.examples import read_examples
from bort.inspection.page import check_report
from bort.model.checkpoints import example_data
from bort.predict.encoder import Encoder
from bort.runs import environment


@pytest.fixture
def train(tmp_path):
    """210 embedded messages, five of which get a wrong label, one is almost repeated, one is German."""
    rows = [{"text": one.text, "label": one.label} for one in read_examples(example_data("support") / "test.jsonl")]
    random.Random(0).shuffle(rows)
    names = sorted({row["label"] for row in rows})
    for row in rows[:5]:
        row["label"] = names[(names.index(row["label"]) + 3) % len(names)]
    rows.append({"text": "I would like to send back the hiking boots that I bought, please.", "label": "returns"})
    rows.append({"text": "I'd like to send back the hiking boots which I bought, please.", "label": "damage"})
    rows.append(
        {"text": "Wo ist mein Paket? Ich habe es letzte Woche bestellt und es ist nicht da.", "label": "delivery"}
    )
    rows.append({"text": "Ich habe noch keine Antwort auf meine Frage, und das ist sehr schade.", "label": "feedback"})
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


def test_all_findings(bort, train, tmp_path):
    dev = tmp_path / "dev.jsonl"
    first = json.loads(train.read_text("utf-8").splitlines()[10])
    others = [{"text": "  " + first["text"].upper(), "label": first["label"]}, {"text": " ", "label": "x"}]
    dev.write_text("".join(json.dumps(row) + "\n" for row in others), "utf-8")
    page = tmp_path / "page.html"
    done = bort("check", train, dev, "--json", "--report", page)
    assert (done.status, done.err) == (0, "")
    found = json.loads(done.out)
    assert found["data"]["rows"] == {"train": 214, "dev": 1}
    assert found["data"]["leaked"] == {"dev": 1}
    assert list(found["refused"]) == ["dev"]
    assert found["lengths"]["train"]["limit"] == 128
    assert 10 < found["lengths"]["train"]["median"] < found["lengths"]["train"]["longest"] <= 128
    assert sum(found["labels"]["train"].values()) == 214
    assert found["languages"]["others"] == {"German": 2}
    near = found["near"][0]
    assert (near["place"], near["near_place"]) == (f"{train}:212", f"{train}:211")
    assert near["labels"] == ["damage", "returns"]
    doubted = [doubt["line"] for doubt in found["doubts"] if doubt["part"] == "train"]
    assert len({1, 2, 3, 4, 5} & {*doubted[:10]}) >= 2  # by chance: 0.2
    assert len(found["findings"]) >= 5
    written = page.read_text("utf-8")
    again = check_report(found)
    again.made_with(environment())
    assert written == again.text()
    for part in ("Labels to look at", "Near duplicates", "German", "hiking boots"):
        assert part in written


def test_the_table(bort, train):
    done = bort("check", train, "--show", 5)
    assert done.status == 0
    assert "labels to look at, 5 of" in done.out
    assert "different labels, such as" in done.out
    assert "another language than English" in done.out


def test_quick_loads_no_model(bort, train, monkeypatch):
    monkeypatch.setattr(Encoder, "__init__", None)
    done = bort("check", train, "--quick", "--json")
    found = json.loads(done.out)
    assert (found["near"], found["doubts"], found["lengths"]) == (None, None, {})
    assert found["languages"]["others"] == {"German": 2}


def test_texts_without_labels(bort, tmp_path):
    (tmp_path / "a.txt").write_text("one text\nanother text\none text\n", "utf-8")
    done = bort("check", tmp_path / "a.txt")
    assert "has no column 'label'" in done.err
    assert "1 of the 3 a texts repeat an earlier one" in done.out


def test_numbers_that_are_far_off(bort, tmp_path):
    rows = [f"{word} {place},{len(word) + place / 100}" for place in range(30) for word in ("no", "splendid")]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows, "no 3,90.5"]), "utf-8")
    done = bort("check", tmp_path / "a.csv", "--json")
    doubts = json.loads(done.out)["doubts"]
    assert [doubt["line"] for doubt in doubts][:1] == [62]
    assert doubts[0]["probability"] is None


def test_pairs(bort, tmp_path):
    lines = ["text,text_b,label"] + [f"a dog runs {n},a cat sleeps {n},{'ab'[n % 2]}" for n in range(12)]
    (tmp_path / "a.csv").write_text("\n".join(lines), "utf-8")
    (tmp_path / "b.csv").write_text("text,label\nalone,a\n", "utf-8")
    assert json.loads(bort("check", tmp_path / "a.csv", "--json").out)["lengths"]["a"]["median"] >= 9
    bort("check", tmp_path / "a.csv", tmp_path / "b.csv").refused("b.csv:2", "must hold pairs where")


def test_one_label_is_nothing_to_learn_from(bort, tmp_path):
    (tmp_path / "a.csv").write_text("text,label\none,a\ntwo,a\n", "utf-8")
    found = json.loads(bort("check", tmp_path / "a.csv", "--json").out)
    assert found["doubts"] is None
    assert "a cannot be trained on: " in found["findings"][-1]
    assert "two distinct labels" in found["unusable"]["a"]
    assert not found["refused"]


def test_a_label_that_only_the_development_data_have_is_told(bort, tmp_path):
    (tmp_path / "a.csv").write_text("text,label\none,a\ntwo,b\n", "utf-8")
    (tmp_path / "b.csv").write_text("text,label\nthree,a\nfour,c\n", "utf-8")
    done = bort("check", tmp_path / "a.csv", tmp_path / "b.csv", "--quick")
    assert done.status == 0
    assert "1 row of b cannot be trained on, such as" in done.out
    assert "value 'c': the label must be one of 'a', 'b'" in " ".join(done.out.split())


def test_labels_of_another_kind_are_told_and_left_out(bort, tmp_path):
    (tmp_path / "a.csv").write_text("text,label\none,1.5\ntwo,many\nthree,2\n", "utf-8")
    found = json.loads(bort("check", tmp_path / "a.csv", "--kind", "regression", "--quick", "--json").out)
    assert found["data"]["rows"] == {"a": 2}
    assert len(found["refused"]["a"]) == 1
    assert "a.csv:3: column 'label': value 'many': a label must be a finite number" in found["refused"]["a"][0]
    done = bort("check", tmp_path / "a.csv", "--kind", "multilabel", "--quick")
    done.refused("has no row that can be read", "a.csv:2", "must be a list of labels")


def test_labels_are_shown_as_they_are_written(bort, tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nParis,Ciudad Única\nParis,köy\n", "utf-8")
    found = json.loads(bort("check", tmp_path / "a.csv", "--quick", "--json").out)
    assert "'Ciudad Única'" in found["findings"][0]
    assert "'köy'" in found["findings"][0]


def test_mistakes(bort, tmp_path):
    bort("check", tmp_path / "none.csv").refused("none.csv", "no such file")


def test_a_report_does_not_replace_data(bort, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train.csv", "dev.csv"):
        (tmp_path / name).write_text("text,label\none,a\ntwo,b\n", "utf-8")
    done = bort("check", "--quick", "--report", "train.csv", "dev.csv")
    done.refused("--report", "train.csv", "must end in .html")
    assert (tmp_path / "train.csv").read_text("utf-8").startswith("text,label")


def several(path, form: str):
    """Texts of two labels, one or both or none of them, with one that lacks a label and one that has it for nothing."""
    damage = [f"The {thing} is broken." for thing in ("zip", "lid", "cup", "lamp", "chair", "box", "bag", "toy")]
    late = [
        f"My {thing} has not arrived." for thing in ("parcel", "order", "letter", "book", "coat", "gift", "shoe", "bed")
    ]
    rows = [(text, ["damage"]) for text in damage] + [(text, ["delivery"]) for text in late]
    rows += [(f"{a} {b}", ["damage", "delivery"]) for a, b in zip(damage[:4], late[:4], strict=True)]
    rows += [("Thank you!", []), ("Hello.", []), ("Good morning.", []), ("The plate is broken.", ["delivery"])]
    if form == "lists":
        path.write_text("".join(json.dumps({"text": text, "label": labels}) + "\n" for text, labels in rows), "utf-8")
        return []
    path.write_text("text,label\n" + "".join(f"{text},{';'.join(labels)}\n" for text, labels in rows), "utf-8")
    return ["--label-separator", ";"]


@pytest.mark.parametrize("form", ["lists", "cells"])
def test_several_labels_a_text(bort, tmp_path, form):
    file = tmp_path / ("a.jsonl" if form == "lists" else "a.csv")
    words = several(file, form)
    done = bort("check", file, *words, "--json")
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert found["labels"] == {"a": {"delivery": 13, "damage": 12}}
    assert found["judged"] == 48, "two labels of 24 texts"
    doubts = {(each["text"], each["label"], each["answer"]) for each in found["doubts"]}
    assert ("The plate is broken.", "not damage", "damage") in doubts
    assert ("The plate is broken.", "delivery", "not delivery") in doubts
    assert "not damage" in bort("check", file, *words).out
