"""What a user installs, and whether it works: a wheel built from the sdist, in environments without the repository.

    python -m benchmarks.speed.install

It creates two environments: one with the whole package, in which the demo, `bort info`, the README's Python lines,
`bort serve` and the notebook run; and one without torch, as in docs/runtime.md, in which an exported model answers. It
stops if any step fails.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from pathlib import Path
from typing import Any

from benchmarks.common import Benchmark, Shown, Target, parser, publish, table
from benchmarks.fingerprints import ROOT

WITHOUT_TORCH = ROOT / "examples" / "runtime-requirements.txt"
NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
HEAVY = ("torch", "transformers", "datasets", "scikit_learn", "scipy", "plotly", "accelerate")
PREPARE = """
import shutil
from bort.model.checkpoints import example_data
for part in ("train", "dev", "test", "unlabelled"):
    shutil.copy(example_data("support") / f"{part}.jsonl", ".")
"""

RUN_NOTEBOOK = """
import nbclient, nbformat
notebook = nbformat.read("notebook.ipynb", as_version=4)
nbclient.NotebookClient(notebook, timeout=1200, kernel_name="python3").execute()
print(len(notebook.cells))
"""


class Environment:
    """A fresh virtual environment and an empty working folder.

    Args:
        folder: Where both are created.
        python: The interpreter.
    """

    def __init__(self, folder: Path, python: str) -> None:
        self.bin, self.work = folder / "venv" / "bin", folder / "work"
        self.work.mkdir(parents=True)
        if python == sys.executable:
            venv.create(folder / "venv", with_pip=True)
        else:
            subprocess.run([python, "-m", "venv", str(folder / "venv")], check=True)
        self._before = self.size_mb()

    def size_mb(self) -> float:
        """Size of `site-packages`."""
        packages = next((self.bin.parent / "lib").glob("python*/site-packages"))
        return sum(file.stat().st_size for file in packages.rglob("*") if file.is_file()) / 1e6

    @property
    def installed_mb(self) -> float:
        """Size of what was installed since the environment was created."""
        return self.size_mb() - self._before

    def pip(self, *words: str) -> float:
        """Install something; returns the seconds."""
        command = [str(self.bin / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", *words]
        started = time.perf_counter()
        subprocess.run(command, cwd=self.work, check=True)
        return time.perf_counter() - started

    def run(self, program: str, *words: str, text: str | None = None) -> tuple[str, float]:
        """Run a program of the environment in its folder, offline; returns what it printed, and the seconds."""
        command, started = [str(self.bin / program), *words], time.perf_counter()
        done = subprocess.run(
            command, cwd=self.work, env=self.variables(), input=text, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{program} {' '.join(words)[:200]} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        return done.stdout, time.perf_counter() - started

    @staticmethod
    def variables() -> dict[str, str]:
        """This process's variables without those that lead to another Python, and offline."""
        hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
        return {name: value for name, value in os.environ.items() if name not in hidden} | {"HF_HUB_OFFLINE": "1"}

    def packages(self) -> int:
        """The number of packages, without those that pip itself needs."""
        listed = self.run("python", "-m", "pip", "list", "--format", "json", "--disable-pip-version-check")[0]
        return sum(found["name"] not in ("pip", "setuptools") for found in json.loads(listed))


def build(folder: Path) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it."""
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], check=True, capture_output=True)
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))


def readme_python() -> str:
    """The README's lines of Python."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.M | re.S))


def check_whole(env: Environment, wheel: Path, quick: bool) -> dict[str, Any]:
    """Install the whole package, and use it as README and demo do."""
    constraints = str(ROOT / "constraints.txt")
    figures: dict[str, Any] = {"install_s": env.pip("-c", constraints, str(wheel)), "mb": env.installed_mb}
    figures["packages"] = env.packages()
    where = env.run("python", "-c", "import bort; print(bort.__file__)")[0].strip()
    assert Path(where).is_relative_to(env.bin.parent), where
    info = json.loads(env.run("bort", "info", "bort-nano", "--json")[0])
    assert info["parameters"], info
    if not quick:
        said, figures["demo_s"] = env.run("bort", "demo")
        assert "Agora" in said, said
    env.run("python", "-c", PREPARE)
    files = ["--train", "train.jsonl", "--dev", "dev.jsonl", "--test", "test.jsonl"]
    env.run("bort", "finetune", *files, "--method", "head", "--out", "runs/support")
    figures["readme"] = env.run("python", "-c", readme_python())[0].strip()
    env.run("bort", "export", "--model", "runs/support", "--out", "fast", "--precision", "fp32")
    env.pip("-c", constraints, f"{wheel}[serve]")
    check_server(env, "fast")
    if not quick:
        env.pip("-c", constraints, "nbclient", "ipykernel")
        shutil.copy(NOTEBOOK, env.work)
        figures["notebook_s"] = env.run("python", "-c", RUN_NOTEBOOK)[1]
    return figures


def check_server(env: Environment, model: str) -> None:
    """Start a server, query it, and stop it."""
    command = [str(env.bin / "bort"), "serve", model, "--port", "0"]
    with subprocess.Popen(command, cwd=env.work, env=env.variables(), stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            said = []
            for line in server.stderr:
                said.append(line)
                if ready := re.search(r"ready on (http://\S+):", line):
                    break
            else:
                raise SystemExit(f"bort serve did not start: {''.join(said)}")
            body = json.dumps({"inputs": "Where is my parcel?"}).encode()
            asked = urllib.request.Request(f"{ready[1]}/predict", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(asked, timeout=60) as answer:
                assert json.load(answer)[0]["label"]
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0
        finally:
            server.kill()


def check_without_torch(env: Environment, wheel: Path, model: Path) -> dict[str, Any]:
    """Install what prediction needs, and nothing for training."""
    seconds = env.pip("-r", str(WITHOUT_TORCH)) + env.pip("--no-deps", str(wheel))
    figures = {"install_s": seconds, "mb": env.installed_mb, "packages": env.packages()}
    packages = next((env.bin.parent / "lib").glob("python*/site-packages"))
    assert not [name for name in HEAVY if (packages / name).exists()]
    said = env.run("bort", "predict", "--model", str(model), text="Where is my parcel?\n")[0]
    assert json.loads(said)["prediction"], said
    return figures


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    about = """
        The wheel is built from the sdist and installed with pip into fresh environments without the repository, with
        the pinned CPU build of torch. Seconds depend on the machine, its network or its cache of wheels. The first
        environment ran `bort info`, `bort demo`, a fine-tuning, the README's Python lines, `bort export`, `bort serve`
        (with its extra) and the notebook; the second ran `bort predict` with the exported folder.
    """
    rows = [
        [name, str(one["packages"]), f"{one['mb']:.0f}", f"{one['install_s']:.0f}"]
        for name, one in (("whole package", figures["whole"]), ("prediction without torch", figures["without_torch"]))
    ]
    demo, notebook = (figures["whole"].get(name) for name in ("demo_s", "notebook_s"))
    body = "\n\n".join(
        [
            table(["installed", "packages", "MB", "s"], rows),
            table(["file", "MB"], [[kind, f"{figures[f'{kind}_mb']:.1f}"] for kind in ("wheel", "sdist")]),
            *([] if demo is None else [f"`bort demo` took {demo:.0f} s, the notebook {notebook:.0f} s."]),
        ]
    )
    targets = (
        Target("wheel", figures["wheel_mb"], "<=", 40, " MB"),
        Target("prediction without torch, installed", figures["without_torch"]["mb"], "<=", 300, " MB"),
    )
    return Shown(about, body, targets)


BENCHMARK = Benchmark(
    name="install",
    page="speed",
    title="Installation",
    question="How large is the installation, and does it work without the repository?",
    sources=("pyproject.toml", "examples/runtime-requirements.txt"),
    show=show,
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--quick", action="store_true", help="skip demo and notebook, which take minutes")
    made.add_argument("--python", default=sys.executable, help="interpreter of the fresh environments")
    arguments = made.parse_args()
    with tempfile.TemporaryDirectory(prefix="bort-install-") as scratch:
        folder = Path(scratch)
        sdist, wheel = build(folder / "dist")
        whole = Environment(folder / "whole", arguments.python)
        figures: dict[str, Any] = {"whole": check_whole(whole, wheel, arguments.quick)}
        lean = Environment(folder / "lean", arguments.python)
        figures["without_torch"] = check_without_torch(lean, wheel, whole.work / "fast")
        figures |= {"wheel_mb": wheel.stat().st_size / 1e6, "sdist_mb": sdist.stat().st_size / 1e6}
        figures["python"] = whole.run("python", "-V")[0].strip()
    arguments.python = Path(arguments.python).name
    publish(BENCHMARK, figures, arguments)


if __name__ == "__main__":
    main()
