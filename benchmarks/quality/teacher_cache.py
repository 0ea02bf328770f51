"""What a student learns from cached targets of a teacher, compared with what it learns from the teacher itself.

    python -m benchmarks.quality.teacher_cache --corpus ../shared/corpus/simplewiki.txt.xz

Student and teacher have the shape and vocabulary of bort-nano; the teacher is bort-nano itself, whose distributions are
flat: a hard case. All students start from the same weights and see the same rows in the same order. They are judged on
rows that none of them trained on, by the full T² KL and by its estimate from cached targets.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import Benchmark, Shown, Target, parser, publish, table
from benchmarks.taught import Kind, Taught

HELD_OUT = 512


def judge(taught: Taught, model: Any, first: int) -> dict[str, float]:
    """The full distance to the teacher on held-out rows, and its estimate from cached targets."""
    import torch

    from bort.pretraining.objective import distillation

    settings, objective = taught.settings, taught.objective("cache")
    full = kept = positions = 0.0
    model.eval()
    for place in range(first, first + HELD_OUT, settings.batch_size):
        batch = taught.batch("cache", place)
        inputs = {name: batch[name] for name in ("input_ids", "labels")}
        with torch.no_grad():
            ours, theirs = model(**inputs).logits, taught.teacher(**inputs).logits
            full += len(ours) * distillation(ours, theirs, temperature=settings.temperature).item()
            kept += len(ours) * objective(model, batch)[1]["kd"].item()
            positions += len(ours)
    model.train()
    return {"full": full / positions, "kept": kept / positions, "off": abs(kept / full - 1)}


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    runs = figures["runs"]
    about = f"""
        T² KL to the teacher on {HELD_OUT} held-out rows of 128 tokens, over the whole vocabulary; in brackets, its
        estimate from cached targets. T = 2, batches of {settings.batch_size}, learning rate 1e-3. One run each.
    """
    head = ["learns from", "KiB per row", "rows seen", *(f"KL after {n} steps (estimate)" for n in runs[0]["judged"])]
    rows = [
        [
            run["name"],
            "" if run["kind"] == "beside" else f"{run['kib']:.1f}",
            "once" if run["times"] == 1 else f"{run['times']} times",
            *(f"{at['full']:.3f} ({at['kept']:.3f})" for at in run["judged"].values()),
        ]
        for run in runs
    ]
    worst = 100 * max(at["off"] for run in runs for at in run["judged"].values())
    target = Target("largest error of the estimate relative to the full KL, on held-out rows", worst, "<=", 1.0, " %")
    return Shown(about, table(head, rows), (target,))


BENCHMARK = Benchmark(
    name="teacher_cache_quality",
    page="nano",
    title="Learning from cached targets",
    question="How much does a student lose by learning from cached targets instead of the teacher itself?",
    sources=("src/bort/pretraining/objective.py", "src/bort/pretraining/distill"),
    show=show,
)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--corpus", type=Path, default=Path("../shared/corpus/simplewiki.txt.xz"))
    made.add_argument("--steps", type=int, default=160)
    made.add_argument("--batch-size", type=int, default=16)
    made.add_argument("--times", type=int, default=8, help="how often repeated rows are seen")
    made.add_argument("--tails", type=int, nargs="+", default=[16, 128], help="samples of the improbable tokens")
    arguments = made.parse_args()
    trained_on = arguments.steps * arguments.batch_size
    runs: list[tuple[str, Kind, int]] = [("teacher beside the student", "beside", arguments.tails[0])]
    runs += [(f"k = 64 and {tail} draws", "cache", tail) for tail in arguments.tails]
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, kind, tail in runs:
            taught = Taught(
                arguments.corpus,
                Path(scratch),
                distinct_rows=trained_on + HELD_OUT,
                batch_size=arguments.batch_size,
                teacher_tail=tail,
            )
            size = taught.answer_bytes / (trained_on + HELD_OUT) / 1024
            for times in (1, arguments.times):
                model, step = taught.steps(kind, trained_on // times // arguments.batch_size * arguments.batch_size)
                judged = {0: judge(taught, model, trained_on)}
                for done in range(1, arguments.steps + 1):
                    step()
                    if done in (arguments.steps // 4, arguments.steps):
                        judged[done] = judge(taught, model, trained_on)
                found.append({"name": name, "kind": kind, "times": times, "kib": size, "judged": judged})
                print(name, times, judged, flush=True)
    publish(BENCHMARK, {"runs": found}, arguments)


if __name__ == "__main__":
    main()
