"""Labels of examples: reads them from rows, infers the kind of task, and encodes them as targets.

A label is a class name, a number, or a possibly empty set of class names (multi-label).
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from bort.errors import BortError

if TYPE_CHECKING:
    from bort.data.tables.examples import Columns, Example

Kind = Literal["classification", "regression", "multilabel"]
Label = str | float | tuple[str, ...]
"""A class name, a number, or the sorted names of all labels of a text."""
_FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
_MOST_NAMED = 8
_SEPARATORS = (";", "|", ",")
_DECIMAL_COMMA = re.compile(r"[-+]?[0-9]*,[0-9]+")


def read_label(row: Mapping[str, Any], columns: Columns, file: str, line: int) -> Label:
    """Read the label of a row, or all its labels.

    Args:
        row: Cells by column.
        columns: The label columns, and the separator of several labels in one cell.
        file: Name of the source.
        line: Line or row number there.

    Raises:
        BortError: The label is missing or invalid.
    """

    def refuse(rule: str, column: str) -> BortError:
        return BortError(rule, file=file, line=line, column=column, value=row[column])

    if len(columns.labels) > 1:
        flags = {name: _FLAGS.get(str(row[name]).strip().lower()) for name in columns.labels}
        for name, flag in flags.items():
            if flag is None:
                raise refuse("a column of one label must hold 0 or 1", name)
        return tuple(sorted(name for name, flag in flags.items() if flag))
    [column], separator = columns.labels, columns.label_separator
    value = row[column]
    if isinstance(value, str) and separator is not None:
        value = [part for part in value.split(separator) if part.strip()]
    if isinstance(value, list | tuple):
        names = [_one_label(each, lambda rule: refuse(rule, column)) for each in value]
        return tuple(sorted({name if isinstance(name, str) else plain_number(str(name)) for name in names}))
    return _one_label(value, lambda rule: refuse(rule, column))


def _one_label(value: Any, refuse: Any) -> str | float:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise refuse("a label must not be missing")
    if not isinstance(value, str | int | float):
        raise refuse("a label must be a string, a number or a truth value, or a list of these")
    if isinstance(value, str):
        if "\0" in value:
            raise refuse("must not hold NUL characters")
        return value.strip()
    if isinstance(value, float):
        if not math.isfinite(value):
            raise refuse("a label must be a finite number")
        return value
    return str(value).lower()


def misfits(examples: Sequence[Example], column: str) -> Iterator[tuple[int, BortError]]:
    """Find labels that do not go with those of the other rows.

    A mix of label lists and single labels is ambiguous: the rarer of the two are misfits. So are "nan" and the like
    among numbers; among words it is a class (the language code of Min Nan Chinese).

    Returns:
        The index of each such example, and what is wrong with it.
    """
    lists = [isinstance(example.label, tuple) for example in examples]
    usual = 2 * sum(lists) > len(lists) or (2 * sum(lists) == len(lists) and lists[0])
    first = examples[lists.index(usual)].line
    for place, example in enumerate(examples):
        if lists[place] != usual:
            rule = f"must be a list of labels in every row or in none; line {first} has {'one' if usual else 'none'}"
            yield place, _refuse_label(rule, example, column=column)
    numbers = [parse_number(example.label) for example in examples]
    single = [number for place, number in enumerate(numbers) if not lists[place]]
    if not usual and None not in single and any(math.isfinite(number) for number in single if number is not None):
        for place, number in enumerate(numbers):
            if number is not None and not math.isfinite(number):
                yield place, _refuse_label("a label must be a finite number", examples[place], column=column)


def check_decimals(examples: Sequence[Example], column: str) -> None:
    """Refuse decimal commas if all labels are numbers but for these; as class names they would train a classifier.

    Raises:
        BortError: A label has one.
    """
    found: Example | None = None
    for example in examples:
        if _has_decimal_comma(example.label):
            found = found or example
        elif (number := parse_number(example.label)) is None or not math.isfinite(number):
            return
    if found is not None:
        ways = "--kind classification takes labels for names, and --label-separator ',' for several labels each"
        raise _refuse_label(f"a number must be written with a decimal point, as 3.5; {ways}", found, column=column)


def _has_decimal_comma(label: Label | None) -> bool:
    return isinstance(label, str) and _DECIMAL_COMMA.fullmatch(label) is not None


def whole_numbers(examples: Sequence[Example]) -> list[Example]:
    """Rename the label 1.0 to "1" if other rows have "1", as JSON does not distinguish the two."""
    names = {example.label for example in examples if isinstance(example.label, str)}
    return [
        replace(example, label=name)
        if isinstance(example.label, float) and (name := plain_number(str(example.label))) in names
        else example
        for example in examples
    ]


def class_labels(examples: Sequence[Example]) -> list[Example]:
    """Rename each number to the name of its class: 1.0 to "1", unless other rows have the name "1.0"."""
    names = {example.label for example in examples if isinstance(example.label, str)}

    def named(number: float) -> str:
        return str(number) if str(number) in names else plain_number(str(number))

    return [replace(each, label=named(each.label)) if isinstance(each.label, float) else each for each in examples]


def shown_label(label: Label | Sequence[str] | None) -> str:
    """Format a label for display; several are joined by semicolons."""
    return "; ".join(label) or "(none)" if isinstance(label, tuple | list) else str(label)


def named_labels(examples: Sequence[Example], names: Sequence[str]) -> list[Example]:
    """Rename each label that is not in `names` but is the same number as exactly one of them, such as 1.0 and "1"."""
    plain: dict[str, list[str]] = {}
    for name in names:
        plain.setdefault(plain_number(name), []).append(name)
    known = {*names}

    def named(label: str | float) -> str | float:
        alike = plain.get(plain_number(str(label)), [])
        return label if str(label) in known or len(alike) != 1 else alike[0]

    def renamed(label: Label) -> Label:
        return tuple(sorted({str(named(each)) for each in label})) if isinstance(label, tuple) else named(label)

    return [each if each.label is None else replace(each, label=renamed(each.label)) for each in examples]


def unify_labels(parts: Sequence[Sequence[Example]]) -> list[list[Example]]:
    """Rename labels of later tables that are the same number as one of an earlier table, as `named_labels` does.

    Args:
        parts: Examples of each table, with or without labels.
    """
    names: dict[str, None] = {}
    unified = []
    for part in parts:
        unified.append(named_labels(part, [*names]) if names else [*part])
        for each in unified[-1]:
            if each.label is not None:
                names.update(dict.fromkeys(each.label if isinstance(each.label, tuple) else [str(each.label)]))
    return unified


def plain_number(name: str) -> str:
    """Strip the `.0` that some programs append to a whole number; anything else stays unchanged."""
    return re.sub(r"^(-?[0-9]+)\.0+$", r"\1", name)


def class_name(label: Any) -> str:
    """The name of a class in Python: `true` of True, and `1` of 1.0."""
    return str(label).lower() if isinstance(label, bool) else plain_number(str(label))


def parse_number(label: Label | None) -> float | None:
    """Parse a number, also a non-finite one; None if the label is not a number."""
    # Python parses "1_000" as a number, but in a table it is a name.
    if label is None or isinstance(label, tuple) or (isinstance(label, str) and "_" in label):
        return None
    try:
        return float(label)
    except ValueError:
        return None


def infer_kind(examples: Sequence[Example]) -> Kind:
    """Infer the kind of task from the labels.

    Lists of labels mean multi-label. If every label parses as a finite number and at least one is not an integer, it is
    regression. Anything else is classification.

    Raises:
        BortError: There are no examples, or one has no label.
    """
    if not examples:
        raise BortError("there must be at least one labelled example")
    labels = [_known(example) for example in examples]
    if isinstance(labels[0], tuple):
        return "multilabel"
    numbers = [parse_number(label) for label in labels]
    finite = [number for number in numbers if number is not None and math.isfinite(number)]
    whole = all(number.is_integer() for number in finite)
    return "regression" if len(finite) == len(examples) and not whole else "classification"


def label_names(examples: Sequence[Example]) -> list[str]:
    """List the distinct labels, by value if all are numbers, else in natural order ("class 2" before "class 10").

    Numbers are named as `class_labels` names them.

    Raises:
        BortError: There are fewer than two, or an example has no label.
    """
    names: set[str] = set()
    for example in class_labels(examples):
        label = _known(example)
        names |= {*label} if isinstance(label, tuple) else {str(label)}
    if len(names) < 2:
        file = examples[0].source or None if examples else None
        found = f"there is only {names.pop()!r}" if names else "there is none"
        raise BortError(f"a classifier needs at least two distinct labels; {found}", file=file)
    numbers = {name: parse_number(name) for name in names}
    if all(number is not None and math.isfinite(number) for number in numbers.values()):
        return sorted(names, key=lambda name: (numbers[name], _natural(name)))
    return sorted(names, key=_natural)


def joined_by(names: Sequence[str]) -> str | None:
    """Guess the separator of several labels in one name; None if names look like single labels.

        >>> joined_by(["damage", "damage;delivery", "delivery"]), joined_by(["yes", "no; or maybe"])
        (';', None)

    Args:
        names: Distinct labels.
    """
    for separator in _SEPARATORS:
        parts = [{part.strip() for part in name.split(separator)} for name in names]
        several = [place for place, those in enumerate(parts) if len(those) > 1]
        others = [set().union(*parts[:place], *parts[place + 1 :]) for place in several]
        if several and all(parts[place] <= other for place, other in zip(several, others, strict=True)):
            return separator
    return None


def _natural(name: str) -> tuple[list[tuple[str, int, str]], str]:
    # Digits compare by their count, then one by one: this orders numbers of any length without parsing them.
    pieces = re.findall(r"([^0-9]*)([0-9]*)", name)
    return [(word, len(digits.lstrip("0")), digits.lstrip("0")) for word, digits in pieces], name


def encode_labels(examples: Sequence[Example], names: Sequence[str]) -> list[int]:
    """Turn each label into its index in `names`; 1.0 counts as the class "1" and vice versa.

    Raises:
        BortError: A label is missing, a list, or not among `names`.
    """
    index = {name: position for position, name in enumerate(names)}
    codes = []
    for example in named_labels(examples, names):
        label = _known(example)
        if isinstance(label, tuple):
            raise _refuse_label("must be one label, and no list", example)
        codes.append(_code(str(label), index, example))
    return codes


def encode_label_lists(examples: Sequence[Example], names: Sequence[str]) -> list[list[int]]:
    """Turn the labels of each example into their indices in `names`.

    Raises:
        BortError: Labels are missing, not a list, or not among `names`.
    """
    index = {name: position for position, name in enumerate(names)}
    codes = []
    for example in named_labels(examples, names):
        label = _known(example)
        if not isinstance(label, tuple):
            rule = "must be a list of labels, several with --label-separator between them, or columns of 0 and 1"
            raise _refuse_label(rule, example)
        codes.append([_code(name, index, example) for name in label])
    return codes


def _code(name: str, index: Mapping[str, int], example: Example) -> int:
    if name not in index:
        names = [*index]
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        shown = ", ".join(map(repr, names[:_MOST_NAMED])) + (", …" if len(names) > _MOST_NAMED else "")
        raise _refuse_label(f"the label must be one of {shown}{hint}", example, value=name)
    return index[name]


def encode_values(examples: Sequence[Example]) -> list[float]:
    """Parse each label as a number.

    Raises:
        BortError: A label is missing, or not a finite number.
    """
    values = []
    for example in examples:
        value = parse_number(_known(example))
        if value is None or not math.isfinite(value):
            hint = ", written with a decimal point, as 3.5" if _has_decimal_comma(example.label) else ""
            raise _refuse_label(f"a label must be a finite number{hint}", example)
        values.append(value)
    return values


def _known(example: Example) -> Label:
    if example.label is None:
        raise _refuse_label("a label must not be missing", example)
    return example.label


def _refuse_label(rule: str, example: Example, *, column: str = "label", value: Any = None) -> BortError:
    shown = (list(example.label) if isinstance(example.label, tuple) else example.label) if value is None else value
    return BortError(rule, file=example.source or None, line=example.line, column=column, value=shown)
