"""The paper's search space with counted operations as time, and its published answer. Nothing is trained.

    python -m benchmarks.quality.ose_paper

It shows where ⟨4,8,1024,768⟩ stands in the order of the 300 members, which ε select it, which errors its rivals need
for it to win, and how much of the best W a coarser search finds if errors are smooth.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np
from scipy.optimize import linprog

from benchmarks.common import Benchmark, Shown, parser, publish, table
from bort.ose.cost import operations, parameters
from bort.ose.criteria import Cost, savings
from bort.ose.ordering import Ordering, Ranked, order
from bort.ose.space import SPACES, Shape

SPACE = SPACES["paper"]
PUBLISHED = Shape(4, 8, 1024, 768)
VOCABULARY = 50_265
RIVALS = {
    "least in everything": Shape(2, 4, 512, 256),
    "second shape of the released code": Shape(2, 16, 1024, 512),
    "shape that fits the paper's size": Shape(4, 8, 768, 1024),
    "half the heads": Shape(4, 4, 1024, 768),
    "half the depth": Shape(2, 8, 1024, 768),
    "half the hidden size": Shape(4, 8, 512, 768),
    "a third less intermediate": Shape(4, 8, 1024, 512),
    "BERT-base's depth and heads": Shape(12, 12, 768, 3072),
}
EPSILONS = (1, 2, 5, 10, 20, 50)
INSTANCES = 1000
ROUGHNESS = (0.001, 0.01, 0.05)


def ordered(*, length: int = 128, embeddings: bool = True, maximum: Shape | None = None) -> Ordering[Shape]:
    """The space by p̂ and î, with or without the embeddings in p̂, relative to its own maximum point or another."""

    def cost(shape: Shape) -> Cost:
        size = parameters(shape, vocab_size=VOCABULARY)
        time = operations(shape, sequence_length=length)
        return Cost(size.total if embeddings else size.layers, time.total)

    return order(SPACE, cost, maximum=None if maximum is None else cost(maximum))


def place(ordering: Ordering[Shape]) -> Ranked[Shape]:
    return next(ranked for ranked in ordering.members if ranked.member == PUBLISHED)


def standing(ordering: Ordering[Shape]) -> dict[str, Any]:
    """Where the published answer stands in the order and by savings, and the errors its rivals need for it to win."""
    own = place(ordering)
    saved = {r.member: savings(r.cost, ordering.maximum) for r in ordering.members}
    least = ordering.members[0].member
    return {
        "place": own.place + 1,
        "epsilons": [e for e in range(1, len(SPACE) + 1) if own.place % e == 0],
        "savings": saved[PUBLISHED],
        "rank_by_savings": 1 + sum(value > saved[PUBLISHED] for value in saved.values()),
        "must_beat": {str(m): value / saved[PUBLISHED] for m, value in saved.items() if value > saved[PUBLISHED]},
        "least": str(least),
        "least_ratio": saved[least] / saved[PUBLISHED],
        "power_law": power_law(saved),
    }


def power_law(saved: dict[Shape, float]) -> list[float] | None:
    """The smallest a, b, c, d with which error ∝ D^-a A^-b H^-c I^-d lets the published answer win, if any do."""
    rivals = [member for member, value in saved.items() if value > 0 and member != PUBLISHED]
    gains = [[math.log(ours / theirs) for ours, theirs in zip(PUBLISHED, member, strict=True)] for member in rivals]
    lost = [math.log(saved[PUBLISHED] / saved[member]) for member in rivals]
    found = linprog(np.ones(4), A_ub=-np.array(gains), b_ub=np.array(lost), bounds=[(0, None)] * 4)
    return [float(value) for value in found.x] if found.success else None


def powers(found: list[float] | None) -> str:
    return (
        "none" if found is None else ", ".join(f"{axis} {value:.2f}" for axis, value in zip("DAHI", found, strict=True))
    )


def coarse(roughness: float) -> dict[int, dict[str, float]]:
    """How much of the best W each ε finds, over random walks of ln(error) along the order with steps of at most L."""
    exhaustive = ordered()
    inside = [ranked for ranked in exhaustive.members if ranked.block is not None]
    cost = {ranked.member: ranked.cost for ranked in exhaustive.members}
    saved = np.array([savings(ranked.cost, exhaustive.maximum) for ranked in inside])
    place = {ranked.member: place for place, ranked in enumerate(inside)}
    # More parameters, less error, on average.
    steps = roughness * np.random.default_rng(0).uniform(-1, 0.5, (INSTANCES, len(inside)))
    weights = saved / np.exp(steps.cumsum(1))  # W of each member, (instances, members)
    found = {}
    for epsilon in EPSILONS:
        coarser = order(SPACE, cost.__getitem__, epsilon=epsilon)
        ratios = weights[:, [place[ranked.member] for ranked in coarser.taken]].max(1) / weights.max(1)
        stated = coarser.guarantee(roughness)
        assert ratios.min() >= stated * (1 - 1e-9), "the stated guarantee is broken"
        figures = {"mean": ratios.mean(), "low": np.quantile(ratios, 0.05), "least": ratios.min(), "stated": stated}
        found[epsilon] = {name: float(value) for name, value in figures.items()} | {"candidates": len(coarser.taken)}
    return found


HEAD = [
    "counted",
    "place",
    "selected with ε =",
    "savings",
    "rank by savings",
    "error ratio needed, smallest member / published",
    "powers",
]
ALL = "128 tokens, all parameters"


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    about = f"""
        The {len(SPACE)} members of the paper's space by parameters and operations (both counted, with a vocabulary of
        {VOCABULARY:,} tokens). T is the largest member unless stated otherwise. Savings are the first two factors of W.
        A member with greater savings loses to the published answer if its error is greater by more than the ratio of
        the savings. "powers": the smallest exponents of D, A, H and I with which an error that falls as a power of each
        makes the published answer win over all others. Smooth errors: ln(error) changes by at most L from one member to
        the next. Nothing is trained or timed: the figures are exact.
    """
    rows = [
        [
            name,
            f"{s['place']} of {len(SPACE)}",
            ", ".join(map(str, s["epsilons"])),
            f"{s['savings']:.3f}",
            str(s["rank_by_savings"]),
            f"{s['least_ratio']:.2f}",
            powers(s["power_law"]),
        ]
        for name, s in figures["standing"].items()
    ]
    rivals = [
        [
            f"{Shape(*r['shape'])}, {what}",
            str(r["place"]),
            f"{r['parameters'] / 1e6:.1f} M",
            f"{r['operations'] / 1e9:.2f} G",
            f"{r['savings']:.3f}",
            f"{r['ratio']:.4f}",
        ]
        for what, r in figures["rivals"].items()
    ]
    head = ["rival", "place", "parameters", "operations", "savings", "error ratio needed, rival / published"]
    lines = [
        [name, str(epsilon), f"{c['candidates']:.0f}"]
        + [f"{c[figure]:.4f}" for figure in ("mean", "low", "least", "stated")]
        for name, by_epsilon in figures["coarse"].items()
        for epsilon, c in by_epsilon.items()
    ]
    coarser = ["roughness", "ε", "candidates", "found W / best W, mean", "5 % quantile", "lowest", "stated guarantee"]
    body = [
        "⟨4,8,1024,768⟩ in the order of the space:",
        table(HEAD, rows),
        f"{ALL}:",
        table(head, rivals),
        f"What a coarser search finds, over {INSTANCES:,} sets of random smooth errors each:",
        table(coarser, lines),
    ]
    own = figures["standing"][ALL]
    answer = f"place {own['place']} of {len(SPACE)}, selected only with ε = {' and '.join(map(str, own['epsilons']))}"
    return Shown(about, "\n\n".join(body), figure=answer)


BENCHMARK = Benchmark(
    name="ose_paper",
    page="ose",
    title="The paper's space",
    question="Where does the published answer stand in the paper's space, and which ε select it?",
    sources=("src/bort/ose/ordering.py", "src/bort/ose/cost.py", "src/bort/ose/criteria.py", "src/bort/ose/space.py"),
    show=show,
)


def main() -> None:
    arguments = parser(__doc__).parse_args()
    variants = {
        ALL: ordered(),
        "512 tokens, all parameters": ordered(length=512),
        "128 tokens, without embeddings": ordered(embeddings=False),
        "128 tokens, T of RoBERTa-large's shape": ordered(maximum=Shape(24, 16, 1024, 4096)),
    }
    first = variants[ALL]
    costs = {ranked.member: ranked for ranked in first.members}
    own = savings(costs[PUBLISHED].cost, first.maximum)
    rivals = {}
    for what, rival in RIVALS.items():
        cost, saved = costs[rival].cost, savings(costs[rival].cost, first.maximum)
        rivals[what] = {"shape": list(rival), "place": costs[rival].place + 1, "parameters": cost.parameters} | {
            "operations": cost.time,
            "savings": saved,
            "ratio": saved / own,
        }
    figures = {
        "standing": {name: standing(ordering) for name, ordering in variants.items()},
        "rivals": rivals,
        "coarse": {f"L = {L:g}": coarse(L) for L in ROUGHNESS},
    }
    publish(BENCHMARK, figures, arguments)


if __name__ == "__main__":
    main()
