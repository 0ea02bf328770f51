"""Embedding teachers with any vocabulary: frozen encoders that give vectors of texts and of their tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bort.data.batches import attention_mask, stacked, token_budget_batches
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.model.devices import INFERENCE_TOKENS
from bort.predict.classifiers import split_batches
from bort.predict.encoding import prompted
from bort.predict.torch_encoder import TorchEncoder


class EmbeddingTeacher:
    """A frozen encoder that also gives its token vectors, and the characters that each token covers.

    Vectors of texts have length 1 if the folder ends with a Normalize module.

    Args:
        model: A folder or hub name.
        device: Device to run on.
        bf16: Whether to compute in bf16; always on a GPU.

    Raises:
        BortError: It cannot be loaded, its tokenizer is a slow one (in Python), or a module is not supported.
    """

    def __init__(self, model: str, device: torch.device, *, bf16: bool = False) -> None:
        encoder = TorchEncoder(model, device)
        self._bf16 = bf16 or device.type == "cuda"
        # In bf16, padding would change a vector by a thousandth.
        self._pads = encoder.pads and not self._bf16
        self.source, self.modules, self.device = encoder.source, encoder.modules, device
        self.model, self.tokenizer = encoder.model, encoder.tokenizer
        self.hidden_size = encoder.hidden_size
        self._recases = encoder.recases
        self._longest, self._prompt_tokens = encoder.max_length, encoder.prompt_tokens

    @property
    def size(self) -> int:
        """Length of a text's vector."""
        return self.modules.size(self.hidden_size)

    @property
    def depth(self) -> int:
        """Number of layers."""
        return int(self.model.config.num_hidden_layers)

    def reads_otherwise(self, longest: int) -> str | None:
        """How it reads texts other than as the ids of their tokens, in words; None if it does not.

        Args:
            longest: Tokens of the longest text, including special tokens.
        """
        if self.modules.prompt:
            return f"puts the prompt {self.modules.prompt!r} before each text"
        if self._recases:
            return "reads texts in lower case"
        return f"reads at most {self._longest} of a row's {longest} tokens" if longest > self._longest else None

    def encode(
        self,
        texts: Sequence[str],
        layers: Sequence[int] = (),
        done: Callable[[Sequence[int]], None] = lambda batch: None,
    ) -> tuple[NDArray[np.float32], list[dict[int, NDArray[np.float32]]], list[NDArray[np.int64]]]:
        """Encode texts, in batches of similar length.

        Args:
            texts: Texts; those longer than the model's limit are cut.
            layers: Layers, counted from 1, whose token vectors are returned, too.
            done: Called with the indices of the texts of each batch, once it is encoded.

        Returns:
            Pooled vectors, *shape* (texts, `size`); for each text and layer, the token vectors, *shape* (tokens,
            `hidden_size`); and for each text, the first character of each token and the one after its last, *shape*
            (tokens, 2), both 0 for special tokens and those of a prompt.

        Raises:
            BortError: `layers` are given, and pooled vectors have another width than token vectors.
        """
        if layers and self.size != self.hidden_size:
            rule = "has pooled vectors of another width than its tokens', so its layers cannot be asked for"
            raise BortError(rule, file=self.source, value=self.size)
        tokenized = self._tokenize(texts) if texts else None
        rows: list[list[int]] = tokenized["input_ids"] if tokenized else []
        places = [*map(self._places, tokenized["offset_mapping"])] if tokenized else []
        pooled = np.zeros((len(texts), self.size), dtype=np.float32)
        vectors: list[dict[int, NDArray[np.float32]]] = [{} for _ in texts]
        for batch in self._batches([len(row) for row in rows]):
            ids = torch.from_numpy(stacked([rows[n] for n in batch], int(self.tokenizer.pad_token_id)))
            attended = torch.from_numpy(attention_mask([len(rows[n]) for n in batch])).to(self.device)
            hidden = self._hidden(ids.to(self.device), attended, bool(layers))
            pooled[batch] = self.modules(hidden[-1], attended, self._prompt_tokens).cpu().numpy()
            kept = {layer: hidden[layer].float().cpu().numpy() for layer in layers}
            for row, index in enumerate(batch):
                vectors[index] = {layer: values[row, : len(rows[index])] for layer, values in kept.items()}
            done(batch)
        return pooled, vectors, places

    def _batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Batches of similar length; of equal length where padding would change a vector."""
        most = INFERENCE_TOKENS[self.device.type]
        batches = token_budget_batches(lengths, max_tokens=most, max_rows=most)
        return batches if self._pads else split_batches(batches, lengths.__getitem__)

    @torch.no_grad()
    def read(self, input_ids: Tensor, mask: Tensor, layers: Sequence[int] = ()) -> tuple[Tensor, dict[int, Tensor]]:
        """Encode ids of its own vocabulary, including special tokens, in the precision that autocast sets.

        Args:
            input_ids: *Shape:* (batch, seq).
            mask: 1 for tokens, 0 for padding. *Shape:* (batch, seq).
            layers: Layers, counted from 1, whose token vectors are returned, too.

        Returns:
            Pooled vectors, *shape* (batch, `size`), and by layer, the vectors of all positions, *shape* (batch, seq,
            `hidden_size`).
        """
        output = self.model(input_ids=input_ids, attention_mask=mask, output_hidden_states=bool(layers))
        vectors = {layer: output.hidden_states[layer].float() for layer in layers}
        return self.modules(output.last_hidden_state, mask), vectors

    def _tokenize(self, texts: Sequence[str]) -> Any:
        asked = prompted([*map(Example, texts)], self.modules.prompt)
        given = [example.text for example in asked]
        return self.tokenizer(given, truncation=True, max_length=self._longest, return_offsets_mapping=True)

    def _places(self, pairs: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
        """Map offsets of tokens in the prompted text to the text itself. *Shape:* (tokens, 2)."""
        places = np.array(pairs, np.int64).reshape(-1, 2)
        moved = places - len(self.modules.prompt)
        return np.where(places[:, :1] == places[:, 1:], 0, np.maximum(moved, 0))

    @torch.no_grad()
    def _hidden(self, ids: Tensor, mask: Tensor, every_layer: bool) -> Sequence[Tensor]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            output = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=every_layer)
        return output.hidden_states if every_layer else (output.last_hidden_state,)


def align(vectors: NDArray[np.float32], offsets: NDArray[np.int64], spans: NDArray[np.int64]) -> NDArray[np.float32]:
    """Map a teacher's token vectors to a student's tokens: their mean, weighted by the number of shared characters.

    Args:
        vectors: Vectors of the teacher's tokens. *Shape:* (teacher tokens, D).
        offsets: First character of each, and the one after its last. *Shape:* (teacher tokens, 2).
        spans: The same for the student's tokens. *Shape:* (student tokens, 2).

    Returns:
        Zeros for a student's token that shares no character with any of the teacher's, such as a lone space.
        *Shape:* (student tokens, D).
    """
    shared = np.minimum(spans[:, None, 1], offsets[None, :, 1]) - np.maximum(spans[:, None, 0], offsets[None, :, 0])
    weights = np.maximum(shared, 0).astype(np.float32)
    weights /= np.maximum(weights.sum(1, keepdims=True), 1.0)
    aligned: NDArray[np.float32] = weights @ vectors
    return aligned
