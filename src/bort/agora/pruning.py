"""Hyper-parameter sets, and the rules that drop some of them after a round."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Theta = Mapping[str, Any]
Pruning = Literal["lcs", "halving"]


def sequence(theta: Theta) -> tuple[str, ...]:
    """Return a set as the sequence of its `name=value` items, in its own order."""
    return tuple(f"{name}={value}" for name, value in theta.items())


def longest_common_subsequence(left: Sequence[str], right: Sequence[str]) -> tuple[str, ...]:
    """Return the longest common subsequence; of several, the one whose items come first in `left`."""
    rows, columns = len(left), len(right)
    length = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in reversed(range(rows)):
        for j in reversed(range(columns)):
            same = left[i] == right[j]
            length[i][j] = length[i + 1][j + 1] + 1 if same else max(length[i + 1][j], length[i][j + 1])
    found, i, j = [], 0, 0
    while i < rows and j < columns:
        if left[i] == right[j]:
            found.append(left[i])
            i, j = i + 1, j + 1
        elif length[i][j + 1] >= length[i + 1][j]:
            j += 1
        else:
            i += 1
    return tuple(found)


def contains(whole: Sequence[str], part: Sequence[str]) -> bool:
    """Whether `part` is a subsequence of `whole`."""
    items = iter(whole)
    return all(item in items for item in part)


def pruned(thetas: Sequence[Theta], accuracies: Sequence[float], rule: Pruning = "lcs") -> set[int]:
    """Return the sets to drop after a round (step 6 of Agora).

    `lcs`: the sets are ranked from worst to best, ties in the order given. The worst one is the root. Of its longest
    common subsequences with each other set, the longest is taken, on ties that of the worst-ranked set. The root is
    dropped, and so is every set that contains this subsequence and scored no better than the median. `halving`: the
    worse half is dropped, rounded up.

    The best set is dropped only when it is the last; so each round drops at least one set, and there are at most as
    many rounds as sets. The paper has neither this guard nor that of the median, and no halving: these are ours.

    Args:
        thetas: At least one set.
        accuracies: Score of each set.
        rule: `lcs` or `halving`.

    Returns:
        Places in `thetas`.
    """
    ranked = sorted(range(len(thetas)), key=lambda place: accuracies[place])
    if len(ranked) == 1:
        return {ranked[0]}
    best = ranked[-1]
    if rule == "halving":
        return set(ranked[: (len(ranked) + 1) // 2]) - {best}
    root = sequence(thetas[ranked[0]])
    shared = [longest_common_subsequence(root, sequence(thetas[place])) for place in ranked[1:]]
    rooted = max(shared, key=len)  # the first of the longest, that of the worst-ranked set
    median = statistics.median(accuracies)
    with_it = {p for p in ranked[1:] if accuracies[p] <= median and contains(sequence(thetas[p]), rooted)}
    return ({ranked[0]} | with_it) - {best}
