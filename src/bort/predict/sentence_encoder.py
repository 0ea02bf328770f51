"""Teachers of any vocabulary: encoders that are asked what a text, or each of its tokens, means."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bort.data.batches import token_budget_batches
from bort.errors import BortError
from bort.model.checkpoints import load, locate
from bort.model.devices import INFERENCE_TOKENS
from bort.model.tokenization import load_tokenizer


class EmbeddingTeacher:
    """A frozen encoder of `transformers` with its own tokenizer.

    Pooled vectors are means over the tokens, or the first token's where the folder's `1_Pooling/config.json` (as
    sentence-transformers writes it) says so.

    Args:
        model: A folder or hub name.
        device: Where it runs.

    Raises:
        BortError: It cannot be loaded, or its tokenizer gives no offsets.
    """

    def __init__(self, model: str, device: torch.device) -> None:
        from transformers import AutoModel

        self.source = source = locate(model)
        self.model: Any = load(AutoModel, model).to(device).eval()
        self.tokenizer = load_tokenizer(source)
        if not self.tokenizer.is_fast:
            raise BortError("the teacher's tokenizer must give offsets (tokenizer.json)", file=source)
        self.pooling: Literal["mean", "first"] = _pooling(source)
        self.device = device
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)

    @property
    def size(self) -> int:
        """Width of its vectors."""
        return int(self.model.config.hidden_size)

    @property
    def depth(self) -> int:
        """Number of its layers."""
        return int(self.model.config.num_hidden_layers)

    def encode(
        self, texts: Sequence[str], layers: Sequence[int] = ()
    ) -> tuple[NDArray[np.float32], list[dict[int, NDArray[np.float32]]], list[NDArray[np.int64]]]:
        """Ask about texts, in batches of like length.

        Args:
            texts: Longer ones than it knows positions for are cut.
            layers: Layers, counted from 1, whose vectors of each token are wanted as well.

        Returns:
            Pooled vectors, *shape* (texts, D); for each text and layer the vectors of its tokens, *shape* (tokens, D);
            and for each text the first character of each token and the one after its last, *shape* (tokens, 2), both
            0 for special tokens.
        """
        lengths = [len(ids) for ids in self.tokenizer(list(texts), truncation=True, max_length=self._longest).input_ids]
        pooled = np.zeros((len(texts), self.size), dtype=np.float32)
        vectors: list[dict[int, NDArray[np.float32]]] = [{} for _ in texts]
        offsets: list[NDArray[np.int64]] = [np.zeros((0, 2), dtype=np.int64) for _ in texts]
        most = INFERENCE_TOKENS[self.device.type]
        for batch in token_budget_batches(lengths, max_tokens=most, max_rows=most):
            encoded = self.tokenizer(
                [texts[index] for index in batch],
                truncation=True,
                max_length=self._longest,
                padding=True,
                return_tensors="pt",
                return_offsets_mapping=True,
            )
            places = encoded.pop("offset_mapping").numpy()
            mask, hidden = self._hidden(encoded, bool(layers))
            pooled[batch] = self._pool(hidden[-1], mask).cpu().numpy()
            kept = {layer: hidden[layer].float().cpu().numpy() for layer in layers}
            for row, index in enumerate(batch):
                offsets[index] = places[row, : lengths[index]]
                vectors[index] = {layer: values[row, : lengths[index]] for layer, values in kept.items()}
        return pooled, vectors, offsets

    @torch.no_grad()
    def read(self, input_ids: Tensor, mask: Tensor, layers: Sequence[int] = ()) -> tuple[Tensor, dict[int, Tensor]]:
        """Ask about ids of its own vocabulary, special tokens among them, in the precision that autocast sets.

        Args:
            input_ids: *Shape:* (batch, seq).
            mask: 1 for tokens, 0 for padding. *Shape:* (batch, seq).
            layers: Layers, counted from 1, whose vectors of each token are wanted as well.

        Returns:
            Pooled vectors, *shape* (batch, D), and by layer the vectors of all positions, *shape* (batch, seq, D).
        """
        output = self.model(input_ids=input_ids, attention_mask=mask, output_hidden_states=bool(layers))
        vectors = {layer: output.hidden_states[layer].float() for layer in layers}
        return self._pool(output.last_hidden_state, mask), vectors

    @property
    def _longest(self) -> int:
        known = int(getattr(self.model.config, "max_position_embeddings", 512))
        return min(known - 2, 512)  # two positions less: RoBERTa and MPNet begin to count at 2

    @torch.no_grad()
    def _hidden(self, encoded: Any, every_layer: bool) -> tuple[Tensor, Sequence[Tensor]]:
        inputs = {name: encoded[name].to(self.device) for name in ("input_ids", "attention_mask")}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            output = self.model(**inputs, output_hidden_states=every_layer)
        last = output.last_hidden_state
        return inputs["attention_mask"], output.hidden_states if every_layer else (last,)

    def _pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        if self.pooling == "first":
            return hidden[:, 0].float()
        weights = mask[..., None].float()
        return (hidden.float() * weights).sum(1) / weights.sum(1)


def _pooling(source: str) -> Literal["mean", "first"]:
    from transformers.utils import cached_file

    file = Path(source) / "1_Pooling" / "config.json"
    if not file.is_file() and not Path(source).is_dir():
        found = cached_file(source, "1_Pooling/config.json", _raise_exceptions_for_missing_entries=False)
        file = Path(found) if found else file
    if not file.is_file():
        return "mean"
    try:
        settings = json.loads(file.read_text("utf-8"))
        return "first" if settings.get("pooling_mode_cls_token") else "mean"
    except (OSError, ValueError, AttributeError) as error:
        raise BortError(f"must hold one JSON object: {error}", file=file) from None


def align(vectors: NDArray[np.float32], offsets: NDArray[np.int64], spans: NDArray[np.int64]) -> NDArray[np.float32]:
    """Carry a teacher's vectors over to a student's tokens: the mean over the characters that they share.

    Args:
        vectors: Of the teacher's tokens. *Shape:* (teacher tokens, D).
        offsets: Their characters, first and one after the last. *Shape:* (teacher tokens, 2).
        spans: The characters of the student's tokens. *Shape:* (student tokens, 2).

    Returns:
        Zeros where a token of the student's shares no character with any of the teacher's (a lone space, say).
        *Shape:* (student tokens, D).
    """
    shared = np.minimum(spans[:, None, 1], offsets[None, :, 1]) - np.maximum(spans[:, None, 0], offsets[None, :, 0])
    weights = np.maximum(shared, 0).astype(np.float32)
    weights /= np.maximum(weights.sum(1, keepdims=True), 1.0)
    aligned: NDArray[np.float32] = weights @ vectors
    return aligned
