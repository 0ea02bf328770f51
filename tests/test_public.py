"""The public face: every name is what it says, whatever was imported before."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys

import bort
from bort.__main__ import COMMANDS


def test_commands_stay_functions_when_packages_of_their_name_are_imported():
    code = """
import bort
import bort.export.gate
import bort.predict.predictor
from bort.predict.manifest import Manifest
assert Manifest.__module__ == "bort.predict.manifest"
print(*(type(getattr(bort, name)).__name__ for name in ("export", "predict", "finetune")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["function"] * 3


def test_every_public_name_resolves():
    for name in bort.__all__:
        found = getattr(bort, name)
        assert inspect.isfunction(found) == (
            name in COMMANDS or name in ("architecture", "load_tokenizer", "verbose")
        ), name
        assert dataclasses.is_dataclass(found) == name.endswith("Arguments"), name
