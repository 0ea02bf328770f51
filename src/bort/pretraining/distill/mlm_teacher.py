"""Teachers with the student's vocabulary: any masked LM of `transformers`, decoding only the masked positions."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from bort.errors import BortError
from bort.model.checkpoints import load_masked_lm, locate
from bort.model.modelling import masked_positions
from bort.model.tokenization import load_tokenizer
from bort.predict.classifiers import positions

_HEADS = {"bert": "cls", "roberta": "lm_head", "xlm-roberta": "lm_head", "camembert": "lm_head"}


class MaskedLMTeacher:
    """A frozen masked LM. Its `size` is the number of entries of the vocabulary.

    Args:
        model: A folder or hub name.
        vocabulary: The student's tokens and ids, which must equal the teacher's.
        device: Where it runs.
        longest: Tokens of the longest row.

    Raises:
        BortError: It cannot be loaded, has no masked-LM head, another vocabulary or fewer rows than that, or too few
            positions.
    """

    key: Mapping[str, Any] = MappingProxyType({})
    """What its outputs depend on, apart from its files."""

    def __init__(self, model: str, vocabulary: dict[str, int], device: torch.device, *, longest: int = 0) -> None:
        self.source, self.device, self.size = locate(model), device, len(vocabulary)
        loaded: Any = load_masked_lm(model)
        if loaded is None:
            raise BortError("holds no masked-LM head, so it cannot teach this loss", file=model)
        self.model = loaded.to(device).eval()
        if eps := getattr(self.model.config, "mlm_layer_norm_eps", None):
            self.model.cls.predictions.transform.LayerNorm.eps = eps
        if longest > (most := positions(self.model)):
            raise BortError(f"must take the {longest} tokens of a row", file=model, value=most)
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        theirs = load_tokenizer(self.source).get_vocab()
        if theirs != vocabulary:
            first = next((token for token, number in vocabulary.items() if theirs.get(token) != number), "")
            rule = f"a teacher for this loss needs the student's vocabulary; the two differ at {first!r}"
            raise BortError(rule, file=model)
        if (rows := self.model.config.vocab_size) < self.size:
            raise BortError(f"must have logits for the {self.size} entries of its vocabulary", file=model, value=rows)

    @torch.no_grad()
    def logits(self, input_ids: Tensor, labels: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Logits at the masked positions. *Shape:* (batch, seq), (batch, seq) -> (positions, vocab).

        The word embedding may be padded to a round number of rows; those after the vocabulary are left out.
        """
        positions = masked_positions(labels)
        # Without padding, a mask of ones keeps the teacher from deriving a mask from pad ids.
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask.to(input_ids.device)
        head = getattr(self.model, _HEADS.get(self.model.config.model_type) or "", None)
        if head is None:
            full: Tensor = self.model(input_ids=input_ids, attention_mask=mask).logits
            return full.reshape(-1, full.shape[-1]).index_select(0, positions)[:, : self.size]
        hidden = self.model.base_model(input_ids=input_ids, attention_mask=mask).last_hidden_state
        logits: Tensor = head(hidden.reshape(-1, hidden.shape[-1]).index_select(0, positions))
        return logits[:, : self.size]
