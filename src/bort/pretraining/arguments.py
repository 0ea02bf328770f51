"""Settings of `bort pretrain`, for Python, the command line and `--config` files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from bort.bounds import (
    Above,
    AtLeast,
    AtMost,
    Below,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Precision,
    Seed,
    Share,
    WithoutEffect,
    listed,
    refuse_given,
)
from bort.errors import BortError, flag

KdLoss = Literal["kl", "as-released"]
Pooling = Literal["mean", "first", "both"]

_NEEDED = {"needed": "unless --plan"}
_WITHOUT_EFFECT: WithoutEffect = (
    (lambda a: a.teacher is None, "needs a --teacher", ("temperature", "kd_weight", "kd_loss")),
    (lambda a: not a.keeps_logits, "needs a --teacher and a --teacher-cache", ("teacher_top_k", "teacher_tail")),
    (
        lambda a: not a.keeps_logits and a.embedding_teacher is None,
        "needs an --embedding-teacher, or a --teacher and a --teacher-cache",
        ("teacher_dtype",),
    ),
    (
        lambda a: a.embedding_teacher is None,
        "needs an --embedding-teacher",
        ("embedding_weight", "similarity_weight", "token_weight", "token_layers", "words_from_teacher"),
    ),
    (lambda a: not a.token_weight, "needs a --token-weight above 0", ("token_layers",)),
    (lambda a: not a.masks, "needs an --mlm-weight above 0, or nothing is masked", ("mask_probability",)),
    (
        lambda a: a.init or a.init_from,
        "is for random weights; leave --init and --init-from out",
        ("words_from_teacher",),
    ),
)


@dataclass
class PretrainArguments:
    """Arguments of `bort pretrain`.

    Example:
        >>> PretrainArguments(["texts.txt"], "tokenizer", "runs/encoder").architecture
        'nano'
    """

    corpus: list[str] = field(default_factory=list, metadata=_NEEDED)
    """text files (one paragraph per line, a blank line between documents; also .gz, .xz, .bz2, .zst), hub data sets as
    owner/name[@config]:split, or one tokenised corpus folder"""
    tokenizer: str = field(default="", metadata=_NEEDED)
    """folder or hub name of the tokenizer"""
    out: str = field(default="", metadata=_NEEDED)
    """folder of the run: the model, its metrics, its report, and the state for --resume"""
    architecture: str = "nano"
    """preset (bort, bort-2-16-1024-512, bort-768, nano), JSON file or folder with a shape, or output folder of `bort
    extract`"""
    init: str | None = None
    """start from this model's weights instead of random ones; sets the architecture"""
    init_from: str | None = None
    """start from the part of this trained encoder that has the shape of --architecture: evenly spread layers, the
    heads, neurons and dimensions with the largest weights, and the vocabulary of --tokenizer, which must be contained
    in the encoder's (give the encoder itself, or an output folder of `bort shrink`)"""
    position_init: Literal["sinusoidal", "fixed", "normal"] = "sinusoidal"
    """initial position embeddings of random weights; sinusoidal: neighbouring positions start alike, so attention to
    neighbours is learned sooner; normal: noise, as in the released code; fixed: sinusoids that are not trained, so that
    inputs longer than the rows use no position that is less trained than others"""
    corpus_cache: str | None = None
    """folder for the tokenised corpus; by default OUT/corpus"""
    corpus_processes: PositiveInt | None = None
    """number of tokenising processes, which does not change the corpus; by default one per core if there is enough
    text"""
    valid_share: Annotated[float, Above(0), AtMost(0.5)] = 0.005
    """share of the documents held out for validation"""
    max_steps: PositiveInt | None = None
    """stop after this many optimiser steps"""
    max_minutes: PositiveFloat | None = None
    """stop after this many minutes of training; the learning rate reaches 0 by then"""
    batch_size: PositiveInt = 32
    """rows per step and device"""
    accumulate: PositiveInt = 1
    """gradient accumulation: number of batches per optimiser step"""
    sequence_length: Annotated[int, AtLeast(8)] = 128
    """tokens per row, including <s> and </s>; with --rows sentences the maximum"""
    mask_probability: Annotated[float, Above(0), Below(1)] = 0.15
    """share of the tokens to predict: 80 % of them masked, 10 % replaced, 10 % kept"""
    learning_rate: PositiveFloat = 1e-4
    """peak learning rate"""
    warmup: Share = 0.01
    """share of the run in which the learning rate rises"""
    weight_decay: NonNegativeFloat = 0.01
    """decoupled weight decay, not applied to biases and layer norms"""
    rows: Literal["packed", "sentences"] = "packed"
    """packed: full rows cut from the running text; sentences: one sentence per row, padded, in batches of similar
    length"""
    distinct_rows: PositiveInt | None = None
    """train on this many rows of the corpus, sampled at random, over and over in different orders; by default all of
    the corpus, or as many as --max-steps takes with --embedding-teacher, or with --teacher and --teacher-cache"""
    dropout: Share = 0.1
    """dropout during pre-training; 0 is faster, and no worse if no text is seen twice; the saved model keeps 0.1"""
    teacher: str | None = None
    """distil from this masked LM, which must have the student's vocabulary"""
    temperature: PositiveFloat = 2.0
    """distillation temperature T"""
    mlm_weight: NonNegativeFloat | None = None
    """weight of the masked-LM loss; by default 1, 0.1 with --teacher, 0 with --embedding-teacher"""
    kd_weight: NonNegativeFloat = 0.5
    """weight of the distillation loss"""
    kd_loss: KdLoss = "kl"
    """kl: the paper's loss; as-released: what the released code computes (two softmaxes, a mean over the vocabulary),
    which nearly switches distillation off"""
    embedding_teacher: str | None = None
    """learn the sentence and token embeddings of this encoder, whatever its vocabulary; its outputs are computed once,
    before training, or at each step if its vocabulary contains the student's and there is no --teacher-cache"""
    embedding_weight: NonNegativeFloat = 1.0
    """weight of 1 - cosine between the student's pooled and projected vector and the teacher's"""
    similarity_weight: NonNegativeFloat = 5.0
    """weight of the mean squared difference of the cosines within a batch"""
    token_weight: NonNegativeFloat = 0.0
    """weight of 1 - cosine between token vectors, aligned by their characters; above 0 the cache holds the teacher's
    vector of each token"""
    token_layers: list[PositiveInt] = field(default_factory=list)
    """student layers, counted from 1, that --token-weight applies to; by default the last; each is compared with the
    teacher's layer at the same relative depth"""
    pooling: Pooling = "mean"
    """student vector to compare: the mean over the tokens, the first token (which a classifier reads), or both"""
    words_from_teacher: bool = False
    """random weights only: initialise word embeddings with the embedding teacher's vector of each vocabulary entry,
    reduced to the student's width by principal components"""
    teacher_cache: str | None = None
    """folder that caches the teacher's outputs per row, for this run and others on the same rows; by default a masked
    LM, or an encoder whose vocabulary contains the student's, runs at each step, and other encoders are cached in
    OUT/teacher"""
    teacher_top_k: PositiveInt = 64
    """cached distributions: number of most probable tokens per masked position"""
    teacher_tail: NonNegativeInt = 16
    """cached distributions: number of samples per masked position that represent the other tokens"""
    teacher_dtype: Literal["fp16", "fp32"] = "fp16"
    """number type of the cache"""
    precision: Precision = "auto"
    """auto: bf16 autocast where the hardware supports it, else fp32"""
    seed: Seed = 0
    """random seed for the weights, the data order and the masks"""
    checkpoint_minutes: NonNegativeFloat = 5.0
    """minutes between checkpoints"""
    fsdp: bool = False
    """several GPUs: shard weights, gradients and optimiser states across them (FSDP) instead of replicating them"""
    compile: bool = False
    """compile the student with torch.compile: minutes at the start, faster steps on a GPU"""
    plan: bool = False
    """do not train: measure 20 steps on this device and report what the run would take; needs no corpus, tokenizer or
    OUT"""
    resume: bool = False
    """continue the run in OUT"""

    @property
    def weight_of_mlm(self) -> float:
        """`mlm_weight`, or its default: the published 0.1 with a teacher, 0 with an embedding teacher, else 1."""
        if self.mlm_weight is not None:
            return self.mlm_weight
        if self.teacher is not None:
            return 0.1
        return 1.0 if self.embedding_teacher is None else 0.0

    @property
    def masks(self) -> bool:
        """Whether tokens are masked and predicted."""
        return self.teacher is not None or self.weight_of_mlm > 0

    @property
    def keeps_logits(self) -> bool:
        """Whether a teacher's distributions are computed once and cached, rather than at each step."""
        return self.teacher is not None and self.teacher_cache is not None

    TOPICS: ClassVar[dict[str, tuple[str, ...]]] = {
        "data": listed(
            """corpus tokenizer rows sequence_length mask_probability valid_share distinct_rows corpus_cache
            corpus_processes"""
        ),
        "model": listed("architecture init init_from position_init dropout precision"),
        "run": listed("out max_steps max_minutes resume plan seed checkpoint_minutes"),
        "optimisation": listed("batch_size accumulate learning_rate warmup weight_decay"),
        "teacher with the same vocabulary": listed("teacher temperature mlm_weight kd_weight kd_loss"),
        "embedding teacher": listed(
            """embedding_teacher embedding_weight similarity_weight token_weight token_layers pooling
            words_from_teacher"""
        ),
        "cached answers of a teacher": listed("teacher_cache teacher_top_k teacher_tail teacher_dtype"),
        "several GPUs and compilation": listed("fsdp compile"),
    }
    RARE: ClassVar[frozenset[str]] = frozenset(
        listed(
            """distinct_rows corpus_cache corpus_processes valid_share mask_probability position_init
            checkpoint_minutes kd_loss similarity_weight token_layers pooling words_from_teacher teacher_top_k
            teacher_tail teacher_dtype"""
        )
    )

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            BortError: The first contradiction.
        """
        if not self.plan and (lacking := [name for name in ("corpus", "tokenizer", "out") if not getattr(self, name)]):
            raise BortError(f"needs {', '.join(map(flag, lacking))} (only --plan does without)")
        if self.max_steps is None and self.max_minutes is None:
            raise BortError("give --max-steps or --max-minutes, or the run would not end")
        if self.plan and self.max_steps is None:
            raise BortError("--plan needs --max-steps, or there is no run to plan")
        if self.position_init == "fixed" and (self.init or self.init_from):
            # The positions of another model are no sinusoids, and those that it never used would stay untrained.
            rule = "cannot be combined with --init or --init-from; --position-init sinusoidal lets positions learn"
            raise BortError(rule, setting="position_init", value="fixed")
        if self.init is not None and self.init_from is not None:
            raise BortError("cannot be combined with --init", setting="init_from", value=self.init_from)
        self._check_teachers()

    def _check_teachers(self) -> None:
        embeds, kept = self.embedding_teacher is not None, self.teacher_cache is not None
        if kept and not embeds and self.teacher is None:
            raise BortError("needs a --teacher or an --embedding-teacher", setting="teacher_cache")
        if not self.masks and not embeds:
            raise BortError("must be above 0 without a teacher", setting="mlm_weight", value=self.mlm_weight)
        weights = ["mlm_weight"] + ["kd_weight"] * (self.teacher is not None)
        weights += ["embedding_weight", "similarity_weight", "token_weight"] * embeds
        if not self.weight_of_mlm and not any(getattr(self, name) for name in weights[1:]):
            rule = f"at least one of {', '.join(map(flag, weights))} must be above 0, or there is no loss"
            raise BortError(rule, setting=weights[1], value=0.0)
        refuse_given(self, _WITHOUT_EFFECT)
        if (embeds or (kept and self.teacher)) and self.max_steps is None and self.distinct_rows is None:
            rule = "say with --distinct-rows how many rows the teacher shall read, or give --max-steps"
            raise BortError(rule, setting="max_steps")
        if kept and self.teacher is not None and self.kd_loss != "kl":
            raise BortError("a cache holds what the loss kl needs", setting="kd_loss", value=self.kd_loss)
