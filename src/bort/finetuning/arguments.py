"""The settings of training runs; the command line and `--config` files are views of these."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from bort.bounds import (
    Above,
    AtLeast,
    AtMost,
    NonNegativeFloat,
    NonNegativeInt,
    NotEmpty,
    PositiveFloat,
    PositiveInt,
    Precision,
    Share,
)
from bort.data.tables.examples import Columns
from bort.errors import BortError
from bort.workers import RARE_WHERE_TRIALS_RUN, TrialFiles

LLM_PREFIX = "openai:"
"""What stands before the name of a model that is asked over an API."""

AS_PUBLISHED: dict[str, Any] = {
    "labels": "hard",
    "labelled_by": "teacher",
    "weak_teacher": "use",
    "prune": "lcs",
    "rounds": 0,
    "refit": False,
    "teacher_vectors": False,
    "points_per_mistake": 4,
    "keep_better": False,
    "pairs": "cross-encoder",
}
"""What `as_published` sets (arXiv 2010.07990); the number of points is ours, for the paper names none."""


_HOW_TEACHERS_ARE_ASKED = (
    "teacher_key_file",
    "teacher_examples",
    "teacher_max_tokens",
    "teacher_concurrency",
    "teacher_requests_per_minute",
    "teacher_timeout",
    "teacher_batch",
    "answer_cache",
)
"""Settings of asked teachers that few need."""

PairReading = Literal["auto", "cross-encoder", "bi-encoder"]


@dataclass
class FinetuneArguments:
    """Arguments of `bort finetune`.

    Example:
        >>> FinetuneArguments("runs/mine", train="train.csv").cast
        'improved'
    """

    out: str
    """folder of the run: the model, its figures, its report, and what it resumes from"""
    train: str = ""
    """labelled file (.csv, .tsv, .jsonl, .parquet) or hub data set (owner/name:split) to train on"""
    task: list[str] = field(default_factory=list)
    """instead of --train: tasks of GLUE, SuperGLUE and RACE by name (mrpc, SST-2, ...), or glue, superglue or race
    for a whole suite; each task gets its own folder in OUT, and a table compares them"""
    data: str = ""
    """with --task: folder with the suite's official files, or hub"""
    cast: Literal["improved", "released"] = "improved"
    """with --task: improved scores the choices of COPA and RACE one by one and marks what WSC and WiC ask about;
    released makes one text or pair of each row, as the released code does"""
    max_train_rows: Annotated[int, AtLeast(2)] | None = None
    """train on this many rows, a fixed random sample"""
    dev: str | None = None
    """labelled data that choose the settings and the stopping point; by default a fifth of the training data"""
    test: str | None = None
    """labelled data that are scored once, at the end, and choose nothing; by default agora holds out a fifth of the
    training data, because the development data steer what it trains on"""
    model: str = "bort-nano"
    """the student: a folder, a hub name, or the embedded bort-nano"""
    method: Literal["agora", "plain", "head"] = "agora"
    """agora: in rounds, make new texts near the best model's mistakes, let a teacher label them, and train on them;
    plain: fine-tune one model per combination of the grid and keep the best on the development data; head: leave the
    encoder as it is and fit a linear head to all labels, in seconds"""
    pairs: PairReading = "auto"
    """how the two texts of a pair are read: together, by a cross-encoder; apart, by a bi-encoder, whose head compares
    their vectors; auto: apart where a linear head is clearly better so, with 2000 labels at most"""
    keep_better: bool = True
    """plain, agora: where fine-tuning does not beat the linear head, the result is the head"""
    kind: Literal["auto", "classification", "regression", "multilabel"] = "auto"
    """auto: multilabel where labels are lists, columns of 0 and 1, or have --label-separator between them; regression
    where every label is a number and one of them is not whole"""
    classes: list[str] = field(default_factory=list)
    """all classes, if the training data lack some; by default the labels in the training data"""
    text: str = "text"
    """name of the column with the text"""
    text_b: str = "text_b"
    """name of the column with the second text of a pair"""
    label: list[str] | str = "label"
    """name of the column with the label, or with the list of all labels; several names are columns of 0 and 1, one for
    each label of a text that may have several"""
    label_separator: str | None = None
    """what stands between several labels in the label's column, as ; in a;b; a blank cell is a text without labels"""
    delimiter: str | None = None
    """what stands between the cells of CSV or TSV files: a character, or comma, semicolon, tab, pipe; by default it is
    found by the header"""
    teacher: str | None = None
    """model that labels new texts: a folder or hub name of a fine-tuned classifier, or of an encoder, which is
    first fitted to the training data; or openai:MODEL for an LLM behind an API that speaks OpenAI's protocol, such as
    that of vLLM, Ollama or llama.cpp; by default the student's own encoder"""
    teacher_command: str | None = None
    """command that labels instead: it reads JSON lines with text (and text_b) and writes one line for each, a label
    or a JSON object of label probabilities"""
    teacher_labels: list[str] = field(default_factory=list)
    """which label of the data each label of a classifier stands for, as in entailment=1 neutral=0 contradiction=0;
    probabilities of those that stand for one label add up, and labels that are not named are not heard"""
    teacher_url: str | None = None
    """address of the API of openai:MODEL, such as http://localhost:8000/v1; by default OPENAI_BASE_URL of the
    environment, or OpenAI's own"""
    teacher_key_file: str | None = None
    """file with the API key, in place of OPENAI_API_KEY of the environment"""
    instructions: str | None = None
    """file that tells an LLM what the labels mean: plain text, or YAML or JSON that maps labels to descriptions, or
    has both under the keys instructions and labels"""
    teacher_examples: NonNegativeInt = 16
    """training examples shown to an LLM with each text, balanced over the labels"""
    teacher_max_tokens: PositiveInt = 512
    """longest answer of an LLM in tokens; one that reasons first needs thousands"""
    teacher_concurrency: PositiveInt = 8
    """requests to an LLM at a time"""
    teacher_requests_per_minute: PositiveFloat | None = None
    """most requests to an LLM in a minute; by default as many as the server takes"""
    teacher_timeout: PositiveFloat | None = None
    """seconds that an answer may take: 120 by default for one of an LLM, 3600 for a batch of a command"""
    teacher_batch: PositiveInt = 1000
    """most texts that a command reads at a time; answers are kept after each batch"""
    answer_cache: str | None = None
    """folder where answers are kept, so that none is paid for twice; by default bort/answers in the user's cache
    folder for an LLM, and within the run for a command"""
    teacher_input_price: NonNegativeFloat | None = None
    """US dollars for a million tokens that an LLM reads"""
    teacher_output_price: NonNegativeFloat | None = None
    """US dollars for a million tokens that an LLM writes"""
    budget_usd: PositiveFloat | None = None
    """ask an LLM nothing more before it would cost this run more US dollars, and go on with the answers so far"""
    teacher_fit: Literal["auto", "head", "full", "best"] = "auto"
    """how an encoder becomes a teacher: head fits a logistic regression on its embeddings; full fine-tunes it over
    --teacher-learning-rates; best does both and keeps the better on the development data; auto is head for folders
    with a modules.json, full otherwise"""
    teacher_learning_rates: Annotated[list[PositiveFloat], NotEmpty()] = field(default_factory=lambda: [5e-5, 2e-5])
    """peak learning rates of a fine-tuned teacher; of the other settings of the grid it takes the first"""
    labels: Literal["soft", "hard"] = "soft"
    """soft: learn the teacher's probabilities, and at the end the given labels beside a linear head's opinion, where
    that is the better calibrated; hard: learn the teacher's most likely label, as published, and given labels alone"""
    temperature: PositiveFloat = 1.0
    """temperature of soft labels"""
    labelled_by: Literal["both", "teacher"] = "both"
    """both: the teacher and the best model of the round together, each weighted by how well it does on the
    development data; teacher: the teacher alone, as published"""
    weak_teacher: Literal["stop", "use"] = "stop"
    """what to do with a teacher that is right on less than two thirds of the development data and not clearly
    better than plain fine-tuning: stop ends after the first, plain round; use learns from it anyway, as published"""
    transforms: Annotated[list[str], NotEmpty()] = field(
        default_factory=lambda: ["infill", "synonym", "swap", "delete", "typo"]
    )
    """how new texts are made, one of these each time; join several with + to apply them in turn"""
    transform_model: str = "bort-nano"
    """masked LM that proposes words for infill and synonym"""
    points_per_mistake: NonNegativeInt | None = None
    """new texts made per mistake and round; by default 4, and none where unlabelled texts are given"""
    generator: str | None = None
    """who writes new texts near mistakes besides: openai:MODEL at --teacher-url, or a command that reads JSON lines
    with text (and text_b), label, answer (what a model took it for) and count, and writes a JSON list of texts for
    each"""
    generated_per_mistake: NonNegativeInt = 4
    """texts that the generator writes per mistake and round"""
    unlabelled: str | None = None
    """file of unlabelled texts like those the model will meet; the teacher labels them, and the student learns that"""
    whole_pool: NonNegativeInt = 5000
    """up to so many unlabelled texts all join the training data after the first round; of more, those near mistakes"""
    unlabelled_per_mistake: NonNegativeInt = 16
    """unlabelled texts taken per mistake and round where there are more than --whole-pool"""
    pool: str | None = None
    """any large text: an index of bort index, or a file of one text a line (or a folder of such) that is indexed first;
    each round takes the texts nearest to the mistakes and to the classes, and the teacher labels them"""
    pool_model: str = "bort-nano"
    """encoder that indexes --pool where it is no index yet; one of bort export in int8 is the fastest"""
    pool_per_mistake: NonNegativeInt = 8
    """texts taken from --pool per mistake and round"""
    pool_per_class: PositiveInt | None = None
    """texts taken from --pool per class and round at most: those near its mistakes, and those near its middle; by
    default all classes share 4,000"""
    pool_distinct: Annotated[float, Above(0), AtMost(1)] = 0.95
    """leave out a text of --pool with this cosine or a greater one to another that was taken"""
    min_cosine: float = 0.5
    """drop new texts less similar to their mistake than this, in the teacher's embedding"""
    max_cosine: float = 0.999
    """drop new texts more similar than this"""
    prune: Literal["lcs", "halving"] = "lcs"
    """combinations dropped after a round: lcs drops the worst and those that share most with it, as published;
    halving drops the worse half"""
    rounds: NonNegativeInt = 2
    """rounds at most: the first is plain fine-tuning, the others learn from new texts too; 0: until no combination is
    left, as published"""
    teacher_vectors: bool = True
    """where a sentence encoder with a linear head teaches single texts: learn its vectors too, beside the labels"""
    refit: bool = True
    """train the result once more, with the chosen settings, on all labels and on all unlabelled texts; without it, the
    result is the best model on the way, which has not learned from the development data. Plain fine-tuning does so
    where the development data are a tenth of the training data or more"""
    final_epochs: PositiveInt | None = None
    """passes over the data of that last training; by default as many as show it a million tokens, but 3 to 15"""
    averaged: PositiveInt = 3
    """last trainings, from one start in different orders of the data, whose weights are averaged"""
    as_published: bool = False
    """the paper's own rules: hard labels by the teacher alone, whatever it is worth, no unlabelled texts, texts made
    of the mistakes on the development data, --prune lcs until no combination is left, no last training"""
    replay: NonNegativeInt = 0
    """train on all data once more for this many of the last rounds, at the end"""
    workers: str = "local"
    """where trials run: local, one after another in this process; ray, on the Ray cluster of this machine or a
    new one; HOST:PORT, on the cluster whose head listens there."""
    trial_cpus: PositiveFloat = 1.0
    """on Ray: CPU cores per trial"""
    trial_gpus: NonNegativeFloat = 0.0
    """on Ray: GPUs per trial; 0.5 lets two trials share one"""
    trial_memory_gb: PositiveFloat | None = None
    """on Ray: memory reserved per trial"""
    trial_retries: NonNegativeInt = 2
    """on Ray: how often a trial is retried after its worker died"""
    trial_files: TrialFiles = "shared"
    """on Ray: shared if all nodes see OUT and the model under the same paths; sent if not: the model is sent to
    them, and weights come back as bytes"""
    budget_minutes: PositiveFloat | None = None
    """start no trial after this many minutes of wall time, a teacher's training included, and keep the best model so
    far"""
    seed: NonNegativeInt = 0
    """seed of the new texts"""
    learning_rates: list[PositiveFloat] = field(default_factory=list)
    """peak learning rates; by default 5e-4 and 2e-4, of a bi-encoder 2e-4 and 5e-5"""
    seeds: Annotated[list[NonNegativeInt], NotEmpty()] = field(default_factory=lambda: [0])
    """seeds of the head's weights, dropout and data order"""
    weight_decays: Annotated[list[NonNegativeFloat], NotEmpty()] = field(default_factory=lambda: [0.01])
    """decoupled weight decays"""
    warmups: Annotated[list[Share], NotEmpty()] = field(default_factory=lambda: [0.1])
    """share of the steps in which the learning rate rises"""
    batch_sizes: Annotated[list[PositiveInt], NotEmpty()] = field(default_factory=lambda: [16])
    """texts per step"""
    max_epochs: PositiveInt | None = None
    """longest run of one combination, in passes over the training data that are given; by default as many as show it
    200,000 rows, but 3 to 30"""
    max_steps: PositiveInt | None = None
    """longest training of one combination, in optimiser steps"""
    grown_epochs: PositiveInt | None = None
    """passes over the grown training data, where that is longer than --max-epochs over the given data; by default as
    many as show it 400,000 tokens, but 2 to 8"""
    patience: PositiveInt = 8
    """evaluations without a better development score before a combination stops"""
    eval_steps: PositiveInt | None = None
    """optimiser steps between evaluations; by default an epoch, or 1000 steps of a longer one, but so many that scoring
    the development data takes no longer, and an eighth of the longest run at most"""
    start: Literal["head", "fresh"] = "fresh"
    """what a classifier is trained from: head, a linear head fitted to its training data with the encoder frozen;
    fresh, random weights, as published"""
    metric: Literal[
        "auto",
        "accuracy",
        "f1",
        "matthews",
        "pearson",
        "spearman",
        "f1_micro",
        "f1_macro",
        "exact_match",
        "mean_average_precision",
    ] = "auto"
    """the development score that decides; auto: accuracy, Pearson's correlation for a regression, micro F1 for several
    labels a text (the last four are for these), or the task's own"""
    balance: bool = False
    """weight the loss so that rare labels count as much as frequent ones"""
    max_length: Annotated[int, AtLeast(4)] | None = None
    """longest input in tokens; longer inputs are cut, the longer text of a pair first; by default 128, and 256 or
    512 for tasks with long texts"""
    precision: Precision = "auto"
    """bf16 autocast where the hardware supports it (auto), or as named"""
    checkpoint_minutes: NonNegativeFloat = 5.0
    """time between checkpoints within a trial"""
    resume: bool = False
    """continue the run in OUT"""

    TOPICS: ClassVar[dict[str, tuple[str, ...]]] = {
        "data": (
            "train",
            "dev",
            "test",
            "unlabelled",
            "pool",
            "text",
            "text_b",
            "label",
            "label_separator",
            "task",
            "data",
            "classes",
            "kind",
            "delimiter",
            "max_train_rows",
            "cast",
        ),
        "model": ("model", "max_length", "precision"),
        "run": (
            "out",
            "resume",
            "method",
            "pairs",
            "keep_better",
            "metric",
            "balance",
            "seed",
            "budget_minutes",
            "checkpoint_minutes",
        ),
        "grid (one trial per combination)": (
            "learning_rates",
            "batch_sizes",
            "seeds",
            "weight_decays",
            "warmups",
            "max_epochs",
            "max_steps",
            "patience",
            "eval_steps",
            "start",
        ),
        "teacher (agora)": (
            "teacher",
            "teacher_command",
            "teacher_labels",
            "teacher_fit",
            "teacher_learning_rates",
            "labels",
            "temperature",
            "labelled_by",
            "weak_teacher",
        ),
        "asking an LLM or a command (agora)": (
            "teacher_url",
            "instructions",
            "budget_usd",
            "teacher_input_price",
            "teacher_output_price",
            *_HOW_TEACHERS_ARE_ASKED,
        ),
        "new texts (agora)": (
            "as_published",
            "rounds",
            "refit",
            "final_epochs",
            "averaged",
            "teacher_vectors",
            "points_per_mistake",
            "whole_pool",
            "unlabelled_per_mistake",
            "pool_model",
            "pool_per_mistake",
            "pool_per_class",
            "pool_distinct",
            "generator",
            "generated_per_mistake",
            "transforms",
            "transform_model",
            "min_cosine",
            "max_cosine",
            "prune",
            "replay",
            "grown_epochs",
        ),
        "where trials run": ("workers", "trial_cpus", "trial_gpus", "trial_memory_gb", "trial_retries", "trial_files"),
    }
    RARE: ClassVar[frozenset[str]] = RARE_WHERE_TRIALS_RUN | frozenset(
        {
            "kind",
            "delimiter",
            "max_train_rows",
            "cast",
            "checkpoint_minutes",
            "weight_decays",
            "warmups",
            "patience",
            "eval_steps",
            "start",
            "teacher_learning_rates",
            *_HOW_TEACHERS_ARE_ASKED,
            "labels",
            "temperature",
            "labelled_by",
            "weak_teacher",
            "teacher_vectors",
            "final_epochs",
            "whole_pool",
            "transform_model",
            "min_cosine",
            "max_cosine",
            "prune",
            "replay",
            "grown_epochs",
        }
    )

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

    @property
    def columns(self) -> Columns:
        """Where its tables keep their examples."""
        return Columns(self.text, self.text_b, self.label, self.delimiter, self.label_separator)

    @property
    def made_per_mistake(self) -> int:
        """New texts to make per mistake and round."""
        if self.points_per_mistake is not None:
            return self.points_per_mistake
        return 4 if self.unlabelled is None else 0

    def _check_agora(self) -> None:
        if self.min_cosine >= self.max_cosine:
            raise BortError("must be below --max-cosine", setting="min_cosine", value=self.min_cosine)
        written = self.generator is not None and self.generated_per_mistake
        if self.points_per_mistake == 0 and self.unlabelled is None and self.pool is None and not written:
            raise BortError(
                "must be above 0 where no unlabelled texts are given, and no generator",
                setting="points_per_mistake",
                value=0,
            )
        if self.as_published:
            for name in ("unlabelled", "pool", *AS_PUBLISHED):
                if getattr(self, name) not in (type(self).__dataclass_fields__[name].default, AS_PUBLISHED.get(name)):
                    rule = "leave it out: --as-published has the paper's own rules"
                    raise BortError(rule, setting=name, value=getattr(self, name))
        if self.teacher is not None and self.teacher_command is not None:
            raise BortError("give one teacher: --teacher or --teacher-command", setting="teacher_command")
        self._check_asked()

    def _check_asked(self) -> None:
        """Refuse settings of an LLM where none is asked, a budget without prices, and an address with a password."""
        asked = {name: getattr(self, name) or "" for name in ("teacher", "generator")}
        asks = [name for name, value in asked.items() if value.startswith(LLM_PREFIX)]
        for name in asks:
            if not asked[name].removeprefix(LLM_PREFIX).strip():
                raise BortError("must name a model: openai:MODEL", setting=name, value=asked[name])
        for name in ("teacher_url", "teacher_key_file", "instructions", "budget_usd"):
            if not asks and getattr(self, name) is not None:
                raise BortError("is for an LLM: give --teacher or --generator openai:MODEL", setting=name)
        if self.budget_usd is not None and None in (self.teacher_input_price, self.teacher_output_price):
            rule = "needs the prices of tokens: --teacher-input-price and --teacher-output-price"
            raise BortError(rule, setting="budget_usd", value=self.budget_usd)
        if self.teacher_labels and (self.teacher is None or "teacher" in asks):
            raise BortError("is for a classifier: give --teacher FOLDER", setting="teacher_labels")
        if self.teacher_url is not None:
            address = urlsplit(self.teacher_url)
            if address.scheme not in ("http", "https") or not address.hostname:
                raise BortError("must begin with http:// or https:// and a host", setting="teacher_url")
            if address.username is not None or address.password is not None:
                rule = "must hold no password, as settings are written down; give --teacher-key-file or OPENAI_API_KEY"
                raise BortError(rule, setting="teacher_url")
