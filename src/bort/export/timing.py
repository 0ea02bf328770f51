"""How fast exported folders answer on this machine, in the ways that they are asked, and what their batches cost."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.predict.costs import MOST_TOKENS, BatchCosts
from bort.predict.encoding import Feed, TokenizedExamples
from bort.predict.engine import open_exported
from bort.predict.exported_engine import ExportedEngine

WAYS = {"1 text": (1, 12), "8 texts": (8, 3), "32 texts": (32, 2), "256 texts": (256, 1)}
"""Texts of a list, and how many lists are timed."""
_ROUNDS = 3
_SECONDS_A_LIST = 2.0
_FASTER = 0.95
"""fp32, or a second graph, must take less than this part of the time: int8 and a single graph take less memory."""
_ROWS, _LENGTHS = (1, 2, 4, 8, 16, 32, 64), (8, 16, 32, 64, 128, 256)
_SECONDS_A_POINT, _RUNS = 0.12, 9
_OTHER_SHAPE = 4
"""Tokens less than those of a batch that is timed, before it."""

Speeds = dict[str, float]
"""Milliseconds a text, by way."""


def speeds(folders: Mapping[str, Path], texts: Sequence[Example]) -> dict[str, Speeds]:
    """Time exported folders in all ways: the least of some rounds, in which they take turns.

    Args:
        folders: By name.
        texts: Like those to come.
    """
    engines = {name: open_exported(folder) for name, folder in folders.items()}
    single = max(_milliseconds(engine, _lists(engine, texts, 1, 2)) for engine in engines.values())
    most = max(WAYS["32 texts"][0], int(1000 * _SECONDS_A_LIST / single))  # of a large model fewer
    least = {name: dict.fromkeys(WAYS, math.inf) for name in folders}
    for way, (size, count) in WAYS.items():
        lists = {name: _lists(engine, texts, min(size, most), count) for name, engine in engines.items()}
        for measured in range(1 + _ROUNDS):
            for name, engine in engines.items():
                found = _milliseconds(engine, lists[name])
                if measured:  # at first what is new to an engine is made ready
                    least[name][way] = min(found, least[name][way])
    return least


def score(found: Speeds) -> float:
    """One number for all ways, each as important as the others: the geometric mean of the milliseconds a text."""
    return math.exp(sum(map(math.log, found.values())) / len(found))


def fastest(found: Mapping[str, Speeds]) -> str:
    """The name of the fastest; int8 is taken even where fp32 is a little faster, for it takes less memory.

    Args:
        found: By engine and precision, as "onnxruntime-int8".
    """
    return min(found, key=lambda name: score(found[name]) * (_FASTER if name.endswith("int8") else 1))


def is_clearly_faster(found: Speeds, other: Speeds) -> bool:
    """Whether one is so much faster than another that the memory it takes in addition is worth it."""
    return score(found) < _FASTER * score(other)


def meeting(first: BatchCosts, second: BatchCosts, lengths: Sequence[int]) -> tuple[int, float]:
    """From which length the second should compute, where the first computes what is shorter.

    Args:
        first: What its batches cost.
        second: What the other's cost.
        lengths: Tokens of texts like those to come.

    Returns:
        The length, and what these texts cost then, in parts of what they cost with the cheaper of the two alone.
    """
    ordered = np.sort(np.asarray(lengths))
    ours, theirs = (_a_text(costs)[np.minimum(ordered, costs.lengths[-1])] for costs in (first, second))
    # Before each text, and behind the last one.
    totals = np.concatenate([[0], np.cumsum(ours)]) + np.concatenate([[0], np.cumsum(theirs[::-1])])[::-1]
    cuts = [place for place in range(1, len(ordered)) if ordered[place] > ordered[place - 1]]
    if not cuts:
        return int(ordered[-1]) + 1, 1.0
    best = min(cuts, key=lambda place: totals[place])
    return int(ordered[best]), float(totals[best] / min(ours.sum(), theirs.sum()))


def measured_costs(engine: ExportedEngine, done: Callable[[], None] = lambda: None) -> BatchCosts:
    """What the batches of a folder's first graph cost, with all threads at each and with one.

    Args:
        engine: The folder.
        done: Called after each point.
    """
    spec = engine.manifest.graphs[0]
    rows = _ROWS[:1] if spec.activations == "dynamic" else _ROWS
    lengths = sorted({length for length in _LENGTHS if length < engine.max_length} | {engine.max_length})
    tables = {}
    for shared in (True, False):
        if shared or engine.threads > 1:
            points = np.full((len(rows), len(lengths)), np.nan)
            for i, count in enumerate(rows):
                for j, length in enumerate(lengths):
                    if count == 1 or count * length <= MOST_TOKENS:
                        points[i, j] = _point(engine, count, length, shared=shared)
                    else:
                        points[i, j] = points[i - 1, j] * count / rows[i - 1]
                    done()
            tables[shared] = tuple(tuple(float(f"{ms:.4g}") for ms in line) for line in undisturbed(points))
    return BatchCosts(rows, tuple(lengths), engine.threads, tables.get(False, tables[True]), tables[True])


def undisturbed(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Costs without what other work on the machine has added to them.

    More rows, or longer ones, never cost less; and what disturbs a measurement only adds to it. So a batch that has
    cost more than a larger one was disturbed, and costs no more than that.

    Args:
        points: Measured. *Shape:* (rows, lengths), both ascending.

    Returns:
        *Shape:* (rows, lengths), no number less than those before it.
    """
    found: NDArray[np.float64] = np.minimum.accumulate(np.minimum.accumulate(points[::-1, ::-1], 0), 1)[::-1, ::-1]
    return found


def _point(engine: ExportedEngine, rows: int, length: int, *, shared: bool) -> float:
    """Milliseconds of one batch, as it is computed in a list: after one of another shape, beside as much other work.

    OpenVINO prepares for each change of shape, which may cost as much as a row; and threads that compute batches of
    their own wait for the same memory.
    """
    feeds = [_feed(engine, rows, other) for other in (max(1, length - _OTHER_SHAPE), length)]
    compute, began = engine.runners[0].opened(shared=shared), time.perf_counter()
    callers = 1 if shared else engine.threads

    def runs(_: int) -> list[float]:
        found: list[float] = []
        for run in range(1 + _RUNS):
            for feed in feeds:
                started = time.perf_counter()
                compute(feed)
            if run:
                found.append(time.perf_counter() - started)
            if run > 1 and time.perf_counter() - began > _SECONDS_A_POINT:  # a single run may have been disturbed
                break
        return found

    with ThreadPoolExecutor(callers) as pool:
        return 1000 * statistics.median(seconds for found in pool.map(runs, range(callers)) for seconds in found)


def _feed(engine: ExportedEngine, rows: int, length: int) -> Feed:
    rng, size = np.random.default_rng(0), engine.tokenizer.get_vocab_size()
    columns = {name: rng.integers(0, size if name == "input_ids" else 1, (rows, length)).tolist()
               for name in engine.manifest.inputs if name != "attention_mask"}  # fmt: skip
    return engine.batch(TokenizedExamples(columns, 0), range(rows))


def _a_text(costs: BatchCosts) -> NDArray[np.float64]:
    """What a text costs, by its length: the geometric mean of one alone and one among many."""
    alone, shared = costs.table(1), costs.table(costs.threads)
    lengths = np.arange(alone.shape[1])
    rows = np.clip(MOST_TOKENS // np.maximum(lengths, 1), 1, len(alone) - 1)
    found: NDArray[np.float64] = np.sqrt(shared[1] * alone[rows, lengths] / rows)
    return found


def _lists(engine: ExportedEngine, texts: Sequence[Example], size: int, count: int) -> list[TokenizedExamples]:
    """Lists of texts from all over, with repetitions where there are too few."""
    step = max(1, len(texts) // (size * count))
    drawn = [texts[place * step % len(texts)] for place in range(size * count)]
    return [engine.encode(drawn[start : start + size]) for start in range(0, len(drawn), size)]


def _milliseconds(engine: ExportedEngine, lists: Sequence[TokenizedExamples]) -> float:
    """Of a text."""
    started = time.perf_counter()
    for one in lists:
        engine.run(one)
    return 1000 * (time.perf_counter() - started) / sum(map(len, lists))
