"""Teachers with the student's vocabulary: any masked LM of `transformers`, decoding only the masked positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bort.errors import BortError
from bort.model.checkpoints import load, locate
from bort.model.modelling import masked_positions
from bort.model.tokenization import load_tokenizer
from bort.predict.classifiers import positions

_HEADS = {"bert": "cls", "roberta": "lm_head", "xlm-roberta": "lm_head", "camembert": "lm_head"}


class MaskedLMTeacher:
    """A frozen masked LM.

    Args:
        model: A folder or hub name.
        vocabulary: The student's tokens and ids, which must equal the teacher's.
        device: Where it runs.
        longest: Tokens of the longest row.

    Raises:
        BortError: It cannot be loaded, has no masked-LM head, another vocabulary, or too few positions.
    """

    def __init__(self, model: str, vocabulary: dict[str, int], device: torch.device, *, longest: int = 0) -> None:
        from transformers import AutoModelForMaskedLM

        self.source, self.device = locate(model), device
        self.model: Any = load(AutoModelForMaskedLM, model).to(device).eval()
        made_as = self.model.config.architectures or []
        if made_as and not any("MaskedLM" in name or "PreTraining" in name for name in made_as):
            rule = "holds no masked-LM head, so it cannot teach this loss"
            raise BortError(rule, file=model, column="architectures", value=made_as[0])
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

    @torch.no_grad()
    def logits(self, input_ids: Tensor, labels: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Logits at the masked positions. *Shape:* (batch, seq), (batch, seq) -> (positions, vocab)."""
        positions = masked_positions(labels)
        # Without padding, a mask of ones keeps the teacher from deriving a mask from pad ids.
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask.to(input_ids.device)
        head = getattr(self.model, _HEADS.get(self.model.config.model_type) or "", None)
        if head is None:
            full: Tensor = self.model(input_ids=input_ids, attention_mask=mask).logits
            return full.reshape(-1, full.shape[-1]).index_select(0, positions)
        hidden = self.model.base_model(input_ids=input_ids, attention_mask=mask).last_hidden_state
        logits: Tensor = head(hidden.reshape(-1, hidden.shape[-1]).index_select(0, positions))
        return logits
