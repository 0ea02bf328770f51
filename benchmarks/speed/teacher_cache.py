"""What a teacher's kept answers cost a training step, and how near their loss is to the full one.

    python -m benchmarks.speed.teacher_cache --corpus ../shared/corpus/simplewiki.txt.xz

Student and teacher have the shape and vocabulary of bort-nano; the teacher is bort-nano itself. A step is reading the
rows, forward, backward, clipping and AdamW, in fp32. The steps are taken in turn, in one process.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import lzma
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import Spread, Target, interleaved, parser, publish, ratio, ratios_by_round, table

PARAGRAPHS = 6000
TRAINED_STEPS = (0, 50, 200)


class Bench:
    """A corpus, a teacher, and students that begin alike."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        import torch

        from bort import BortForMaskedLM, load_tokenizer
        from bort.data.corpus import build_corpus
        from bort.model.checkpoints import load, load_config, locate
        from bort.training.arguments import PretrainArguments
        from bort.training.initial import start_from_word_counts
        from bort.training.objective import Collator
        from bort.training.pretraining_rows import RowSource
        from bort.training.teaching import Teaching

        text = folder / "text.txt"
        with lzma.open(arguments.corpus, "rt", encoding="utf-8") as lines:
            text.write_text("".join(itertools.islice(lines, PARAGRAPHS)), "utf-8")
        tokenizer = load_tokenizer(locate("bort-nano"))
        self.corpus = build_corpus([str(text)], tokenizer, folder / "corpus", valid_share=0.05)
        self.settings = PretrainArguments(
            corpus=[str(text)],
            tokenizer="bort-nano",
            out=str(folder / "run"),
            teacher="bort-nano",
            teacher_cache=str(folder / "cache"),
            teacher_top_k=arguments.top_k,
            teacher_tail=arguments.tail,
            batch_size=arguments.batch_size,
            sequence_length=arguments.sequence_length,
            distinct_rows=arguments.rows,
            max_steps=10**6,
            dropout=0.0,
        )
        self.teaching = Teaching(self.settings, self.corpus, tokenizer, folder / "cache", torch.device("cpu"))
        source = RowSource(self.settings, self.corpus, tokenizer)
        self.rows = self.teaching.limit(source.training(10**9, arguments.batch_size))
        self.caches = self.teaching.ask(self.rows, 4)
        self.collator = Collator(tokenizer.pad_token_id)
        torch.manual_seed(0)
        self.student = BortForMaskedLM(load_config("bort-nano"))
        start_from_word_counts(self.student, self.corpus.tokens("train"))
        for module in self.student.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        self.teacher = load(BortForMaskedLM, "bort-nano")

    def step(self, kind: str) -> Callable[[], Any]:
        """One training step: `without` a teacher, with the `cache`, or with the teacher `beside` it."""
        import torch

        from bort.training.arguments import PretrainArguments
        from bort.training.objective import Objective, TaughtRows

        plain = PretrainArguments(corpus=[], tokenizer="", out="")
        live = self.teaching.masked_lm() if kind == "beside" else None
        objective = Objective(plain if kind == "without" else self.settings, live)
        taught = TaughtRows(self.rows, self.caches if kind == "cache" else ())
        model = copy.deepcopy(self.student).train()
        groups = [
            {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.01},
            {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=1e-3, eps=1e-6, fused=True)
        place, size = itertools.count(), self.settings.batch_size

        def step() -> Any:
            first = next(place) * size
            batch = self.collator([taught[first + n] for n in range(size)])
            loss, _ = objective(model, batch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            return model

        return step

    def nearness(self) -> list[dict[str, float]]:
        """The full distance to the teacher and the kept answers' estimate of it, as the student learns."""
        import torch

        from bort.training.losses import distillation
        from bort.training.objective import Objective, TaughtRows

        objective, taught = Objective(self.settings), TaughtRows(self.rows, self.caches)
        step, found, done = self.step("cache"), [], 0
        model: Any = self.student
        for wanted in TRAINED_STEPS:
            for _ in range(wanted - done):
                model = step()
            done = wanted
            full = kept = 0.0
            for first in range(0, 256, self.settings.batch_size):
                batch = self.collator([taught[first + n] for n in range(self.settings.batch_size)])
                with torch.no_grad():
                    inputs = {"input_ids": batch["input_ids"], "labels": batch["labels"]}
                    logits, theirs = model(**inputs).logits, self.teacher(**inputs).logits
                    full += distillation(logits, theirs, temperature=self.settings.temperature).item()
                kept += objective(model, batch)[1]["kd"].item()
            found.append({"steps": wanted, "full": full, "kept": kept, "off": abs(kept / full - 1)})
        return found


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--corpus", type=Path, default=Path("../shared/corpus/simplewiki.txt.xz"))
    made.add_argument("--rounds", type=int, default=12)
    made.add_argument("--rows", type=int, default=2048)
    made.add_argument("--batch_size", type=int, default=32)
    made.add_argument("--sequence_length", type=int, default=128)
    made.add_argument("--top_k", type=int, default=64)
    made.add_argument("--tail", type=int, default=16)
    arguments = made.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(arguments, Path(scratch))
        names = {"without": "no teacher", "cache": "kept answers", "beside": "teacher beside the student"}
        seconds = interleaved({name: bench.step(name) for name in names}, arguments.rounds)
        near = bench.nearness()
        size = sum(file.stat().st_size for file in (Path(scratch) / "cache").rglob("*.bin"))
    rows = [[names[name], Spread.of(of).show(), f"{ratio(of, seconds['without']):.3f}"] for name, of in seconds.items()]
    shown = table(["a training step", "seconds (range)", "times the one without"], rows)
    losses = [[str(n["steps"]), f"{n['full']:.3f}", f"{n['kept']:.3f}", f"{100 * n['off']:.2f} %"] for n in near]
    shown += "\n\n" + table(["student's steps", "full T² KL", "from kept answers", "off by"], losses)
    spread = ratios_by_round(seconds["cache"], seconds["without"]).show()
    about = f"""
        A step of {arguments.batch_size} rows of {arguments.sequence_length} tokens, medians of {arguments.rounds}
        rounds (ratio by round: {spread}). Kept of each masked position: the {arguments.top_k} most probable tokens and
        {arguments.tail} draws from the others, {size / arguments.rows / 1024:.1f} KiB a row. The losses are
        sums over 256 rows.
    """
    publish(
        "teacher_cache",
        "Kept answers of a teacher",
        about=about,
        shown=shown,
        figures={"seconds": seconds, "near": near, "bytes": size},
        targets=[
            Target(
                "step with kept answers, times one without a teacher",
                ratio(seconds["cache"], seconds["without"]),
                "<=",
                1.1,
            ),
            Target("loss of k = 64 off the full KL, worst", 100 * max(n["off"] for n in near), "<=", 1.0, " %"),
        ],
        out=arguments.out,
    )


if __name__ == "__main__":
    main()
