"""Measures exported folders on this machine: time per text for lists of several sizes, and costs of batches."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
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
"""Texts per list, and number of lists timed."""
_ROUNDS = 3
_SECONDS_A_LIST = 2.0
_FASTER = 0.95
"""fp32, or a second graph, must take less than this share of the time: int8 and a single graph need less memory."""
_ROWS, _LENGTHS = (1, 2, 4, 8, 16, 32, 64), (8, 16, 32, 64, 128, 256)
_SECONDS_A_POINT, _RUNS = 0.12, 9
_OTHER_SHAPE = 4
"""Before each timed batch, another runs whose rows are this many tokens shorter."""

Speeds = dict[str, float]
"""Milliseconds per text, by key of `WAYS`."""


def speeds(folders: Mapping[str, Path], texts: Sequence[Example]) -> dict[str, Speeds]:
    """Time exported folders in all `WAYS`: the fastest of several rounds, in which the folders take turns.

    Args:
        folders: Exported folders by name.
        texts: Typical texts.
    """
    engines = {name: open_exported(folder) for name, folder in folders.items()}
    single = max(_milliseconds(engine, _lists(engine, texts, 1, 2)) for engine in engines.values())
    most = max(WAYS["32 texts"][0], int(1000 * _SECONDS_A_LIST / single))  # fewer for a large model
    least = {name: dict.fromkeys(WAYS, math.inf) for name in folders}
    for way, (size, count) in WAYS.items():
        lists = {name: _lists(engine, texts, min(size, most), count) for name, engine in engines.items()}
        for measured in range(1 + _ROUNDS):
            for name, engine in engines.items():
                found = _milliseconds(engine, lists[name])
                if measured:  # the first round is a warm-up
                    least[name][way] = min(found, least[name][way])
    return least


def score(found: Speeds) -> float:
    """Geometric mean of the milliseconds per text over all `WAYS`, with equal weights."""
    return math.exp(sum(map(math.log, found.values())) / len(found))


def fastest(found: Mapping[str, Speeds]) -> str:
    """Name of the fastest; int8 wins even if fp32 is slightly faster, because it needs less memory.

    Args:
        found: Times by engine and precision, such as "onnxruntime-int8".
    """
    return min(found, key=lambda name: score(found[name]) * (_FASTER if name.endswith("int8") else 1))


def is_clearly_faster(found: Speeds, other: Speeds) -> bool:
    """Whether one is enough faster than another to be worth its additional memory."""
    return score(found) < _FASTER * score(other)


def meeting(first: BatchCosts, second: BatchCosts, lengths: Sequence[int]) -> tuple[int, float]:
    """Find the length from which the second engine should compute inputs, while the first computes shorter ones.

    Args:
        first: Batch costs of the first engine.
        second: Batch costs of the second engine.
        lengths: Lengths of typical texts in tokens.

    Returns:
        The length, and the cost of these texts relative to their cost with the cheaper engine alone.
    """
    ordered = np.sort(np.asarray(lengths))
    ours, theirs = (_a_text(costs)[np.minimum(ordered, costs.lengths[-1])] for costs in (first, second))
    # Total costs for a cut before each text, and after the last one.
    totals = np.concatenate([[0], np.cumsum(ours)]) + np.concatenate([[0], np.cumsum(theirs[::-1])])[::-1]
    cuts = [place for place in range(1, len(ordered)) if ordered[place] > ordered[place - 1]]
    if not cuts:
        return int(ordered[-1]) + 1, 1.0
    best = min(cuts, key=lambda place: totals[place])
    return int(ordered[best]), float(totals[best] / min(ours.sum(), theirs.sum()))


def measured_costs(engine: ExportedEngine) -> BatchCosts:
    """Measure the batch costs of a folder's first graph, with all threads and with one thread per batch.

    Args:
        engine: The opened folder.
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
            tables[shared] = tuple(tuple(float(f"{ms:.4g}") for ms in line) for line in undisturbed(points))
    return BatchCosts(rows, tuple(lengths), engine.threads, tables.get(False, tables[True]), tables[True])


def undisturbed(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Remove from measured costs what other work on the machine has added.

    More or longer rows never cost less, and a disturbance only adds time. So a batch that took longer than a larger one
    was disturbed, and its cost is at most that of the larger one.

    Args:
        points: Measured costs. *Shape:* (rows, lengths), both ascending.

    Returns:
        *Shape:* (rows, lengths), non-decreasing along both axes.
    """
    found: NDArray[np.float64] = np.minimum.accumulate(np.minimum.accumulate(points[::-1, ::-1], 0), 1)[::-1, ::-1]
    return found


def _point(engine: ExportedEngine, rows: int, length: int, *, shared: bool) -> float:
    """Milliseconds of one batch as in a list of texts: after a batch of another shape, and with all threads busy.

    OpenVINO prepares for each change of shape, which may cost as much as a row; and threads that compute separate
    batches compete for memory bandwidth.
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
    return engine.batch(TokenizedExamples(columns), range(rows))


def _a_text(costs: BatchCosts) -> NDArray[np.float64]:
    """Cost of a text by length: the geometric mean of a text alone and one in a large batch."""
    alone, shared = costs.table(1), costs.table(costs.threads)
    lengths = np.arange(alone.shape[1])
    rows = np.clip(MOST_TOKENS // np.maximum(lengths, 1), 1, len(alone) - 1)
    found: NDArray[np.float64] = np.sqrt(shared[1] * alone[rows, lengths] / rows)
    return found


def _lists(engine: ExportedEngine, texts: Sequence[Example], size: int, count: int) -> list[TokenizedExamples]:
    """Lists of texts from all parts of the data, with repetitions if there are too few."""
    step = max(1, len(texts) // (size * count))
    drawn = [texts[place * step % len(texts)] for place in range(size * count)]
    return [engine.encode(drawn[start : start + size]) for start in range(0, len(drawn), size)]


def _milliseconds(engine: ExportedEngine, lists: Sequence[TokenizedExamples]) -> float:
    """Milliseconds per text."""
    started = time.perf_counter()
    for one in lists:
        engine.run(one)
    return 1000 * (time.perf_counter() - started) / sum(map(len, lists))
