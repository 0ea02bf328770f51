"""Does the polynomial of measured times rank members as their own timings do?

    python -m benchmarks.quality.ose_times

Some members are timed and a polynomial is fitted; 20 other members, drawn by chance, are timed and compared with what
it says of them.
"""

from __future__ import annotations

import random
import statistics

from scipy.stats import spearmanr

from benchmarks.common import Target, parser, publish, table
from bort.ose.arguments import ExtractArguments
from bort.ose.cost import fit_polynomial, operations, sample
from bort.ose.plan import measure
from bort.ose.space import SPACES

OTHERS = 20


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--space", default="nano", choices=list(SPACES))
    made.add_argument("--timed", type=int, default=24, help="members that the polynomial is fitted to")
    made.add_argument("--batch_size", type=int, default=1)
    made.add_argument("--sequence_length", type=int, default=128)
    made.add_argument("--vocab_size", type=int, default=16_384)
    given = made.parse_args()
    settings = ExtractArguments(corpus=[], out="", batch_size=given.batch_size, sequence_length=given.sequence_length)
    members = SPACES[given.space].members
    fitted = sample(members, given.timed)
    others = random.Random(1).sample([member for member in members if member not in fitted], OTHERS)
    # One pass over both, in random order, so that a slow minute of the machine falls on both.
    mixed = random.Random(2).sample([*fitted, *others], len(fitted) + OTHERS)
    timed = measure(mixed, settings, given.vocab_size)
    polynomial = fit_polynomial({shape: timed[shape] for shape in fitted})
    own, said = [timed[shape] for shape in others], [polynomial(shape).total for shape in others]
    counted = [operations(shape, sequence_length=given.sequence_length).total for shape in others]
    rank, by_operations = (float(spearmanr(values, own).statistic) for values in (said, counted))
    errors = [abs(a - b) / b for a, b in zip(said, own, strict=True)]
    rows = [
        [str(shape), f"{ms:.2f}", f"{predicted:.2f}"]
        for ms, predicted, shape in sorted(zip(own, said, others, strict=True))
    ]
    fit = polynomial.fit
    about = f"""
        {given.space} space, {given.batch_size} x {given.sequence_length} tokens, fp32: {fit.members} members timed for
        the polynomial, whose error on members left out of the fit is {100 * fit.mean_error:.1f} % on average and
        {100 * fit.worst_error:.1f} % at most. Beside them {OTHERS} random members: the polynomial is off by
        {100 * statistics.mean(errors):.1f} % on average; rank correlation of counted operations with the timings:
        {by_operations:.3f}.
    """
    publish(
        "ose_times",
        "OSE: measured inference times",
        about=about,
        shown=table(["D,A,H,I", "timed, ms", "polynomial, ms"], rows),
        figures={
            "spearman": rank,
            "spearman_operations": by_operations,
            "mean_error": statistics.mean(errors),
            "polynomial": polynomial.described(),
            "timed": [[list(shape), ms] for shape, ms in timed.items()],
        },
        targets=[Target("rank correlation with the members' own timings", rank, ">=", 0.95)],
        out=given.out,
    )


if __name__ == "__main__":
    main()
