"""Missing inputs are reported before a command loads its libraries."""

from __future__ import annotations

from dataclasses import fields

import pytest

from bort.__main__ import COMMANDS, command
from bort.cli.inputs import DATA, MODELS

CHECK_THEMSELVES = {"benchmark", "convert", "info", "serve", "submit"}


@pytest.mark.parametrize("table", [DATA, MODELS], ids=["data", "models"])
def test_every_setting_that_names_an_input_is_in_its_table(table):
    inputs = {name for names in table.values() for name in names}
    for name in COMMANDS.keys() - CHECK_THEMSELVES:
        _, arguments, _ = command(name)
        named = {field.name for field in fields(arguments)} & inputs
        if name == "finetune":
            named -= {"data"}  # the folder of a suite, which is checked with its tasks
        assert named == {*table.get(name, ())}, name
