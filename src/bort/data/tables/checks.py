"""Checks of labelled texts: duplicates, leaks, conflicting labels, look-alike labels, empty and long texts."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from bort.data.tables.examples import Example
from bort.data.tables.labels import parse_number, shown_label

LONG_CHARACTERS = 10_000
"""A text with more characters than this counts as long."""
SHOWN = 5
"""Number of conflicts kept as samples."""
_SHOWN_CHARACTERS = 80
_PART_TITLES = {"train": "training", "dev": "development"}


@dataclass(frozen=True)
class Repeats:
    """The rows of one part whose text also occurs in an earlier part, or in an earlier row of the same part.

    Attributes:
        part: The part with the repeats.
        known: The part that already has the texts; `part` itself for repeats within it.
        rows: Number of rows in `part`.
        exact: How many of them match character for character.
        folded: How many match after folding (see `fold_text`); at least `exact`.
        sample: Places of the first such row and of the row it repeats.
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
    """A text with different labels.

    Attributes:
        text: The text as it first occurs, or both texts of a pair; shortened.
        labels: The labels, in order of occurrence.
        places: Where each label first occurs.
        exact: Whether texts match character for character, rather than only after folding.
    """

    text: str
    labels: tuple[str, ...]
    places: tuple[str, ...]
    exact: bool


@dataclass(frozen=True)
class LookAlikes:
    """Labels that count as different classes but look almost the same.

    Attributes:
        labels: The labels, most frequent first.
        counts: Number of rows of each, over all parts.
        differ_in: How they differ, in words.
    """

    labels: tuple[str, ...]
    counts: tuple[int, ...]
    differ_in: str

    def __str__(self) -> str:
        listed = ", ".join(f"{name!a} ({count})" for name, count in zip(self.labels, self.counts, strict=True))
        return f"the labels {listed} are different classes, though they differ in {self.differ_in} only"


@dataclass(frozen=True)
class DataCheck:
    """Findings in labelled data; `dataclasses.asdict` makes them JSON-serialisable.

    Attributes:
        rows: Number of rows per part.
        repeats: One entry for each pair of parts that share texts, and for each part with repeats within it.
        leaked: Rows per part whose folded text occurs in an earlier part.
        conflicting_texts: Number of folded texts with more than one label, over all parts.
        conflicting_exactly: How many of them conflict character for character.
        conflicts: The first `SHOWN` of them.
        look_alikes: Look-alike labels; none if labels are numbers.
        empty: Rows per part with a text that has no visible characters.
        long: Rows per part with a text longer than `LONG_CHARACTERS`.
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
        """Describe each finding in one line for the user, most serious first; empty if there are none."""
        across = [str(each) for each in self.repeats if each.part != each.known]
        within = [str(each) for each in self.repeats if each.part == each.known]
        conflicting = []
        if self.conflicting_texts:
            first = self.conflicts[0]
            shown = " and ".join(
                f"{place} {label!r}" for place, label in list(zip(first.places, first.labels, strict=True))[:2]
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
    """Find problems that make scores or labels unreliable, in one pass over the texts.

    Args:
        parts: The examples of each part, in order of use: `train`, `dev`, `test`.
        numbers: Whether labels are numeric targets; these are not checked for look-alikes.

    Returns:
        All findings. Texts are compared twice: exactly, and folded (see `fold_text`).
    """
    groups: dict[Hashable, list[tuple[str, Example]]] = defaultdict(list)
    empty: Counter[str] = Counter()
    long: Counter[str] = Counter()
    for part, examples in parts.items():
        for example in examples:
            key = folded_key(example)
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
    """Remove differences that a reader does not notice: case, spacing, invisible characters, Unicode forms.

    Full-width letters and ligatures become plain ones (NFKC). Two texts that fold to the same string are duplicates to
    a person, though not to a model.
    """
    if not text.isascii():
        # Unicode's identifier caseless matching: each step can undo the one before, so they alternate.
        text = unicodedata.normalize("NFD", "".join(c for c in text if not _is_invisible(c)))
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text.casefold()).casefold())
    return " ".join(text.split()).casefold()


def look_alike_labels(examples: Sequence[Example]) -> tuple[LookAlikes, ...]:
    """Find labels that fold to the same string or write the same number in different ways (`1` and `1.0`)."""
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
    """Count repeats in groups of examples with equal folded texts, and the rows per part that an earlier part has."""
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
                samples.setdefault((part, known), (place_of(example), place_of(earlier)))
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
    """Return the conflict among examples with equal folded texts, or None if their labels agree."""
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
        tuple(place_of(example) for example in by_label.values()),
        exact=any(len(labels) > 1 for labels in by_text.values()),
    )


def folded_key(example: Example) -> tuple[tuple[str, ...], bool]:
    """What is equal in examples that look the same: all their texts as `fold_text` gives them."""
    return tuple(map(fold_text, _texts(example))), example.text_b is None


def identity(example: Example) -> tuple[str, str]:
    """What is equal in examples whose one or two texts look the same, whatever their choices."""
    return fold_text(example.text), fold_text(example.text_b or "")


def place_of(example: Example) -> str:
    """File and line, for messages."""
    return f"{example.source}:{example.line}" if example.line is not None else example.source or "a row"


def _texts(example: Example) -> tuple[str, ...]:
    second = () if example.text_b is None else (example.text_b,)
    return example.text, *second, *example.choices


def _is_invisible(character: str) -> bool:
    """Whether it is a format character (zero width, byte-order mark, soft hyphen) or a variation selector."""
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


def _shown(example: Example) -> str:
    text = " / ".join(_texts(example))
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
