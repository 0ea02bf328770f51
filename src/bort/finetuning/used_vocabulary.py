"""Train only those rows of the word embedding that the data use.

The gradient of all others is zero at every step, yet an optimiser reads and writes them, and few labelled texts use a
few per cent of a vocabulary: of Bort's 75 M parameters 51 M are rows of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

_MOST = 0.5
"""Above this share of the rows the two tables are not worth their trouble."""


class UsedRows(nn.Module):
    """Some rows of an embedding, looked up by the ids of the whole.

    Args:
        whole: The embedding.
        used: The ids to know; others raise an IndexError. *Shape:* (rows,), ascending.
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
        """*Shape:* any, and the same with the width behind it."""
        return nn.functional.embedding(self.place[ids], self.weight, self.padding)


@contextlib.contextmanager
def only_used_rows(model: Any, texts: Iterable[Sequence[int]], pad_token_id: int) -> Iterator[None]:
    """While it lasts, a model's word embedding has only the rows that some texts need; then it is whole again.

    Args:
        model: Of `transformers`. Its embedding stays as it is if it is of a special kind, or if most rows are needed.
        texts: All token ids that the model will see meanwhile.
        pad_token_id: Id of padding, which it will see too.
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
