"""Does the polynomial of measured times rank members as their own timings do?

    python -m benchmarks.quality.ose_times

A polynomial is fitted to the times of some members. 20 other members, sampled at random, are timed and compared with
its predictions.
"""

from __future__ import annotations

import argparse
import random
import statistics
from typing import Any

from scipy.stats import spearmanr

from benchmarks.common import Benchmark, Shown, Target, parser, publish, table
from benchmarks.quality.ose import axes, told
from bort.ose.cost import fit_polynomial, operations, sample
from bort.ose.plan import Costs, measure
from bort.ose.space import SPACES, Shape

OTHERS = 20


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    fit = figures["polynomial"]
    former = "" if figures["space"] == axes(SPACES[settings.space]) else " of that time"
    about = f"""
        {settings.space} space{former} ({told(figures["space"])}), {settings.batch_size} x {settings.sequence_length}
        tokens, fp32: {fit["members"]}
        members timed for the polynomial, whose error on members left out of the fit is {100 * fit["mean_error"]:.1f} %
        on average and {100 * fit["worst_error"]:.1f} % at most. On {OTHERS} other random members, the polynomial is off
        by {100 * figures["mean_error"]:.1f} % on average. The rank correlation of counted operations with the timings
        is {figures["spearman_operations"]:.3f}. One pass.
    """
    rows = [[str(Shape(*shape)), f"{own:.2f}", f"{said:.2f}"] for own, said, shape in figures["others"]]
    target = Target("rank correlation with the measured times", figures["spearman"], ">=", 0.95)
    return Shown(about, table(["D,A,H,I", "timed, ms", "polynomial, ms"], rows), (target,))


BENCHMARK = Benchmark(
    name="ose_times",
    page="ose",
    title="Measured inference times",
    question="Does the fitted polynomial rank shapes as their measured inference times do?",
    sources=("src/bort/ose/cost.py", "src/bort/ose/plan.py"),
    show=show,
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--space", default="nano", choices=list(SPACES))
    made.add_argument("--timed", type=int, default=24, help="members that the polynomial is fitted to")
    made.add_argument("--batch-size", type=int, default=1)
    made.add_argument("--sequence-length", type=int, default=128)
    made.add_argument("--vocab-size", type=int, default=16_384)
    given = made.parse_args()
    costs = Costs(given.vocab_size, 512, given.sequence_length, given.batch_size)
    members = SPACES[given.space].members
    fitted = sample(members, given.timed)
    others = random.Random(1).sample([member for member in members if member not in fitted], OTHERS)
    # One pass over both, in random order, so that a slow minute of the machine affects both.
    mixed = random.Random(2).sample([*fitted, *others], len(fitted) + OTHERS)
    timed = measure(mixed, costs)
    polynomial = fit_polynomial({shape: timed[shape] for shape in fitted})
    own, said = [timed[shape] for shape in others], [polynomial(shape).total for shape in others]
    counted = [operations(shape, sequence_length=given.sequence_length).total for shape in others]
    rank, by_operations = (float(spearmanr(values, own).statistic) for values in (said, counted))
    figures = {
        "space": axes(SPACES[given.space]),
        "spearman": rank,
        "spearman_operations": by_operations,
        "mean_error": statistics.mean(abs(a - b) / b for a, b in zip(said, own, strict=True)),
        "polynomial": polynomial.described(),
        "timed": [[list(shape), ms] for shape, ms in timed.items()],
        "others": sorted([ms, predicted, list(shape)] for ms, predicted, shape in zip(own, said, others, strict=True)),
    }
    publish(BENCHMARK, figures, given)


if __name__ == "__main__":
    main()
