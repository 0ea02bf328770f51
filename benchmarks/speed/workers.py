"""What two Ray workers with one core each gain over one core in this process, and their overhead per trial.

    python -m benchmarks.speed.workers --corpus ../shared/corpus/simplewiki.txt.xz

It runs an OSE search of 16 candidates and the first Agora round of 8 combinations, each in this process on one thread
and on a Ray cluster of two one-core nodes, which the benchmark starts and stops. Needs two free cores and `bort[ray]`.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.common import FOLDER, Benchmark, Shown, Target, parser, publish, table
from bort.speed.race import Spread
from bort.workers import LOCAL, Needs, TrialResult, Workers, open_workers

SPACE = "depth: [1, 2, 3, 4]\nheads: [4]\nhidden: [128, 256]\nintermediate: [256, 768]\n"
"""16 members, all of them candidates: the maximum point lies outside."""
MAXIMUM = "4,4,256,1024"
WORKERS = 2


@dataclass(frozen=True)
class Span:
    """When a trial ran, by the clock that all processes of a machine share, and in which process."""

    process: int
    began: float
    ended: float


@dataclass
class Measured:
    """One `map`: when it began and ended, and its trials."""

    began: float
    ended: float = 0.0
    spans: list[Span] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)

    @property
    def wall(self) -> float:
        """Total seconds, including the start of the workers."""
        return self.ended - self.began

    @property
    def inside(self) -> float:
        """Total seconds of the trials themselves."""
        return sum(span.ended - span.began for span in self.spans)

    @property
    def start(self) -> float:
        """Seconds until a worker's first trial begins, on average."""
        return mean(min(span.began for span in spans) - self.began for spans in self._by_process())

    @property
    def gaps(self) -> list[float]:
        """Seconds between two trials on the same worker: the overhead of a trial."""
        return [
            after.began - before.ended for spans in self._by_process() for before, after in itertools.pairwise(spans)
        ]

    def _by_process(self) -> list[list[Span]]:
        ordered = sorted(self.spans, key=lambda span: span.began)
        return [[s for s in ordered if s.process == process] for process in {s.process for s in ordered}]


@dataclass(frozen=True)
class Watched:
    """A trial that records when it ran."""

    function: Callable[[Any], Any]

    def __call__(self, item: Any) -> tuple[Any, Span]:
        began = time.time()
        value = self.function(item)
        return value, Span(os.getpid(), began, time.time())


class Enough(Exception):
    """The measured round is over."""


class Stopwatch:
    """Workers whose trials are timed; stops before a second round.

    Args:
        workers: The workers that run the trials.
    """

    def __init__(self, workers: Workers) -> None:
        self.workers, self.sees_files = workers, workers.sees_files
        self.measured: Measured | None = None

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[TrialResult]:
        if self.measured is not None:
            raise Enough
        self.measured = Measured(time.time())
        for result in self.workers.map(Watched(function), items):
            if result.error is not None:
                raise result.error
            value, span = result.value
            self.measured.spans.append(span)
            self.measured.answers.append((result.place, answer(value)))
            yield replace(result, value=value)
        self.measured.ended = time.time()


def answer(value: Any) -> float:
    """What must be the same wherever the trial ran."""
    return float(value.error if hasattr(value, "error") else value.score)


@contextmanager
def cluster() -> Iterator[str]:
    """Two nodes of one core each, in the form that `--workers` takes."""
    # No usage statistics, and its processes have the same priority as this one.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 256 * 2**20}
    nodes = Cluster(initialize_head=True, head_node_args=node)
    try:
        for _ in range(WORKERS - 1):
            nodes.add_node(**node)
        yield str(nodes.address)
    finally:
        nodes.shutdown()


def search(arguments: argparse.Namespace, scratch: Path, out: Path, workers: Workers) -> None:
    """An OSE search; what precedes its trials is done once and kept in `scratch`."""
    from bort.ose.arguments import ExtractArguments
    from bort.ose.extract import extract

    (scratch / "space.yaml").write_text(SPACE)
    settings = ExtractArguments(
        corpus=[str(arguments.corpus)],
        corpus_cache=str(scratch / "corpus"),
        teacher_cache=str(scratch / "teacher"),
        teacher="bort-nano",
        maximum=MAXIMUM,
        space=str(scratch / "space.yaml"),
        steps=arguments.steps,
        learning_rates=[1e-3],
        precision="fp32",
        out=str(out),
    )
    extract(settings, workers=workers)


def agora(arguments: argparse.Namespace, scratch: Path, out: Path, workers: Workers) -> None:
    """The first round of Agora."""
    from bort.agora.run import finetune
    from bort.finetuning.arguments import FinetuneArguments

    settings = FinetuneArguments(
        train=str(arguments.data / "train.jsonl"),
        dev=str(arguments.data / "dev.jsonl"),
        test=str(arguments.data / "test.jsonl"),
        learning_rates=[1e-3, 5e-4, 3e-4, 1e-4],
        seeds=[0, 1],
        batch_sizes=[16],
        max_epochs=arguments.epochs,
        patience=arguments.epochs,
        precision="fp32",
        out=str(out),
    )
    with suppress(Enough):
        finetune(settings, workers=workers)


JOBS = {"an OSE search of 16 candidates": search, "an Agora round of 8 combinations": agora}


def once(job: Callable[..., None], arguments: argparse.Namespace, scratch: Path, where: str) -> Measured:
    """Run a job in a folder of its own."""
    with tempfile.TemporaryDirectory(dir=scratch) as out, open_workers(where, Needs()) as workers:
        watch = Stopwatch(workers)
        job(arguments, scratch, Path(out) / "run", watch)
    assert watch.measured is not None
    return watch.measured


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    about = f"""
        Wall-clock time of the trials, medians (ranges) of {settings.rounds}
        run{"s in turn" if settings.rounds > 1 else ""}: in this process on one thread, and on a Ray cluster of two
        one-core nodes on the same machine. Efficiency is the time in this process divided by twice the time on the
        cluster. Start is the time until a worker's first trial begins, in a new process that imports everything. The
        overhead is the time between two trials on the same worker: the result goes to the command, which writes it to
        the journal and sends the next trial. "Trials' own time" is that on the cluster relative to this process: how
        much two busy cores slow each other down. A candidate trains for {settings.steps} steps of 32 rows of 128
        tokens, a combination for {settings.epochs} epochs on the 84 texts of examples/support. n = {settings.rounds}.
    """
    rows, targets = [], []
    for name, kinds in figures.items():
        here, ray = kinds["here"], kinds["ray"]
        efficiencies = [one["wall"] / (WORKERS * other["wall"]) for one, other in zip(here, ray, strict=True)]
        gaps = [gap for run in ray for gap in run["gaps"]]
        own = [median(sum(run["trials"]) for run in kind) for kind in (ray, here)]
        rows.append(
            [
                name,
                Spread.of([run["wall"] for run in here]).show(1),
                Spread.of([run["wall"] for run in ray]).show(1),
                Spread.of(efficiencies).show(2),
                f"{median(run['start'] for run in ray):.1f}",
                f"{1000 * mean(gaps):.1f}",
                f"{1000 * max(gaps):.1f}",
                f"{own[0] / own[1]:.2f}",
                {True: "yes", False: "**no**"}[kinds["same"]],
            ]
        )
        targets.append(Target(f"{name}: efficiency, including the start", median(efficiencies), ">=", 0.85))
        targets.append(Target(f"{name}: overhead per trial", 1000 * mean(gaps), "<=", 50, " ms"))
    head = ["", "one process, s", "two workers, s", "efficiency", "start, s", "overhead per trial, ms", "at most, ms"]
    head += ["trials' own time", "same results"]
    return Shown(about, table(head, rows), tuple(targets))


BENCHMARK = Benchmark(
    name="workers",
    page="speed",
    title="Trials on two workers",
    question="How well do trials scale to two Ray workers?",
    sources=("src/bort/workers.py", "src/bort/ose", "src/bort/agora", "src/bort/finetuning"),
    show=show,
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--corpus", type=Path, default=Path("../shared/corpus/simplewiki.txt.xz"))
    made.add_argument("--data", type=Path, default=FOLDER.parent / "examples" / "support")
    made.add_argument("--rounds", type=int, default=3, help="measurements of each, in turn")
    made.add_argument("--steps", type=int, default=100, help="training steps of a candidate")
    made.add_argument("--epochs", type=int, default=40, help="epochs of a combination")
    arguments = made.parse_args()

    import torch

    torch.set_num_threads(1)
    found: dict[str, dict[str, list[Measured]]] = {name: {"here": [], "ray": []} for name in JOBS}
    with tempfile.TemporaryDirectory() as folder, cluster() as address:
        for _ in range(arguments.rounds):
            for name, job in JOBS.items():
                for kind, where in (("here", LOCAL), ("ray", address)):
                    found[name][kind].append(once(job, arguments, Path(folder), where))
    figures: dict[str, Any] = {}
    for name, kinds in found.items():
        answers = [sorted(measured.answers) for runs in kinds.values() for measured in runs]
        figures[name] = {"same": all(other == answers[0] for other in answers)} | {
            kind: [
                {"wall": m.wall, "start": m.start, "gaps": m.gaps, "trials": [s.ended - s.began for s in m.spans]}
                for m in runs
            ]
            for kind, runs in kinds.items()
        }
    publish(BENCHMARK, figures, arguments)


if __name__ == "__main__":
    main()
