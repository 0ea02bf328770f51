"""What a run by Agora has done, in its folder, so that a killed one goes on."""

from __future__ import annotations

import json
from pathlib import Path

from bort.agora.loop import Growth, Point, Trial
from bort.data.tables.examples import Example
from bort.files import write_aside
from bort.runs import Run


class RunJournal:
    """The loop's journal in a run's folder."""

    def __init__(self, run: Run, folder: Path) -> None:
        self._run, self._folder = run, folder
        self._trials = {(event["round"], event["place"]): event for event in run.events("trial")}

    @property
    def seconds(self) -> float:
        """Time spent on trials that are done."""
        return float(sum(event["seconds"] for event in self._trials.values()))

    def best(self, number: int) -> Path:
        """Weights of the best model of a round, of equals the last; those of the first round stay to the end."""
        of_round = [event for (round_, _), event in sorted(self._trials.items()) if round_ == number]
        best = max(of_round, key=lambda event: (event["score"], event["place"]))
        return self._run.path / str(best["weights"])

    def evaluations(self, number: int, place: int) -> list[dict[str, float]]:
        """The development scores on the way of a trial."""
        found: list[dict[str, float]] = self._trials[number, place]["evaluations"]
        return found

    def trial(self, number: int, place: int) -> Trial[Path] | None:
        """As of the loop's."""
        event = self._trials.get((number, place))
        if event is None:
            return None
        return Trial(event["theta"], event["score"], event["answers"], self._run.path / event["weights"])

    def keep_trial(self, number: int, place: int, trial: Trial[Path]) -> None:
        """As of the loop's."""
        event = {"round": number, "place": place, "theta": dict(trial.theta), "score": trial.score}
        event |= {"answers": list(trial.answers), "weights": str(trial.model.relative_to(self._run.path))}
        event |= trial.about
        self._run.log("trial", **event)
        self._trials[number, place] = event

    def keep_failure(self, number: int, place: int, error: Exception) -> None:
        """As of the loop's."""
        self._run.log("failed", round=number, place=place, error=str(error) or type(error).__name__)

    def growth(self, number: int) -> Growth | None:
        """As of the loop's."""
        file = self._folder / f"grown-{number:02d}.json"
        if not file.is_file():
            return None
        known = json.loads(file.read_text("utf-8"))
        points = [
            Point(Example(p["text"], p["text_b"]), tuple(p["label"]) if isinstance(p["label"], list) else p["label"])
            for p in known["points"]
        ]
        return Growth(points, known["parents"], known["made"], known["dropped"])

    def keep_growth(self, number: int, growth: Growth) -> None:
        """As of the loop's."""
        points = [{"text": p.x.text, "text_b": p.x.text_b, "label": p.y} for p in growth.points]
        known = {"points": points, "parents": growth.parents, "made": growth.made, "dropped": growth.dropped}
        with write_aside(self._folder / f"grown-{number:02d}.json") as file:
            json.dump(known, file, ensure_ascii=False, default=float)
