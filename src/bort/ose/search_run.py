"""The trainings of a search, and the checkpoints that they leave in the folder of a run."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bort.ose.algorithm import Candidate, Evaluation, SearchResult, judge
from bort.ose.candidate import CandidateTrial, TrainedCandidate
from bort.ose.criteria import rank_agreement
from bort.ose.display import SearchDisplay, display
from bort.ose.journal import REPEAT, StepsJournal
from bort.ose.metrics import Found
from bort.ose.plan import SearchPlan
from bort.ose.space import Shape
from bort.progress import bar, say
from bort.runs import Run
from bort.workers import Received, Workers

CANDIDATES, TOP = "candidates", "top"
_AGREEMENT = "agreement"


@dataclass
class SearchRun:
    """Trains the candidates of a plan.

    Args:
        run: The run.
        plan: The plan of the search.
        trial: The trial of a candidate.
        workers: Where trials run.
        max_error: The bound on errors.
        top_k: Number of checkpoints to keep.
    """

    run: Run
    plan: SearchPlan
    trial: CandidateTrial
    workers: Workers
    max_error: float
    top_k: int
    done: list[Candidate[Shape]] = field(default_factory=list)

    def until_ranks_agree(self, steps: Sequence[int], enough: float) -> Found:
        """Search with each number of steps in turn, until the errors rank as they did with half as many."""
        known: dict[int, float | None] = {event["steps"]: event["rank"] for event in self.run.events(_AGREEMENT)}
        result, agreements = self._after(steps[0]), dict[int, float | None]()
        last = steps[0]
        for last in steps[1:]:
            shorter, result = result, self._after(last)
            errors = [[candidate.error for candidate in one.candidates] for one in (shorter, result)]
            if last not in known:  # a resumed run trains failed candidates again, and must not stop elsewhere for it
                known[last] = rank_agreement(*errors)
                self.run.log(_AGREEMENT, steps=last, rank=known[last])
            agreements[last] = rank = known[last]
            told = "cannot be told" if rank is None else f"is {rank:.3f}"
            say(f"rank correlation of the errors after {last // 2} and {last} steps {told}")
            if rank is not None and rank >= enough:
                break
        return Found(result, last, agreements, {}, 0)

    def _after(self, steps: int) -> SearchResult[Shape]:
        self.done = []
        folder = self._folder(steps)
        if steps > self.trial.training.steps:
            shutil.rmtree(self._folder(steps // 2), ignore_errors=True)
        with display(len(self.plan.ordering.taken), self.plan.costs.unit) as shown:
            trial = replace(
                self.trial,
                training=replace(self.trial.training, steps=steps),
                folder=folder,
                on_step=lambda shape, step, loss: shown.training(shape, f"step {step} of {steps}, distance {loss:.3f}"),
            )
            return judge(
                self.plan.ordering,
                trial,
                max_error=self.max_error,
                workers=Received(self.workers, trial.receive),
                journal=StepsJournal(self.run, steps),
                on_candidate=lambda candidate: self._is_done(candidate, shown, folder),
            )

    def _is_done(self, candidate: Candidate[Shape], shown: SearchDisplay, folder: Path) -> None:
        """Show a candidate, and delete the checkpoints of all but the best."""
        self.done.append(candidate)
        shown.done(candidate)
        for other in sorted(self.done, key=lambda candidate: candidate.standing)[self.top_k :]:
            shutil.rmtree(folder / other.member.name, ignore_errors=True)

    def repeat(self, found: Found, count: int) -> dict[Shape, tuple[float, float]]:
        """Train the best candidates again with another seed, and return both errors of each."""
        best = [candidate for candidate in found.result.ranking if candidate.sound][:count]
        if not best:
            return {}
        say(f"training the best {len(best)} again from another seed")
        journal = StepsJournal(self.run, found.steps, REPEAT)
        with bar("training again", len(best)) as shown:
            trial = replace(
                self.trial,
                training=replace(self.trial.training, steps=found.steps),
                on_step=lambda shape, step, loss: shown.update(shown.done, f"{shape} step {step} of {found.steps}"),
            ).again()

            def receive(trained: TrainedCandidate) -> Evaluation:
                shown.update(shown.done + 1)
                return trial.receive(trained)

            again = journal.errors([c.member for c in best], trial, Received(self.workers, receive))
        return {c.member: (c.error, other) for c, other in zip(best, again, strict=True)}

    def keep_top(self, found: Found) -> list[str]:
        """Move the best checkpoints to folders named by rank; a resumed run first moves earlier ones back.

        With another bound on errors, others are the best. Those whose checkpoints are gone are trained again.
        """
        ranking = [candidate.member for candidate in found.result.ranking if candidate.sound]
        top, left = self.run.path / TOP, self._folder(found.steps)
        left.mkdir(exist_ok=True)
        for folder in top.glob("*"):
            folder.rename(left / folder.name.partition("-")[2])
        top.mkdir(exist_ok=True)
        best, folders = ranking[: self.top_k], []
        trial = replace(self.trial, training=replace(self.trial.training, steps=found.steps), folder=left)
        gone = [shape for shape in best if not (left / shape.name / "config.json").is_file()]  # which is written last
        for result in Received(self.workers, trial.receive).map(trial, gone):
            if result.error:
                raise result.error
        for rank, shape in enumerate(best, start=1):
            folders.append(f"{TOP}/{rank}-{shape.name}")
            (left / shape.name).rename(self.run.path / folders[-1])
        shutil.rmtree(left)
        return folders

    def _folder(self, steps: int) -> Path:
        """The folder of the candidates' checkpoints after a number of steps."""
        first = self.trial.training.steps
        return self.run.path / (CANDIDATES if steps == first else f"{CANDIDATES}-{steps}")
