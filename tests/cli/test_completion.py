"""What a shell completes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def completed(line: str, folder: Path) -> list[str]:
    """What could come next, as argcomplete's shell functions ask."""
    answer = folder / "answer"
    asked = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line.encode())),
        "COMP_TYPE": "9",
    }
    done = subprocess.run(
        [sys.executable, "-m", "bort"],
        env={**os.environ, **asked},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return answer.read_text("utf-8").split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bort fin", ["finetune"]),
        ("bort finetune", ["finetune"]),
        ("bort finetune --le", ["--learning-rates"]),
        ("bort finetune --train a.csv --pat", ["--patience"]),  # a rare setting, too
        ("bort finetune --method ", ["agora", "plain", "head"]),
        ("bort export --model m --engine op", ["openvino"]),
        ("bort predict --model my", ["my-model/"]),
        ("bort serve my", ["my-model/"]),
        ("bort nosuch --x", []),
    ],
)
def test_commands_settings_choices_and_files(line, expected, tmp_path):
    (tmp_path / "my-model").mkdir()
    assert completed(line, tmp_path) == expected


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_takes_what_is_registered():
    script = Path(sys.executable).with_name("register-python-argcomplete")
    line = f'eval "$({script} bort)" && complete -p bort'
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert "_python_argcomplete" in done.stdout


def in_shell(shell: str, script: str, folder: Path) -> str:
    """What a script prints, with this Python's commands on the path and nobody's settings."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {**os.environ, "PATH": path, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    no_settings = {"fish": "--no-config", "zsh": "-f"}[shell]
    done = subprocess.run(
        [shell, no_settings, "-c", script], env=settings, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not shutil.which("fish"), reason="needs fish")
def test_fish_completes(tmp_path):
    register = "register-python-argcomplete --shell fish bort | source; "
    assert in_shell("fish", f"{register}complete -C 'bort fin'", tmp_path).split() == ["finetune"]
    found = in_shell("fish", f"{register}complete -C 'bort export --model m --engine op'", tmp_path)
    assert found.split() == ["openvino"]


@pytest.mark.skipif(not shutil.which("zsh"), reason="needs zsh")
def test_zsh_takes_what_is_registered_and_asks_for_what_comes_next(tmp_path):
    """The line editor is not there without a terminal, so its variables are set as it sets them."""
    script = """
autoload -U compinit bashcompinit && compinit -u -D && bashcompinit
eval "$(register-python-argcomplete bort)"
print -r -- ${_comps[bort]}
COMP_LINE="bort fin" COMP_POINT=8 COMP_TYPE=9 IFS=$'\\013' _ARGCOMPLETE=1 _ARGCOMPLETE_SHELL=zsh \\
  _ARGCOMPLETE_IFS=$'\\013' \\
  _ARGCOMPLETE_STDOUT_FILENAME=answer bort && cat answer
"""
    registered, answer = in_shell("zsh", script, tmp_path).splitlines()
    assert "argcomplete" in registered
    assert answer.split(":")[0].strip() == "finetune"
