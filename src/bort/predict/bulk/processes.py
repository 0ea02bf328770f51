"""Worker processes on one machine, each with its own model: they predict blocks of rows, or label whole files."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from bort.child_processes import follow_parent, without_ctrl_c
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.predict.bulk.blocks import Block, examples_of
from bort.predict.bulk.files import FileTask, OpenModel, label_file
from bort.predict.bulk.labelling import AnswerBlocks, Answered, LabelJob, LabelledRows
from bort.predict.predictor import Prediction, Predictor

_AHEAD = 2
"""Blocks queued per process, so that none is idle while rows are read and written."""
_predictor: Predictor | None = None
"""In a worker process."""


class WorkerProcesses:
    """A pool of processes that each hold a model; it ends with the `with` block, or when this process is killed.

    If the block raises, what is in progress is given up.

    They are spawned, so a script must use them under `if __name__ == "__main__":`.

    Args:
        model: The model that each process opens.
        count: Number of processes.
        keep_order: Whether answers come in the order of the blocks, or as they are ready.

    Raises:
        BortError: A process was killed or could not start; raised while iterating over results.
    """

    def __init__(self, model: OpenModel, count: int, *, keep_order: bool = True) -> None:
        self.count, self._keep_order = count, keep_order
        spawned = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(count, spawned, initializer=_open, initargs=(model,))

    def __enter__(self) -> WorkerProcesses:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for process in list(self._pool._processes.values()):
                process.terminate()
            # A process may have ended within a result: then there is an end to read, instead of an endless wait.
            self._pool._result_queue._writer.close()  # type: ignore[attr-defined]
        self._pool.shutdown(cancel_futures=True)

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        with without_ctrl_c():
            return self._pool.submit(function, *arguments)

    def answering(self, predictor: Predictor) -> AnswerBlocks:
        """Return a function that predicts blocks in these processes, for `label_rows`.

        Args:
            predictor: Its counts of cut and unlike inputs are updated.
        """

        def answered(blocks: Iterator[Block]) -> Answered:
            given = ((block, self._submit(_answer, examples_of(block))) for block in blocks)
            for block, (answers, cut, unlike) in self._as_ready(given, _AHEAD * self.count):
                predictor.cut += cut
                predictor.unlike_training += unlike
                yield block, answers

        return answered

    def label_files(self, job: LabelJob, tasks: Iterable[FileTask]) -> Iterator[tuple[FileTask, LabelledRows]]:
        """Label files, each in one process, and yield each when it is done."""
        given = ((task, self._submit(_label, job, task)) for task in tasks)
        yield from self._as_ready(given, _AHEAD * self.count, keep_order=False)

    def _as_ready(
        self, given: Iterator[tuple[Any, Future[Any]]], most: int, *, keep_order: bool | None = None
    ) -> Iterator[tuple[Any, Any]]:
        """Yield items with their results; at most `most` are in progress at a time."""
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
    follow_parent()
    _predictor = model.open()


def _answer(examples: Sequence[Example]) -> tuple[list[Prediction], int, int]:
    assert _predictor is not None
    cut, unlike = _predictor.cut, _predictor.unlike_training
    answers = list(_predictor.stream(examples, window=max(1, len(examples))))
    return answers, _predictor.cut - cut, _predictor.unlike_training - unlike


def _label(job: LabelJob, task: FileTask) -> LabelledRows:
    assert _predictor is not None
    try:
        signal.signal(signal.SIGTERM, _give_up)
        try:
            return label_file(job, _predictor, task)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    except SystemExit:
        os._exit(1)  # the pool would take it for a result, and go on with the next file


def _give_up(number: int, _: object) -> None:
    """Leave what a file's labelling has begun, so that its temporary files are removed."""
    signal.signal(number, signal.SIG_IGN)  # the pool may send another one meanwhile
    sys.exit(1)
