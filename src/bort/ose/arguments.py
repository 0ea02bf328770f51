"""Arguments of `bort extract`, without imports of torch, so that its help is fast."""

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
    Seed,
    Share,
    WithoutEffect,
    listed,
    refuse_given,
)
from bort.errors import BortError
from bort.workers import TrialFiles

ErrorKind = Literal["cross_entropy", "kl"]
_WITHOUT_EFFECT: WithoutEffect = (
    (
        lambda a: a.inherit is not None,
        "cannot be combined with --inherit, which sets it",
        ("maximum", "tokenizer", "positions"),
    ),
    (lambda a: a.max_steps is None, "needs --max-steps", ("rank_agreement",)),
    (
        lambda a: a.time == "ops" and a.max_latency_ms is None,
        "is for measured times: give --time measured or --max-latency-ms",
        ("timed_members", "batch_size"),
    ),
)


@dataclass
class ExtractArguments:
    """Arguments of `bort extract`.

    Example:
        >>> ExtractArguments(["texts.txt"], "runs/search").out
        'runs/search'
    """

    corpus: list[str]
    """text files (one paragraph per line, a blank line between documents; also .gz, .xz, .bz2, .zst), hub data sets as
    owner/name[@config]:split, or one tokenised corpus folder"""
    out: str
    """folder of the run: architecture.json, candidates.csv, report.html, the best checkpoints, and the state for
    --resume"""
    inherit: str | None = None
    """trained encoder whose parts are the candidates, including their weights; it is the maximum point T and, by
    default, the teacher"""
    space: str | None = None
    """search space: paper, nano, or a YAML file with lists for depth, heads, hidden and intermediate, and with
    --inherit also vocabulary; by default nano, or with --inherit depths and fractions of the encoder's own sizes"""
    teacher: str | None = None
    """teacher whose outputs the candidates learn to match: a masked LM with their vocabulary, ideally the trained
    maximum point"""
    maximum: str | None = None
    """maximum point T as D,A,H,I; by default the largest member; without --teacher, its outputs are those of random
    weights"""
    tokenizer: str | None = None
    """folder or hub name of the tokenizer; by default the teacher's, or bort-nano's without a teacher"""
    epsilon: PositiveInt = 1
    """train every ε-th candidate in the order of size and time; 1 trains all"""
    outputs: Literal["auto", "logits", "embeddings"] = "auto"
    """teacher outputs that candidates learn: its masked-LM predictions, or with --inherit its embeddings; auto: logits
    if it has a masked-LM head and the space has no vocabularies, else embeddings"""
    steps: PositiveInt = 200
    """training steps per candidate"""
    max_steps: PositiveInt | None = None
    """double --steps, up to this number, until the candidates rank as they did after half the steps"""
    rank_agreement: Annotated[float, Above(0), AtMost(1)] = 0.9
    """with --max-steps: stop doubling when the rank correlation of the errors after s / 2 and s steps reaches this"""
    repeats: NonNegativeInt = 3
    """retrain this many of the best candidates with another seed; candidates that differ by no more than this noise are
    level with the best"""
    rows_per_step: PositiveInt = 32
    """rows of text per training step"""
    row_length: Annotated[int, AtLeast(8)] = 128
    """tokens per row, including <s> and </s>"""
    held_out_rows: PositiveInt = 64
    """number of held-out rows on which the error is measured, at their masked positions or by their embeddings"""
    mask_probability: Annotated[float, Above(0), Below(1)] = 0.15
    """share of the tokens to predict: 80 % of them masked, 10 % replaced, 10 % kept"""
    learning_rates: Annotated[list[PositiveFloat], NotEmpty()] = field(default_factory=lambda: [3e-4, 1e-3, 3e-3])
    """peak learning rates; each candidate is trained with each of them, and its lowest error counts"""
    warmup: Share = 0.1
    """share of the steps in which the learning rate rises; it falls to 0 by the last step"""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """adamw, or sgd, which the theorem assumes but which hardly moves a transformer in so few steps"""
    clip_weights: PositiveFloat | None = None
    """keep every weight between -X and X, since the theorem assumes a compact set of weights"""
    dropout: Share = 0.0
    """dropout during the training of candidates"""
    error: ErrorKind = "cross_entropy"
    """cross_entropy: cross-entropy with the teacher's outputs, as published; kl: the same minus the teacher's own
    entropy, so that a perfect student has an error of 0 and differences count for more"""
    time: Literal["ops", "measured"] = "ops"
    """inference time: ops counts operations; measured times some members on this device and fits a polynomial"""
    timed_members: Annotated[int, AtLeast(10)] = 24
    """with --time measured or --max-latency-ms: number of members to time, in fp32"""
    batch_size: PositiveInt = 1
    """texts per inference"""
    sequence_length: PositiveInt = 128
    """tokens per text at inference"""
    max_latency_ms: PositiveFloat | None = None
    """consider only members that take at most this many milliseconds per inference, measured even with --time ops"""
    max_parameters: PositiveInt | None = None
    """consider only members with at most this many parameters, embeddings included"""
    max_error: PositiveFloat | None = None
    """consider only candidates with at most this error (in nats, as --error counts it, or 1 - cosine to the teacher) as
    the answer; bounds on size alone never exclude the smallest member"""
    positions: Annotated[int, AtLeast(8)] = 512
    """number of position embeddings; with --inherit the encoder's own"""
    top_k: PositiveInt = 3
    """number of checkpoints to keep, best first"""
    corpus_cache: str | None = None
    """folder for the tokenised corpus; by default OUT/corpus"""
    corpus_processes: PositiveInt | None = None
    """number of tokenising processes, which does not change the corpus; by default one per core if there is enough
    text"""
    teacher_cache: str | None = None
    """folder for the teacher's outputs; by default OUT/teacher"""
    valid_share: Annotated[float, Above(0), AtMost(0.5)] = 0.005
    """share of the documents held out to measure the error"""
    precision: Precision = "auto"
    """auto: bf16 autocast where the hardware supports it, else fp32"""
    workers: str = "local"
    """where trials run: local, sequentially in this process; ray, on the running Ray cluster or a new one on this
    machine; HOST:PORT, on the Ray cluster whose head listens there"""
    trial_cpus: PositiveFloat = 1.0
    """on Ray: CPU cores per trial"""
    trial_gpus: NonNegativeFloat = 0.0
    """on Ray: GPUs per trial; 0.5 lets two trials share one"""
    trial_memory_gb: PositiveFloat | None = None
    """on Ray: GB of memory reserved per trial"""
    trial_retries: NonNegativeInt = 2
    """on Ray: number of retries of a trial whose worker died"""
    trial_files: TrialFiles = "shared"
    """on Ray: shared if all nodes see OUT, the corpus and the teacher's outputs under the same paths; sent if they see
    none of these: the data are sent to them, and checkpoints come back as bytes"""
    seed: Seed = 0
    """random seed for the weights, the rows, the masks and the dropout"""
    resume: bool = False
    """continue the run in OUT"""

    TOPICS: ClassVar[dict[str, tuple[str, ...]]] = {
        "data": listed("corpus tokenizer valid_share corpus_cache corpus_processes"),
        "search": listed(
            """inherit space epsilon teacher maximum outputs error time timed_members max_latency_ms max_parameters
            max_error positions"""
        ),
        "training of candidates": listed(
            """steps max_steps rank_agreement repeats rows_per_step row_length held_out_rows learning_rates warmup
            optimizer clip_weights dropout mask_probability precision"""
        ),
        "inference that is counted or timed": listed("batch_size sequence_length"),
        "run": listed("out resume top_k seed teacher_cache"),
        "where trials run": listed("workers trial_cpus trial_gpus trial_memory_gb trial_retries trial_files"),
    }
    RARE: ClassVar[frozenset[str]] = frozenset(
        listed(
            """rank_agreement repeats valid_share corpus_cache corpus_processes timed_members positions held_out_rows
            optimizer clip_weights dropout mask_probability warmup teacher_cache trial_cpus trial_gpus
            trial_memory_gb trial_retries trial_files"""
        )
    )

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            BortError: The first contradiction.
        """
        refuse_given(self, _WITHOUT_EFFECT)
        if self.inherit is None and self.teacher is None and self.maximum is None:
            raise BortError("give --teacher, or --maximum D,A,H,I for a maximum point with random weights")
        if self.max_steps is not None and self.max_steps < 2 * self.steps:
            raise BortError(f"must be at least twice the {self.steps} steps", setting="max_steps", value=self.max_steps)
        if self.inherit is None:  # an encoder has its own positions
            self.check_lengths(self.positions)

    def check_lengths(self, positions: int) -> None:
        """Refuse rows or texts that are longer than the candidates' positions.

        Raises:
            BortError: The first such length.

        Example:
            >>> import bort
            >>> bort.ExtractArguments(corpus=["texts.txt"], out="runs/search").check_lengths(512)
        """
        for name in ("row_length", "sequence_length"):
            if (length := getattr(self, name)) > positions:
                raise BortError(f"must be at most the {positions} positions", setting=name, value=length)
