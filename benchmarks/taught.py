"""A small distillation for benchmarks: bort-nano learns from bort-nano."""

from __future__ import annotations

import copy
import itertools
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

PARAGRAPHS = 12_000
Kind = Literal["without", "cache", "beside"]


class Taught:
    """A corpus, a teacher whose answers for its rows are cached, and a student that every run starts from.

    Args:
        corpus: An .xz text file, of which only the beginning is read.
        folder: For the tokenised text and the teacher's answers.
        settings: Changes to the defaults of `bort pretrain`, with `distinct_rows`.
    """

    def __init__(self, corpus: Path, folder: Path, **settings: Any) -> None:
        import torch

        from bort import BortForMaskedLM, load_tokenizer
        from bort.data.corpus.build import build_corpus
        from bort.data.corpus.corpus import open_corpus
        from bort.model.checkpoints import load, load_config, locate
        from bort.pretraining.arguments import PretrainArguments
        from bort.pretraining.distill.run_teachers import Teachers
        from bort.pretraining.init_weights import start_from_word_counts
        from bort.pretraining.rows import RowSource
        from bort.pretraining.taught_rows import Collator

        text, tokenizer = folder / "text.txt", load_tokenizer(locate("bort-nano"))
        if not (folder / "corpus").exists():
            with lzma.open(corpus, "rt", encoding="utf-8") as lines:
                text.write_text("".join(itertools.islice(lines, PARAGRAPHS)), "utf-8")
            build_corpus([str(text)], tokenizer, folder / "corpus", valid_share=0.05)
        opened = open_corpus(folder / "corpus", tokenizer)
        self.settings = PretrainArguments(
            corpus=[str(text)],
            tokenizer="bort-nano",
            out=str(folder / "run"),
            teacher="bort-nano",
            teacher_cache=str(folder / "cache"),
            max_steps=10**6,
            dropout=0.0,
            **settings,
        )
        self.answers = folder / f"cache-{self.settings.teacher_tail}"
        teachers = Teachers(self.settings, tokenizer, 4, self.answers, torch.device("cpu"))
        source = RowSource(self.settings, opened, tokenizer)
        self.taught = teachers.taught(source.training(10**9, self.settings.batch_size), opened)
        self.live = teachers.masked_lm
        self.collator = Collator(tokenizer.pad_token_id)
        torch.manual_seed(0)
        self.student = BortForMaskedLM(load_config("bort-nano"))
        start_from_word_counts(self.student, opened.tokens("train"))
        for module in self.student.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        self.teacher = load(BortForMaskedLM, "bort-nano")

    @property
    def answer_bytes(self) -> int:
        """Size of the cached answers."""
        return sum(file.stat().st_size for file in self.answers.rglob("*.bin"))

    def batch(self, kind: Kind, first: int) -> Any:
        """The rows of one step, from `first` on, with the cached answers if `kind` is `cache`."""
        from bort.pretraining.taught_rows import TaughtRows

        taught = self.taught if kind == "cache" else TaughtRows(self.taught.rows)
        return self.collator([taught[first + n] for n in range(self.settings.batch_size)])

    def objective(self, kind: Kind) -> Any:
        """The loss `without` a teacher, with the `cache`, or with the teacher running `beside` the student."""
        from bort.pretraining.arguments import PretrainArguments
        from bort.pretraining.objective import Objective

        plain = PretrainArguments(corpus=[], tokenizer="", out="")
        return Objective(plain if kind == "without" else self.settings, self.live if kind == "beside" else None)

    def steps(self, kind: Kind, repeat_after: int = 10**9) -> tuple[Any, Callable[[], None]]:
        """A new student, and a function that trains it for one step: forward, backward, clipping and AdamW, in fp32.

        Args:
            kind: As for `objective`.
            repeat_after: The number of rows after which they repeat.
        """
        import torch

        objective = self.objective(kind)
        model = copy.deepcopy(self.student).train()
        groups = [
            {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.01},
            {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=1e-3, eps=1e-6, fused=True)
        place, size = itertools.count(), self.settings.batch_size

        def step() -> None:
            loss, _ = objective(model, self.batch(kind, next(place) * size % repeat_after))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

        return model, step
