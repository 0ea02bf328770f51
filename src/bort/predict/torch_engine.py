"""A model folder as fine-tuning leaves it, run by PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.model.checkpoints import locate
from bort.model.devices import best_device
from bort.model.tokenization import load_tokenizer
from bort.predict.classifiers import load_classifier, positions, predict_logits
from bort.predict.encoding import Encoded, encode
from bort.tasks.suites.task_entry import Cast

_SHORTEST_INPUT = 4


class TorchEngine:
    """A classifier or regressor on the best device there is.

    Args:
        model: A folder, an embedded name, or a hub name.
        threads: Of PyTorch in this process; by default as they are.

    Raises:
        BortError: The model cannot be loaded, or it is no classifier.
    """

    def __init__(self, model: str, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.model, self.task = load_classifier(model)
        self.model.to(best_device())
        self.tokenizer = load_tokenizer(locate(model))
        if self.tokenizer.pad_token_id is None:
            raise BortError("the tokenizer has no padding token", file=model)
        self.max_length = min(self.tokenizer.model_max_length, positions(self.model))
        if not isinstance(self.max_length, int) or self.max_length < _SHORTEST_INPUT:
            rule = f"must be a whole number from {_SHORTEST_INPUT}"
            raise BortError(rule, file=model, column="model_max_length", value=self.max_length)
        self.cast: Cast | None = getattr(self.model.config, "bort_cast", None)
        self.thresholds: Mapping[str, float] = {}

    def encode(self, examples: Sequence[Example]) -> Encoded:
        """Tokenise."""
        return encode(examples, self.tokenizer, self.max_length)

    def run(self, encoded: Encoded) -> NDArray[np.float32]:
        """Raw outputs. *Shape:* (examples, outputs)."""
        return predict_logits(self.model, encoded, int(self.tokenizer.pad_token_id))
