"""Fine-tuning the same encoder on the same task again and again: with other hyper-parameters, on other data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, load_file
from safetensors.torch import save as serialize
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from bort.data.tables.examples import Example
from bort.files import write_aside
from bort.finetuning.arguments import FinetuneArguments
from bort.finetuning.train_once import HyperParameters, Labelled, TrainingLimits, TrainingResult, train_once
from bort.model.devices import best_device, use_bf16
from bort.model.tokenization import with_bort_pairs
from bort.predict.classifiers import fitting_tokenizer, new_classifier, positions, predict_logits, save_classifier
from bort.predict.encoding import TokenizedExamples, encode
from bort.tasks.metrics import Score, confusion
from bort.tasks.task import Task

USUAL_LENGTH = 128
"""Longest input in tokens where neither the settings nor the task say."""
_USUAL_ROWS = 200_000

Kept = Path | bytes
"""Weights in the safetensors format, as a file or as its content."""


class Fitter:
    """An encoder, a task, and how to fit the one to the other.

    A regression is fitted to values of mean 0 and spread 1 of the training data; saved models answer in the labels'
    unit.

    Args:
        arguments: Of the command; its lists are the grid and of no concern here.
        task: What to learn.
        train: The training data that were given.

    Raises:
        BortError: The model or its tokenizer cannot be loaded.
    """

    def __init__(self, arguments: FinetuneArguments, task: Task, train: Sequence[Example]) -> None:
        self.arguments, self.task = arguments, task
        torch.manual_seed(0)
        model = new_classifier(arguments.model, task)
        self.tokenizer: PreTrainedTokenizerFast = with_bort_pairs(fitting_tokenizer(arguments.model, model))
        self.max_length = min(arguments.max_length or USUAL_LENGTH, positions(model))
        self.pad_token_id = int(self.tokenizer.pad_token_id)
        self.about: dict[str, Any] = {"bort_metric": task.metric}
        """What else the saved model's config.json says."""
        if not task.choices and len(forms := {example.text_b is not None for example in train}) == 1:
            self.about["bort_pairs"] = forms.pop()
        self._mean, self._spread = 0.0, 1.0
        if task.kind == "regression":
            values = task.targets(list(train))
            self._mean, self._spread = float(values.mean()), float(values.std()) or 1.0

    @property
    def bf16(self) -> bool:
        """Whether to compute in it, on the machine that asks."""
        return use_bf16(self.arguments.precision)

    def labelled(self, examples: Sequence[Example], targets: Any = None) -> Labelled:
        """Tokenise examples.

        Args:
            examples: Texts or pairs.
            targets: Values or classes, *shape* (examples,), or distributions, *shape* (examples, classes); by default
                the examples' labels.
        """
        given = self.task.targets(list(examples)) if targets is None else targets
        return Labelled(encode(examples, self.tokenizer, self.max_length), given)

    def fit(
        self,
        theta: HyperParameters,
        train: Labelled,
        dev: Labelled,
        *,
        folder: Path,
        max_epochs: int | None = None,
        on_progress: Callable[[float, str], None] = lambda share, note: None,
    ) -> tuple[PreTrainedModel, TrainingResult]:
        """Fine-tune once; the model has the best weights of the way.

        Args:
            theta: Hyper-parameters.
            train: Data to fit.
            dev: Data that choose the step to keep.
            folder: For checkpoints, from which an interrupted fit goes on.
            max_epochs: Passes over `train`, instead of those of the settings.
            on_progress: Told the share of the longest possible run, and a few words.
        """
        torch.manual_seed(theta.seed)
        model = new_classifier(self.arguments.model, self.task)
        result = train_once(
            model.to(best_device()),
            self.task,
            theta,
            self._scaled(train),
            self._scaled(dev),
            pad_token_id=self.pad_token_id,
            limits=self._limits(max_epochs or self.arguments.max_epochs or usual_epochs(len(train))),
            folder=folder,
            class_weights=self._class_weights(train),
            bf16=self.bf16,
            on_progress=on_progress,
        )
        return model, result

    def _limits(self, max_epochs: int) -> TrainingLimits:
        arguments = self.arguments
        return TrainingLimits(
            max_epochs=max_epochs,
            max_steps=arguments.max_steps,
            patience=arguments.patience,
            eval_steps=arguments.eval_steps,
            checkpoint_seconds=60 * arguments.checkpoint_minutes,
        )

    def _scaled(self, data: Labelled) -> Labelled:
        if self.task.kind == "classification":
            return data
        return Labelled(data.encoded, ((data.targets - self._mean) / self._spread).astype(np.float32))

    def _class_weights(self, train: Labelled) -> Tensor | None:
        if not self.arguments.balance or self.task.kind == "regression":
            return None
        targets, classes = train.targets, self.task.outputs
        counts = targets.sum(0) if targets.ndim == 2 else np.bincount(targets.astype(np.int64), minlength=classes)
        return torch.tensor(len(train) / (classes * np.maximum(counts, 1)), dtype=torch.float32)

    def kept(self, model: PreTrainedModel) -> bytes:
        """Weights as they were trained, in the safetensors format, for `open`."""
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        content: bytes = serialize(state)
        return content

    def keep(self, model: PreTrainedModel, file: Path) -> None:
        """Write them."""
        with write_aside(file, "wb") as out:
            out.write(self.kept(model))

    def open(self, kept: Kept) -> PreTrainedModel:
        """A model of kept weights, which answers in the labels' unit."""
        model = new_classifier(self.arguments.model, self.task)
        model.load_state_dict(_state(kept))
        if self.task.kind == "regression":
            _unscale(model, self._mean, self._spread)
        return model.to(best_device())

    def logits(self, model: PreTrainedModel, data: Labelled) -> NDArray[np.float32]:
        """*Shape:* (examples, outputs)."""
        return self.encoded_logits(model, data.encoded)

    def encoded_logits(self, model: PreTrainedModel, encoded: TokenizedExamples) -> NDArray[np.float32]:
        """*Shape:* (examples, outputs)."""
        return predict_logits(model, encoded, self.pad_token_id, bf16=self.bf16)

    def score(self, model: PreTrainedModel, data: Labelled) -> dict[str, Score]:
        """All metrics of the task, with confidence intervals."""
        return self.task.score(self.logits(model, data), data.targets)

    def confusion(self, logits: NDArray[np.float32], data: Labelled) -> list[list[int]] | None:
        """Rows of true, columns of predicted classes; None for a regression. *Shape:* logits (examples, outputs)."""
        if self.task.kind == "regression":
            return None
        decided = self.task.decide(logits)
        matrix: list[list[int]] = confusion(data.targets.tolist(), decided.tolist(), self.task.outputs).tolist()
        return matrix

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the folder that others open; its tokenizer cuts at the fitted length."""
        save_classifier(model.cpu(), self.tokenizer, folder, self.max_length, **self.about)


def _state(kept: Kept) -> dict[str, Tensor]:
    state: dict[str, Tensor] = load(kept) if isinstance(kept, bytes) else load_file(kept)
    return state


def usual_epochs(rows: int) -> int:
    """Passes over so many rows, where the settings do not say: 30 of few rows, 3 of many."""
    return min(30, max(3, _USUAL_ROWS // max(rows, 1)))


def _unscale(model: Any, mean: float, spread: float) -> None:
    """Let the head answer in the unit of the labels."""
    head = getattr(model, "classifier", None)
    layer = (
        head
        if isinstance(head, torch.nn.Linear)
        else [m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1]
    )
    with torch.no_grad():
        layer.weight.mul_(spread)
        layer.bias.mul_(spread).add_(mean)
