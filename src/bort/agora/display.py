"""What a person sees of a run while it goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from bort.agora.loop import LoopDisplay
from bort.agora.pruning import Theta
from bort.agora.rounds import Round, Slot, Trial, error_text
from bort.agora.trial import TrainedWeights
from bort.finetuning.hyper_parameters import HyperParameters
from bort.progress import Bar, bar, console


class RunDisplay(LoopDisplay[TrainedWeights]):
    """A bar for the trials of a round, and a line for each round that is over.

    Args:
        thetas: The grid.
        metric: Name of the score.
        rounds: Whether there is more than one round.
    """

    def __init__(self, thetas: Sequence[HyperParameters], metric: str, *, rounds: bool) -> None:
        self._metric, self._rounds, self._total = metric, rounds, len(thetas)
        values = {name: {asdict(theta)[name] for theta in thetas} for name in asdict(thetas[0])}
        self._varied = [name for name, found in values.items() if len(found) > 1] or ["learning_rate"]
        self._bar: Bar | None = None
        self._round, self._ended = 1, 0

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show the bar for the time of a block."""
        with bar("fine-tuning", self._total) as self._bar:
            yield
        self._bar = None

    def short(self, theta: Theta) -> str:
        """A combination by what tells it from the others."""
        return " ".join(f"{name}={theta[name]:g}" for name in self._varied)

    def progress(self, slot: Slot, theta: Theta, share: float, note: str) -> None:
        """A trial in this process is as far as that."""
        self._update(slot, share, f"{self.short(theta)}: {note}")

    def trial(self, slot: Slot, trial: Trial[TrainedWeights]) -> None:
        """A trial has ended, here or elsewhere."""
        self._update(slot, 1.0, f"{self.short(trial.theta)}: {trial.score:.3f}")
        self._ended += 1

    def failure(self, slot: Slot, theta: Theta, error: Exception) -> None:
        """A trial has raised something."""
        console().print(f"{self.short(theta)} failed: {error_text(error)}", soft_wrap=True)
        self._ended += 1

    def round(self, done: Round[TrainedWeights], best: Trial[TrainedWeights]) -> None:
        """A round is over."""
        if not self._rounds:
            return
        growth, winner = done.growth, done.winner
        grown = ""
        if growth.made:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(growth.dropped.items()))
            grown = f"; {len(growth.points)} of {growth.made} new texts kept" + (f" ({reasons})" if reasons else "")
        console().print(
            f"round {done.number}{' (replayed)' if done.replayed else ''}: {len(done.trials)} fitted to "
            f"{done.train_size} texts, best development {self._metric} {winner.score:.3f} "
            f"({self.short(winner.theta)}), {len(done.mistakes)} mistakes{grown}; {len(done.pruned)} of the "
            "combinations go",
            soft_wrap=True,
        )

    def _update(self, slot: Slot, share: float, note: str) -> None:
        if slot.round != self._round:
            self._round, self._ended = slot.round, 0
        if self._bar is not None:
            where = f"round {slot.round}" if slot.round else "last training"
            self._bar.update(self._ended + share, f"{where}, {note}" if self._rounds else note)
