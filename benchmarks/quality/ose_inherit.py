"""Does the error after a short training predict which parts of a trained encoder are good after a long one?

    python -m benchmarks.quality.ose_inherit --model all-MiniLM-L6-v2 --corpus messages.txt.xz

`bort extract --inherit` searches the parts of a sentence encoder. Some of the candidates, evenly spaced in their order
by size, are then trained --longer times as long, each with one learning rate. Finished trainings are stored in
results/ose_inherit.jsonl, the search in WORK/search; both continue from there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import Benchmark, Shown, Target, parser, publish, table
from benchmarks.quality.scarce import Cache, Record
from bort.ose.arguments import ExtractArguments
from bort.ose.criteria import rank_agreement
from bort.ose.space import Shape

SPACE = """\
depth: [1, 2, 3, 4, 6]
heads: [6, 12]
hidden: [384]
intermediate: [384, 768, 1536]
vocabulary: [8192, 16384, 30522]
"""


def search(arguments: argparse.Namespace) -> tuple[ExtractArguments, Mapping[str, Any]]:
    """Run the search, or read its result."""
    import bort

    arguments.work.mkdir(parents=True, exist_ok=True)
    (arguments.work / "space.yaml").write_text(SPACE, "utf-8")
    out = arguments.work / "search"
    settings = ExtractArguments(
        corpus=arguments.corpus,
        inherit=arguments.model,
        space=str(arguments.work / "space.yaml"),
        epsilon=arguments.epsilon,
        steps=arguments.steps,
        max_steps=arguments.max_steps,
        rows_per_step=arguments.rows,
        row_length=arguments.length,
        held_out_rows=arguments.held_out,
        learning_rates=arguments.learning_rates,
        out=str(out),
    )
    return settings, bort.extract(replace(settings, resume=(out / "journal.jsonl").is_file())).metrics


def by_size(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Candidates evenly spaced in the order by size and time, including the smallest and the largest."""
    ordered = sorted((row for row in rows if row["error"] is not None), key=lambda row: row["place"])
    return [ordered[round(step * (len(ordered) - 1) / (count - 1))] for step in range(count)]


class LongTrainings:
    """Trains shapes as the search does, but for longer, and stores the results."""

    def __init__(self, settings: ExtractArguments, arguments: argparse.Namespace, steps: int) -> None:
        self.settings, self.steps, self.rate = settings, steps, arguments.longer_rate
        self.cache = Cache(arguments.out / "results" / "ose_inherit.jsonl", fresh=False)
        self.folder = arguments.work / f"teacher-{steps}"
        self._lesson: Any = None

    def error(self, shape: Shape) -> Record:
        """ê after many steps, from the cache or computed now."""
        s = self.settings
        key = {
            "shape": list(shape),
            "steps": self.steps,
            "rows": s.rows_per_step,
            "length": s.row_length,
            "held_out": s.held_out_rows,
            "learning_rate": self.rate,
            "model": Path(s.inherit or "").name,
            "corpus": [Path(source).name for source in s.corpus],
        }
        return self.cache.once(key, partial(self._train, shape))

    def _train(self, shape: Shape) -> Record:
        from bort.ose.short_training import Training, train
        from bort.progress import bar

        self._lesson = self._lesson or self._make_lesson()
        began = time.monotonic()
        with bar(f"training {shape}", self.steps) as shown:
            trained = train(
                self._lesson,
                shape,
                Training(self.steps),
                self.rate,
                lambda step, loss: shown.update(step, f"distance {loss:.3f}"),
            )
        return {"error": trained.error, "seconds": round(time.monotonic() - began, 1)}

    def _make_lesson(self) -> Any:
        from bort.ose.inherited import InheritedEncoder
        from bort.ose.plan import make_plan
        from bort.ose.resolve import embeddings_of

        assert self.settings.inherit is not None
        inherited = InheritedEncoder.load(self.settings.inherit)
        plan = make_plan(self.settings, inherited.config.vocab_size, inherited)
        return embeddings_of(self.settings, plan, inherited, self.steps, self.folder)


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    metrics, compared = figures["search"], figures["compared"]
    candidates, steps = metrics["candidates"], metrics["steps"]
    long = settings.longer * steps
    halves = ", ".join(
        f"{rank:.2f} (errors after {int(number) // 2} and {number} steps)"
        for number, rank in metrics["agreement_with_half_the_steps"].items()
        if rank is not None
    )
    about = f"""
        {metrics["members"]} parts of {Path(settings.model).name} (layers, heads, intermediate size, vocabulary), ε =
        {settings.epsilon}: {len(candidates)} candidates with inherited weights, trained for {steps} steps of
        {settings.rows} texts to match its embeddings. The error is 1 - cosine on {settings.held_out} held-out texts,
        the lowest of {len(settings.learning_rates)} learning rates. Then {len(compared)} candidates, evenly spaced in
        the order by size, train for {long} steps with the learning rate {settings.longer_rate:g}. Rank correlations
        over all candidates: {halves}, {metrics["untrained_rank_correlation"]:.2f} (errors before and after training),
        {metrics["decision"]["rank_correlation"]:.2f} (W and the savings alone). Standard deviation of ln(error):
        {metrics["decision"]["spread_ln_error"]:.2f}, of ln(savings): {metrics["decision"]["spread_ln_savings"]:.2f}.
        Noise of ln(error): {metrics["noise"]["band"]:.3f}; candidates level with the best W: {len(metrics["level"])}.
        One seed (n = 1), one thread; the search trained for {metrics["training_seconds"] / 60:.0f} min, a longer
        training took {figures["mean_long_seconds"] / 60:.1f} min on average.
    """

    def cells(row: dict[str, Any], *figures: float) -> list[str]:
        return [_name(row), f"{row['parameters'] / 1e6:.2f} M", *(f"{figure:.4f}" for figure in figures)]

    front = [
        [*cells(row, row["error"]), f"{row['time'] / 1e6:.0f} M", f"{row['coefficient']:.3f}", "yes" * row["level"]]
        for row in sorted(metrics["front"], key=lambda row: row["error"])
    ]
    rows = [cells(c["row"], c["row"]["untrained_error"], c["row"]["error"], c["long"]["error"]) for c in compared]
    body = [
        "The Pareto front:",
        table(["D,A,H,I,V", "parameters", "error", "operations", "W", "level with the best W"], front),
        f"W alone selects {_name(metrics['by_w_alone'])}. Longer trainings:",
        table(["D,A,H,I,V", "parameters", "untrained error", f"error, {steps} steps", f"error, {long}"], rows),
        f"Rank correlation with the error after {long} steps: {figures['rank_of_short']:.2f} for the error after "
        f"{steps} steps, {figures['rank_of_untrained']:.2f} for the untrained error.",
    ]
    target = Target("rank correlation of errors after short and long trainings", figures["rank_of_short"], ">=", 0.8)
    return Shown(about, "\n\n".join(body), (target,))


def _name(row: dict[str, Any]) -> str:
    return str(Shape.of(row))


BENCHMARK = Benchmark(
    name="ose_inherit",
    page="ose",
    title="A search over the parts of a sentence encoder",
    question="Do errors after short trainings rank parts of a trained encoder as errors after long ones do?",
    sources=(
        "src/bort/model/shrink.py",
        "src/bort/model/vocabulary_cut.py",
        "src/bort/ose/embedding_lesson.py",
        "src/bort/ose/short_training.py",
        "src/bort/ose/texts.py",
    ),
    show=show,
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--model", required=True, help="folder of the encoder")
    made.add_argument("--corpus", nargs="+", default=["../shared/corpus/messages.txt.xz"])
    made.add_argument("--work", type=Path, default=Path("runs/ose-inherit"), help="folder for the search")
    made.add_argument("--epsilon", type=int, default=3)
    made.add_argument("--steps", type=int, default=10)
    made.add_argument("--max-steps", type=int, default=40)
    made.add_argument("--longer", type=int, default=20, help="factor on the steps, for longer trainings")
    made.add_argument("--longer-rate", type=float, default=5e-4, help="their learning rate")
    made.add_argument("--compared", type=int, default=5, help="number of candidates to train longer")
    made.add_argument("--rows", type=int, default=32, help="texts per step")
    made.add_argument("--length", type=int, default=48, help="maximum tokens per text")
    made.add_argument("--held-out", type=int, default=256, help="texts to measure the error on")
    made.add_argument("--learning-rates", type=float, nargs="+", default=[3e-4, 1e-3, 3e-3])
    arguments = made.parse_args()

    import torch

    torch.set_num_threads(1)
    settings, metrics = search(arguments)
    trainings = LongTrainings(settings, arguments, arguments.longer * metrics["steps"])
    rows = by_size(metrics["candidates"], arguments.compared)
    compared = [{"row": row, "long": trainings.error(Shape.of(row))} for row in rows]
    long = [c["long"]["error"] for c in compared]
    metrics |= {"teacher": Path(arguments.model).name, "inherited": Path(arguments.model).name}
    figures = {
        "search": metrics,
        "compared": compared,
        "rank_of_short": rank_agreement([row["error"] for row in rows], long),
        "rank_of_untrained": rank_agreement([row["untrained_error"] for row in rows], long),
        "mean_long_seconds": sum(c["long"]["seconds"] for c in compared) / len(compared),
    }
    arguments.model, arguments.corpus = Path(arguments.model).name, [Path(name).name for name in arguments.corpus]
    publish(BENCHMARK, figures, arguments)


if __name__ == "__main__":
    main()
