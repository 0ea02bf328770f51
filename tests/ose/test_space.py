"""Spaces: the named ones, files, and what is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.errors import BortError
from bort.model.config import PRESETS
from bort.ose.space import SPACES, SearchSpace, Shape, read_space

GOOD = "depth: [1, 2]\nheads: [2, 3]\nhidden: [12, 16]\nintermediate:\n  - 8\n  - 24\n"


def test_the_papers_space_has_300_members():
    space = SPACES["paper"]
    assert len(space) == 300
    grid = itertools.product(space.depth, space.heads, space.hidden, space.intermediate)
    assert sum(hidden % heads != 0 for _, heads, hidden, _ in grid) == 60  # no transformers
    assert Shape(4, 8, 1024, 768) in space.members
    assert {shape.hidden for shape in space if shape.heads == 12} == {768}


def test_the_nano_space_is_around_bort_nano():
    nano = PRESETS["nano"]
    space = SPACES["nano"]
    assert Shape(nano.depth, nano.heads, nano.hidden, nano.intermediate) in space.members
    for axis in ("depth", "heads", "hidden", "intermediate"):
        assert len(getattr(space, axis)) > 1, f"there is a choice of {axis}"
    own = Shape(nano.depth, nano.heads, nano.hidden, nano.intermediate)
    assert any(all(a <= b for a, b in zip(member, own, strict=True)) for member in space if member != own)
    assert any(all(a >= b for a, b in zip(member, own, strict=True)) for member in space if member != own)


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(1, 8), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(1, 64), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(1, 64), min_size=1, max_size=4, unique=True),
)
def test_members_are_all_that_can_be_built(depth, heads, hidden, intermediate):
    grid = {(d, a, h, i) for d in depth for a in heads for h in hidden for i in intermediate if not h % a}
    axes = (tuple(depth), tuple(heads), tuple(hidden), tuple(intermediate))
    if not grid:
        with pytest.raises(BortError, match="divides"):
            SearchSpace(*axes)
        return
    members = SearchSpace(*axes).members
    assert set(members) == grid
    assert list(members) == sorted(members)


def test_a_file_defines_a_space(tmp_path):
    (tmp_path / "mine.yaml").write_text(GOOD, "utf-8")
    space = read_space(tmp_path / "mine.yaml")
    assert space.intermediate == (8, 24)
    assert len(space) == 2 * 3 * 2  # 3 heads do not divide 16


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (GOOD.replace("[2, 3]", "[2, x]"), r"mine.yaml:2: column 'heads': value 'x': must be a whole number"),
        (GOOD.replace("- 24", "- -24"), r"mine.yaml:6: column 'intermediate': value '-24'"),
        (GOOD.replace("- 24", "- 0"), r"mine.yaml:6: column 'intermediate': value '0'"),
        (GOOD.replace("- 24", "- 2.5"), r"mine.yaml:6: column 'intermediate': value '2.5'"),
        (GOOD.replace("- 24", "- 99999999999999999999999"), r"mine.yaml:6: .*below a thousand million"),
        (GOOD.replace("- 24", "- '24'"), r"mine.yaml:6: column 'intermediate': value '24'"),
        (GOOD.replace("- 24", "- [24]"), r"mine.yaml:6: column 'intermediate'"),
        (GOOD.replace("- 24", "- 8"), r"mine.yaml:6: column 'intermediate': value 8: must be there once"),
        (GOOD.replace("[1, 2]", "2"), r"mine.yaml:1: column 'depth': value '2': must be a list"),
        (GOOD.replace("[1, 2]", "[]"), r"mine.yaml:1: column 'depth': must hold at least one number"),
        (GOOD.replace("depth", "layers"), r"mine.yaml:1: column 'layers': is none of depth, heads"),
        (GOOD + "depth: [3]\n", r"mine.yaml:7: column 'depth': must be given once"),
        (GOOD.replace("depth: [1, 2]\n", ""), r"mine.yaml: needs a list for depth"),
        (GOOD.replace("[12, 16]", "[13]"), r"mine.yaml:2: column 'heads': no number of heads divides"),
        ("- 1\n- 2\n", r"mine.yaml:1: must map depth"),
        ("", r"mine.yaml:1: must map depth"),
        ("depth: [1, 2\nheads: [2]\n", r"mine.yaml:\d: must be valid YAML"),
        ("? [1]\n: 2\n", r"mine.yaml:1: must be one of depth"),
        ("depth: !!python/object/apply:os.getcwd []\n", r"mine.yaml: needs a list for heads"),  # never run
    ],
)
def test_a_bad_file_is_told_with_its_line(tmp_path, content, rule):
    (tmp_path / "mine.yaml").write_text(content, "utf-8")
    with pytest.raises(BortError, match=rule) as told:
        read_space(tmp_path / "mine.yaml")
    assert len(str(told.value)) < 400


def test_other_bad_sources(tmp_path):
    (tmp_path / "bad.yaml").write_bytes(b"depth: [1]\n\xff\n")
    with pytest.raises(BortError, match=r"bad.yaml:2: must be UTF-8"):
        read_space(tmp_path / "bad.yaml")
    with pytest.raises(BortError, match=r"'giant'.*neither a space \(paper, nano\) nor a file"):
        read_space("giant")
    with pytest.raises(BortError, match="100,000"):
        SearchSpace(tuple(range(1, 1001)), (1,), tuple(range(1, 1001)), (1,))
