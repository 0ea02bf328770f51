"""Where the time goes: both engines by operator, for `bort` and bort-nano.

    python -m benchmarks.speed.inference --only prepare   # exports the models
    python -m benchmarks.speed.profile

ONNX Runtime's profiler and OpenVINO's counters time each operator, which slows small operators. It uses one thread, so
that times are work and not waiting.
"""

from __future__ import annotations

import argparse
import collections
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import Benchmark, Shown, parser, publish, table
from benchmarks.speed.inference import OWN

ENGINES = ("onnxruntime-fp32", "onnxruntime-int8", "openvino-fp32", "openvino-int8")
LEAST_SHARE = 0.02
"""Operators that take less are grouped."""
PRODUCTS = ("MatMul", "Attention", "QAttention", "Gemm", "FullyConnected", "MultiHeadAttention")
"""Prefixes of operators that spend all or most of their time in matrix products."""
Times = dict[str, float]
"""Milliseconds by operator."""


def onnx_times(folder: Path, feeds: list[Mapping[str, Any]], rounds: int) -> Times:
    """Times in ONNX Runtime for a round of all batches."""
    import onnxruntime

    from bort.predict.manifest import read_manifest

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as work:
        options.profile_file_prefix = str(Path(work) / "profile")
        model = str(folder / read_manifest(folder).graphs[0].model)
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        _repeat(lambda feed: session.run(None, feed), feeds, rounds + 1)
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    kernels = kernels[len(kernels) // (rounds + 1) :]  # the first round is a warm-up
    found: Times = collections.defaultdict(float)
    for event in kernels:
        found[event["args"]["op_name"]] += event["dur"] / 1000 / rounds
    return dict(found)


def openvino_times(folder: Path, feeds: list[Mapping[str, Any]], rounds: int) -> Times:
    """Times in OpenVINO for a round of all batches."""
    from bort.predict.manifest import read_manifest
    from bort.predict.openvino_runner import OpenVinoRunner, compile_settings, load_openvino

    openvino, manifest = load_openvino(folder), read_manifest(folder)
    runner = OpenVinoRunner(folder, manifest, manifest.graphs[0], 1)
    settings = compile_settings(1, shared=True) | {"PERF_COUNT": True}
    request = openvino.Core().compile_model(runner.model(), "CPU", settings).create_infer_request()
    found: Times = collections.defaultdict(float)
    _repeat(request.infer, feeds, 1)
    for _ in range(rounds):
        for feed in feeds:
            request.infer(feed)
            for counter in request.get_profiling_info():
                found[f"{counter.node_type} {counter.exec_type}"] += counter.real_time.total_seconds() * 1000 / rounds
    return dict(found)


def whole(folder: Path, feeds: list[Mapping[str, Any]], rounds: int) -> float:
    """Milliseconds of the fastest round without a profiler."""
    from bort.predict.engine import open_exported

    compute = open_exported(folder, 1).runners[0].opened(shared=True)
    _repeat(compute, feeds, 1)
    least = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        _repeat(compute, feeds, 1)
        least = min(least, 1000 * (time.perf_counter() - started))
    return least


def _repeat(compute: Callable[[Any], Any], feeds: list[Mapping[str, Any]], rounds: int) -> None:
    for _ in range(rounds):
        for feed in feeds:
            compute(feed)


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    rows, shares_of_products = [], []
    for one in figures["profiles"]:
        total = sum(one["times"].values())
        shares = sorted(((ms / total, name) for name, ms in one["times"].items()), reverse=True)
        shown = [f"{name} {share:.0%}" for share, name in shares if share >= LEAST_SHARE]
        rest = sum(share for share, _ in shares if share < LEAST_SHARE)
        products = sum(ms for name, ms in one["times"].items() if name.startswith(PRODUCTS))
        shares_of_products.append(100 * products / total)
        rows.append([f"{one['model']}, {one['engine']}, {one['load']}", f"{one['ms']:.3g}", f"{total:.3g}",
                     f"{total / products:.2f}", "; ".join([*shown, f"others {rest:.0%}"])])  # fmt: skip
    about = f"""
        One thread, {settings.rounds} rounds. "ms" is a round without a profiler, "timed" the sum of all operators with
        it. "At most" is the speed-up if everything but the matrix products took no time; attention counts as a product.
        Natural lengths: {settings.texts} texts, one at a time. Random weights.
    """
    figure = f"matrix products: {min(shares_of_products):.0f} to {max(shares_of_products):.0f} % of the time"
    return Shown(about, table(["model, engine and load", "ms", "timed", "at most", "operators"], rows), figure=figure)


BENCHMARK = Benchmark(
    name="profile",
    page="speed",
    title="Where the time goes",
    question="Which operators take the most time in `bort` and bort-nano?",
    sources=("src/bort/predict/graph", "src/bort/export"),
    show=show,
)


def main() -> None:
    from bort.predict.engine import open_exported
    from bort.predict.exported_engine import ExportedEngine
    from bort.speed.race import Load, fixed, natural

    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=20)
    made.add_argument("--texts", type=int, default=32)
    made.add_argument("--models", nargs="+", default=OWN)
    made.add_argument("--engines", nargs="+", default=ENGINES)
    made.add_argument("--work", type=Path, default=Path("build/inference"))
    arguments = made.parse_args()

    def feeds(engine: ExportedEngine, load: Load) -> list[Mapping[str, Any]]:
        types = "token_type_ids" in engine.manifest.inputs
        return [engine.batch(one.tokens_of(1000, types=types), range(len(one.lengths))) for one in load.lists]

    profiles = []
    for model in arguments.models:
        for engine in arguments.engines:
            folder = arguments.work / "models" / model / engine
            opened = open_exported(folder, 1)
            timed = onnx_times if engine.startswith("onnxruntime") else openvino_times
            for load in (fixed(1, 16), fixed(1, 128), natural(arguments.texts, at_once=1)):
                asked = feeds(opened, load)
                ms = whole(folder, asked, arguments.rounds)
                times = timed(folder, asked, arguments.rounds)
                profiles.append({"model": model, "engine": engine, "load": load.name, "ms": ms, "times": times})
                print(model, engine, load.name, flush=True)
    publish(BENCHMARK, {"profiles": profiles}, arguments)


if __name__ == "__main__":
    main()
