"""What docs/serving.md shows, run against a real server."""

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bort.export.exporter import Exporter
from bort.predict.graph.quantization import Quantization
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


@pytest.fixture(scope="session")
def finetuned(classifier, tmp_path_factory) -> Path:
    """As `bort finetune` leaves it."""
    folder = shutil.copytree(classifier, tmp_path_factory.mktemp("finetuned") / "model")
    for name, more in (("config", {"bort_metric": "accuracy"}), ("tokenizer_config", {"split_special_tokens": False})):
        file = folder / f"{name}.json"
        file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | more), "utf-8")
    return folder


@pytest.fixture(scope="session")
def exported_int8(classifier, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("int8")
    Exporter(classifier).write(folder, Quantization())
    return folder


_REQUIREMENTS = ("examples/serving/requirements.txt", "examples/runtime-requirements.txt")
_ALONE = """
import importlib, importlib.metadata, sys

absent, version = {absent}, importlib.metadata.version
sys.modules.update(dict.fromkeys(absent))
importlib.metadata.version = lambda name: version("none" if name in absent else name)
weights = importlib.import_module("bort.predict.int8_weights")
weights.processor_flags = lambda: frozenset()  # of a processor without VNNI, where int8 is narrowed
"""


def _without_others(requirements: str, code: str) -> str:
    """Run code where of bort's own dependencies only those of a file can be imported; gives what it prints."""

    def name(line: str) -> str:
        return re.split(r"[\[>=<; ]", line)[0].lower()

    installed = {name(line) for line in (_ROOT / requirements).read_text("utf-8").splitlines()}
    needed = {name(line) for line in importlib.metadata.requires("bort") or () if "extra ==" not in line}
    modules = importlib.metadata.packages_distributions()
    # pyarrow comes with datasets.
    others = (needed | {"pyarrow"}) - installed
    absent = [module for module, owners in modules.items() if {owner.lower() for owner in owners} & others]
    assert {"torch", "scipy", "sklearn"} <= {*absent}
    words = [sys.executable, "-c", _ALONE.format(absent=absent) + code]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_container_installs_all_that_serving_imports(exported, exported_int8, finetuned):
    code = f"""
import bort.cli.serve, bort.serve.app, bort.serve.guard, bort.serve.server, bort.serve.short_cut
from bort.serve.model import ServedModel
from bort.serve.settings import Limits

for folder in {[str(exported), str(exported_int8), str(finetuned)]}:
    ServedModel("m", folder, Limits()).close()
print("served")
"""
    assert _without_others(_REQUIREMENTS[0], code) == "served"


@pytest.mark.parametrize("requirements", _REQUIREMENTS)
def test_what_predicts_alone_answers(requirements, exported, exported_int8, finetuned):
    """Without torch: an exported model, also in int8, a fine-tuned one, and the embedded encoder."""
    code = f"""
import bort
for folder in {[str(exported), str(exported_int8), str(finetuned)]}:
    print(bort.Predictor(folder).predict("The zip broke.").label)
print(bort.Encoder("bort-nano").encode("The zip broke.").shape)
"""
    *labels, shape = _without_others(requirements, code).splitlines()
    assert len(labels) == 3
    assert {*labels} <= {*LABELS}
    assert shape == "(384,)"


def test_what_a_machine_that_predicts_alone_lacks_is_named(exported, classifier, tmp_path):
    """`classifier` is not quite as `bort finetune` leaves it."""
    (tmp_path / "in.parquet").touch()
    code = f"""
import io
from contextlib import redirect_stderr

import bort
from bort.__main__ import main
from bort.errors import BortError

said = io.StringIO()
with redirect_stderr(said):
    statuses = [main(["predict", "--model", {str(exported)!r}, "--input", {str(tmp_path / "in.parquet")!r}])]
    statuses.append(main(["predict", "--model", {classifier!r}]))
    statuses.append(main(["check", {str(tmp_path / "in.parquet")!r}]))
print(said.getvalue(), statuses)
try:
    bort.Predictor({classifier!r})
except BortError as error:
    print(error)
"""
    said = _without_others(_REQUIREMENTS[1], code)
    assert "in.parquet: needs pyarrow, which is not installed" in said
    assert f"bort predict: {classifier}: needs torch, which is not installed" in said
    assert "[2, 2, 2]" in said
    assert said.endswith(f"{classifier}: needs torch, which is not installed")
