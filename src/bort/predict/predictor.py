"""Predictions for one text, a list, or an endless stream, in order and in bounded memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from threading import Lock
from typing import Any, Literal, get_args, overload

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example, second_text
from bort.data.tables.labels import Label
from bort.errors import BortError
from bort.predict.encoding import TokenizedExamples
from bort.predict.engine import Engine, open_engine, run_blocks
from bort.predict.inputs import check_readable, shown, texts_given, unlike_training

Input = str | Sequence[str] | Mapping[str, str | None]
"""A text; a pair of texts as a tuple or list; or a mapping with `text` and, for a pair, `text_pair`."""

Long = Literal["first", "mean", "max"]
"""How to answer a single text that is longer than the model's limit; see `Predictor`."""
_BLOCKS_HELD = 4


@dataclass(frozen=True)
class Prediction:
    """An answer: the label and the probability of each label, or the value of a regression (no probabilities).

    For a multi-label model, `label` is a tuple of all labels above their thresholds, which may be empty. For another
    classifier it is None if the likeliest label is not above its threshold; models exported with `--min-precision`
    have a threshold for each label.
    """

    label: Label | None
    probabilities: dict[str, float]

    def top_k(self, k: int) -> list[tuple[str, float]]:
        """The k likeliest labels with their probabilities, likeliest first.

        Example:
            >>> Prediction("cat", {"dog": 0.2, "cat": 0.7, "bird": 0.1}).top_k(2)
            [('cat', 0.7), ('dog', 0.2)]
        """
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:k]


class Predictor:
    """A fine-tuned classifier or regressor, ready to predict.

    Any number of threads can share a predictor. A text's answer does not depend on the rest of the batch: if the whole
    model is int8, it is bit-identical; in fp32, the same within 1e-5. An exported folder, and without a GPU also one of
    `bort finetune`, needs neither torch nor transformers.

        >>> with Predictor("runs/topics") as predictor:
        ...     answer = predictor.predict("Where is my parcel?")
        ...     answers = predictor.predict(["The zip broke.", {"text": "When does it come?"}])
        ...     probabilities = predictor.predict_proba(["The zip broke.", "Where is it?"])
        >>> answer.label, len(answers), probabilities.shape
        ('delivery', 2, (2, 2))

    Args:
        model: A folder of `bort export` or `bort finetune`, an embedded model's name, or a hub name.
        threads: Threads for the computation and the tokenizer, which keeps the number of its first use in a process; by
            default one per core.
        long: How to answer a single text that is longer than the model's limit: from its first tokens alone, or from
            the mean of the probabilities (or values) of all its windows, or from the maximum for each label.

    Raises:
        BortError: The model is no classifier or regressor or cannot be loaded, or is multiple choice and `long` is set;
            or `threads` or `long` has another value.
    """

    def __init__(self, model: str, *, threads: int | None = None, long: Long = "first") -> None:
        if long not in get_args(Long):
            raise BortError(f"must be one of {', '.join(get_args(Long))}", setting="long", value=long)
        self._name, self._long = str(model), long
        self._engine: Engine | None = open_engine(self._name, threads)
        self.task = self.engine.task
        """The task: `task.names` are the labels, in the order of `predict_proba`; empty for a regression."""
        self.max_length = self.engine.max_length
        """Maximum number of tokens of an input; longer inputs are cut."""
        self.cast = self.engine.cast
        """How the rows of the suite task that the model was fine-tuned on were cast, if it was."""
        if long != "first" and self.task.choices:
            raise BortError("a model that chooses between texts has no windows", setting="long", value=long)
        self.cut = 0
        """Number of inputs so far that were longer."""
        self.unlike_training = 0
        """Number of inputs so far that were single texts for a model fine-tuned on pairs, or vice versa."""
        self._counting = Lock()

    @property
    def engine(self) -> Engine:
        """The engine that runs the model.

        Raises:
            ValueError: The predictor is closed.
        """
        if self._engine is None:
            raise ValueError(f"the predictor of {self._name} is closed")
        return self._engine

    def __enter__(self) -> Predictor:
        """Return the predictor itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the model."""
        self.close()

    def close(self) -> None:
        """Release the model and its memory. The predictor cannot be used afterwards.

        Example:
            >>> predictor = Predictor("runs/topics")
            >>> predictor.close()
            >>> predictor.predict("Where is it?")
            Traceback (most recent call last):
            ValueError: the predictor of runs/topics is closed
        """
        self._engine = None

    @overload
    def predict(self, inputs: str | Mapping[str, str | None]) -> Prediction: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, inputs: Sequence[Input]) -> list[Prediction]: ...

    def predict(self, inputs: Any) -> Prediction | list[Prediction]:
        """Predict one input, or a list of inputs.

        Args:
            inputs: A string or a mapping for one answer, or a list of inputs: strings, pairs as tuples or lists, and
                mappings with `text` and `text_pair`. Put a single pair into a list. A blank second text is none.

        Raises:
            BortError: The model's outputs are not finite.
            TypeError: An input is anything else.

        Example:
            >>> predictor = Predictor("runs/topics")
            >>> predictor.predict("Where is my parcel?").label
            'delivery'
            >>> [answer.label for answer in predictor.predict(["The zip broke.", {"text": "When does it come?"}])]
            ['damage', 'delivery']
        """
        if isinstance(inputs, str | Mapping):
            return next(self.stream(self._examples([inputs])))
        return list(self.stream(self._examples(texts_given(inputs))))

    def predict_proba(self, inputs: Sequence[Input]) -> NDArray[np.float32]:
        """The probability of each label. *Shape:* (inputs, labels), in the order of `task.names`.

        Raises:
            BortError: The model is a regression, or its outputs are not finite.
            TypeError: An input is neither a text nor a pair, or `inputs` is not a list.

        Example:
            >>> predictor = Predictor("runs/topics")
            >>> predictor.task.names
            ('damage', 'delivery')
            >>> predictor.predict_proba(["The zip broke.", "Where is it?"]).argmax(-1).tolist()
            [0, 1]
        """
        if self.task.kind == "regression":
            raise BortError("a regression gives values, not probabilities: use predict", file=self._name)
        if isinstance(inputs, str | Mapping):
            raise TypeError(f"inputs must be a list of texts or pairs, not {shown(inputs)}")
        return self.task.activate(self.logits(self._examples(texts_given(inputs))))

    def stream(self, examples: Iterable[Example], *, window: int | None = None) -> Iterator[Prediction]:
        """Predict lazily, in order, holding at most `window` examples in memory.

        The default is about a thousand, more with many threads.

        Raises:
            BortError: The model's outputs are not finite.
            ValueError: `window` is below 1.

        Example:
            >>> from bort.data.tables.examples import Example
            >>> texts = (Example(line.strip()) for line in open("texts.txt"))
            >>> sum(1 for answer in Predictor("runs/topics").stream(texts, window=64))
            200
        """
        if window is not None and window < 1:
            raise ValueError(f"window must be at least 1, not {window}")
        if window is not None and window < _BLOCKS_HELD:  # too few for blocks that overlap
            for example in examples:
                encoded = self._encode([example])
                yield from self._answers(self._finished(encoded, self.engine.run(encoded)))
            return
        most = self.engine.rows_at_once
        for logits in self._blocks(examples, most if window is None else min(most, window // _BLOCKS_HELD)):
            yield from self._answers(logits)

    def logits(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """Raw outputs. *Shape:* (examples, outputs).

        The next few hundred rows are tokenised while the model computes the previous ones.

        Raises:
            BortError: An output is not finite, as after a diverged training, or the choices do not fit the model.

        Example:
            >>> from bort.data.tables.examples import Example
            >>> Predictor("runs/topics").logits([Example("Where is it?")]).shape
            (1, 2)
        """
        self._check(examples)
        pieces = list(self._blocks(examples, self.engine.rows_at_once))
        if not pieces:
            return np.empty((0, self.task.outputs), np.float32)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _blocks(self, examples: Iterable[Example], rows: int) -> Iterator[NDArray[np.float32]]:
        """Raw outputs of consecutive blocks of examples. *Shape:* (`rows` or fewer, outputs) each."""
        iterator = iter(examples)
        first = list(islice(iterator, rows))
        if len(first) < rows:  # these are all
            if first:
                encoded = self._encode(first)
                yield self._finished(encoded, self.engine.run(encoded))
            return
        blocks = chain([first], iter(lambda: list(islice(iterator, rows)), []))
        for encoded, outputs in run_blocks(self.engine, blocks, self._encode):
            yield self._finished(encoded, outputs)

    def _check(self, examples: Sequence[Example]) -> None:
        """Raise if an example has choices for a model without, or the reverse, or another number than the first."""
        for example in examples:
            if bool(example.choices) != self.task.choices:
                rule = "this model chooses between texts; bort evaluate --task names a task with choices"
                if example.choices:
                    rule = "this model does not score choices one by one"
                    rule += "; fine-tune one on the task, or evaluate with --cast released"
                raise BortError(rule, file=self._name)
            if len(example.choices) != (choices := len(examples[0].choices)):
                rule = f"must have {choices} choices, as the first row has"
                raise BortError(rule, file=example.source or None, line=example.line, value=len(example.choices))

    def told(self) -> Iterator[str]:
        """Messages for the user: how many inputs so far were cut, and how many were single or pairs unlike in training.

        Example:
            >>> predictor = Predictor("runs/topics")
            >>> answer = predictor.predict("Where is it? " * 100)
            >>> list(predictor.told())
            ['texts longer than 128 tokens, which were cut: 1']
        """
        if self.cut:
            what = "cut" if self._long == "first" else f"read in windows ({self._long})"
            yield f"texts longer than {self.max_length} tokens, which were {what}: {self.cut:,}"
        if self.unlike_training:
            given, fitted = ("single texts", "pairs") if self.engine.pairs else ("pairs", "single texts")
            yield f"{given} that a model fine-tuned on {fitted} was asked about: {self.unlike_training:,}"

    def _examples(self, inputs: Sequence[Input]) -> list[Example]:
        examples = [_example(given) for given in inputs]
        if (unlike := unlike_training(self.engine.pairs, examples)) is not None:
            warnings.warn(f"{self._name} {unlike}", stacklevel=3)
        return examples

    def _count_unlike(self, examples: Sequence[Example]) -> None:
        if self.engine.pairs is None or self.task.choices:
            return
        unlike = sum((example.text_b is not None) != self.engine.pairs for example in examples)
        with self._counting:
            self.unlike_training += unlike

    def _encode(self, examples: Sequence[Example]) -> TokenizedExamples:
        self._check(examples)
        self._count_unlike(examples)
        if self._long == "first":
            return self.engine.encode(examples)
        for example in examples:
            if example.text_b is not None:
                rule = "only single texts are read in windows, and this is a pair"
                raise BortError(rule, file=example.source or None, line=example.line, setting="long", value=self._long)
        return self.engine.encode(examples, windows=True)

    def _pooled(self, outputs: NDArray[np.float32], counts: Sequence[int]) -> NDArray[np.float32]:
        """Combine the windows of each text. *Shape:* (windows, outputs) -> (texts, outputs)."""
        ends = np.cumsum(counts)
        says = self.task.says(outputs)
        pooled: NDArray[np.float32] = outputs[ends - 1].copy()
        for place, (count, end) in enumerate(zip(counts, ends, strict=True)):
            if count > 1:
                rows = says[end - count : end]
                pooled[place] = self.task.mean([row[None] for row in rows])[0] if self._long == "mean" else rows.max(0)
        return pooled

    def _finished(self, encoded: TokenizedExamples, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Count the cut inputs, check the engine's outputs, and combine windows."""
        with self._counting:
            self.cut += encoded.cut
        if not np.isfinite(logits).all():
            rule = "the model's outputs must be finite numbers, and they are not; did its training diverge?"
            raise BortError(rule, file=self._name)
        return self._pooled(logits, encoded.windows) if encoded.windows else logits

    def _answers(self, logits: NDArray[np.float32]) -> Iterator[Prediction]:
        task = self.task
        sure, found = task.sure(logits, self.engine.thresholds).tolist(), task.activate(logits).tolist()
        for label, row, is_sure in zip(task.labels(logits), found, sure, strict=True):
            yield Prediction(label if is_sure else None, dict(zip(task.names, row, strict=True)) if task.names else {})


def _example(given: Any) -> Example:
    """Convert an input to an example.

    Raises:
        BortError: A text holds half of a surrogate pair.
        TypeError: It is not a text, a pair, or a mapping with `text` and `text_pair`.
    """
    parts: tuple[str, str | None] | None = None
    if isinstance(given, str):
        parts = given, None
    elif isinstance(given, Mapping):
        text, pair = given.get("text"), given.get("text_pair")
        if {*given} <= {"text", "text_pair"} and isinstance(text, str) and isinstance(pair, str | None):
            parts = text, pair
    elif isinstance(given, tuple | list) and len(given) == 2 and all(isinstance(text, str) for text in given):
        parts = given[0], given[1]
    if parts is not None:
        check_readable(*parts)
        return Example(parts[0], second_text(parts[1]))
    rule = "a text, a pair of texts as a tuple or list, or a mapping with text and, for a pair, text_pair"
    raise TypeError(f"an input must be {rule}, not {shown(given)}")
