"""What several tests of Agora share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from bort.agora.trial import TextLearner
from fake_llm import FakeLLM


@pytest.fixture
def server() -> Iterator[FakeLLM]:
    """An LLM's server that answers as it is told."""
    server = FakeLLM()
    yield server
    server.close()


@pytest.fixture
def interrupted_in_round(monkeypatch) -> Callable[[int], AbstractContextManager[None]]:
    """Return a context in which a run is interrupted when it trains in a round, as it must be."""
    fit = TextLearner.fit

    @contextmanager
    def interrupted(number: int) -> Iterator[None]:
        def fitting(self, theta, train, slot):
            if slot.round == number:
                raise KeyboardInterrupt
            return fit(self, theta, train, slot)

        with monkeypatch.context() as patch:
            patch.setattr(TextLearner, "fit", fitting)
            with pytest.raises(KeyboardInterrupt):
                yield

    return interrupted


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
