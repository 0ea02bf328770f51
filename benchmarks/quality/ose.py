"""What a search on the nano space finds, how these shapes do when trained longer, and what the search saves.

    python -m benchmarks.quality.ose --corpus simplewiki.txt.xz gutenberg.txt.xz --teacher bort-nano

`bort extract` trains every ε-th member of the nano space for --steps steps. Then the shape that it found, three others
spread over the order of W, and bort-nano's own shape are trained --longer times as long, with the same teacher.
Finished trainings are stored in results/ose.jsonl, the search in WORK/search; both continue from there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import Benchmark, Shown, parser, publish, table
from benchmarks.quality.scarce import Cache, Record
from bort.model.config import PRESETS
from bort.ose.arguments import ExtractArguments
from bort.ose.criteria import Cost, coefficient
from bort.ose.space import SPACES, SearchSpace, Shape

_NANO = PRESETS["nano"]
NANO = Shape(_NANO.depth, _NANO.heads, _NANO.hidden, _NANO.intermediate)
"""bort-nano's shape, which may not be a candidate; it gets the same short and long training."""
COMPARED = 4
"""Candidates to train longer: the one found, and others spread over the order of W."""


def search(arguments: argparse.Namespace) -> tuple[ExtractArguments, Mapping[str, Any]]:
    """Run the search, or read its result."""
    import bort

    out = arguments.work / "search"
    settings = ExtractArguments(
        corpus=arguments.corpus,
        corpus_cache=str(arguments.work / "corpus"),
        teacher=arguments.teacher,
        space="nano",
        epsilon=arguments.epsilon,
        steps=arguments.steps,
        rows_per_step=arguments.rows,
        row_length=arguments.length,
        held_out_rows=arguments.held_out_rows,
        learning_rates=arguments.learning_rates,
        error=arguments.error,
        time=arguments.time,
        out=str(out),
    )
    return settings, bort.extract(replace(settings, resume=(out / "journal.jsonl").is_file())).metrics


def spread(rows: list[dict[str, Any]]) -> list[Shape]:
    """The best candidate, the worst, and others evenly spaced between them, by W."""
    sound = [row for row in rows if not row["diverged"]]
    places = [round(step * (len(sound) - 1) / (COMPARED - 1)) for step in range(COMPARED)]
    return list(dict.fromkeys(Shape(*(sound[place][axis] for axis in Shape._fields)) for place in places))


class Bench:
    """Trains shapes for any number of steps as the search does, and stores the results."""

    def __init__(self, settings: ExtractArguments, cache: Cache) -> None:
        from bort.data.corpus.corpus import open_corpus
        from bort.model.checkpoints import locate
        from bort.model.tokenization import load_tokenizer
        from bort.ose.plan import make_plan

        assert settings.teacher is not None
        assert settings.corpus_cache is not None
        self.settings, self.cache = settings, cache
        self.tokenizer = load_tokenizer(locate(settings.teacher))
        self.corpus = open_corpus(settings.corpus_cache, self.tokenizer)
        self.plan = make_plan(replace(settings, resume=True), len(self.tokenizer))
        self.lessons: dict[int, Any] = {}

    def record(self, shape: Shape, steps: int) -> Record:
        """A shape's result, from the cache or computed now."""
        s = self.settings
        key = {
            "shape": list(shape),
            "steps": steps,
            "rows": s.rows_per_step,
            "length": s.row_length,
            "held_out_rows": s.held_out_rows,
            "learning_rates": s.learning_rates,
            "teacher": s.teacher,
            "corpus_tokens": self.corpus.info.train_tokens,
        }
        found = self.cache.once(key, partial(self._train, shape, steps))
        return key | {name: value for name, value in found.items() if name != "key"}  # flat, as the page reads it

    def _train(self, shape: Shape, steps: int) -> Record:
        from bort.model.devices import best_device
        from bort.ose.logit_lesson import MaskedRows, RandomStart, logit_lesson
        from bort.ose.short_training import Training, train
        from bort.pretraining.distill.mlm_teacher import MaskedLMTeacher
        from bort.pretraining.validation import evaluate_mlm
        from bort.progress import bar

        s = self.settings
        if steps not in self.lessons:
            masked = MaskedRows(
                self.corpus,
                self.tokenizer,
                steps,
                s.rows_per_step,
                s.row_length,
                s.held_out_rows,
                s.mask_probability,
                s.seed,
            )
            start = RandomStart(self.plan.costs.config, masked.log_frequencies)
            assert s.teacher is not None
            teacher = MaskedLMTeacher(s.teacher, self.tokenizer.get_vocab(), best_device())
            folder = Path(s.out).parent / f"teacher-{steps}"
            lesson = logit_lesson(masked, teacher, start, folder, "cross_entropy", s.precision)
            self.lessons[steps] = lesson, masked.rows("valid")
        lesson, held_out = self.lessons[steps]
        best: dict[str, Any] = {}
        began = time.monotonic()
        with bar(f"training {shape}", steps * len(s.learning_rates)) as shown:
            for number, rate in enumerate(s.learning_rates):
                trained = train(
                    lesson,
                    shape,
                    Training(steps, s.warmup, s.optimizer, s.clip_weights, s.dropout),
                    rate,
                    lambda step, loss, done=number * steps: shown.update(done + step, f"distance {loss:.3f}"),
                )
                if not best or trained.error < best["cross_entropy"]:
                    score = evaluate_mlm(trained.model, held_out)
                    best = {"cross_entropy": trained.error, "learning_rate": rate}
                    best |= {"masked_lm_loss": score.loss, "masked_lm_accuracy": score.accuracy}
        return best | {"teacher_entropy": lesson.entropy, "seconds": round(time.monotonic() - began, 1)}


def axes(space: SearchSpace) -> dict[str, list[int]]:
    """The numbers on each axis of a space, for the results."""
    return {name: list(getattr(space, name)) for name in space.axes}


def told(space: dict[str, list[int]]) -> str:
    """A space in words.

    Example:
        >>> told({"depth": [1, 2], "heads": [4]})
        'depth 1, 2; heads 4'
    """
    return "; ".join(f"{name} {', '.join(map(str, numbers))}" for name, numbers in space.items())


def by_kl(metrics: dict[str, Any], top: Cost) -> str:
    """The best three of the same candidates if their error were the KL divergence from the teacher's outputs."""
    known = metrics["teacher_entropy"] if metrics["error_kind"] == "cross_entropy" else 0.0
    found = []
    for row in metrics["candidates"]:
        if not row["diverged"]:
            cost, shape = Cost(row["parameters"], row["time"]), Shape(*(row[axis] for axis in Shape._fields))
            found.append((coefficient(cost, top, row["error"] - known), str(shape)))
    return ", ".join(f"{shape} W {w:.4f}" for w, shape in sorted(found, reverse=True)[:3])


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    metrics, compared = figures["search"], figures["compared"]
    candidates = metrics["candidates"]
    short, long = settings.steps, settings.longer * settings.steps
    space, nano, present = figures["space"], Shape(*figures["nano"]), axes(SPACES["nano"])
    former = "" if space == present else "former "
    about = f"""
        The {former}nano space ({metrics["members"]} members: {told(space)}), ε = {settings.epsilon}: {len(candidates)}
        candidates trained for
        {short} steps of {settings.rows} x {settings.length} tokens to match the outputs of {settings.teacher}, AdamW,
        error: {settings.error} on {settings.held_out_rows} held-out rows (the teacher's own entropy:
        {metrics["teacher_entropy"]:.3f}). Then {len(compared)} shapes, spread over the order of W, for {long} steps.
        {f"bort-nano is the one of that time, {nano}. " if nano != NANO else ""}One seed (n = 1). A longer training took
        {figures["mean_long_seconds"] / 60:.1f} min on average. Stated
        guarantee with the candidates' own roughness: {metrics["guarantee_by_roughness"]:.3f}; kept savings
        {metrics["kept_savings"]:.3f}.
        {f"The present nano space ({told(present)}) has not been searched at full length." if former else ""}
    """
    top = Cost(metrics["maximum"]["parameters"], metrics["maximum"]["time"])
    order = "\n".join(
        f"{number}. ⟨{','.join(str(row[axis]) for axis in Shape._fields)}⟩ W {row['coefficient']:.4f}, error "
        + ("diverged" if row["diverged"] else f"{row['error']:.3f}")
        for number, row in enumerate(candidates[:5], start=1)
    )
    rows = []
    for place, c in enumerate(compared):
        shape, (parameters, operations) = Shape(*c["shape"]), c["cost"]
        known = " (found)" if place == 0 else " (bort-nano)" if shape == nano else ""
        rows.append(
            [f"{shape}{known}", f"{parameters / 1e6:.2f} M", f"{operations / 1e6:.0f} M"]
            + [f"{error:.3f}" for error in c["errors"]]
            + [f"{w:.4f}" for w in c["w"]]
            + [f"{c['runs'][1]['masked_lm_loss']:.3f}", f"{100 * c['runs'][1]['masked_lm_accuracy']:.1f}"]
        )
    unit = metrics["time_unit"]
    head = ["D,A,H,I", "parameters", unit if unit == "ms" else "operations", f"error, {short} steps"]
    head += [f"error, {long}", f"W, {short}", f"W, {long}", f"masked-LM loss, {long}", "accuracy, %"]
    some, others = metrics["training_seconds"] / 60, metrics["all_members_seconds"] / 60
    members, count = str(metrics["members"] - 1), str(len(candidates))
    spent = [
        ["the search", count, str(short), f"{some:.1f}"],
        ["all members, as many steps (estimated)", members, str(short), f"{others:.1f}"],
        ["the same candidates, longer (estimated)", count, str(long), f"{settings.longer * some:.1f}"],
        ["all members, longer (estimated)", members, str(long), f"{settings.longer * others:.1f}"],
    ]
    body = [
        f"The best five of {len(candidates)}:",
        order,
        f"With the KL divergence as the error: {by_kl(metrics, top)}.",
        table(head, rows),
        table(["training", "members", "steps each", "minutes"], spent),
    ]
    found = Shape(*(metrics["architecture"][axis] for axis in Shape._fields))
    figure = f"{found}, of {len(candidates)} candidates of {'a former' if former else 'the'} nano space; {some:.0f} min"
    return Shown(about, "\n\n".join(body), figure=f"{figure} on one core")


BENCHMARK = Benchmark(
    name="ose",
    page="ose",
    title="A search on the nano space",
    question="What does a search on the nano space find, and what does it save?",
    sources=("src/bort/ose",),
    show=show,
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument(
        "--corpus", nargs="+", default=[f"../shared/corpus/{n}.txt.xz" for n in ("simplewiki", "gutenberg")]
    )
    made.add_argument("--teacher", default="bort-nano", help="masked LM whose outputs are the target")
    made.add_argument("--work", type=Path, default=Path("runs/ose"), help="folder for the search")
    made.add_argument("--epsilon", type=int, default=11)
    made.add_argument("--steps", type=int, default=40)
    made.add_argument("--longer", type=int, default=20, help="factor on the steps, for longer trainings")
    made.add_argument("--rows", type=int, default=16, help="rows per step")
    made.add_argument("--length", type=int, default=64, help="tokens per row")
    made.add_argument("--held-out-rows", type=int, default=64)
    made.add_argument("--learning-rates", type=float, nargs="+", default=[1e-3])
    made.add_argument("--error", choices=["cross_entropy", "kl"], default="cross_entropy")
    made.add_argument("--time", choices=["ops", "measured"], default="ops")
    made.add_argument("--search-only", action="store_true", help="skip the longer trainings")
    arguments = made.parse_args()

    settings, metrics = search(arguments)
    if arguments.search_only:
        return
    bench = Bench(settings, Cache(arguments.out / "results" / "ose.jsonl", fresh=False))
    shapes = spread(metrics["candidates"])
    shapes += [NANO] if NANO not in shapes else []
    top = Cost(metrics["maximum"]["parameters"], metrics["maximum"]["time"])
    compared = []
    for shape in shapes:
        cost = bench.plan.costs(shape)
        runs = [bench.record(shape, steps) for steps in (settings.steps, arguments.longer * settings.steps)]
        errors = [r["cross_entropy"] - (r["teacher_entropy"] if settings.error == "kl" else 0.0) for r in runs]
        compared.append(
            {"shape": shape, "cost": cost, "errors": errors, "runs": runs}
            | {"w": [coefficient(cost, top, error) for error in errors]}
        )
    mean_long = sum(c["runs"][1]["seconds"] for c in compared) / len(compared)
    figures = {"search": metrics, "compared": compared, "mean_long_seconds": mean_long}
    publish(BENCHMARK, figures | {"space": axes(SPACES["nano"]), "nano": list(NANO)}, arguments)


if __name__ == "__main__":
    main()
