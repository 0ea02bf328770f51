"""Whatever is in a file, its reader gives a value or one `BortError` of one line, soon, and touches no other file.

The slice here reads 20,000 damaged files. `make fuzz` reads a million, and lets coverage guide the damage where atheris
is installed.
"""

from __future__ import annotations

import sys
from random import Random

import pytest

from fuzz.probe import names, probe
from fuzz.readers import READERS, ready

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the memory")
COUNT = 20_000
SHARES = {"settings": 20, "openvino": 4, "graph": 100, "journal": 60, "metrics": 60, "fine-tuned": 100, "modules": 100}
"""Inputs of what takes long; the others have the rest in equal parts."""


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused_in_one_line(name):
    if name == "bodies":
        pytest.importorskip("fastapi", reason="needs bort[serve]")
    if name == "openvino":
        pytest.importorskip("openvino", reason="needs bort[openvino]")
    chance = Random(name)
    rest = (COUNT - sum(SHARES.values())) // (len(READERS) - len(SHARES))
    with ready(name) as reader:
        around = names(reader.folder.parent)
        for number in range(SHARES.get(name, rest)):
            seed = reader.seeds[number % len(reader.seeds)]
            content = reader.damaged(seed, chance)
            with reader.holding(seed, content):
                try:
                    probe(seed.read, reader.folder, len(content), around)
                except Exception as error:
                    error.add_note(f"{seed.file}, input {number}: {content[:3000]!r}")
                    raise
