"""A general pool: what is nearest is taken, no class takes all, and nothing is taken twice."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.agora.general_pool import GeneralPool, beside
from bort.agora.journal import RunJournal
from bort.agora.rounds import Made
from bort.agora.run import finetune
from bort.data.index.layout import Description
from bort.data.index.search import Index
from bort.data.index.writer import IndexWriter
from bort.data.tables.checks import identity
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.finetuning.fitter import Fitter


def angle(text: str) -> np.ndarray:
    """Texts are angles in degrees."""
    radians = np.deg2rad(float(text.split()[0]))
    return np.array([np.cos(radians), np.sin(radians)], np.float32)


def encode(texts):
    return np.stack([angle(text) for text in texts])


def indexed(folder: Path, texts) -> Index:
    writer = IndexWriter(folder, Description("angles", 2, "float16"))
    writer.append(texts, encode(texts))
    writer.commit(len(texts))
    writer.finish()
    return Index(folder)


TRAIN = [Example("0 a", None, "east"), Example("10 a", None, "east"), Example("90 a", None, "north")]


def pool_of(folder, texts, train=TRAIN, **settings) -> GeneralPool:
    given = {"per_mistake": 2, "per_class": 3, "distinct": 0.99999}
    return GeneralPool(indexed(folder, texts), encode, train, **given | settings)


def test_the_nearest_to_mistakes_and_to_the_middle_of_classes(tmp_path):
    pool = pool_of(tmp_path / "i", [f"{degrees} x" for degrees in range(0, 180, 2)])
    east, north = pool([Example("40", None, "east"), Example("100", None, "north")], set())
    # The middle of east is at 5 degrees; its mistake and it choose in turn, until there are three.
    assert {example.text for example in east} >= {"40 x"}
    assert {example.text for example in east} & {"4 x", "6 x"}
    assert len(east) == len(north) == 3
    assert {"100 x", "90 x"} <= {example.text for example in north}
    assert all(example.label is None for example in (*east, *north))


def test_a_class_without_mistakes_gives_to_the_nearest_mistake(tmp_path):
    pool = pool_of(tmp_path / "i", ["6 x", "88 x", "92 x"])
    first, second = pool([Example("350", None, "east"), Example("60", None, "east")], set())
    assert {"88 x", "92 x"} <= {example.text for example in second}
    assert "88 x" not in {example.text for example in first}
    assert pool([], set()) == []


def test_a_mistake_of_a_class_that_the_training_data_lack_finds_texts_too(tmp_path):
    pool = pool_of(tmp_path / "i", [f"{degrees} x" for degrees in (5, 90, 182)], per_class=1)
    [east, south] = pool([Example("0", None, "east"), Example("182", None, "south")], set())
    assert [[example.text for example in found] for found in (east, south)] == [["5 x", "90 x"], ["182 x"]]


def test_near_duplicates_and_what_is_known_are_left_out(tmp_path):
    texts = ["40 x", "40.1 x", "40.2 x", "44 x", "44  X", "60 x"]
    pool = pool_of(tmp_path / "i", texts, distinct=float(np.cos(np.deg2rad(1))), per_class=6, per_mistake=6)
    [found] = pool([Example("40", None, "east")], {identity(Example("60 x"))})
    assert len(found) == 2
    assert {example.text.split(".")[0].split()[0] for example in found} == {"40", "44"}


def test_a_round_searches_twice_and_each_mistake_for_no_more_than_it_may_take(tmp_path, monkeypatch):
    pool = pool_of(tmp_path / "i", [f"{degrees} x" for degrees in range(0, 180)], per_mistake=1, per_class=30)
    asked, search = [], pool.index.search
    monkeypatch.setattr(
        pool.index, "search", lambda vectors, k, **how: asked.append((len(vectors), k)) or search(vectors, k, **how)
    )
    pool([Example(str(degrees), None, "east") for degrees in range(0, 50, 10)], set())
    assert asked == [(5, 3), (2, 90)]


def test_classes_share_what_is_taken_where_their_part_is_not_named(tmp_path):
    pool = pool_of(tmp_path / "i", [f"{degrees} x" for degrees in range(9)], per_class=None)
    assert pool.per_class == 2000
    assert len(pool([Example("40", None, "east")], set())[0]) == 9


@given(
    st.lists(st.integers(0, 359), min_size=1, max_size=60),
    st.lists(st.tuples(st.integers(0, 359), st.sampled_from(["east", "north"])), min_size=1, max_size=6),
    st.integers(1, 5),
    st.integers(1, 9),
)
def test_no_class_takes_more_than_its_share_and_no_text_goes_twice(tmp_path_factory, degrees, wrong, each, share):
    texts = [f"{one} x" for one in degrees]
    pool = pool_of(tmp_path_factory.mktemp("i") / "i", texts, per_mistake=each, per_class=share)
    mistakes = [Example(str(one), None, label) for one, label in wrong]
    known = {identity(Example(texts[0]))}
    found = [example.text for points in pool(mistakes, known) for example in points]
    assert len(found) == len({*map(str.lower, found)})
    assert len(found) <= 2 * share
    assert texts[0] not in found
    assert {*found} <= {*texts}
    assert found or len({*texts}) == 1
    later = [example.text for points in pool(mistakes, {identity(Example(t)) for t in texts}) for example in points]
    assert later == []


def test_it_stands_beside_another_source(tmp_path):
    pool = pool_of(tmp_path / "i", ["40 x", "42 x"])

    def near(mistakes, rng, known):
        return Made([[Example("40 x")] for _ in mistakes], {"too far": 2})

    made = beside(near, pool)([Example("40", None, "east")], random.Random(0), set())
    assert [example.text for example in made.near[0]] == ["40 x", "42 x"]
    assert made.dropped == {"too far": 2}


def test_the_vectors_of_a_sentence_encoder_are_learned_of_what_is_found(
    world, teacher_folder, sentences, tmp_path, monkeypatch
):
    monkeypatch.setattr(RunJournal, "close", lambda self: None)
    monkeypatch.setattr(
        "bort.agora.growing_run.preferring_grown", lambda result, task, dev: replace(result, best=grown(result))
    )
    grown, seen, fit = lambda result: result.rounds[-1].winner, [], Fitter.fit

    def watched(self, theta, train, dev, **settings):
        seen.append(train.vectors)
        return fit(self, theta, train, dev, **settings)

    monkeypatch.setattr(Fitter, "fit", watched)
    (tmp_path / "pool.txt").write_text("".join(f"{text} Indeed.\n" for text in sentences), "utf-8")
    settings = world.finetuning(
        tmp_path, pool=str(tmp_path / "pool.txt"), pool_model=teacher_folder, teacher=world.encoder, teacher_fit="head",
        weak_teacher="use", pool_distinct=1.0, learning_rates=[1e-3], max_epochs=1, keep_better=False,
    )  # fmt: skip
    metrics = finetune(settings)
    assert metrics["best_round"] == 2
    assert metrics["last_training"]["texts"] == len(seen[-1]) > metrics["labels_used"]["result"]
    assert np.abs(seen[-1]).max(1).min() > 0
    assert all(vectors is None for vectors in seen[:-1])


def test_a_run_learns_from_a_file(world, teacher_folder, sentences, tmp_path, monkeypatch):
    monkeypatch.setattr(RunJournal, "close", lambda self: None)
    (tmp_path / "pool.txt").write_text("".join(f"{text} Indeed.\n" for text in sentences), "utf-8")
    arguments = world.finetuning(
        tmp_path, pool=str(tmp_path / "pool.txt"), pool_model=teacher_folder, points_per_mistake=0,
        pool_per_mistake=2, pool_per_class=5, pool_distinct=1.0, learning_rates=[1e-3], max_epochs=1, keep_better=False,
    )  # fmt: skip

    def answers(texts):
        return ["cat" if "cat" in text else "other" for text in texts]

    metrics = finetune(arguments, teacher=answers)
    assert metrics["rounds"][0]["kept"] == 10, "five a class"
    points = json.loads((Path(arguments.out) / "rounds" / "grown-01.json").read_text("utf-8"))["points"]
    assert "Indeed." in json.dumps(points)
    assert len(Index(Path(arguments.out) / "pool")) == len(sentences)
    with pytest.raises(BortError, match="is for single texts"):
        finetune(
            replace(arguments, train=world.pairs, dev=None, test=None, out=str(tmp_path / "pairs")), teacher=answers
        )
