"""From a model folder to answers: one text, a list, or an endless stream, in order and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from bort.data.examples import Example
from bort.errors import BortError
from bort.model.checkpoints import locate
from bort.model.tokenization import load_tokenizer
from bort.tasks.named import Cast
from bort.training.classifiers import load_classifier, positions, predict_logits
from bort.training.devices import best_device
from bort.training.encoding import encode

_WINDOW_ROWS = 1024
_SHORTEST_INPUT = 4


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
        self._name = model
        self._model, self.task = load_classifier(model)
        self._model.to(best_device())
        self._tokenizer = load_tokenizer(locate(model))
        if self._tokenizer.pad_token_id is None:
            raise BortError("the tokenizer has no padding token", file=model)
        self.max_length = min(self._tokenizer.model_max_length, positions(self._model))
        """Most tokens of an input; what is longer is cut."""
        if not isinstance(self.max_length, int) or self.max_length < _SHORTEST_INPUT:
            rule = f"must be a whole number from {_SHORTEST_INPUT}"
            raise BortError(rule, file=model, column="model_max_length", value=self.max_length)
        self.cast: Cast | None = getattr(self._model.config, "bort_cast", None)
        """How the rows of a benchmark's task were cast that it was fitted to, if it was."""
        self.cut = 0
        """How many inputs so far were longer."""

    def predict(self, texts: Sequence[str | tuple[str, str]]) -> list[Prediction]:
        """Answer a list of texts, or of pairs of texts.

        Raises:
            BortError: The model gives no finite numbers.
            TypeError: `texts` is one text rather than a list.
        """
        if isinstance(texts, str):
            raise TypeError("texts must be a list of texts, not one text")
        examples = [Example(text) if isinstance(text, str) else Example(*text) for text in texts]
        return list(self.stream(examples))

    def stream(self, examples: Iterable[Example], *, window: int = _WINDOW_ROWS) -> Iterator[Prediction]:
        """Answer one after another, in order, holding at most `window` of them at a time.

        Raises:
            BortError: The model gives no finite numbers.
            ValueError: `window` is below 1.
        """
        if window < 1:
            raise ValueError(f"window must be at least 1, not {window}")
        iterator = iter(examples)
        while block := list(islice(iterator, window)):
            yield from self._answers(self.logits(block))

    def logits(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """Raw outputs. *Shape:* (examples, outputs).

        Raises:
            BortError: One is not finite, as after a diverged training.
        """
        for example in examples:
            if bool(example.choices) != self.task.choices:
                rule = "this model chooses between texts; bort evaluate --task names a task with choices"
                if example.choices:
                    rule = (
                        "this model has no score a choice; fine-tune one on the task, or evaluate with --cast released"
                    )
                raise BortError(rule, file=self._name)
        encoded = encode(examples, self._tokenizer, self.max_length)
        self.cut += encoded.cut
        logits = predict_logits(self._model, encoded, int(self._tokenizer.pad_token_id))
        if not np.isfinite(logits).all():
            rule = "the model's outputs must be finite numbers, and they are not; did its training diverge?"
            raise BortError(rule, file=self._name)
        return logits

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
