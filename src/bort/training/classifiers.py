"""Classifiers and regressors: from a pre-trained encoder to a folder that knows its labels, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from bort.data.batches import token_budget_batches
from bort.errors import BortError
from bort.model.checkpoints import load, locate, save
from bort.model.modelling import BortForSequenceClassification
from bort.tasks.metrics import primary_metric
from bort.tasks.task import Task
from bort.training.encoding import Encoded

_TOKENS_PER_BATCH = 4096
_ROWS_PER_BATCH = 128


def new_classifier(model: str, task: Task) -> PreTrainedModel:
    """Put a fresh head for `task` on an encoder; the head's weights come from torch's global random state.

    Raises:
        BortError: The model cannot be loaded.
    """
    labels: dict[str, Any] = {"num_labels": task.outputs, "problem_type": _problem_type(task)}
    if task.names:
        labels["id2label"] = dict(enumerate(task.names))
        labels["label2id"] = {name: number for number, name in enumerate(task.names)}
    return load(_classifier_class(model), model, ignore_mismatched_sizes=True, **labels)


def load_classifier(model: str) -> tuple[PreTrainedModel, Task]:
    """Load a fine-tuned classifier or regressor and what it answers.

    Raises:
        BortError: The model cannot be loaded, or it is no classifier.
    """
    loaded = load(_classifier_class(model), model).eval()
    architectures = loaded.config.architectures or []
    if not any("SequenceClassification" in name for name in architectures):
        rule = "is no classifier; fine-tune it first: bort finetune --train F --model M --out DIR"
        raise BortError(rule, file=model, value=(architectures or [type(loaded).__name__])[0])
    if loaded.config.problem_type == "regression" or loaded.config.num_labels == 1:
        return loaded, Task("regression", (), primary_metric("regression"))
    names = tuple(str(loaded.config.id2label[i]) for i in range(loaded.config.num_labels))
    return loaded, Task("classification", names, primary_metric("classification"))


def save_classifier(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, max_length: int) -> None:
    """Write a folder that `AutoModelForSequenceClassification` opens; the tokenizer keeps the fitted length."""
    tokenizer.model_max_length = max_length
    save(model, tokenizer, folder)


def _problem_type(task: Task) -> str:
    return "regression" if task.kind == "regression" else "single_label_classification"


def _classifier_class(model: str) -> Any:
    """Ours for BERT, the library's for any other encoder."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    source = locate(model)
    try:
        kind = AutoConfig.from_pretrained(source).model_type
    except (OSError, ValueError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BortError(f"the model cannot be loaded: {first}", file=source) from None
    return BortForSequenceClassification if kind == "bert" else AutoModelForSequenceClassification


@torch.no_grad()
def predict_logits(
    model: PreTrainedModel, encoded: Encoded, pad_token_id: int, *, bf16: bool = False
) -> NDArray[np.float32]:
    """Run a classifier over examples, the short ones together, and give the logits in the examples' order.

    Returns:
        *Shape:* (examples, outputs).
    """
    training, device = model.training, model.device
    model.eval()
    logits = np.empty((len(encoded), model.config.num_labels), dtype=np.float32)
    batches: Sequence[list[int]] = token_budget_batches(
        encoded.lengths, max_tokens=_TOKENS_PER_BATCH, max_rows=_ROWS_PER_BATCH
    )
    for indices in batches:
        inputs = {name: tensor.to(device) for name, tensor in encoded.batch(indices, pad_token_id).items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits[indices] = model(**inputs).logits.float().cpu().numpy()
    model.train(training)
    return logits
