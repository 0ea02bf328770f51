"""The entry of one task of a suite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bort.tasks.classification import Classification
from bort.tasks.metrics import primary_metric
from bort.tasks.regression import Regression
from bort.tasks.task import Task

Suite = Literal["glue", "superglue", "race"]


Part = Literal["train", "dev", "test"]


Cast = Literal["improved", "released"]


Shape = Literal["texts", "copa", "multirc", "record", "wic", "wsc", "race"]


@dataclass(frozen=True)
class SuiteTask:
    """One task of a suite: a row of the table.

    Args:
        name: Its name on the command line.
        title: Its name as the suite writes it, also the name of its data folder and the stem of its submission file.
        suite: The suite.
        shape: Layout of an official row, and so how it is cast; `texts` is one text or a pair.
        text: Names of the column with the first text, in files and on the hub.
        text_b: The same for the second text; empty if there is only one text.
        label: The same for the label.
        spellings: All spellings of each label, ours first; empty for a regression. Labels are in the hub's order.
        submitted: Spelling of each label in the submission file, if it differs from ours.
        metrics: The official metrics, in the order in which they are published.
        selects_by: The metric on the development data that selects the model.
        files: Possible file names of each part, within the task's folder.
        headless: Columns of training and development files without a header line.
        split: Name of each part on the hub.
        config: Name of the task on the hub.
        counts: Official number of rows of each part; of answers for MultiRC, of questions for ReCoRD and RACE.
        predicted_by: The task whose model predicts this one, which has no training data of its own.
        diagnostic: Whether it is left out of the suite's score.
        max_length: Default maximum input length in tokens.
        folders: Possible names of its data folder, in addition to `title` and `name`.
        torn: Whether the official file has rows with a wrong number of cells, which are left out.
        undecided: The label of rows on which the annotators did not agree; they are left out, as in the suite.
    """

    name: str
    title: str
    suite: Suite
    metrics: tuple[str, ...]
    selects_by: str
    counts: Mapping[Part, int]
    spellings: tuple[tuple[str, ...], ...] = ()
    shape: Shape = "texts"
    text: tuple[str, ...] = ("sentence1",)
    text_b: tuple[str, ...] = ("sentence2",)
    label: tuple[str, ...] = ("label",)
    submitted: tuple[str | int, ...] = ()
    files: Mapping[Part, tuple[str, ...]] = field(default_factory=dict)
    headless: tuple[str, ...] = ()
    split: Mapping[Part, str] = field(default_factory=dict)
    config: str = ""
    predicted_by: str = ""
    diagnostic: bool = False
    max_length: int = 128
    folders: tuple[str, ...] = ()
    torn: bool = False
    undecided: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of a model's outputs."""
        return tuple(each[0] for each in self.spellings)

    @property
    def trains(self) -> bool:
        """Whether it has training data."""
        return not self.predicted_by

    @property
    def submission(self) -> str:
        """Name of its file in a submission."""
        stem = {"MNLI": "MNLI-m"}.get(self.title, self.title)
        return stem + {"glue": ".tsv", "superglue": ".jsonl", "race": ".json"}[self.suite]

    def chooses(self, cast: Cast) -> bool:
        """Whether its examples are texts with choices, for a model with one score per choice."""
        return self.shape in ("copa", "race") and cast == "improved"

    def task(self, cast: Cast = "improved", metric: str = "auto") -> Task:
        """The task of its model.

        Args:
            cast: How its rows are cast.
            metric: The metric that selects the model, or `auto` for `selects_by`.

        Raises:
            BortError: The metric belongs to another kind of task.
        """
        kind = Classification if self.labels else Regression
        chosen = self.selects_by if metric == "auto" else primary_metric(kind.kind, metric)
        return kind(self.labels, chosen, choices=self.chooses(cast))
