"""Label probabilities from the log-probabilities of an answer's tokens, for any tokenizer."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from bort.agora.llm.client import TokenChoices


def label_shares(tokens: Sequence[TokenChoices], names: Sequence[str], label: str) -> dict[str, float] | None:
    """Return how likely each label was at the place of the answer's label.

    An alternative token leads to the labels that start with it. Its probability, times that of the tokens before it, is
    split equally among these labels. Alternatives that lead to no label are left out.

    Args:
        tokens: Tokens of the whole answer.
        names: All labels.
        label: The label in the answer.

    Returns:
        Probabilities that sum to 1; None if the label is not found in the tokens.
    """
    content = b"".join(choice.token for choice in tokens)
    start, spelled = _place(content, label, names)
    if start is None:
        return None
    mass = dict.fromkeys(names, 0.0)
    log_p, read, left = 0.0, 0, list(names)
    for choice in tokens:
        end = read + len(choice.token)
        if end > start:
            before = content[:read]
            others = {token: other for token, other in choice.others if token != choice.token}
            for token, other in others.items():
                _share(mass, _that_begin(before + token, spelled, left), math.exp(min(0.0, log_p + other)))
            log_p += min(0.0, choice.log_p)
            left = _that_begin(content[:end], spelled, left)
            if label not in left:
                return None
            if len(left) == 1:
                break
        read = end
    mass[label] += math.exp(log_p)
    total = math.fsum(mass.values())
    return {name: share / total for name, share in mass.items()} if 0 < total < math.inf else None


def _place(content: bytes, label: str, names: Sequence[str]) -> tuple[int | None, dict[str, bytes]]:
    """Return where the label begins, and for each label the answer up to its end."""
    quoted = {name: json.dumps(name, ensure_ascii=False).encode("utf-8", "surrogatepass") for name in names}
    at = content.rfind(quoted[label])
    if at >= 0:
        return at + 1, {name: content[:at] + written for name, written in quoted.items()}
    at = content.rfind(label.encode("utf-8", "surrogatepass"))
    if at >= 0:
        return at, {name: content[:at] + name.encode("utf-8", "surrogatepass") for name in names}
    return None, {}


def _that_begin(read: bytes, spelled: dict[str, bytes], names: Sequence[str]) -> list[str]:
    """Return the labels that are possible given the part of an answer read so far."""
    longer = [name for name in names if spelled[name].startswith(read) and spelled[name] != read]
    whole = [name for name in names if read.startswith(spelled[name])]
    # If one label is a prefix of another and both are read in full, the answer is the longer one.
    return [*longer, max(whole, key=lambda name: len(spelled[name]))] if whole else longer


def _share(mass: dict[str, float], names: Sequence[str], p: float) -> None:
    for name in names:
        mass[name] += p / len(names)
