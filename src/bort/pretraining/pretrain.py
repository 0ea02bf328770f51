"""Pre-training: the masked LM, alone or beside distillation from a teacher (PAPERS: arXiv 2010.10499, section 4)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, PreTrainedTokenizerFast, PrinterCallback

from bort.bounds import validate
from bort.data.corpus.corpus import Corpus
from bort.errors import BortError
from bort.model.checkpoints import load, locate, quiet, save
from bort.model.config import architecture, count_parameters
from bort.model.devices import describe, use_bf16
from bort.model.modelling import BortForMaskedLM, set_dropout
from bort.model.tokenization import load_tokenizer
from bort.pretraining.arguments import PretrainArguments
from bort.pretraining.distill.projected_student import Student
from bort.pretraining.distill.run_teachers import Teaching
from bort.pretraining.fsdp import fsdp_settings, make_shardable, whole
from bort.pretraining.init_weights import start_from_sinusoids, start_from_teacher_words, start_from_word_counts
from bort.pretraining.objective import Collator, Objective, TaughtRows, decodes
from bort.pretraining.rows import RowSource
from bort.pretraining.run_corpus import tokenised
from bort.pretraining.trainer import Clock, MlmTrainer, RunCallback
from bort.pretraining.validation import Validation, unigram_score
from bort.progress import bar, console
from bort.runs import Run
from bort.training import distributed
from bort.training.checkpoints import COMPLETE, latest_checkpoint
from bort.training.settings import trainer_settings

_UNBOUNDED_STEPS = 10_000_000


_EVALUATIONS = 10


@distributed.told_once()
def pretrain(arguments: PretrainArguments) -> dict[str, Any]:
    """Pre-train a model on text, write it to `arguments.out`, and return its figures.

    Of several processes that a launcher has started, the first returns the figures and the others an empty mapping.

    Killed at any time, a run of the same settings with `resume` goes on from its last checkpoint; with `max_steps`
    it ends with the weights of an uninterrupted one.

    Raises:
        BortError: Bad settings, unreadable text, a teacher of another vocabulary, a loss that is no longer finite.
    """
    distributed.join()
    prepared = distributed.together(lambda: _prepare(arguments), first_alone=True)
    if isinstance(prepared, dict):
        return prepared if distributed.is_first() else {}
    return prepared.train()


def _prepare(arguments: PretrainArguments) -> _Pretraining | dict[str, Any]:
    """What a run starts from, or the figures of one that has ended."""
    validate(arguments)
    tokenizer = load_tokenizer(arguments.tokenizer)
    config = _config(arguments, tokenizer)
    may_change = ("max_minutes", "checkpoint_minutes", "corpus_processes")
    first = distributed.is_first()
    run = Run(arguments.out, "pretrain", arguments, resume=arguments.resume, may_change=may_change, leads=first)
    if (metrics_file := run.path / "metrics.json").is_file():
        if first:
            console().print(f"{run.path}: already finished")
        metrics: dict[str, Any] = json.loads(metrics_file.read_text("utf-8"))
        return metrics
    corpus = tokenised(
        arguments.corpus,
        tokenizer,
        arguments.corpus_cache,
        valid_share=arguments.valid_share,
        run=run,
        encoders=arguments.corpus_processes,
    )
    folder = Path(arguments.teacher_cache or run.path / "teacher")
    teaching = Teaching(arguments, corpus, tokenizer, folder, distributed.device())
    return _Pretraining(arguments, run, corpus, tokenizer, teaching, _model(arguments, config, corpus, teaching))


def _model(arguments: PretrainArguments, config: BertConfig, corpus: Corpus, teaching: Teaching) -> BortForMaskedLM:
    """What training starts from."""
    torch.manual_seed(arguments.seed)
    if arguments.init is None:
        model = BortForMaskedLM(config)
        start_from_word_counts(model, corpus.tokens("train"))
        if arguments.position_init != "normal":
            start_from_sinusoids(model)
    else:
        model = load(BortForMaskedLM, arguments.init)
    model = teaching.student(model)
    if arguments.words_from_teacher and isinstance(model, Student):
        start_from_teacher_words(model, teaching.words(), teaching.tokenizer.all_special_ids)
    if arguments.position_init == "fixed":
        model.bert.embeddings.position_embeddings.requires_grad_(False)
    if not decodes(arguments):
        # What no loss reaches must not wait for a gradient. The decoder's weights are the word embeddings.
        model.cls.predictions.transform.requires_grad_(False)
        model.cls.predictions.bias.requires_grad_(False)
    set_dropout(model, arguments.dropout)
    return model


def _config(arguments: PretrainArguments, tokenizer: PreTrainedTokenizerFast) -> BertConfig:
    source = arguments.init or arguments.architecture
    if arguments.init is not None:
        source = locate(arguments.init)
    config = architecture(source, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    if arguments.sequence_length > config.max_position_embeddings:
        rule = f"must be at most the architecture's {config.max_position_embeddings} positions"
        raise BortError(rule, setting="sequence_length", value=arguments.sequence_length)
    return config


class _Pretraining:
    """One run: its data, its trainer, its figures."""

    def __init__(
        self,
        arguments: PretrainArguments,
        run: Run,
        corpus: Corpus,
        tokenizer: PreTrainedTokenizerFast,
        teaching: Teaching,
        model: BortForMaskedLM,
    ) -> None:
        self.arguments, self.run, self.corpus = arguments, run, corpus
        self.tokenizer, self.teaching, self.model = tokenizer, teaching, model
        self.bf16 = use_bf16(arguments.precision)
        self.source = RowSource(arguments, corpus, tokenizer)
        self.collator = Collator(tokenizer.pad_token_id)
        self.evaluations: list[dict[str, float]] = []

        depth = model.config.num_hidden_layers
        self.rows_per_step = arguments.batch_size * arguments.accumulate * distributed.count()
        length = (arguments.max_steps or _UNBOUNDED_STEPS) * self.rows_per_step
        self.rows = teaching.limit(self.source.training(length, self.rows_per_step))
        self.taught = TaughtRows(self.rows, teaching.ask(self.rows, depth))
        compared = None
        if teaching.embeds:
            held_out = self.source.compared()
            compared = TaughtRows(held_out, (teaching.ask_held_out(held_out, depth),))
        masked = self.source.masked() if decodes(arguments) else None
        self.validation = Validation(masked, compared, self.collator, arguments.batch_size, self.bf16)

    def train(self) -> dict[str, Any]:
        """Train to the end of the budget, save, and describe."""
        arguments = self.arguments
        self.evaluations = distributed.from_first(list(self.run.events("validation")))
        clock = Clock(arguments.max_steps, None if arguments.max_minutes is None else 60 * arguments.max_minutes)
        checkpoint = distributed.together(self._checkpoint, first_alone=True)
        if checkpoint is not None:
            clock.elapsed = json.loads((checkpoint / COMPLETE).read_text("utf-8"))["elapsed"]
        with bar("pre-training", 1.0, silent=not distributed.is_first()) as shown:
            trainer = distributed.together(lambda: self._trainer(clock))
            callback = _PretrainCallback(
                self,
                clock,
                shown,
                tokens_per_step=trainer.tokens_per_step,
                log_steps=trainer.args.logging_steps,
                checkpoint_seconds=60 * arguments.checkpoint_minutes,
            )
            trainer.add_callback(callback)
            if not self.evaluations:
                self.validate(0, 0.0)
            with quiet():
                trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        steps = trainer.state.global_step
        final = self.validate(steps, clock.seconds())
        model = whole(trainer)
        if not trainer.is_world_process_zero():
            return {}
        if arguments.position_init == "fixed":
            self.tokenizer.model_max_length = self.model.config.max_position_embeddings
        elif arguments.init is None:
            self.tokenizer.model_max_length = arguments.sequence_length  # positions beyond it were never trained
        save(model, self.tokenizer, self.run.path)
        return self._finish(steps, self.rows.tokens_of(steps * self.rows_per_step), clock.seconds(), final)

    def _checkpoint(self) -> Path | None:
        """Where to go on from; the rows of a step depend on the number of processes, which must not change."""
        checkpoint = latest_checkpoint(self.run.path / "checkpoints")
        if checkpoint is not None:
            before = json.loads((checkpoint / COMPLETE).read_text("utf-8")).get("processes", 1)
            if before != distributed.count():
                rule = f"the run to resume was started with {before} processes; launch as many"
                raise BortError(rule, file=self.run.path, column="processes", value=distributed.count())
        return checkpoint

    def _trainer(self, clock: Clock) -> MlmTrainer:
        arguments = self.arguments
        steps = arguments.max_steps or _UNBOUNDED_STEPS
        settings = trainer_settings(
            self.run.path / "checkpoints",
            max_steps=steps,
            per_device_train_batch_size=arguments.batch_size,
            gradient_accumulation_steps=arguments.accumulate,
            learning_rate=arguments.learning_rate,
            weight_decay=arguments.weight_decay,
            bf16=self.bf16,
            logging_steps=max(1, min(50, steps // 20)),
            seed=arguments.seed,
            torch_compile=arguments.compile,
            **fsdp_settings(arguments.fsdp),
        )
        live = arguments.teacher is not None and not self.teaching.keeps_logits
        trainer = MlmTrainer(
            arguments,
            clock,
            Objective(
                arguments,
                self.teaching.masked_lm() if live else None,
                self.teaching.layers(self.model.config.num_hidden_layers),
            ),
            tokens_per_step=self.rows_per_step * (2 + float(self.rows.lengths.mean())),
            model=self.model,
            args=settings,
            train_dataset=self.taught,
            data_collator=self.collator,
        )
        trainer.remove_callback(PrinterCallback)
        if trainer.is_fsdp_enabled:
            make_shardable(self.model)
            self.model.to(settings.device)  # the trainer leaves where it is what it will shard
        if settings.process_index:
            torch.manual_seed(arguments.seed + settings.process_index)  # other rows, other dropout
        return trainer

    def validate(self, step: int, seconds: float) -> dict[str, float]:
        """Score the held-out rows and note the result.

        Every process scores all of them: those that did not would only wait, and sharded weights need all of them.
        """
        scores = self.validation.score(self.model)
        event = {"step": step, "seconds": round(seconds, 1), **scores}
        if not any(known["step"] == step for known in self.evaluations):
            self.run.log("validation", **event)
            self.evaluations.append(event)
        return scores

    def _finish(self, steps: int, tokens: int, seconds: float, final: dict[str, float]) -> dict[str, Any]:
        from bort.pretraining.report import pretrain_report

        metrics: dict[str, Any] = {}
        for name in ("loss", "accuracy", "distance"):
            if name in final:
                metrics |= {f"validation_{name}": final[name], f"initial_{name}": self.evaluations[0][name]}
        if self.validation.masked is not None:
            unigram = unigram_score(self.corpus.tokens("train"), self.validation.masked, len(self.tokenizer))
            metrics |= {"unigram_loss": unigram.loss, "unigram_accuracy": unigram.accuracy}
            metrics["validation_positions"] = int(final["positions"])
        metrics |= {
            "steps": steps,
            "tokens": tokens,
            "distinct_rows": self.rows.rows_per_epoch,
            "corpus_tokens": self.corpus.info.train_tokens,
            "seconds": round(seconds, 1),
            "tokens_per_second": round(tokens / max(seconds, 1e-9)),
            "device": describe(),
            "processes": distributed.count(),
            "precision": "bf16" if self.bf16 else "fp32",
            "parameters": count_parameters(self.model.config).total,
        }
        pretrain_report(self.run, metrics, self.evaluations)
        self.run.write_json("metrics.json", metrics)
        self.run.log("finished", **metrics)
        return metrics


class _PretrainCallback(RunCallback):
    """Adds a validation ten times a run."""

    def __init__(self, pretraining: _Pretraining, clock: Clock, shown: Any, **settings: Any) -> None:
        super().__init__(pretraining.run, clock, shown, **settings)
        self.pretraining = pretraining
        self._done = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Begin from where the run is, which on resuming is not the start."""
        super().on_train_begin(args, state, control, **more)
        self._done = int(_EVALUATIONS * self.clock.progress(state.global_step))

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Validate at each tenth but the last, which the end of the run does."""
        super().on_step_end(args, state, control, **more)
        now = int(_EVALUATIONS * self.clock.progress(state.global_step))
        if self._done < now < _EVALUATIONS:
            self._done = now
            score = self.pretraining.validate(state.global_step, self.clock.seconds())
            self.note = f"{self.note} (validation {in_words(score)})"


def in_words(scores: dict[str, float]) -> str:
    """Held-out figures for a person."""
    words = []
    if "loss" in scores:
        words.append(f"loss {scores['loss']:.3f}, {100 * scores['accuracy']:.1f} % right")
    if "distance" in scores:
        words.append(f"cosine to the teacher {1 - scores['distance']:.3f}")
    return "; ".join(words)
