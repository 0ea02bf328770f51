"""The command line as such: help, mistakes, settings files, interrupts, and readers that go away."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import subprocess
import sys

import docstring_parser
import pytest
import yaml
from safetensors import SafetensorError

import bort as package
from bort.__main__ import COMMANDS, command, main
from bort.bounds import validate
from bort.cli.info import InfoArguments
from bort.cli.parser import build, parse
from bort.errors import BortError, flag
from bort.finetuning.arguments import FinetuneArguments
from bort.runs import Run

REQUIRED = {
    "demo": [],
    "check": ["a.csv", "b.csv"],
    "finetune": ["--train", "007", "--out", "runs/[x]"],
    "evaluate": ["--model", "m", "--data", "a: b"],
    "submit": ["--models", "m", "--data", "d", "--out", "o"],
    "predict": ["--model", "null"],
    "benchmark": [],
    "export": ["--model", "m", "--out", "o"],
    "extract": ["--corpus", "a.txt", "b c.txt", "--out", "o"],
    "pretrain": ["--corpus", "a.txt", "b c.txt", "--tokenizer", "t", "--out", "o"],
    "tokenizer": ["a.txt", "b.txt", "--out", "o"],
    "convert": ["x.params", "--out", "o"],
    "info": ["bort"],
    "shrink": ["m", "--out", "o"],
    "serve": ["runs/mine", "other=fast"],
    "suggest": ["--model", "m"],
    "embed": ["--model", "m", "--output", "v.npy"],
    "index": ["a.txt", "--out", "o"],
}


def parsed(name: str, *words: str):
    function, arguments, positional = command(name)
    return parse(name, function, arguments, positional, list(words))


# Help


def test_help_names_every_command(bort):
    for words in (["--help"], ["-h"], []):
        done = bort(*words)
        assert (done.status, done.err) == (0, "")
        assert all(f"\n  {name} " in done.out for name in COMMANDS)
    assert set(REQUIRED) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_explains_every_flag(bort, name):
    done = bort(name, "--help-all")
    assert (done.status, done.err) == (0, "")
    shown = " ".join(done.out.split())
    function, arguments, positional = command(name)
    texts = {item.arg_name: item.description for item in docstring_parser.parse_from_object(arguments).params}
    for field in dataclasses.fields(arguments):
        assert (field.name.upper() if field.name in positional else flag(field.name)) in shown
        assert len(texts[field.name]) > 8, f"{name} --{field.name} has no help"
        assert "".join(texts[field.name].split()) in "".join(done.out.split())  # lines break after hyphens, too
    assert "--config CONFIG" in shown
    assert " ".join(function.__doc__.split())[:60] in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_in_our_words(bort, name):
    shown = " ".join(bort(name, "--help-all").out.split())
    for noise in ("null)", "[]", "\b", "Literal", "Optional", "type:", "default: )", "skip_unset"):
        assert noise not in shown.partition("options:")[2]
    assert not re.search(r"--[\w-]+\+", shown)
    assert f"usage: bort {name} " in shown
    assert "[flags]" in shown
    assert "--print_config print the settings of this command line as YAML and exit" in shown


def test_help_says_what_a_flag_takes_and_its_default(bort):
    shown = " ".join(bort("finetune", "--help-all").out.split())
    assert "--patience N " in shown
    assert "(default: 8)" in shown
    assert "--teacher-learning-rates X [X ...] " in shown
    assert "(default: 5e-05 2e-05)" in shown
    assert "--learning-rates X [X ...] peak learning rates; by default 5e-4 and 2e-4, or " in shown
    assert "--label LABEL [LABEL ...] " in shown
    assert "--labels {soft,hard} " in shown
    assert "--keep-better, --no-keep-better " in shown
    assert "if fine-tuning does not beat it (default: on)" in shown
    assert "and the state for --resume (required)" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_topics_of_help_hold_each_setting_once(name):
    _, arguments, _ = command(name)
    topics = getattr(arguments, "TOPICS", {})
    listed = sorted(setting for settings in topics.values() for setting in settings)
    names = {field.name for field in dataclasses.fields(arguments)}
    assert not topics or listed == sorted(names)
    assert getattr(arguments, "RARE", set()) <= names


def test_help_shows_what_is_used_most_and_help_all_the_rest(bort):
    short, whole = bort("finetune", "--help").out, bort("finetune", "--help-all").out
    assert "--help-all explains" in short
    for text in (short, whole):
        assert text.index("\ndata:") < text.index("\nmodel:") < text.index("\nteacher (agora):")
        assert text.index("  --train ") < text.index("  --out ") < text.index("  --learning-rates ")
    assert "--min-cosine" not in short
    assert "--min-cosine" in whole
    assert parsed("finetune", "--train", "a", "--out", "b", "--min-cosine", "0.1").min_cosine == 0.1


def test_help_loads_nothing_heavy(python):
    code = (
        "import sys, bort\nfrom bort.__main__ import COMMANDS, main\n"
        "for name in COMMANDS: assert main([name, '--help']) == 0\n"
        "assert main(['finetune', '--train', 'a', '--out', 'b', '--print_config']) == 0\n"
        "assert main(['predict', '--modle', 'x']) == 2\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'sklearn', 'plotly') if name in sys.modules])"
    )
    assert python(code).stdout.splitlines()[-1] == "[]"


def test_public_face():
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert set(COMMANDS) <= set(package.__all__)
    with pytest.raises(AttributeError, match="nosuch"):
        _ = package.nosuch


# Mistakes


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["inof"], ["'inof'", "did you mean info?"]),
        (["zzzzz"], ["'zzzzz'", "finetune, evaluate"]),
        (["--zzzzz"], ["'--zzzzz'"]),
        (["predict", "--modle", "x"], ["--modle", "did you mean --model?"]),
        (["serve", "--model", "x"], ["--model", "give models without a flag"]),
        (["predict", "--input", "a.txt"], ["needs --model"]),
        (["tokenizer", "--out", "x"], ["needs texts"]),
        (["convert", "x"], ["needs --out"]),
        (["predict", "--model"], ["--model", "expected one argument"]),
        (["predict", "--model", "x", "stray"], ["stray"]),
        (["predict", "--model", "x", "--window", "many"], ["--window: value 'many': must be a whole number"]),
        (["predict", "--model", "x", "--window", "1.5"], ["--window: value '1.5': must be a whole number"]),
        (["predict", "--model", "x", "--input_format", "xls"], ["'xls'", "one of auto, csv, tsv, jsonl, txt"]),
        (["predict", "--in", "x"], ["unrecognized arguments: --in x"]),
        (["predict", "new.csv", "--model", "m", "--input", "a.csv"], ["--input: value 'new.csv'", "given once"]),
        (["finetune", "new.csv", "--train=a.csv"], ["--train: value 'new.csv'", "given once"]),
        (["predict", "new.csv", "--model", "m", "--worker-retries", "3"], ["--worker-retries: value 3", "a cluster"]),
        (["predict", "new.csv", "--model", "m", "--no-keep-order"], ["--keep-order", "has no effect"]),
        (["predict", "new.csv", "--model", "m", "--workers", "x"], ["must be a number, local, ray, or HOST:PORT"]),
        (["evaluate", "a.csv", "--model", "m", "--cast", "released"], ["--cast: value 'released': has no effect"]),
        (["shrink", "bort-nano", "--out", "x", "--lines", "9"], ["--lines: value 9: is for --importance batch"]),
        (["embed", "a.txt", "--model", "m", "--output", "-", "--column", "text"], ["--column: value 'text'"]),
        (["check", "a.csv", "./a.csv"], ["./a.csv: is given twice"]),
        (["serve", "=fast", "--port", "0"], ["value '=fast': must be FOLDER or NAME=FOLDER"]),
        (["serve", "head=", "--port", "0"], ["value 'head=': must be FOLDER or NAME=FOLDER"]),
        (["finetune", "new.csv", "--ou", "mine"], ["unrecognized arguments: --ou mine", "did you mean --out?"]),
        (["finetune", "--train", "a", "--out", "b", "--seeds", "0", "x"], ["--seeds: value 'x'", "a whole number"]),
        (["finetune", "--train", "a", "--out", "b", "--seeds"], ["--seeds", "at least one"]),
        (["finetune", "--train", "a", "--out", "b", "--max_steps", "1e3"], ["--max-steps: value '1e3'"]),
        (["finetune", "--train", "a", "--out", "b", "--learning_rates", "nan"], ["--learning-rates: value 'nan'"]),
        (["finetune", "--train", "a", "--out", "b", "--max-steps", "0"], ["--max-steps: value 0: must be at least 1"]),
        (["finetune", "--train", "a", "--out", "b", "--resume=yes"], ["--resume"]),
        (["evaluate", "--model", "x", "--data", "y", "--json", "3"], ["3"]),
        (["predict", "--model", "x\ny"], ["'x\\ny'"]),
        (["predict", "--model", "./none", "--window", "0"], ["--window: value 0: must be at least 1"]),
        (["predict", "--model", "./none"], ["./none: no such folder"]),
        (["serve", "x", "--port", "65536"], ["--port: value 65536: must be from 0 to 65,535"]),
    ],
)
def test_a_mistake_is_told_in_one_line(bort, words, parts):
    bort(*words).refused(*parts)


@pytest.mark.parametrize("name", [name for name in COMMANDS if REQUIRED[name]])
def test_a_command_without_words_shows_its_help(bort, name):
    done = bort(name)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"usage: bort {name}")


def raising(monkeypatch, error: BaseException) -> None:
    def fail(arguments: InfoArguments) -> None:
        print("half a li", end="")
        raise error

    monkeypatch.setattr("bort.cli.info.info", fail)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (BortError("must hold", file="a.csv", line=3, value="x"), 2, "bort info: a.csv:3: value 'x': must hold\n"),
        (KeyboardInterrupt(), 130, "bort info: interrupted\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "bort info: No space left on device\n"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 2, "bort info: /x: Permission denied\n"),
        (
            SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
            2,
            "bort info: No space left on device\n",
        ),
        (
            RuntimeError("[enforce fail at inline_container.cc:668] . PytorchStreamWriter failed writing file data/3"),
            2,
            "bort info: a checkpoint cannot be written\n",
        ),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 0, ""),
        (SystemExit(), 0, ""),
        (SystemExit(7), 7, ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_command_raises_becomes_a_status(bort, monkeypatch, error, status, said):
    raising(monkeypatch, error)
    done = bort("info", "bort")
    assert (done.status, done.err) == (status, said)


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), OSError("the library's own"), SafetensorError("header too large")]
)
def test_a_failure_of_ours_keeps_its_traceback(monkeypatch, error):
    raising(monkeypatch, error)
    with pytest.raises(type(error)):
        main(["info", "bort"])


# Settings: switches, lists, files


def test_switches_and_lists():
    base = ["--train", "a", "--out", "b"]
    assert parsed("finetune", *base).resume is False
    assert parsed("finetune", *base, "--resume").resume is True
    assert parsed("finetune", *base, "--resume", "--no_resume").resume is False
    settings = parsed("finetune", *base, "--seeds", "0", "1", "2", "--learning_rates", "1e-3", ".1")
    assert settings.seeds == [0, 1, 2]
    assert settings.learning_rates == [1e-3, 0.1]
    assert parsed("tokenizer", "a.txt", "b.txt", "--out", "o").texts == ["a.txt", "b.txt"]
    assert parsed("tokenizer", "--out", "o", "a.txt", "b.txt").texts == ["a.txt", "b.txt"]


@pytest.mark.parametrize(
    ("words", "label"),
    [
        ([], "label"),
        (["--label", "a"], "a"),
        (["--label=1"], "1"),
        (["--label", "a", "b c", "1"], ["a", "b c", "1"]),
        (["--label", '["a', 'b"'], ['["a', 'b"']),
        (["--label", "a", "b", "--resume"], ["a", "b"]),
    ],
)
def test_one_text_or_several(words, label, tmp_path):
    settings = parsed("finetune", "--train", "a", "--out", "b", *words)
    assert settings.label == label
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"train": "a", "out": "b", "label": label}), "utf-8")
    assert parsed("finetune", "--config", str(file)).label == label


@pytest.mark.parametrize("text", ["007", "1e5", "true", "[x", "{a: 1}", "a: b", "~", "é \u2028", ""])
def test_text_stays_text(text, tmp_path):
    settings = parsed("predict", "--model", text, f"--text={text}")
    assert (settings.model, settings.text) == (text, text)
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"model": text}), "utf-8")
    assert parsed("predict", "--config", str(file)).model == text


@pytest.mark.parametrize("text", ["#", "~", "#x.csv", "null", ";", ""])
def test_text_that_may_be_absent_stays_text(text, tmp_path):
    assert parsed("predict", "--model", "m", f"--delimiter={text}").delimiter == text
    file = tmp_path / "config.yaml"
    for value in (text, None):
        file.write_text(json.dumps({"model": "m", "delimiter": value}), "utf-8")
        assert parsed("predict", "--config", str(file)).delimiter == value


def test_defaults_are_those_of_the_dataclass():
    for name, words in REQUIRED.items():
        settings = parsed(name, *words)
        for field in dataclasses.fields(settings):
            if field.default is not dataclasses.MISSING and f"--{field.name}" not in words:
                assert getattr(settings, field.name) == field.default


@pytest.mark.parametrize("name", COMMANDS)
def test_print_config_is_read_again(bort, name, tmp_path):
    done = bort(name, *REQUIRED[name], "--print_config")
    assert (done.status, done.err) == (0, "")
    file = tmp_path / "config.yaml"
    file.write_text(done.out, "utf-8")
    assert set(yaml.safe_load(done.out)) == {field.name for field in dataclasses.fields(command(name)[1])}
    again = parsed(name, "--config", str(file), *(word for word in REQUIRED[name] if command(name)[2]))
    assert again == parsed(name, *REQUIRED[name])


def test_the_settings_of_a_run_are_read_again(tmp_path):
    settings = FinetuneArguments(
        train="a b.csv", out=str(tmp_path / "run"), text="null", learning_rates=[1e-05], seeds=[3, 4], max_steps=7
    )
    Run(settings.out, "finetune", settings)
    file = f"{settings.out}/config.yaml"
    assert parsed("finetune", "--config", file) == settings
    assert parsed("finetune", f"--config={file}", "--seeds", "9", "--resume") == dataclasses.replace(
        settings, seeds=[9], resume=True
    )


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"train: [1\n", [":2: must be valid YAML"]),
        (b"train: a\n\tout: b\n", [":2: must be valid YAML"]),
        (b"out: b\n\xff\n", [":2: must be UTF-8"]),
        (b"", ["must map names of settings"]),
        (b"- 3\n", ["value [3]"]),
        (b"modle: x\n", ["'modle'", "did you mean 'model'?"]),
        (b"zzz: x\n", ["'zzz'", "there are: out, train"]),
        (b"3: x\n", ["column '3'"]),
        (b"seeds: 3\n", ["'seeds'", "value 3", "must be a list"]),
        (b"train: a\nout: b\nseeds: [x]\n", ["--seeds: value 'x'"]),
        (b"train: 3\nout: b\n", ["--train: value '3': must be text"]),
        (b"train: a\nout: b\nresume: maybe\n", ["'resume'", "value 'maybe'", "must be true or false"]),
        (b"a: &a [*a]\n", ["'a'"]),
        (b"train: !!python/object/apply:os.system [echo pwned > pwned]\n", [":1: must be valid YAML"]),
        (b"[" * 600, ["must be valid YAML"]),
    ],
)
def test_a_settings_file_that_is_wrong(bort, tmp_path, monkeypatch, content, parts):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    bort("finetune", "--config", file).refused(*parts)
    assert list(tmp_path.iterdir()) == [file]


def test_a_settings_file_that_is_absent(bort, tmp_path):
    bort("finetune", "--config", tmp_path / "none.yaml").refused("none.yaml: no such file")
    bort("finetune", f"--config={tmp_path}").refused(f"{tmp_path}: cannot be read: Is a directory")


def test_the_parser_is_built_for_every_type_of_setting():
    for name in COMMANDS:
        parser = build(name, *command(name))
        assert parser.prog == f"bort {name}"


# Streams


BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
"""What is buffered is written at the very end, where a failure is hard to tell of."""


def bort_process(*words: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bort", *words]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=120, env=BUFFERED, **options)


def test_a_reader_that_has_gone_is_no_failure():
    reading, writing = os.pipe()
    os.close(reading)
    done = bort_process("--help", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_disk_is_told():
    with open("/dev/full", "w") as full:
        done = bort_process("--version", stdout=full)
    assert (done.returncode, done.stderr) == (2, "bort: No space left on device\n")


def test_predict_to_head(classifier, tmp_path, sentences):
    """In a real shell, with a terminal that knows ASCII alone: the first row whole and in UTF-8, and no traceback."""
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"café {i} {text}\n" for i, text in enumerate(sentences * 4)), "utf-8")
    line = f'"{sys.executable}" -m bort predict --model "{classifier}" --input "{texts}" --window 64 | head -1'
    done = subprocess.run(
        ["bash", "-c", f'{line}; echo "${{PIPESTATUS[0]}}"'],
        capture_output=True,
        env={**BUFFERED, "PYTHONIOENCODING": "ascii"},
        check=False,
        timeout=120,
    )
    first, status = done.stdout.decode("utf-8").splitlines()
    assert json.loads(first)["text"] == f"café 0 {sentences[0]}"
    assert status == "0"
    assert [line for line in done.stderr.splitlines() if not line.startswith(b"predicting: ")] == []  # where it is slow


@pytest.mark.parametrize(
    "words", [("--max-epochs", "7"), ("--max_epochs", "7"), ("--max-epochs=7",), ("--max_epochs=7",)]
)
@pytest.mark.parametrize("show", ["--print_config", "--print-config"])
def test_flags_take_hyphens_and_underscores(bort, words, show):
    done = bort("finetune", "--train", "a_b", "--out", "c_d", *words, show)
    settings = yaml.safe_load(done.out)
    assert (settings["max_epochs"], settings["train"], settings["out"]) == (7, "a_b", "c_d")


def test_the_help_shows_bounds(bort):
    shown = " ".join(bort("finetune", "--help").out.split())
    assert "longest input in tokens" in shown
    assert "(at least 4)" in shown


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["info", "./nosuch"], ["./nosuch: no such folder"]),
        (["serve", "./nosuch"], ["./nosuch: no such folder"]),
        (["predict", "--model", "./nosuch"], ["./nosuch: no such folder"]),
        (["predict", "--model", "bort-nano", "--input", "nosuch.csv"], ["nosuch.csv: no such file"]),
        (["evaluate", "--model", "bort-nano", "--data", "nosuch.csv"], ["nosuch.csv: no such file"]),
        (["finetune", "--train", "nosuch.csv", "--out", "x"], ["nosuch.csv: no such file"]),
        (["finetune", "--train", "nosuch.csv", "--out", "x", "--max-epochs", "0"], ["--max-epochs"]),
        (["export", "--model", "bort-nano", "--out", "x", "--gate", "nosuch.csv"], ["nosuch.csv: no such file"]),
        (["tokenizer", "nosuch.txt", "--out", "x"], ["nosuch.txt: no such file"]),
        (["pretrain", "--corpus", "nosuch.txt", "--tokenizer", "t", "--out", "x", "--max-steps", "1"], ["nosuch.txt"]),
        (["extract", "--corpus", "nosuch.txt", "--out", "x", "--maximum", "4,4,64,64"], ["nosuch.txt: no such file"]),
    ],
    ids=" ".join,
)
def test_missing_inputs_are_told_before_anything_heavy_is_loaded(words, parts, python, tmp_path):
    code = (
        f"import sys\nfrom bort.__main__ import main\nassert main({words}) == 2\n"
        "print([name for name in ('torch', 'transformers', 'sklearn', 'pyarrow') if name in sys.modules])"
    )
    done = python(code, cwd=tmp_path)
    assert done.stdout.splitlines() == ["[]"]
    for part in parts:
        assert part in done.stderr


def test_a_first_word_without_a_flag_is_the_data():
    settings = parsed("finetune", "data/mine.csv.gz")
    assert (settings.train, settings.out) == ("data/mine.csv.gz", "runs/mine")
    assert parsed("finetune", "mine.csv", "--out=there").out == "there"
    assert parsed("predict", "new.csv", "--model", "m").input == "new.csv"
    assert parsed("predict", "a.csv", "b.txt", "--model", "m").input == ["a.csv", "b.txt"]
    assert parsed("evaluate", "test.csv", "--model", "m").data == "test.csv"


def test_a_first_word_without_a_flag_wins_over_a_settings_file(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("train: old.csv\nout: runs/old\nseed: 3\n")
    settings = parsed("finetune", "new.csv", "--config", str(file), "--out", "mine")
    assert (settings.train, settings.out, settings.seed) == ("new.csv", "mine", 3)
    assert parsed("finetune", "new.csv", f"--config={file}").out == "runs/old"
    file.write_text("seed: 3\n")
    assert parsed("finetune", "new.csv", "--config", str(file)).out == "runs/new"


def test_the_home_folder_is_known_everywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "config.yaml").write_text("out: ~/runs/a\n")
    settings = parsed(
        "finetune", "--train=~/a.csv", "--config", str(tmp_path / "config.yaml"), "--classes", "~", "a~b/c"
    )
    validate(settings)
    assert (settings.train, settings.out) == ("/home/me/a.csv", "/home/me/runs/a")
    assert settings.classes[1] == "a~b/c"
