"""Run an encoder's folder with PyTorch: one vector per text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bort.cores import limit_threads
from bort.data.batches import token_budget_batches
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.model.checkpoints import load, locate, require_encoder
from bort.model.devices import INFERENCE_TOKENS, best_device
from bort.predict.classifiers import fitting_tokenizer, positions, sees_padding, split_batches, tensors
from bort.predict.encoding import TokenizedExamples, encode, lowercase_first, prompted, tokenize, whole_lengths
from bort.predict.manifest import SHORTEST_INPUT, EncoderSpec
from bort.predict.sentence_modules import read_modules


class TorchEncoder:
    """An encoder of `transformers` or sentence-transformers; several threads may share it.

    Pooled vectors are the same as those of sentence-transformers: with the folder's poolings, Dense and Normalize
    modules, default prompt, length and case. Without such settings they are the mean over the tokens.

    Args:
        model: A folder, an embedded model's name, or a hub name; the head of a fine-tuned classifier is ignored.
        device: Device to run on; by default the first GPU, or else the CPU.
        threads: Threads of PyTorch and the tokenizers in this process; by default one per core.

    Raises:
        BortError: It cannot be loaded, or a module of its folder is not supported.
    """

    rows_at_once = 256

    def __init__(self, model: str, device: torch.device | None = None, threads: int | None = None) -> None:
        from transformers import AutoModel

        self.source = source = locate(model)
        require_encoder(model)
        self.modules = read_modules(source)
        self.device = best_device() if device is None else device
        self.model: Any = load(AutoModel, model).to(self.device).eval()
        if threads is not None:
            limit_threads(threads)
        self.tokenizer = fitting_tokenizer(model, self.model)
        own = self.tokenizer.backend_tokenizer.normalizer
        self.recases = self.modules.lowercase and (own is None or own.normalize_str("A") != "a")
        """Whether the folder lowercases texts, and not its tokenizer."""
        if self.recases:
            lowercase_first(self.tokenizer.backend_tokenizer)
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        stated = self.modules.max_length or self.tokenizer.model_max_length
        self.max_length = int(min(stated, positions(self.model)))
        if self.max_length < SHORTEST_INPUT:
            rule = f"must take at least {SHORTEST_INPUT} tokens"
            raise BortError(rule, file=source, column="max_seq_length", value=self.max_length)
        self.normalizes, self.pooling = self.modules.normalizes, "+".join(self.modules.poolings)
        encode((), self.tokenizer, self.max_length)  # sets the length now; later another thread may be tokenising
        self.prompt_tokens = self.encode([Example("")]).lengths[0] - 1 if self.modules.prompt else 0
        """Tokens of the prompt, including the leading special token, as counted by sentence-transformers."""
        pad, text = int(self.tokenizer.pad_token_id), self.encode([Example("a")])
        self.pads = not sees_padding(self.model, self._vectors, text, pad, self.max_length)
        """Whether a batch may hold texts of different lengths."""

    @property
    def hidden_size(self) -> int:
        """Width of the token vectors."""
        return int(self.model.config.hidden_size)

    @property
    def size(self) -> int:
        """Width of the pooled vectors."""
        return self.modules.size(self.hidden_size)

    @property
    def spec(self) -> EncoderSpec:
        """The description of the encoder in an exported folder's manifest.

        Raises:
            BortError: Its vectors are not simply the mean over all tokens or the first token's vector.
        """
        modules = self.modules
        pooling = modules.plain_pooling
        if pooling is None:
            rule = "only encoders whose vectors are the mean over all tokens, or the first one's, can be exported"
            raise BortError(rule, file=self.source, value=modules.described.get("modules"))
        return EncoderSpec(self.size, pooling, modules.normalizes, modules.prompt, modules.lowercase)

    def encode(self, examples: Sequence[Example]) -> TokenizedExamples:
        """Tokenise.

        Raises:
            BortError: An example is a pair.
        """
        return self._tokens(self._prompted(examples))

    def whole_lengths(self, examples: Sequence[Example]) -> list[int]:
        """Number of tokens that texts have before they are truncated.

        Raises:
            BortError: An example is a pair.
        """
        return whole_lengths(self._prompted(examples), self.tokenizer.backend_tokenizer)

    def run(self, encoded: TokenizedExamples) -> NDArray[np.float32]:
        """Pooled vectors, before any final normalisation. *Shape:* (texts, `size`)."""
        vectors = np.empty((len(encoded), self.size), np.float32)
        most = INFERENCE_TOKENS[self.device.type]
        lengths = encoded.lengths
        batches = token_budget_batches(lengths, max_tokens=most, max_rows=most)
        for indices in batches if self.pads else split_batches(batches, lengths.__getitem__):
            batch = tensors(encoded.batch(indices, int(self.tokenizer.pad_token_id)), self.device)
            vectors[indices] = self.forward(batch).cpu().numpy()
        return vectors

    def start(self, encoded: TokenizedExamples) -> Callable[[], NDArray[np.float32]]:
        """Return a function that computes when called; nothing starts before."""
        return partial(self.run, encoded)

    @torch.no_grad()
    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Pooled vectors of a batch, not normalised at the end. *Shape:* (batch, length) each -> (batch, `size`)."""
        hidden = self.model(**inputs).last_hidden_state
        return self.modules.pooled(hidden, inputs["attention_mask"], self.prompt_tokens)

    def _vectors(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The vectors of one text's tokens. *Shape:* (1, length) each -> (1, tokens, H)."""
        vectors: Tensor = self.model(**inputs).last_hidden_state[:, : int(inputs["attention_mask"].sum())]
        return vectors

    def _prompted(self, examples: Sequence[Example]) -> list[Example]:
        return prompted(examples, self.modules.prompt)

    def _tokens(self, examples: Sequence[Example]) -> TokenizedExamples:
        types = "token_type_ids" in self.tokenizer.model_input_names
        return tokenize(examples, self.tokenizer.backend_tokenizer, types=types)
