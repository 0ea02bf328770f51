"""A cache of answers: what goes in comes out, whole chunks or none, and a foreign one is refused."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.errors import BortError
from bort.pretraining.distill.cache import Field, TeacherCache

FIELDS = {"pooled": Field("float16", (3,)), "ids": Field("uint16", (2,)), "entropy": Field("float32")}
KEY = {"corpus": "abc", "seed": 0, "layers": [1, 2]}


def answers(count: int, first: int = 0):
    """Rows with as many items of `ids` and `entropy` as their number says, modulo 4."""
    made = []
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        made.append(
            {
                "pooled": rng.random((1, 3)).astype(np.float16),
                "ids": rng.integers(0, 60_000, (number % 4, 2)).astype(np.uint16),
                "entropy": rng.random(number % 4).astype(np.float32),
            }
        )
    return made


def assert_holds(cache: TeacherCache, count: int) -> None:
    for number, expected in enumerate(answers(count)):
        row = cache.read(number)
        assert row.keys() == expected.keys()
        for name, items in expected.items():
            assert row[name].dtype == items.dtype
            assert np.array_equal(row[name], items)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_what_goes_in_comes_out_chunk_by_chunk(tmp_path_factory, chunks):
    folder, total = tmp_path_factory.mktemp("cache"), sum(chunks)
    for chunk in chunks:  # opened anew each time, as after an interruption
        cache = TeacherCache(folder, KEY, FIELDS, total)
        assert not cache.complete
        cache.append(answers(chunk, cache.done))
        cache.close()
    cache = TeacherCache(folder, KEY, FIELDS, total)
    assert cache.complete
    assert_holds(cache, total)


def test_what_a_killed_process_left_is_cut_off(tmp_path):
    cache = TeacherCache(tmp_path, KEY, FIELDS, 8)
    cache.append(answers(5))
    cache.close()
    for name in FIELDS:  # the next chunk was written in part, its state was not
        for file in (tmp_path / f"{name}.bin", tmp_path / f"{name}.starts.bin"):
            with open(file, "ab") as handle:
                handle.write(b"\x07" * 13)
    again = TeacherCache(tmp_path, KEY, FIELDS, 8)
    assert again.done == 5
    again.append(answers(3, 5))
    assert_holds(TeacherCache(tmp_path, KEY, FIELDS, 8), 8)


@pytest.mark.parametrize(
    ("key", "rows", "column"),
    [
        ({**KEY, "corpus": "other"}, 4, "corpus"),
        ({**KEY, "seed": 1}, 4, "seed"),
        ({"corpus": "abc", "layers": [1, 2]}, 4, "seed"),
        ({**KEY, "more": 1}, 4, "more"),
        (KEY, 5, "rows"),
    ],
)
def test_a_cache_of_something_else_is_refused(tmp_path, key, rows, column):
    TeacherCache(tmp_path, KEY, FIELDS, 4).append(answers(4))
    with pytest.raises(BortError, match=rf"{column}.*the cache was made with .*--teacher-cache"):
        TeacherCache(tmp_path, key, FIELDS, rows)


def test_what_the_first_version_did_not_record_is_not_compared(tmp_path):
    TeacherCache(tmp_path / "old", KEY, FIELDS, 4).append(answers(4))
    assert TeacherCache(tmp_path / "old", {**KEY, "held_out": "x"}, FIELDS, 4).complete
    TeacherCache(tmp_path / "new", {**KEY, "held_out": "x"}, FIELDS, 4).append(answers(4))
    for key in ({**KEY, "held_out": "y"}, KEY):
        with pytest.raises(BortError, match=r"held_out.*the cache was made with 'x'"):
            TeacherCache(tmp_path / "new", key, FIELDS, 4)


def test_a_whole_cache_may_hold_more_than_is_asked_for(tmp_path):
    TeacherCache(tmp_path / "whole", KEY, FIELDS, 4).append(answers(4))
    some = {"pooled": FIELDS["pooled"]}
    assert TeacherCache(tmp_path / "whole", KEY, some, 4).read(3).keys() == {"pooled"}
    TeacherCache(tmp_path / "part", KEY, FIELDS, 5).append(answers(4))
    for fields in (some, {**FIELDS, "pooled": Field("float32", (3,))}, {**FIELDS, "layer_2": Field("float16", (3,))}):
        with pytest.raises(BortError, match="the cache keeps pooled of float16"):
            TeacherCache(tmp_path / "part", KEY, fields, 5)


def test_damage_is_named(tmp_path):
    TeacherCache(tmp_path, KEY, FIELDS, 4).append(answers(4))
    with open(tmp_path / "pooled.bin", "r+b") as file:
        file.truncate(5)
    with pytest.raises(BortError, match=r"pooled.bin.*must hold 4 items of float16\[3\]"):
        TeacherCache(tmp_path, KEY, FIELDS, 4)
    (tmp_path / "pooled.starts.bin").unlink()
    with pytest.raises(BortError, match=r"pooled.starts.bin.*must hold the starts of 4 rows"):
        TeacherCache(tmp_path, KEY, FIELDS, 4)
    states = [
        {"key": {}, "done": "x", "fields": {}},
        {"key": {}, "done": float("inf"), "fields": {}},
        {"key": {}, "done": -1, "fields": {}},
        {"key": {}, "done": 4, "fields": None},
    ]
    for content in ("", "[]", "{}", "[" * 100_000, *map(json.dumps, states)):
        (tmp_path / "cache.json").write_text(content)
        with pytest.raises(BortError, match=r"is not the state of a teacher's cache"):
            TeacherCache(tmp_path, KEY, FIELDS, 4)


def test_killed_before_anything_was_kept(tmp_path):
    (tmp_path / ".cache.json.x1.part").write_text("{")
    assert TeacherCache(tmp_path, KEY, FIELDS, 4).done == 0


def test_another_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(BortError, match="holds something other than a teacher's cache"):
        TeacherCache(tmp_path, KEY, FIELDS, 4)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_cache_is_filled_by_one_process_at_a_time(tmp_path):
    first = TeacherCache(tmp_path, KEY, FIELDS, 8)
    first.append(answers(5))
    with pytest.raises(BortError, match="another process asks the teacher for this cache; wait for it"):
        TeacherCache(tmp_path, KEY, FIELDS, 8)
    copy = pickle.loads(pickle.dumps(first))
    first.close()
    second = TeacherCache(tmp_path, KEY, FIELDS, 8)
    assert (copy.done, second.done) == (5, 5)
    second.append(answers(3, 5))
    for cache in (second, TeacherCache(tmp_path, KEY, FIELDS, 8)):  # a complete one may be open twice
        assert_holds(cache, 8)
