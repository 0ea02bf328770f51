"""Settings of training runs, for Python, the command line and `--config` files."""

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
    Seed,
    Share,
    listed,
)
from bort.data.tables.examples import Columns
from bort.errors import BortError
from bort.workers import TrialFiles

LLM_PREFIX = "openai:"
"""Prefix of the name of a model that is called over an API."""

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
"""What `as_published` sets (arXiv 2010.07990); the number of points is ours, since the paper gives none."""


_GRID = ("learning_rates", "teacher_learning_rates", "seeds", "weight_decays", "warmups", "batch_sizes")
"""Lists that combinations are made of."""

_SOURCES_OF_TEXTS = ("teacher", "teacher_command", "unlabelled", "pool", "generator")
"""What Agora learns from beside the labelled data; the other methods would ignore it."""

_SOURCES_OF_LATER_ROUNDS = ("unlabelled", "pool", "generator")
"""Sources of texts that join the training data after a round, unless it is the last."""

PairReading = Literal["auto", "cross-encoder", "bi-encoder"]


@dataclass
class FinetuneArguments:
    """Arguments of `bort finetune`.

    Example:
        >>> FinetuneArguments("runs/mine", train="train.csv").cast
        'improved'
    """

    out: str
    """folder of the run: the model, its metrics, its report, and the state for --resume"""
    train: str = ""
    """labelled file (.csv, .tsv, .jsonl, .parquet) or hub data set (owner/name:split) to train on"""
    task: list[str] = field(default_factory=list)
    """train on benchmark tasks instead of --train: tasks of GLUE, SuperGLUE and RACE by name (mrpc, SST-2, ...), or
    glue, superglue or race for a whole suite; each of several tasks gets its own folder in OUT, and a table compares
    them"""
    data: str = ""
    """with --task: folder with the suite's official files, or hub"""
    cast: Literal["improved", "released"] = "improved"
    """with --task: improved scores the choices of COPA and RACE one by one and marks what WSC and WiC ask about;
    released makes one text or pair of each row, as the released code does"""
    max_train_rows: Annotated[int, AtLeast(2)] | None = None
    """use a fixed random sample of this many rows of the training data, of which development data may be split off"""
    dev: str | None = None
    """labelled development data, which choose the settings and the stopping point; by default a fifth of the training
    data"""
    test: str | None = None
    """labelled test data, which are scored once at the end and choose nothing; by default agora holds out a fifth of
    the training data, because the development data influence what it trains on"""
    model: str = "bort-nano"
    """encoder to fine-tune (the student): a folder, a hub name, or the embedded bort-nano"""
    method: Literal["agora", "plain", "head"] = "agora"
    """agora: in rounds, add new texts near the best model's mistakes, labelled by a teacher, and train on them; plain:
    fine-tune one model per combination of the grid and keep the best on the development data; head: leave the encoder
    as it is and fit a linear head to all labels, in seconds"""
    pairs: PairReading = "auto"
    """how the two texts of a pair are read: cross-encoder, together; bi-encoder, separately, with a head that compares
    their vectors; auto: separately if this makes a linear head clearly better and there are at most 2000 labels, else
    together"""
    keep_better: bool = True
    """plain, agora: return the linear head if fine-tuning does not beat it"""
    kind: Literal["auto", "classification", "regression", "multilabel"] = "auto"
    """kind of the labels; auto: multilabel if they are lists, 0/1 columns, or cells with --label-separator; regression
    if every label is a number, at least one is not whole, and no classes are given; else classification"""
    classes: list[str] = field(default_factory=list)
    """all classes, if the training data lack some; by default the labels in the training data"""
    text: str = "text"
    """column with the text"""
    text_b: str = "text_b"
    """column with the second text of a pair"""
    label: list[str] | str = "label"
    """column with the label or the list of labels; several names are 0/1 columns, one per label"""
    label_separator: str | None = None
    """separator of several labels in the label column, such as ; in a;b; an empty cell means no labels"""
    delimiter: str | None = None
    """cell separator of CSV or TSV files: a character, or comma, semicolon, tab, pipe; by default detected from the
    header"""
    teacher: str | None = None
    """model that labels new texts: a folder or hub name of a fine-tuned classifier, or of an encoder, which is first
    fitted to the training data; or openai:MODEL for an LLM behind an OpenAI-compatible API, such as that of vLLM,
    Ollama or llama.cpp; by default the student's own encoder"""
    teacher_command: str | None = None
    """command that labels new texts instead of a model: it reads JSON lines with text (and text_b) and writes one line
    per text, a label or a JSON object of label probabilities"""
    teacher_labels: list[str] = field(default_factory=list)
    """with a classifier as the teacher: the label of the data that each of its labels stands for, such as entailment=1
    neutral=0 contradiction=0; probabilities of labels that stand for the same one are added (with several labels per
    text, the greatest counts), and labels that are not named are ignored"""
    teacher_url: str | None = None
    """URL of the API of openai:MODEL, such as http://localhost:8000/v1; by default the environment variable
    OPENAI_BASE_URL, or OpenAI's own URL"""
    teacher_key_file: str | None = None
    """file with the API key; by default the environment variable OPENAI_API_KEY"""
    instructions: str | None = None
    """file that tells an LLM what the labels mean: plain text; or YAML or JSON that maps labels to descriptions, or has
    both under the keys instructions and labels"""
    teacher_examples: NonNegativeInt = 16
    """number of training examples shown to an LLM with each text, balanced over the labels"""
    teacher_max_tokens: PositiveInt = 512
    """maximum length of an LLM's answer in tokens; a model that reasons first needs thousands"""
    teacher_concurrency: PositiveInt = 8
    """number of concurrent requests to an LLM"""
    teacher_requests_per_minute: PositiveFloat | None = None
    """maximum number of requests to an LLM per minute; by default as many as the server accepts"""
    teacher_timeout: PositiveFloat | None = None
    """seconds that an answer may take; by default 120 for an LLM and 3600 for a batch of a command"""
    teacher_batch: PositiveInt = 1000
    """maximum number of texts that a command reads at a time; answers are saved after each batch"""
    answer_cache: str | None = None
    """folder that keeps answers, so that none is paid for twice; by default bort/answers in the user's cache folder for
    an LLM, and in the run's folder for a command"""
    teacher_input_price: NonNegativeFloat | None = None
    """price in US dollars per million tokens that an LLM reads"""
    teacher_output_price: NonNegativeFloat | None = None
    """price in US dollars per million tokens that an LLM writes"""
    budget_usd: PositiveFloat | None = None
    """maximum cost of LLM requests in this run, in US dollars; requests that could exceed it are not sent, and the run
    continues with the answers so far"""
    teacher_fit: Literal["auto", "head", "full", "best"] = "auto"
    """how an encoder becomes a teacher: head fits a logistic regression on its embeddings; full fine-tunes it over
    --teacher-learning-rates; best does both and keeps the head unless the other is clearly better on the development
    data; auto: head for folders with a modules.json, else full"""
    teacher_learning_rates: Annotated[list[PositiveFloat], NotEmpty()] = field(default_factory=lambda: [5e-5, 2e-5])
    """peak learning rates of a fine-tuned teacher; for the other settings of the grid it uses the first value"""
    labels: Literal["soft", "hard"] = "soft"
    """soft: learn the teacher's probabilities, and in the last training mix given labels with a linear head's
    out-of-fold predictions if its log-loss is below that of the fine-tuned model; hard: learn the teacher's most likely
    label (of several labels per text, those above thresholds that suit the development data), as published, and given
    labels unmixed"""
    temperature: PositiveFloat = 1.0
    """temperature of soft labels"""
    labelled_by: Literal["both", "teacher"] = "both"
    """who labels new texts; both: the teacher and the best model of the round together, each weighted by its
    performance on the development data; teacher: the teacher alone, as published"""
    weak_teacher: Literal["stop", "use"] = "stop"
    """what to do if the teacher's labels are hardly better than a constant prediction, or if it is right on less than
    two thirds of the labelled data and not clearly better than plain fine-tuning: stop ends after the first, plain
    round; use learns from it anyway, as published"""
    transforms: Annotated[list[str], NotEmpty()] = field(
        default_factory=lambda: ["infill", "synonym", "swap", "delete", "typo"]
    )
    """transforms that make new texts, one sampled at random per text; join names with + to apply them in sequence"""
    transform_model: str = "bort-nano"
    """masked LM that proposes words for infill and synonym"""
    points_per_mistake: NonNegativeInt | None = None
    """number of new texts to make per mistake and round; by default 4, or 0 with --unlabelled"""
    generator: str | None = None
    """additional source of new texts near mistakes: openai:MODEL at --teacher-url, or a command that reads JSON lines
    with text (and text_b), label, answer (a model's wrong prediction) and count, and writes a JSON list of texts per
    line"""
    generated_per_mistake: NonNegativeInt = 4
    """number of texts that the generator writes per mistake and round"""
    unlabelled: str | None = None
    """file of unlabelled texts like those that the model will see in use; the teacher labels them for the student"""
    whole_pool: NonNegativeInt = 5000
    """if there are at most this many unlabelled texts, all of them join the training data after the first round;
    otherwise only those near mistakes"""
    unlabelled_per_mistake: NonNegativeInt = 16
    """number of unlabelled texts added per mistake and round if there are more than --whole-pool"""
    pool: str | None = None
    """large collection of any texts: an index made by bort index, or a file with one text per line (or a folder of such
    files), which is indexed first; each round adds the texts nearest to the mistakes and to the classes, labelled by
    the teacher"""
    pool_model: str = "bort-nano"
    """encoder that indexes --pool if it is not an index yet; an int8 model from bort export is the fastest"""
    pool_per_mistake: NonNegativeInt = 8
    """number of texts added from --pool per mistake and round"""
    pool_per_class: PositiveInt | None = None
    """maximum number of texts added from --pool per class and round, near its mistakes and near its centroid; by
    default all classes share 4,000"""
    pool_distinct: Annotated[float, Above(0), AtMost(1)] = 0.95
    """skip a text of --pool whose cosine to another text of the same round is this or greater"""
    min_cosine: float = 0.5
    """drop synthetic texts whose cosine to their mistake is below this, in the embedding of the teacher's encoder or
    else the student's"""
    max_cosine: float = 0.999
    """drop synthetic texts whose cosine to their mistake is above this"""
    prune: Literal["lcs", "halving"] = "lcs"
    """which combinations are dropped after a round: lcs drops the worst one and those that share most with it, as
    published; halving drops the worse half"""
    rounds: NonNegativeInt = 2
    """maximum number of rounds: the first is plain fine-tuning, the others also learn from new texts; 0: until no
    combination is left, as published"""
    teacher_vectors: bool = True
    """with single texts and a sentence encoder with a linear head as the teacher: learn its vectors too, not only its
    labels"""
    refit: bool = True
    """at the end, train again with the chosen settings on all labels, including the development data, and on all
    unlabelled texts; plain does so if the development data are at least a tenth of the training data; --no-refit
    returns the best model of the rounds, which has not learned the development data"""
    final_epochs: PositiveInt | None = None
    """epochs of the last training on new texts; by default enough to see a million tokens, from 3 to 15"""
    averaged: PositiveInt = 3
    """number of plain models trained at the end, from the same initial weights in different orders of the data; their
    weights are averaged, or, if new texts help, they label these; a model that failed to learn is not used"""
    as_published: bool = False
    """the paper's own rules: hard labels from the teacher alone, however weak it is; no unlabelled texts; texts made
    from the mistakes on the development data; --prune lcs until no combination is left; no last training"""
    replay: NonNegativeInt = 0
    """repeat this many of the last rounds at the end, on all data"""
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
    """on Ray: shared if all nodes see OUT and the model under the same paths; sent if they see only the model: texts
    are sent to them, and weights come back as bytes"""
    budget_minutes: PositiveFloat | None = None
    """start no trial after this many minutes of wall time, including the teacher's training, and keep the best model so
    far"""
    seed: Seed = 0
    """random seed for new texts"""
    learning_rates: list[PositiveFloat] = field(default_factory=list)
    """peak learning rates; by default 5e-4 and 2e-4, or 2e-4 and 5e-5 for a bi-encoder"""
    seeds: Annotated[list[Seed], NotEmpty()] = field(default_factory=lambda: [0])
    """random seeds for the head's initial weights, dropout and data order"""
    weight_decays: Annotated[list[NonNegativeFloat], NotEmpty()] = field(default_factory=lambda: [0.01])
    """decoupled weight decays"""
    warmups: Annotated[list[Share], NotEmpty()] = field(default_factory=lambda: [0.1])
    """shares of the steps in which the learning rate rises"""
    batch_sizes: Annotated[list[PositiveInt], NotEmpty()] = field(default_factory=lambda: [16])
    """texts per optimiser step"""
    max_epochs: PositiveInt | None = None
    """maximum epochs per combination, over the given training data; by default enough to see 200,000 rows, from 3 to
    30"""
    max_steps: PositiveInt | None = None
    """maximum optimiser steps of each training"""
    grown_epochs: PositiveInt | None = None
    """minimum epochs over training data enlarged by new texts, which otherwise get as many steps as --max-epochs over
    the given data; by default enough to see 400,000 tokens, from 2 to 8, but at most --max-epochs"""
    patience: PositiveInt = 8
    """early stopping: number of evaluations without a better development score before a combination stops"""
    eval_steps: PositiveInt | None = None
    """optimiser steps between evaluations; by default an epoch or 1000 steps, whichever is shorter; more if scoring the
    development data would take longer than training; at most an eighth of the longest run"""
    start: Literal["head", "fresh"] = "fresh"
    """initial weights of a classifier's head: head, those of a linear head fitted to its training data with the encoder
    frozen; fresh, random ones, as published"""
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
    """development score that decides; auto: accuracy, Pearson's correlation for a regression, micro F1 for several
    labels per text, or the task's own; the last four are for several labels per text"""
    balance: bool = False
    """weight the loss so that rare labels count as much as frequent ones"""
    max_length: Annotated[int, AtLeast(4)] | None = None
    """longest input in tokens; longer inputs are truncated, the longer text of a pair first; by default 128, or 256 or
    512 for tasks with long texts"""
    precision: Precision = "auto"
    """auto: bf16 autocast where the hardware supports it, else fp32"""
    checkpoint_minutes: NonNegativeFloat = 5.0
    """minutes between checkpoints within a trial"""
    resume: bool = False
    """continue the run in OUT"""

    TOPICS: ClassVar[dict[str, tuple[str, ...]]] = {
        "data": listed(
            """train dev test unlabelled pool text text_b label label_separator task data classes kind delimiter
            max_train_rows cast"""
        ),
        "model": listed("model max_length precision"),
        "run": listed("out resume method pairs keep_better metric balance seed budget_minutes checkpoint_minutes"),
        "grid (one trial per combination)": listed(
            "learning_rates batch_sizes seeds weight_decays warmups max_epochs max_steps patience eval_steps start"
        ),
        "teacher (agora)": listed(
            """teacher teacher_command teacher_labels teacher_fit teacher_learning_rates labels temperature labelled_by
            weak_teacher"""
        ),
        "asking an LLM or a command (agora)": listed(
            """teacher_url instructions budget_usd teacher_input_price teacher_output_price teacher_key_file
            teacher_examples teacher_max_tokens teacher_concurrency teacher_requests_per_minute teacher_timeout
            teacher_batch answer_cache"""
        ),
        "new texts (agora)": listed(
            """as_published rounds refit final_epochs averaged teacher_vectors points_per_mistake whole_pool
            unlabelled_per_mistake pool_model pool_per_mistake pool_per_class pool_distinct generator
            generated_per_mistake transforms transform_model min_cosine max_cosine prune replay grown_epochs"""
        ),
        "where trials run": listed("workers trial_cpus trial_gpus trial_memory_gb trial_retries trial_files"),
    }
    RARE: ClassVar[frozenset[str]] = frozenset(
        listed(
            """kind delimiter max_train_rows cast checkpoint_minutes weight_decays warmups patience eval_steps start
            teacher_learning_rates teacher_key_file teacher_examples teacher_max_tokens teacher_concurrency
            teacher_requests_per_minute teacher_timeout teacher_batch answer_cache labels temperature labelled_by
            weak_teacher teacher_vectors final_epochs whole_pool transform_model min_cosine max_cosine prune replay
            grown_epochs trial_cpus trial_gpus trial_memory_gb trial_retries trial_files"""
        )
    )

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            BortError: The first contradiction.
        """
        if bool(self.train) == bool(self.task):
            raise BortError("give --train FILE, or --task NAME with --data FOLDER")
        if bool(self.data) != bool(self.task):
            raise BortError("--task and --data go together: a task, and the folder with its official files (or hub)")
        for name in ("dev", "test"):
            if self.task and getattr(self, name) is not None:
                raise BortError("a task brings its own data; give --train instead of --task", setting=name)
        for name in _GRID:
            values = getattr(self, name)
            for place, value in enumerate(values):
                if value in values[:place]:
                    raise BortError("must not be given twice", setting=name, value=value)
        if self.method == "agora":
            self._check_agora()
            return
        for name in (*_SOURCES_OF_TEXTS, "as_published"):
            if getattr(self, name) not in (None, False):
                raise BortError(
                    f"--method {self.method} does not use it: leave it out, or give --method agora", setting=name
                )

    @property
    def columns(self) -> Columns:
        """Columns of the tables that hold the examples."""
        return Columns(self.text, self.text_b, self.label, self.delimiter, self.label_separator)

    @property
    def made_per_mistake(self) -> int:
        """Number of new texts to make per mistake and round."""
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
        if self.rounds == 1 and not self.replay:
            for name in _SOURCES_OF_LATER_ROUNDS:
                if getattr(self, name) is not None:
                    rule = "a single round adds no texts: leave it out, or give --rounds 2"
                    raise BortError(rule, setting=name, value=getattr(self, name))
        if self.teacher is not None and self.teacher_command is not None:
            raise BortError("give one teacher: --teacher or --teacher-command", setting="teacher_command")
        self._check_asked()

    def _check_asked(self) -> None:
        """Refuse LLM settings without an LLM, a budget without prices, and a URL with a password."""
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
            broken = broken_url_rule(self.teacher_url)
            if broken is not None:
                raise BortError(broken, setting="teacher_url")


def broken_url_rule(url: str) -> str | None:
    """The rule that the URL of an LLM's API breaks, which does not show the URL; None if it breaks none."""
    try:
        address = urlsplit(url)
    except ValueError:  # brackets that hold no IPv6 address
        return "must be a URL"
    if address.scheme not in ("http", "https") or not address.hostname:
        return "must begin with http:// or https:// and a host"
    if address.username is not None or address.password is not None:
        return "must hold no password, as URLs are written down; give --teacher-key-file or OPENAI_API_KEY"
    return None
