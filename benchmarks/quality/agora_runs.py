"""Runs of Agora and its rivals on tasks with few labels, for the benchmarks that compare them."""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.common import parser
from benchmarks.quality.scarce import TASKS, Cache, Record, parts_of, sha256
from bort.workers import InProcess, TrialResult

GRIDS: dict[str, dict[str, Any]] = {
    "bort-nano": {"learning_rates": [1e-3, 5e-4], "max_epochs": 15, "grown_epochs": 3},
    "all-MiniLM-L6-v2": {"learning_rates": [2e-4, 1e-4], "max_epochs": 10, "grown_epochs": 2},
}
"""Θ and passes over the data by the folder's name of a student."""
FEWER_PASSES = {("all-MiniLM-L6-v2", "mrpc"): 5, ("all-MiniLM-L6-v2", "rte"): 5}
"""Of the longest tasks, which have three times as many labels, for the larger student; so that a run ends within an
hour."""
TEACHER_GRID: dict[str, Any] = {"learning_rates": [1e-4], "batch_sizes": [8], "max_epochs": 8}
PUBLISHED: dict[str, Any] = {"labels": "hard", "prune": "lcs", "labelled_by": "teacher", "weak_teacher": "use"}
IMPROVED: dict[str, Any] = {"unlabelled": True, "unlabelled_per_mistake": 32}
METHODS: dict[str, dict[str, Any]] = {"Agora as published": PUBLISHED, "Agora": IMPROVED}
"""What differs from the defaults of `bort finetune`, but for MORE_OF_THE_POOL."""
MORE_OF_THE_POOL = {"all-MiniLM-L6-v2": 64}
"""Texts a mistake from the pool, for a student that makes few mistakes; for the other they are all of the pool."""
DISTILLED, SETFIT = "plain distillation", "SetFit"
SETFIT_PAIRS, SETFIT_PAIRS_OF_PAIRS = 4000, 1000
"""SetFit trains on so many pairs of texts at most: 20 for each of 100 texts twice, as in its paper; on fewer where each
text is a pair itself, joined, for a step takes four times as long there."""


def grid_of(student: str, task: str) -> dict[str, Any]:
    """Θ and passes over the data of a student on a task; empty for a student that has none."""
    name = Path(student).name
    fewer = {"max_epochs": FEWER_PASSES[name, task]} if (name, task) in FEWER_PASSES else {}
    return GRIDS.get(name, {}) | fewer


def changes_of(student: str, method: str) -> dict[str, Any]:
    """What of a method differs from the defaults of `bort finetune`, for a student."""
    changes, name = METHODS[method], Path(student).name
    more = changes.get("unlabelled") and name in MORE_OF_THE_POOL
    return changes | ({"unlabelled_per_mistake": MORE_OF_THE_POOL[name]} if more else {})


def kept_embedding(model: str, file: Path) -> Any:
    """The teacher's encoder, which remembers the texts of earlier runs in a file."""
    import numpy as np

    from bort.agora.nearby import Embedding
    from bort.files import write_aside

    class Kept(Embedding):
        def __init__(self) -> None:
            super().__init__(model)
            if file.is_file():
                with np.load(file) as known:
                    self._known.update(zip(known["texts"].tolist(), known["vectors"], strict=True))
            self._written = len(self._known)

        def keep(self) -> None:
            if len(self._known) > self._written:
                texts = list(self._known)
                file.parent.mkdir(parents=True, exist_ok=True)
                with write_aside(file, "wb") as out:
                    np.savez(out, texts=np.array(texts), vectors=np.stack([self._known[text] for text in texts]))
                self._written = len(self._known)

    return Kept()


class FirstRounds(InProcess):
    """Methods of one grid begin with the same trials: runs them once, and says what time the others were spared."""

    def __init__(self) -> None:
        self._known: dict[Any, tuple[Any, float]] = {}
        self._of: Any = None
        self._size = 0
        self.spared = 0.0

    def of(self, name: Any, size: int) -> FirstRounds:
        """Run trials on `size` texts once for each name and combination, from now on."""
        if name != self._of:
            self._known.clear()
        self._of, self._size, self.spared = name, size, 0.0
        return self

    def map(self, function: Any, items: Iterable[Any]) -> Iterator[TrialResult]:
        if len(function.train) != self._size:
            yield from super().map(function, items)
            return
        for place, item in enumerate(items):
            theta = tuple(sorted(item.theta.items()))
            if theta in self._known:
                self.spared += self._known[theta][1]
            else:
                started = time.process_time()
                made = function(item)
                self._known[theta] = made, time.process_time() - started
            yield TrialResult(place, self._known[theta][0])


class NotMeasured(Exception):
    """A run that is not kept, where none is to be made."""


def setfit_accuracy(encoder: str, train: Sequence[Any], test: Sequence[Any], seed: int, pairs: int) -> float:
    """SetFit with its own defaults but for the number of pairs that it learns from; pairs of texts are joined."""
    import datasets
    from setfit import SetFitModel, Trainer, TrainingArguments

    def joined(examples: Sequence[Any]) -> list[str]:
        return [e.text if e.text_b is None else f"{e.text} {e.text_b}" for e in examples]

    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        model = SetFitModel.from_pretrained(encoder, local_files_only=True)
        settings = TrainingArguments(
            output_dir=scratch,
            batch_size=16,
            num_iterations=20,
            max_steps=pairs // 16,
            seed=seed,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            show_progress_bar=False,
        )
        rows = datasets.Dataset.from_dict({"text": joined(train), "label": [e.label for e in train]})
        Trainer(model=model, args=settings, train_dataset=rows).train()
        answers = [str(answer) for answer in model.predict(joined(test))]
    return statistics.mean(answer == str(e.label) for answer, e in zip(answers, test, strict=True))


@dataclass
class Bench:
    """Tasks, students and a teacher, and what has been measured."""

    arguments: argparse.Namespace
    cache: Cache
    only_kept: bool = False
    teachers: dict[str, Any] = field(default_factory=dict)
    first_rounds: FirstRounds = field(default_factory=FirstRounds)

    @cached_property
    def embedding(self) -> Any:
        """The teacher's encoder, shared by all runs, so that it reads each text once."""
        return kept_embedding(self.arguments.teacher, self.arguments.vectors)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Labelled training texts of each task."""
        tasks = self.arguments.tasks
        return {
            task: len(parts_of(self.arguments.data / task)["train"].read_text("utf-8").splitlines()) for task in tasks
        }

    def teacher(self, task: str) -> Any:
        """Probabilities of each label: by logistic regression on the teacher's embeddings, or by the fine-tuned teacher
        where that is better on dev."""
        if task not in self.teachers:
            from bort.finetuning.splits import read_splits

            data = read_splits(self.settings("bort-nano", task, 0, ""))
            self.teachers[task] = self._says(self._best_teacher(task, data), data)
        return self.teachers[task]

    def _best_teacher(self, task: str, data: Any) -> Any:
        from bort.agora.labellers import HeadTeacher, judged

        head = HeadTeacher(self.embedding, data)
        if not self._is_fine_tuned(task):
            return head
        full = self._fine_tuned(task, data)
        truth = data.task.targets(data.dev)
        by_head, by_full = (judged(data.task, teacher(data.dev), truth) for teacher in (head, full))
        print(f"teacher of {task}: linear head {by_head:.3f}, fine-tuned {by_full:.3f} on dev", flush=True)
        return head if by_head >= by_full else full

    def _is_fine_tuned(self, task: str) -> bool:
        return self.arguments.fine_tuned is not None and task in self.arguments.fine_tune

    def _fine_tuned(self, task: str, data: Any) -> Any:
        """The teacher's encoder fine-tuned plainly, once; it remembers what it was asked in a file."""
        import numpy as np

        import bort
        from bort.agora.labellers import ClassifierTeacher
        from bort.files import write_aside

        folder = self.arguments.fine_tuned / task
        if not (folder / "metrics.json").is_file():
            fit = self.settings(self.arguments.teacher, task, 0, str(folder), method="plain", **TEACHER_GRID)
            bort.finetune(replace(fit, resume=(folder / "journal.jsonl").is_file()))
        asks, file = ClassifierTeacher(str(folder), data.task), folder / "answers.npz"
        known: dict[tuple[str, str | None], Any] = {}
        if file.is_file():
            with np.load(file, allow_pickle=False) as kept:
                pairs = zip(kept["a"].tolist(), kept["b"].tolist(), kept["paired"].tolist(), strict=True)
                known = dict(zip([(a, b if p else None) for a, b, p in pairs], kept["says"], strict=True))

        def remembered(examples: Sequence[Any]) -> Any:
            new = list({(e.text, e.text_b): e for e in examples if (e.text, e.text_b) not in known}.values())
            if new:
                known.update(zip([(e.text, e.text_b) for e in new], asks(new), strict=True))
                texts = list(known)
                with write_aside(file, "wb") as out:
                    np.savez(
                        out,
                        a=np.array([a for a, _ in texts]),
                        b=np.array([b or "" for _, b in texts]),
                        paired=np.array([b is not None for _, b in texts]),
                        says=np.stack([known[text] for text in texts]),
                    )
            return np.stack([known[e.text, e.text_b] for e in examples])

        return remembered

    def _says(self, teacher: Any, data: Any) -> Any:
        """A function of texts, as `finetune` takes."""
        import numpy as np

        from bort.data.tables.examples import Example

        def probabilities(texts: Sequence[str | tuple[str, str]]) -> list[dict[str, float]]:
            examples = [Example(text) if isinstance(text, str) else Example(*text) for text in texts]
            return [dict(zip(data.task.names, row, strict=True)) for row in np.exp(teacher(examples)).tolist()]

        return probabilities

    def known(self, key: Record) -> Record | None:
        """The run of a key, if it is kept."""
        record = self.cache.get(key)
        if record is None and self.only_kept:
            raise NotMeasured(key)
        return record

    def key(self, student: str, task: str, seed: int, method: str, **settings: Any) -> Record:
        from bort.model.checkpoints import locate

        files = [*parts_of(self.arguments.data / task).values(), self.arguments.data / task / "unlabelled.jsonl"]
        return {
            "student": Path(student).name,
            "weights": sha256(Path(locate(student)) / "model.safetensors"),
            "teacher": f"{Path(self.arguments.teacher).name}{' or fine-tuned' if self._is_fine_tuned(task) else ''}",
            "task": task,
            "data": sha256(*files),
            "seed": seed,
            "method": method,
            "settings": settings,
        }

    def settings(self, student: str, task: str, seed: int, out: str, **settings: Any) -> Any:
        import bort
        from bort.data.tables.examples import read_examples
        from bort.data.tables.labels import label_names

        files = parts_of(self.arguments.data / task)
        if settings.get("unlabelled") is True:
            settings["unlabelled"] = str(self.arguments.data / task / "unlabelled.jsonl")
        return bort.FinetuneArguments(
            **{part: str(file) for part, file in files.items()},
            model=student,
            out=out,
            classes=label_names([e for file in files.values() for e in read_examples(file)]),
            seeds=[seed],
            seed=seed,
            **{"batch_sizes": [16]} | grid_of(student, task) | settings,
        )

    def agora(self, student: str, task: str, seed: int, method: str, changes: dict[str, Any] | None = None) -> Record:
        """A run of one of METHODS, or of another one, from the cache or made now.

        Args:
            student: Folder, or bort-nano.
            task: Name of the task.
            seed: Of heads, batches and new texts.
            method: Its name.
            changes: What differs from the defaults of `bort finetune`; by default as METHODS has it.
        """
        from bort.agora.run import finetune

        changes = changes_of(student, method) if changes is None else changes
        key = self.key(student, task, seed, method, **grid_of(student, task) | changes)
        record = self.known(key)
        if record is None:
            with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
                chosen = self.settings(student, task, seed, str(Path(scratch) / "run"), **changes)
                teacher, embedding, started = self.teacher(task), self.embedding, time.process_time()
                workers = self.first_rounds.of((student, task, seed), self.sizes[task])
                metrics = finetune(chosen, teacher=teacher, embedding=embedding, workers=workers)
            record = {
                "key": key,
                "test": metrics["test"]["accuracy"],
                "dev": metrics["dev"]["accuracy"],
                "plain": metrics["plain"]["test"]["accuracy"],
                "teacher": metrics["teacher"]["test"]["accuracy"],
                "rounds": metrics["rounds"],
                "seconds": round(time.process_time() - started + self.first_rounds.spared, 1),
            }
            self.cache.add(record)
            self.embedding.keep()
        return record

    def distilled(self, student: str, task: str, seed: int, seconds: float) -> Record:
        """The student trained on all unlabelled texts with the teacher's soft labels, over Θ, then over Θ with other
        seeds, as often as comes nearest to Agora's time; the best on dev."""
        key = self.key(student, task, seed, DISTILLED, **grid_of(student, task))
        record = self.known(key)
        if record is None:
            record = {"key": key, **self._distil(student, task, seed, seconds)}
            self.cache.add(record)
            self.embedding.keep()
        return record

    def _distil(self, student: str, task: str, seed: int, least: float) -> Record:
        import numpy as np

        from bort.data.tables.examples import read_examples
        from bort.finetuning.hyper_parameters import grid
        from bort.finetuning.splits import read_splits

        with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
            arguments = self.settings(student, task, seed, str(Path(scratch) / "run"))
            data = read_splits(arguments)
            ask = self.teacher(task)
            pool = read_examples(self.arguments.data / task / "unlabelled.jsonl", labelled=False)
            started = time.process_time()
            fitter = data.fitter(arguments)
            certain = np.eye(data.task.outputs, dtype=np.float32)[data.task.targets(data.train)]
            says = ask([e.text if e.text_b is None else (e.text, e.text_b) for e in pool])
            soft = np.array([[one[name] for name in data.task.names] for one in says], dtype=np.float32)
            train = fitter.labelled([*data.train, *pool], np.vstack([certain, soft]))
            dev, test = fitter.labelled(data.dev), fitter.labelled(data.test or [])
            # As many passes over as many texts as Agora's last round has.
            epochs = max(arguments.grown_epochs, round((arguments.max_epochs or 30) * len(data.train) / len(train)))
            best: Record = {}
            thetas, fits = grid(arguments), 0
            # As many fits as come nearest to the time that there is.
            while not best or (time.process_time() - started) * (1 + 0.5 / fits) < least:
                theta = replace(thetas[fits % len(thetas)], seed=seed + 1000 * (fits // len(thetas)))
                model, result = fitter.fit(theta, train, dev, folder=Path(scratch) / f"{fits}", max_epochs=epochs)
                if not best or result.score > best["dev"]:
                    scores = data.task.score(fitter.logits(model, test.encoded), test.targets)
                    best = {"dev": result.score, "test": scores["accuracy"].value}
                fits += 1
            return best | {"fits": fits, "seconds": round(time.process_time() - started, 1)}

    def setfit(self, task: str, seed: int) -> Record:
        """SetFit on an encoder, with its own defaults but for the number of pairs; pairs of texts are joined."""
        from bort.data.tables.examples import read_examples

        paired = read_examples(parts_of(self.arguments.data / task)["train"])[0].text_b is not None
        pairs = SETFIT_PAIRS_OF_PAIRS if paired else SETFIT_PAIRS
        key = self.key(self.arguments.setfit, task, seed, SETFIT, pairs=pairs)
        record = self.known(key)
        if record is None:
            record = {"key": key, **self._setfit(task, seed, pairs)}
            self.cache.add(record)
        return record

    def _setfit(self, task: str, seed: int, pairs: int) -> Record:
        from bort.data.tables.examples import read_examples

        files = parts_of(self.arguments.data / task)
        train, test = (read_examples(files[part]) for part in ("train", "test"))
        started = time.process_time()
        right = setfit_accuracy(self.arguments.setfit, train, test, seed, pairs)
        return {"test": right, "seconds": round(time.process_time() - started, 1)}

    def latencies(self, students: Sequence[str], task: str) -> dict[str, float]:
        """Median milliseconds of one text, one after another, in PyTorch; models take turns at each text."""
        import torch

        from bort.data.tables.examples import read_examples
        from bort.finetuning.splits import read_splits
        from bort.model.checkpoints import locate
        from bort.model.tokenization import load_tokenizer
        from bort.predict.classifiers import new_classifier, predict_logits
        from bort.predict.encoding import encode
        from bort.predict.sentence_encoder import EmbeddingTeacher

        known = read_splits(self.settings("bort-nano", task, 0, "")).task
        examples = read_examples(self.arguments.data / task / "test.jsonl")[:100]
        teacher = EmbeddingTeacher(self.arguments.teacher, torch.device("cpu"))
        ask: dict[str, Any] = {"teacher": lambda example: teacher.encode([example.text])}
        for student in students:
            model, tokenizer = new_classifier(student, known).eval(), load_tokenizer(locate(student))
            ask[Path(student).name] = lambda example, model=model, tokenizer=tokenizer: predict_logits(
                model, encode([example], tokenizer, 128), int(tokenizer.pad_token_id)
            )
        seconds: dict[str, list[float]] = {name: [] for name in ask}
        for example in examples:
            for name, answer in ask.items():
                started = time.perf_counter()
                answer(example)
                seconds[name].append(time.perf_counter() - started)
        return {name: 1000 * statistics.median(found) for name, found in seconds.items()}


def options(about: str | None) -> argparse.ArgumentParser:
    """The flags that these benchmarks share."""
    made = parser(about)
    made.add_argument("--teacher", required=True, help="folder of the encoder that becomes the teacher")
    made.add_argument(
        "--fine-tuned", type=Path, help="also fine-tune the teacher, in this folder; the better one teaches"
    )
    made.add_argument("--fine-tune", nargs="+", default=list(TASKS), help="only for these tasks")
    made.add_argument("--data", type=Path, default=Path("../shared/data/scarce"))
    made.add_argument("--vectors", type=Path, default=Path("runs/agora-vectors.npz"))
    made.add_argument("--fresh", action="store_true", help="forget the finished runs")
    made.add_argument("--measure-only", action="store_true", help="fill results/agora.jsonl, publish nothing")
    return made


def percent(values: Sequence[float]) -> str:
    return f"{100 * statistics.mean(values):.1f}"


def overall(by_task: dict[str, list[float]]) -> float:
    """Mean of the tasks' means, in %."""
    return 100 * statistics.mean(statistics.mean(values) for values in by_task.values())


def column(runs: dict[str, list[Record]], name: str) -> dict[str, list[float]]:
    return {task: [record[name] for record in records] for task, records in runs.items()}


def difference(a: dict[str, list[float]], b: dict[str, list[float]]) -> tuple[float, float | None]:
    """Points by which `a` is better than `b`, and the standard error of it where a task has several seeds.

    Runs of the same task and seed are paired; tasks weigh the same.
    """
    points = [100 * (x - y) for task in a for x, y in zip(a[task], b[task], strict=True)]
    if min(len(a[task]) for task in a) < 2:
        return overall(a) - overall({task: b[task] for task in a}), None
    return overall(a) - overall({task: b[task] for task in a}), statistics.stdev(points) / len(points) ** 0.5
