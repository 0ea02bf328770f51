"""Pre-training: masked LM, alone or together with distillation from a teacher (arXiv 2010.10499, section 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import BertConfig, PreTrainedTokenizerFast

from bort.bounds import validate
from bort.errors import BortError
from bort.model.checkpoints import locate
from bort.model.tokenization import load_tokenizer, require_special_tokens
from bort.predict.fingerprint import fingerprints_of_models
from bort.pretraining.arguments import PretrainArguments
from bort.pretraining.distill.run_teachers import Teachers
from bort.pretraining.init_weights import inherited_vocabulary, initial_model, student_config
from bort.pretraining.run_corpus import tokenised
from bort.pretraining.training_run import TrainingRun
from bort.runs import Run
from bort.training import distributed
from bort.training.randomness import own_randomness

_MAY_CHANGE = ("max_minutes", "checkpoint_minutes", "corpus_processes")


@own_randomness()
@distributed.told_once()
def pretrain(arguments: PretrainArguments) -> dict[str, Any]:
    """Pre-train a model on text, write it to `arguments.out`, and return its metrics.

    If a launcher started several processes, the first returns the metrics and the others an empty mapping.

    A killed run continues from its last checkpoint if it is started again with the same settings and `resume`; with
    `max_steps` it ends with the weights of an uninterrupted run.

    Raises:
        BortError: Invalid settings, unreadable text, a teacher with another vocabulary, or a loss that is not finite.
    """
    distributed.join()
    run, tokenizer, config = distributed.together(lambda: _open(arguments), first_alone=True)
    figures = run.finished()
    if figures is None:
        prepared = distributed.together(lambda: _prepare(arguments, run, tokenizer, config), first_alone=True)
        figures = prepared.train()
    return figures if distributed.is_first() else {}


def _open(arguments: PretrainArguments) -> tuple[Run, PreTrainedTokenizerFast, BertConfig]:
    """Check the settings, load tokenizer and configuration, and open the run's folder."""
    validate(arguments)
    tokenizer = load_tokenizer(arguments.tokenizer)
    require_special_tokens(tokenizer, arguments.tokenizer, masks=arguments.masks)
    config = student_config(arguments, len(tokenizer), tokenizer.pad_token_id)
    if arguments.init is not None and load_tokenizer(arguments.init).get_vocab() != tokenizer.get_vocab():
        raise BortError("must have the vocabulary of --tokenizer", setting="init", value=arguments.init)
    if arguments.init_from is not None:
        inherited_vocabulary(arguments.init_from, tokenizer)
    if arguments.embedding_teacher is not None:
        locate(arguments.embedding_teacher)
    leads = distributed.is_first()
    run = Run(arguments.out, "pretrain", arguments, resume=arguments.resume, may_change=_MAY_CHANGE, leads=leads)
    return run, tokenizer, config


def _prepare(
    arguments: PretrainArguments, run: Run, tokenizer: PreTrainedTokenizerFast, config: BertConfig
) -> TrainingRun:
    """Prepare the teachers, the corpus and the initial model."""
    answers = Path(arguments.teacher_cache or run.path / "teacher")
    teachers = Teachers(arguments, tokenizer, config.num_hidden_layers, answers, distributed.device())
    teachers.check()  # before the text is tokenised
    corpus = tokenised(
        arguments.corpus,
        tokenizer,
        arguments.corpus_cache,
        valid_share=arguments.valid_share,
        run=run,
        encoders=arguments.corpus_processes,
    )
    if run.leads:
        models = ("tokenizer", "init", "init_from", "teacher", "embedding_teacher")
        run.same_data(fingerprints_of_models(**{name: getattr(arguments, name) for name in models}))
    model = initial_model(arguments, config, corpus, teachers)
    return TrainingRun(arguments, run, corpus, tokenizer, teachers, model)
