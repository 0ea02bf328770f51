"""The labelled data of a run, split into training, development and test data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property
from typing import TypeVar

import numpy as np

from bort.data.tables.checks import DataCheck, check_examples, folded_key
from bort.data.tables.examples import Example, read_examples
from bort.data.tables.labels import check_decimals, joined_by, named_labels, parse_number
from bort.errors import BortError
from bort.finetuning.arguments import FinetuneArguments
from bort.finetuning.fitter import Fitter
from bort.finetuning.hyper_parameters import TrainingLimits
from bort.finetuning.suite_scores import SuiteRun
from bort.progress import say
from bort.tasks.kinds import task_of
from bort.tasks.suites.casting import CastRow, balanced
from bort.tasks.suites.reading import has_part, is_labelled, read_part, say_what_is_odd
from bort.tasks.suites.table import find
from bort.tasks.suites.task_entry import Part
from bort.tasks.task import Task

T = TypeVar("T")
_DEV_SHARE = 0.2
_HOLD_OUT_SHARE = 0.2
_INSTEAD = ("a --dev file", "--test, or --method plain, which needs none")
_MOST_SPLIT_OFF = 10_000
"""About the most rows to split off; the score of more would hardly be more certain."""
_SPLIT_SEED = 0
_MOST_LOOKED_AT = 500
"""Most labels that are checked for a separator between several labels."""
_FEWEST = 2
"""Fewest examples that must be left to train on: a linear head is evaluated by cross-validation."""
USUAL_LENGTH = 128
"""Maximum input length in tokens if neither the settings nor the task set it."""


class Splits:
    """Training, development and optional test examples, checked for consistency.

    Raises:
        BortError: There are too few training examples, pairs and single texts are mixed, or a label does not occur in
            the training data.
    """

    def __init__(
        self,
        train: list[Example],
        dev: list[Example],
        test: list[Example] | None,
        task: Task,
        *,
        held_out: bool = False,
        suite: SuiteRun | None = None,
    ) -> None:
        if len(train) < _FEWEST:
            rule = f"there must be at least {_FEWEST} examples to train on; there is only {len(train)}"
            raise BortError(rule, file=train[0].source if train else None)
        if task.names:
            train, dev = named_labels(train, task.names), named_labels(dev, task.names)
            test = None if test is None else named_labels(test, task.names)
        self.train, self.dev, self.test, self.task = train, dev, test, task
        self.held_out = held_out
        """Whether the test examples were split off the training data."""
        self.suite = suite
        """The suite task that the data belong to, if any."""
        for part in (dev, test or []):
            if part and (part[0].text_b is None) != (train[0].text_b is None):
                rule = "must hold pairs where the training data do, and single texts where they do"
                raise BortError(rule, file=part[0].source, line=part[0].line, column="text_b", value=part[0].text_b)
            task.targets(part)  # reports unknown labels before anything is trained

    def fitter(self, arguments: FinetuneArguments, *, bi_encoder: bool = False) -> Fitter:
        """Make the fitter for these data.

        Args:
            arguments: The settings of the run.
            bi_encoder: Whether the texts of a pair are read separately.

        Raises:
            BortError: The model or its tokenizer cannot be loaded.
        """
        usual = self.suite.task.max_length if self.suite else USUAL_LENGTH
        return Fitter(
            arguments.model,
            self.task,
            self.train,
            max_length=arguments.max_length or usual,
            limits=TrainingLimits.of(arguments, len(self.train)),
            balance=arguments.balance,
            from_head=arguments.start == "head",
            bi_encoder=bi_encoder,
            precision=arguments.precision,
            about=self.suite.about if self.suite else {},
        )

    @cached_property
    def check(self) -> DataCheck:
        """Problems found in the data."""
        parts = {"train": self.train, "dev": self.dev, "test": self.test or []}
        return check_examples(parts, numbers=self.task.kind == "regression")

    @property
    def parts(self) -> dict[str, list[Example]]:
        """The parts to score, by name."""
        return {"dev": self.dev} | ({} if self.test is None else {"test": self.test})

    def announce(self, plan: str) -> None:
        """Print the sizes and labels of the data, and problems found in them.

        Args:
            plan: What will be done with the data.
        """
        test = f"{len(self.test or [])} {'held out of them' if self.held_out else 'for the test'}"
        say(f"{len(self.train)} to train on, {len(self.dev)} for development, {test}; {plan}")
        if self.task.names:
            counts = self.task.label_counts(self.task.targets(self.train))
            listed = ", ".join(f"{name} {counts[name]}" for name in self.task.names[:12])
            say(f"labels: {listed}{', …' if len(self.task.names) > 12 else ''}")
            classes = self.task.kind == "classification" and len(self.task.names) > 2
            if classes and all(name.lstrip("-").isdigit() for name in self.task.names):
                say("whole-number labels are taken for classes; --kind regression takes them for amounts")
        for sentence in self.check.sentences():
            say(sentence)


def read_splits(arguments: FinetuneArguments, *, hold_out: bool = False, instead: tuple[str, str] = _INSTEAD) -> Splits:
    """Read a run's data; if no development data are given, they are split off the training data.

    Args:
        arguments: The settings of the run.
        hold_out: Whether to split off test data too, if none are given.
        instead: What the user can give instead of splitting off development and test data, for error messages.

    Raises:
        BortError: The data cannot be read, or are too few.
    """
    if arguments.task:
        return _suite_splits(arguments, hold_out)
    columns = arguments.columns
    train = read_examples(arguments.train, columns)
    names = arguments.classes or (columns.labels if len(columns.labels) > 1 else ())
    if arguments.kind == "auto" and not names:
        check_decimals(train, columns.labels[0])
    task = task_of(train, kind=arguments.kind, metric=arguments.metric, names=names)
    test = None if arguments.test is None else read_examples(arguments.test, columns)
    if arguments.kind == "auto" and task.kind == "regression":
        example = next(each for each in train if not (parse_number(each.label) or 0.0).is_integer())
        say(f"labels such as {example.label} are taken for amounts; --kind classification takes them for class names")
    separator = joined_by(task.names) if task.kind == "classification" and len(task.names) <= _MOST_LOOKED_AT else None
    if arguments.kind == "auto" and separator is not None:
        name = next(each for each in task.names if separator in each)
        say(f"labels such as {name!r} are taken for one class; --label-separator {separator!r} splits them")
    held_out = test is None and hold_out
    if held_out:
        train, test = split_off(train, task, _HOLD_OUT_SHARE, instead=instead[1])
    # Before the development data are split off, because the last training learns these too.
    train = drawn(train, arguments.max_train_rows)
    if arguments.dev is None:
        train, dev = split_off(train, task, _DEV_SHARE, instead=instead[0])
    else:
        dev = read_examples(arguments.dev, columns)
    return Splits(train, dev, test, task, held_out=held_out)


def _suite_splits(arguments: FinetuneArguments, hold_out: bool) -> Splits:
    """Read a suite task's official parts; without labelled test data, none are used or some are split off."""
    named = find(arguments.task)[0]
    if not named.trains:
        raise BortError(
            f"has no training data; {named.predicted_by} models predict it", setting="task", value=named.name
        )
    task = named.task(arguments.cast, arguments.metric)
    rows: dict[Part, list[CastRow]] = {}
    for part in ("train", "dev"):
        rows[part] = read_part(named, arguments.data, part, cast=arguments.cast, labelled=True)
        say_what_is_odd(rows[part], named, part)
    if has_part(named, arguments.data, "test"):
        test = read_part(named, arguments.data, "test", cast=arguments.cast)
        rows |= {"test": test} if is_labelled(test) else {}
    held_out = hold_out and "test" not in rows
    if held_out:
        rows["train"], rows["test"] = _split_passages(rows["train"], task, _HOLD_OUT_SHARE)
    train = balanced(rows["train"]) if named.shape == "record" else rows["train"]
    examples = {part: [row.example for row in found] for part, found in rows.items()}
    return Splits(
        drawn([row.example for row in train], arguments.max_train_rows),
        examples["dev"],
        examples.get("test"),
        task,
        held_out=held_out,
        suite=SuiteRun(named, arguments.cast, arguments.data, {p: rows[p] for p in rows if p != "train"}),
    )


def _split_passages(rows: list[CastRow], task: Task, share: float) -> tuple[list[CastRow], list[CastRow]]:
    """Split off whole passages with all their questions; of rows without a passage, whole sets of copies."""
    passages: dict[int | str, list[CastRow]] = {}
    for row in rows:
        passages.setdefault(row.idx[0], []).append(row)
    groups, share = {id(group[0].example): group for group in passages.values()}, _limited(share, len(rows))
    alone = all(len(row.idx) == 1 for row in rows)
    parts = split_off([group[0].example for group in groups.values()], task, share, copies=alone)
    kept, off = ([row for example in part for row in groups[id(example)]] for part in parts)
    return kept, off


def _limited(share: float, rows: int) -> float:
    return min(share, _MOST_SPLIT_OFF / rows)


def drawn(items: Sequence[T], count: int | None) -> list[T]:
    """A fixed random sample of `count` items in their order, or all items if `count` is None.

    Of two lists of the same length, it has the same places.
    """
    if count is None or count >= len(items):
        return [*items]
    chosen = np.random.default_rng(_SPLIT_SEED).permutation(len(items))[:count]
    return [items[int(index)] for index in np.sort(chosen)]


def split_off(
    examples: list[Example], task: Task, share: float, *, instead: str = "a --dev file", copies: bool = True
) -> tuple[list[Example], list[Example]]:
    """Split off a fixed random share of each class, with at least one text per class on each side.

    The share is smaller if it would be more than about 10,000 rows.

    Copies of a text (see `fold_text`) stay together: a model must not be judged on what it has learned by heart. Each
    text counts once, for the rarest class of its copies. With several labels, an example's class is its rarest label.
    A class with one text is not split. A text with more copies than the share of its class's rows stays in the first
    part, unless all of them have. Where texts have several labels, or copies different ones, the second part may lack
    some of these, but the first part lacks none that two texts have.

    scikit-learn's stratified splits leave small classes out of the smaller side, so this does not use them.

    Args:
        examples: The examples to split.
        task: Defines the classes, if any.
        share: Share of each class's texts, with no more than this share of its rows, that goes to the second part.
        instead: What the user can give instead, for the error message.
        copies: Whether copies stay together; not where each example stands for a passage.

    Returns:
        The remaining examples, and those split off, both in their order.

    Raises:
        BortError: There are too few examples to split.
    """
    alike: dict[Hashable, list[int]] = {}
    for index, example in enumerate(examples):
        alike.setdefault(folded_key(example) if copies else index, []).append(index)
    targets = task.targets(examples)
    strata: list[int] = task.strata(targets).tolist()
    sizes = Counter(stratum for same in alike.values() for stratum in {strata[index] for index in same})
    groups: dict[int, list[int]] = {}
    together = {same[0]: same for same in alike.values()}
    for first, same in together.items():
        groups.setdefault(min((strata[index] for index in same), key=sizes.__getitem__), []).append(first)
    rng, share = np.random.default_rng(_SPLIT_SEED), _limited(share, len(examples))
    off: set[int] = set()
    few = f"too few to split some off; give {instead}, or more examples"
    for members in groups.values():
        off.update(_filling(share, {first: len(together[first]) for first in rng.permutation(members).tolist()}))
    labels = [[each] for each in strata] if targets.ndim == 1 else [np.flatnonzero(row).tolist() for row in targets]
    for those in _by_label(together, labels):
        if len(those) > 1 and off.issuperset(those):
            off.remove(those[0])
    chosen = {index for first in off for index in together[first]}
    if not chosen or len(examples) - len(chosen) < _FEWEST:
        found = f"{len(examples)} example{'s' if len(examples) > 1 else ''}"
        if len(alike) < len(examples):
            found += f" with {len(alike)} different text{'s' if len(alike) > 1 else ''}"
        raise BortError(f"the training data have {found}, {few}", file=examples[0].source)
    return (
        [example for index, example in enumerate(examples) if index not in chosen],
        [example for index, example in enumerate(examples) if index in chosen],
    )


def _filling(share: float, sizes: dict[int, int]) -> list[int]:
    """The first groups that are this share of all groups and at most of all rows; at least one, and not all.

    Args:
        share: The share.
        sizes: The number of rows of each group.
    """
    rows = max(1, round(share * sum(sizes.values())))
    count = min(len(sizes) - 1, max(1, round(share * len(sizes))))
    taken: list[int] = []
    for group, size in sizes.items():
        if size <= rows and len(taken) < count:
            taken.append(group)
            rows -= size
    return taken or sorted(sizes, key=sizes.__getitem__)[:count]


def _by_label(together: dict[int, list[int]], labels: Sequence[Sequence[int]]) -> Iterable[list[int]]:
    """The groups that have each label.

    Args:
        together: The examples of each group.
        labels: The labels of each example.
    """
    groups: dict[int, list[int]] = {}
    for group, same in together.items():
        for label in {label for index in same for label in labels[index]}:
            groups.setdefault(label, []).append(group)
    return groups.values()
