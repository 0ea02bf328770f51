"""Arguments of `bort extract`, apart from what needs torch, so that its help loads at once."""

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
    NotEmpty,
    PositiveFloat,
    PositiveInt,
    Precision,
    Share,
)
from bort.errors import BortError
from bort.workers import RARE_WHERE_TRIALS_RUN, TrialFiles

ErrorKind = Literal["cross_entropy", "kl"]


@dataclass
class ExtractArguments:
    """Arguments of `bort extract`.

    Example:
        >>> ExtractArguments(["texts.txt"], "runs/search").out
        'runs/search'
    """

    corpus: list[str]
    """text files (one paragraph a line, a blank line between documents; .gz, .xz, .bz2, .zst too), hub data sets as
    owner/name[@config]:split, or one tokenised corpus folder"""
    out: str
    """folder of the run: architecture.json, candidates.csv, report.html, the best checkpoints, and what it resumes
    from"""
    inherit: str | None = None
    """trained encoder whose parts the candidates are, weights and all; it is the maximum point T, and the teacher"""
    space: str | None = None
    """what is searched: paper, nano, or a YAML file with lists for depth, heads, hidden and intermediate, and with
    --inherit for vocabulary too; by default nano, with --inherit depths and fractions of the encoder's own sizes"""
    teacher: str | None = None
    """masked LM of the candidates' vocabulary whose outputs they are to match: the maximum point, trained"""
    maximum: str | None = None
    """the maximum point T as D,A,H,I; by default the largest member. Without --teacher its outputs are those of random
    weights"""
    tokenizer: str | None = None
    """folder or hub name of the tokenizer; by default the teacher's, and without one bort-nano's"""
    epsilon: PositiveInt = 1
    """train every ε-th candidate in the order of size and time; 1 trains all"""
    outputs: Literal["auto", "logits", "embeddings"] = "auto"
    """what candidates learn of the teacher: its masked-LM predictions, or with --inherit its embeddings; auto: logits
    where it has a masked-LM head and the space no vocabularies"""
    steps: PositiveInt = 200
    """training steps per candidate"""
    max_steps: PositiveInt | None = None
    """double --steps, up to this many, until the candidates rank as after half the steps"""
    rank_agreement: Annotated[float, Above(0), AtMost(1)] = 0.9
    """rank correlation of the errors after s / 2 and s steps from which --max-steps is content"""
    repeats: NonNegativeInt = 3
    """number of the best candidates that are trained again from another seed; what differs by no more than they do is
    level with the best"""
    rows_per_step: PositiveInt = 32
    """rows of text per training step"""
    row_length: Annotated[int, AtLeast(8)] = 128
    """tokens per row, <s> and </s> included"""
    held_out_rows: PositiveInt = 64
    """held-out rows on which the error is measured: at their masked positions, or by their embeddings"""
    mask_probability: Annotated[float, Above(0), Below(1)] = 0.15
    """share of the tokens to predict: 80 % of them masked, 10 % replaced, 10 % kept"""
    learning_rates: Annotated[list[PositiveFloat], NotEmpty()] = field(default_factory=lambda: [3e-4, 1e-3, 3e-3])
    """peak learning rates; each candidate is trained with each, and its least error counts"""
    warmup: Share = 0.1
    """share of the steps in which the learning rate rises; it falls to 0 by the last"""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """adamw, or sgd, which the theorem assumes and which hardly moves a transformer in so few steps"""
    clip_weights: PositiveFloat | None = None
    """keep every weight between -X and X, as the theorem assumes of a compact set of weights"""
    dropout: Share = 0.0
    """dropout while candidates train"""
    error: ErrorKind = "cross_entropy"
    """the error: cross-entropy with the teacher's outputs, as published; kl: less the teacher's own entropy, so that a
    perfect student has 0 and differences count for more"""
    time: Literal["ops", "measured"] = "ops"
    """inference time: counted operations, or a polynomial fitted to the times of some members on this device"""
    timed_members: Annotated[int, AtLeast(10)] = 24
    """with --time measured: number of members timed, in fp32"""
    batch_size: PositiveInt = 1
    """texts per inference"""
    sequence_length: PositiveInt = 128
    """tokens per text at inference"""
    max_latency_ms: PositiveFloat | None = None
    """consider only members that take at most this many milliseconds per inference; they are timed for it, whatever
    --time says"""
    max_parameters: PositiveInt | None = None
    """consider only members with at most this many parameters, embeddings included"""
    max_error: PositiveFloat | None = None
    """only candidates whose error (in nats, as --error counts it, or 1 - cosine to the teacher) is at most this may
    win; bounds on size alone never keep the smallest out"""
    positions: Annotated[int, AtLeast(8)] = 512
    """rows of the position embedding; with --inherit the encoder's own"""
    top_k: PositiveInt = 3
    """number of checkpoints to keep, best first"""
    corpus_cache: str | None = None
    """folder for the tokenised corpus; by default OUT/corpus"""
    corpus_processes: PositiveInt | None = None
    """processes that tokenise; by default one per core if there is enough text. The corpus does not depend on it"""
    teacher_cache: str | None = None
    """folder for the teacher's outputs; by default OUT/teacher"""
    valid_share: Annotated[float, Above(0), AtMost(0.5)] = 0.005
    """share of the documents held out to measure the error"""
    precision: Precision = "auto"
    """bf16 autocast where the hardware supports it (auto), or as named"""
    workers: str = "local"
    """where trials run: local, one after another in this process; ray, on the Ray cluster of this machine or a new one;
    HOST:PORT, on the cluster whose head listens there."""
    trial_cpus: PositiveFloat = 1.0
    """on Ray: CPU cores per trial"""
    trial_gpus: NonNegativeFloat = 0.0
    """on Ray: GPUs per trial; 0.5 lets two trials share one"""
    trial_memory_gb: PositiveFloat | None = None
    """on Ray: memory reserved per trial"""
    trial_retries: NonNegativeInt = 2
    """on Ray: how often a trial is retried after its worker died"""
    trial_files: TrialFiles = "shared"
    """ray: shared: all nodes see OUT, the corpus and the teacher's outputs under the same paths; sent: they see none of
    it, it is sent, and checkpoints come back as bytes"""
    seed: NonNegativeInt = 0
    """seed of the weights, the rows and the masks"""
    resume: bool = False
    """continue the run in OUT"""

    TOPICS: ClassVar[dict[str, tuple[str, ...]]] = {
        "data": ("corpus", "tokenizer", "valid_share", "corpus_cache", "corpus_processes"),
        "search": (
            "inherit",
            "space",
            "epsilon",
            "teacher",
            "maximum",
            "outputs",
            "error",
            "time",
            "timed_members",
            "max_latency_ms",
            "max_parameters",
            "max_error",
            "positions",
        ),
        "training of candidates": (
            "steps",
            "max_steps",
            "rank_agreement",
            "repeats",
            "rows_per_step",
            "row_length",
            "held_out_rows",
            "learning_rates",
            "warmup",
            "optimizer",
            "clip_weights",
            "dropout",
            "mask_probability",
            "precision",
        ),
        "inference that is counted or timed": ("batch_size", "sequence_length"),
        "run": ("out", "resume", "top_k", "seed", "teacher_cache"),
        "where trials run": ("workers", "trial_cpus", "trial_gpus", "trial_memory_gb", "trial_retries", "trial_files"),
    }
    RARE: ClassVar[frozenset[str]] = RARE_WHERE_TRIALS_RUN | frozenset(
        {
            "rank_agreement",
            "repeats",
            "valid_share",
            "corpus_cache",
            "corpus_processes",
            "timed_members",
            "positions",
            "held_out_rows",
            "optimizer",
            "clip_weights",
            "dropout",
            "mask_probability",
            "warmup",
            "teacher_cache",
        }
    )

    def check(self) -> None:
        """Refuse settings that do not go together.

        Raises:
            BortError: The first of them.
        """
        if self.inherit is not None:
            for name in ("maximum", "tokenizer"):
                if (value := getattr(self, name)) is not None:
                    raise BortError("cannot stand beside --inherit, which gives it", setting=name, value=value)
        elif self.teacher is None and self.maximum is None:
            raise BortError("give --teacher, or --maximum D,A,H,I for a maximum point with random weights")
        if self.max_steps is not None and self.max_steps < 2 * self.steps:
            raise BortError(f"must be at least twice the {self.steps} steps", setting="max_steps", value=self.max_steps)
        for name in ("row_length", "sequence_length"):
            if (length := getattr(self, name)) > self.positions:
                raise BortError(f"must be at most the {self.positions} positions", setting=name, value=length)
