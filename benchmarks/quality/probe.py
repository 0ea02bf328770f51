"""Quality of an encoder's frozen features: logistic regression on few labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bort.data.batches import token_budget_batches
from bort.data.tables.examples import Example, read_examples
from bort.tasks.baselines import INVERSE_REGULARISATIONS, labels_of

TASKS = ("sst2", "trec", "banking12", "mrpc", "rte")
PARTS = ("train", "dev", "test")
Features = NDArray[np.float32]


@dataclass
class Encoder:
    """A BERT-like folder that turns texts into vectors of length 1.

    Args:
        folder: Folder of the model.
        pooling: What represents a text: the mean over its tokens, or its first token.
    """

    folder: str
    pooling: Literal["mean", "first"] = "mean"

    def __post_init__(self) -> None:
        from transformers import AutoModel

        from bort.model.checkpoints import load, locate
        from bort.model.tokenization import load_tokenizer

        self.model: Any = load(AutoModel, self.folder).eval()
        self.tokenizer = load_tokenizer(locate(self.folder))

    def __call__(self, texts: Sequence[str]) -> Features:
        """*Shape:* (texts, H)."""
        import torch

        ids = self.tokenizer(list(texts), truncation=True, max_length=128).input_ids
        vectors = np.zeros((len(texts), self.model.config.hidden_size), dtype=np.float32)
        for batch in token_budget_batches([len(row) for row in ids], max_tokens=4096, max_rows=256):
            padded = self.tokenizer.pad({"input_ids": [ids[n] for n in batch]}, return_tensors="pt")
            mask = padded["attention_mask"]
            with torch.inference_mode():
                hidden = self.model(input_ids=padded["input_ids"], attention_mask=mask).last_hidden_state
            if self.pooling == "mean":
                pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            else:
                pooled = hidden[:, 0]
            vectors[batch] = torch.nn.functional.normalize(pooled, dim=-1).numpy()
        return vectors


class Static:
    """Averaged word vectors of a model2vec folder, of length 1, with its own library."""

    def __init__(self, folder: str) -> None:
        from model2vec import StaticModel

        self.model = StaticModel.from_pretrained(folder)

    def __call__(self, texts: Sequence[str]) -> Features:
        """*Shape:* (texts, D)."""
        made: Features = self.model.encode(list(texts), max_length=None).astype(np.float32)
        return made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-12)


def features(encoder: Encoder | Static, examples: Sequence[Example]) -> Features:
    """a, or for pairs a, b, |a - b| and a * b side by side. *Shape:* (examples, features)."""
    a = encoder([example.text for example in examples])
    if examples[0].text_b is None:
        return a
    b = encoder([example.text_b or "" for example in examples])
    return np.hstack([a, b, np.abs(a - b), a * b])


def probe(
    encoder: Encoder | Static, task: Path, parts: Sequence[Literal["dev", "test"]] = ("dev", "test")
) -> dict[str, float]:
    """Accuracy of logistic regression fitted to a task's training part; C is chosen on `dev`, the smallest on a tie."""
    from sklearn.linear_model import LogisticRegression

    rows = {part: read_examples(task / f"{part}.jsonl") for part in {"train", "dev", *parts}}
    made = {part: features(encoder, examples) for part, examples in rows.items()}
    best: dict[str, float] = {}
    for c in INVERSE_REGULARISATIONS:
        model = LogisticRegression(C=c, max_iter=5000).fit(made["train"], labels_of(rows["train"]))
        on_dev = float(model.score(made["dev"], labels_of(rows["dev"])))
        if not best or on_dev > best["dev"]:
            best = {part: float(model.score(made[part], labels_of(rows[part]))) for part in parts}
            best |= {"dev": on_dev, "C": c}
    return best


def probe_all(folder: str, data: Path, pooling: Literal["mean", "first", "static"] = "mean") -> dict[str, Any]:
    """`probe` for each task."""
    encoder = Static(folder) if pooling == "static" else Encoder(folder, pooling)
    return {task: probe(encoder, data / task) for task in TASKS}
