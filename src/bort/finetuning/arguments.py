"""The settings of training runs; the command line and `--config` files are views of these."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from bort.bounds import (
    AtLeast,
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


@dataclass
class FinetuneArguments:
    """Arguments of `bort finetune`."""

    out: str
    """folder of the run: the model, its figures, its report, and what it resumes from"""
    train: str = ""
    """labelled file (.csv, .tsv, .jsonl, .parquet) or hub data set (owner/name:split) to train on"""
    task: list[str] = field(default_factory=list)
    """instead of --train: tasks of GLUE, SuperGLUE and RACE by name (mrpc, SST-2, ...), or glue, superglue, race for
    all of one; several are fitted one after another, each in its own folder within OUT, and a table compares them"""
    data: str = ""
    """of --task: folder with the suite's official files, or hub"""
    cast: Literal["improved", "released"] = "improved"
    """of --task: improved: score the choices of COPA and RACE one by one, mark what WSC and WiC ask about; released:
    one text or one pair each, as in the released code"""
    max_train_rows: Annotated[int, AtLeast(2)] | None = None
    """train on so many rows, drawn by chance but always the same"""
    dev: str | None = None
    """labelled data that choose the settings and the stopping point; a fifth of the training data by default"""
    test: str | None = None
    """labelled data that are scored once, at the end, and choose nothing; agora holds a fifth of the training data out
    by default, because the development data steer what it trains on"""
    model: str = "bort-nano"
    """the student: a folder, a hub name, or the embedded bort-nano"""
    method: Literal["agora", "plain"] = "agora"
    """agora: round after round, make new texts near the best model's mistakes, let a teacher label them, and train on;
    plain: fine-tune one model for each combination of the grid, keep the best on the development data"""
    kind: Literal["auto", "classification", "regression"] = "auto"
    """auto: regression where every label is a number and one of them is not whole"""
    classes: list[str] = field(default_factory=list)
    """all classes, where the training data do not hold each of them; by default those of the training data"""
    text: str = "text"
    """name of the column with the text"""
    text_b: str = "text_b"
    """name of the column with the second text of a pair"""
    label: str = "label"
    """name of the column with the label"""
    delimiter: str | None = None
    """what stands between the cells of CSV or TSV files: a character, or comma, semicolon, tab, pipe; by default it is
    found by the header"""
    teacher: str | None = None
    """agora: who labels new texts: a folder or hub name of a fine-tuned classifier, or of an encoder, which is fitted
    to the training data first; by default the student's own encoder, fitted so"""
    teacher_command: str | None = None
    """agora: a command that labels instead: reads JSON lines with text (and text_b), writes one line for each: a label,
    or a JSON object of the labels' probabilities"""
    teacher_fit: Literal["auto", "head", "full", "best"] = "auto"
    """agora: how an encoder becomes a teacher: head: logistic regression on its embeddings; full: trained over
    --teacher-learning-rates; best: both, and the better one on the development data; auto: head where its folder has a
    modules.json, full otherwise"""
    teacher_learning_rates: Annotated[list[PositiveFloat], NotEmpty()] = field(default_factory=lambda: [5e-5, 2e-5])
    """agora: peak learning rates of a fine-tuned teacher; of the other settings of the grid it takes the first"""
    labels: Literal["soft", "hard"] = "soft"
    """agora: soft: learn the teacher's probabilities; hard: its likeliest label, as published"""
    temperature: PositiveFloat = 1.0
    """agora: temperature of soft labels"""
    labelled_by: Literal["both", "teacher"] = "both"
    """agora: both: the teacher together with the best model of the round, each heard as far as the development data
    bear it out; teacher: it alone, as published"""
    weak_teacher: Literal["stop", "use"] = "stop"
    """agora: a teacher that is right in less than two thirds of the development data and not clearly better there than
    plain fine-tuning: stop: end after the first round, which is plain; use: learn from it all the same, as published"""
    transforms: Annotated[list[str], NotEmpty()] = field(
        default_factory=lambda: ["infill", "synonym", "swap", "delete", "typo"]
    )
    """agora: how new texts are made of old ones, each time one of these; joined by + one after another"""
    transform_model: str = "bort-nano"
    """agora: masked LM whose words infill and synonym take"""
    points_per_mistake: NonNegativeInt = 4
    """agora: new texts made of each mistake and round"""
    unlabelled: str | None = None
    """agora: texts without labels, such as the model will meet; the teacher labels those nearest to mistakes"""
    unlabelled_per_mistake: NonNegativeInt = 16
    """agora: how many of them for each mistake and round"""
    min_cosine: float = 0.5
    """agora: a new text must be at least so near to the mistake that it is made of, in the teacher's embedding"""
    max_cosine: float = 0.999
    """agora: and at most so near"""
    prune: Literal["lcs", "halving"] = "lcs"
    """agora: which combinations go after a round: lcs: the worst and what shares most with it, as published; halving:
    the worse half"""
    replay: NonNegativeInt = 0
    """agora: fit so many of the last rounds once more at the end, on all data"""
    workers: str = "local"
    """where trials run: local, one after another in this process; ray, on the Ray cluster of this machine or a
    new one; HOST:PORT, on the cluster whose head listens there."""
    trial_cpus: PositiveFloat = 1.0
    """on ray: cores a trial"""
    trial_gpus: NonNegativeFloat = 0.0
    """on ray: GPUs a trial; 0.5 lets two share one"""
    trial_memory_gb: PositiveFloat | None = None
    """on ray: memory a trial, for the cluster to count"""
    trial_retries: NonNegativeInt = 2
    """on ray: how often a trial whose worker died is run again"""
    trial_files: TrialFiles = "shared"
    """on ray: shared: all nodes see OUT and the model under the same paths; sent: only the model; weights come
    back as bytes"""
    budget_minutes: PositiveFloat | None = None
    """begin no trial after so many minutes of wall time, a teacher's training included, and take the best so far"""
    seed: NonNegativeInt = 0
    """agora: seed of the new texts"""
    learning_rates: Annotated[list[PositiveFloat], NotEmpty()] = field(default_factory=lambda: [5e-4, 2.5e-4, 1e-4])
    """grid: peak learning rates"""
    seeds: Annotated[list[NonNegativeInt], NotEmpty()] = field(default_factory=lambda: [0])
    """grid: seeds of the head's weights, the dropout and the order of the data"""
    weight_decays: Annotated[list[NonNegativeFloat], NotEmpty()] = field(default_factory=lambda: [0.01])
    """grid: decoupled weight decays"""
    warmups: Annotated[list[Share], NotEmpty()] = field(default_factory=lambda: [0.1])
    """grid: part of a run in which the learning rate rises"""
    batch_sizes: Annotated[list[PositiveInt], NotEmpty()] = field(default_factory=lambda: [8, 32])
    """grid: texts a step"""
    max_epochs: PositiveInt | None = None
    """longest run of one combination, in passes over the training data that are given; by default as many as show it
    200,000 rows, but 3 to 30"""
    max_steps: PositiveInt | None = None
    """and in optimiser steps"""
    grown_epochs: PositiveInt = 2
    """agora: passes over the training data as they have grown, where that is longer than max_epochs over those given"""
    patience: PositiveInt = 8
    """evaluations without a better development score after which a combination stops"""
    eval_steps: PositiveInt | None = None
    """optimiser steps between evaluations; by default an epoch, or 1000 steps of a longer one, but so many that scoring
    the development data takes no longer, and an eighth of the longest run at most"""
    metric: Literal["auto", "accuracy", "f1", "matthews", "pearson", "spearman"] = "auto"
    """the development score that decides; auto: accuracy, Pearson's correlation for a regression, or the task's own"""
    balance: bool = False
    """let rare labels count as much as frequent ones in the loss"""
    max_length: Annotated[int, AtLeast(4)] | None = None
    """longest input in tokens; longer ones are cut, the longer text of a pair first; by default 128, and 256 or 512 for
    tasks of long texts"""
    precision: Precision = "auto"
    """bf16 autocast where the processor or GPU computes in it (auto), or as named"""
    checkpoint_minutes: NonNegativeFloat = 5.0
    """time between two checkpoints inside a combination"""
    resume: bool = False
    """go on with the run in OUT"""

    def check(self) -> None:
        """Refuse settings that do not go together.

        Raises:
            BortError: The first of them.
        """
        if bool(self.train) == bool(self.task):
            raise BortError("give --train FILE, or --task NAME with --data FOLDER")
        if bool(self.data) != bool(self.task):
            raise BortError("--task and --data go together: a task, and the folder with its official files (or hub)")
        for name in ("dev", "test"):
            if self.task and getattr(self, name) is not None:
                raise BortError("a task brings its own data; give --train instead of --task", setting=name)
        if self.method == "agora":
            self._check_agora()

    def _check_agora(self) -> None:
        if self.min_cosine >= self.max_cosine:
            raise BortError("must be below --max-cosine", setting="min_cosine", value=self.min_cosine)
        if not self.points_per_mistake and (self.unlabelled is None or not self.unlabelled_per_mistake):
            raise BortError(
                "must be above 0 where no unlabelled texts are given", setting="points_per_mistake", value=0
            )
        if self.teacher is not None and self.teacher_command is not None:
            raise BortError("give one teacher: --teacher or --teacher-command", setting="teacher_command")
