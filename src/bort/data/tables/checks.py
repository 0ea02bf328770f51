"""What is odd about labelled texts: duplicates, leaks, conflicting labels, look-alike labels, empty and long texts."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from bort.data.tables.examples import Example
from bort.data.tables.labels import parse_number, shown_label

LONG_CHARACTERS = 10_000
"""A text longer than this many characters is called long."""
SHOWN = 5
"""Conflicts that are kept as samples."""
_SHOWN_CHARACTERS = 80
_PART_TITLES = {"train": "training", "dev": "development"}


@dataclass(frozen=True)
class Repeats:
    """The rows of one part whose text is known from another part, or from an earlier row of the same part.

    Attributes:
        part: The part that repeats.
        known: The part that has the text already; `part` itself for repeats within it.
        rows: Rows of `part`.
        exact: How many of them are known character for character.
        folded: How many are known once both are folded (see `fold_text`); at least `exact`.
        sample: Places of the first such row and of the row that it repeats.
    """

    part: str
    known: str
    rows: int
    exact: int
    folded: int
    sample: tuple[str, str]

    def __str__(self) -> str:
        part, known = _title(self.part), _title(self.known)
        where = "repeat an earlier one" if self.part == self.known else f"are {known} texts too"
        leak = "" if self.part == self.known else f"; the score on the {part} texts is too good"
        return (
            f"{self.folded} of the {self.rows} {part} texts {where}{_how(self.exact, self.folded)}, "
            f"such as {self.sample[0]} and {self.sample[1]}{leak}"
        )


@dataclass(frozen=True)
class Conflict:
    """One text that has different labels.

    Attributes:
        text: The text as it first stands, or both texts of a pair; shortened.
        labels: The labels, in the order in which they occur.
        places: Where each label first occurs.
        exact: Whether the texts are equal character for character, rather than only when folded.
    """

    text: str
    labels: tuple[str, ...]
    places: tuple[str, ...]
    exact: bool


@dataclass(frozen=True)
class LookAlikes:
    """Labels that count as different and hardly look it.

    Attributes:
        labels: The labels, the most frequent first.
        counts: Rows of each, over all parts.
        differ_in: What tells them apart, in words.
    """

    labels: tuple[str, ...]
    counts: tuple[int, ...]
    differ_in: str

    def __str__(self) -> str:
        listed = ", ".join(f"{name!a} ({count})" for name, count in zip(self.labels, self.counts, strict=True))
        return f"the labels {listed} are different classes, though they differ in {self.differ_in} only"


@dataclass(frozen=True)
class DataCheck:
    """What was found in labelled data. `dataclasses.asdict` makes JSON of it.

    Attributes:
        rows: Rows of each part.
        repeats: One entry for each pair of parts that share texts, and for each part that repeats some of its own.
        leaked: Rows of each part whose text, folded, an earlier part has.
        conflicting_texts: How many texts have more than one label, over all parts, folded.
        conflicting_exactly: How many of them have it character for character.
        conflicts: The first `SHOWN` of them.
        look_alikes: Labels that hardly differ; none for numbers.
        empty: Rows of each part in which a text holds nothing that can be seen.
        long: Rows of each part in which a text is longer than `LONG_CHARACTERS`.
    """

    rows: dict[str, int]
    repeats: tuple[Repeats, ...]
    leaked: dict[str, int]
    conflicting_texts: int
    conflicting_exactly: int
    conflicts: tuple[Conflict, ...]
    look_alikes: tuple[LookAlikes, ...]
    empty: dict[str, int]
    long: dict[str, int]

    def sentences(self) -> list[str]:
        """Word each finding as one line for a person, the gravest first; none where nothing is odd."""
        across = [str(each) for each in self.repeats if each.part != each.known]
        within = [str(each) for each in self.repeats if each.part == each.known]
        conflicting = []
        if self.conflicting_texts:
            first = self.conflicts[0]
            shown = " and ".join(
                f"{place} {label!a}" for place, label in list(zip(first.places, first.labels, strict=True))[:2]
            )
            how = _how(self.conflicting_exactly, self.conflicting_texts)
            verb = "text has" if self.conflicting_texts == 1 else "equal texts have"
            conflicting.append(f"{self.conflicting_texts} {verb} different labels{how}, such as {shown}")
        empty = [
            f"{count} of the {_title(part)} texts hold nothing that can be seen" for part, count in self.empty.items()
        ]
        long = [
            f"{count} of the {_title(part)} texts are longer than {LONG_CHARACTERS:,} characters"
            for part, count in self.long.items()
        ]
        return [*across, *conflicting, *map(str, self.look_alikes), *within, *empty, *long]


def check_examples(parts: Mapping[str, Sequence[Example]], *, numbers: bool = False) -> DataCheck:
    """Look for what makes scores or labels doubtful, in one pass over the texts.

    Args:
        parts: The examples of each part, in the order in which they are used: `train`, `dev`, `test`.
        numbers: Whether labels are amounts; then no two of them look alike.

    Returns:
        All findings. Texts are compared twice: exactly, and folded (see `fold_text`).
    """
    groups: dict[Hashable, list[tuple[str, Example]]] = defaultdict(list)
    empty: Counter[str] = Counter()
    long: Counter[str] = Counter()
    for part, examples in parts.items():
        for example in examples:
            key = _folded_key(example)
            groups[key].append((part, example))
            empty[part] += not all(key[0])
            long[part] += any(len(text) > LONG_CHARACTERS for text in _texts(example))
    repeated = [members for members in groups.values() if len(members) > 1]
    repeats, leaked = _repeats(repeated, parts)
    conflicts = [found for members in repeated if (found := _conflict([each for _, each in members], numbers))]
    return DataCheck(
        rows={part: len(examples) for part, examples in parts.items()},
        repeats=repeats,
        leaked=leaked,
        conflicting_texts=len(conflicts),
        conflicting_exactly=sum(found.exact for found in conflicts),
        conflicts=tuple(conflicts[:SHOWN]),
        look_alikes=() if numbers else look_alike_labels([each for examples in parts.values() for each in examples]),
        empty=dict(+empty),
        long=dict(+long),
    )


def fold_text(text: str) -> str:
    """Remove what a reader does not see or does not mind: case, spacing, invisible characters, Unicode's spellings.

    Full-width letters and ligatures count as the plain ones (NFKC). Two texts that fold alike are duplicates for a
    person, though not for a model.
    """
    if not text.isascii():
        # Unicode's identifier caseless matching: each step can undo the one before, so they alternate.
        text = unicodedata.normalize("NFD", "".join(c for c in text if not _is_invisible(c)))
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text.casefold()).casefold())
    return " ".join(text.split()).casefold()


def look_alike_labels(examples: Sequence[Example]) -> tuple[LookAlikes, ...]:
    """Find labels that fold alike, or that write one number in several ways (`1` and `1.0`)."""
    labels = [example.label for example in examples if example.label is not None]
    counts = Counter(str(name) for label in labels for name in (label if isinstance(label, tuple) else [label]))
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for name, _ in counts.most_common():
        number = parse_number(name)
        groups[fold_text(name) if number is None or not math.isfinite(number) else number].append(name)
    return tuple(
        LookAlikes(tuple(names), tuple(counts[name] for name in names), _difference(key, names))
        for key, names in groups.items()
        if len(names) > 1
    )


def _repeats(
    groups: Sequence[Sequence[tuple[str, Example]]], parts: Mapping[str, Sequence[Example]]
) -> tuple[tuple[Repeats, ...], dict[str, int]]:
    """Count what repeats in groups of examples that fold alike, and the rows of each part that an earlier part has."""
    exact: Counter[tuple[str, str]] = Counter()
    folded: Counter[tuple[str, str]] = Counter()
    samples: dict[tuple[str, str], tuple[str, str]] = {}
    leaked: Counter[str] = Counter()
    for members in groups:
        first: dict[str, Example] = {}
        exactly: dict[Example, set[str]] = defaultdict(set)
        for part, example in members:
            same = exactly[replace(example, label=None)]
            for known, earlier in first.items():
                folded[part, known] += 1
                exact[part, known] += known in same
                samples.setdefault((part, known), (_place(example), _place(earlier)))
            leaked[part] += any(known != part for known in first)
            first.setdefault(part, example)
            same.add(part)
    found = [
        Repeats(part, known, len(parts[part]), exact[part, known], folded[part, known], samples[part, known])
        for part in parts
        for known in parts
        if folded[part, known]
    ]
    return tuple(found), dict(+leaked)


def _conflict(examples: Sequence[Example], numbers: bool) -> Conflict | None:
    """Give the conflict among examples that fold alike, if their labels differ."""
    by_label: dict[str | float, Example] = {}
    by_text: dict[Example, set[str | float]] = defaultdict(set)
    for example in examples:
        if example.label is not None:
            number = parse_number(example.label) if numbers else None
            label = shown_label(example.label) if number is None else number
            by_label.setdefault(label, example)
            by_text[replace(example, label=None)].add(label)
    if len(by_label) < 2:
        return None
    return Conflict(
        _shown(examples[0]),
        tuple(shown_label(example.label) for example in by_label.values()),
        tuple(_place(example) for example in by_label.values()),
        exact=any(len(labels) > 1 for labels in by_text.values()),
    )


def _folded_key(example: Example) -> tuple[tuple[str, ...], bool]:
    return tuple(map(fold_text, _texts(example))), example.text_b is None


def _texts(example: Example) -> tuple[str, ...]:
    second = () if example.text_b is None else (example.text_b,)
    return example.text, *second, *example.choices


def _is_invisible(character: str) -> bool:
    """Tell format characters (zero width, byte-order mark, soft hyphen) and variation selectors."""
    return unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f"


def _difference(key: Hashable, names: Sequence[str]) -> str:
    if not isinstance(key, str):
        return "how the number is written"
    ways: tuple[tuple[str, Callable[[str], str]], ...] = (
        ("Unicode form", lambda name: unicodedata.normalize("NFKC", name)),
        ("invisible characters", lambda name: "".join(c for c in name if not _is_invisible(c))),
        ("spacing", lambda name: " ".join(name.split())),
        ("case", str.casefold),
    )
    for what, plain in ways:
        if len({plain(name) for name in names}) == 1:
            return what
    return "case, spacing, Unicode form or invisible characters"


def _how(exact: int, folded: int) -> str:
    if exact == folded:
        return ""
    return f" ({exact} exactly, {folded - exact} but for case, spacing, Unicode form or invisible characters)"


def _title(part: str) -> str:
    return _PART_TITLES.get(part, part)


def _place(example: Example) -> str:
    return f"{example.source}:{example.line}" if example.line is not None else example.source or "a row"


def _shown(example: Example) -> str:
    text = " / ".join(_texts(example))
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
