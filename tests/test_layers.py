"""Imports run one way, and what needs nothing heavy loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bort

SOURCE = Path(bort.__file__).parent
FOUNDATION = {
    "bounds",
    "child_processes",
    "cores",
    "errors",
    "files",
    "formats",
    "progress",
    "report",
    "runs",
    "workers",
}
"""Modules that anybody may import, and that import nothing of ours but each other."""
LAYERS = (
    {"__main__"},
    {"cli"},
    {"estimators", "ose", "serve", "speed"},
    {"pretraining", "agora", "export"},
    {"inspection"},
    {"finetuning"},
    {"predict", "training"},
    {"tasks"},
    {"data"},
    {"model"},
)
"""A part imports itself and the layers below it; parts of one layer do not know each other."""
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
MODULES = sorted(path.relative_to(SOURCE).with_suffix("").parts for path in SOURCE.rglob("*.py"))


def imports(tree: ast.AST) -> set[tuple[str, ...]]:
    """Every module of ours that is named in an import, at whatever depth of the file, as a path below `bort`."""
    found: set[tuple[str, ...]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {tuple(name.name.split(".")) for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: name the whole module"
            base = tuple((node.module or "").split("."))
            # `from bort import data` names a part as well.
            found |= {(*base, name.name) for name in node.names} if base == ("bort",) else {base}
    return {path[1:] for path in found if path[0] == "bort"}


def offences(module: tuple[str, ...], tree: ast.AST) -> list[str]:
    part = module[0]
    wrong = []
    for path in sorted(imports(tree)):
        target = path[0] if path else ""
        if part in FOUNDATION:
            allowed = target in FOUNDATION
        elif target in RANK:
            allowed = target == part or RANK[target] > RANK[part]
        else:
            allowed = target in FOUNDATION or (target == "__version__" and RANK[part] <= RANK["cli"])
        if not allowed:
            wrong.append(f"{'.'.join(module)} imports bort.{'.'.join(path)}")
    return wrong


def test_every_part_has_its_place():
    parts = {module[0] for module in MODULES} - {"__init__"}
    assert parts <= FOUNDATION | RANK.keys(), "give the new part a place in LAYERS or in FOUNDATION"
    assert {"cli", "finetuning", "tasks", "data", "model"} <= parts


@pytest.mark.parametrize("module", MODULES, ids=".".join)
def test_imports_run_one_way(module):
    tree = ast.parse(SOURCE.joinpath(*module).with_suffix(".py").read_text("utf-8"))
    if module == ("__init__",):
        assert not imports(tree), "the public face is loaded lazily"
    else:
        assert not offences(module, tree)


@pytest.mark.parametrize(
    ("module", "code", "wrong"),
    [
        (("model", "x"), "from bort.data.tables.lines import Lines", True),
        (("model", "x"), "def f():\n    import bort.pretraining.objective", True),
        (("data", "x"), "from bort import tasks", True),
        (("agora", "x"), "from bort.ose import search", True),
        (("files",), "from bort.data import lines", True),
        (("model", "x"), "import bort", True),
        (("finetuning", "x"), "from bort.model.config import IGNORED\nfrom bort.runs import Run\nimport torch", False),
        (("cli", "x"), "from bort import __version__\nfrom bort.agora import fit", False),
        (("files",), "from bort.errors import BortError", False),
    ],
)
def test_the_test_itself(module, code, wrong):
    assert bool(offences(module, ast.parse(code))) == wrong


HEAVY = ("torch", "transformers", "datasets", "sklearn", "numpy", "plotly", "ray")


@pytest.mark.parametrize(
    "code",
    [
        "import bort.__main__",
        "import bort, bort.cli; dir(bort); bort.__version__",
        "from bort.__main__ import main; assert main(['--help']) == 0",
        "from bort.__main__ import main; assert main(['--version']) == 0",
        "from bort.__main__ import main; assert main(['no-such-command']) == 2",
    ],
)
def test_the_table_of_commands_loads_nothing_heavy(code, python):
    check = f"import sys; print([name for name in {HEAVY} if name in sys.modules])"
    assert python(f"{code}\n{check}").stdout.splitlines()[-1] == "[]"


def test_the_help_of_the_console_command():
    script = "import runpy, sys; sys.argv = ['bort', '--help']; runpy.run_module('bort', run_name='__main__')"
    command = [sys.executable, "-X", "importtime", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "finetune" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "bort.errors" in loaded
    assert not loaded & set(HEAVY)
