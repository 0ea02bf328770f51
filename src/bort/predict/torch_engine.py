"""Run a fine-tuned model folder with PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bort.cores import limit_threads
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.model.checkpoints import locate
from bort.model.devices import best_device
from bort.model.sentence_files import stated_length
from bort.predict.classifiers import fitting_tokenizer, load_classifier, positions, predict_logits, sees_padding
from bort.predict.encoding import TokenizedExamples, encode, tokenize
from bort.predict.manifest import SHORTEST_INPUT
from bort.tasks.suites.task_entry import Cast


class TorchEngine:
    """A classifier or regressor on the first GPU, or else the CPU; several threads may share it.

    Args:
        model: A folder, an embedded model's name, or a hub name.
        threads: Threads of PyTorch and the tokenizers in this process; by default one per core.

    Raises:
        BortError: The model or tokenizer cannot be loaded, they do not match, or the model is not a classifier.
    """

    rows_at_once = 256

    def __init__(self, model: str, threads: int | None = None) -> None:
        self.model, self.task = load_classifier(model)
        self.model.to(best_device())
        if threads is not None:
            limit_threads(threads)
        self.tokenizer = fitting_tokenizer(model, self.model)
        # A cross-encoder of sentence-transformers may set a length of its own.
        stated = stated_length(locate(model)) or self.tokenizer.model_max_length
        self.max_length = min(stated, positions(self.model))
        if not isinstance(self.max_length, int) or self.max_length < SHORTEST_INPUT:
            rule = f"must be a whole number from {SHORTEST_INPUT}"
            raise BortError(rule, file=model, column="model_max_length", value=self.max_length)
        self.cast: Cast | None = getattr(self.model.config, "bort_cast", None)
        self.pairs: bool | None = getattr(self.model.config, "bort_pairs", None)
        self.thresholds: Mapping[str, float] = self.task.threshold_by_name
        encode((), self.tokenizer, self.max_length)  # sets the length now; later another thread may be tokenising
        pad, text = int(self.tokenizer.pad_token_id), self.encode([Example("a")])
        self._pads = not sees_padding(self.model, self.forward, text, pad, self.max_length)

    def encode(self, examples: Sequence[Example], *, windows: bool = False) -> TokenizedExamples:
        """Tokenise."""
        types = "token_type_ids" in self.tokenizer.model_input_names
        return tokenize(examples, self.tokenizer.backend_tokenizer, types=types, windows=windows)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Raw outputs of a batch, for tracing and comparing. *Shape:* (batch, length) each -> (batch, outputs).

        For a multiple choice model, each row is one choice, *shape* -> (batch, 1).
        """
        if self.task.choices:
            inputs = {name: values[:, None] for name, values in inputs.items()}
        logits: Tensor = self.model(**inputs).logits
        return logits

    def run(self, encoded: TokenizedExamples) -> NDArray[np.float32]:
        """Raw outputs. *Shape:* (examples, outputs)."""
        return predict_logits(self.model, encoded, int(self.tokenizer.pad_token_id), padded=self._pads)

    def start(self, encoded: TokenizedExamples) -> Callable[[], NDArray[np.float32]]:
        """Return a function that computes when called; nothing starts before."""
        return partial(self.run, encoded)
