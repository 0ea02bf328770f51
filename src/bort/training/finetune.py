"""Plain fine-tuning: one model for each point of a grid, the best on the development data is kept."""

from __future__ import annotations

import itertools
import json
import shutil
from collections import Counter
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from bort.data.examples import Columns, Example, read_examples
from bort.errors import BortError
from bort.files import write_aside
from bort.model.checkpoints import locate
from bort.model.tokenization import load_tokenizer
from bort.progress import Bar, bar, console
from bort.runs import Run
from bort.tasks.metrics import Score, confusion
from bort.tasks.task import Task
from bort.training.arguments import FinetuneArguments
from bort.training.classifiers import new_classifier, positions, predict_logits, save_classifier
from bort.training.devices import best_device, describe, use_bf16
from bort.training.encoding import encode
from bort.training.trial import Budget, Labelled, Theta, run_trial

_DEV_SHARE = 0.2
_SPLIT_SEED = 0


def finetune(arguments: FinetuneArguments) -> dict[str, Any]:
    """Fine-tune a classifier or regressor, write it to `arguments.out`, and return its figures.

    Killed at any time, a run of the same settings with `resume` goes on: finished points of the grid are read from the
    journal, an unfinished one from its last checkpoint.

    Raises:
        BortError: Bad settings, data or model.
    """
    _check(arguments)
    data = _read(arguments)
    locate(arguments.model)
    run = Run(arguments.out, "finetune", arguments, resume=arguments.resume, may_change=("checkpoint_minutes",))
    if (metrics_file := run.path / "metrics.json").is_file():
        console().print(f"{run.path}: already finished")
        metrics: dict[str, Any] = json.loads(metrics_file.read_text("utf-8"))
        return metrics
    return _Finetuning(arguments, run, data).run_grid()


def grid(arguments: FinetuneArguments) -> list[Theta]:
    """All combinations of the settings that are lists."""
    return [
        Theta(rate, seed, decay, warmup, batch)
        for rate, decay, warmup, batch, seed in itertools.product(
            arguments.learning_rates,
            arguments.weight_decays,
            arguments.warmups,
            arguments.batch_sizes,
            arguments.seeds,
        )
    ]


def _check(arguments: FinetuneArguments) -> None:
    rules: list[tuple[str, bool, str]] = [
        ("learning_rates", all(rate > 0 for rate in arguments.learning_rates), "must be above 0"),
        ("seeds", all(seed >= 0 for seed in arguments.seeds), "must be at least 0"),
        ("weight_decays", all(decay >= 0 for decay in arguments.weight_decays), "must be at least 0"),
        ("warmups", all(0 <= share < 1 for share in arguments.warmups), "must be at least 0 and below 1"),
        ("batch_sizes", all(size >= 1 for size in arguments.batch_sizes), "must be at least 1"),
        ("max_epochs", arguments.max_epochs >= 1, "must be at least 1"),
        ("max_steps", arguments.max_steps is None or arguments.max_steps >= 1, "must be at least 1"),
        ("eval_steps", arguments.eval_steps is None or arguments.eval_steps >= 1, "must be at least 1"),
        ("patience", arguments.patience >= 1, "must be at least 1"),
        ("max_length", arguments.max_length >= 4, "must be at least 4"),
    ]
    for name, holds, rule in rules:
        if not holds:
            raise BortError(rule, column=name, value=getattr(arguments, name))
    if not grid(arguments):
        raise BortError("a list of the grid is empty")


class Splits:
    """Training, development and perhaps test examples, checked against each other."""

    def __init__(self, train: list[Example], dev: list[Example], test: list[Example] | None, task: Task) -> None:
        self.train, self.dev, self.test, self.task = train, dev, test, task
        self.leaked = _seen_in(train, dev), _seen_in(train + dev, test or [])
        for part in (dev, test or []):
            if part and (part[0].text_b is None) != (train[0].text_b is None):
                rule = "must hold pairs where the training data do, and single texts where they do"
                raise BortError(rule, file=part[0].source, line=part[0].line, column="text_b", value=part[0].text_b)
            task.targets(part)  # unknown labels are told of before anything is trained


def _seen_in(known: list[Example], part: list[Example]) -> int:
    """How many examples of a part have a text that is known already."""
    texts = {(example.text, example.text_b) for example in known}
    return sum((example.text, example.text_b) in texts for example in part)


def _read(arguments: FinetuneArguments) -> Splits:
    columns = Columns(arguments.text, arguments.text_b, arguments.label)
    train = read_examples(arguments.train, columns)
    task = Task.of(train, kind=arguments.kind, metric=arguments.metric, names=arguments.labels)
    if arguments.dev is None:
        train, dev = split_off(train, task, _DEV_SHARE)
    else:
        dev = read_examples(arguments.dev, columns)
    test = None if arguments.test is None else read_examples(arguments.test, columns)
    return Splits(train, dev, test, task)


def split_off(examples: list[Example], task: Task, share: float) -> tuple[list[Example], list[Example]]:
    """Split a share off at random but always the same, class by class, with one example a class on each side at least.

    Raises:
        BortError: A class with one example only.
    """
    groups: dict[Any, list[int]] = {}
    for index, example in enumerate(examples):
        groups.setdefault(str(example.label) if task.names else None, []).append(index)
    rng = np.random.default_rng(_SPLIT_SEED)
    chosen: set[int] = set()
    for label, members in groups.items():
        if len(members) < 2:
            rule = f"the class {label!r} has one example; give a --dev file, or more examples"
            raise BortError(rule, file=examples[0].source)
        count = min(len(members) - 1, max(1, round(share * len(members))))
        chosen.update(int(index) for index in rng.permutation(members)[:count])
    return (
        [example for index, example in enumerate(examples) if index not in chosen],
        [example for index, example in enumerate(examples) if index in chosen],
    )


class _Finetuning:
    """One run: the tokenised data, the trials, the best of them."""

    def __init__(self, arguments: FinetuneArguments, run: Run, data: Splits) -> None:
        self.arguments, self.run, self.data, self.task = arguments, run, data, data.task
        self.tokenizer: PreTrainedTokenizerFast = load_tokenizer(locate(arguments.model))
        torch.manual_seed(0)
        self.max_length = min(arguments.max_length, positions(new_classifier(arguments.model, self.task)))
        self.pad_token_id = int(self.tokenizer.pad_token_id)
        self.train = self._labelled(data.train)
        self.dev = self._labelled(data.dev)
        self.bf16 = use_bf16(arguments.precision)
        self.class_weights = self._class_weights()
        self.trials_folder = run.path / "trials"
        self.best_file = self.trials_folder / "best.safetensors"

    def _labelled(self, examples: list[Example]) -> Labelled:
        return Labelled(encode(examples, self.tokenizer, self.max_length), self.task.targets(examples))

    def _class_weights(self) -> Tensor | None:
        if self.arguments.class_weights == "none" or self.task.kind == "regression":
            return None
        counts = np.bincount(self.train.targets.astype(np.int64), minlength=self.task.outputs)
        return torch.tensor(len(self.train) / (self.task.outputs * np.maximum(counts, 1)), dtype=torch.float32)

    def run_grid(self) -> dict[str, Any]:
        """Try each point of the grid, keep the best, score it, describe it."""
        thetas = grid(self.arguments)
        self._say_what_is_at_hand(len(thetas))
        self.trials_folder.mkdir(exist_ok=True)
        trials = {int(event["trial"]): event for event in self.run.events("trial")}
        with bar("fine-tuning", len(thetas)) as shown:
            for number, theta in enumerate(thetas):
                if number not in trials:
                    best = max((event["score"] for event in trials.values()), default=-np.inf)
                    trials[number] = self._trial(number, theta, shown, best)
                shown.update(number + 1, f"best {self.task.metric} {max(e['score'] for e in trials.values()):.3f}")
        return self._finish(thetas, [trials[number] for number in range(len(thetas))])

    def _say_what_is_at_hand(self, trials: int) -> None:
        say = console().print
        say(
            f"{len(self.train)} to train on, {len(self.dev)} for development, "
            f"{len(self.data.test or [])} for the test; {trials} combination{'s' if trials > 1 else ''} to try"
        )
        if self.task.names:
            counts = Counter(str(example.label) for example in self.data.train)
            listed = ", ".join(f"{name} {counts[name]}" for name in self.task.names[:12])
            say(f"labels: {listed}{', …' if len(self.task.names) > 12 else ''}")
            if len(self.task.names) > 2 and all(name.lstrip("-").isdigit() for name in self.task.names):
                say("whole-number labels are taken for classes; --kind regression takes them for amounts")
        for name, count in zip(("development", "test"), self.data.leaked, strict=True):
            if count:
                say(f"{count} of the {name} texts are among the texts used before them: that score is too good")
        if self.train.encoded.cut:
            say(f"{self.train.encoded.cut} of the training texts are longer than {self.max_length} tokens and are cut")

    def _trial(self, number: int, theta: Theta, shown: Bar, best: float) -> dict[str, Any]:
        torch.manual_seed(theta.seed)
        model = new_classifier(self.arguments.model, self.task).to(best_device())
        mean, spread = self._standardise()
        train, dev = (Labelled(d.encoded, _scaled(d.targets, mean, spread)) for d in (self.train, self.dev))
        folder = self.trials_folder / f"{number:03d}"
        result = run_trial(
            model,
            self.task,
            theta,
            train,
            dev,
            pad_token_id=self.pad_token_id,
            budget=Budget(
                max_epochs=self.arguments.max_epochs,
                max_steps=self.arguments.max_steps,
                patience=self.arguments.patience,
                eval_steps=self.arguments.eval_steps,
                checkpoint_seconds=60 * self.arguments.checkpoint_minutes,
            ),
            folder=folder,
            class_weights=self.class_weights,
            bf16=self.bf16,
            on_progress=lambda share, note: shown.update(number + share, f"{theta}: {note}"),
        )
        if result.score > best:
            state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
            with write_aside(self.best_file, "wb") as file:
                file.write(serialize(state))
        event = {"trial": number, "theta": str(theta), "score": result.score, "best_step": result.step}
        event |= {"steps": result.steps, "evaluations": result.evaluations}
        self.run.log("trial", **event)
        shutil.rmtree(folder, ignore_errors=True)
        return event

    def _standardise(self) -> tuple[float, float]:
        """A regression is fitted to numbers of mean 0 and spread 1; the head takes the scale back afterwards."""
        if self.task.kind == "classification":
            return 0.0, 1.0
        values = self.train.targets
        return float(values.mean()), float(values.std()) or 1.0

    def _finish(self, thetas: list[Theta], trials: list[dict[str, Any]]) -> dict[str, Any]:
        from bort.training.reports import finetune_report

        winner = max(trials, key=lambda event: event["score"])
        model = new_classifier(self.arguments.model, self.task)
        model.load_state_dict(load_file(self.best_file))
        if self.task.kind == "regression":
            _unscale(model, *self._standardise())
        model.to(best_device())
        scores = {"dev": self._score(model, self.dev)}
        matrix = None
        if self.data.test:
            test = self._labelled(self.data.test)
            scores["test"] = self._score(model, test)
        shown = test if self.data.test else self.dev
        if self.task.names:
            decided = self.task.decide(self._logits(model, shown))
            matrix = confusion(shown.targets.tolist(), decided.tolist(), self.task.outputs).tolist()
        save_classifier(model.cpu(), self.tokenizer, self.run.path, self.max_length)
        metrics: dict[str, Any] = {
            "task": self.task.kind,
            "metric": self.task.metric,
            "labels": list(self.task.names),
            "best_theta": str(thetas[winner["trial"]]),
            "rows": {"train": len(self.train), "dev": len(self.dev), "test": len(self.data.test or [])},
            "device": describe(),
            "precision": "bf16" if self.bf16 else "fp32",
        }
        for part, values in scores.items():
            metrics[part] = {name: score.value for name, score in values.items()}
            metrics[f"{part}_confidence"] = {name: [score.low, score.high] for name, score in values.items()}
        finetune_report(self.run, metrics, trials, matrix)
        self.run.write_json("metrics.json", metrics)
        self.run.log("finished", **{part: metrics[part] for part in scores})
        shutil.rmtree(self.trials_folder, ignore_errors=True)
        return metrics

    def _logits(self, model: Any, data: Labelled) -> Any:
        return predict_logits(model, data.encoded, self.pad_token_id, bf16=self.bf16)

    def _score(self, model: Any, data: Labelled) -> dict[str, Score]:
        return self.task.score(self._logits(model, data), data.targets)


def _scaled(targets: Any, mean: float, spread: float) -> Any:
    return targets if targets.dtype.kind == "i" else ((targets - mean) / spread).astype(np.float32)


def _unscale(model: Any, mean: float, spread: float) -> None:
    """Let the head answer in the unit of the labels."""
    head = getattr(model, "classifier", None)
    layer = (
        head
        if isinstance(head, torch.nn.Linear)
        else [m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1]
    )
    with torch.no_grad():
        layer.weight.mul_(spread)
        layer.bias.mul_(spread).add_(mean)
