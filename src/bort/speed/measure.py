"""Benchmark of models by name."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bort.errors import BortError
from bort.predict.manifest import is_exported, read_manifest
from bort.progress import bar
from bort.runs import environment
from bort.speed.contestants import ENGINES, Contestant, Model
from bort.speed.race import Load, Spread, Timing, described, like_for_like, race

_CODE = """
import sys
import bort
name, method = sys.argv[3:]
model = getattr(bort, name)(sys.argv[1], threads=int(sys.argv[2]))
getattr(model, method)(["A first answer is what a small model owes its user."])
try:  # the resource module would count what the parent had when it forked
    most = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
except OSError:
    import resource
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
print(1024 * most, flush=True)
"""


def measure(
    own: Sequence[str],
    others: Sequence[str],
    *,
    engines: Sequence[str],
    loads: Sequence[tuple[Load, int]],
    threads: int,
    fresh_rounds: int = 3,
) -> dict[str, Any]:
    """Load all models into all engines, time them in turn, and time the first prediction of new processes.

    Args:
        own: The models to benchmark: names of `CONFIGS` or folders.
        others: The models to compare them with.
        engines: Names of `ENGINES`.
        loads: The loads, each with its number of rounds.
        threads: Number of threads.
        fresh_rounds: How often to time the first prediction of a new process.

    Returns:
        All results, as JSON types.

    Raises:
        BortError: A model or an engine does not exist, or a text is longer than a model can read.
    """
    for engine in engines:
        if engine not in ENGINES:
            raise BortError(f"must be one of {', '.join(ENGINES)}", setting="engines", value=engine)
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as work:
        models = _models([*own, *others], Path(work))
        longest = max((max(load.lengths) for load, _ in loads), default=1)
        for model in models:
            model.check_length(longest)
        contestants = _loaded(models, engines, threads)
        # Every model has embeddings for token ids below this.
        vocab_size = min(model.vocab_size for model in models)
        timings: list[Timing] = []
        with bar("timing", len(contestants) * sum(rounds for _, rounds in loads)) as shown:
            for load, rounds in loads:
                timings += race(contestants, load, rounds, vocab_size, lambda note: shown.update(shown.done + 1, note))
        firsts = _first_answers(contestants, threads, fresh_rounds) if fresh_rounds else []
    names = [model.shown for model in models[: len(dict.fromkeys(own))]]
    return {
        "threads": threads,
        "rounds": {load.name: rounds for load, rounds in loads},
        "environment": environment(),
        "left_out": _left_out(models, contestants, engines),
        "results": described(timings),
        "like_for_like": [row for name in names for row in like_for_like(timings, name)],
        "first_answers": firsts,
    }


def _models(names: Sequence[str], work: Path) -> list[Model]:
    models: list[Model] = []
    for number, name in enumerate(dict.fromkeys(names)):
        (work / str(number)).mkdir()
        model = Model(name, work / str(number))
        if any(model.shown == other.shown for other in models):
            model.shown = name
        models.append(model)
    return models


def _left_out(models: Sequence[Model], contestants: Sequence[Contestant], engines: Sequence[str]) -> list[str]:
    """Engines that --engines would add; an exported model has its own, whatever is named."""
    if all(model.exported for model in models):
        return []
    measured = {contestant.engine for contestant in contestants}
    return [engine for engine in ENGINES if engine not in engines and engine not in measured]


def _loaded(models: Sequence[Model], engines: Sequence[str], threads: int) -> list[Contestant]:
    contestants: list[Contestant] = []
    with bar("preparing", len(models) * len(engines)) as shown:
        for model in models:
            for contestant in model.contestants(engines, threads):
                contestants.append(contestant)
                shown.update(len(contestants), f"{contestant.model} {contestant.engine}")
    return contestants


@dataclass(frozen=True)
class FirstAnswer:
    """Time and memory of the first prediction of a new process.

    Args:
        seconds: Time from the start of the process to its prediction.
        peak_bytes: Peak memory until then.
    """

    seconds: float
    peak_bytes: int


def first_answer(folder: Path, threads: int) -> FirstAnswer:
    """Start a process that predicts one text.

    Raises:
        BortError: The process failed.
    """
    encodes = is_exported(folder) and read_manifest(folder).task is None
    names = ("Encoder", "encode") if encodes else ("Predictor", "predict")
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", _CODE, str(folder), str(threads), *names],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - started
        if not line:
            said = process.stderr.read().strip().splitlines()
            raise BortError(f"a new process could not answer: {said[-1] if said else 'it said nothing'}", file=folder)
    return FirstAnswer(seconds, int(line))


def _first_answers(contestants: Sequence[Contestant], threads: int, rounds: int) -> list[dict[str, Any]]:
    # A new process loads a PyTorch folder in the same way for all torch engines, so it is timed only once.
    once = {(c.model, c.engine.replace("torch-eager", "torch-sdpa").replace("bf16", "sdpa")): c for c in contestants}
    times: dict[tuple[str, str], list[FirstAnswer]] = {key: [] for key in once}
    with bar("first answers", len(once) * rounds) as shown:
        for _ in range(rounds):
            for key, contestant in once.items():
                times[key].append(first_answer(contestant.folder, threads))
                shown.update(shown.done + 1, " ".join(key))
    return [
        {
            "model": model,
            "engine": engine,
            "seconds": vars(Spread.of([first.seconds for first in found])),
            "megabytes": max(first.peak_bytes for first in found) / 1e6,
            "disk": once[model, engine].size_bytes / 1e6,
        }
        for (model, engine), found in times.items()
    ]
