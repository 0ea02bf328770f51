"""Whether `bort serve` holds up at saturation: no lost answers, no wrong ones, and no growing memory.

    python -m benchmarks.speed.serving_soak --minutes 60

Clients send single texts and batches without a pause; each answer is compared with `bort.Predictor`'s. The machine need
not be idle: the benchmark counts and does not time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import Benchmark, Shown, Target, parser, publish, table
from benchmarks.speed.serving import texts, write_models

_NEAR = 1e-6
_MOST_GROWTH = 1.05
_MOST_TEXTS = 8
_SAMPLE_SECONDS = 5.0


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    about = f"""
        {settings.clients} clients queried bort-nano (int8, ONNX Runtime, one thread, random weights) for
        {figures["seconds"] / 60:.0f} minutes without a pause: the demo's messages, one or up to {_MOST_TEXTS} at a
        time, on persistent connections. Each answer was compared with `bort.Predictor`'s. Memory is the resident size
        of the server's process: the median of the second tenth of the time, and of the last.
    """
    rows = [
        [f"{figures[name]:,.0f}" for name in ("requests", "texts", "lost", "wrong")]
        + [f"{figures['memory'][place] / 2**20:,.1f}" for place in ("second", "last")]
    ]
    targets = (
        Target("answers lost", figures["lost"], "<=", 0),
        Target("answers that are wrong", figures["wrong"], "<=", 0),
        Target("requests", figures["requests"], ">=", 100_000),
        Target("memory, end relative to beginning", _growth(figures), "<=", _MOST_GROWTH),
    )
    return Shown(about, table(["requests", "texts", "lost", "wrong", "MB, beginning", "MB, end"], rows), targets)


def _growth(figures: dict[str, Any]) -> float:
    return float(figures["memory"]["last"] / figures["memory"]["second"])


BENCHMARK = Benchmark(
    name="serving_soak",
    page="speed",
    title="Serving for an hour",
    question="Does the server lose answers, give wrong ones, or use more and more memory?",
    sources=("src/bort/serve",),
    show=show,
)


class Counts:
    """Requests by outcome."""

    def __init__(self) -> None:
        self.requests = self.texts = self.lost = self.wrong = 0


async def ask(port: int, number: int, expected: dict[str, dict[str, float]], until: float, counts: Counts) -> None:
    """One client: sends requests without a pause, and reconnects if a connection breaks."""
    rng, known = random.Random(number), sorted(expected)
    while time.monotonic() < until:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while time.monotonic() < until:
                count = rng.choice((1, 1, 1, rng.randint(2, _MOST_TEXTS)))
                asked = [rng.choice(known) for _ in range(count)]
                body = json.dumps({"inputs": asked[0] if count == 1 else [[text] for text in asked]}).encode()
                counts.requests += 1
                counts.texts += count
                writer.write(
                    b"POST /predict HTTP/1.1\r\nHost: l\r\nContent-Type: application/json\r\n"
                    + b"Content-Length: %d\r\n\r\n" % len(body)
                    + body
                )
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = int(head.partition("content-length:")[2].split(maxsplit=1)[0])
                answer = json.loads(await reader.readexactly(length))
                if " 200 " not in head.partition("\r\n")[0]:
                    counts.lost += 1
                    continue
                answers = [answer] if count == 1 else answer
                right = len(answers) == count and all(
                    _same(one, expected[text]) for one, text in zip(answers, asked, strict=True)
                )
                counts.wrong += not right
        except (OSError, asyncio.IncompleteReadError):
            counts.lost += 1
        finally:
            writer.close()


def _same(answer: list[dict[str, Any]], expected: dict[str, float]) -> bool:
    found = {one["label"]: one["score"] for one in answer}
    return found.keys() == expected.keys() and all(
        math.isclose(found[label], score, abs_tol=_NEAR) for label, score in expected.items()
    )


async def soak(port: int, process: psutil.Process, expected: Any, seconds: float, clients: int) -> dict[str, Any]:
    """Run the clients for some time, and monitor the server's memory."""
    counts, begun, sizes = Counts(), time.monotonic(), list[int]()

    async def watch() -> None:
        while True:
            sizes.append(process.memory_info().rss)
            await asyncio.sleep(min(_SAMPLE_SECONDS, seconds / 50))
            print(f"{time.monotonic() - begun:6.0f} s {vars(counts)} {sizes[-1] >> 20} MB", flush=True)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(ask(port, number, expected, begun + seconds, counts) for number in range(clients)))
    watching.cancel()
    tenth = max(1, len(sizes) // 10)
    memory = {"second": statistics.median(sizes[tenth : 2 * tenth]), "last": statistics.median(sizes[-tenth:])}
    return {**vars(counts), "seconds": time.monotonic() - begun, "memory": memory}


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--minutes", type=float, default=60)
    made.add_argument("--clients", type=int, default=32)
    arguments = made.parse_args()
    from bort import Predictor

    with tempfile.TemporaryDirectory() as folder:
        _, exported = write_models("bort-nano", Path(folder) / "model")
        asked = texts()
        answers = Predictor(str(exported), threads=1).predict(asked)
        expected = {text: answer.probabilities for text, answer in zip(asked, answers, strict=True)}
        line = [sys.executable, "-m", "bort", "serve", str(exported), "--threads", "1", "--port", "0"]
        with subprocess.Popen([*line, "--no-access-log"], stderr=subprocess.PIPE, text=True) as server:
            assert server.stderr is not None
            ready = next(line for line in server.stderr if "ready on" in line)
            port = int(ready.partition("ready on http://")[2].partition(":")[2].partition(":")[0])
            try:
                figures = asyncio.run(
                    soak(port, psutil.Process(server.pid), expected, 60 * arguments.minutes, arguments.clients)
                )
            finally:
                server.terminate()
    publish(BENCHMARK, figures, arguments)


if __name__ == "__main__":
    main()
