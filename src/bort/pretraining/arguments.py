"""The settings of `bort pretrain`; the command line and `--config` files are views of these."""

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
    Share,
)
from bort.errors import BortError, flag

KdLoss = Literal["kl", "as-released"]
Pooling = Literal["mean", "first", "both"]

_NEEDED = {"needed": "unless --plan"}


@dataclass
class PretrainArguments:
    """Arguments of `bort pretrain`.

    Example:
        >>> PretrainArguments(["texts.txt"], "tokenizer", "runs/encoder").architecture
        'nano'
    """

    corpus: list[str] = field(default_factory=list, metadata=_NEEDED)
    """text files (one paragraph a line, a blank line between documents; .gz, .xz, .bz2, .zst too), hub data sets as
    owner/name[@config]:split, or one tokenised corpus folder"""
    tokenizer: str = field(default="", metadata=_NEEDED)
    """folder or hub name of the tokenizer"""
    out: str = field(default="", metadata=_NEEDED)
    """folder of the run: the model, its figures, its report, and what it resumes from"""
    architecture: str = "nano"
    """a preset (bort, bort-2-16-1024-512, bort-768, nano), a JSON file or folder with a shape, or a folder of
    `bort extract`"""
    init: str | None = None
    """start from this model's weights instead of random ones; sets the architecture"""
    init_from: str | None = None
    """cut the student of this architecture out of a trained encoder, with its weights: evenly spread layers, the heads,
    neurons and dimensions with the largest weights, and the vocabulary of --tokenizer, which must be part of its own
    (the encoder itself, or what `bort shrink` cut)"""
    position_init: Literal["sinusoidal", "fixed", "normal"] = "sinusoidal"
    """positions of random weights begin as sinusoids, so that neighbours begin alike and attention to them is learned
    sooner, or as noise, as in the released code; fixed: sinusoids that this run does not train, so that inputs longer
    than its rows meet no position that is less trained than others"""
    corpus_cache: str | None = None
    """folder for the tokenised corpus; by default OUT/corpus"""
    corpus_processes: PositiveInt | None = None
    """processes that tokenise; by default one per core if there is enough text. The corpus does not depend on it"""
    valid_share: Annotated[float, Above(0), AtMost(0.5)] = 0.005
    """share of the documents held out for validation"""
    max_steps: PositiveInt | None = None
    """stop after this many optimiser steps"""
    max_minutes: PositiveFloat | None = None
    """stop after this much training time; the learning rate reaches 0 by then"""
    batch_size: PositiveInt = 32
    """rows per step and device"""
    accumulate: PositiveInt = 1
    """steps whose gradients are summed before each optimiser step"""
    sequence_length: Annotated[int, AtLeast(8)] = 128
    """tokens per row, <s> and </s> included; with --rows sentences the maximum"""
    mask_probability: Annotated[float, Above(0), Below(1)] = 0.15
    """share of the tokens to predict: 80 % of them masked, 10 % replaced, 10 % kept"""
    learning_rate: PositiveFloat = 1e-4
    """peak learning rate"""
    warmup: Share = 0.01
    """share of the run in which the learning rate rises"""
    weight_decay: NonNegativeFloat = 0.01
    """decoupled weight decay, not applied to biases and layer norms"""
    rows: Literal["packed", "sentences"] = "packed"
    """packed: full rows cut from the running text; sentences: one each, padded, in batches of like length"""
    distinct_rows: PositiveInt | None = None
    """train on so many rows of the corpus, chosen by chance, again and again in another order; what a teacher said of
    each is then kept. By default all of the corpus, or as many as max_steps take where a teacher's answers are kept"""
    dropout: Share = 0.1
    """dropout during pre-training; 0 is faster and no worse if no text is seen twice. The saved model keeps 0.1"""
    teacher: str | None = None
    """distil from this masked LM, which must share the student's vocabulary"""
    temperature: PositiveFloat = 2.0
    """distillation temperature T"""
    mlm_weight: NonNegativeFloat | None = None
    """weight of the masked-LM loss; by default 1, 0.1 with a teacher, 0 with an embedding teacher"""
    kd_weight: NonNegativeFloat = 0.5
    """weight of the distillation loss"""
    kd_loss: KdLoss = "kl"
    """kl is the paper's loss; as-released is what the released code computes (two softmaxes, a mean over the
    vocabulary), which all but switches distillation off"""
    embedding_teacher: str | None = None
    """the student learns the sentence and token embeddings of this encoder, whatever its vocabulary; its answers
    are computed once, before the run"""
    embedding_weight: NonNegativeFloat = 1.0
    """weight of 1 - cosine between the student's pooled and projected vector and the teacher's"""
    similarity_weight: NonNegativeFloat = 5.0
    """weight of the squared differences of the cosines within a batch"""
    token_weight: NonNegativeFloat = 0.0
    """weight of 1 - cosine between the vectors of tokens, aligned by their characters; above 0 the cache holds a vector
    of the teacher for each token"""
    token_layers: list[PositiveInt] = field(default_factory=list)
    """layers of the student, counted from 1, that --token-weight applies to; by default the last. Each is compared
    with the teacher's layer at the same relative depth"""
    pooling: Pooling = "mean"
    """student vector that is compared: the mean over the tokens, the first token (which a classifier reads), or
    both"""
    words_from_teacher: bool = False
    """random weights only: word embeddings begin as the embedding teacher's vector of each entry of the vocabulary,
    reduced to the student's width by principal components"""
    teacher_cache: str | None = None
    """folder that keeps what the teacher says of each row, for this run and others on the same rows. Without it a
    teacher is asked at each step, and the answers of an embedding teacher of another vocabulary lie in OUT"""
    teacher_top_k: PositiveInt = 64
    """cached distributions: most probable tokens kept per masked position"""
    teacher_tail: NonNegativeInt = 16
    """cached distributions: samples that represent the other tokens"""
    teacher_dtype: Literal["fp16", "fp32"] = "fp16"
    """type of the numbers in the cache"""
    precision: Precision = "auto"
    """bf16 autocast where the hardware supports it (auto), or as named"""
    seed: NonNegativeInt = 0
    """seed of the weights, the order of the data and the masks"""
    checkpoint_minutes: NonNegativeFloat = 5.0
    """time between checkpoints"""
    fsdp: bool = False
    """several GPUs: split weights, gradients and optimiser states between them (FSDP) instead of a copy on each"""
    compile: bool = False
    """torch.compile the student: minutes at the start, faster steps on a GPU"""
    plan: bool = False
    """train nothing: measure 20 steps on this device and report what the run would take; needs no corpus and no OUT"""
    resume: bool = False
    """continue the run in OUT"""

    @property
    def weight_of_mlm(self) -> float:
        """`mlm_weight`, or its default: the published 0.1 beside a teacher, 0 beside an embedding teacher, else 1."""
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
        """Whether a teacher's distributions are asked for once and kept, rather than at each step."""
        return self.teacher is not None and self.teacher_cache is not None

    TOPICS: ClassVar[dict[str, tuple[str, ...]]] = {
        "data": (
            "corpus",
            "tokenizer",
            "rows",
            "sequence_length",
            "mask_probability",
            "valid_share",
            "distinct_rows",
            "corpus_cache",
            "corpus_processes",
        ),
        "model": ("architecture", "init", "init_from", "position_init", "dropout", "precision"),
        "run": ("out", "max_steps", "max_minutes", "resume", "plan", "seed", "checkpoint_minutes"),
        "optimisation": ("batch_size", "accumulate", "learning_rate", "warmup", "weight_decay"),
        "teacher with the same vocabulary": ("teacher", "temperature", "mlm_weight", "kd_weight", "kd_loss"),
        "embedding teacher": (
            "embedding_teacher",
            "embedding_weight",
            "similarity_weight",
            "token_weight",
            "token_layers",
            "pooling",
            "words_from_teacher",
        ),
        "cached answers of a teacher": ("teacher_cache", "teacher_top_k", "teacher_tail", "teacher_dtype"),
        "several GPUs and compilation": ("fsdp", "compile"),
    }
    RARE: ClassVar[frozenset[str]] = frozenset(
        {
            "distinct_rows",
            "corpus_cache",
            "corpus_processes",
            "valid_share",
            "mask_probability",
            "position_init",
            "checkpoint_minutes",
            "kd_loss",
            "similarity_weight",
            "token_layers",
            "pooling",
            "words_from_teacher",
            "teacher_top_k",
            "teacher_tail",
            "teacher_dtype",
        }
    )

    def check(self) -> None:
        """Refuse settings that do not go together.

        Raises:
            BortError: The first of them.
        """
        if not self.plan and (lacking := [name for name in ("corpus", "tokenizer", "out") if not getattr(self, name)]):
            raise BortError(f"needs {', '.join(map(flag, lacking))} (only --plan does without)")
        if self.max_steps is None and self.max_minutes is None:
            raise BortError("give --max-steps or --max-minutes, or the run would not end")
        if self.plan and self.max_steps is None:
            raise BortError("--plan needs --max-steps, or there is no run to plan")
        if self.init is not None and self.init_from is not None:
            raise BortError("cannot stand beside --init", setting="init_from", value=self.init_from)
        self._check_teachers()

    def _check_teachers(self) -> None:
        embeds, kept = self.embedding_teacher is not None, self.teacher_cache is not None
        if kept and not embeds and self.teacher is None:
            raise BortError("needs a --teacher or an --embedding-teacher", setting="teacher_cache")
        if self.words_from_teacher and not embeds:
            raise BortError("needs an --embedding-teacher", setting="words_from_teacher")
        if self.words_from_teacher and (self.init or self.init_from):
            raise BortError("is for random weights; leave --init and --init-from out", setting="words_from_teacher")
        if (embeds or (kept and self.teacher)) and self.max_steps is None and self.distinct_rows is None:
            rule = "say with --distinct-rows how many rows the teacher shall read, or give --max-steps"
            raise BortError(rule, setting="max_steps")
        if kept and self.teacher is not None and self.kd_loss != "kl":
            raise BortError("a cache holds what the loss kl needs", setting="kd_loss", value=self.kd_loss)
        if self.token_layers and not self.token_weight:
            raise BortError("needs a --token-weight above 0", setting="token_layers")
