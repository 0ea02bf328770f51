"""From names of models to figures."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bort.errors import BortError
from bort.progress import bar
from bort.runs import environment
from bort.runtime.speed.fresh import First, first_answer
from bort.runtime.speed.loads import Load
from bort.runtime.speed.peak import peaks
from bort.runtime.speed.timing import Spread
from bort.speed.contestants import ENGINES, Contestant, Model, precision
from bort.speed.race import Result, described, like_for_like, race

_SMALLEST_VOCABULARY = 1000


def measure(
    own: Sequence[str],
    others: Sequence[str],
    *,
    engines: Sequence[str],
    loads: Sequence[tuple[Load, int]],
    threads: int,
    fresh_rounds: int = 3,
) -> dict[str, Any]:
    """Load all models into all engines, time them in turn, and start new processes.

    Args:
        own: Models in question: names of `SHAPES` or folders.
        others: What they are compared with.
        engines: Of `ENGINES`.
        loads: What is asked, and in how many rounds.
        threads: That compute.
        fresh_rounds: How often to time the first answer of a new process.

    Returns:
        All figures, ready for JSON.

    Raises:
        BortError: A model or an engine is not there.
    """
    import torch

    for engine in engines:
        if engine not in ENGINES:
            raise BortError(f"must be one of {', '.join(ENGINES)}", column="engines", value=engine)
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as work:
        models = _models([*own, *others], Path(work))
        contestants = _loaded(models, engines, threads)
        found = peaks(threads, {precision(contestant.engine) for contestant in contestants})
        results = _raced(contestants, loads, _vocabulary(models), found)
        firsts = _first_answers(contestants, threads, fresh_rounds) if fresh_rounds else []
    names = [model.shown for model in models[: len(dict.fromkeys(own))]]
    return {
        "threads": threads,
        "rounds": {load.name: rounds for load, rounds in loads},
        "environment": environment(),
        "peaks": found,
        "left_out": [engine for engine in ENGINES if engine not in engines],
        "results": described(results),
        "like_for_like": [row for name in names for row in like_for_like(results, name)],
        "first_answers": firsts,
    }


def _models(names: Sequence[str], work: Path) -> list[Model]:
    models: list[Model] = []
    for number, name in enumerate(dict.fromkeys(names)):
        folder = work / str(number)
        folder.mkdir()
        model = Model(name, folder)
        if any(model.shown == other.shown for other in models):
            model.shown = name
        models.append(model)
    return models


def _loaded(models: Sequence[Model], engines: Sequence[str], threads: int) -> list[Contestant]:
    contestants: list[Contestant] = []
    with bar("preparing", len(models) * len(engines)) as shown:
        for model in models:
            for contestant in model.contestants(engines, threads):
                contestants.append(contestant)
                shown.update(len(contestants), f"{contestant.model} {contestant.engine}")
    return contestants


def _vocabulary(models: Sequence[Model]) -> int:
    """Of ids below it, each model has rows."""
    return min((model.shape.vocab_size for model in models if not model.exported), default=_SMALLEST_VOCABULARY)


def _raced(
    contestants: Sequence[Contestant], loads: Sequence[tuple[Load, int]], vocab_size: int, found: dict[str, float]
) -> list[Result]:
    results = []
    with bar("timing", len(contestants) * sum(rounds for _, rounds in loads)) as shown:
        for load, rounds in loads:
            results += race(
                contestants, load, rounds, vocab_size, found, lambda note: shown.update(shown.done + 1, note)
            )
    return results


def _first_answers(contestants: Sequence[Contestant], threads: int, rounds: int) -> list[dict[str, Any]]:
    # What PyTorch does first depends neither on how it attends nor on what it rounds to.
    once = {(c.model, c.engine.replace("torch-eager", "torch-sdpa").replace("bf16", "sdpa")): c for c in contestants}
    times: dict[tuple[str, str], list[First]] = {key: [] for key in once}
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
            "megabytes": max(first.bytes for first in found) / 1e6,
            "disk": once[model, engine].bytes / 1e6,
        }
        for (model, engine), found in times.items()
    ]
