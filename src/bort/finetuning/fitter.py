"""Repeated fine-tuning of one encoder on one task, with different hyper-parameters or data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from bort.bounds import Precision
from bort.data.tables.examples import Example
from bort.finetuning.class_weights import class_weights
from bort.finetuning.hyper_parameters import HyperParameters, TrainingLimits
from bort.finetuning.start import start_from_head
from bort.finetuning.train_once import Labelled, TrainingResult, train_once
from bort.model.devices import best_device, use_bf16
from bort.model.tokenization import with_bort_pairs
from bort.predict.classifiers import (
    fitting_tokenizer,
    new_classifier,
    positions,
    predict_logits,
    save_classifier,
)
from bort.predict.encoding import TokenizedExamples, encode
from bort.predict.sentence_folder import write_sentence_files
from bort.predict.thresholds import IN_CONFIG
from bort.tasks.task import Targets, Task


class TokenCache:
    """Cache of token ids, in which each example is tokenised once.

    Args:
        tokenizer: The model's tokenizer.
        max_length: Maximum input length in tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        self._places: dict[tuple[object, ...], int] = {}
        self._cut: set[int] = set()
        self._columns: dict[str, list[list[int]]] = {"input_ids": []}

    def __call__(self, examples: Sequence[Example]) -> TokenizedExamples:
        """Look up examples, ignoring their labels, and tokenise new ones."""
        keys = [(example.text, example.text_b, example.choices) for example in examples]
        new = {key: example for key, example in zip(keys, examples, strict=True) if key not in self._places}
        if new:
            encoded = encode(list(new.values()), self.tokenizer, self.max_length)
            first = len(self._places)
            self._places.update(zip(new, count(first)))
            self._cut.update(first + place for place in encoded.cut_places)
            for name, column in encoded.columns.items():
                self._columns.setdefault(name, []).extend(column)
        choices = len(examples[0].choices) if examples else 0
        each = choices or 1
        places = [self._places[key] for key in keys]
        rows = [place * each + choice for place in places for choice in range(each)]
        return TokenizedExamples(
            {name: [column[row] for row in rows] for name, column in self._columns.items()},
            choices,
            cut_places=tuple(n for n, place in enumerate(places) if place in self._cut),
        )


class Fitter:
    """Fits an encoder to a task.

    Regression targets are standardised by the mean and standard deviation of the training data; saved models predict
    in the labels' unit.

    Args:
        model: The encoder: a folder, a hub name, or an embedded name.
        task: The task.
        train: The training data that were given.
        max_length: Maximum input length in tokens, limited by the encoder's number of positions.
        limits: Limits of each training.
        balance: Whether rare classes count as much as frequent ones in the loss, also in that of a linear head.
        from_head: Whether each training starts from a linear head on the frozen encoder.
        bi_encoder: Whether the two texts of a pair are read separately. Training then always starts from a linear head:
            until the head compares the vectors in the right way, the encoder has nothing to learn.
        precision: Precision of the computation.
        about: Further entries for the saved model's config.json.

    Raises:
        BortError: The model or its tokenizer cannot be loaded.
    """

    def __init__(
        self,
        model: str,
        task: Task,
        train: Sequence[Example],
        *,
        max_length: int,
        limits: TrainingLimits,
        balance: bool = False,
        from_head: bool = False,
        bi_encoder: bool = False,
        precision: Precision = "auto",
        about: dict[str, Any] | None = None,
    ) -> None:
        self.model, self.task, self.limits = model, task, limits
        self.balance, self.from_head, self.precision = balance, from_head, precision
        self.bi_encoder = bi_encoder
        torch.manual_seed(0)
        classifier = new_classifier(model, task, bi_encoder=bi_encoder)
        tokenizer: PreTrainedTokenizerFast = with_bort_pairs(fitting_tokenizer(model, classifier))
        self.tokens = TokenCache(tokenizer, min(max_length, positions(classifier)))
        self.pad_token_id = int(tokenizer.pad_token_id)
        self.about: dict[str, Any] = {"bort_metric": task.metric, **(about or {})}
        """Further entries for the saved model's config.json."""
        if not task.choices and len(forms := {example.text_b is not None for example in train}) == 1:
            self.about["bort_pairs"] = forms.pop()
        self._mean, self._spread, self._exponent = 0.0, 1.0, 0
        if task.kind == "regression":
            values = task.targets(list(train))
            # Squares of very large or small labels leave single precision; powers of two change no other bit.
            self._exponent = math.frexp(float(np.abs(values).max(initial=0.0)))[1]
            values = np.ldexp(values, -self._exponent)
            self._mean = math.ldexp(float(values.mean()), self._exponent)
            self._spread = math.ldexp(float(values.std()), self._exponent) or 1.0

    @property
    def bf16(self) -> bool:
        """Whether to compute in bf16 on this machine."""
        return use_bf16(self.precision)

    def labelled(self, examples: Sequence[Example], targets: Targets | None = None) -> Labelled:
        """Tokenise examples.

        Args:
            examples: Texts or pairs.
            targets: As returned by `Task.collected`; by default the examples' labels.
        """
        return Labelled(self.tokens(examples), self.task.targets(list(examples)) if targets is None else targets)

    def fit(
        self,
        theta: HyperParameters,
        train: Labelled,
        dev: Labelled | None,
        *,
        folder: Path,
        start: int | None = None,
        max_epochs: int | None = None,
        on_progress: Callable[[float, str], None] = lambda share, note: None,
    ) -> tuple[PreTrainedModel, TrainingResult]:
        """Fine-tune once; the returned model has the best weights.

        Args:
            theta: Hyper-parameters.
            train: Training data.
            dev: Data that choose the step to keep; with None, the last step is kept.
            folder: Folder for checkpoints, from which an interrupted fit resumes.
            start: Seed of the head's initial weights, instead of theta's.
            max_epochs: Largest number of epochs, instead of that of the limits.
            on_progress: Called with the completed share of the longest possible run, and a short note.
        """
        model, scaled = self.fresh(theta.seed if start is None else start), self._scaled(train)
        if self.from_head or self.bi_encoder:
            start_from_head(model, self.task, scaled, self.pad_token_id)
        result = train_once(
            model,
            self.task,
            theta,
            scaled,
            None if dev is None else self._scaled(dev),
            pad_token_id=self.pad_token_id,
            limits=replace(self.limits, max_epochs=max_epochs or self.limits.max_epochs),
            folder=folder,
            class_weights=self._class_weights(train),
            bf16=self.bf16,
            on_progress=on_progress,
        )
        return model, result

    def fresh(self, seed: int = 0) -> PreTrainedModel:
        """The encoder with a new head; the seed determines its weights and all later random numbers of torch."""
        torch.manual_seed(seed)
        return new_classifier(self.model, self.task, bi_encoder=self.bi_encoder).to(best_device())

    def _scaled(self, data: Labelled) -> Labelled:
        if self.task.kind != "regression":
            return data
        mean, spread = (math.ldexp(value, -self._exponent) for value in (self._mean, self._spread))
        return replace(data, targets=((np.ldexp(data.targets, -self._exponent) - mean) / spread).astype(np.float32))

    def _class_weights(self, train: Labelled) -> Tensor | None:
        if not self.balance or self.task.kind == "regression":
            return None
        return torch.tensor(class_weights(train.targets, self.task.outputs), dtype=torch.float32)

    def weights(self, model: PreTrainedModel) -> bytes:
        """A trained model's weights in the safetensors format, for `open`."""
        content: bytes = save({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()})
        return content

    def averaged(self, weights: Sequence[bytes]) -> bytes:
        """The mean of several models' weights, each as returned by `weights`."""
        every = [load(one) for one in weights]
        mean = {
            name: torch.stack([one[name].double() for one in every]).mean(0).to(tensor.dtype)
            if tensor.is_floating_point()
            else tensor
            for name, tensor in every[0].items()
        }
        content: bytes = save(mean)
        return content

    def open(self, weights: bytes) -> PreTrainedModel:
        """A model with the given weights, which predicts in the labels' unit."""
        model = new_classifier(self.model, self.task, bi_encoder=self.bi_encoder)
        model.load_state_dict(load(weights))
        if self.task.kind == "regression":
            _unscale(model, self._mean, self._spread)
        return model.to(best_device())

    def logits(self, model: PreTrainedModel, encoded: TokenizedExamples) -> NDArray[np.float32]:
        """*Shape:* (examples, outputs)."""
        what = "the fine-tuned model predicts"
        return predict_logits(model, encoded, self.pad_token_id, bf16=self.bf16, what=what)

    def save(self, model: PreTrainedModel, folder: Path, thresholds: Mapping[str, float] | None = None) -> None:
        """Save a model to a folder that other libraries open; its tokenizer truncates at the fitted length.

        sentence-transformers opens a bi-encoder's folder too, and returns the vectors that its head compares.

        Args:
            model: The model.
            folder: Where to save it.
            thresholds: Thresholds of the labels, by name, if the task has any.
        """
        about = self.about | ({IN_CONFIG: dict(thresholds)} if thresholds else {})
        if self.bi_encoder:
            write_sentence_files(folder, model.config.hidden_size, self.tokens.max_length, normalizes=True)
        save_classifier(model.cpu(), self.tokens.tokenizer, folder, self.tokens.max_length, **about)


def _unscale(model: Any, mean: float, spread: float) -> None:
    """Make the head predict in the unit of the labels."""
    head = getattr(model, "classifier", None)
    layer = (
        head
        if isinstance(head, torch.nn.Linear)
        else [m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1]
    )
    with torch.no_grad():
        layer.weight.mul_(spread)
        layer.bias.mul_(spread).add_(mean)
