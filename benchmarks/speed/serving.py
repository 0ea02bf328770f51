"""How fast `bort serve` answers over HTTP, compared with the bare predictor and with what users would write instead.

    python -m benchmarks.speed.serving --seconds 10 --rounds 3

Needs `wrk` and, for one of the rivals, `pip install litserve`. The server has one core and one thread, and the clients
have another core, so that they do not slow each other down. All run in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.common import FOLDER, Benchmark, Shown, Target, parser, publish, table

MODELS = ("bort-nano", "bort")
CLIENTS = (1, 8, 64, 256)
SERVERS = {
    "bort": "bort serve",
    "litserve": "LitServe with `bort.Predictor`",
    "fastapi": "FastAPI with `transformers.pipeline`",
}
ALONE = "bort.Predictor, offline"
_BUSY_SHARE = 0.85
_LATER_MS = 2.0
_READY_SECONDS = 1.0
_TEXTS = 2000


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    rounds = settings.rounds
    about = f"""
        Single texts of the demo over HTTP on the loopback interface, from {", ".join(map(str, CLIENTS))} clients, each
        of which waits for an answer before the next request: texts per second and milliseconds, medians of {rounds}
        rounds of {settings.seconds} s, in which all run in turn. int8 in ONNX Runtime, except with
        `transformers.pipeline` (PyTorch in fp32); one core and one thread for each server, the other core for `wrk`.
        Random weights.
    """
    rows, targets = [], []
    for model in MODELS:
        found = figures["models"][model]
        alone = statistics.median(found["alone"]["texts_per_s"])
        rows.append(
            [f"{model}: {ALONE}", "", f"{alone:,.0f}", *(f"{found['alone'][p]:.2f}" for p in ("p50", "p99")), ""]
        )
        for server in found["servers"]:
            for clients in CLIENTS:
                loads = found["servers"][server][str(clients)]
                middle = {name: statistics.median(load[name] for load in loads) for name in loads[0]}
                rows.append(
                    [
                        f"{model}: {SERVERS[server]}",
                        str(clients),
                        f"{middle['texts_per_s']:,.0f}",
                        f"{middle['p50']:.2f}",
                        f"{middle['p99']:.2f}",
                        str(sum(load["lost"] for load in loads)),
                    ]
                )
        own = found["servers"]["bort"]
        busiest = max(statistics.median(load["texts_per_s"] for load in own[str(n)]) for n in CLIENTS)
        lone = statistics.median(load["p99"] for load in own["1"])
        targets += [
            Target(f"{model}, saturated: share of the offline texts per second", busiest / alone, ">=", _BUSY_SHARE),
            Target(
                f"{model}, one client: p99 minus the bare predictor's",
                lone - found["alone"]["p99"],
                "<=",
                _LATER_MS,
                " ms",
            ),
        ]
        if model == "bort-nano":
            targets.append(Target("bort-nano, time from start to ready", found["ready_s"], "<=", _READY_SECONDS, " s"))
    return Shown(
        about, table(["model: server", "clients", "texts/s", "p50 ms", "p99 ms", "lost"], rows), tuple(targets)
    )


BENCHMARK = Benchmark(
    name="serving",
    page="speed",
    title="Serving",
    question="How fast does `bort serve` answer over HTTP?",
    sources=("src/bort/serve", "src/bort/predict"),
    show=show,
)


def texts() -> list[str]:
    """The demo's messages, of natural lengths."""
    from bort.data.tables.examples import read_examples
    from bort.model.checkpoints import example_data

    folder = example_data("support")
    return [one.text for part in ("train", "dev", "test") for one in read_examples(str(folder / f"{part}.jsonl"))]


def write_models(model: str, work: Path) -> tuple[Path, Path]:
    """A classifier as a PyTorch folder, and exported in int8."""
    from bort.export.exporter import Exporter
    from bort.speed.contestants import Model

    work.mkdir()
    made = Model(model, work)
    return made.folder, made.export(Exporter(str(made.folder), "onnxruntime"), "onnxruntime-int8")


def alone(folder: Path, asked: list[str]) -> None:
    """Print as JSON the texts per second of a list and the milliseconds of single texts. Runs in a separate process."""
    from bort import Predictor

    predictor = Predictor(str(folder), threads=1)
    predictor.predict(asked)
    begun = time.perf_counter()
    predictor.predict(asked)
    whole = time.perf_counter() - begun
    single = []
    for text in asked[:1000]:
        begun = time.perf_counter()
        predictor.predict(text)
        single.append(1000 * (time.perf_counter() - begun))
    cuts = statistics.quantiles(single, n=100)
    print(json.dumps({"texts_per_s": len(asked) / whole, "p50": cuts[49], "p99": cuts[98]}))


@contextmanager
def serving(server: str, torch: Path, exported: Path) -> Iterator[tuple[int, float]]:
    """A running server on the first core: its port, and the seconds from start to ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = ["-m", "bort", "serve", str(exported), "--threads", "1", "--port", str(port), "--no-access-log"]
    peer = ["-m", f"benchmarks.speed.serving_{server}", str(torch if server == "fastapi" else exported), str(port)]
    begun = time.monotonic()
    process = subprocess.Popen(
        ["taskset", "-c", "0", sys.executable, *(own if server == "bort" else peer)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not _answers(port):
            if process.poll() is not None or time.monotonic() - begun > 120:
                raise RuntimeError(f"{server} does not start")
            time.sleep(0.005)
        yield port, time.monotonic() - begun
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(port: int) -> bool:
    body = json.dumps({"inputs": "Is anybody there?"}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict", body, {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status == 200
    except (OSError, urllib.error.URLError):
        return False


def load(port: int, clients: int, seconds: float, bodies: Path) -> dict[str, float]:
    """What `wrk` measures from the second core."""
    done = subprocess.run(
        [
            "taskset",
            "-c",
            "1",
            "wrk",
            "-t1",
            f"-c{clients}",
            f"-d{seconds:g}s",
            "--timeout",
            "30s",
            "-s",
            str(FOLDER / "speed" / "serving.lua"),
            f"http://127.0.0.1:{port}",
        ],
        env={**os.environ, "TEXTS": str(bodies)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(re.findall(r"^{.*}$", done.stdout, re.MULTILINE)[-1])
    return {
        "texts_per_s": 1e6 * found["requests"] / found["microseconds"],
        **{name: found[name] / 1000 for name in ("p50", "p95", "p99")},
        "lost": found["lost"],
    }


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--seconds", type=float, default=10)
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    arguments = made.parse_args()
    asked = (texts() * (_TEXTS // len(texts()) + 1))[:_TEXTS]
    if arguments.alone:
        return alone(arguments.alone, asked)
    if not shutil.which("wrk"):
        sys.exit("needs wrk")
    servers = [server for server in SERVERS if server != "litserve" or find_spec("litserve")]
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        bodies = Path(folder) / "bodies.jsonl"
        bodies.write_text("".join(json.dumps({"inputs": text}) + "\n" for text in asked), "utf-8")
        for model in MODELS:
            torch, exported = write_models(model, Path(folder) / model)
            offline: list[dict[str, float]] = []
            ready: list[float] = []
            found: dict[str, dict[str, list[dict[str, float]]]] = {
                name: {str(n): [] for n in CLIENTS} for name in servers
            }
            for _ in range(arguments.rounds):
                line = subprocess.run(
                    ["taskset", "-c", "0", sys.executable, "-m", "benchmarks.speed.serving", "--alone", str(exported)],
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout
                offline.append(json.loads(line))
                for server in servers:
                    with serving(server, torch, exported) as (port, seconds):
                        if server == "bort":
                            ready.append(seconds)
                        load(port, 8, 1, bodies)
                        for clients in CLIENTS:
                            measured = load(port, clients, arguments.seconds, bodies)
                            found[server][str(clients)].append(measured)
                            print(model, server, clients, {k: round(v, 2) for k, v in measured.items()}, flush=True)
            figures[model] = {
                "alone": {
                    **{name: statistics.median(line[name] for line in offline) for name in ("p50", "p99")},
                    "texts_per_s": [line["texts_per_s"] for line in offline],
                },
                "ready_s": statistics.median(ready),
                "servers": found,
            }
    del arguments.alone
    publish(BENCHMARK, {"models": figures}, arguments)


if __name__ == "__main__":
    main()
