"""Creates the lesson that candidates learn from the settings of a run."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from bort.bounds import refuse_given
from bort.errors import BortError
from bort.model.checkpoints import load_config
from bort.model.devices import best_device
from bort.model.vocabulary_cut import count_tokens
from bort.ose.arguments import ExtractArguments
from bort.ose.embedding_lesson import EmbeddingLesson, LessonTexts, embedding_lesson
from bort.ose.inherited import InheritedEncoder
from bort.ose.logit_lesson import FreshTeacher, InheritedStart, LogitLesson, MaskedRows, RandomStart, logit_lesson
from bort.ose.plan import SearchPlan
from bort.ose.short_training import Training
from bort.ose.space import Shape
from bort.ose.texts import draw_texts
from bort.pretraining.distill.mlm_teacher import MaskedLMTeacher
from bort.pretraining.run_corpus import tokenised
from bort.progress import in_parts, say
from bort.runs import Run

_COUNTED_TEXTS = 100_000
"""Minimum number of texts to sample if tokens are counted to cut a vocabulary."""
_OF_PREDICTIONS = ("error", "mask_probability", "valid_share", "corpus_cache", "corpus_processes")
_NO_PREDICTIONS = "is for masked-LM predictions, and this search learns embeddings"


def outputs_of(arguments: ExtractArguments, plan: SearchPlan, inherited: InheritedEncoder | None) -> str:
    """Choose which outputs of the teacher are learned: `logits` or `embeddings`.

    Raises:
        BortError: The requested outputs cannot be learned in this space or from this encoder, or a setting is given
            that has no effect on them.
    """
    if inherited is None:
        if arguments.outputs == "embeddings":
            raise BortError("need --inherit", setting="outputs", value=arguments.outputs)
        return "logits"
    has_logits = inherited.has_mlm_head and not plan.space.vocabulary
    if arguments.outputs == "logits" and not has_logits:
        lack = "a space without vocabularies" if inherited.has_mlm_head else "an encoder with a masked-LM head"
        raise BortError(f"need {lack}", setting="outputs", value=arguments.outputs)
    outputs = "logits" if arguments.outputs != "embeddings" and has_logits else "embeddings"
    narrow = min(plan.space.hidden)
    if outputs == "embeddings" and narrow != inherited.config.hidden_size:
        rule = f"must be {inherited.config.hidden_size}, because vectors are compared with those of {inherited.source}"
        raise BortError(rule, setting="space", column="hidden", value=narrow)
    refuse_given(arguments, [(lambda a: outputs == "embeddings", _NO_PREDICTIONS, _OF_PREDICTIONS)])
    return outputs


def lesson_of(
    arguments: ExtractArguments,
    plan: SearchPlan,
    outputs: str,
    inherited: InheritedEncoder | None,
    tokenizer: PreTrainedTokenizerFast,
    run: Run,
) -> LogitLesson | EmbeddingLesson:
    """Read the text, run the teacher on it, and create the lesson that candidates are trained on.

    Args:
        arguments: Settings of the run.
        plan: Plan of the search.
        outputs: `logits` or `embeddings`.
        inherited: The encoder whose parts are the candidates, if any.
        tokenizer: The tokenizer of the encoder, or of all candidates.
        run: The run; its folder holds the teacher's outputs by default.

    Raises:
        BortError: Unreadable or too little text, or a teacher with another vocabulary.
    """
    folder = Path(arguments.teacher_cache or run.path / "teacher")
    steps = arguments.max_steps or arguments.steps
    if outputs == "embeddings":
        assert inherited is not None
        return embeddings_of(arguments, plan, inherited, steps, folder)
    teacher: MaskedLMTeacher | None = None
    if (source := arguments.teacher or arguments.inherit) is not None:  # refused before the text is tokenised
        teacher = MaskedLMTeacher(source, tokenizer.get_vocab(), best_device(), longest=arguments.row_length)
    corpus = tokenised(
        arguments.corpus,
        tokenizer,
        arguments.corpus_cache,
        valid_share=arguments.valid_share,
        run=run,
        encoders=arguments.corpus_processes,
    )
    masked = MaskedRows(
        corpus,
        tokenizer,
        steps,
        arguments.rows_per_step,
        arguments.row_length,
        arguments.held_out_rows,
        arguments.mask_probability,
        arguments.seed,
    )
    random = RandomStart(plan.costs.config, masked.log_frequencies)
    if teacher is None:
        teacher = FreshTeacher(plan.top, random, arguments.seed)
    starts = random if inherited is None else InheritedStart(inherited)
    return logit_lesson(masked, teacher, starts, folder, arguments.error, arguments.precision)


def embeddings_of(
    arguments: ExtractArguments, plan: SearchPlan, inherited: InheritedEncoder, steps: int, folder: Path
) -> EmbeddingLesson:
    """Create the lesson of a sentence encoder.

    Args:
        arguments: Settings of the run.
        plan: Plan of the search.
        inherited: The encoder whose parts are the candidates.
        steps: Number of training batches.
        folder: Folder for the teacher's outputs.

    Raises:
        BortError: Unreadable or too little text, or a teacher with another vocabulary or width.
    """
    if len(arguments.corpus) == 1 and (Path(arguments.corpus[0]) / "corpus.json").is_file():
        rule = "must be text where embeddings are learned, not a tokenised corpus"
        raise BortError(rule, setting="corpus", value=arguments.corpus[0])
    trained_on, held_out = steps * arguments.rows_per_step, arguments.held_out_rows
    wanted = trained_on + held_out
    sizes = plan.space.vocabulary or (inherited.config.vocab_size,)
    is_cut = min(sizes) < inherited.config.vocab_size
    asked = max(wanted, 2 * held_out, _COUNTED_TEXTS if is_cut else 0)
    drawn = draw_texts(arguments.corpus, asked, arguments.seed)
    texts = list(dict.fromkeys(drawn))
    if len(texts) < 2 * held_out:
        rule = f"must be at most half of the corpus's {len(texts)} different texts"
        if len(drawn) == asked:  # there may be more
            rule = f"must be at most half of the {len(texts)} different texts among {asked} lines of the corpus"
        raise BortError(rule, setting="held_out_rows", value=held_out)
    if is_cut:
        counted = chain.from_iterable(in_parts("counting tokens", texts[held_out:]))
        inherited = inherited.with_vocabularies(sizes, count_tokens(inherited.tokenizer, counted))
    chosen = LessonTexts(
        texts[held_out:wanted], texts[:held_out], steps, arguments.rows_per_step, arguments.row_length, arguments.seed
    )
    teacher = arguments.teacher or inherited.source
    return embedding_lesson(inherited, sizes, chosen, folder, arguments.precision, teacher)


def training_of(arguments: ExtractArguments) -> Training:
    """How candidates are trained, with the initial number of steps and the first seed."""
    a = arguments
    return Training(a.steps, a.warmup, a.optimizer, a.clip_weights, a.dropout, seed=a.seed, order_seed=a.seed)


def warn_of_another_teacher(arguments: ExtractArguments, top: Shape) -> None:
    """Warn if the teacher's shape is not that of T: savings and errors would relate to different models."""
    if arguments.teacher is None:
        return
    theirs = load_config(arguments.teacher)
    names = ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size", "vocab_size")
    own = tuple(getattr(theirs, name, None) for name in names)[: len(top)]
    if own != top:
        shown = ",".join(map(str, own))
        cure = f"--maximum {shown} makes them agree" if arguments.inherit is None else "leave --teacher out"
        say(
            f"the teacher is ⟨{shown}⟩, the maximum point {top}: savings are counted beside one model and "
            f"errors beside another; {cure}"
        )
