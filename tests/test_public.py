"""The public face: every name is what it says, whatever was imported before."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
from pathlib import Path

import pytest

import bort
from bort.__main__ import COMMANDS


def test_commands_stay_functions_when_packages_of_their_name_are_imported(python):
    code = """
import bort
import bort.export.gate
import bort.predict.predictor
from bort.predict.manifest import Manifest
assert Manifest.__module__ == "bort.predict.manifest"
print(*(type(getattr(bort, name)).__name__ for name in ("export", "predict", "finetune")))
"""
    assert python(code).stdout.split() == ["function"] * 3


def test_every_public_name_resolves():
    for name in bort.__all__:
        found = getattr(bort, name)
        assert inspect.isfunction(found) == (
            name in COMMANDS or name in ("architecture", "load_tokenizer", "verbose")
        ), name
        assert dataclasses.is_dataclass(found) == name.endswith(("Arguments", "Result", "Report")), name


def test_editors_know_every_public_name():
    stub = ast.parse(Path(bort.__file__).with_suffix(".pyi").read_text("utf-8"))
    places = {
        name.name: node.module for node in ast.walk(stub) if isinstance(node, ast.ImportFrom) for name in node.names
    }
    assert places == {name: module for name, (module, _) in bort._PUBLIC.items()}


def test_type_checkers_read_the_types():
    assert Path(bort.__file__).with_name("py.typed").is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        bort.ConvertArguments("a", "b", dtype="bfloat16"),
        bort.DemoArguments(out=None),
        bort.InfoArguments(None),
        bort.ServeArguments("models"),
        bort.SubmitArguments("a", "b", "c", task="glue"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_wrong_settings_are_told(arguments):
    command = getattr(bort, type(arguments).__name__.removesuffix("Arguments").lower())
    with pytest.raises(bort.BortError, match="must be"):
        command(arguments)


def test_results_are_frozen_and_go_into_json(tmp_path):
    result = bort.FolderResult({"figure": 1.5}, tmp_path)
    assert json.loads(json.dumps(result.to_dict())) == {"metrics": {"figure": 1.5}, "out": str(tmp_path)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.out = tmp_path


def test_functions_print_nothing_unless_asked(python):
    code = """
import bort
described = bort.info(bort.InfoArguments("bort-nano"))
assert described.metrics["depth"] > 0
with bort.verbose():
    bort.info(bort.InfoArguments("bort-nano"))
"""
    done = python(code)
    assert done.stdout.count("depth") == 1
    assert done.stderr == ""
