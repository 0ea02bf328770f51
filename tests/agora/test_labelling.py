"""Labels of new texts: what the teacher says, alone or with the student."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from bort.agora.labellers import FunctionTeacher, RememberedTeacher, judged
from bort.agora.labelling import Labelling
from bort.agora.rounds import Round, Trial
from bort.data.tables.examples import Example
from bort.finetuning.arguments import FinetuneArguments
from bort.tasks.classification import Classification
from bort.tasks.multilabel import MultiLabel
from bort.tasks.regression import Regression

TASK = Classification(("cat", "other"), "accuracy")
VALUES = Regression((), "pearson")
DEV = [Example(f"{label} {n}", None, label) for n in range(20) for label in TASK.names]
NEW = [Example("cat new"), Example("other new"), Example("nothing new")]
P = 0.6


def cautious(texts):
    """A teacher that is always right, and never says so surely; it does not know what is neither."""
    known = {"cat": {"cat": P, "other": 1 - P}, "other": {"cat": 1 - P, "other": P}}
    return [known.get(text.split()[0]) for text in texts]


def unsure(model, examples):
    return np.full((len(examples), 2), np.log(0.5))


def labelling(student=unsure, task=TASK, teach=cautious, **settings):
    arguments = FinetuneArguments(out="", **settings)
    return Labelling(arguments, task, FunctionTeacher(teach, task, "given"), DEV, DEV, student)


def first_round(answers=None, examples=DEV):
    answers = unsure(None, examples).tolist() if answers is None else answers
    return Round(1, [Trial({}, 0.0, answers, SimpleNamespace())], 0, 1, [])


def test_soft_labels_are_the_teachers_probabilities_divided_by_the_temperature():
    made = labelling(labelled_by="teacher")(NEW, [first_round()])
    assert made[:2] == [(P, 1 - P), (1 - P, P)]
    assert made[2] is None
    flat = labelling(labelled_by="teacher", temperature=3.0)(NEW, [first_round()])
    assert flat[0][0] == pytest.approx(1 / (1 + ((1 - P) / P) ** (1 / 3)), abs=1e-5)


def test_hard_labels_are_classes():
    assert labelling(labels="hard")(NEW, [first_round()]) == [0, 1, None]


@pytest.mark.parametrize("labelled_by", ["teacher", "both"])
def test_hard_labels_of_a_hesitant_teacher_are_those_with_which_it_is_judged(labelled_by):
    """It never gives a label more than 0.3, so a threshold of one half would teach that no text has any."""
    task = MultiLabel(("x", "y"), "f1_micro")
    rows = [Example(f"{n}", None, [("x",), ("y",), (), ("x", "y")][n % 4]) for n in range(20)]
    label = {e.text: e.label for e in rows}
    teacher = FunctionTeacher(lambda texts: [{name: 0.3 if name in label[t] else 0.05 for name in "xy"} for t in texts],
                              task, "given")  # fmt: skip
    settings = FinetuneArguments(out="", labels="hard", labelled_by=labelled_by)
    made = Labelling(settings, task, teacher, rows, rows, unsure)
    assert made.dev_scores["f1_micro"].value == 1.0
    first = first_round(answers=np.zeros((20, 2)).tolist())
    assert made(rows, [first]) == [tuple(row) for row in task.targets(rows).tolist()]


def test_a_teacher_is_calibrated_also_where_the_student_is_not_heard():
    """It is always right, so its probabilities are made sharper; the student says nothing, and is not asked again."""
    asked = []

    def student(model, examples):
        asked.append(len(examples))
        return unsure(model, examples)

    sharpened, rounds = labelling(student), [first_round()]
    made = sharpened(NEW, rounds)
    weights = sharpened.weights(rounds[0])
    assert weights.teacher > 2
    assert made[0][0] == pytest.approx(1 / (1 + ((1 - P) / P) ** weights.teacher), abs=1e-5)
    assert weights.student == 0
    assert not asked


def test_what_a_teacher_does_not_know_counts_as_wrong():
    silent = np.full((10, 2), np.nan)
    truth = np.array([0] * 9 + [1])
    assert judged(TASK, silent, truth) == 0.0
    half = np.log(np.array([[1.0, 1e-9]] * 5 + [[np.nan, np.nan]] * 5))
    assert judged(TASK, half, truth) == 0.5
    values = np.array([[1.0], [np.nan], [3.0]])
    assert judged(VALUES, values, np.array([1.0, 2.0, 3.0], np.float32)) == pytest.approx(1.0)


def test_a_silent_teacher_is_weak_on_skewed_data():
    """Nine of ten rows are of the first class, which a silence was once taken for."""
    skewed = [Example(str(n), None, "other" if n % 10 == 0 else "cat") for n in range(50)]
    silent = FunctionTeacher(lambda texts: [None] * len(texts), TASK, "silent")
    made = Labelling(FinetuneArguments(out=""), TASK, silent, skewed, skewed, lambda model, examples: None)
    assert made.weak
    assert not made.worth_learning(first_round(answers=[[-0.1, -2.4]] * 50))


@pytest.mark.parametrize(("out_of_fold", "weak"), [(None, True), (0.5, True), (0.7, False)])
def test_a_head_that_learns_from_all_labels_in_the_end_is_judged_on_all(out_of_fold, weak):
    teacher = FunctionTeacher(lambda texts: ["cat"] * len(texts), TASK, "given")
    made = Labelling(FinetuneArguments(out=""), TASK, teacher, DEV, DEV, unsure, out_of_fold)
    assert made.dev_scores["accuracy"].value < 2 / 3
    assert made.weak == weak


@pytest.mark.parametrize(("knows", "worth"), [(False, False), (True, True)])
def test_a_teacher_that_is_right_as_often_as_the_most_frequent_class_teaches_nothing(knows, worth):
    """Nine of ten are of the first class: so often a teacher is right that knows nothing, above any fixed bound."""
    skewed = [Example(str(n), None, "other" if n % 10 == 0 else "cat") for n in range(50)]
    label = {e.text: e.label if knows else "cat" for e in skewed}
    teacher = FunctionTeacher(lambda texts: [label[text] for text in texts], TASK, "given")
    made = Labelling(FinetuneArguments(out=""), TASK, teacher, skewed, skewed, unsure)
    assert not made.weak
    assert made.worth_learning(first_round(examples=skewed)) == worth
    assert made.refused == (None if worth else "its labels are no better than the same answer to each text")


@pytest.mark.parametrize("labels", ["soft", "hard"])
@pytest.mark.parametrize(("wrong", "classes", "worth"), [(4, 2, True), (12, 3, True), (20, 2, False)])
def test_plain_labels_of_a_good_teacher_are_worth_learning(labels, wrong, classes, worth):
    """It is always certain, so each wrong answer costs 13.8 nats; it does not know every fifth text."""
    task = Classification(tuple("abc"[:classes]), "accuracy")
    rows = [Example(str(n), None, task.names[n % classes]) for n in range(40)]
    said = {e.text: task.names[(n + (n < wrong)) % classes] if n % 5 else None for n, e in enumerate(rows)}
    settings = FinetuneArguments(out="", labelled_by="teacher", labels=labels)
    teacher = FunctionTeacher(lambda texts: [said[text] for text in texts], task, "given")
    made = Labelling(settings, task, teacher, rows, rows, unsure)
    answers = np.full((40, classes), np.log(1 / classes))
    assert made.worth_learning(first_round(answers=answers.tolist())) == worth
    assert np.isneginf(made._says).any(), "what is taught stays as it was said"


def test_plain_labels_that_always_name_the_frequent_class_are_not_worth_learning():
    skewed = [Example(str(n), None, "other" if n % 10 == 0 else "cat") for n in range(50)]
    teacher = FunctionTeacher(lambda texts: ["cat"] * len(texts), TASK, "given")
    made = Labelling(FinetuneArguments(out="", labelled_by="teacher"), TASK, teacher, skewed, skewed, unsure)
    assert not made.worth_learning(first_round(examples=skewed))


@pytest.mark.parametrize(("shift", "worth"), [(5.0, False), (0.1, True)])
def test_a_teacher_of_numbers_must_beat_their_mean(shift, worth):
    rows = [Example(str(n), None, n / 10 + 0.05) for n in range(30)]
    teacher = FunctionTeacher(lambda texts: [int(text) / 10 + shift for text in texts], VALUES, "given")
    made = Labelling(FinetuneArguments(out="", labelled_by="teacher"), VALUES, teacher, rows, rows, unsure)
    assert made.worth_learning(first_round(answers=[[0.0]] * 30)) == worth


def test_a_teacher_is_asked_of_a_text_once_also_after_an_interruption(tmp_path):
    asked = []

    def teach(texts):
        asked.extend(texts)
        return cautious(texts)

    file = tmp_path / "answers.jsonl"
    teacher = RememberedTeacher(FunctionTeacher(teach, TASK, "given"), TASK, file)
    before = teacher([*NEW, NEW[0]])
    np.testing.assert_array_equal(teacher(NEW), before[:3])
    with file.open("a") as out:
        out.write('{"text": "cut sho')  # as a killed process leaves it
    again = RememberedTeacher(FunctionTeacher(teach, TASK, "given"), TASK, file)
    np.testing.assert_array_equal(again([*NEW, Example("cat more")])[:3], before[:3])
    assert asked == [e.text for e in NEW] + ["cat more"]
    assert RememberedTeacher(FunctionTeacher(teach, TASK, "given"), TASK, file)([]).shape == (0, 2)
    third = RememberedTeacher(FunctionTeacher(teach, TASK, "given"), TASK, file)
    third(NEW)
    assert len(asked) == 4


@pytest.mark.parametrize("knows", [False, True])
def test_labels_are_compared_with_a_constant_on_the_texts_that_the_teacher_answers(knows):
    """It answers where the frequent class is: there a constant is right too, but not elsewhere."""
    rows = [Example(str(n), None, "other" if n % 3 == 0 else "cat") for n in range(60)]
    label = {e.text: e.label for e in rows}
    teacher = FunctionTeacher(
        lambda texts: [
            label[text] if knows else {"cat": 0.6, "other": 0.4} if int(text) % 3 else None for text in texts
        ],
        TASK,
        "given",
    )
    made = Labelling(FinetuneArguments(out="", labelled_by="teacher"), TASK, teacher, rows, rows, unsure)
    assert made.worth_learning(first_round(examples=rows)) == knows


@pytest.mark.parametrize(("right", "reason"), [(60, None), (40, "it is not clearly better than plain fine-tuning")])
def test_a_teacher_is_compared_with_plain_fine_tuning_on_the_texts_that_it_answers(right, reason, capsys):
    """It answers 60 of 100 texts, where plain fine-tuning gets 50 right, as it does 30 of the others."""
    rows = [Example(str(n), None, TASK.names[n % 2]) for n in range(100)]
    said = {e.text: TASK.names[(n + (n >= right)) % 2] if n < 60 else None for n, e in enumerate(rows)}
    teacher = FunctionTeacher(lambda texts: [said[text] for text in texts], TASK, "given")
    made = Labelling(FinetuneArguments(out=""), TASK, teacher, rows, rows, unsure)
    plain = [[0.8, 0.2] if (n + (n % 60 < 10)) % 2 == 0 else [0.2, 0.8] for n in range(100)]
    assert made.weak
    assert made.worth_learning(first_round(answers=np.log(plain).tolist())) == (reason is None)
    assert made.refused == reason
    assert ((reason or "nothing is learned") in " ".join(capsys.readouterr().err.split())) == (reason is not None)
