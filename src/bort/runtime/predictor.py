"""From a model folder to answers: one text, a list, or an endless stream, in order and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from bort.data.examples import Example
from bort.model.checkpoints import locate
from bort.model.tokenization import load_tokenizer
from bort.training.classifiers import load_classifier, predict_logits
from bort.training.devices import best_device
from bort.training.encoding import encode

_WINDOW_ROWS = 1024


@dataclass(frozen=True)
class Prediction:
    """An answer: the label with the probability of each, or the value of a regression (no probabilities)."""

    label: str | float
    probabilities: dict[str, float]


class Predictor:
    """A fine-tuned classifier or regressor, ready to answer.

    Args:
        model: A folder, an embedded name, or a hub name.

    Raises:
        BortError: The model cannot be loaded, or it is no classifier.
    """

    def __init__(self, model: str) -> None:
        self._model, self.task = load_classifier(model)
        self._model.to(best_device())
        self._tokenizer = load_tokenizer(locate(model))
        positions = getattr(self._model.config, "max_position_embeddings", 512)
        self.max_length = min(self._tokenizer.model_max_length, positions)
        """Most tokens of an input; what is longer is cut."""
        self.cut = 0
        """How many inputs so far were longer."""

    def predict(self, texts: Sequence[str | tuple[str, str]]) -> list[Prediction]:
        """Answer a list of texts, or of pairs of texts."""
        examples = [Example(text) if isinstance(text, str) else Example(*text) for text in texts]
        return list(self.stream(examples))

    def stream(self, examples: Iterable[Example], *, window: int = _WINDOW_ROWS) -> Iterator[Prediction]:
        """Answer one after another, in order, holding at most `window` of them at a time."""
        iterator = iter(examples)
        while block := list(islice(iterator, window)):
            yield from self._answers(self.logits(block))

    def logits(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """Raw outputs. *Shape:* (examples, outputs)."""
        encoded = encode(examples, self._tokenizer, self.max_length)
        self.cut += encoded.cut
        return predict_logits(self._model, encoded, int(self._tokenizer.pad_token_id))

    def _answers(self, logits: NDArray[np.float32]) -> Iterator[Prediction]:
        if self.task.kind == "regression":
            for value in logits[:, 0].tolist():
                yield Prediction(value, {})
            return
        shifted = np.exp(logits - logits.max(-1, keepdims=True))
        probabilities = shifted / shifted.sum(-1, keepdims=True)
        for row in probabilities:
            label = self.task.names[int(row.argmax())]
            yield Prediction(label, dict(zip(self.task.names, row.tolist(), strict=True)))
