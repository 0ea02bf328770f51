"""The training losses: the student's mean, first token and tokens must match the teacher's mean and tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.nano.pairs import NOT_ASKED

# Mean and deviation of the five scores of a pair: cosine, token agreement both ways, shared words both ways.
_MIDDLE = (0.36, 0.40, 0.40, 0.30, 0.30)
_SPREAD = (0.25, 0.22, 0.22, 0.30, 0.30)
_SIMILARITY = 5.0


def mean(states: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens. *Shape:* (texts, seq, H), (texts, seq) -> (texts, H)."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def apart(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine, and the squared difference of the batch's cosines. *Shape:* (texts, H) twice -> ()."""
    cosines = F.cosine_similarity(student, teacher, dim=-1)
    return (1 - cosines).mean() + _SIMILARITY * similarities_apart(student, teacher)


def similarities_apart(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of the batch's cosines. *Shape:* (texts, H), (texts, D) -> ()."""
    s, t = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
    return F.mse_loss(s @ s.T, t @ t.T)


def tokens_apart(student: Tensor, teacher: Tensor, asked: Tensor) -> Tensor:
    """1 - cosine over the selected positions. *Shape:* (texts, seq, H) twice, (texts, seq) -> ()."""
    cosine = F.cosine_similarity(student, teacher, dim=-1)
    return ((1 - cosine) * asked).sum() / asked.sum()


class Heads(nn.Module):
    """Linear heads on the pooled first token, the vectors and the tokens during training; discarded afterwards.

    A classifier that is fine-tuned later is also a linear layer on the pooled first token.

    Args:
        hidden: Width of the student and of MiniLM.
        wide: Width of mpnet.
    """

    def __init__(self, hidden: int, wide: int) -> None:
        super().__init__()
        self.vector = nn.Linear(hidden, wide)
        self.wider = nn.Linear(hidden, wide, bias=False)
        self.wider_first = nn.Linear(hidden, wide, bias=False)
        self.together = nn.Linear(hidden, hidden)
        self.features = nn.Linear(hidden, 2 * hidden)
        self.scores = nn.Linear(hidden, len(_MIDDLE))
        self.related = nn.Linear(hidden, 1)
        self.edit = nn.Linear(hidden, 3)
        self.token = nn.Linear(hidden, 2)


def single_losses(states: Tensor, teacher: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Losses of texts read alone against MiniLM. *Shapes:* states, teacher (texts, seq, H); mask (texts, seq)."""
    target = mean(teacher, mask)
    inner = mask.clone()
    inner[:, 0] = 0
    return {
        "mean": apart(mean(states, mask), target),
        "first": apart(states[:, 0], target),
        "states": tokens_apart(states, teacher, inner),
    }


def second_losses(states: Tensor, pooled: Tensor, target: Tensor, mask: Tensor, heads: Heads) -> dict[str, Tensor]:
    """Losses against mpnet's vectors, which have another width.

    *Shapes:* states (texts, seq, H); pooled (texts, H); target (texts, D); mask (texts, seq).
    """
    made = {
        f"second {name}": (1 - F.cosine_similarity(head(vectors), target, dim=-1)).mean()
        + _SIMILARITY * similarities_apart(vectors, target)
        for name, vectors, head in (
            ("mean", mean(states, mask), heads.wider),
            ("first", states[:, 0], heads.wider_first),
        )
    }
    return made | {"pooled": 0.5 * (1 - F.cosine_similarity(heads.vector(pooled), target, dim=-1)).mean()}


@dataclass(frozen=True)
class PairTargets:
    """The teachers' targets for pairs.

    Args:
        tokens: MiniLM's states of each token, each text read alone. *Shape:* (pairs, seq, H).
        matches: For each word, the greatest cosine to a word of the other text, and whether the other text contains it.
            *Shape:* (pairs, seq, 2).
        scores: Cosine; mean match of the first's words and of the second's; shared words both ways.
            *Shape:* (pairs, 5).
        together: Sum of both vectors. *Shape:* (pairs, H).
        features: a · b and |a - b|, scaled to about 1. *Shape:* (pairs, 2 H).
        related, edit: *Shape:* (pairs,).
    """

    tokens: Tensor
    matches: Tensor
    scores: Tensor
    together: Tensor
    features: Tensor
    related: Tensor
    edit: Tensor


def pair_targets(states: Tensor, vectors: Tensor, batch: dict[str, Tensor]) -> PairTargets:
    """Targets from MiniLM's states of the texts read alone, and from mpnet's cosines.

    Args:
        states: *Shape:* (texts x length, H).
        vectors: MiniLM's vectors of the texts, of length 1. *Shape:* (texts, H).
        batch: The joined pairs of `train.LaidPairs`; mpnet's `cosine` is unknown (nan) for edits.
    """
    ids, side = batch["ids"], batch["side"]
    tokens = states[batch["source"]]  # (pairs, seq, H)
    unit = F.normalize(tokens, dim=-1)
    cosine = unit @ unit.transpose(1, 2)
    across = (side.unsqueeze(2) * side.unsqueeze(1)) == 2  # a word of one and a word of the other
    best = cosine.masked_fill(~across, -1).amax(2).clamp(min=0)
    same = ((ids.unsqueeze(2) == ids.unsqueeze(1)) & across).any(2)
    shares = [(best * (side == part)).sum(1) / (side == part).sum(1).clamp(min=1) for part in (1, 2)]
    a, b = vectors[batch["first"]], vectors[batch["second"]]
    theirs, width = (a * b).sum(1), a.shape[1]
    both = torch.where(batch["cosine"].isnan(), theirs, (theirs + batch["cosine"]) / 2)
    return PairTargets(
        tokens=tokens,
        matches=torch.stack([best, same.float()], dim=2),
        scores=torch.cat([both.unsqueeze(1), torch.stack(shares, 1), batch["lexical"]], dim=1),
        together=a + b,
        features=torch.cat([a * b * width, (a - b).abs() * width**0.5 - 0.8], dim=1),
        related=batch["related"],
        edit=batch["edit"],
    )


def pair_losses(
    states: Tensor, pooled: Tensor, batch: dict[str, Tensor], targets: PairTargets, heads: Heads
) -> dict[str, Tensor]:
    """Losses of joined pairs. *Shapes:* states (pairs, seq, H), pooled (pairs, H)."""
    words = (batch["side"] > 0).float()
    middle, spread = (torch.tensor(values).to(states.device, non_blocking=True) for values in (_MIDDLE, _SPREAD))
    off = (heads.scores(pooled) - (targets.scores - middle) / spread).pow(2).mean(0)
    match = heads.token(states)
    nearness = ((match[..., 0] - (targets.matches[..., 0] - 0.35) / 0.25).pow(2) * words).sum() / words.sum()
    found = F.binary_cross_entropy_with_logits(match[..., 1], targets.matches[..., 1], weight=words, reduction="sum")
    asked = (targets.related != NOT_ASKED).float()  # as a weight: selecting rows would make a GPU wait
    together = F.binary_cross_entropy_with_logits(
        heads.related(pooled).squeeze(1), targets.related.clamp(min=0).float(), weight=asked, reduction="sum"
    )
    real = batch["mask"].clone()
    real[:, 0] = 0
    return {
        "cosine": 2 * off[0],
        "scores": 0.3 * off[1:].sum(),
        "features": 0.1 * F.mse_loss(heads.features(pooled), targets.features),
        "together": 0.3 * (1 - F.cosine_similarity(heads.together(pooled), targets.together, dim=-1)).mean(),
        "related": 0.7 * together / asked.sum(),
        "edit": 0.7 * F.cross_entropy(heads.edit(pooled), targets.edit, ignore_index=NOT_ASKED),
        "match": 0.3 * nearness + 0.5 * found / words.sum(),
        "pair states": 0.5 * tokens_apart(states, targets.tokens, real),
    }
