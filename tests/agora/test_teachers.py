"""The choice of the teacher."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from bort.agora import teachers
from bort.agora.teachers import choose_teacher
from bort.data.tables.examples import Example
from bort.finetuning.arguments import FinetuneArguments
from bort.tasks.classification import Classification

DEV = [Example(str(n), None, "ab"[n % 2]) for n in range(50)]


class Wrong:
    """A teacher that answers some texts wrongly: the first ones, or the last ones."""

    def __init__(self, name, task, wrong):
        self.name, self._task, self._wrong = name, task, wrong

    def __call__(self, examples):
        truth = self._task.targets(examples)
        wrong = np.zeros(len(truth), int)
        wrong[: self._wrong] = 1
        return self._task.says(4 * np.eye(2)[np.abs(truth - (wrong if self.name == "head" else wrong[::-1]))])

    def out_of_fold(self, examples):
        return self(examples)


@pytest.mark.parametrize("metric", ["accuracy", "f1"])
@pytest.mark.parametrize(
    ("by_head", "by_full", "taken"), [(5, 4, "head"), (5, 5, "head"), (4, 5, "head"), (15, 2, "full")]
)
def test_a_fine_tuned_teacher_must_be_clearly_better_than_a_head(monkeypatch, metric, by_head, by_full, taken):
    """Its rate and step were chosen on the same data; one text of 50 more is chance."""
    monkeypatch.setattr(teachers, "HeadTeacher", lambda encoder, task, rows: Wrong("head", task, by_head))
    monkeypatch.setattr(teachers, "ClassifierTeacher", lambda model, task: Wrong("full", task, by_full))
    monkeypatch.setattr(teachers, "_is_classifier", lambda model: False)
    arguments = FinetuneArguments(out="", teacher="encoder", teacher_fit="best")
    data = SimpleNamespace(task=Classification(("a", "b"), metric), train=DEV, dev=DEV)
    made = choose_teacher(arguments, data, None, lambda model: None, lambda model: model)
    assert made.rounds.name == taken
