"""Which class of the task each class of a teacher stands for: an NLI model's `entailment` is a paraphrase's `1`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from bort.errors import BortError

_SETTING = "teacher_labels"
_MOST_NAMES = 12


@dataclass(frozen=True)
class LabelMap:
    """Classes of the task by the teacher's; several of these may stand for one.

    Example:
        >>> LabelMap.of(["entailment=1", "neutral=0", "contradiction=0"]).ours["neutral"]
        '0'
    """

    ours: dict[str, str]

    @classmethod
    def of(cls, given: Sequence[str]) -> LabelMap | None:
        """Read `THEIRS=OURS` of each; None where nothing is given. A name of theirs ends at the first =.

        Raises:
            BortError: One without =, or one of theirs twice.
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
        """Places of the teacher's classes for each class of the task. Those that stand for none are not heard.

        Args:
            theirs: All classes of the teacher.
            ours: All classes of the task.
            model: The teacher, for messages.

        Raises:
            BortError: A name that there is not, or a class of the task without any of the teacher's.
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
