"""One name a thing: no public class twice, no modules that differ in spelling only, no imports hidden in functions."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import bort

SOURCE = Path(bort.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
HEAVY = {
    "accelerate",
    "datasets",
    "fsspec",
    "huggingface_hub",
    "jsonargparse",
    "nncf",
    "onnx",
    "onnxruntime",
    "openai",
    "openvino",
    "plotly",
    "psutil",
    "pyarrow",
    "ray",
    "rich",
    "safetensors",
    "scipy",
    "sklearn",
    "tokenizers",
    "torch",
    "transformers",
    "uvicorn",
    "yaml",
    "zstandard",
}
"""Libraries that a function may import: loading them takes long, or they are not everywhere."""
DOORS = {"cli", "__main__", "__init__"}
"""Where a function may import modules of ours: behind each stands a command that others need not load."""
LATE = {
    "agora/word_model.py": {"bort.predict.classifiers"},
    "data/tables/examples.py": {"bort.data.tables.delimited", "bort.data.tables.readers"},  # they build on it
    "export/exporter.py": {"bort.export.onnx_model", "bort.export.openvino_model"},  # one of two engines
    "model/convert/convert.py": {"bort.model.checkpoints", "bort.model.tokenization"},  # only what is written
    "predict/engine.py": {  # an exported folder is served without torch
        "bort.predict.plain_encoder",
        "bort.predict.plain_engine",
        "bort.predict.torch_encoder",
        "bort.predict.torch_engine",
    },
}
"""Modules of ours that are imported inside a function elsewhere. Make this shorter, not longer."""


def place(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def hidden_imports(tree: ast.AST) -> set[str]:
    """What is imported inside functions."""
    found: set[str] = set()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import):
                    found |= {name.name for name in node.names}
                elif isinstance(node, ast.ImportFrom):
                    found.add(node.module or "")
    return found


def spelling(name: str) -> str:
    """What is left of a module's name without its ending and its underscores."""
    plain = name.replace("_", "").replace("iz", "is")
    for ending in ("isation", "ising", "ation", "ing", "es", "s"):
        if plain.endswith(ending) and len(plain) > len(ending) + 3:
            return plain.removesuffix(ending)
    return plain


def test_no_public_class_has_the_name_of_another():
    places = defaultdict(list)
    for path in MODULES:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(place(path))
    assert len(places) > 100
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_two_modules_of_a_room_differ_in_spelling_only():
    rooms = defaultdict(list)
    for path in MODULES:
        rooms[place(path.parent), spelling(path.stem)].append(path.stem)
    assert {key: found for key, found in rooms.items() if len(found) > 1} == {}
    assert spelling("tokenising") == spelling("tokenization"), "the test itself"
    assert spelling("run") != spelling("runs_of")


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_functions_import_heavy_libraries_only(path):
    if path.relative_to(SOURCE).with_suffix("").parts[0] in DOORS:
        return
    found = hidden_imports(ast.parse(path.read_text("utf-8")))
    ours = {name for name in found if name.partition(".")[0] == "bort"}
    assert ours <= LATE.get(place(path), set())
    others = {name.partition(".")[0] for name in found - ours}
    assert others <= HEAVY | set(sys.stdlib_module_names)


def test_the_table_of_late_imports_holds_nothing_that_is_gone():
    for file, names in LATE.items():
        assert names <= hidden_imports(ast.parse((SOURCE / file).read_text("utf-8"))), file
