"""Teachers that are asked, and may have their price: a command, or an LLM behind an API."""

from __future__ import annotations

from pathlib import Path

from bort.agora.command_lines import LineCommand
from bort.agora.command_teacher import TIMEOUT_SECONDS, CommandTeacher
from bort.agora.journal import FOLDER
from bort.agora.labellers import Teacher
from bort.finetuning.arguments import LLM_PREFIX, FinetuneArguments
from bort.finetuning.splits import Splits


def is_language_model(teacher: str | None) -> bool:
    """Whether `--teacher` names an LLM: `openai:MODEL`."""
    return teacher is not None and teacher.startswith(LLM_PREFIX)


def asked_teacher(arguments: FinetuneArguments, data: Splits) -> Teacher | None:
    """The command or the LLM that the settings name as teacher; None where they name another one.

    Args:
        arguments: Of the run.
        data: Whose task it is, and whose training texts stand as examples before an LLM.

    Raises:
        BortError: It cannot be asked.
    """
    if arguments.teacher_command is None:
        return None
    timeout = arguments.teacher_timeout or TIMEOUT_SECONDS
    command = LineCommand(arguments.teacher_command, "teacher_command", timeout)
    # What a command says may change when its program does, so its answers serve this run alone.
    folder = Path(arguments.answer_cache or Path(arguments.out) / FOLDER / "answers")
    return CommandTeacher(command, data.task, arguments.teacher_batch, folder)
