"""How bort-nano's shape and recipe were chosen: variants trained for the same time, judged on development data.

    python -m benchmarks.quality.nano_choices --teacher all-mpnet-base-v2 --work runs/nano-choices

Each variant is a `bort pretrain` of its own. The measure is the mean development accuracy over the five tasks with few
labels, of logistic regression on frozen features (`benchmarks.quality.probe`). The teacher reads its rows once, into
WORK/teacher, which no variant's time counts. Finished variants are kept in results/nano_choices.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.common import parser, publish, table
from benchmarks.quality.probe import TASKS, probe_all

NANO = (4, 4, 256, 768)
SHAPES = {
    "4 x 256 x 768": NANO,
    "4 x 384 x 288": (4, 6, 384, 288),
    "6 x 256 x 256": (6, 4, 256, 256),
    "2 x 512 x 384": (2, 8, 512, 384),
}
"""Depth x hidden x intermediate, as depth, heads, hidden, intermediate. The last three are narrow in the middle."""
EMBEDDING: dict[str, Any] = {"rows": "sentences", "sequence_length": 48, "batch_size": 64, "learning_rate": 1e-3}
EMBEDDING["position_init"] = "fixed"  # rows are short, texts need not be
TOKENS = {**EMBEDDING, "words_from_teacher": True, "token_weight": 1.0}
MLM = {"rows": "packed", "sequence_length": 128, "batch_size": 32, "learning_rate": 1.5e-3}
RECIPES: dict[str, tuple[tuple[float, dict[str, Any]], ...]] = {
    "masked LM only": ((1.0, MLM),),
    "masked LM, then embeddings": ((0.5, MLM), (0.5, {**EMBEDDING, "taught": True})),
    "embeddings": ((1.0, {**EMBEDDING, "taught": True}),),
    "embeddings, words from the teacher": ((1.0, {**EMBEDDING, "words_from_teacher": True, "taught": True}),),
    "the same, and token by token": ((1.0, {**TOKENS, "taught": True}),),
    "the same, and the first token too": ((1.0, {**TOKENS, "pooling": "both", "taught": True}),),
    "the same, and masked LM at once": ((1.0, {**TOKENS, "pooling": "both", "mlm_weight": 0.2, "taught": True}),),
}
"""Parts of a recipe: its share of the minutes, and what differs from the defaults."""
CHOSEN_RECIPE = "the same, and token by token"


def train(name: str, shape: tuple[int, ...], recipe: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the parts of a recipe one after the other, and judge the last."""
    import bort
    from bort.pretraining.arguments import PretrainArguments

    folder = arguments.work / name.replace(" ", "-").replace(",", "")
    file = arguments.work / f"shape-{'-'.join(map(str, shape))}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(dict(zip(("depth", "heads", "hidden", "intermediate"), shape, strict=True))))
    init, metrics = None, {}
    for part, (share, settings) in enumerate(RECIPES[recipe]):
        given = dict(settings)
        if given.pop("taught", False):
            given |= {"embedding_teacher": arguments.teacher, "teacher_cache": str(arguments.work / "teacher")}
            given["distinct_rows"] = arguments.rows
        out = f"{folder}-{part}"
        run = PretrainArguments(
            corpus=arguments.corpus,
            tokenizer="bort-nano",
            corpus_cache=str(arguments.work / "corpus"),
            architecture=str(file),
            init=init,
            out=out,
            max_minutes=share * arguments.minutes,
            dropout=0.0,
            warmup=0.03,
        )
        metrics = bort.pretrain(replace(run, **given, resume=(Path(out) / "config.yaml").is_file()))
        init = out
    found = probe_all(str(init), arguments.data, parts=("dev",))
    kept = ("steps", "tokens", "seconds", "validation_loss", "validation_distance", "parameters", "device")
    return {
        "name": name,
        "shape": shape,
        "recipe": recipe,
        "minutes": arguments.minutes,
        "rows": arguments.rows,
        "dev": {task: figures["dev"] for task, figures in found.items()},
        "mean": statistics.mean(figures["dev"] for figures in found.values()),
        **{key: metrics[key] for key in kept if key in metrics},
    }


def row(record: dict[str, Any]) -> list[str]:
    devs = [f"{100 * record['dev'][task]:.1f}" for task in TASKS]
    return [
        record["name"],
        f"{record['parameters'] / 1e6:.1f} M",
        f"{record['tokens'] / 1e6:.2f} M",
        *devs,
        f"{100 * record['mean']:.1f}",
    ]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--teacher", required=True, help="folder of the embedding teacher")
    made.add_argument(
        "--corpus", nargs="+", default=[f"../shared/corpus/{n}.txt.xz" for n in ("simplewiki", "gutenberg")]
    )
    made.add_argument("--data", type=Path, default=Path("../shared/data/scarce"))
    made.add_argument("--work", type=Path, default=Path("runs/nano-choices"), help="folder for the runs")
    made.add_argument("--rows", type=int, default=30_000, help="sentences that the teacher reads")
    made.add_argument("--minutes", type=float, default=3.0)
    made.add_argument("--only", nargs="*", help="variants to train now; all by default")
    arguments = made.parse_args()

    variants = {name: (shape, CHOSEN_RECIPE) for name, shape in SHAPES.items()}
    variants |= {name: (NANO, name) for name in RECIPES if name != CHOSEN_RECIPE}
    file = arguments.out / "results" / "nano_choices.jsonl"
    for name, (shape, recipe) in variants.items():
        if (arguments.only and name not in arguments.only) or name in _known(file):
            continue
        record = train(name, shape, recipe, arguments)
        with open(file, "a", encoding="utf-8") as lines:  # two of these may run side by side
            lines.write(json.dumps(record) + "\n")
            lines.flush()
            os.fsync(lines.fileno())
    known = _known(file)
    if arguments.only or not variants.keys() <= known.keys():
        return
    head = ["variant", "parameters", "tokens seen", *TASKS, "mean"]
    shown = f'Shapes, with the recipe "{RECIPE_IN_WORDS}":\n\n'
    shown += table(head, [row(known[name]) for name in SHAPES])
    shown += "\n\nRecipes, with the shape 4 x 256 x 768:\n\n"
    shown += table(
        head, [row(known[name if name != CHOSEN_RECIPE else "4 x 256 x 768"] | {"name": name}) for name in RECIPES]
    )
    about = f"""
        Development accuracy in % of logistic regression on frozen features, after {arguments.minutes:g} minutes of
        training on one core (the teacher's passes not counted; it read {arguments.rows:,} sentences). One seed each:
        differences below about a point are noise.
    """
    publish("nano_choices", "bort-nano: shapes and recipes", about=about, shown=shown, figures=known, out=arguments.out)


RECIPE_IN_WORDS = "embeddings, words from the teacher, token by token"


def _known(file: Path) -> dict[str, dict[str, Any]]:
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    return {record["name"]: record for record in map(json.loads, lines)}


if __name__ == "__main__":
    main()
