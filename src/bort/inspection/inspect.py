"""All findings about labelled texts, in one object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.checks import DataCheck, fold_text, place_of
from bort.data.tables.examples import Example
from bort.data.tables.labels import parse_number, plain_number
from bort.inspection.label_errors import DoubtfulLabel, doubtful_classes, doubtful_memberships, doubtful_values
from bort.inspection.languages import Languages, find_languages
from bort.inspection.near_duplicates import NearPair, near_duplicates
from bort.tasks.task import Task

Parts = Mapping[str, Sequence[Example]]
_LANGUAGE_SHARE = 0.002
"""A smaller share of texts in other languages is counted, but gets no line, because some are false positives."""
_SHOWN_CHARACTERS = 160


@dataclass(frozen=True)
class NearTexts:
    """Two texts that say almost the same.

    Attributes:
        place: Location of the later one.
        text: The later one, shortened.
        part: Its part.
        near_place: Location of the earlier one.
        near_text: The earlier one, shortened.
        near_part: Its part.
        cosine: Cosine of their vectors.
        labels: Labels of both; None for one that is unknown.
    """

    place: str
    text: str
    part: str
    near_place: str
    near_text: str
    near_part: str
    cosine: float
    labels: tuple[str | None, str | None]

    @property
    def conflicting(self) -> bool:
        """Whether the labels are known and differ."""
        return None not in self.labels and self.labels[0] != self.labels[1]


@dataclass(frozen=True)
class Doubt:
    """A label that is probably wrong.

    Attributes:
        place: File and line.
        part: Its part.
        line: Line there, from 1 (row for Parquet and the hub).
        text: The text, shortened; both texts of a pair.
        label: The given label; in multi-label data, the one in doubt, or "not" and the one that is missing.
        answer: Prediction of a linear head that was not fitted to the text.
        probability: Probability of the answer; None for numbers.
        probability_given: Probability of the label; None for numbers.
    """

    place: str
    part: str
    line: int | None
    text: str
    label: str
    answer: str
    probability: float | None
    probability_given: float | None


@dataclass(frozen=True)
class Inspection:
    """Findings about labelled texts. `dataclasses.asdict` converts them for JSON.

    Attributes:
        check: Findings that need no model: duplicates, leaks, conflicts, look-alike labels, empty and long texts.
        languages: Languages of the texts; None if the model may know other languages than English.
        near: Near duplicates, the nearest first; None if they were not searched.
        doubts: Probable label errors, the most doubtful first; None if they were not searched.
        compared: Number of texts that were searched for near duplicates.
        judged: Number of labels that were checked for errors.
    """

    check: DataCheck
    languages: Languages | None = None
    near: tuple[NearTexts, ...] | None = None
    doubts: tuple[Doubt, ...] | None = None
    compared: int = 0
    judged: int = 0

    def sentences(self) -> list[str]:
        """Describe each finding in one line, the most serious first; empty if there are none."""
        return [*self.check.sentences(), *self.model_sentences()]

    def model_sentences(self) -> list[str]:
        """The lines of the findings that are not in `check`."""
        return [*self._near_sentences(), *self._doubt_sentences(), *self._language_sentences()]

    def _near_sentences(self) -> Iterator[str]:
        across = [each for each in self.near or () if each.part != each.near_part]
        within = [each for each in self.near or () if each.part == each.near_part]
        for found, where in ((across, "texts of another part"), (within, "texts of their own part")):
            if found:
                one = found[0]
                verb = "text is" if len(found) == 1 else "texts are"
                yield (
                    f"{len(found)} {verb} almost the same as {where}, such as {one.place} and {one.near_place} "
                    f"(cosine {one.cosine:.2f})"
                )
        if conflicting := [each for each in self.near or () if each.conflicting]:
            one = conflicting[0]
            yield (
                f"{len(conflicting)} of the pairs that are almost the same have different labels, such as {one.place} "
                f"{one.labels[0]!r} and {one.near_place} {one.labels[1]!r}"
            )

    def _doubt_sentences(self) -> Iterator[str]:
        if self.doubts:
            one = self.doubts[0]
            head = "a linear head" if one.probability is None else f"a linear head, with {one.probability:.2f},"
            wrong = "is perhaps wrong," if len(self.doubts) == 1 else "are perhaps wrong, first of all"
            yield (
                f"{len(self.doubts)} of the {self.judged} labels {wrong} {one.place}: "
                f"{one.label!r}, where {head} says {one.answer!r}"
            )

    def _language_sentences(self) -> Iterator[str]:
        if self.languages is None or self.languages.count < max(1, _LANGUAGE_SHARE * self.languages.read):
            return
        listed = ", ".join(f"{name} {count}" for name, count in [*self.languages.others.items()][:5])
        place = next(iter(self.languages.places.values()))
        yield (
            f"{self.languages.count} of the {self.languages.read} texts look like another language than English "
            f"({listed}; such as {place}), which the model does not know"
        )


def languages_in(parts: Parts, *, most: int | None = None) -> Languages:
    """Find the texts of all parts that are not in English.

    Args:
        parts: Examples by part.
        most: Most texts to check, evenly spaced; by default all.
    """
    examples = [example for part in parts.values() for example in part]
    step = 1 if most is None else max(1, -(-len(examples) // most))
    return find_languages((f"{one.text} {one.text_b or ''}", place_of(one)) for one in examples[::step])


def near_in(parts: Parts, vectors: Sequence[NDArray[Any]], *, numbers: bool = False) -> tuple[NearTexts, ...]:
    """Find texts that are almost the same as an earlier one of any part.

    Args:
        parts: Examples by part; the part that others must not repeat comes first.
        vectors: Vectors of length 1 of all examples, part after part; for pairs, one array for the first texts and one
            for the second. *Shape:* (examples, D) each.
        numbers: Whether labels are numeric targets, so that 4 and 4.0 are equal.
    """
    rows = [(name, example) for name, part in parts.items() for example in part]
    texts = [(fold_text(one.text), None if one.text_b is None else fold_text(one.text_b)) for _, one in rows]
    return tuple(_near(rows, pair, numbers) for pair in near_duplicates(vectors, texts))


def doubts_in(parts: Parts, says: NDArray[Any], targets: NDArray[Any], task: Task) -> tuple[tuple[Doubt, ...], int]:
    """Find labels that are probably wrong.

    A label that the head of a text's fold has never seen, because only texts of this fold have it, cannot be judged.

    Args:
        parts: Labelled examples by part.
        says: Out-of-fold log-probabilities, log-odds or values, part after part. *Shape:* (examples, outputs).
        targets: As returned by `Task.targets`.
        task: A classification with one or several labels per text, or a regression.

    Returns:
        The labels in doubt, the most doubtful first, and how many labels were judged.
    """
    rows = [(name, example) for name, part in parts.items() for example in part]
    if task.kind == "regression":
        found, judged = doubtful_values(says[:, 0], targets), len(targets)
    elif task.kind == "multilabel":
        seen = np.isfinite(says)  # no text of the other folds has the label at -inf, and all have it at inf
        found, judged = doubtful_memberships(task.activate(says), targets, seen), int(seen.sum())
    else:
        known = np.flatnonzero(np.isfinite(says[np.arange(len(targets)), targets]))
        found, judged = doubtful_classes(np.exp(says[known]), targets[known]), len(known)
        found = [replace(each, row=int(known[each.row])) for each in found]
    return tuple(_doubt(rows, each, task) for each in found), judged


def shown_text(example: Example) -> str:
    """The text, or both of a pair, on one line, shortened."""
    text = " ".join((example.text if example.text_b is None else f"{example.text} / {example.text_b}").split())
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _near(rows: Sequence[tuple[str, Example]], pair: NearPair, numbers: bool) -> NearTexts:
    (part, later), (near_part, earlier) = rows[pair.later], rows[pair.earlier]
    given = [parse_number(one.label) if numbers else one.label for one in (later, earlier)]
    labels = [None if label is None else plain_number(str(label)) if numbers else str(label) for label in given]
    return NearTexts(
        place_of(later),
        shown_text(later),
        part,
        place_of(earlier),
        shown_text(earlier),
        near_part,
        round(pair.cosine, 4),
        (labels[0], labels[1]),
    )


def _doubt(rows: Sequence[tuple[str, Example]], found: DoubtfulLabel, task: Task) -> Doubt:
    part, example = rows[found.row]
    answer, label = f"{found.answer:.4g}", str(example.label)
    if found.label is not None:
        name = task.names[found.label]
        label, answer = (f"not {name}", name) if found.answer else (name, f"not {name}")
    elif task.names:
        answer = task.names[int(found.answer)]
    shares = [None if p is None else round(p, 4) for p in (found.probability, found.probability_given)]
    return Doubt(place_of(example), part, example.line, shown_text(example), label, answer, shares[0], shares[1])
