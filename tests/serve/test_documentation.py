"""What docs/serving.md shows, run against a real server."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import LABELS
from serve.conftest import running

_PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")
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
