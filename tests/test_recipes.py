"""Every recipe is a file of settings that its command takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from bort.__main__ import command
from bort.cli.parser import parse

RECIPES = Path(__file__).parents[1] / "recipes"
CASES = {
    "bort-pretrain.yaml": ("pretrain", ["--corpus", "text.txt", "--out", "runs/x"]),
    "nano-pretrain.yaml": ("pretrain", ["--corpus", "text.txt", "--tokenizer", "tokenizer", "--out", "runs/x"]),
    "nano-extract.yaml": ("extract", ["--corpus", "text.txt", "--out", "runs/x"]),
    "paper-extract.yaml": ("extract", ["--corpus", "text.txt", "--out", "runs/x"]),
    "superglue-plain.yaml": ("finetune", ["--data", "superglue", "--out", "runs/x"]),
    "finetune-published-grid.yaml": ("finetune", ["--train", "train.csv", "--out", "runs/x"]),
}


def read(recipe: str, *flags: str):
    name, required = CASES[recipe]
    return parse(name, *command(name), ["--config", str(RECIPES / recipe), *required, *flags])


def test_every_recipe_is_tested():
    assert {path.name for path in RECIPES.glob("*.y*ml")} == CASES.keys()


@pytest.mark.parametrize("recipe", CASES)
def test_recipe_becomes_the_settings_it_states(recipe):
    arguments = read(recipe)
    stated = yaml.safe_load((RECIPES / recipe).read_text("utf-8"))
    assert stated == {name: getattr(arguments, name) for name in stated}
    assert arguments.out == "runs/x"


@pytest.mark.parametrize("recipe", CASES)
def test_numbers_are_numbers_to_any_yaml_reader(recipe):
    """YAML 1.1 takes 1e-4 for a string."""
    values = yaml.safe_load((RECIPES / recipe).read_text("utf-8")).values()
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    assert not [item for item in flat if isinstance(item, str) and re.fullmatch(r"[-.\d][-+.\de]*", item)]


def test_a_flag_after_the_file_wins():
    assert read("nano-pretrain.yaml", "--learning_rate", "2e-4").learning_rate == 2e-4


def test_the_published_pretraining_has_a_batch_of_1024():
    arguments = read("bort-pretrain.yaml")
    assert arguments.batch_size * arguments.accumulate == 1024


def test_the_published_grid_has_480_members():
    from bort.finetuning.hyper_parameters import grid

    members = grid(read("finetune-published-grid.yaml"))
    assert len(members) == len(set(members)) == 480
    assert {theta.learning_rate for theta in members} == {1e-4, 1e-5, 9e-6}


def test_the_nano_search_trains_at_least_24_candidates():
    from bort.ose.plan import make_plan

    assert len(make_plan(read("nano-extract.yaml"), 16_384).ordering.taken) >= 24


def test_the_papers_search_has_the_space_and_the_teachers_shape_of_the_paper():
    from bort.ose.plan import make_plan

    plan = make_plan(read("paper-extract.yaml"), 50_265)
    assert len(plan.space) == 300
    assert plan.top == (24, 16, 1024, 4096)
    assert plan.warning is None
    assert (4, 8, 1024, 768) in [ranked.member for ranked in plan.ordering.taken], "the published answer can be found"
