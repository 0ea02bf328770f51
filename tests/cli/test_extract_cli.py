"""`bort extract`: a shape from text, or a clear no."""

from __future__ import annotations

import json

import pytest

SPACE = "depth: [1, 2]\nheads: [1, 2]\nhidden: [8, 16]\nintermediate: [8, 24]\n"


@pytest.fixture
def line(world, tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE, "utf-8")
    words = ["extract", "--corpus", world.corpus, "--space", tmp_path / "space.yaml", "--out", tmp_path / "run"]
    words += ["--epsilon", 5, "--steps", 2, "--rows_per_step", 2, "--row_length", 24, "--sequence_length", 24]
    return [*words, "--positions", 64, "--held_out_rows", 4, "--valid_share", 0.1, "--precision", "fp32"]


def test_tells_what_it_found(bort, line, world, tmp_path):
    done = bort(*line, "--teacher", world.encoder)
    assert done.status == 0, done.err
    shape = json.loads((tmp_path / "run" / "architecture.json").read_text("utf-8"))
    found = ",".join(str(shape[axis]) for axis in ("depth", "heads", "hidden", "intermediate"))
    first, second, third, fourth = done.out.splitlines()
    assert first.startswith(f"found D,A,H,I = {found}: W 0.")
    assert "% of the maximum point's parameters" in second
    assert third.startswith("  3 of 16 members trained, ")
    assert fourth == f"{tmp_path}/run: architecture.json, candidates.csv, report.html, top/1-{found.replace(',', '-')}"
    assert "16 members, 15 in blocks of 5: 3 candidates; maximum point ⟨2,2,16,24⟩" in done.err
    assert "3 of 3: ⟨" in done.err


def test_the_settings_of_a_run_repeat_it(bort, line, world, tmp_path):
    assert bort(*line, "--teacher", world.encoder).status == 0
    again = bort("extract", "--config", tmp_path / "run" / "config.yaml", "--no_resume", "--out", tmp_path / "again")
    assert again.status == 0, again.err
    for name in ("architecture.json",):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
    errors = [
        [row["error"] for row in json.loads((tmp_path / run / "metrics.json").read_text("utf-8"))["candidates"]]
        for run in ("run", "again")
    ]
    assert errors[0] == errors[1]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["give --teacher, or --maximum D,A,H,I"]),
        (["--maximum", "2,2,16,24", "--max_parameters", 9], ["the nearest, ⟨1,1,8,8⟩", "at most 9 may be"]),
        (["--maximum", "1,1,8,8"], ["--maximum", "has more"]),
        (["--maximum", "2"], ["--maximum", "value '2'", "D,A,H,I"]),
        (["--maximum", "2,2,16,24", "--epsilon", 99], ["--epsilon", "value 99", "from 1 to the 16 members"]),
        (["--maximum", "2,2,16,24", "--time", "guessed"], ["'guessed'", "one of ops, measured"]),
        (
            ["--maximum", "2,2,16,24", "--space", "huge"],
            ["--space", "'huge'", "neither a space (paper, nano) nor a file"],
        ),
        (["--teacher", "./none"], ["./none", "no such folder"]),
        (["--maximum", "2,2,16,24", "--tokenizer", "./none"], ["./none", "no such folder"]),
    ],
)
def test_a_mistake_is_told_in_one_line_and_leaves_nothing(bort, line, tmp_path, words, parts):
    bort(*line, *words).refused(*parts)
    assert not (tmp_path / "run").exists()


def test_a_bad_space_is_told_with_its_line(bort, line, tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE.replace("[8, 16]", "[8, wide]"), "utf-8")
    bort(*line, "--maximum", "2,2,16,24").refused(f"{tmp_path}/space.yaml:3", "'hidden'", "'wide'", "a whole number")


def test_a_missing_corpus_is_told(bort, line, tmp_path):
    line[2] = tmp_path / "none.txt"
    done = bort(*line, "--maximum", "2,2,16,24", "--tokenizer", "bort-nano")
    assert done.status == 2
    assert done.err.splitlines()[-1].startswith(f"bort extract: {tmp_path}/none.txt: no such file")
