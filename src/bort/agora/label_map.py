"""A mapping from a teacher's classes to the task's, such as an NLI model's `entailment` to `1` for paraphrases."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from bort.errors import BortError

_SETTING = "teacher_labels"
_MOST_NAMES = 12


@dataclass(frozen=True)
class LabelMap:
    """The task's class for each class of the teacher; several of these may map to the same one.

    Example:
        >>> LabelMap.of(["entailment=1", "neutral=0", "contradiction=0"]).ours["neutral"]
        '0'
    """

    ours: dict[str, str]

    @classmethod
    def of(cls, given: Sequence[str]) -> LabelMap | None:
        """Parse items `THEIRS=OURS`, each split at the first =; None if there are none.

        Raises:
            BortError: An item is not of this form, or a label of the teacher occurs twice.
        """
        ours: dict[str, str] = {}
        for item in given:
            theirs, equals, name = (part.strip() for part in item.partition("="))
            if not (theirs and equals and name):
                raise BortError("must be THEIRS=OURS, such as entailment=1", setting=_SETTING, value=item)
            if theirs in ours:
                raise BortError("names a label of the teacher twice", setting=_SETTING, value=theirs)
            ours[theirs] = name
        return cls(ours) if ours else None

    def columns(self, theirs: Sequence[str], ours: Sequence[str], model: str) -> list[list[int]]:
        """Return the places of the teacher's classes for each class of the task; unmapped classes are ignored.

        Args:
            theirs: All classes of the teacher.
            ours: All classes of the task.
            model: Name of the teacher, for messages.

        Raises:
            BortError: An unknown class, or a class of the task without any of the teacher's.
        """
        for whose, names, all_names in (("teacher", self.ours, theirs), ("data", self.ours.values(), ours)):
            for name in names:
                if name not in all_names:
                    rule = f"is no label of the {whose}; {_there_are(name, all_names)}"
                    raise BortError(rule, setting=_SETTING, value=name)
        columns = [[place for place, name in enumerate(theirs) if self.ours.get(name) == wanted] for wanted in ours]
        for name, places in zip(ours, columns, strict=True):
            if not places:
                rule = f"the teacher must know each label of the data; it knows {', '.join(theirs[:_MOST_NAMES])}"
                raise BortError(f"{rule}: --teacher-labels THEIRS=OURS says which is which", file=model, value=name)
        return columns


def _there_are(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names[:_MOST_NAMES])}"
