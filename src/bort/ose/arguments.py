"""Arguments of `bort extract`, apart from what needs torch, so that its help loads at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bort.model.devices import Precision
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
    epsilon: int = 1
    """train every so many-th member, in the order of size and time; 1 trains all"""
    steps: int = 200
    """training steps of a candidate (s)"""
    rows_per_step: int = 32
    """rows of text a training step"""
    row_length: int = 128
    """tokens of a row, <s> and </s> among them"""
    held_out_rows: int = 64
    """held-out rows on whose masked positions the error is measured"""
    mask_probability: float = 0.15
    """part of the tokens to predict: 80 % of them masked, 10 % replaced, 10 % left"""
    learning_rates: list[float] = field(default_factory=lambda: [1e-3])
    """peak learning rates; each candidate is trained once with each, and the least error counts"""
    warmup: float = 0.1
    """part of the steps in which the learning rate rises; it falls to 0 by the last"""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """adamw, or sgd as the theorem assumes, which hardly moves a transformer in so few steps"""
    clip_weights: float | None = None
    """keep every weight between -X and X, as the theorem assumes"""
    dropout: float = 0.0
    """dropout of candidates while they are trained"""
    error: ErrorKind = "cross_entropy"
    """the error: cross-entropy with the teacher's outputs, as published; kl: less the teacher's own entropy, so that a
    perfect student has 0 and differences count for more"""
    time: Literal["ops", "measured"] = "ops"
    """inference time: counted operations, or a polynomial fitted to members that are timed on this device"""
    timed_members: int = 24
    """measured: how many members are timed, in fp32"""
    batch_size: int = 1
    """texts at a time at inference"""
    sequence_length: int = 128
    """tokens of a text at inference"""
    max_latency_ms: float | None = None
    """only members that take at most so many milliseconds an inference; they are timed for it, whatever --time says"""
    max_parameters: int | None = None
    """only members with at most so many parameters, embeddings and layers"""
    positions: int = 512
    """rows of the position embedding"""
    top_k: int = 3
    """checkpoints to keep, best first"""
    corpus_cache: str | None = None
    """where the tokenised corpus is kept; OUT/corpus by default"""
    corpus_processes: int | None = None
    """processes that tokenise; by default one a core, where there is so much text. Any number gives the same corpus"""
    teacher_cache: str | None = None
    """where the teacher's outputs are kept; OUT/teacher by default"""
    valid_share: float = 0.005
    """part of the documents held out for the error"""
    precision: Precision = "auto"
    """bf16 autocast where the processor or GPU computes in it (auto), or as named"""
    workers: str = "local"
    """where trials run: local, one after another in this process; ray, on the Ray cluster of this machine or a new one;
    HOST:PORT, on the cluster whose head listens there."""
    trial_cpus: float = 1.0
    """ray: cores a trial"""
    trial_gpus: float = 0.0
    """ray: GPUs a trial; 0.5 lets two share one"""
    trial_memory_gb: float | None = None
    """ray: memory a trial, for the cluster to count"""
    trial_retries: int = 2
    """ray: how often a trial whose worker died is run again"""
    trial_files: TrialFiles = "shared"
    """ray: shared: all nodes see OUT, the corpus and the teacher's outputs under the same paths; sent: they see none of
    it, it is sent, and checkpoints come back as bytes"""
    seed: int = 0
    """seed of the weights, the rows and the masks"""
    resume: bool = False
    """go on with the run in OUT"""
