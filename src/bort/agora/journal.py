"""The journal in a run's folder, from which an interrupted run is resumed."""

from __future__ import annotations

import json
import shutil
import time
import traceback
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from bort.agora.loop import AgoraJournal
from bort.agora.pruning import Theta
from bort.agora.rounds import DivergedError, Growth, Point, Slot, Trial, error_text
from bort.agora.trial import TrainedWeights, slot_name
from bort.data.tables.examples import Example
from bort.files import write_aside
from bort.runs import Run, readable_events
from bort.workers import TrialError

_ABOUT = ("evaluations", "best_step", "steps", "seconds")
FOLDER = "rounds"
"""Working folder of an unfinished run, within its folder."""


class RunClock:
    """The wall time of a run: of this process, and of earlier ones that were interrupted.

    Args:
        run: The run; events in its journal and its teacher's have the `elapsed` seconds so far.
        minutes: The budget, or None.
    """

    def __init__(self, run: Run, minutes: float | None) -> None:
        self._minutes = minutes
        spent = max(map(_spent, (run.journal_path, run.path / "teacher" / run.journal_path.name)))
        self._began = time.monotonic() - spent

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken, without interruptions."""
        return round(time.monotonic() - self._began, 2)

    def is_up(self) -> bool:
        """Whether the budget is spent."""
        return self._minutes is not None and self.elapsed > 60 * self._minutes


class RunJournal(AgoraJournal[TrainedWeights]):
    """The loop's journal in a run's folder. It keeps only the weights that are still needed.

    These are the weights of all trials of the current round, and of the best trials of the first round and of the later
    ones: either may be the result, see `preferring_grown`.

    Args:
        run: The run.
        clock: Measures its time.
    """

    def __init__(self, run: Run, clock: RunClock) -> None:
        self._run, self._clock = run, clock
        self.folder = run.path / FOLDER
        self.folder.mkdir(exist_ok=True)
        self._trials: dict[Slot, Trial[TrainedWeights]] = {}
        for event in run.events("trial"):
            about = {name: event[name] for name in _ABOUT}
            slot = Slot(event["round"], event["place"])
            model = TrainedWeights(file=self._weights(slot), about=about)
            self._trials[slot] = Trial(event["theta"], event["score"], event["answers"], model, event["loss"])
        self.ranked = any(run.events("ranked")) or any(run.events("refit"))  # version 0.1.0 logged the latter alone
        """Whether the last trainings have begun, which depend on the best trial: no other may join the ranking."""
        self._begun = {event["number"] for event in run.events("begun")}
        self._failed: dict[Slot, Exception] = {}
        for event in run.events("failed"):
            slot = Slot(event["round"], event["place"])
            if event["error"] == DivergedError.__name__:
                self._failed[slot] = DivergedError(event["message"])
            elif self.ranked:
                self._failed[slot] = TrialError(event["told"])

    def trial(self, slot: Slot) -> Trial[TrainedWeights] | None:
        """Return the trial of a slot, if it is finished."""
        return self._trials.get(slot)

    def keep_trial(self, slot: Slot, trial: Trial[TrainedWeights]) -> Trial[TrainedWeights]:
        """Write the weights, then the event, and delete weights that are no longer needed."""
        model = TrainedWeights(file=self._weights(slot), about=trial.model.about)
        with write_aside(model.file, "wb") as out:
            out.write(trial.model.weights)
        event = {"round": slot.round, "place": slot.place, "theta": dict(trial.theta), "score": trial.score}
        event |= {"loss": trial.loss, "answers": list(trial.answers), **model.about, "elapsed": self._clock.elapsed}
        self._run.log("trial", **event)
        self._trials[slot] = kept = replace(trial, model=model)
        needed = {self._weights(its) for its in self._trials if its.round == slot.round}
        first, later = ([its for its in self._trials if (its.round > 1) == grown] for grown in (False, True))
        needed |= {self._weights(self._best(slots)) for slots in (first, later) if slots}
        for file in self.folder.glob("[0-9]*.safetensors"):  # not those of the last trainings
            if file not in needed:
                file.unlink()
        return kept

    def latest(self) -> Trial[TrainedWeights] | None:
        """Return the best trial of the last round that has any."""
        last = max((slot.round for slot in self._trials), default=0)
        return self._trials[self._best([slot for slot in self._trials if slot.round == last])] if last else None

    def failure(self, slot: Slot) -> Exception | None:
        """Return the error of a diverged trial, which would diverge again; once the ranking has ended, of any trial."""
        return self._failed.get(slot)

    def keep_failure(self, slot: Slot, theta: Theta, error: Exception) -> None:
        """Log the error of a trial, with the traceback."""
        self._run.log(
            "failed",
            round=slot.round,
            place=slot.place,
            theta=dict(theta),
            error=type(error).__name__,
            message=str(error) or type(error).__name__,
            told=error_text(error),
            traceback="".join(traceback.format_exception(error)),
            elapsed=self._clock.elapsed,
        )

    def growth(self, number: int) -> Growth | None:
        """Return what a round added, if it is known."""
        file = self.folder / f"grown-{number:02d}.json"
        if not file.is_file():
            return None
        known = json.loads(file.read_text("utf-8"))
        points = [
            Point(Example(p["text"], p["text_b"]), tuple(p["label"]) if isinstance(p["label"], list) else p["label"])
            for p in known["points"]
        ]
        return Growth(points, known["parents"], known["made"], known["dropped"])

    def keep_growth(self, number: int, growth: Growth) -> None:
        """Write what a round added."""
        points = [{"text": p.x.text, "text_b": p.x.text_b, "label": p.y} for p in growth.points]
        known = {"points": points, "parents": growth.parents, "made": growth.made, "dropped": growth.dropped}
        with write_aside(self.folder / f"grown-{number:02d}.json") as file:
            json.dump(known, file, ensure_ascii=False, default=float)

    def end_ranking(self) -> None:
        """Log that the last trainings begin."""
        if not self.ranked:
            self._run.log("ranked", elapsed=self._clock.elapsed)
            self.ranked = True

    def begin(self, number: int) -> None:
        """Log that one of the last trainings begins, so that it is finished after an interruption, even out of time."""
        if not self.has_begun(number):
            self._run.log("begun", number=number, elapsed=self._clock.elapsed)
            self._begun.add(number)

    def has_begun(self, number: int) -> bool:
        """Return whether one of the last trainings has begun, now or before an interruption."""
        return number in self._begun

    def final(self, number: int, data: str) -> TrainedWeights | None:
        """Return the model of one of the last trainings, if it is finished.

        Args:
            number: Its number, from 0.
            data: Digest of its data. A training on other data does not count: those of an LLM grow with its budget.
        """
        events = [event for event in self._run.events("refit") if event["number"] == number]
        # Version 0.1.0 did not record the data. The file has the weights of the last event.
        if not events or events[-1].get("data", data) != data:
            return None
        return TrainedWeights(file=self._final(number), about={name: events[-1][name] for name in _ABOUT})

    def keep_final(self, number: int, model: TrainedWeights, data: str) -> TrainedWeights:
        """Write the weights of one of the last trainings, then the event with the digest of its data."""
        with write_aside(self._final(number), "wb") as out:
            out.write(model.weights)
        self._run.log("refit", number=number, data=data, **model.about, elapsed=self._clock.elapsed)
        return TrainedWeights(file=self._final(number), about=model.about)

    def _final(self, number: int) -> Path:
        return self.folder / f"final-{number}.safetensors"

    def close(self) -> None:
        """Remove what only an unfinished run needs."""
        remove_leftovers(self._run)

    def _weights(self, slot: Slot) -> Path:
        return self.folder / f"{slot_name(slot)}.safetensors"

    def _best(self, slots: Iterable[Slot]) -> Slot:
        """Return the slot of the best trial; on ties the latest."""
        return max(slots, key=lambda slot: (self._trials[slot].rank, slot))


def remove_leftovers(run: Run) -> None:
    """Remove what only an unfinished run needs, which a process killed at the end of its run may have left."""
    shutil.rmtree(run.path / FOLDER, ignore_errors=True)


def _spent(journal: Path) -> float:
    """Return the largest `elapsed` of a journal, whose last line may be incomplete; 0 if there is none."""
    if not journal.is_file():
        return 0.0
    spent = [event.get("elapsed") for event in readable_events(journal)]
    return max((float(seconds) for seconds in spent if isinstance(seconds, int | float)), default=0.0)
