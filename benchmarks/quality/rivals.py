"""Parts of the comparison of methods with few labels: a caching encoder, SetFit, latencies, differences."""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


def kept_embedding(model: str, file: Path) -> Any:
    """The teacher's encoder, which caches the vectors of earlier runs in a file."""
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


def setfit_accuracy(
    encoder: str, train: Sequence[Any], test: Sequence[Any], seed: int, pairs: int, *, teacher: str = "", pool: Any = ()
) -> float:
    """Accuracy of SetFit with its own defaults, except for the number of pairs it learns from; text pairs are joined.

    Args:
        encoder: Folder of the student.
        train: Labelled texts.
        test: Texts to score.
        seed: Seed of its sampling.
        pairs: Maximum number of pairs, in batches of 16.
        teacher: Folder of an encoder; its head is fitted to the labelled texts, and SetFit distils it.
        pool: Unlabelled texts for the distillation, in addition to the labelled ones.
    """
    import datasets
    from setfit import DistillationTrainer, SetFitModel, Trainer, TrainingArguments

    def opened(folder: str) -> Any:
        return SetFitModel.from_pretrained(folder, local_files_only=True)

    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        model = opened(encoder)
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
        texts, labels = joined(train), [example.label for example in train]
        if teacher:
            teaching = opened(teacher)
            teaching.model_head.fit(teaching.model_body.encode(texts, show_progress_bar=False), labels)
            rows = datasets.Dataset.from_dict({"text": [*texts, *joined(pool)]})
            with mended_pairs():
                DistillationTrainer(teaching, model, settings, train_dataset=rows).train()
        else:
            rows = datasets.Dataset.from_dict({"text": texts, "label": labels})
            Trainer(model=model, args=settings, train_dataset=rows).train()
        answers = model.predict(joined(test))
    return agreement(answers, test)


@contextlib.contextmanager
def mended_pairs() -> Iterator[None]:
    """Make SetFit distil the teacher's cosines.

    SetFit 1.2.0 builds its pairs before it numbers the texts, so every text counts as the first one, every pair has the
    cosine 1, and the student learns that all texts are the same.
    """
    from setfit import trainer_distillation as theirs

    class Pairs(theirs.ContrastiveDistillationDataset):  # type: ignore[misc]
        def generate_pairs(self) -> None:
            self.sentence_labels = [(text, number) for number, text in enumerate(self.sentences)]
            self.cos_sim_matrix = self.cos_sim_matrix.tolist()
            super().generate_pairs()

    known, theirs.ContrastiveDistillationDataset = theirs.ContrastiveDistillationDataset, Pairs
    try:
        yield
    finally:
        theirs.ContrastiveDistillationDataset = known


def static_accuracy(folder: str, train: Sequence[Any], test: Sequence[Any], seed: int) -> float:
    """A model2vec static model with its own library's classifier and defaults; text pairs are joined."""
    from model2vec import StaticModel
    from model2vec.train import StaticModelForClassification

    labels = [str(example.label) for example in train]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # no progress bars
        static = StaticModel.from_pretrained(folder)
        model = StaticModelForClassification.from_static_model(model=static, out_dim=len({*labels}))
        model.fit(joined(train), labels, random_seed=seed, device="cpu")
        return agreement(model.predict(joined(test)), test)


def joined(examples: Sequence[Any]) -> list[str]:
    """Each example as one text, for methods that do not read pairs."""
    return [e.text if e.text_b is None else f"{e.text} {e.text_b}" for e in examples]


def agreement(answers: Sequence[Any], test: Sequence[Any]) -> float:
    """Share of correct answers."""
    return statistics.mean(str(answer) == str(e.label) for answer, e in zip(answers, test, strict=True))


def latencies(students: Sequence[str], labelled: Path, texts: Sequence[str], rounds: int = 3) -> dict[str, float]:
    """Median milliseconds per text, one at a time, exported in fp32, two threads; models alternate at each text.

    Args:
        students: Encoders, which get a head with random weights.
        labelled: File of labelled texts, whose labels the head gets.
        texts: Texts to classify.
        rounds: Passes over the texts.
    """
    from bort.agora.run import finetune
    from bort.export.exporter import Exporter
    from bort.finetuning.arguments import FinetuneArguments
    from bort.predict.predictor import Predictor

    ask = {}
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        for student in students:
            name = Path(student).name
            out = Path(scratch) / name
            settings = {"max_steps": 1, "learning_rates": [1e-4], "refit": False, "keep_better": False}
            finetune(FinetuneArguments(train=str(labelled), model=student, out=str(out), method="plain", **settings))
            (out / "exported").mkdir()
            Exporter(str(out)).write(out / "exported", None)
            ask[name] = Predictor(str(out / "exported"), threads=2)
        seconds: dict[str, list[float]] = {name: [] for name in ask}
        for text in [*texts] * rounds:
            for name, predictor in ask.items():
                started = time.perf_counter()
                predictor.predict(text)
                seconds[name].append(time.perf_counter() - started)
    return {name: 1000 * statistics.median(times) for name, times in seconds.items()}


Scores = dict[str, list[float | None]]
"""The scores of a method by task, each by the seed's place; None, or nothing at the end, where it was not measured."""


def measured(values: Sequence[float | None]) -> list[float]:
    """The scores of the seeds that were measured."""
    return [value for value in values if value is not None]


def percent(values: Sequence[float | None]) -> str:
    return f"{100 * statistics.mean(measured(values)):.1f}"


def overall(by_task: Scores) -> float:
    """Mean of the tasks' means, in %."""
    return 100 * statistics.mean(statistics.mean(measured(values)) for values in by_task.values())


def seeds_of(by_task: Scores) -> int:
    """Number of seeds that every task was measured with."""
    return min(len(measured(values)) for values in by_task.values())


def seeds_told(counts: dict[str, int]) -> str:
    """What a table's figures are means of, from the number of seeds of each row.

    Example:
        >>> seeds_told({"a": 3, "b": 1, "c": 3, "d": 1})
        'Means of 3 seeds; one seed: b, d'
    """
    most = max(counts.values(), default=1)
    if most == 1:
        return "One seed"
    fewer: dict[int, list[str]] = {}
    for name, count in counts.items():
        fewer.setdefault(count, []).append(name.replace(",", ""))
    told = [f"Means of {most} seeds"]
    for count in sorted(fewer.keys() - {most}):
        told.append(f"{'one seed' if count == 1 else f'{count} seeds'}: {', '.join(fewer[count])}")
    return "; ".join(told)


def paired(a: Scores, b: Scores) -> dict[str, list[float]]:
    """Points by which `a` is better than `b`, by task and seed; seeds that only one was measured with are left out."""
    return {
        task: [100 * (x - y) for x, y in zip(a[task], b[task], strict=False) if x is not None and y is not None]
        for task in a
    }


def difference(a: Scores, b: Scores) -> tuple[float, float | None]:
    """Points by which `a` is better than `b`, and their standard error over seeds if every task has several.

    All tasks have the same weight. The error is that of the mean over these very tasks: how much tasks differ from each
    other is no part of it.
    """
    points = paired(a, b)
    mean = statistics.mean(map(statistics.mean, points.values()))
    if min(map(len, points.values())) < 2:
        return mean, None
    return mean, sum(statistics.variance(each) / len(each) for each in points.values()) ** 0.5 / len(points)
