"""Few labels: Agora against plain fine-tuning, its teacher, plain distillation, SetFit and TF-IDF.

    python -m benchmarks.quality.agora --students bort-nano runs/all-MiniLM-L6-v2 --teacher runs/all-mpnet-base-v2

Each task is a folder with train, dev, test and unlabelled.jsonl. Everything is chosen on dev; test is scored once. The
teacher is a frozen encoder with logistic regression, or that encoder fine-tuned (--fine_tuned) where that is better on
dev. Finished runs are kept in results/agora.jsonl, known by their
data, weights, seed and settings, but not by this package's code: after a change use --fresh. The teacher's vectors are
kept in --vectors. SetFit wants `pip install setfit` (after torch); --setfit names the encoder that it trains.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.common import Target, parser, publish, table
from benchmarks.quality.scarce import TASKS, Cache, Record, baselines, parts_of, sha256

GRIDS: dict[str, dict[str, Any]] = {
    "bort-nano": {"learning_rates": [1e-3, 5e-4], "max_epochs": 15},
    "all-MiniLM-L6-v2": {"learning_rates": [2e-4, 1e-4], "max_epochs": 10, "grown_epochs": 2},
}
"""Θ and passes over the data by the folder's name of a student."""
TEACHER_GRID: dict[str, Any] = {"learning_rates": [1e-4], "batch_sizes": [8], "max_epochs": 8}
PUBLISHED: dict[str, Any] = {"labels": "hard", "prune": "lcs", "labelled_by": "teacher"}
IMPROVED: dict[str, Any] = {"unlabelled": True, "unlabelled_per_mistake": 32}
MADE_ONLY: dict[str, Any] = {"points_per_mistake": 8}
METHODS: dict[str, dict[str, Any]] = {
    "Agora as published": PUBLISHED,
    "Agora": IMPROVED,
    "hard labels": {**IMPROVED, "labels": "hard"},
    "labels by the teacher alone": {**IMPROVED, "labelled_by": "teacher"},
    "8 texts a mistake from the pool": {**IMPROVED, "unlabelled_per_mistake": 8},
    "pool only, no new texts": {**IMPROVED, "points_per_mistake": 0},
    "new texts only, no pool": MADE_ONLY,
    "halving": {**IMPROVED, "prune": "halving"},
    "replay 1": {**IMPROVED, "replay": 1},
    "warm starts": {**IMPROVED, "warm_start": True},
    **{
        f"{name} only, no pool": {**MADE_ONLY, "transforms": [name]}
        for name in ("infill", "synonym", "swap", "delete", "typo")
    },
}
"""What differs from the defaults of `bort finetune`. The first two are the comparison, the others the ablation."""
DISTILLED = "plain distillation"
SETFIT_PAIRS = 4000
"""SetFit trains on so many pairs of texts at most: 20 for each of 100 texts twice, as in its paper."""


def kept_embedding(model: str, file: Path) -> Any:
    """The teacher's encoder, which remembers the texts of earlier runs in a file."""
    import numpy as np

    from bort.agora.vectors import Embedding
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


class FirstRounds:
    """Methods of one grid begin with the same trials: fits them once, and says what time the others were spared."""

    def __init__(self) -> None:
        self._known: dict[Any, tuple[Any, Any, float]] = {}
        self._of: Any = None
        self.spared = 0.0

    @contextlib.contextmanager
    def of(self, name: Any, size: int) -> Iterator[None]:
        """While it lasts, fits to `size` texts of the same name and combination are made once."""
        from unittest import mock

        from bort.training.fitter import Fitter

        if name != self._of:
            self._known.clear()
            self._of = name
        self.spared, fit = 0.0, Fitter.fit

        def once(fitter: Any, theta: Any, train: Any, dev: Any, **settings: Any) -> Any:
            if len(train) != size or settings.get("start") is not None:
                return fit(fitter, theta, train, dev, **settings)
            if theta in self._known:
                self.spared += self._known[theta][2]
            else:
                started = time.process_time()
                made = fit(fitter, theta, train, dev, **settings)
                self._known[theta] = (*made, time.process_time() - started)
            return self._known[theta][:2]

        with mock.patch.object(Fitter, "fit", once):
            yield


@dataclass
class Bench:
    """Tasks, students and a teacher, and what has been measured."""

    arguments: argparse.Namespace
    cache: Cache
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
            from bort.training.splits import read_splits

            data = read_splits(self.settings("bort-nano", task, 0, ""))
            self.teachers[task] = self._says(self._best_teacher(task, data), data)
        return self.teachers[task]

    def _best_teacher(self, task: str, data: Any) -> Any:
        from bort.agora.teachers import HeadTeacher, judged

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
        from bort.agora.teachers import ClassifierTeacher
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

        from bort.data.examples import Example

        def probabilities(texts: Sequence[str | tuple[str, str]]) -> list[dict[str, float]]:
            examples = [Example(text) if isinstance(text, str) else Example(*text) for text in texts]
            return [dict(zip(data.task.names, row, strict=True)) for row in np.exp(teacher(examples)).tolist()]

        return probabilities

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
        from bort.data.examples import label_names, read_examples

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
            **GRIDS.get(Path(student).name, {}) | settings,
        )

    def agora(self, student: str, task: str, seed: int, method: str) -> Record:
        """A run, from the cache or made now."""
        from bort.agora.finetune import finetune

        key = self.key(student, task, seed, method, **GRIDS[Path(student).name], **METHODS[method])
        record = self.cache.get(key)
        if record is None:
            with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
                chosen = self.settings(student, task, seed, str(Path(scratch) / "run"), **METHODS[method])
                teacher, embedding, started = self.teacher(task), self.embedding, time.process_time()
                with self.first_rounds.of((student, task, seed), self.sizes[task]):
                    metrics = finetune(chosen, teacher=teacher, embedding=embedding)
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
        """The student trained on all unlabelled texts with the teacher's soft labels, over Θ, then over Θ with
        other seeds, until it has had as much time as Agora; the best on dev."""
        key = self.key(student, task, seed, DISTILLED, **GRIDS[Path(student).name])
        record = self.cache.get(key)
        if record is None:
            record = {"key": key, **self._distil(student, task, seed, seconds)}
            self.cache.add(record)
        return record

    def _distil(self, student: str, task: str, seed: int, least: float) -> Record:
        import numpy as np

        from bort.data.examples import read_examples
        from bort.training.finetune import grid
        from bort.training.fitter import Fitter
        from bort.training.splits import read_splits

        with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
            arguments = self.settings(student, task, seed, str(Path(scratch) / "run"))
            data = read_splits(arguments)
            ask = self.teacher(task)
            pool = read_examples(self.arguments.data / task / "unlabelled.jsonl", labelled=False)
            started = time.process_time()
            fitter = Fitter(arguments, data.task, data.train)
            certain = np.eye(data.task.outputs, dtype=np.float32)[data.task.targets(data.train)]
            says = ask([e.text if e.text_b is None else (e.text, e.text_b) for e in pool])
            soft = np.array([[one[name] for name in data.task.names] for one in says], dtype=np.float32)
            train = fitter.labelled([*data.train, *pool], np.vstack([certain, soft]))
            dev, test = fitter.labelled(data.dev), fitter.labelled(data.test or [])
            # As many passes over as many texts as Agora's last round has.
            epochs = max(arguments.grown_epochs, -(-(arguments.max_epochs or 30) * len(data.train) // len(train)))
            best: Record = {}
            thetas, fits = grid(arguments), 0
            while not best or time.process_time() - started < least:
                theta = replace(thetas[fits % len(thetas)], seed=seed + 1000 * (fits // len(thetas)))
                model, result = fitter.fit(theta, train, dev, folder=Path(scratch) / f"{fits}", max_epochs=epochs)
                if not best or result.score > best["dev"]:
                    best = {"dev": result.score, "test": fitter.score(model, test)["accuracy"].value}
                fits += 1
            return best | {"fits": fits, "seconds": round(time.process_time() - started, 1)}

    def setfit(self, task: str, seed: int) -> Record:
        """SetFit on an encoder, with its own defaults but for the number of pairs; pairs of texts are joined."""
        key = self.key(self.arguments.setfit, task, seed, "SetFit", pairs=SETFIT_PAIRS)
        record = self.cache.get(key)
        if record is None:
            record = {"key": key, **self._setfit(task, seed)}
            self.cache.add(record)
        return record

    def _setfit(self, task: str, seed: int) -> Record:
        import datasets
        from setfit import SetFitModel, Trainer, TrainingArguments

        from bort.data.examples import read_examples

        files = parts_of(self.arguments.data / task)
        read = {part: read_examples(files[part]) for part in ("train", "test")}
        texts = {
            part: [e.text if e.text_b is None else f"{e.text} {e.text_b}" for e in es] for part, es in read.items()
        }
        with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
            started = time.process_time()
            model = SetFitModel.from_pretrained(self.arguments.setfit, local_files_only=True)
            settings = TrainingArguments(
                output_dir=scratch,
                batch_size=16,
                num_iterations=20,
                max_steps=SETFIT_PAIRS // 16,
                seed=seed,
                report_to="none",
                save_strategy="no",
                logging_strategy="no",
                show_progress_bar=False,
            )
            labels = [example.label for example in read["train"]]
            train = datasets.Dataset.from_dict({"text": texts["train"], "label": labels})
            Trainer(model=model, args=settings, train_dataset=train).train()
            answers = [str(answer) for answer in model.predict(texts["test"])]
            right = [answer == str(e.label) for answer, e in zip(answers, read["test"], strict=True)]
            return {"test": statistics.mean(right), "seconds": round(time.process_time() - started, 1)}

    def latencies(self, students: Sequence[str], task: str) -> dict[str, float]:
        """Median milliseconds of one text, one after another, in PyTorch; models take turns at each text."""
        import torch

        from bort.data.examples import read_examples
        from bort.model.checkpoints import locate
        from bort.model.tokenization import load_tokenizer
        from bort.training.classifiers import new_classifier, predict_logits
        from bort.training.embedding_teachers import EmbeddingTeacher
        from bort.training.encoding import encode
        from bort.training.splits import read_splits

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


def percent(values: Sequence[float]) -> str:
    return f"{100 * statistics.mean(values):.1f}"


def overall(by_task: dict[str, list[float]]) -> float:
    """Mean of the tasks' means, in %."""
    return 100 * statistics.mean(statistics.mean(values) for values in by_task.values())


def column(runs: dict[str, list[Record]], name: str) -> dict[str, list[float]]:
    return {task: [record[name] for record in records] for task, records in runs.items()}


def arguments_of() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--students", nargs="+", default=["bort-nano"])
    made.add_argument("--teacher", required=True, help="folder of the encoder that becomes the teacher")
    made.add_argument(
        "--fine_tuned", type=Path, help="also fine-tune the teacher, in this folder; the better one teaches"
    )
    made.add_argument("--fine_tune", nargs="+", default=list(TASKS), help="only for these tasks")
    made.add_argument("--data", type=Path, default=Path("../shared/data/scarce"))
    made.add_argument("--tasks", nargs="+", default=list(TASKS))
    made.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    made.add_argument("--methods", nargs="+", default=list(METHODS)[:2], help="the last one is held to the targets")
    made.add_argument("--rivals", nargs="*", default=[DISTILLED], help="what else to train of each student")
    made.add_argument("--setfit", help="folder of the encoder that SetFit trains")
    made.add_argument("--vectors", type=Path, default=Path("runs/agora-vectors.npz"))
    made.add_argument("--fresh", action="store_true", help="forget the finished runs")
    made.add_argument("--measure_only", action="store_true", help="fill results/agora.jsonl, publish nothing")
    return made.parse_args()


def main() -> None:
    arguments = arguments_of()
    bench = Bench(arguments, Cache(arguments.out / "results" / "agora.jsonl", fresh=arguments.fresh))
    methods: list[str] = [*arguments.methods, *arguments.rivals]
    runs: dict[str, dict[str, dict[str, list[Record]]]] = {}
    setfit: dict[str, list[Record]] = {}

    def measured(student: str, task: str, seed: int, method: str) -> Record:
        if method != DISTILLED:
            return bench.agora(student, task, seed, method)
        seconds = bench.agora(student, task, seed, arguments.methods[-1])["seconds"]
        return bench.distilled(student, task, seed, seconds)

    # Seeds outermost: what an interrupted benchmark has is whole.
    for seed in arguments.seeds:
        for student in arguments.students:
            for task in arguments.tasks:
                for method in methods:
                    record = measured(student, task, seed, method)
                    runs.setdefault(student, {}).setdefault(method, {}).setdefault(task, []).append(record)
                    print(f"{student} {task} seed {seed} {method}: {record['test']:.3f}", flush=True)
        for task in arguments.tasks if arguments.setfit else ():
            setfit.setdefault(task, []).append(bench.setfit(task, seed))
            print(f"SetFit {task} seed {seed}: {setfit[task][-1]['test']:.3f}", flush=True)
    if arguments.measure_only:
        return

    rows: list[list[str]] = []
    targets: list[Target] = []
    latencies = bench.latencies(arguments.students, arguments.tasks[0])
    figures: dict[str, Any] = {"milliseconds": latencies}

    def add(name: str, by_task: dict[str, list[float]], seconds: Sequence[float] = (), model: str = "") -> None:
        minutes = f"{statistics.median(seconds) / 60:.1f}" if seconds else ""
        latency = f"{latencies[model]:.1f}" if model else ""
        rows.append([name, *map(percent, by_task.values()), f"{overall(by_task):.1f}", minutes, latency])
        figures[name] = by_task

    tfidf = baselines(argparse.Namespace(data=arguments.data, tasks=arguments.tasks))["tfidf"]
    add("TF-IDF + logistic regression", {task: [found["test"]] for task, found in tfidf.items()})
    teacher = column(runs[arguments.students[0]][methods[0]], "teacher")
    add("the teacher", teacher, model="teacher")
    for student in arguments.students:
        name, own = Path(student).name, runs[student]
        ours = own[arguments.methods[-1]]
        add(f"{name}, plain, best of Θ", column(ours, "plain"), model=name)
        for method, found in own.items():
            seconds = [record["seconds"] for records in found.values() for record in records]
            add(f"{name}, {method}", column(found, "test"), seconds, name)
        gains = [100 * statistics.mean(r["test"] - r["plain"] for r in records) for records in ours.values()]
        score = overall(column(ours, "test"))
        targets.append(Target(f"{name}: points above plain, mean", statistics.mean(gains), ">=", 3.0))
        targets.append(Target(f"{name}: points above plain, worst task", min(gains), ">=", -1.0))
        if DISTILLED in own:
            rival = overall(column(own[DISTILLED], "test"))
            targets.append(Target(f"{name}: points above plain distillation", score - rival, ">=", 0.0))
        if "MiniLM" in name:
            targets.append(Target(f"{name}: % of the teacher", 100 * score / overall(teacher), ">=", 95.0))
            if setfit:
                rival = overall(column(setfit, "test"))
                targets.append(Target(f"{name}: points above SetFit", score - rival, ">=", 0.0))
    if setfit:
        name = Path(arguments.setfit).name
        seconds = [record["seconds"] for records in setfit.values() for record in records]
        add(f"{name}, SetFit", column(setfit, "test"), seconds, name if name in latencies else "")
    teaches = "with logistic regression on its frozen embeddings"
    if arguments.fine_tuned:
        teaches += f" or fine-tuned ({', '.join(arguments.fine_tune)}), whichever is better on dev"
    about = f"""
        Test accuracy in % with 100 to 300 labels, means over {len(arguments.seeds)} seeds; the teacher is
        {Path(arguments.teacher).name}, {teaches}. Minutes: a core's time
        for a run, median, the teacher's answers to new texts counted. Milliseconds: one text after another in PyTorch.
        SetFit: at most {SETFIT_PAIRS} pairs of texts. Plain distillation: all unlabelled texts with soft labels, as
        many passes as Agora's last round, over Θ and other seeds until it has had Agora's time; the best on dev.
    """
    shown = table(["method", *arguments.tasks, "mean", "minutes", "ms"], rows)
    publish("agora", "Agora", about=about, shown=shown, figures=figures, targets=targets, out=arguments.out)


if __name__ == "__main__":
    main()
