"""A run's folder: its settings, its journal, and what resuming it allows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import yaml

from bort.cores import usable_cores
from bort.errors import BortError
from bort.runs import Run, environment


@dataclass
class Arguments:
    out: str = "runs/a"
    resume: bool = False
    learning_rate: float = 1e-5
    texts: list[str] = field(default_factory=lambda: ["a.txt", "é: #1"])
    teacher: str | None = None
    shape: tuple[int, ...] = (1, 2)
    max_minutes: float | None = None


def journal(run: Run) -> list[dict]:
    return [json.loads(line) for line in run.journal_path.read_text("utf-8").split("\n")[:-1]]


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "runs" / "a"


def test_a_new_run(out):
    run = Run(out, "pretrain", Arguments())
    assert not run.resumed
    assert {file.name for file in out.iterdir()} == {"config.yaml", "environment.json", "journal.jsonl"}
    assert yaml.safe_load((out / "config.yaml").read_text("utf-8")) == {
        "out": "runs/a",
        "resume": False,
        "learning_rate": 1e-5,
        "texts": ["a.txt", "é: #1"],
        "teacher": None,
        "shape": [1, 2],
        "max_minutes": None,
    }
    [started] = journal(run)
    assert (started["event"], started["command"], started["pid"]) == ("started", "pretrain", os.getpid())
    described = json.loads((out / "environment.json").read_text("utf-8"))
    assert described == environment()
    assert {"torch", "transformers", "numpy"} <= described["packages"].keys()
    assert described["cores"] == usable_cores()


@pytest.mark.parametrize(
    ("module", "program", "typed"),
    [
        (None, "/usr/bin/bort", "bort --teacher_command 'python label.py'"),
        ("bort.__main__", "/site-packages/bort/__main__.py", "bort --teacher_command 'python label.py'"),
        (None, "/home/me/run.py", "python run.py --teacher_command 'python label.py'"),
        ("mine.run", "/home/me/mine/run.py", "python -m mine.run --teacher_command 'python label.py'"),
    ],
)
def test_the_command_can_be_typed_again(monkeypatch, module, program, typed):
    spec = None if module is None else ModuleSpec(module, None)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    monkeypatch.setattr(sys, "argv", [program, "--teacher_command", "python label.py"])
    assert environment()["command"] == typed


def test_events(out):
    run = Run(out, "pretrain", Arguments())
    run.log("step", loss=np.float32(0.5), text="ü\u2028\n", count=np.int64(3))
    run.log("other")
    run.log("step", loss=0.25)
    first, second = run.events("step")
    assert (first["loss"], first["text"], first["count"]) == (0.5, "ü\u2028\n", 3)
    assert second["loss"] == 0.25
    assert first["time"] <= second["time"]
    assert [event["event"] for event in journal(run)] == ["started", "step", "other", "step"]


def test_json_files_are_whole_or_absent(out):
    run = Run(out, "pretrain", Arguments())
    run.write_json("metrics.json", {"accuracy": np.float64(0.5), "name": "é"})
    before = (out / "metrics.json").read_bytes()
    assert json.loads(before) == {"accuracy": 0.5, "name": "é"}
    with pytest.raises((TypeError, ValueError)):
        run.write_json("metrics.json", {"accuracy": 1, "no json": object()})
    assert (out / "metrics.json").read_bytes() == before
    assert len(list(out.iterdir())) == 4


def test_a_start_that_got_nowhere_does_not_block_its_folder(out):
    """A missing model, say: the right command works in the same folder, without --resume."""
    Run(out, "finetune", Arguments(teacher="nosuch"))
    run = Run(out, "finetune", Arguments())
    assert not run.resumed
    assert [event["event"] for event in journal(run)] == ["started"]
    assert yaml.safe_load((out / "config.yaml").read_text("utf-8"))["teacher"] is None
    run.log("corpus", train_tokens=9)
    run.same_data({"corpus": "1"})
    (out / "corpus").mkdir()
    assert not Run(out, "finetune", Arguments()).resumed, "a corpus is used again"
    assert (out / "corpus").is_dir()
    assert len(journal(run)) == 1


def test_a_run_is_not_in_an_object_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BortError, match="not an address"):
        Run("s3://bucket/a", "finetune", Arguments())
    assert not [*tmp_path.iterdir()]


def test_an_earlier_run_is_not_overwritten(out):
    Run(out, "pretrain", Arguments()).log("step", step=1)
    with pytest.raises(BortError, match="holds an earlier run; go on with --resume, or name another --out"):
        Run(out, "pretrain", Arguments())


@pytest.mark.parametrize("resume", [False, True])
def test_a_file_is_no_run(out, resume):
    out.parent.mkdir(parents=True)
    out.touch()
    with pytest.raises(BortError, match="already exists; name another --out"):
        Run(out, "pretrain", Arguments(), resume=resume)
    with pytest.raises(BortError, match="cannot be made: Not a directory"):
        Run(out / "below", "pretrain", Arguments(), resume=resume)


def test_a_folder_with_something_else_is_not_taken(out):
    out.mkdir(parents=True)
    (out / "thesis.tex").touch()
    with pytest.raises(BortError, match="already exists"):
        Run(out, "pretrain", Arguments())


@pytest.mark.parametrize(
    ("names", "resume", "taken"),
    [
        (["config.yaml", "environment.json", "data", ".journal.jsonl.0123abcd.part"], True, True),
        (["config.yaml", "environment.json"], False, False),
        (["slurm-1.out", "config.yaml"], True, True),
        (["thesis.tex"], False, False),
        (["config.json"], True, False),
        (["config.yaml", "metrics.json"], True, False),
    ],
)
def test_only_what_a_run_writes_before_its_journal_is_taken_for_one(out, names, resume, taken):
    out.mkdir(parents=True)
    for name in names:
        (out / name).write_text("{}")
    if taken:
        assert not Run(out, "pretrain", Arguments(), resume=resume).resumed
        return
    with pytest.raises(BortError, match="something other than a run to resume" if resume else "already exists"):
        Run(out, "pretrain", Arguments(), resume=resume)
    assert {file.name: file.read_text() for file in out.iterdir()} == dict.fromkeys(names, "{}")


def test_resuming(out):
    Run(out, "pretrain", Arguments()).log("step", loss=1.0)
    config = (out / "config.yaml").read_bytes()
    run = Run(out, "pretrain", Arguments(out="elsewhere", resume=True), resume=True)
    assert run.resumed
    assert [event["event"] for event in journal(run)] == ["started", "step", "resumed"]
    assert (out / "config.yaml").read_bytes() == config


@pytest.mark.parametrize("prepare", [lambda out: None, lambda out: out.mkdir(parents=True)])
def test_resuming_what_has_not_begun_begins(out, prepare):
    prepare(out)
    run = Run(out, "pretrain", Arguments(), resume=True)
    assert not run.resumed
    assert [event["event"] for event in journal(run)] == ["started"]
    assert Run(out, "pretrain", Arguments(), resume=True).resumed


@pytest.mark.parametrize(
    ("name", "value"), [("learning_rate", 1e-4), ("texts", ["a.txt"]), ("teacher", "big"), ("shape", (1, 3))]
)
def test_resuming_with_another_setting_is_refused_by_name(out, name, value):
    earlier = Run(out, "pretrain", Arguments())
    before = journal(earlier)
    with pytest.raises(BortError) as caught:
        Run(out, "pretrain", replace(Arguments(), **{name: value}), resume=True)
    message = str(caught.value)
    assert message.startswith(f"{out}/config.yaml: column {name!r}: value ")
    assert "the run to resume was started with" in message
    assert journal(earlier) == before


def test_some_settings_may_change(out):
    Run(out, "pretrain", Arguments(max_minutes=5))
    changed = Arguments(max_minutes=10)
    with pytest.raises(BortError, match="column 'max_minutes': value 10: the run to resume was started with 5"):
        Run(out, "pretrain", changed, resume=True)
    assert Run(out, "pretrain", changed, resume=True, may_change=("max_minutes",)).resumed


@pytest.mark.parametrize("torn", ['{"event": "st', '{"event": "step", "loss": 1.0}', "\0\0\0", "é"])
def test_a_torn_last_line_is_mended(out, torn):
    run = Run(out, "pretrain", Arguments())
    run.log("step", loss=1.0)
    whole = run.journal_path.read_bytes()
    run.journal_path.write_bytes(whole + torn.encode()[:-1])
    resumed = Run(out, "pretrain", Arguments(), resume=True)
    content = resumed.journal_path.read_bytes()
    assert content.startswith(whole)
    assert [event["event"] for event in journal(resumed)] == ["started", "step", "resumed"]
    assert len(list(resumed.events("step"))) == 1


@pytest.mark.parametrize("content", [None, "", "- a\n- b\n", "a: [", b"\xff"])
def test_settings_that_cannot_be_read(out, content):
    Run(out, "pretrain", Arguments())
    file = out / "config.yaml"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BortError, match=r"config\.yaml: the settings of the run to resume cannot be read"):
        Run(out, "pretrain", Arguments(), resume=True)


def test_a_process_that_does_not_lead_only_reads(out):
    first = Run(out, "pretrain", Arguments())
    first.log("step", step=1)
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    other = Run(out, "pretrain", Arguments(), leads=False)
    other.log("step", step=2)
    assert [event["step"] for event in other.events("step")] == [1]
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_what_has_finished_is_told(out, capsys):
    run = Run(out, "pretrain", Arguments())
    assert run.finished() is None
    run.write_json("metrics.json", {"accuracy": 1.0})
    assert Run(out, "pretrain", Arguments(), resume=True).finished() == {"accuracy": 1.0}
    assert "already finished" in capsys.readouterr().err
    assert Run(out, "pretrain", Arguments(), leads=False).finished() == {"accuracy": 1.0}
    assert not capsys.readouterr().err


def test_what_has_finished_keeps_the_environment_that_made_it(out):
    Run(out, "pretrain", Arguments()).write_json("metrics.json", {"accuracy": 1.0})
    (out / "environment.json").write_text('{"bort": "0.0.9"}')
    Run(out, "pretrain", Arguments(), resume=True)
    assert (out / "environment.json").read_text() == '{"bort": "0.0.9"}'


HOLD = """
import sys
from tests.test_runs import Arguments
from bort.runs import Run
run = Run(sys.argv[1], "pretrain", Arguments())
run.log("step", step=1)
print("held", flush=True)
sys.stdin.read()
"""


def held(out: Path) -> subprocess.Popen:
    """Another process that writes the run."""
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert other.stdout.readline() == "held\n"
    return other


def test_two_processes_do_not_write_one_run(out):
    other = held(out)
    try:
        before = (out / "journal.jsonl").read_bytes()
        with pytest.raises(
            BortError, match=rf"{out}: process {other.pid} is writing this run; wait for it, or stop it"
        ):
            Run(out, "pretrain", Arguments(), resume=True)
        with pytest.raises(BortError, match="is writing this run"):
            Run(out, "pretrain", Arguments())
        assert (out / "journal.jsonl").read_bytes() == before
        (out / "journal.jsonl").write_bytes(before + b'[]\n{"event": "\xe2')  # the other one is writing this
        with pytest.raises(BortError, match=f"process {other.pid} is writing"):
            Run(out, "pretrain", Arguments(), resume=True)
        (out / "journal.jsonl").write_bytes(before)
    finally:
        other.kill()
        other.communicate()
    assert Run(out, "pretrain", Arguments(), resume=True).resumed, "the lock of a killed process is free"


def test_a_start_in_progress_is_not_taken_for_one_that_got_nowhere(out):
    other = held(out)
    (out / "journal.jsonl").write_text((out / "journal.jsonl").read_text().splitlines()[0] + "\n")
    try:
        with pytest.raises(BortError, match=f"process {other.pid} is writing"):
            Run(out, "pretrain", Arguments())
    finally:
        other.kill()
        other.communicate()


def test_one_process_may_open_its_run_again(out):
    first = Run(out, "pretrain", Arguments())
    second = Run(out, "pretrain", Arguments(), resume=True)
    assert first.path == second.path


def test_a_setting_that_an_earlier_version_lacked_is_as_if_not_given(out):
    Run(out, "pretrain", Arguments()).log("step", step=1)
    file = out / "config.yaml"
    settings = yaml.safe_load(file.read_text("utf-8"))
    del settings["teacher"]
    file.write_text(yaml.safe_dump(settings), "utf-8")
    assert Run(out, "pretrain", Arguments(), resume=True).resumed
    with pytest.raises(BortError, match="started with None"):
        Run(out, "pretrain", Arguments(teacher="new"), resume=True)


def test_a_run_does_not_go_on_with_other_data_or_another_model(out):
    Run(out, "pretrain", Arguments()).same_data({"training": "a"})
    run = Run(out, "pretrain", Arguments(), resume=True)
    run.same_data({"training": "a", "--model": "m"})  # an earlier version did not record the model
    with pytest.raises(BortError, match="the training data have changed since the run to resume began"):
        run.same_data({"training": "b"})
    with pytest.raises(BortError, match="the files of --model have changed"):  # since this run went on
        run.same_data({"training": "a", "--model": "n"})
    other = Run(out.with_name("b"), "pretrain", Arguments())
    other.same_data({"--model": "m"})
    with pytest.raises(BortError, match="the files of --model have changed since the run to resume began"):
        other.same_data({"--model": "n"})
