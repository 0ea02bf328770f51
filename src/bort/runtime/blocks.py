"""Which parts of a model stay in fp32 where int8 as a whole loses too much."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping


def mixtures(movement: Mapping[str, float]) -> Iterator[frozenset[str]]:
    """What may stay in fp32: the block that moves the outputs most, the two that do, and so on, but never all.

    Args:
        movement: How far the outputs move with one block alone in int8, by block. Of equals the first goes first.
    """
    worst_first = sorted(movement, key=lambda block: -movement[block])
    for count in range(1, len(worst_first)):
        yield frozenset(worst_first[:count])


def keep_worst(movement: Mapping[str, float], passes: Callable[[frozenset[str]], bool]) -> frozenset[str] | None:
    """Keep blocks in fp32, the worst first, until the rest passes in int8.

    Args:
        movement: As of `mixtures`.
        passes: Whether the model is good enough with these blocks in fp32; asked until it says so.

    Returns:
        What is kept, or None where nothing passes.
    """
    return next((kept for kept in mixtures(movement) if passes(kept)), None)


def shares(movement: Mapping[str, float]) -> dict[str, float]:
    """Each block's part of the sum of all; 0 each where nothing moves."""
    total = sum(movement.values())
    return {block: moved / total if total else 0.0 for block, moved in movement.items()}
