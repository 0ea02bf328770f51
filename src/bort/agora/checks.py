"""Checks before a run starts, beyond the bounds declared with each setting."""

from __future__ import annotations

from dataclasses import replace

from bort.agora.asked_teachers import check_asked
from bort.agora.labellers import Function
from bort.agora.word_model import check_transforms
from bort.data.tables.examples import Example, read_examples
from bort.errors import BortError
from bort.finetuning.arguments import FinetuneArguments
from bort.finetuning.splits import Splits
from bort.tasks.suites.table import find
from bort.workers import WHERE_TRIALS_RUN

_ASKING_MAY_CHANGE = (
    "teacher_key_file",
    "teacher_concurrency",
    "teacher_requests_per_minute",
    "teacher_timeout",
    "teacher_batch",
    "teacher_input_price",
    "teacher_output_price",
    "budget_usd",
)
MAY_CHANGE = ("checkpoint_minutes", *_ASKING_MAY_CHANGE, *WHERE_TRIALS_RUN)
"""Settings that may change when a run is resumed."""


def check_one_task(arguments: FinetuneArguments) -> None:
    """Reject several tasks at once.

    Raises:
        BortError: Several tasks are given.
    """
    if len(arguments.task) > 1 or (arguments.task and len(find(arguments.task)) > 1):
        raise BortError("this function fits one task; bort.finetune fits several", setting="task", value=arguments.task)


def check_choices(arguments: FinetuneArguments) -> None:
    """Reject tasks with choices unless the method is plain.

    Raises:
        BortError: A task has choices, and the method is Agora or a linear head.
    """
    if arguments.method == "plain":
        return
    for task in find(arguments.task):
        if task.chooses(arguments.cast):
            does = "Agora makes new texts and pairs" if arguments.method == "agora" else "a linear head reads texts"
            rule = f"{does}; {task.title} has choices: give --method plain or --cast released"
            raise BortError(rule, setting="task", value=task.name)


def check_agora(arguments: FinetuneArguments, function: Function | None = None) -> None:
    """Reject unknown transforms, two teachers, and commands or LLMs that cannot be used.

    Raises:
        BortError: The first problem found.
    """
    check_asked(arguments)
    check_transforms(arguments.transforms)
    if function is not None and (arguments.teacher is not None or arguments.teacher_command is not None):
        raise BortError("give one teacher: a function, --teacher or --teacher-command", setting="teacher")


def read_pool(file: str, arguments: FinetuneArguments, data: Splits) -> list[Example]:
    """Read the unlabelled texts, or pairs if the training data are pairs, without blank ones.

    Raises:
        BortError: The file is invalid, or has pairs while the training data are single texts, or vice versa.
    """
    pool = [e for e in read_examples(file, arguments.columns, labelled=False) if e.text.strip()]
    pairs = data.train[0].text_b is not None
    for example in pool:
        if (example.text_b is not None) != pairs:
            rule = "must hold pairs where the training data do, and single texts where they do"
            raise BortError(rule, file=example.source, line=example.line, column="text_b", value=example.text_b)
    return [replace(example, label=None) for example in pool]
