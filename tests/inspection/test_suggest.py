"""Suggestions of fine-tuned models."""

from typing import ClassVar

import numpy as np
import pytest

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.inspection import suggest as module
from bort.inspection.suggest import suggest_texts
from bort.tasks.classification import Classification
from bort.tasks.multilabel import MultiLabel
from bort.tasks.regression import Regression

POOL = [Example(text) for text in ("The zip broke.", "Where is my parcel?", "Thank you!", "I cannot log in.")]


class FakePredictor:
    """Answers by a table."""

    task = Classification(("a", "b"), "accuracy")
    LOGITS: ClassVar = {"The zip broke.": [9.0, 0.0], "Where is my parcel?": [0.1, 0.0]}

    def __init__(self, model, *, threads=None):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def logits(self, examples):
        width = len(self.task.names) or 1
        return np.array([self.LOGITS.get(one.text, [5.0, 0.0])[:width] for one in examples], np.float32)


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(module, "Predictor", FakePredictor)
    monkeypatch.setattr(module, "gives_vectors", lambda model: model == "bort-nano")
    return "runs/mine"


def test_the_text_that_the_model_is_torn_about_comes_first(model):
    first, second = suggest_texts(POOL, [], model, count=2)
    assert (first.place, first.prediction) == (1, "a")
    assert first.probability == pytest.approx(1 / (1 + np.exp(-0.1)), abs=1e-5)
    assert second.place != 0


def test_of_a_regression_only_the_distance_decides(model, monkeypatch):
    monkeypatch.setattr(FakePredictor, "task", Regression((), "spearman"))
    near = [Example("Where is my package?"), Example("I can not log in to my account.")]
    found = suggest_texts(POOL, near, model, count=2)
    assert {each.place for each in found} == {0, 2}
    assert [each.probability for each in found] == [None, None]


def test_of_several_labels_the_least_sure_counts(model, monkeypatch):
    monkeypatch.setattr(FakePredictor, "task", MultiLabel(("a", "b"), "f1_micro", thresholds=(0.5, 0.9)))
    logits = {"The zip broke.": [9.0, 0.0], "Where is my parcel?": [9.0, 2.2]}
    monkeypatch.setattr(FakePredictor, "LOGITS", logits)
    [found] = suggest_texts(POOL, [], model, count=1)
    assert (found.place, found.prediction, found.probability) == (1, ("a", "b"), None), "0.9002 is just above 0.9"


def test_nothing_to_choose_from():
    assert suggest_texts([Example(" ")], [], "bort-nano", count=2) == []


def test_the_first_of_the_pairs_may_lack_its_second_text(model, monkeypatch):
    pairs = [Example("a cat", second) for second in (None, "an animal", "a stone", "a house")]
    sides: list[int] = []
    read = module.side_vectors
    monkeypatch.setattr(module, "side_vectors", lambda *given: sides.append(len(read(*given))) or read(*given))
    assert len(suggest_texts(pairs, [Example("a dog", "a plant", "a")], model, count=2)) == 2
    assert sides == [2]
    with pytest.raises(BortError, match="must hold pairs where the texts to choose from are pairs"):
        suggest_texts(pairs, [Example("a dog", None, "a")], model, count=2)
