"""What several tests of Agora share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bort.agora.trial import TextLearner


@pytest.fixture
def fail_last_trainings(monkeypatch) -> Callable[[Callable[[int], bool]], None]:
    """Return a function that makes last trainings fail, given whether one of a certain number does."""
    refit = TextLearner.refit

    def make(fails: Callable[[int], bool]) -> None:
        def refitting(self, theta, train, slot, **named):
            if fails(slot.place):
                raise MemoryError("too small")
            return refit(self, theta, train, slot, **named)

        monkeypatch.setattr(TextLearner, "refit", refitting)

    return make
