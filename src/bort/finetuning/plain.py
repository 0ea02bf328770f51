"""Plain fine-tuning: one model for each point of a grid, the best on the development data is kept."""

from __future__ import annotations

import itertools
import shutil
from typing import Any

import numpy as np

from bort.bounds import validate
from bort.errors import BortError
from bort.finetuning.arguments import FinetuneArguments
from bort.finetuning.fitter import Fitter
from bort.finetuning.splits import Splits, read_splits, say_what_is_cut
from bort.finetuning.train_once import HyperParameters
from bort.model.checkpoints import locate
from bort.model.devices import describe
from bort.progress import Bar, bar
from bort.runs import Run
from bort.tasks.metrics import Score
from bort.tasks.suites.table import find


def finetune(arguments: FinetuneArguments) -> dict[str, Any]:
    """Fine-tune a classifier or regressor, write it to `arguments.out`, and return its figures.

    Killed at any time, a run of the same settings with `resume` goes on: finished points of the grid are read from the
    journal, an unfinished one from its last checkpoint.

    Raises:
        BortError: Bad settings, data or model.
    """
    validate(arguments)
    check_one_task(arguments)
    data = read_splits(arguments)
    locate(arguments.model)
    run = Run(arguments.out, "finetune", arguments, resume=arguments.resume, may_change=("checkpoint_minutes",))
    return fit_grid(arguments, run, data)


def fit_grid(arguments: FinetuneArguments, run: Run, data: Splits) -> dict[str, Any]:
    """Fine-tune on data that are read already, in a run that is begun or resumed."""
    if (metrics := run.finished()) is not None:
        return metrics
    return _Finetuning(arguments, run, data).run_grid()


def grid(arguments: FinetuneArguments) -> list[HyperParameters]:
    """All combinations of the settings that are lists."""
    return [
        HyperParameters(rate, seed, decay, warmup, batch)
        for rate, decay, warmup, batch, seed in itertools.product(
            arguments.learning_rates,
            arguments.weight_decays,
            arguments.warmups,
            arguments.batch_sizes,
            arguments.seeds,
        )
    ]


def check_one_task(arguments: FinetuneArguments) -> None:
    """Refuse several tasks at once.

    Raises:
        BortError: There are several.
    """
    if len(arguments.task) > 1 or (arguments.task and len(find(arguments.task)) > 1):
        raise BortError("this function fits one task; bort.finetune fits several", setting="task", value=arguments.task)


class _Finetuning:
    """One run: the trials of the grid, the best of them."""

    def __init__(self, arguments: FinetuneArguments, run: Run, data: Splits) -> None:
        self.arguments, self.run, self.data, self.task = arguments, run, data, data.task
        self.fitter = data.fitter(arguments)
        self.train, self.dev = self.fitter.labelled(data.train), self.fitter.labelled(data.dev)
        self.trials_folder = run.path / "trials"
        self.best_file = self.trials_folder / "best.safetensors"

    def run_grid(self) -> dict[str, Any]:
        """Try each point of the grid, keep the best, score it, describe it."""
        thetas = grid(self.arguments)
        self.data.announce(f"{len(thetas)} combination{'s' if len(thetas) > 1 else ''} to try")
        say_what_is_cut(self.train, self.fitter.max_length)
        self.trials_folder.mkdir(exist_ok=True)
        trials = {int(event["trial"]): event for event in self.run.events("trial")}
        with bar("fine-tuning", len(thetas)) as shown:
            for number, theta in enumerate(thetas):
                if number not in trials:
                    best = max((event["score"] for event in trials.values()), default=-np.inf)
                    trials[number] = self._trial(number, theta, shown, best)
                shown.update(number + 1, f"best {self.task.metric} {max(e['score'] for e in trials.values()):.3f}")
        return self._finish(thetas, [trials[number] for number in range(len(thetas))])

    def _trial(self, number: int, theta: HyperParameters, shown: Bar, best: float) -> dict[str, Any]:
        folder = self.trials_folder / f"{number:03d}"
        model, result = self.fitter.fit(
            theta,
            self.train,
            self.dev,
            folder=folder,
            on_progress=lambda share, note: shown.update(number + share, f"{theta}: {note}"),
        )
        if result.score > best:
            self.fitter.keep(model, self.best_file)
        event = {"trial": number, "theta": str(theta), "score": result.score, "best_step": result.step}
        event |= {"steps": result.steps, "evaluations": result.evaluations}
        self.run.log("trial", **event)
        shutil.rmtree(folder, ignore_errors=True)
        return event

    def _finish(self, thetas: list[HyperParameters], trials: list[dict[str, Any]]) -> dict[str, Any]:
        from bort.finetuning.report import finetune_report

        winner = max(trials, key=lambda event: event["score"])
        model = self.fitter.open(self.best_file)
        parts = {"dev": self.dev} | ({"test": self.fitter.labelled(self.data.test)} if self.data.test else {})
        outputs = {part: self.fitter.logits(model, data) for part, data in parts.items()}
        scores = {part: self.task.score(outputs[part], data.targets) for part, data in parts.items()}
        judged = "test" if "test" in parts else "dev"
        matrix = self.fitter.confusion(outputs[judged], parts[judged])
        self.fitter.save(model, self.run.path)
        metrics = describe_run(self.fitter, self.data) | {"best_theta": str(thetas[winner["trial"]])}
        for part, values in scores.items():
            metrics |= scored(part, values)
        if self.data.suite:
            metrics |= self.data.suite.judge(self.fitter, model, outputs)
        finetune_report(self.run, metrics, trials, matrix)
        self.run.write_json("metrics.json", metrics)
        self.run.log("finished", **{part: metrics[part] for part in scores})
        shutil.rmtree(self.trials_folder, ignore_errors=True)
        return metrics


def describe_run(fitter: Fitter, data: Splits) -> dict[str, Any]:
    """What was learned, from how much, on what."""
    return {
        "task": data.task.kind,
        "metric": data.task.metric,
        "labels": list(data.task.names),
        "rows": {"train": len(data.train), "dev": len(data.dev), "test": len(data.test or [])},
        "device": describe(),
        "precision": "bf16" if fitter.bf16 else "fp32",
    }


def scored(part: str, scores: dict[str, Score]) -> dict[str, Any]:
    """Scores and their confidence intervals as they stand in `metrics.json`."""
    return {
        part: {name: score.value for name, score in scores.items()},
        f"{part}_confidence": {name: [score.low, score.high] for name, score in scores.items()},
    }
