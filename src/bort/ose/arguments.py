"""Arguments of `bort extract`, apart from what needs torch, so that its help loads at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

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
from bort.workers import TrialFiles

ErrorKind = Literal["cross_entropy", "kl"]


@dataclass
class ExtractArguments:
    """Arguments of `bort extract`."""

    corpus: list[str]
    """text files (one paragraph a line, a blank line between documents; .gz, .xz, .bz2, .zst too), hub data sets as
    owner/name[@config]:split, or one tokenised corpus folder"""
    out: str
    """folder of the run: architecture.json, candidates.csv, report.html, the best checkpoints, and what it resumes
    from"""
    space: str = "nano"
    """what is searched: paper, nano, or a YAML file with lists for depth, heads, hidden and intermediate"""
    teacher: str | None = None
    """masked LM of the candidates' vocabulary whose outputs they are to match: the maximum point, trained"""
    maximum: str | None = None
    """the maximum point T as D,A,H,I; by default the largest member. Without --teacher its outputs are those of random
    weights"""
    tokenizer: str | None = None
    """folder or hub name of the tokenizer; by default the teacher's, and without one bort-nano's"""
    epsilon: PositiveInt = 1
    """train every so many-th member, in the order of size and time; 1 trains all"""
    steps: PositiveInt = 200
    """training steps of a candidate (s)"""
    rows_per_step: PositiveInt = 32
    """rows of text a training step"""
    row_length: Annotated[int, AtLeast(8)] = 128
    """tokens of a row, <s> and </s> among them"""
    held_out_rows: PositiveInt = 64
    """held-out rows on whose masked positions the error is measured"""
    mask_probability: Annotated[float, Above(0), Below(1)] = 0.15
    """part of the tokens to predict: 80 % of them masked, 10 % replaced, 10 % left"""
    learning_rates: Annotated[list[PositiveFloat], NotEmpty()] = field(default_factory=lambda: [3e-4, 1e-3, 3e-3])
    """peak learning rates; each candidate is trained once with each, and the least error counts"""
    warmup: Share = 0.1
    """part of the steps in which the learning rate rises; it falls to 0 by the last"""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """adamw, or sgd, which the theorem assumes and which hardly moves a transformer in so few steps"""
    clip_weights: PositiveFloat | None = None
    """keep every weight between -X and X, as the theorem assumes of a compact set of weights"""
    dropout: Share = 0.0
    """dropout of candidates while they are trained"""
    error: ErrorKind = "cross_entropy"
    """the error: cross-entropy with the teacher's outputs, as published; kl: less the teacher's own entropy, so that a
    perfect student has 0 and differences count for more"""
    time: Literal["ops", "measured"] = "ops"
    """inference time: counted operations, or a polynomial fitted to members that are timed on this device"""
    timed_members: Annotated[int, AtLeast(10)] = 24
    """measured: how many members are timed, in fp32"""
    batch_size: PositiveInt = 1
    """texts at a time at inference"""
    sequence_length: PositiveInt = 128
    """tokens of a text at inference"""
    max_latency_ms: PositiveFloat | None = None
    """only members that take at most so many milliseconds an inference; they are timed for it, whatever --time says"""
    max_parameters: PositiveInt | None = None
    """only members with at most so many parameters, embeddings and layers"""
    max_error: PositiveFloat | None = None
    """only candidates whose error (in nats, as --error counts it) is at most this may win; bounds on size alone never
    keep the smallest out"""
    positions: Annotated[int, AtLeast(8)] = 512
    """rows of the position embedding"""
    top_k: PositiveInt = 3
    """checkpoints to keep, best first"""
    corpus_cache: str | None = None
    """where the tokenised corpus is kept; OUT/corpus by default"""
    corpus_processes: PositiveInt | None = None
    """processes that tokenise; by default one a core, where there is so much text. Any number gives the same corpus"""
    teacher_cache: str | None = None
    """where the teacher's outputs are kept; OUT/teacher by default"""
    valid_share: Annotated[float, Above(0), AtMost(0.5)] = 0.005
    """part of the documents held out for the error"""
    precision: Precision = "auto"
    """bf16 autocast where the processor or GPU computes in it (auto), or as named"""
    workers: str = "local"
    """where trials run: local, one after another in this process; ray, on the Ray cluster of this machine or a new one;
    HOST:PORT, on the cluster whose head listens there."""
    trial_cpus: PositiveFloat = 1.0
    """ray: cores a trial"""
    trial_gpus: NonNegativeFloat = 0.0
    """ray: GPUs a trial; 0.5 lets two share one"""
    trial_memory_gb: PositiveFloat | None = None
    """ray: memory a trial, for the cluster to count"""
    trial_retries: NonNegativeInt = 2
    """ray: how often a trial whose worker died is run again"""
    trial_files: TrialFiles = "shared"
    """ray: shared: all nodes see OUT, the corpus and the teacher's outputs under the same paths; sent: they see none of
    it, it is sent, and checkpoints come back as bytes"""
    seed: NonNegativeInt = 0
    """seed of the weights, the rows and the masks"""
    resume: bool = False
    """go on with the run in OUT"""

    def check(self) -> None:
        """Refuse settings that do not go together.

        Raises:
            BortError: The first of them.
        """
        if self.teacher is None and self.maximum is None:
            raise BortError("give --teacher, or --maximum D,A,H,I for a maximum point with random weights")
        for name in ("row_length", "sequence_length"):
            if (length := getattr(self, name)) > self.positions:
                raise BortError(f"must be at most the {self.positions} positions", setting=name, value=length)
