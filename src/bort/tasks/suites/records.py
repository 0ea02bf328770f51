"""Access to the fields of one official row; errors name the file and line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.tasks.suites.task_entry import SuiteTask


@dataclass(frozen=True, slots=True)
class Record:
    """An official row and its location."""

    row: Mapping[str, Any]
    file: str
    line: int | None
    number: int
    """Position in its part, from 0."""

    def refuse(self, rule: str, column: str, value: object) -> BortError:
        """Make the error for an invalid field."""
        return BortError(rule, file=self.file, line=self.line, column=column, value=value)

    def get(self, *names: str) -> Any:
        """The first of several fields that is present.

        Raises:
            BortError: None of them is present.
        """
        for name in names:
            if name in self.row:
                return self.row[name]
        shown = ", ".join(map(repr, list(self.row)[:12]))
        raise BortError(f"must be there; the fields are {shown}", file=self.file, line=self.line, column=names[0])

    def text(self, *names: str, blank: bool = False) -> str:
        """A text, without surrounding whitespace.

        Args:
            names: Names that the field may have.
            blank: Whether it may be blank.

        Raises:
            BortError: It is absent, blank or not a string.
        """
        value = self.get(*names)
        if not isinstance(value, str) or "\0" in value:
            raise self.refuse("must be a text", names[0], value)
        if not blank and not value.strip():
            raise self.refuse("must not be blank", names[0], value)
        return value.strip()

    def whole(self, *names: str) -> int:
        """A non-negative integer."""
        value = self.get(*names)
        number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise self.refuse("must be a whole number from 0", names[0], value)
        return number

    def label(self, task: SuiteTask, value: Any, column: str) -> str | float:
        """A label in our spelling, or a similarity score of STS-B."""
        if not task.spellings:
            try:
                number = float(value)
            except (TypeError, ValueError):
                number = -1.0
            if not 0 <= number <= 5:
                raise self.refuse("must be a number from 0 to 5", column, value)
            return number
        spelt = str(value).strip() if isinstance(value, str) else str(value).lower()
        for spellings in task.spellings:
            if spelt in spellings:
                return spellings[0]
        raise self.refuse(f"must be one of {', '.join(task.labels)}", column, value)

    def maybe_label(self, task: SuiteTask, names: Sequence[str]) -> str | float | None:
        """The label, or None if it is absent, null or -1, as in test data."""
        for name in names:
            if name in self.row and self.row[name] is not None and self.row[name] != -1:
                return self.label(task, self.row[name], name)
        return None

    def example(
        self, text: str, text_b: str | None = None, label: Any = None, choices: tuple[str, ...] = ()
    ) -> Example:
        """An example with this row's location."""
        return Example(text, text_b, label, self.file, self.line, choices)

    def within(self, name: str) -> Record:
        """An object within the row.

        Raises:
            BortError: It is absent or not an object.
        """
        return self._part(self.get(name), name)

    def each(self, name: str) -> Iterator[Record]:
        """The objects of a list within the row.

        Raises:
            BortError: It is absent or not a list of objects.
        """
        items = self.get(name)
        if not isinstance(items, list | tuple):
            raise self.refuse("must be a list", name, items)
        for item in items:
            yield self._part(item, name)

    def _part(self, value: Any, name: str) -> Record:
        if not isinstance(value, Mapping):
            raise self.refuse("must be an object", name, value)
        return Record(value, self.file, self.line, self.number)
