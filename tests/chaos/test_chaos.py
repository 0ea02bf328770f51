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
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chaos.commands import COUNT, SEED, record, told
from launcher import Launcher

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="forks, signals and limits of Linux"),
    pytest.mark.xdist_group("chaos"),  # each command runs undisturbed once
    pytest.mark.slow,
]
VOLATILE = {"config.yaml", "environment.json", "journal.jsonl", "report.html", "candidates.csv"}
"""They have times and places in them; what matters of them stands in other files, too."""
MEASURED = re.compile(r"second|elapsed|minute|speed|_ms|_at$|^time|^out$|^sha256$|^bytes$|packages|command|^costs$")
TUNE = ["finetune", "--learning-rates", "1e-2", "--batch-sizes", "8", "--max-epochs", "2", "--max-length", "24"]
TUNE += ["--precision", "fp32", "--checkpoint-minutes", "0", "--no-keep-better"]
ROWS = ["--sequence-length", "16", "--valid-share", "0.1", "--precision", "fp32", "--corpus-processes", "1"]
SCENARIOS: dict[str, list[str]] = {
    "plain": [*TUNE, "--train", "{train}", "--dev", "{dev}", "--model", "{encoder}", "--method", "plain",
              "--out", "out"],
    "agora": [*TUNE, "--train", "{train}", "--dev", "{dev}", "--test", "{test}", "--model", "{encoder}", "--out", "out",
              "--transforms", "swap", "--min-cosine", "-1", "--max-cosine", "2", "--points-per-mistake", "1",
              "--max-steps", "4", "--final-epochs", "1"],
    "ray": [*TUNE, "--train", "{train}", "--dev", "{dev}", "--model", "{encoder}", "--method", "plain", "--out", "out",
            "--workers", "{cluster}"],
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
RESUMED = {"plain", "agora", "ray", "pretrain", "extract", "index"}
LOCAL = [name for name in SCENARIOS if name != "ray"]


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


def finish(launcher: Launcher, scenario: Scenario, folder: Path, said: str) -> None:
    """Run the command to its end; the result must be that of the undisturbed one, with nothing beside it."""
    if scenario.name in RESUMED or scenario.name == "predict" or not (folder / "out").exists():
        assert launcher.run(scenario.again(), folder) == 0, f"{said}: {told(folder)}"
    assert not differences(left_in(folder), scenario.result), said


def kill_and_finish(launcher: Launcher, known: Scenario, attempts: int, tmp_path: Path, **limits: Any) -> None:
    name = known.name
    for attempt in range(attempts):
        chance = random.Random(f"{SEED} {name} {attempt}")
        folder = tmp_path / str(attempt) / "work"
        folder.mkdir(parents=True)
        moments = [chance.uniform(0, known.seconds) for _ in range(chance.choice((1, 1, 2)))]
        said = f"seed {SEED}, attempt {attempt}, killed after {moments} s"
        for number, moment in enumerate(moments):
            process = launcher.start(known.again() if number else known.argv, folder, **limits)
            time.sleep(moment)
            os.kill(process, signal.SIGKILL)
            status = launcher.wait(process)
            assert status in (-signal.SIGKILL, 0, 2), f"{said}: {told(folder)}"
            record("kill", command=name, attempt=attempt, seconds=moment, killed=status == -signal.SIGKILL)
            if name not in RESUMED and (folder / "out").exists():
                break  # it was done
        finish(launcher, known, folder, said)


@pytest.mark.parametrize("name", LOCAL)
def test_a_killed_command_ends_with_the_same_result(launcher, scenario, name, tmp_path):
    kill_and_finish(launcher, scenario(name), -(-COUNT // len(SCENARIOS)), tmp_path)


@pytest.mark.skipif(COUNT < 50, reason="a part of the long run: make chaos")
def test_so_does_one_whose_trials_run_on_ray(launcher, scenario, places, cluster, tmp_path):
    places["cluster"] = cluster
    kill_and_finish(launcher, scenario("ray"), -(-COUNT // len(SCENARIOS)), tmp_path)


@pytest.mark.parametrize("name", ["plain", "pretrain", "index", "predict"])
def test_so_does_one_whose_clock_jumps(launcher, scenario, name, tmp_path):
    known = scenario(name)
    kill_and_finish(launcher, known, 1, tmp_path, clock_seed=SEED)
    folder = tmp_path / "whole" / "work"
    folder.mkdir(parents=True)
    assert launcher.run(known.argv, folder, clock_seed=SEED + 1) == 0, told(folder)
    assert not differences(left_in(folder), known.result)


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
    for attempt in range(-(-COUNT // 20)):
        folder = tmp_path / str(attempt) / "work"
        folder.mkdir(parents=True)
        moment = random.Random(f"{SEED} {name} {sent} {attempt}").uniform(0.1, known.seconds)
        process = launcher.start(known.argv, folder)
        time.sleep(moment)
        os.kill(process, sent)
        status = launcher.wait(process)
        record("signal", command=name, attempt=attempt, seconds=moment, signal=int(sent), status=status)
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


@pytest.mark.parametrize("name", ["plain", "pretrain", "index", "export", "predict"])
def test_where_memory_runs_out(launcher, scenario, name, tmp_path):
    known = scenario(name)
    for attempt in range(-(-COUNT // 20)):
        more = 1 << random.Random(f"{SEED} {name} {attempt}").randint(12, 28)
        folder = tmp_path / str(attempt) / "work"
        folder.mkdir(parents=True)
        status = launcher.run(known.argv, folder, more_memory_bytes=more)
        record("memory", command=name, attempt=attempt, bytes=more, status=status)
        said = f"seed {SEED}: {more} more bytes: status {status}: {told(folder)}"
        # With the others, a library in C++ or Rust, or the loader of libraries, ended the process.
        loader = status == 127 and "cannot allocate memory" in told(folder)
        assert loader or status in (0, 2, -signal.SIGABRT), said
        assert "Traceback" not in told(folder), said
        assert status != 2 or "memory" in told(folder).splitlines()[-1], said
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
        assert launcher.status(first) is None, told(folder)
        time.sleep(0.001)
    os.kill(first, signal.SIGSTOP)
    assert launcher.run([*known.argv, "--resume"], folder) == 2
    assert "is writing" in told(folder).splitlines()[-1] or "is written by another" in told(folder).splitlines()[-1]
    os.kill(first, signal.SIGCONT)
    assert launcher.wait(first) == 0
    assert not differences(left_in(folder), known.result)


@pytest.mark.parametrize("name", ["plain", "extract", "index", "export", "tokenizer", "predict"])
def test_of_several_at_once_one_writes(launcher, scenario, name, tmp_path):
    known = scenario(name)
    folder = tmp_path / "work"
    folder.mkdir()
    started = [launcher.start(known.argv, folder, log=tmp_path / f"log-{number}") for number in range(3)]
    left = [launcher.wait(process) for process in started]
    said = [(tmp_path / f"log-{number}").read_text("utf-8") for number in range(3)]
    assert {*left} <= {0, 2}, said
    assert 0 in left, said
    assert left.count(0) == 1 or name not in RESUMED, said
    assert not any("Traceback" in log for log in said), said
    assert not differences(left_in(folder), known.result), said
