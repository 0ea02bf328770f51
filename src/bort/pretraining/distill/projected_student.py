"""A masked LM with projections into the embedding space of its teacher, which only its training needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig

from bort.model.modelling import BortForMaskedLM, BortMaskedLMOutput
from bort.pretraining.arguments import Pooling

PROJECTIONS = "projections."
"""Prefix of the names of weights that are dropped after training."""


@dataclass
class StudentOutput(BortMaskedLMOutput):
    """The masked LM's output, plus the vectors to compare with a teacher's.

    `pooled`: one matrix per way of pooling, *shape* (ways, batch, D). `layers`: by layer of the student, the vectors of
    the ordinary tokens of all rows, concatenated, *shape* (tokens, D).
    """

    pooled: Tensor | None = None
    layers: dict[int, Tensor] | None = None


class Student(BortForMaskedLM):
    """A masked LM that learns a teacher's embeddings through linear projections, which are dropped after training.

    Args:
        config: Configuration of the masked LM.
        size: Width of the teacher's vectors; None to compare the student's own vectors, without projections.
        pooling: Vector of a text in the student: the mean over its tokens, the first token's, or both.
        layers: Layers of the student, counted from 1, whose tokens are compared with the teacher's.
    """

    def __init__(self, config: BertConfig, size: int | None, pooling: Pooling, layers: tuple[int, ...]) -> None:
        super().__init__(config)
        self.pooling, self.layers = pooling, layers
        names = ["pooled", *(f"layer_{number}" for number in layers)]
        self.projections = nn.ModuleDict(
            {name: nn.Identity() if size is None else nn.Linear(config.hidden_size, size) for name in names}
        )
        for projection in self.projections.values():
            self._init_weights(projection)

    @classmethod
    def around(cls, model: BortForMaskedLM, size: int | None, pooling: Pooling, layers: tuple[int, ...]) -> Student:
        """Create a student with the weights of a model (shared, not copied) and new projections."""
        student = cls(model.config, size, pooling, layers)
        student.bert, student.cls = model.bert, model.cls
        return student

    def forward(  # type: ignore[override]  # a student takes no positions, and is not called for plain logits
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        ordinary: Tensor | None = None,
        **kwargs: Any,
    ) -> StudentOutput:
        """Encode, pool and project; with labels, also decode the masked positions.

        Args:
            input_ids: *Shape:* (batch, seq).
            attention_mask: *Shape:* (batch, seq), or None if there is no padding.
            labels: Labels of the masked LM. *Shape:* (batch, seq).
            ordinary: Flat positions of the tokens that are not special; without them no layers are compared.
                *Shape:* (tokens,).
            kwargs: Passed to the masked LM.
        """
        if labels is None:
            encoded = self.bert(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
            output = BortMaskedLMOutput(hidden_states=encoded.hidden_states)
        else:
            output = super().forward(input_ids, attention_mask, labels, output_hidden_states=True, **kwargs)
        states = output.hidden_states
        assert states is not None
        layers = {}
        for number in self.layers if ordinary is not None else ():
            flat = states[number].reshape(-1, states[number].shape[-1])
            layers[number] = self.projections[f"layer_{number}"](flat.index_select(0, ordinary))
        return StudentOutput(
            loss=output.loss,
            hard_loss=output.hard_loss,
            soft_loss=output.soft_loss,
            logits=output.logits,
            pooled=self.projections["pooled"](self._pool(states[-1], attention_mask)),
            layers=layers,
        )

    def _pool(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """*Shape:* (batch, seq, H) -> (ways, batch, H)."""
        ways = []
        if self.pooling != "first":
            weights = torch.ones_like(hidden[..., :1]) if mask is None else mask[..., None].to(hidden.dtype)
            ways.append((hidden * weights).sum(1) / weights.sum(1))
        if self.pooling != "mean":
            ways.append(hidden[:, 0])
        return torch.stack(ways)

    def without_projections(self) -> BortForMaskedLM:
        """The masked LM alone, with the same weights (shared, not copied)."""
        with torch.device("meta"):
            plain = BortForMaskedLM(self.config)
        plain.bert, plain.cls = self.bert, self.cls
        return plain
