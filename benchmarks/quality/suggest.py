"""Which texts to label next: the choice of `bort suggest`, compared with random choice.

    python -m benchmarks.quality.suggest --data scarce

Each task is a folder with train, dev and test.jsonl. Some texts of train and dev are sampled as labelled. Then each
method chooses more of the other texts, their labels are revealed, and a linear head on bort-nano's frozen features is
fitted to all. Only that head scores the test data. With the same seed, all methods start with the same texts. The
method of `bort suggest` was chosen on other tasks, and on train and dev of these.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Benchmark, Shown, Target, parser, publish, table
from benchmarks.quality.rivals import difference, overall, percent
from benchmarks.quality.scarce import TASKS, parts_of

NOTHING, RANDOM, UNSURE, OURS = "nothing more", "random", "least sure", "bort suggest"
BETTER_ON = 4
"""The number of tasks, of five, on which it must beat random choice."""


class Reader:
    """Features and targets of a task, read once."""

    def __init__(self, folder: Path, model: str, c: float) -> None:
        from bort.data.tables.examples import read_examples
        from bort.data.tables.labels import label_names
        from bort.inspection.vectors import head_features, side_vectors
        from bort.predict.encoder import Encoder, of_length_1
        from bort.tasks.kinds import task_of

        train, dev, test = (read_examples(file) for file in parts_of(folder).values())
        everything = [*train, *dev, *test]
        self.task = task_of(everything, kind="classification", names=label_names(everything))
        with Encoder(model, threads=1) as encoder:
            features = head_features(side_vectors(everything, encoder))
        self.c, count = c, len(train) + len(dev)
        self.known, self.test = features[:count], features[count:]
        self.vectors = of_length_1(self.known)
        self.targets, self.truth = self.task.targets([*train, *dev]), self.task.targets(test)

    def logits(self, rows: Any, features: Any) -> Any:
        """Logits of a head fitted to these rows. *Shape:* (examples, classes)."""
        from bort.finetuning.linear_head import fit_weights

        weight, bias = fit_weights(self.known[rows], self.targets[rows], self.task, self.c)
        return features @ weight.T + bias

    def score(self, rows: Any) -> float:
        """Test accuracy of a head fitted to these rows."""
        return float((self.logits(rows, self.test).argmax(1) == self.truth).mean())


def scores(read: Reader, start: int, count: int, draws: int, seed: int) -> dict[str, float]:
    """Test accuracy after each choice, for one start."""
    from bort.inspection.choose import choose_texts, uncertainty

    rng = np.random.default_rng(seed)
    order = rng.permutation(len(read.targets))
    labelled, pool = order[:start], order[start:]
    unsure = uncertainty(np.exp(read.task.says(read.logits(labelled, read.known[pool]))))
    ours = choose_texts(read.vectors[pool], unsure, count, labelled=read.vectors[labelled])
    least = np.argsort(-unsure, kind="stable")[:count]
    drawn = [rng.permutation(len(pool))[:count] for _ in range(draws)]

    def after(places: Any) -> float:
        return read.score(np.concatenate([labelled, pool[np.asarray(places, np.int64)]]))

    return {
        NOTHING: after([]),
        RANDOM: statistics.mean(map(after, drawn)),
        UNSURE: after(least),
        OURS: after(ours),
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All scores by task, then by choice, one per seed; and the size of each pool."""
    found: dict[str, Any] = {"test": {}, "pool": {}}
    for task in arguments.tasks:
        began = time.perf_counter()
        read = Reader(arguments.data / task, arguments.model, arguments.c)
        runs = [scores(read, arguments.start, arguments.count, arguments.draws, seed) for seed in arguments.seeds]
        found["test"][task] = {name: [run[name] for run in runs] for name in runs[0]}
        found["pool"][task] = len(read.targets) - arguments.start
        means = ", ".join(f"{name} {percent(values)}" for name, values in found["test"][task].items())
        print(f"{task}: {means} ({time.perf_counter() - began:.0f} s)", flush=True)
    return found


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    test = figures["test"]
    by_choice = {name: {task: runs[name] for task, runs in test.items()} for name in (NOTHING, RANDOM, UNSURE, OURS)}
    gains = {task: difference({task: runs[OURS]}, {task: runs[RANDOM]}) for task, runs in test.items()}
    rows = [
        [
            f"{task} ({figures['pool'][task]})",
            *(percent(by_choice[name][task]) for name in by_choice),
            _gain(*gains[task]),
        ]
        for task in test
    ]
    gain, error = difference(by_choice[OURS], by_choice[RANDOM])
    rows.append(["mean", *(f"{overall(values):.1f}" for values in by_choice.values()), _gain(gain, error)])
    head = ["test accuracy in % (texts to choose from)", *by_choice, "bort suggest - random"]
    against = difference(by_choice[OURS], by_choice[UNSURE])
    about = f"""
        Logistic regression (C {settings.c:g}) on {Path(settings.model).name}'s frozen features, fitted to
        {settings.start} labels sampled at random and {settings.count} more, chosen from the rest of train and dev: at
        random (mean of {settings.draws} draws), those that the head of the first labels is least sure of (smallest
        margin), or by `bort suggest`. Means of {len(settings.seeds)} starts, the same for all choices; differences with
        their standard error over starts, for these tasks. `bort suggest` differs by {_gain(*against)} points from the
        least sure texts. Its method was chosen on other tasks, and on train and dev of these.
    """
    better = sum(points > 0 for points, _ in gains.values())
    return Shown(
        about,
        table(head, rows),
        (
            Target("tasks on which bort suggest beats random choice", better, ">=", BETTER_ON),
            Target("points above random choice, mean of the tasks", gain, ">=", 0.0, error=error),
        ),
    )


def _gain(points: float, error: float | None) -> str:
    return f"{points:+.1f}" + ("" if error is None else f" ± {error:.1f}")


BENCHMARK = Benchmark(
    name="suggest",
    page="nano",
    title="Which texts to label next",
    question="Are labels worth more on texts that `bort suggest` chooses than on texts sampled at random?",
    sources=("src/bort/inspection/choose.py", "src/bort/finetuning/linear_head.py", "src/bort/assets/bort-nano"),
    show=show,
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, required=True, help="folder with a folder for each task")
    made.add_argument("--tasks", nargs="+", default=list(TASKS))
    made.add_argument("--model", default="bort-nano")
    made.add_argument("--start", type=int, default=50, help="labels at the start")
    made.add_argument("--count", type=int, default=50, help="labels to add")
    made.add_argument("--c", type=float, default=10.0, help="inverse regularisation of the heads")
    made.add_argument("--draws", type=int, default=5, help="random choices for each start")
    made.add_argument("--seeds", type=int, nargs="+", default=list(range(20)), help="starts")
    arguments = made.parse_args()
    publish(BENCHMARK, measure(arguments), arguments)


if __name__ == "__main__":
    main()
