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
        ("bort finetune --train a.csv --pa", ["--patience"]),  # a rare setting, too
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
