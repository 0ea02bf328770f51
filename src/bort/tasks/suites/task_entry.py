"""What is known of one task of a suite."""

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
        title: Its name as the suite writes it, which is the folder of its data and the stem of its submission file.
        suite: The suite.
        shape: How an official row is laid out, and so how it is cast; `texts` is one text or a pair.
        text: Names that the column of the first text has, in files and on the hub.
        text_b: The same of the second text; empty where there is one text only.
        label: The same of the label.
        spellings: All spellings of each label, the first of them ours; empty for a regression. In the hub's order.
        submitted: How the submission file spells each label, where otherwise than we do.
        metrics: The official metrics, in the order in which they are published.
        selects_by: The development score that decides between models.
        files: Names that the file of each part may have below the task's folder.
        headless: Columns of training and development files without a header line.
        split: Name of each part on the hub.
        config: Name of the task on the hub.
        counts: Official number of rows of each part; answers of MultiRC, questions of ReCoRD and RACE.
        predicted_by: The task whose model predicts this one, which has no training data of its own.
        diagnostic: Whether it is left out of the suite's score.
        max_length: Longest input in tokens, by default.
        folders: Further names that the folder of its files may have, beside `title` and `name`.
        torn: Whether the official file holds rows with another number of cells, which are left out.
        undecided: The label of rows on which the annotators did not agree; they are left out, as the suite does.
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
        """Whether its examples are texts with choices, for a model with one score a choice."""
        return self.shape in ("copa", "race") and cast == "improved"

    def task(self, cast: Cast = "improved", metric: str = "auto") -> Task:
        """What its model is asked for.

        Args:
            cast: How its rows are cast.
            metric: The development score that decides, or the task's own.

        Raises:
            BortError: A metric of the other kind.
        """
        kind = Classification if self.labels else Regression
        chosen = self.selects_by if metric == "auto" else primary_metric(kind.kind, metric)
        return kind(self.labels, chosen, choices=self.chooses(cast))
