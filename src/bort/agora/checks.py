"""Settings and data that Agora refuses, before anything is fitted."""

from __future__ import annotations

from dataclasses import replace

from bort.agora.labellers import Function
from bort.agora.word_model import Language, transforms
from bort.data.tables.examples import Columns, Example, read_examples
from bort.errors import BortError
from bort.finetuning.arguments import FinetuneArguments
from bort.finetuning.splits import Splits
from bort.tasks.suites.table import find


def check_choices(arguments: FinetuneArguments) -> None:
    """Refuse a task whose examples are no texts or pairs.

    Raises:
        BortError: It has choices, and Agora was asked for.
    """
    if arguments.method != "agora":
        return
    for task in find(arguments.task):
        if task.chooses(arguments.cast):
            rule = f"Agora makes new texts and pairs; {task.title} has choices: give --method plain or --cast released"
            raise BortError(rule, column="task", value=task.name)


def check_agora(arguments: FinetuneArguments, function: Function | None = None) -> None:
    """Refuse settings that cannot be.

    Raises:
        BortError: The first of them.
    """
    rules: list[tuple[str, bool, str]] = [
        ("points_per_mistake", arguments.points_per_mistake >= 0, "must be at least 0"),
        ("unlabelled_per_mistake", arguments.unlabelled_per_mistake >= 0, "must be at least 0"),
        ("temperature", arguments.temperature > 0, "must be above 0"),
        ("replay", arguments.replay >= 0, "must be at least 0"),
        ("grown_epochs", arguments.grown_epochs >= 1, "must be at least 1"),
        ("min_cosine", arguments.min_cosine < arguments.max_cosine, "must be below max_cosine"),
        ("budget_minutes", arguments.budget_minutes is None or arguments.budget_minutes > 0, "must be above 0"),
        ("teacher_learning_rates", all(rate > 0 for rate in arguments.teacher_learning_rates), "must be above 0"),
    ]
    for name, holds, rule in rules:
        if not holds:
            raise BortError(rule, column=name, value=getattr(arguments, name))
    transforms([name for name in arguments.transforms if "infill" not in name and "synonym" not in name], Language)
    if not arguments.points_per_mistake and (arguments.unlabelled is None or not arguments.unlabelled_per_mistake):
        raise BortError("must be above 0 where no unlabelled texts are given", column="points_per_mistake", value=0)
    if sum(each is not None for each in (arguments.teacher, arguments.teacher_command, function)) > 1:
        raise BortError("give one teacher: --teacher or --teacher_command", column="teacher_command")


def read_pool(arguments: FinetuneArguments, data: Splits) -> list[Example]:
    """The unlabelled texts, or pairs where the training data are pairs; blank ones left out.

    Raises:
        BortError: The file breaks a rule, or holds pairs for texts, or the other way round.
    """
    assert arguments.unlabelled is not None
    columns = Columns(arguments.text, arguments.text_b, arguments.label)
    pool = [e for e in read_examples(arguments.unlabelled, columns, labelled=False) if e.text.strip()]
    pairs = data.train[0].text_b is not None
    for example in pool:
        if (example.text_b is not None) != pairs:
            rule = "must hold pairs where the training data do, and single texts where they do"
            raise BortError(rule, file=example.source, line=example.line, column="text_b", value=example.text_b)
    return [replace(example, label=None) for example in pool]
