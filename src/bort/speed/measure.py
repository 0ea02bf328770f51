"""From names of models to figures."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bort.errors import BortError
from bort.export.onnx_graph import Graph
from bort.export.quantization import per_channel
from bort.predict.onnx_engine import open_session
from bort.progress import bar
from bort.runs import environment
from bort.speed.contestants import ENGINES, Contestant, Model, precision
from bort.speed.models import Load
from bort.speed.race import Spread, Timing, described, like_for_like, race, take_turns

_SIZES = ((512, 1024, 1024), (1024, 2048, 1024))


_ROUNDS = 10


def peaks(threads: int, precisions: Collection[str] = ("fp32", "int8")) -> dict[str, float]:
    """Additions and multiplications a second of the fastest of some matrix products.

    Args:
        threads: That compute.
        precisions: Which; where the processor has no instructions for bf16, its product takes very long.

    Returns:
        By precision: "fp32" and "bf16" by PyTorch's product or, if that is faster, ONNX Runtime's; "int8" by ONNX
        Runtime's product of whole numbers.
    """
    import torch

    torch.set_num_threads(threads)
    functions: dict[tuple[str, str, int], Any] = {}
    with tempfile.TemporaryDirectory() as work:
        for rows, inner, columns in _SIZES:
            operations = 2 * rows * inner * columns
            first, second = torch.randn(rows, inner), torch.randn(inner, columns)
            for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
                if precision in precisions:
                    a, b = first.to(dtype), second.to(dtype)
                    functions[precision, "torch", operations] = lambda a=a, b=b: a @ b
            for precision in {"fp32", "int8"} & set(precisions):
                folder = Path(work) / f"{precision}-{operations}"
                folder.mkdir()
                session = _product(folder, second.numpy(), precision, threads)
                given = first.numpy() if precision == "fp32" else np.ones((rows, inner), np.uint8)
                functions[precision, "onnxruntime", operations] = lambda s=session, g=given: s.run(None, {"values": g})
        seconds = take_turns(functions, _ROUNDS)
    found: dict[str, float] = {}
    for (precision, _, operations), times in seconds.items():
        found[precision] = max(found.get(precision, 0.0), operations / min(times))
    return found


def _product(folder: Path, matrix: Any, precision: str, threads: int) -> Any:
    graph = Graph()
    if precision == "fp32":
        graph.add("MatMul", ["values", graph.weight("matrix", matrix)], name="product")
        given = "float32"
    else:
        whole, scales = per_channel(matrix, axis=1)
        scale = graph.weight("scale", np.asarray(0.01, np.float32))
        zero = graph.weight("zero", np.asarray(128, np.uint8))
        inputs = ["values", graph.weight("matrix", whole), scale, graph.weight("scales", scales), zero]
        graph.add("MatMulIntegerToFloat", inputs, name="product")
        given = "uint8"
    graph.write(folder / "model.onnx", {"values": ("rows", "inner")}, {"product": ("rows", "columns")}, dtype=given)
    return open_session(folder, (folder / "model.onnx").read_bytes(), threads)


_CODE = """
import sys
from bort import Predictor
Predictor(sys.argv[1], threads=int(sys.argv[2])).predict(["A first answer is what a small model owes its user."])
try:  # the resource module would count what the parent had when it forked
    most = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
except OSError:
    import resource
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
print(1024 * most, flush=True)
"""


@dataclass(frozen=True)
class First:
    """A first answer.

    Args:
        seconds: From the start of the process to its answer.
        bytes: Most that lay in memory until then.
    """

    seconds: float
    bytes: int


def first_answer(folder: Path, threads: int) -> First:
    """Start a process that answers one text.

    Raises:
        BortError: It failed.
    """
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", _CODE, str(folder), str(threads)],
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
    return First(seconds, int(line))


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
) -> list[Timing]:
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
