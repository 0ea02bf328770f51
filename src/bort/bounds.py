"""Types of settings: bounds are part of a field's type, are checked in one place, and appear in `--help`.

steps: Annotated[int, AtLeast(1)] = 200
learning_rates: Annotated[list[Annotated[float, Above(0)]], NotEmpty()] = …
"""

from __future__ import annotations

import dataclasses
import math
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from bort.errors import BortError
from bort.files import with_home


@dataclass(frozen=True)
class Limit:
    """A bound that a value is compared with; its text completes the sentence "must be …"."""

    limit: float
    words: ClassVar[str]
    compare: ClassVar[Callable[[Any, Any], bool]]

    def holds(self, value: Any) -> bool:
        """Whether a value is within the bound."""
        return type(self).compare(value, self.limit)

    def __str__(self) -> str:
        return f"{self.words} {self.limit:,}"


class AtLeast(Limit):
    """An inclusive lower bound."""

    words, compare = "at least", operator.ge


class Above(Limit):
    """An exclusive lower bound."""

    words, compare = "above", operator.gt


class AtMost(Limit):
    """An inclusive upper bound."""

    words, compare = "at most", operator.le


class Below(Limit):
    """An exclusive upper bound."""

    words, compare = "below", operator.lt


@dataclass(frozen=True)
class NotEmpty:
    """Requires a list to have at least one item."""

    def holds(self, value: Any) -> bool:
        """Whether a list has an item."""
        return bool(value)

    def __str__(self) -> str:
        return "at least one"


PositiveInt = Annotated[int, AtLeast(1)]
NonNegativeInt = Annotated[int, AtLeast(0)]
Seed = Annotated[int, AtLeast(0), AtMost(2**31 - 1)]
"""Random seed. NumPy takes up to 2**32 - 1, and trainings that repeat another add to its seed."""
PositiveFloat = Annotated[float, Above(0)]
NonNegativeFloat = Annotated[float, AtLeast(0)]
Share = Annotated[float, AtLeast(0), Below(1)]
Precision = Literal["auto", "fp32", "bf16"]
"""Number format of computations; auto is bf16 where the processor or GPU has instructions for it."""


_PLACES = ("corpus", "host", "input", "out", "output", "source", "texts")
"""Settings that must not be empty: a path would stand for the working folder, a host for all interfaces."""


def validate(arguments: Any, *, prefix: str = "") -> None:
    """Check each field of a dataclass against its type and bounds, then the rules between fields (`arguments.check`).

    A path that stands for text becomes text, so that a run can compare it with names and write it as JSON, and a
    leading `~/` becomes the home folder.

    Args:
        arguments: The dataclass.
        prefix: Put before field names in messages, for settings that a command names with a prefix.

    Raises:
        BortError: A rule is broken; names the first one.
    """
    hints = get_type_hints(type(arguments), include_extras=True)
    for field in dataclasses.fields(arguments):
        value = getattr(arguments, field.name)
        for broken in _broken(hints[field.name], value):
            raise BortError(f"must be {broken}", setting=prefix + field.name, value=value)
        several = value if isinstance(value, list | tuple) else [value]
        if field.name in _PLACES and field.default != "" and "" in several:
            raise BortError("must not be empty", setting=prefix + field.name, value=value)
        if (plain := _plain(value)) != value:
            setattr(arguments, field.name, plain)
    if check := getattr(arguments, "check", None):
        check()


WithoutEffect = Sequence[tuple[Callable[[Any], bool], str, Sequence[str]]]
"""Where settings of a dataclass have no effect: a condition, the rule to tell, and the names of the settings."""


def refuse_given(arguments: Any, table: WithoutEffect) -> None:
    """Refuse settings that have no effect; one that has its default value counts as not given.

    A run to resume is not judged: an earlier version may have started it with such settings.

    Args:
        arguments: The dataclass.
        table: Where which of its settings have no effect.

    Raises:
        BortError: One is given; names the first.

    Example:
        >>> from bort.pretraining.arguments import PretrainArguments
        >>> table = [(lambda a: a.teacher is None, "needs a --teacher", ["temperature"])]
        >>> refuse_given(PretrainArguments(temperature=1.0), table)
        Traceback (most recent call last):
        bort.errors.BortError: --temperature: value 1.0: needs a --teacher
    """
    if getattr(arguments, "resume", False):
        return
    fields = {field.name: field for field in dataclasses.fields(arguments)}
    for holds, rule, names in table:
        for name in names if holds(arguments) else ():
            field, value = fields[name], getattr(arguments, name)
            default = field.default_factory() if callable(field.default_factory) else field.default
            if value != default:
                raise BortError(rule, setting=name, value=value)


def listed(names: str) -> tuple[str, ...]:
    """Names of settings, given in one text with blanks between them.

    Example:
        >>> listed("train dev test")
        ('train', 'dev', 'test')
    """
    return tuple(names.split())


def _plain(value: Any) -> Any:
    """A value with paths as text, and the home folder in place of a leading `~/`; also in a list."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return with_home(os.fspath(value)) if isinstance(value, str | os.PathLike) else value


def bounds(hint: Any) -> str:
    """The bounds in a field's type, in words for `--help`; empty if there are none."""
    if get_origin(hint) is Annotated:
        inner, *limits = get_args(hint)
        return _joined([limit for limit in limits if isinstance(limit, Limit)]) or bounds(inner)
    return " ".join(filter(None, map(bounds, get_args(hint)))) if get_origin(hint) is not Literal else ""


def _joined(limits: Sequence[Any]) -> str:
    """Limits in words."""
    match limits:
        case AtLeast(least), AtMost(most):
            return f"from {least:,} to {most:,}"
        case Above(least), Below(most):
            return f"between {least:,} and {most:,}"
    return " and ".join(map(str, limits))


def _broken(hint: Any, value: Any) -> Iterator[str]:
    """Yield what the value would have to be, for each broken rule."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        yield from _broken(inner[0], value)
        limits = inner[1:]
        if not all(limit.holds(value) for limit in limits):
            yield _joined(limits)
    elif origin is Literal:
        if value not in inner:
            yield f"one of {', '.join(map(str, inner))}"
    elif origin is list:
        if isinstance(value, str) or not isinstance(value, Sequence):
            yield "a list"
        else:
            for item in value:
                yield from _broken(inner[0], item)
    elif inner:  # a union
        kinds = [kind for kind in inner if kind is not type(None)]
        if value is None and len(kinds) < len(inner):
            return
        wrong = [next(_broken(kind, value), None) for kind in kinds]
        if None not in wrong:
            yield " or ".join(map(str, wrong))
    elif hint in _KINDS and not _is(hint, value):
        yield _KINDS[hint]


def _is(kind: type, value: Any) -> bool:
    """Whether a value has a type; NumPy numbers and paths are accepted, and booleans do not count as numbers."""
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind is float:
        return isinstance(value, Real) and math.isfinite(value)
    return isinstance(value, Integral if kind is int else str | os.PathLike)


_KINDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "text"}
