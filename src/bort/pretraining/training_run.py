"""A pre-training run: its training and held-out rows, its checkpoints, and the files in its folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedTokenizerFast

from bort.data.corpus.corpus import Corpus
from bort.errors import BortError
from bort.model.checkpoints import quiet, save
from bort.model.config import count_parameters
from bort.model.devices import describe, use_bf16
from bort.model.modelling import BortForMaskedLM
from bort.predict.sentence_folder import write_sentence_files
from bort.pretraining.arguments import PretrainArguments
from bort.pretraining.distill.run_teachers import Teachers
from bort.pretraining.fsdp import whole
from bort.pretraining.report import pretrain_report
from bort.pretraining.rows import RowSource
from bort.pretraining.taught_rows import Collator
from bort.pretraining.trainer import UNBOUNDED_STEPS, MlmTrainer, RunCallback, StepClock, rows_per_step
from bort.pretraining.validation import Validation, unigram_score
from bort.progress import Bar, bar
from bort.runs import Run
from bort.training import checkpoints, distributed


class TrainingRun:
    """A pre-training run, ready to train.

    Args:
        arguments: Its settings.
        run: Its folder.
        corpus: Its text.
        tokenizer: The student's tokenizer.
        teachers: Its teachers; the constructor computes the outputs that are cached.
        model: The student.
    """

    def __init__(
        self,
        arguments: PretrainArguments,
        run: Run,
        corpus: Corpus,
        tokenizer: PreTrainedTokenizerFast,
        teachers: Teachers,
        model: BortForMaskedLM,
    ) -> None:
        self.arguments, self.run, self.corpus = arguments, run, corpus
        self.tokenizer, self.teachers, self.model = tokenizer, teachers, model
        self.evaluations: list[dict[str, float]] = []
        source = RowSource(arguments, corpus, tokenizer)
        self.rows_per_step = rows_per_step(arguments)
        length = (arguments.max_steps or UNBOUNDED_STEPS) * self.rows_per_step
        self.rows = teachers.taught(source.training(length, self.rows_per_step), corpus)
        self.validation = Validation(
            source.masked() if arguments.masks else None,
            teachers.taught_held_out(source.compared(), corpus) if teachers.embeds else None,
            Collator(tokenizer.pad_token_id),
            arguments.batch_size,
            use_bf16(arguments.precision),
        )

    def train(self) -> dict[str, Any]:
        """Train to the end of the budget, save the model, and return the metrics ({} except on the first process)."""
        arguments = self.arguments
        clock = StepClock(arguments.max_steps, None if arguments.max_minutes is None else 60 * arguments.max_minutes)
        checkpoint = distributed.together(self._checkpoint, first_alone=True)
        if checkpoint is not None:
            clock.elapsed = checkpoints.about(checkpoint)["elapsed"]
        reached = 0 if checkpoint is None else checkpoints.step_of(checkpoint)
        known = distributed.from_first(_last_pass(self.run.events("validation")))
        self.evaluations = [event for event in known if event["step"] <= reached]
        with bar("pre-training", 1.0, silent=not distributed.is_first()) as shown:
            trainer = distributed.together(lambda: self._trainer(clock, shown))
            if not self.evaluations:
                self._validate(0, 0.0)
            with quiet():
                trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        steps = trainer.state.global_step
        final = self._validate(steps, clock.seconds())
        model = whole(trainer)
        if not distributed.is_first():
            return {}
        self._save(model)
        return self._finish(steps, clock.seconds(), final)

    def _checkpoint(self) -> Path | None:
        """The checkpoint to resume; the number of processes must not change, since the rows of a step depend on it."""
        checkpoint = checkpoints.latest_checkpoint(self.run.path / "checkpoints")
        if checkpoint is not None:
            before = checkpoints.about(checkpoint)["processes"]
            if before != distributed.count():
                rule = f"the run to resume was started with {before} processes; launch as many"
                raise BortError(rule, file=self.run.path, column="processes", value=distributed.count())
        return checkpoint

    def _trainer(self, clock: StepClock, shown: Bar) -> MlmTrainer:
        trainer = MlmTrainer(
            self.arguments,
            self.model,
            self.rows,
            self.teachers.objective(),
            clock,
            pad_id=self.tokenizer.pad_token_id,
            folder=self.run.path / "checkpoints",
        )
        callback = RunCallback(
            self.run,
            clock,
            shown,
            lambda step: _in_words(self._validate(step, clock.seconds())),
            tokens_per_step=trainer.tokens_per_step,
            checkpoint_seconds=60 * self.arguments.checkpoint_minutes,
        )
        trainer.add_callback(callback)
        return trainer

    def _validate(self, step: int, seconds: float) -> dict[str, float]:
        """Score the held-out rows and record the result.

        Every process scores all rows: otherwise it would only wait, and sharded weights need every process.
        """
        scores = self.validation.score(self.model)
        event = {"step": step, "seconds": round(seconds, 1), **scores}
        if not any(known["step"] == step for known in self.evaluations):
            self.run.log("validation", **event)
            self.evaluations.append(event)
        return scores

    def _save(self, model: BortForMaskedLM) -> None:
        if self.arguments.position_init == "fixed":
            self.tokenizer.model_max_length = self.model.config.max_position_embeddings
        elif self.arguments.init is None and self.arguments.init_from is None:
            self.tokenizer.model_max_length = self.arguments.sequence_length  # later positions were never trained
        # Without a masked-LM loss the head was not trained, and must not pass for a teacher's.
        named = {} if self.arguments.masks else {"architectures": ["BertModel"]}
        save(model, self.tokenizer, self.run.path, **named)
        pooling: Literal["mean", "cls"] = "cls" if self.arguments.pooling == "first" else "mean"
        longest = min(self.tokenizer.model_max_length, model.config.max_position_embeddings)
        write_sentence_files(self.run.path, model.config.hidden_size, longest, pooling)

    def _finish(self, steps: int, seconds: float, final: dict[str, float]) -> dict[str, Any]:
        metrics: dict[str, Any] = {}
        for name in ("loss", "accuracy", "distance"):
            if name in final:
                metrics |= {f"validation_{name}": final[name], f"initial_{name}": self.evaluations[0][name]}
        if self.validation.masked is not None:
            unigram = unigram_score(self.corpus.tokens("train"), self.validation.masked, len(self.tokenizer))
            metrics |= {"unigram_loss": unigram.loss, "unigram_accuracy": unigram.accuracy}
            metrics["validation_positions"] = int(final["positions"])
        tokens = self.rows.rows.tokens_of(steps * self.rows_per_step)
        metrics |= {
            "steps": steps,
            "tokens": tokens,
            "distinct_rows": self.rows.rows.rows_per_epoch,
            "corpus_tokens": self.corpus.info.train_tokens,
            "seconds": round(seconds, 1),
            "tokens_per_second": round(tokens / max(seconds, 1e-9)),
            "device": describe(),
            "processes": distributed.count(),
            "precision": "bf16" if self.validation.bf16 else "fp32",
            "parameters": count_parameters(self.model.config).total,
        }
        losses = _last_pass(self.run.events("step"))
        self.run.write_page(pretrain_report(self.run.path.name, metrics, losses, self.evaluations))
        self.run.write_json("metrics.json", metrics)
        self.run.log("finished", **metrics)
        checkpoints.discard(self.run.path / "checkpoints")
        return metrics


def _last_pass(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out events of steps that a resumed run took again."""
    kept: list[dict[str, Any]] = []
    for event in events:
        while kept and kept[-1]["step"] >= event["step"]:
            kept.pop()
        kept.append(event)
    return kept


def _in_words(scores: dict[str, float]) -> str:
    words = []
    if "loss" in scores:
        words.append(f"loss {scores['loss']:.3f}, {100 * scores['accuracy']:.1f} % right")
    if "distance" in scores:
        words.append(f"cosine to the teacher {1 - scores['distance']:.3f}")
    return "; ".join(words)
