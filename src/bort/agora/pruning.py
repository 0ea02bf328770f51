"""Hyper-parameter sets, and which of them go after a round."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Theta = Mapping[str, Any]
Pruning = Literal["lcs", "halving"]


def sequence(theta: Theta) -> tuple[str, ...]:
    """A set as the sequence of its `name=value` items, in the order in which it names them."""
    return tuple(f"{name}={value}" for name, value in theta.items())


def longest_common_subsequence(left: Sequence[str], right: Sequence[str]) -> tuple[str, ...]:
    """The longest sequence that is left of both when items are struck out; of several, the one whose items come first
    in `left`."""
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
    """Whether `part` is left of `whole` when items are struck out."""
    items = iter(whole)
    return all(item in items for item in part)


def pruned(thetas: Sequence[Theta], accuracies: Sequence[float], rule: Pruning = "lcs") -> set[int]:
    """Which sets go after a round (step 6 of Agora).

    `lcs`: the sets are ranked from worst to best, equals in the order given. The worst one is the root. Of the others,
    the worst-ranked with which it has the longest common subsequence gives that subsequence. The root goes, and
    with it every set that contains the subsequence and scored no better than the median. `halving`: the worse half
    goes, rounded up.

    The best set goes only when it is the last; so each round removes at least one, and as many rounds as there are sets
    are enough. The paper has neither this guard nor that of the median, and no halving: these are ours.

    Args:
        thetas: At least one.
        accuracies: One for each.
        rule: Which of the two.

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
    rooted = max(shared, key=len)  # the first of the longest, which is the worst-ranked one's
    median = statistics.median(accuracies)
    with_it = {p for p in ranked[1:] if accuracies[p] <= median and contains(sequence(thetas[p]), rooted)}
    return ({ranked[0]} | with_it) - {best}
