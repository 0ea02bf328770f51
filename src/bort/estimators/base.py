"""Base class of both estimators: fitting in a temporary folder, saving, loading and exporting."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d

from bort.agora.run import finetune
from bort.bounds import validate
from bort.data.tables.examples import Example
from bort.data.tables.labels import Kind
from bort.data.tables.objects import DataError, column_values, texts_of, write_examples
from bort.errors import BortError
from bort.estimators.fit_report import FitReport
from bort.estimators.model_files import ModelFiles
from bort.estimators.teacher import teacher_of
from bort.export.arguments import ExportArguments
from bort.export.run import export_model
from bort.finetuning.arguments import FinetuneArguments, PairReading
from bort.finetuning.splits import Splits, read_splits
from bort.predict.engine import bounded_threads
from bort.predict.inputs import unlike_training
from bort.progress import verbose
from bort.tasks.task import Task

Method = Literal["agora", "plain", "head"]
_FILE = "estimator.json"
_MOST = np.iinfo(np.int32).max
"""Largest seed of `bort finetune`; scikit-learn's may be twice as large."""
_LISTS = ("learning_rates", "batch_sizes")
_SINGLE = ("model", "method", "max_epochs", "max_steps", "max_length", "metric", "balance", "pairs", "budget_minutes")
_GIVEN = {"out", "train", "dev", "test", "unlabelled", "teacher", "task", "data", "cast", "kind", "classes", "resume"}
"""Settings that `fit` sets itself."""
_COLUMNS = {"text", "text_b", "label", "label_separator", "delimiter"}
"""Settings of files; those of a fit are its own."""
_OF_TRAINING = ("max_epochs", "max_steps", *_LISTS, "weight_decays", "warmups", "patience", "eval_steps", "start")
"""Settings without effect where nothing is trained but a linear head."""
_INSTEAD = ("X_dev and y_dev", "method='plain', which needs no test data")
"""What to give where there are too few texts to split some off."""


class TextEstimator(BaseEstimator):
    """Base class of text models with scikit-learn's methods; parameters have the names of `bort finetune`.

    Args:
        model: The encoder to fine-tune: a folder, a hub name, or the embedded bort-nano.
        method: `head` fits a linear head to the frozen encoder, in seconds; `plain` also fine-tunes one model for each
            combination of the grid, and keeps the best; `agora` also adds texts labelled by a teacher.
        learning_rates: Peak learning rates to try, one or several; by default those of `bort finetune`.
        batch_sizes: Batch sizes to try, one or several.
        max_epochs: Maximum number of epochs per combination.
        max_steps: Maximum number of optimiser steps of each training.
        max_length: Longest input in tokens; 128 by default.
        metric: Metric on the development data that selects the model.
        balance: Weight the loss so that rare labels count as much as frequent ones.
        pairs: How the two texts of a pair are read: together (`cross-encoder`), separately (`bi-encoder`), or `auto`.
        budget_minutes: Start no training after this many minutes.
        settings: Further settings of `bort.FinetuneArguments` by name.
        random_state: Random seed; None draws one from NumPy's global state.
        n_jobs: Number of threads; -1 for all cores. By default, fits use PyTorch's current number, and predictions
            without a GPU one per core.
        verbose: Whether to show progress and findings.
    """

    _kinds: tuple[Kind, ...]

    def __init__(
        self,
        model: str = "bort-nano",
        method: Method = "head",
        *,
        learning_rates: float | Sequence[float] | None = None,
        batch_sizes: int | Sequence[int] | None = None,
        max_epochs: int | None = None,
        max_steps: int | None = None,
        max_length: int | None = None,
        metric: str = "auto",
        balance: bool = False,
        pairs: PairReading = "auto",
        budget_minutes: float | None = None,
        settings: Mapping[str, Any] | None = None,
        random_state: Any = 0,
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.method = method
        self.learning_rates = learning_rates
        self.batch_sizes = batch_sizes
        self.max_epochs = max_epochs
        self.max_steps = max_steps
        self.max_length = max_length
        self.metric = metric
        self.balance = balance
        self.pairs = pairs
        self.budget_minutes = budget_minutes
        self.settings = settings
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        """Declare that the input is texts, not numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = tags.input_tags.string = True
        tags.target_tags.required = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is a model: `classes_` alone may be of a fit that failed."""
        return hasattr(self, "model_")

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        X_dev: Any = None,
        y_dev: Any = None,
        unlabelled: Any = None,
        teacher: Any = None,
    ) -> Self:
        """Fine-tune on labelled texts.

        Args:
            X: Texts, or pairs of texts: a list, an array, or a column or table of pandas, polars, pyarrow or datasets.
            y: A label or a number for each text; for a classifier of texts with several labels, a matrix of 0 and 1
                with one column per label.
            X_dev: Texts that choose the settings and the stopping point; by default a fifth of the training texts. The
                last training learns them too, unless the method is `plain` or `agora` with `settings={"refit": False}`.
            y_dev: Labels of `X_dev`; named columns of a matrix are found by their names.
            unlabelled: Unlabelled texts like those the model will see, for method `agora`.
            teacher: Labels new texts, for method `agora`: a model's folder or name; an LLM as `openai:MODEL`; a fitted
                estimator with scikit-learn's interface (for several labels, of the same columns as `y`); or a function
                of texts that returns a label, probabilities by label, or None for each. By default the model's own
                encoder with a linear head.

        Raises:
            DataError: The data are invalid (also a `ValueError`).
            BortError: The settings, the model or the teacher are invalid.

        Example:
            >>> import bort
            >>> texts = ["Where is it?", "When does it come?", "The zip broke.", "It is torn."] * 5
            >>> labels = ["delivery", "delivery", "damage", "damage"] * 5
            >>> bort.BortClassifier("bort-nano", "head").fit(texts, labels).predict(["It is torn."]).tolist()
            ['damage']
        """
        for fitted in ("model_", "report_"):  # if this fit fails, an old model must not answer with the new labels
            self.__dict__.pop(fitted, None)
        train = self._labelled(X, self._fit_targets(y), "X")
        if (X_dev is None) != (y_dev is None):
            raise DataError("X_dev and y_dev go together")
        name, function = teacher_of(teacher, self._kind(), self._class_names())
        if self.method != "agora" and not (teacher is None and unlabelled is None):
            raise BortError("a teacher and unlabelled texts need method='agora'", setting="method", value=self.method)
        with tempfile.TemporaryDirectory(prefix="bort-") as scratch, self._work():
            folder = Path(scratch)
            files = {"train": folder / "X.jsonl"}
            write_examples(train, files["train"])
            if X_dev is not None:
                files["dev"] = folder / "X_dev.jsonl"
                write_examples(self._labelled(X_dev, self._targets(y_dev, "y_dev"), "X_dev"), files["dev"])
            if unlabelled is not None:
                files["unlabelled"] = folder / "unlabelled.jsonl"
                write_examples(texts_of(unlabelled, name="unlabelled"), files["unlabelled"])
            with _without_folder(folder):
                arguments = self._arguments(folder / "run", {part: str(file) for part, file in files.items()}, name)
                validate(arguments)
                data = _named(read_splits(arguments, hold_out=arguments.method == "agora", instead=_INSTEAD))
                metrics = finetune(arguments, teacher=function, data=data)
                self.model_ = ModelFiles.of(folder / "run")
            self.report_: FitReport | None = FitReport.of(metrics, data.dev if data.test is None else data.test)
        return self

    def save(self, folder: str | Path) -> None:
        """Write the model to a folder for `bort predict`, `load` and, except a bi-encoder, Hugging Face's `AutoModel…`.

        Raises:
            BortError: `folder` exists and is not empty, or JSON cannot hold a parameter.

        Example:
            >>> import bort
            >>> bort.BortClassifier.load("runs/topics").save("saved")
            >>> bort.Predictor("saved").predict("Where is it?").label
            'delivery'
        """
        check_is_fitted(self, "model_")
        about = {"parameters": _plain_parameters(self.get_params()), **self._described()}
        self.model_.write(folder, {_FILE: json.dumps(about, indent=2, ensure_ascii=False).encode() + b"\n"})

    @classmethod
    def load(cls, model: str | Path) -> Self:
        """Load a fitted model: a folder of `save`, `bort finetune`, `bort export` or Hugging Face, or a hub name.

        In a folder of `save`, labels have the types that they had in `y`; otherwise they are strings. A single-label
        classifier ignores the thresholds of an exported model and always predicts the most likely label.

        Raises:
            BortError: It cannot be loaded, or is of another kind.

        Example:
            >>> import bort
            >>> bort.BortClassifier.load("runs/topics").classes_.tolist()
            ['damage', 'delivery']
        """
        file = Path(model).expanduser() / _FILE
        try:
            about = json.loads(file.read_text("utf-8")) if file.is_file() else {}
            estimator = cls(**about.get("parameters", {}))
        except (ValueError, RecursionError, TypeError, AttributeError) as error:
            raise BortError(f"was not written by `save`: {error}", file=file) from None
        estimator.model_ = ModelFiles.of(model)
        with estimator._work(), estimator.model_.opened(estimator._threads(), str(model)) as predictor:
            task = predictor.task
        if task.kind not in cls._kinds or task.choices:
            raise BortError(f"must be a {cls._kinds[0]}", file=model, value="choices" if task.choices else task.kind)
        estimator._restore(task, about)
        return estimator

    def export(self, folder: str | Path, X: Any = None, y: Any = None, **settings: Any) -> dict[str, Any]:
        """Write a folder for fast inference on a CPU, as `bort export` does.

        Args:
            folder: Folder to write.
            X: Texts that show whether int8 loses accuracy; without them, the model stays fp32 unless you ask for int8.
            y: Labels of `X`.
            settings: Further settings of `bort.ExportArguments`, by name.

        Returns:
            The metrics of the export.

        Raises:
            BortError: The settings or data are invalid, the model was loaded from an export, or int8 was requested and
                loses too much accuracy.

        Example:
            >>> import bort
            >>> bort.BortClassifier.load("runs/topics").export("fast", engine="onnxruntime")["precision"]
            'fp32'
        """
        check_is_fitted(self, "model_")
        _check_settings(settings, ExportArguments, {"model", "out"}, "an export")
        if self.model_.exported:
            raise BortError("this model is an export already: `save` writes it, or export the one that it was made of")
        if (X is None) != (y is None):
            raise DataError("X and y go together")
        with tempfile.TemporaryDirectory(prefix="bort-") as scratch, self._work(), _without_folder(Path(scratch)):
            self.model_.write(Path(scratch) / "model")
            if X is not None:
                gate = Path(scratch) / "X.jsonl"
                write_examples(self._labelled(X, self._targets(y, "y"), "X"), gate)
                settings = {**settings, "gate": str(gate)}
            arguments = ExportArguments(model=str(Path(scratch) / "model"), out=str(folder), **settings)
            validate(arguments)
            return export_model(arguments)

    def _fit_targets(self, y: Any) -> list[Any]:
        """Training labels in the form of a data file; also learns the classes."""
        raise NotImplementedError

    def _targets(self, y: Any, name: str) -> list[Any]:
        """Labels in the form of a data file."""
        raise NotImplementedError

    def _described(self) -> dict[str, Any]:
        """Entries of a saved folder in addition to the parameters."""
        return {}

    def _restore(self, task: Task, about: Mapping[str, Any]) -> None:
        """Set the fitted attributes of a loaded model."""

    def _class_names(self) -> list[str]:
        return []

    def _kind(self) -> Kind:
        """Kind of the task that is fitted."""
        return self._kinds[0]

    def _outputs(self, X: Any) -> NDArray[np.float64]:
        """Raw outputs in the order of the estimator's. *Shape:* (texts, outputs)."""
        return self._logits(X)

    def _logits(self, X: Any) -> NDArray[np.float64]:
        """Raw outputs in the order of the model's. *Shape:* (texts, outputs)."""
        check_is_fitted(self, "model_")
        examples = texts_of(X)
        with self._work(), self.model_.opened(self._threads()) as predictor:
            if (unlike := unlike_training(predictor.engine.pairs, examples)) is not None:
                warnings.warn(f"this {type(self).__name__} {unlike}", stacklevel=4)
            if not examples:
                return np.zeros((0, predictor.task.outputs))
            return np.asarray(predictor.logits(examples), dtype=np.float64)

    def _labelled(self, X: Any, targets: Sequence[Any], name: str) -> list[Example]:
        examples = texts_of(X, name=name, labelled=True)
        if len(examples) != len(targets):
            raise DataError(f"{name} has {len(examples)} texts and there are {len(targets)} labels")
        if not examples:
            raise DataError("there must be at least one text", file=name)
        return [replace(example, label=label) for example, label in zip(examples, targets, strict=True)]

    def _arguments(self, out: Path, files: Mapping[str, Any], teacher: str | None) -> FinetuneArguments:
        settings = self.settings or {}
        if own := [name for name in settings if name in self.get_params(deep=False)]:
            raise BortError("is a parameter of its own, not one of `settings`", value=own[0])
        if seeds := [name for name in settings if name in ("seed", "seeds")]:
            raise BortError("is set by random_state, not in `settings`", value=seeds[0])
        _check_settings(settings, FinetuneArguments, _GIVEN | _COLUMNS, "a fit")
        idle = [name for name in _OF_TRAINING if name in settings or getattr(self, name, None) is not None]
        if self.method == "head" and idle:
            rule = f"without effect, as method='head' trains nothing but a linear head: {', '.join(idle)}"
            warnings.warn(rule, stacklevel=3)
        given = {name: getattr(self, name) for name in _SINGLE}
        given |= {
            name: np.atleast_1d(getattr(self, name)).tolist() for name in _LISTS if getattr(self, name) is not None
        }
        given = {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
        seed = self.random_state
        if not isinstance(seed, int | np.integer) or not 0 <= seed <= _MOST:
            seed = check_random_state(seed).randint(_MOST)
        given |= {"seed": int(seed), "seeds": [int(seed)], **settings}
        return FinetuneArguments(
            **given, **files, out=str(out), teacher=teacher, kind=self._kind(), classes=self._class_names()
        )

    def _threads(self) -> int | None:
        return None if self.n_jobs is None else bounded_threads(int(effective_n_jobs(self.n_jobs)))

    @contextlib.contextmanager
    def _work(self) -> Iterator[None]:
        """Apply `verbose` and `n_jobs` within a block."""
        with verbose(self.verbose), _NUMBER(self._threads()):
            yield


class _Number:
    """PyTorch's number of threads, set within blocks that may overlap in several threads.

    PyTorch has a number for each thread, and one for new threads, which is the last that any thread has set.
    """

    def __init__(self) -> None:
        self._lock, self._own = threading.Lock(), threading.local()
        self._blocks, self._usual = 0, 0

    @contextlib.contextmanager
    def __call__(self, threads: int | None) -> Iterator[None]:
        """Set the number within a block, or leave it to what runs there; afterwards it is as before."""
        outer = getattr(self._own, "threads", None)
        with self._lock:
            if not self._blocks:
                self._usual = torch.get_num_threads()
            self._blocks += 1
            if threads is not None:
                self._own.threads = threads
                torch.set_num_threads(threads)
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                self._own.threads = outer if self._blocks else None
                torch.set_num_threads(self._own.threads or self._usual)


_NUMBER = _Number()


@contextlib.contextmanager
def _without_folder(folder: Path) -> Iterator[None]:
    """Replace temporary files in error messages by the caller's names for the data."""
    try:
        yield
    except BortError as error:
        if str(folder) not in str(error):
            raise
        raise DataError(re.sub(rf"{re.escape(str(folder))}/(\w+)(\.jsonl)?", r"\1", str(error))) from None


def _named(data: Splits) -> Splits:
    """Give examples the caller's names for the data as their sources, instead of temporary files."""
    for part in (data.train, data.dev, data.test or []):
        part[:] = [replace(example, source=Path(example.source).stem) for example in part]
    return data


def _check_settings(settings: Mapping[str, Any], of: Any, given: set[str], what: str) -> None:
    """Refuse settings that are no fields of a dataclass of arguments, or that are given otherwise."""
    known = {field.name for field in dataclasses.fields(of)} - given
    for name in settings:
        if name not in known:
            raise BortError(f"is no setting of bort.{of.__name__} that {what} leaves open", value=name)


def _plain_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as JSON types, without a random number generator."""
    kept = {name: value for name, value in parameters.items() if not isinstance(value, np.random.RandomState)}
    plain: dict[str, Any] = json.loads(json.dumps(kept, default=_plain))
    return plain


def _plain(value: Any) -> Any:
    """A path as text, NumPy's numbers and arrays as Python's.

    Raises:
        BortError: It is none of these.
    """
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return dict(value)
    if not hasattr(value, "tolist"):
        raise BortError("a parameter holds a value that JSON cannot hold, so it cannot be saved", value=value)
    return value.tolist()


def _is_missing(value: Any) -> bool:
    """Whether a value is None, or NaN or similar, which does not equal itself."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # whether pandas' NA equals itself is NA again, which is neither true nor false
        return True


def labels_of(y: Any, name: str) -> NDArray[Any]:
    """One label for each text. *Shape:* (texts,).

    Args:
        y: A list, an array, a column, or a table of one column.
        name: Name of `y` in messages.

    Raises:
        DataError: `y` is None, a label is missing, or labels are dates or durations.
        ValueError: A text has several labels.
    """
    if y is None:
        raise DataError("requires y to be passed, but the target y is None", file=name)
    given = np.asarray(y) if hasattr(y, "columns") else y  # a table's own values are column names
    values = column_values(given)
    for number, row in enumerate(values, start=1):
        value = row[0] if isinstance(row, list) and len(row) == 1 else row
        if _is_missing(value):
            raise DataError("a label must not be missing", file=name, line=number, value=value)
    labels: NDArray[Any] = column_or_1d(np.asarray(values), warn=True)
    # NumPy's own become whole numbers in a list.
    if any(getattr(getattr(each, "dtype", None), "kind", None) in ("m", "M") for each in (given, labels)):
        raise DataError("a label must not be a date or a duration", file=name, value=values[0])
    return labels
