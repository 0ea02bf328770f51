"""Which teacher a run has: as the settings name it, fitted to the training data first where it is an encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bort.agora.asked_teachers import asked_teacher, is_language_model
from bort.agora.label_map import LabelMap
from bort.agora.labellers import (
    ClassifierTeacher,
    Function,
    FunctionTeacher,
    HeadTeacher,
    Teacher,
    judged,
)
from bort.agora.nearby import Embedding
from bort.errors import BortError
from bort.finetuning.arguments import FinetuneArguments
from bort.finetuning.fingerprint import seen
from bort.finetuning.splits import Splits
from bort.model.checkpoints import load_config, locate
from bort.predict.manifest import is_exported
from bort.progress import console


@dataclass(frozen=True)
class TeacherPair:
    """Who labels.

    Attributes:
        rounds: The teacher of the rounds, which owes nothing to the development data; so a score on these is honest.
        final: The teacher of the last training, fitted to all labels; the same where no head is fitted here.
        out_of_fold: Share that the final teacher's head has right (`Task.share_right`) of examples that it was fitted
            without; None where no head is fitted, or the labels are numbers.
    """

    rounds: Teacher
    final: Teacher
    out_of_fold: float | None = None


def choose_teacher(
    arguments: FinetuneArguments,
    data: Splits,
    function: Function | None,
    embedding: Callable[[str], Embedding],
    fine_tuned: Callable[[str], str],
) -> TeacherPair:
    """Load or fit the teacher.

    Args:
        arguments: Of the run.
        data: What an encoder is fitted to, and what decides between a linear head and fine-tuning.
        function: A function that labels, instead of the teacher that the settings name.
        embedding: Opens an encoder.
        fine_tuned: Fine-tunes an encoder and gives the folder of the classifier.

    Raises:
        BortError: It cannot be loaded, or it answers another question.
    """
    task, model = data.task, arguments.teacher

    def head(model: str) -> TeacherPair:
        encoder, everything = embedding(model), [*data.train, *data.dev]
        final = HeadTeacher(encoder, task, everything)
        share = None
        if task.share_right is not None:
            scores = task.score(final.out_of_fold(everything), task.targets(everything), resamples=0)
            share = scores[task.share_right].value
        return TeacherPair(HeadTeacher(encoder, task, data.train), final, share)

    def same(teacher: Teacher) -> TeacherPair:
        return TeacherPair(teacher, teacher)

    if function is not None:
        return same(FunctionTeacher(function, task, getattr(function, "__name__", "given")))
    if (asked := asked_teacher(arguments, data)) is not None:
        return same(asked)
    if model is None:
        return head(arguments.model)
    if _is_classifier(model):
        return same(ClassifierTeacher(model, task, LabelMap.of(arguments.teacher_labels)))
    if arguments.teacher_labels:
        raise BortError("is for a fine-tuned classifier; the teacher is an encoder", setting="teacher_labels")
    how = fitted_how(arguments)
    if how == "head":
        return head(model)
    full = ClassifierTeacher(fine_tuned(model), task)
    if how == "full":
        return same(full)
    linear = head(model)
    targets = task.targets(data.dev)
    by_head, by_full = (judged(task, teacher(data.dev), targets) for teacher in (linear.rounds, full))
    console().print(f"development {task.metric}: a linear head {by_head:.3f}, fine-tuned {by_full:.3f}")
    return linear if by_head >= by_full else same(full)


def nearness_model(arguments: FinetuneArguments, function: Function | None) -> str:
    """The encoder that says how near texts are: the teacher's where it is asked for its vectors, or the student's."""
    model = arguments.teacher
    if function is None and model is not None and not _is_classifier(model) and fitted_how(arguments) != "full":
        return model
    return arguments.model


def fitted_how(arguments: FinetuneArguments) -> str:
    """How an encoder becomes a teacher: `head`, `full`, or `best` for the better of both."""
    if arguments.teacher_fit != "auto":
        return arguments.teacher_fit
    return "head" if (Path(locate(arguments.teacher or "")) / "modules.json").is_file() else "full"


def leaks(arguments: FinetuneArguments, data: Splits) -> dict[str, int]:
    """How many development and test texts the named teacher was fitted to, by part; only parts with any."""
    if arguments.teacher is None or is_language_model(arguments.teacher):
        return {}
    found = {part: seen(arguments.teacher, examples) for part, examples in data.parts.items()}
    return {part: count for part, count in found.items() if count}


def _is_classifier(model: str) -> bool:
    if is_language_model(model):
        return True
    if is_exported(model):
        return True
    return any("SequenceClassification" in name for name in load_config(model).architectures or [])
