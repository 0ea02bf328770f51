"""Commands that are killed, interrupted or refused room at any moment end with the result of an undisturbed run.

The slice here takes a minute. `make chaos` kills as often as COUNT says, at moments that SEED chooses, and keeps a line
for each in the file that BORT_CHAOS_RECORD names.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="forks, signals and limits of Linux"),
    pytest.mark.xdist_group("chaos"),  # one launcher for all
    pytest.mark.slow,
]
COUNT, SEED = int(os.environ.get("BORT_CHAOS_COUNT", "8")), int(os.environ.get("BORT_CHAOS_SEED", "0"))
VOLATILE = {"config.yaml", "environment.json", "journal.jsonl", "report.html", "candidates.csv"}
"""They have times and places in them; what matters of them stands in other files, too."""
MEASURED = re.compile(r"second|elapsed|minute|speed|_ms|_at$|^time|^out$|^sha256$|^bytes$|packages|command")
TUNE = ["finetune", "--learning-rates", "1e-2", "--batch-sizes", "8", "--max-epochs", "2", "--max-length", "24"]
TUNE += ["--precision", "fp32", "--checkpoint-minutes", "0", "--no-keep-better"]
ROWS = ["--sequence-length", "16", "--valid-share", "0.1", "--precision", "fp32", "--corpus-processes", "1"]
SCENARIOS: dict[str, list[str]] = {
    "plain": [*TUNE, "--train", "{train}", "--dev", "{dev}", "--model", "{encoder}", "--method", "plain",
              "--out", "out"],
    "agora": [*TUNE, "--train", "{train}", "--dev", "{dev}", "--test", "{test}", "--model", "{encoder}", "--out", "out",
              "--transforms", "swap", "--min-cosine", "-1", "--max-cosine", "2", "--points-per-mistake", "1",
              "--max-steps", "4", "--final-epochs", "1"],
    "pretrain": ["pretrain", "--corpus", "{corpus}", "--tokenizer", "{tokenizer}", "--architecture", "{architecture}",
                 *ROWS, "--max-steps", "5", "--batch-size", "4", "--checkpoint-minutes", "0", "--out", "out"],
    "extract": ["extract", "--corpus", "{corpus}", "--tokenizer", "{tokenizer}", "--space", "{space}", "--maximum",
                "2,2,16,24", "--valid-share", "0.1", "--corpus-processes", "1", "--steps", "2", "--rows-per-step", "2",
                "--row-length", "16", "--sequence-length", "16", "--held-out-rows", "2", "--learning-rates", "1e-3",
                "--repeats", "0", "--positions", "32", "--precision", "fp32", "--out", "out"],
    "index": ["index", "{lines}", "--model", "{encoder}", "--threads", "1", "--out", "out"],
    "export": ["export", "--model", "{classifier}", "--precision", "fp32", "--out", "out"],
    "predict": ["predict", "--model", "{classifier}", "--input", "{lines}", "--output", "out.jsonl", "--threads", "1"],
    "tokenizer": ["tokenizer", "{corpus}", "--vocab-size", "300", "--out", "out"],
}  # fmt: skip
RESUMED = {"plain", "agora", "pretrain", "extract", "index"}


def record(test: str, **what: Any) -> None:
    """Keep what was done to a command, for the figures of a long run."""
    if file := os.environ.get("BORT_CHAOS_RECORD"):
        with Path(file).open("a", encoding="utf-8") as out:
            out.write(json.dumps({"test": test, "seed": SEED, **what}) + "\n")


class Launcher:
    """Starts commands from a process that has loaded all they need."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("launcher.py")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _ask(self, **request: Any) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._answer())

    def start(self, argv: list[str], folder: Path, **limits: Any) -> int:
        return self._ask(argv=argv, folder=str(folder), log=str(folder.parent / "log"), **limits)

    def wait(self, process: int) -> int:
        return self._ask(wait=process)

    def run(self, argv: list[str], folder: Path, **limits: Any) -> int:
        return self.wait(self.start(argv, folder, **limits))

    def close(self) -> None:
        self._process.communicate()


@dataclass
class Scenario:
    """A command, and what it leaves when nothing disturbs it."""

    name: str
    argv: list[str]
    result: dict[str, Any]
    seconds: float

    def again(self) -> list[str]:
        return [*self.argv, "--resume"] if self.name in RESUMED else self.argv


def kept(value: Any) -> Any:
    """What of JSON does not depend on the clock."""
    if isinstance(value, dict):
        return {name: kept(inner) for name, inner in value.items() if not MEASURED.search(name)}
    return [kept(inner) for inner in value] if isinstance(value, list) else value


def left_in(folder: Path) -> dict[str, Any]:
    """Every file below a folder, and what is in it as far as it must be the same again."""
    found: dict[str, Any] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content: Any = None if file.name in VOLATILE else file.read_bytes()
        if file.suffix == ".json" and content is not None:
            content = kept(json.loads(content))
        elif file.suffix in (".pt", ".pth", ".bin") and "checkpoints" in file.parts:
            content = None  # torch writes zip files with times
        found[str(file.relative_to(folder))] = content
    return found


def differences(left: dict[str, Any], right: dict[str, Any]) -> list[str]:
    return sorted(name for name in left.keys() | right.keys() if left.get(name, 0) != right.get(name, 0))


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    made = Launcher()
    yield made
    made.close()


@pytest.fixture(scope="module")
def places(world, classifier, sentences, tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("chaos")
    (folder / "lines.txt").write_text("".join(f"{text}\n" for text in sentences), "utf-8")
    space = {"depth": [1, 2], "heads": [2], "hidden": [16], "intermediate": [16, 24]}
    (folder / "space.yaml").write_text(json.dumps(space))
    return {**vars(world), "classifier": classifier, "lines": f"{folder}/lines.txt", "space": f"{folder}/space.yaml"}


@pytest.fixture(scope="module")
def scenario(launcher, places, tmp_path_factory):
    """Run a command undisturbed, once, and tell what it left."""
    known: dict[str, Scenario] = {}

    def get(name: str) -> Scenario:
        if name not in known:
            folder = tmp_path_factory.mktemp(name) / "work"
            folder.mkdir()
            argv = [word.format_map(places) for word in SCENARIOS[name]]
            began = time.monotonic()
            status = launcher.run(argv, folder)
            assert status == 0, (folder.parent / "log").read_text("utf-8")
            known[name] = Scenario(name, argv, left_in(folder), time.monotonic() - began)
        return known[name]

    return get


def told(folder: Path) -> str:
    return (folder.parent / "log").read_text("utf-8", errors="replace")


def finish(launcher: Launcher, scenario: Scenario, folder: Path, said: str) -> None:
    """Run the command to its end; the result must be that of the undisturbed one, with nothing beside it."""
    if scenario.name in RESUMED or scenario.name == "predict" or not (folder / "out").exists():
        assert launcher.run(scenario.again(), folder) == 0, f"{said}: {told(folder)}"
    assert not differences(left_in(folder), scenario.result), said


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_killed_command_ends_with_the_same_result(launcher, scenario, name, tmp_path):
    known = scenario(name)
    for attempt in range(-(-COUNT // len(SCENARIOS))):
        chance = random.Random(f"{SEED} {name} {attempt}")
        folder = tmp_path / str(attempt) / "work"
        folder.mkdir(parents=True)
        moments = [chance.uniform(0, known.seconds) for _ in range(chance.choice((1, 1, 2)))]
        said = f"seed {SEED}, attempt {attempt}, killed after {moments} s"
        for number, moment in enumerate(moments):
            process = launcher.start(known.again() if number else known.argv, folder)
            time.sleep(moment)
            os.kill(process, signal.SIGKILL)
            status = launcher.wait(process)
            assert status in (-signal.SIGKILL, 0, 2), f"{said}: {told(folder)}"
            record("kill", command=name, attempt=attempt, seconds=moment, killed=status == -signal.SIGKILL)
            if name not in RESUMED and (folder / "out").exists():
                break  # it was done
        finish(launcher, known, folder, said)


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("plain", signal.SIGTERM),
        ("pretrain", signal.SIGINT),
        ("index", signal.SIGTERM),
        ("export", signal.SIGINT),
        ("predict", signal.SIGTERM),
    ],
)
def test_an_interrupted_command_says_so_in_one_line(launcher, scenario, name, sent, tmp_path):
    known = scenario(name)
    folder = tmp_path / "work"
    folder.mkdir()
    moment = random.Random(f"{SEED} {name} {sent}").uniform(0.1, known.seconds)
    process = launcher.start(known.argv, folder)
    time.sleep(moment)
    os.kill(process, sent)
    status = launcher.wait(process)
    said = f"seed {SEED}: signal {sent} after {moment} s: status {status}: {told(folder)}"
    assert status in (128 + sent, 0), said
    assert "Traceback" not in told(folder), said
    if status:
        word = "interrupted" if sent == signal.SIGINT else "terminated"
        assert told(folder).splitlines()[-1] == f"bort {known.argv[0]}: {word}", said
    finish(launcher, known, folder, said)


@pytest.mark.parametrize("name", ["plain", "pretrain", "index", "export", "predict", "tokenizer"])
def test_a_full_disk_is_one_line_and_does_no_harm(launcher, scenario, name, tmp_path):
    known = scenario(name)
    chance = random.Random(f"{SEED} {name}")
    folder = tmp_path / "work"
    folder.mkdir()
    largest = chance.choice((4096, 8192, 16384, 30000))
    status = launcher.run(known.argv, folder, file_bytes=largest)
    said = f"seed {SEED}: files of {largest} bytes: status {status}: {told(folder)}"
    assert status in (0, 2), said
    assert "Traceback" not in told(folder), said
    assert not status or "File too large" in told(folder).splitlines()[-1] or "written" in told(folder), said
    finish(launcher, known, folder, said)


@pytest.mark.parametrize("name", ["plain", "pretrain", "index", "export", "predict", "tokenizer"])
def test_where_nothing_can_be_written(launcher, scenario, name, tmp_path):
    """`/proc` takes no files, not even of root, who may write where others may not."""
    known = scenario(name)
    (tmp_path / "work").mkdir()
    argv = [word if word not in ("out", "out.jsonl") else f"/proc/{word}" for word in known.argv]
    assert launcher.run(argv, tmp_path / "work") == 2
    assert len(told(tmp_path / "work").splitlines()) <= 3, told(tmp_path / "work")
    assert "/proc/out" in told(tmp_path / "work").splitlines()[-1]


@pytest.mark.parametrize("name", ["plain", "pretrain", "index"])
def test_the_second_of_two_processes_is_refused(launcher, scenario, name, tmp_path):
    known = scenario(name)
    folder = tmp_path / "work"
    folder.mkdir()
    first = launcher.start(known.argv, folder)
    while not (list(folder.glob("out/journal.jsonl")) or list(folder.glob("out/vectors.bin"))):
        time.sleep(0.001)
    os.kill(first, signal.SIGSTOP)
    assert launcher.run([*known.argv, "--resume"], folder) == 2
    assert "is writing" in told(folder).splitlines()[-1] or "is written by another" in told(folder).splitlines()[-1]
    os.kill(first, signal.SIGCONT)
    assert launcher.wait(first) == 0
    assert not differences(left_in(folder), known.result)
