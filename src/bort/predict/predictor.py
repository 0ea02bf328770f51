"""From a model folder to answers: one text, a list, or an endless stream, in order and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.predict.engine import Tokens, open_engine
from bort.predict.thresholds import answered, probabilities

_WINDOW_ROWS = 1024
_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Prediction:
    """An answer: the label with the probability of each, or the value of a regression (no probabilities).

    The label is None where the likeliest is not likely enough: a model exported with `--min-precision` has a threshold
    for each label.
    """

    label: str | float | None
    probabilities: dict[str, float]


class Predictor:
    """A fine-tuned classifier or regressor, ready to answer.

    Of an exported folder neither torch nor transformers is loaded.

    Args:
        model: A folder of `bort export` or `bort finetune`, an embedded name, or a hub name.
        threads: Of the computation; by default one a core.

    Raises:
        BortError: The model cannot be loaded, or it is no classifier.
    """

    def __init__(self, model: str, *, threads: int | None = None) -> None:
        self._name = model
        self.engine = open_engine(model, threads)
        self.task = self.engine.task
        self.max_length = self.engine.max_length
        """Most tokens of an input; what is longer is cut."""
        self.cast = self.engine.cast
        """How the rows of a suite's task were cast that it was fitted to, if it was."""
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

        The next few hundred rows are tokenised while the model computes the last.

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
            if len(example.choices) != (choices := len(examples[0].choices)):
                rule = f"must have {choices} choices, as the first row has"
                raise BortError(rule, file=example.source or None, line=example.line, value=len(example.choices))
        blocks = [examples[start : start + _ROWS_AT_ONCE] for start in range(0, len(examples), _ROWS_AT_ONCE)]
        if len(blocks) <= 1:
            return self._run(self.engine.encode(examples))
        from concurrent.futures import ThreadPoolExecutor  # a single text does without

        with ThreadPoolExecutor(1) as ahead:
            pieces = []
            waiting = ahead.submit(self.engine.encode, blocks[0])
            for following in [*blocks[1:], None]:
                encoded = waiting.result()
                if following is not None:
                    waiting = ahead.submit(self.engine.encode, following)
                pieces.append(self._run(encoded))
        return np.concatenate(pieces)

    def _run(self, encoded: Tokens) -> NDArray[np.float32]:
        self.cut += encoded.cut
        logits = self.engine.run(encoded)
        if not np.isfinite(logits).all():
            rule = "the model's outputs must be finite numbers, and they are not; did its training diverge?"
            raise BortError(rule, file=self._name)
        return logits

    def _answers(self, logits: NDArray[np.float32]) -> Iterator[Prediction]:
        if self.task.kind == "regression":
            for value in logits[:, 0].tolist():
                yield Prediction(value, {})
            return
        names, found = self.task.names, probabilities(logits)
        sure = answered(found, names, self.engine.thresholds)
        for row, best, is_sure in zip(found.tolist(), found.argmax(-1).tolist(), sure.tolist(), strict=True):
            yield Prediction(names[best] if is_sure else None, dict(zip(names, row, strict=True)))
