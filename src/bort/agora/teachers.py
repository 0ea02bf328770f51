"""Choice of the teacher according to the settings; an encoder is first fitted to the training data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
from bort.agora.model_choice import shortfall
from bort.agora.nearby import Embedding
from bort.errors import BortError
from bort.finetuning.arguments import FinetuneArguments
from bort.finetuning.fingerprint import seen
from bort.finetuning.splits import Splits
from bort.finetuning.student_head import learned_from
from bort.model.checkpoints import load_config, locate
from bort.model.sentence_files import listed_modules
from bort.predict.manifest import is_exported
from bort.progress import say


@dataclass(frozen=True)
class TeacherPair:
    """The teachers of a run.

    Attributes:
        rounds: The teacher of the rounds. No weights of it are fitted to the development data; but those chose the step
            and the learning rate of a teacher that is fine-tuned, so its score on them is somewhat too high.
        final: The teacher of the last training, fitted to all labels, or to a sample of very many; the same as `rounds`
            if the run fits no head.
        out_of_fold: Out-of-fold score of the final teacher's head (`Task.share_right`) on all labels; None if the run
            fits no head, or if the labels are numbers.
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
        arguments: Settings of the run.
        data: The data to fit an encoder to, and to decide between a linear head and fine-tuning.
        function: A function that labels texts, instead of the teacher that the settings name.
        embedding: Loads an encoder.
        fine_tuned: Fine-tunes an encoder and returns the folder of the classifier.

    Raises:
        BortError: The teacher cannot be loaded, or does not fit the task.
    """
    task, model = data.task, arguments.teacher

    def head(model: str) -> TeacherPair:
        encoder, everything = embedding(model), learned_from([*data.train, *data.dev])
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
    by_head, by_full = linear.rounds(data.dev), full(data.dev)
    scores = [judged(task, says, targets) for says in (by_head, by_full)]
    say(f"development {task.metric}: a linear head {scores[0]:.3f}, fine-tuned {scores[1]:.3f}")
    # These data chose the step and the learning rate of the fine-tuned one, so it must be better by more than chance.
    behind, error = shortfall(task, by_full, by_head, targets)
    return same(full) if behind > error else linear


def nearness_model(arguments: FinetuneArguments, function: Function | None) -> str:
    """Return the encoder that measures how near texts are: the teacher's if it can have a linear head, or else the
    student's."""
    model = arguments.teacher
    if function is None and model is not None and not _is_classifier(model) and fitted_how(arguments) != "full":
        return model
    return arguments.model


def fitted_how(arguments: FinetuneArguments) -> str:
    """Return how an encoder becomes a teacher: `head`, `full`, or `best` for the better of both."""
    if arguments.teacher_fit != "auto":
        return arguments.teacher_fit
    return "full" if listed_modules(locate(arguments.teacher or "")) is None else "head"


def leaks(arguments: FinetuneArguments, data: Splits) -> dict[str, int]:
    """Count the development and test texts that the named teacher was fitted to, by part; only parts with any."""
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
