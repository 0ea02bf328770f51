"""Train only those rows of the word embedding that the data use.

The gradient of all other rows is zero at every step, yet an optimiser reads and writes them. A small data set uses a
few per cent of the vocabulary, whose rows are 51 M of Bort's 75 M parameters.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

_MOST = 0.5
"""If a larger share of the rows is used, a separate table is not worth it."""


class UsedRows(nn.Module):
    """Some rows of an embedding, looked up by the ids of the full embedding.

    Args:
        whole: The full embedding.
        used: Ids to keep, ascending; others raise an IndexError. *Shape:* (rows,).
    """

    place: Tensor

    def __init__(self, whole: nn.Embedding, used: Tensor) -> None:
        super().__init__()
        place = torch.full((whole.num_embeddings,), len(used), dtype=torch.long, device=whole.weight.device)
        place[used] = torch.arange(len(used), device=place.device)
        self.register_buffer("place", place, persistent=False)
        self.weight = nn.Parameter(whole.weight.detach()[used].clone())
        self.used, self.padding = used, None if whole.padding_idx is None else int(place[whole.padding_idx])

    def forward(self, ids: Tensor) -> Tensor:
        """*Shape:* (...) -> (..., width)."""
        return nn.functional.embedding(self.place[ids], self.weight, self.padding)


@contextlib.contextmanager
def only_used_rows(model: Any, texts: Iterable[Sequence[int]], pad_token_id: int) -> Iterator[None]:
    """Reduce a model's word embedding to the rows that some texts use, and restore it at the end of the block.

    Args:
        model: A `transformers` model. Its embedding is not reduced if it is of a special kind or most rows are used.
        texts: Token ids of all texts that the model will see inside the block.
        pad_token_id: Id of padding, whose row is kept too.
    """
    whole = model.get_input_embeddings()
    used = sorted({pad_token_id, *chain.from_iterable(texts)})
    if type(whole) is not nn.Embedding or whole.max_norm is not None or len(used) > _MOST * whole.num_embeddings:
        yield
        return
    if whole.padding_idx is not None:
        used = sorted({*used, whole.padding_idx})
    rows = UsedRows(whole, torch.tensor(used, device=whole.weight.device))
    model.set_input_embeddings(rows)
    try:
        yield
    finally:
        model.set_input_embeddings(whole)
        with torch.no_grad():
            whole.weight[rows.used] = rows.weight
