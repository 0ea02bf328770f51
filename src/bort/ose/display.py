"""The display of a running search: a live table of the best candidates in a terminal, one line each in a log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from bort.ose.algorithm import Candidate
from bort.ose.space import Shape
from bort.progress import console, is_live
from bort.workers import raised

_SHOWN = 10
_SECONDS_BETWEEN_LINES = 15.0


class SearchDisplay:
    """Displays the candidates so far.

    Args:
        total: Total number of candidates.
        unit: Unit of the inference time.
    """

    def __init__(self, total: int, unit: str) -> None:
        from rich.live import Live

        self.total, self.unit = total, unit
        self.candidates: list[Candidate[Shape]] = []
        self._console = console()
        self._now = ""
        self._last = time.monotonic()
        self._live: Live | None = None
        if is_live(self._console):
            self._live = Live(self._table(), console=self._console, transient=True, refresh_per_second=4)
            self._live.start()

    def training(self, shape: Shape, note: str) -> None:
        """Show what is being trained; output is throttled, so this may be called at every step."""
        self._now = f"{shape} {note}"
        now = time.monotonic()
        if self._live is not None:
            if now - self._last >= 0.25:
                self._last = now
                self._live.update(self._table())
        elif now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            self._console.print(f"{len(self.candidates)} of {self.total} done, training {self._now}", soft_wrap=True)

    def done(self, candidate: Candidate[Shape]) -> None:
        """Show an evaluated candidate."""
        self.candidates.append(candidate)
        self._now = ""
        self._last = time.monotonic()
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
        else:
            seconds = candidate.evaluation.about.get("seconds", 0.0)
            self._console.print(
                f"{len(self.candidates)} of {self.total}: {candidate.member} {self._words(candidate)}, {seconds:.1f} s",
                soft_wrap=True,
            )

    def close(self) -> None:
        """End the live display."""
        if self._live is not None:
            self._live.stop()

    def _words(self, candidate: Candidate[Shape]) -> str:
        if candidate.sound:
            return f"error {candidate.error:.3f}, W {candidate.coefficient:.4f}"
        failure = candidate.evaluation.failure
        return "diverged" if failure is None else f"failed: {str(failure) or raised(failure)}"

    def _table(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        found = sorted(self.candidates, key=lambda candidate: -candidate.coefficient)
        title = f"{len(found)} of {self.total} candidates" + (f", training {self._now}" if self._now else "")
        if seconds := [c.evaluation.about.get("seconds", 0.0) for c in found]:
            left = (self.total - len(found)) * sum(seconds) / len(seconds)
            title += f", about {left / 60:.0f} min left" if left > 90 else f", about {left:.0f} s left"
        table = Table()
        for name in ("shape", "parameters", self.unit, "error", "W"):
            table.add_column(name, justify="left" if name == "shape" else "right")
        for candidate in found[:_SHOWN]:
            cost = candidate.ranked.cost
            failure = candidate.evaluation.failure
            error = f"{candidate.error:.3f}" if candidate.sound else "diverged" if failure is None else raised(failure)
            numbers = (f"{cost.parameters / 1e6:.2f} M", f"{cost.time:.4g}", error, f"{candidate.coefficient:.4f}")
            table.add_row(str(candidate.member), *numbers)
        return Group(Text(title), table)


@contextlib.contextmanager
def display(total: int, unit: str) -> Iterator[SearchDisplay]:
    """Show a `SearchDisplay` for the duration of a `with` block."""
    shown = SearchDisplay(total, unit)
    try:
        yield shown
    finally:
        shown.close()
