"""What docs/serving.md shows, run against a real server."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import LABELS
from serve.conftest import running

_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "docs" / "serving.md").read_text("utf-8")
_HERE = "http://localhost:8080"


def _snippet(language: str) -> str:
    return next(code for code in re.findall(rf"```{language}\n(.*?)```", _PAGE, re.DOTALL) if "localhost:8080" in code)


@pytest.fixture(scope="module")
def url(exported):
    with running(exported) as server:
        yield server.url


@pytest.mark.parametrize(
    ("language", "command"),
    [("python", [sys.executable, "-c"]), ("js", ["node", "--input-type=module", "-e"]), ("sh", ["sh", "-c"])],
)
def test_clients_of_the_page_get_labels(url, language, command):
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    code = _snippet(language).replace(_HERE, url).replace("localhost:8080", url.removeprefix("http://"))
    done = subprocess.run([*command, code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert any(label in done.stdout.replace('\\"', '"') for label in LABELS), done.stdout


def test_the_container_installs_all_that_serving_imports(exported):
    """Of bort's own dependencies, only those in the container's requirements may be imported."""

    def name(line: str) -> str:
        return re.split(r"[\[>=<; ]", line)[0].lower()

    installed = {name(line) for line in (_ROOT / "examples/serving/requirements.txt").read_text().splitlines()}
    needed = {name(line) for line in importlib.metadata.requires("bort") or () if "extra ==" not in line}
    modules = importlib.metadata.packages_distributions()
    absent = [module for module, owners in modules.items() if {owner.lower() for owner in owners} & needed - installed]
    assert {"torch", "scipy", "sklearn"} <= {*absent}
    code = f"""
import sys
sys.modules.update(dict.fromkeys({absent}))
import bort.cli.serve, bort.serve.app, bort.serve.guard, bort.serve.server, bort.serve.short_cut
from bort.serve.model import ServedModel
import bort
print(bort.Predictor({str(exported)!r}).predict("The zip broke.").label)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in LABELS
