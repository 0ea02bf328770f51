"""Progress for a person: a live bar in a terminal, a line now and then in a log. Always on standard error."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

T = TypeVar("T")
_muted: ContextVar[bool] = ContextVar("muted", default=False)
"""Whether this thread's caller wants to hear nothing."""
_listeners = 0
"""How many callers want to be told; of the whole process, for work goes on in many threads."""
_counting = threading.Lock()
_SECONDS_BETWEEN_LINES = 15.0
_A_PART = 256


@contextlib.contextmanager
def verbose(on: bool = True) -> Iterator[None]:
    """Let commands called from Python tell what they do and find, as they do on the command line.

    Without it they print nothing: neither progress nor results.

        with bort.verbose():
            bort.finetune(bort.FinetuneArguments(train="train.csv", out="runs/mine"))

    Args:
        on: False silences what a caller wanted to hear.

    Example:
        >>> import bort
        >>> with verbose(False):
        ...     described = bort.info(bort.InfoArguments("bort-nano"))
        >>> described.metrics["depth"]
        3
    """
    global _listeners
    before = _muted.get()
    _muted.set(not on)
    with _counting:
        _listeners += on
    try:
        yield
    finally:
        _muted.set(before)
        with _counting:
            _listeners -= on


def _is_mute() -> bool:
    return _muted.get() or not _listeners


def console() -> Console:
    """A console on standard error; standard output is for results. It is mute outside of `verbose`."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False, quiet=_is_mute())


def out() -> Console:
    """A console on standard output, for a command's result. It is mute outside of `verbose`."""
    from rich.console import Console

    class Output(Console):
        """Leaves it to `bort.__main__` what a reader that has gone means: no failure."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Output(highlight=False, markup=False, emoji=False, quiet=_is_mute())


class Bar:
    """One piece of long work; `update` may be called as often as one likes. One within another stands below it."""

    _display: Progress | None = None
    """What a terminal shows, of all bars that there are."""

    def __init__(self, what: str, total: float | None, *, silent: bool = False) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self.what, self.total, self.done = what, total, 0.0
        self._console = console()
        silent = silent or _is_mute()
        self._console.quiet = silent
        self._started = self._last = time.monotonic()
        self._live: Progress | None = None
        self._outermost = Bar._display is None
        if self._console.is_terminal and not silent:
            if Bar._display is None:
                Bar._display = Progress(
                    TextColumn("{task.description}", markup=False),
                    BarColumn(),
                    TaskProgressColumn(),
                    TimeRemainingColumn(),
                    TextColumn("{task.fields[note]}", markup=False),
                    console=self._console,
                    transient=True,
                    # What is printed meanwhile goes above the bar, but results that go elsewhere must still go there.
                    redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
                )
                Bar._display.start()
            self._live = Bar._display
            self._task = self._live.add_task(what, total=total, note="")

    def update(self, done: float, note: str = "") -> None:
        """Say how much of `total` is done, and a few words beside it."""
        self.done = done
        if self._live is not None:
            self._live.update(self._task, completed=done, note=note)
            return
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            share = f" {100 * done / self.total:.0f} %" if self.total else ""
            self._console.print(f"{self.what}:{share} after {now - self._started:.0f} s {note}".rstrip())

    def close(self) -> None:
        """End the live display, or its own part of it."""
        if self._live is None:
            return
        self._live.remove_task(self._task)
        if self._outermost:
            self._live.stop()
            Bar._display = None


@contextlib.contextmanager
def bar(what: str, total: float | None = None, *, silent: bool = False) -> Iterator[Bar]:
    """Show a `Bar` for the time of a block, or where `silent` is set only pretend to."""
    shown = Bar(what, total, silent=silent)
    try:
        yield shown
    finally:
        shown.close()


def in_parts(what: str, items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Show a `Bar` while some items after others are worked on.

    Args:
        what: What is done with them.
        items: They are given in parts of a few hundred.
    """
    with bar(what, len(items)) as shown:
        for start in range(0, len(items), _A_PART):
            yield items[start : start + _A_PART]
            shown.update(min(start + _A_PART, len(items)))
