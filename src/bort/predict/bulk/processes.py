"""Processes of one machine, each with a session of its own: they answer blocks of rows, or label whole files."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.predict.bulk.blocks import Block, examples_of
from bort.predict.bulk.files import FileTask, OpenModel, label_file
from bort.predict.bulk.labelling import AnswerBlocks, Answered, LabelJob, LabelledRows
from bort.predict.predictor import Prediction, Predictor

_AHEAD = 2
"""Blocks that wait for each process, so that none is idle while rows are read and written."""
_predictor: Predictor | None = None
"""Of a worker process."""


class WorkerProcesses:
    """Processes that hold a model; they end with the block.

    They are spawned: a script that uses them from Python does so under `if __name__ == "__main__":`.

    Args:
        model: What each opens.
        count: How many.
        keep_order: Whether answers come in the order of the blocks, or as they are ready.

    Raises:
        BortError: While they work: one was killed.
    """

    def __init__(self, model: OpenModel, count: int, *, keep_order: bool = True) -> None:
        self.count, self._keep_order = count, keep_order
        spawned = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(count, spawned, initializer=_open, initargs=(model,))

    def __enter__(self) -> WorkerProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def answering(self, predictor: Predictor) -> AnswerBlocks:
        """What answers blocks in these processes, as `label_rows` takes it.

        Args:
            predictor: Counts what they tell of inputs.
        """

        def answered(blocks: Iterator[Block]) -> Answered:
            given = ((block, self._pool.submit(_answer, examples_of(block))) for block in blocks)
            for block, (answers, cut, unlike) in self._as_ready(given, _AHEAD * self.count):
                predictor.cut += cut
                predictor.unlike_training += unlike
                yield block, answers

        return answered

    def label_files(self, job: LabelJob, tasks: Iterable[FileTask]) -> Iterator[tuple[FileTask, LabelledRows]]:
        """Label files, each in one process, and tell of each when it is done."""
        given = ((task, self._pool.submit(_label, job, task)) for task in tasks)
        yield from self._as_ready(given, _AHEAD * self.count, keep_order=False)

    def _as_ready(
        self, given: Iterator[tuple[Any, Future[Any]]], most: int, *, keep_order: bool | None = None
    ) -> Iterator[tuple[Any, Any]]:
        """Results of what is given to the pool, of which no more than `most` are under way."""
        in_order = self._keep_order if keep_order is None else keep_order
        waiting: deque[tuple[Any, Future[Any]]] = deque()
        with _told():
            more = True
            while more or waiting:
                while more and len(waiting) < most:
                    following = next(given, None)
                    more = following is not None
                    if following is not None:
                        waiting.append(following)
                if waiting and not in_order:
                    wait([future for _, future in waiting], return_when=FIRST_COMPLETED)
                    ready = next(place for place, (_, future) in enumerate(waiting) if future.done())
                    waiting.rotate(-ready)
                if waiting:
                    item, future = waiting.popleft()
                    yield item, future.result()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        rule = "a worker process was killed (is there enough memory for so many?), or could not begin"
        raise BortError(rule, setting="workers") from None


def _open(model: OpenModel) -> None:
    global _predictor
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that leads
    _predictor = model.open()


def _answer(examples: Sequence[Example]) -> tuple[list[Prediction], int, int]:
    assert _predictor is not None
    cut, unlike = _predictor.cut, _predictor.unlike_training
    answers = list(_predictor.stream(examples, window=max(1, len(examples))))
    return answers, _predictor.cut - cut, _predictor.unlike_training - unlike


def _label(job: LabelJob, task: FileTask) -> LabelledRows:
    assert _predictor is not None
    return label_file(job, _predictor, task)
