"""Progress display: a live bar in a terminal, or a line every 15 seconds in a log. Always on standard error."""

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
"""Whether the caller in this context turned output off."""
_listeners = 0
"""Number of open `verbose` blocks in the whole process, because work runs in many threads."""
_counting = threading.Lock()
_SECONDS_BETWEEN_LINES = 15.0
_A_PART = 256
AFTER = 1.0
"""Seconds after which a bar is shown for a task that is often short."""


@contextlib.contextmanager
def verbose(on: bool = True) -> Iterator[None]:
    """Make commands called from Python print progress and results, as they do on the command line.

    By default they print nothing.

        with bort.verbose():
            bort.finetune(bort.FinetuneArguments(train="train.csv", out="runs/mine"))

    Args:
        on: False turns output off, also inside an outer `verbose()`.

    Example:
        >>> import bort
        >>> with verbose(False):
        ...     described = bort.info(bort.InfoArguments("bort-nano"))
        >>> described.metrics["depth"]
        3
    """
    global _listeners
    on, before = bool(on), _muted.get()
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
    """A console on standard error; standard output is for results. It is silent outside `verbose`."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False, quiet=_is_mute())


def say(text: str) -> None:
    """Print a sentence on standard error, unbroken however narrow the terminal is. It is silent outside `verbose`."""
    console().print(text, soft_wrap=True)


def out() -> Console:
    """A console on standard output, for a command's result. It is silent outside `verbose`."""
    from rich.console import Console

    class Output(Console):
        """Lets `bort.__main__` handle a closed pipe, which is no failure."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Output(highlight=False, markup=False, emoji=False, quiet=_is_mute())


def is_live(console: Console) -> bool:
    """Whether a console can show a display that changes: FORCE_COLOR makes no terminal of a log."""
    return console.is_terminal and console.file.isatty()


class Bar:
    """Progress of one long task; `update` may be called at any rate. A nested bar is shown below the outer one.

    Args:
        what: Description of the task.
        total: Amount of work.
        silent: Whether to print nothing.
        after: Seconds after which the first `update` shows the bar, for a task that is often short.
    """

    _display: Progress | None = None
    """The terminal display that all open bars share."""

    def __init__(self, what: str, total: float | None, *, silent: bool = False, after: float = 0.0) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self.what, self.total, self.done, self._after = what, total, 0.0, after
        self._console = console()
        silent = silent or _is_mute()
        self._console.quiet = silent
        self._started = self._last = time.monotonic()
        self._live: Progress | None = None
        self._outermost = Bar._display is None
        if is_live(self._console) and not silent:
            if Bar._display is None:
                Bar._display = Progress(
                    TextColumn("{task.description}", markup=False),
                    BarColumn(),
                    TaskProgressColumn(),
                    TimeRemainingColumn(),
                    TextColumn("{task.fields[note]}", markup=False),
                    console=self._console,
                    transient=True,
                    # Output on the terminal goes above the bar; redirected results must still reach their target.
                    redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
                )
                Bar._display.start()
            self._live = Bar._display
            self._task = self._live.add_task(what, total=total, note="", visible=not after)

    def update(self, done: float, note: str = "") -> None:
        """Report how much of `total` is done, with a short note."""
        self.done = done
        now = time.monotonic()
        if self._live is not None:
            self._live.update(self._task, completed=done, note=note, visible=now - self._started >= self._after)
            return
        if now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            share = f" {100 * done / self.total:.0f} %" if self.total else ""
            self._console.print(f"{self.what}:{share} after {now - self._started:.0f} s {note}".rstrip())

    def close(self) -> None:
        """Remove the bar; the outermost one also ends the live display."""
        if self._live is None:
            return
        self._live.remove_task(self._task)
        if self._outermost:
            self._live.stop()
            Bar._display = None


@contextlib.contextmanager
def bar(what: str, total: float | None = None, *, silent: bool = False, after: float = 0.0) -> Iterator[Bar]:
    """Show a `Bar` during a block."""
    shown = Bar(what, total, silent=silent, after=after)
    try:
        yield shown
    finally:
        shown.close()


def in_batches(what: str, batches: Sequence[Sequence[T]]) -> Iterator[Sequence[T]]:
    """Yield batches, and show a `Bar` of how many of their items are done, if that takes long.

    Args:
        what: Description of the work.
        batches: The batches.
    """
    with bar(what, sum(map(len, batches)), after=AFTER) as shown:
        for batch in batches:
            yield batch
            shown.update(shown.done + len(batch))


def in_parts(what: str, items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield items in parts, and show a `Bar` of how many are done.

    Args:
        what: Description of the work.
        items: The items, which are yielded in parts of a few hundred.
    """
    with bar(what, len(items)) as shown:
        for start in range(0, len(items), _A_PART):
            yield items[start : start + _A_PART]
            shown.update(min(start + _A_PART, len(items)))
