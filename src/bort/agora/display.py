"""Progress of a run in the terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from bort.agora.loop import LoopDisplay
from bort.agora.pruning import Theta
from bort.agora.rounds import Round, Slot, Trial, error_text
from bort.agora.trial import TrainedWeights
from bort.finetuning.hyper_parameters import HyperParameters, shown_theta
from bort.progress import Bar, bar, say


class RunDisplay(LoopDisplay[TrainedWeights]):
    """A progress bar for the trainings of a round, and a line for each finished round.

    Args:
        thetas: The grid.
        metric: Name of the score.
        rounds: Whether the run can have more than one round.
    """

    def __init__(self, thetas: Sequence[HyperParameters], metric: str, *, rounds: bool) -> None:
        self._metric, self._rounds = metric, rounds
        values = {name: {asdict(theta)[name] for theta in thetas} for name in asdict(thetas[0])}
        self._varied = [name for name, found in values.items() if len(found) > 1] or ["learning_rate"]
        self._bar: Bar | None = None
        self._ended = 0

    @contextlib.contextmanager
    def trainings(self, number: int, count: int) -> Iterator[None]:
        """Show the progress bar of a round; number 0 stands for the last trainings."""
        what = "last training" if not number else f"round {number}" if self._rounds else "fine-tuning"
        self._ended = 0
        with bar(what, count) as self._bar:
            yield
        self._bar = None

    def short(self, theta: Theta) -> str:
        """Format a combination, only with the settings that vary."""
        return shown_theta({name: theta[name] for name in self._varied})

    def progress(self, slot: Slot, theta: Theta, share: float, note: str) -> None:
        """Show the progress of a training in this process."""
        self._update(share, f"{self.short(theta)}: {note}" if note else self.short(theta))

    def ended(self, note: str = "") -> None:
        """Count a finished training, run in this process or elsewhere."""
        self._update(1.0, note)
        self._ended += 1

    def trial(self, slot: Slot, trial: Trial[TrainedWeights]) -> None:
        """Show a finished trial, run in this process or elsewhere."""
        self.ended(f"{self.short(trial.theta)}: {trial.score:.3f}")

    def failure(self, slot: Slot, theta: Theta, error: Exception) -> None:
        """Print the error of a trial."""
        say(f"{self.short(theta)} failed: {error_text(error)}")
        self.ended()

    def round(self, done: Round[TrainedWeights], best: Trial[TrainedWeights]) -> None:
        """Print the result of a round."""
        if not self._rounds:
            return
        growth, winner = done.growth, done.winner
        grown = ""
        if growth.made:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(growth.dropped.items()))
            grown = f"; {len(growth.points)} of {growth.made} new texts kept" + (f" ({reasons})" if reasons else "")
        say(
            f"round {done.number}{' (replayed)' if done.replayed else ''}: {len(done.trials)} fitted to "
            f"{done.train_size} texts, best development {self._metric} {winner.score:.3f} "
            f"({self.short(winner.theta)}), {len(done.mistakes)} mistakes{grown}; {len(done.pruned)} of the "
            "combinations go"
        )

    def _update(self, share: float, note: str) -> None:
        if self._bar is not None:
            self._bar.update(self._ended + share, note)
