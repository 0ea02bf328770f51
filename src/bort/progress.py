"""Progress for a person: a live bar in a terminal, a line now and then in a log. Always on standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_SECONDS_BETWEEN_LINES = 15.0


def console() -> Console:
    """A console on standard error; standard output is for results."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def out() -> Console:
    """A console on standard output, for a command's result."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


class Bar:
    """One piece of long work; `update` may be called as often as one likes."""

    def __init__(self, what: str, total: float | None, *, silent: bool = False) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self.what, self.total, self.done = what, total, 0.0
        self._console = console()
        self._console.quiet = silent
        self._started = self._last = time.monotonic()
        self._live: Progress | None = None
        if self._console.is_terminal and not silent:
            self._live = Progress(
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
            self._live.start()
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
        """End the live display."""
        if self._live is not None:
            self._live.stop()


@contextlib.contextmanager
def bar(what: str, total: float | None = None, *, silent: bool = False) -> Iterator[Bar]:
    """Show a `Bar` for the time of a block, or where `silent` is set only pretend to."""
    shown = Bar(what, total, silent=silent)
    try:
        yield shown
    finally:
        shown.close()
