"""A fine-tuning run in its folder: what plain fine-tuning and Agora share, which is all but the source of new texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from bort.agora.display import RunDisplay
from bort.agora.journal import RunClock, RunJournal
from bort.agora.loop import Source, fit
from bort.agora.rounds import AgoraResult, Point, Trial
from bort.agora.trial import TextLearner, TrainedWeights
from bort.data.tables.examples import Example
from bort.data.tables.labels import shown_label
from bort.finetuning.arguments import FinetuneArguments
from bort.finetuning.fingerprint import KEY, fingerprint
from bort.finetuning.hyper_parameters import HyperParameters, grid
from bort.finetuning.splits import Splits
from bort.finetuning.student_head import StudentHead, fit_better_reading
from bort.inspection.brief import figures, inspect_briefly
from bort.inspection.inspect import Inspection
from bort.model.devices import describe
from bort.progress import say
from bort.report import Report
from bort.runs import Run
from bort.tasks.metrics import Score
from bort.tasks.task import Says, Task
from bort.workers import Workers

_SHOWN_ERRORS = 20
_LONGEST_SHOWN = 1000


class Session:
    """A new or resumed run, with its data, its fitter and its journal.

    Args:
        arguments: Settings of the run.
        run: Its folder.
        data: The data to fit and score.
        workers: Where trials run.
        clock: Measures its time.

    Raises:
        BortError: The model or its tokenizer cannot be loaded.
    """

    def __init__(self, arguments: FinetuneArguments, run: Run, data: Splits, workers: Workers, clock: RunClock) -> None:
        self.arguments, self.run, self.data, self.task = arguments, run, data, data.task
        self.workers, self.clock = workers, clock
        combinations = len(grid(arguments))
        count = f"{combinations} combination{'s' if combinations > 1 else ''}"
        agora = arguments.method == "agora"
        most = f"{arguments.rounds} rounds" if arguments.rounds else "as many rounds"
        plan = f"{count}, {most} at most" if agora else f"{count} to try"
        data.announce("a linear head alone" if arguments.method == "head" else plan)
        self.head: StudentHead | None = None
        """Linear heads on the frozen student; None if examples have choices."""
        if not self.task.choices:
            self.head = fit_better_reading(
                lambda apart: data.fitter(arguments, bi_encoder=apart), arguments.pairs, data.train, data.dev
            )
            self.head.announce()
        self.fitter = data.fitter(arguments) if self.head is None else self.head.fitter
        self.thetas = grid(arguments, bi_encoder=self.fitter.bi_encoder)
        if cut := self.fitter.tokens(data.train).cut:
            limit = self.fitter.tokens.max_length
            say(f"{cut} of the training texts are longer than {limit} tokens and are cut")
        self.display = RunDisplay(self.thetas, self.task.metric, rounds=agora)
        self.journal = RunJournal(run, clock)
        self.learner = TextLearner(
            self.fitter,
            self.fitter.labelled(data.dev),
            self.task.targets(data.train),
            arguments.grown_epochs,
            self.journal.folder,
            workers.sees_files,
            self.display.progress,
        )

    @cached_property
    def inspection(self) -> Inspection:
        """Findings about the data, printed on first access; the plain checks are printed before."""
        found = inspect_briefly(self.data, self.head, self.arguments.model)
        for sentence in found.model_sentences():
            say(sentence)
        return found

    def fit(self, source: Source[TrainedWeights] | None = None) -> AgoraResult[TrainedWeights]:
        """Run the loop; without a source it is plain fine-tuning.

        If time is up before the last trainings, which would follow, the result is stopped too.

        Raises:
            BortError: All trials of the first round diverged.
            Exception: What the first trial of a round raised, if all failed.
        """
        _ = self.inspection  # printed first, as it takes only seconds
        result = fit(
            [asdict(theta) for theta in self.thetas],
            self.points(self.data.train),
            self.points(self.data.dev),
            self.learner.learner,
            source,
            prune=self.arguments.prune,
            rounds=self.arguments.rounds or None,
            replay=self.arguments.replay,
            # Such a round would repeat the last one, and count as one with new texts.
            ends_without_points=not self.arguments.as_published,
            seed=self.arguments.seed,
            workers=self.workers,
            journal=self.journal,
            display=self.display,
            out_of_time=self.clock.is_up,
        )
        if self.arguments.refit and not self.journal.ranked and self.clock.is_up():
            return replace(result, stopped=True)
        return result

    @property
    def out_of_fold(self) -> Says | None:
        """Out-of-fold predictions of linear heads for training and development data.

        None without a head, or if there are very many training data. *Shape:* (examples, outputs).
        """
        if self.head is None or len(self.head.targets) < len(self.data.train) + len(self.data.dev):
            return None
        return self.head.whole.out_of_fold

    def open(self, trial: Trial[TrainedWeights]) -> PreTrainedModel:
        """Load the model of a trial."""
        return self.fitter.open(trial.model.read())

    def scores(self, model: PreTrainedModel) -> dict[str, Any]:
        """Return the scores of a model on each part of the data, for `metrics.json`."""
        found: dict[str, Any] = {}
        outputs = self.outputs(model)
        task = self.task.fitted(outputs["dev"], self.task.targets(self.data.dev))
        for part, logits in outputs.items():
            found |= scored(part, task.score(logits, task.targets(self.data.parts[part])))
        return found

    def metrics(
        self, result: AgoraResult[TrainedWeights], model: PreTrainedModel, fitted: Sequence[Example]
    ) -> dict[str, Any]:
        """Return all metrics of a run, for `metrics.json`.

        Args:
            result: Result of the loop. The development score is that of its best trial, which has not learned these
                data.
            model: The final model, which may have learned them.
            fitted: The data that it was fitted to.
        """
        outputs = self.outputs(model) | {"dev": np.array(result.best.answers, np.float32)}
        return self.described(model, outputs, fitted) | self.told(result) | {"result": "fine-tuned"}

    def told(self, result: AgoraResult[TrainedWeights]) -> dict[str, Any]:
        """Return the metrics of a loop, for `metrics.json`."""
        failed = [
            {"round": done.number, "combination": theta, "error": told}
            for done in result.rounds
            for theta, told in done.failed.items()
        ]
        return {
            "best_theta": str(HyperParameters(**result.best.theta)),
            "best_round": result.best_round,
            "stopped_early": result.stopped,
            "failed": failed,
        }

    def outputs(self, model: PreTrainedModel) -> dict[str, NDArray[np.float32]]:
        """Return a model's outputs on each part of the data. *Shape:* (examples, outputs) each."""
        return {part: self.fitter.logits(model, self.fitter.tokens(found)) for part, found in self.data.parts.items()}

    def described(
        self,
        model: PreTrainedModel,
        outputs: Mapping[str, NDArray[np.float32]],
        fitted: Sequence[Example],
        task: Task | None = None,
    ) -> dict[str, Any]:
        """Return the metrics of any resulting model, for `metrics.json`.

        Args:
            model: The result.
            outputs: Outputs on each part of the data. *Shape:* (examples, outputs) each.
            fitted: The data that the result was fitted to.
            task: The task with the result's thresholds; by default they are fitted to the development data.
        """
        data = self.data
        task = task or self.task.fitted(outputs["dev"], self.task.targets(data.dev))
        metrics: dict[str, Any] = {
            "method": self.arguments.method,
            "model": self.arguments.model,
            "task": task.kind,
            "metric": task.metric,
            "labels": list(task.names),
            "thresholds": task.threshold_by_name,
            "rows": {part: len(found) for part, found in (("train", data.train), ("dev", data.dev))}
            | {"test": len(data.test or [])},
            "held_out": data.held_out,
            "stopped_early": False,
            "failed": [],
            "seconds": self.clock.elapsed,
            "device": describe(),
            "precision": "bf16" if self.fitter.bf16 else "fp32",
        }
        targets = {part: task.targets(found) for part, found in data.parts.items()}
        for part, truth in targets.items():
            metrics |= scored(part, task.score(outputs[part], truth))
        if self.head is not None:
            metrics["linear_head"] = self.head_metrics(self.head)
        if data.suite:
            metrics |= data.suite.judge(self.fitter, model, outputs)
        judged = "test" if "test" in targets else "dev"
        metrics["confusion"] = task.confusion(outputs[judged], targets[judged])
        metrics["by_label"] = task.by_label(outputs[judged], targets[judged])
        metrics["wrong"] = task.wrong(outputs[judged], targets[judged])
        if judged == "test" and task.names and not task.choices:
            wrong = [(data.parts["test"][each["row"]], each) for each in metrics["wrong"]]
            metrics["test_errors"] = [
                {
                    "text": one.text,
                    "text_b": one.text_b,
                    "label": shown_label(one.label),
                    "prediction": shown_label(each["answer"]),
                }
                for one, each in wrong[:_SHOWN_ERRORS]
                if len(one.text) <= _LONGEST_SHOWN
            ]
        metrics["findings"] = self.inspection.sentences()
        metrics["inspection"] = figures(self.inspection)
        metrics["data"] = json.loads(json.dumps(asdict(data.check)))  # tuples become lists, as in metrics.json
        metrics[KEY] = fingerprint(fitted)
        return metrics

    def head_metrics(self, head: StudentHead) -> dict[str, Any]:
        """Return the scores of linear heads: on development data of the one fitted to training data, else to both."""
        task, labels = self.task.fitted(head.says, head.truth), head.labels_used
        found: dict[str, Any] = {
            "described": head.described,
            "labels_used": {"dev": len(head.alone.out_of_fold), "out_of_fold": labels, "test": labels},
            **scored("dev", task.score(head.says.astype(np.float32), head.truth)),
            **scored("out_of_fold", self.task.score(head.whole.out_of_fold.astype(np.float32), head.targets)),
        }
        if self.data.test:
            whole = self.task_of_whole(head)
            found |= scored("test", whole.score(head.logits(self.data.test), task.targets(self.data.test)))
        return found

    def task_of_whole(self, head: StudentHead) -> Task:
        """The task with thresholds for `head.whole`, fitted to its out-of-fold predictions for all its labels."""
        return self.task.fitted(head.whole.out_of_fold, head.targets)

    def finish(self, metrics: dict[str, Any], model: PreTrainedModel, page: Report) -> None:
        """Write the report, the model and the metrics, and remove what only an unfinished run needs."""
        self.run.write_page(page)
        self.fitter.save(model, self.run.path, metrics["thresholds"])
        self.run.write_json("metrics.json", metrics)
        self.run.log("finished", **{part: metrics[part] for part in self.data.parts})
        self.journal.close()

    def points(self, examples: list[Example]) -> list[Point]:
        """Return examples with their targets."""
        return [Point(x, y) for x, y in zip(examples, self.task.targets(examples).tolist(), strict=True)]


def scored(part: str, scores: dict[str, Score]) -> dict[str, Any]:
    """Return scores and their confidence intervals in the format of `metrics.json`."""
    return {
        part: {name: score.value for name, score in scores.items()},
        f"{part}_confidence": {name: [score.low, score.high] for name, score in scores.items()},
    }
