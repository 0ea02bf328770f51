"""Label sources into one output, or file by file into a folder, here, in processes or on a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from bort.errors import BortError
from bort.files import FolderLock, check_apart, is_address
from bort.predict.bulk.blocks import Block, Source, errors_path
from bort.predict.bulk.files import FileTask, OpenModel, file_tasks, is_hub, label_file, settings_of
from bort.predict.bulk.labelling import AnswerBlocks, LabelJob, LabelledRows, check_answer, label_rows
from bort.predict.bulk.ledger import LEDGER, Ledger
from bort.predict.bulk.on_ray import label_on_ray
from bort.predict.bulk.places import as_file, is_there, state_of, written_to
from bort.predict.bulk.processes import WorkerProcesses
from bort.predict.fingerprint import fingerprint_of_model
from bort.predict.predictor import Predictor
from bort.progress import Bar
from bort.workers import LOCAL, Needs

_MOST_ERRORS = 5


@dataclass(frozen=True)
class Placement:
    """Where labels are computed.

    Attributes:
        workers: `local` for this process, a number of processes, `ray`, or HOST:PORT of a cluster.
        keep_order: Whether rows, or files on a cluster, come in order, or as they are ready.
        retries: How often a cluster retries a file whose worker died.
    """

    workers: str = LOCAL
    keep_order: bool = True
    retries: int = 2

    @property
    def processes(self) -> int:
        """Number of worker processes on this machine; 0 for this process or a cluster."""
        return int(self.workers) if self.workers.isdecimal() else 0

    @property
    def is_cluster(self) -> bool:
        """Whether labels are computed on a cluster."""
        return self.workers != LOCAL and not self.processes


def label_into_one(
    job: LabelJob,
    model: OpenModel,
    place: Placement,
    sources: Sequence[str | IO[bytes]],
    output: str,
    *,
    errors: str | None,
    shown: Bar | None,
) -> tuple[LabelledRows, Predictor]:
    """Label sources into one output, in order.

    Args:
        job: Settings of the job.
        model: The model to open.
        place: Where to compute; not a cluster.
        sources: Paths, addresses, hub names, or open streams.
        output: A file, an address, or - for standard output.
        errors: See `label_rows`.
        shown: Progress bar of the rows done.

    Returns:
        The counts of the rows, and a predictor.

    Raises:
        BortError: See `label_rows`.
    """
    predictor = model.open()
    with contextlib.ExitStack() as stack:
        answers = None
        if place.processes:
            pool = stack.enter_context(WorkerProcesses(model, place.processes, keep_order=place.keep_order))
            answers = pool.answering(predictor)
        beside = errors_path(output, job.on_error, None) if errors is None else None
        path = stack.enter_context(written_to(output, beside=beside))
        done = label_rows(
            job, predictor, _opened(sources), path, errors=errors, answers=answers, on_block=_tells(shown)
        )
    return done, predictor


def label_into_folder(
    job: LabelJob,
    model: OpenModel,
    place: Placement,
    sources: Sequence[str],
    folder: str,
    *,
    asked_format: str,
    resume: bool,
    shown: Bar | None,
) -> tuple[LabelledRows, Predictor]:
    """Label each file into a file of a folder, and keep a ledger of finished files.

    Args:
        job: Settings of the job.
        model: The model to open.
        place: Where to compute.
        sources: Paths, addresses, hub names.
        folder: Output folder, a path or an address.
        asked_format: Output format, or `auto`.
        resume: Whether finished files are kept and skipped.
        shown: Progress bar of the files done.

    Returns:
        The counts of all rows, including those of earlier runs, and a predictor.

    Raises:
        BortError: A file is invalid, after files before it were finished; another process labels into the folder; or
            with `resume`, a file's output is another than before, or has the labels of another file.
    """
    tasks = file_tasks(sources, folder, asked_format)
    states = {task.source: [] if is_hub(task.source) else state_of(task.source) for task in tasks}
    made_by = {"model": model.model, "model_files": fingerprint_of_model(model.model), **settings_of(job, model)}
    beside = {task: errors_path(task.output, job.on_error, None) for task in tasks}
    check_apart((("output", path) for path in beside.values()), sources)
    lock = _locked(folder)
    ledger: Ledger | None = None
    try:
        ledger = Ledger(folder, made_by, resume=resume)
        ledger.check_outputs({task.source: task.output for task in tasks})
        there = {task: is_there(task.output) for task in tasks}
        known = {task: ledger.done(task.source, states[task.source]) if there[task] else None for task in tasks}
        left = [task for task in tasks if known[task] is None]
        for task in left:
            _check_own(ledger, task, there[task], beside[task])
        whole = LabelledRows(0)
        for earlier in filter(None, known.values()):
            whole = _sum(whole, LabelledRows(*earlier))
        predictor = replace(model, threads=1).open() if place.workers != LOCAL else model.open()
        for task in left:
            check_answer(job, predictor.task, task.output_format)
        ledger.begin([task.output for task in left])
        finished = len(tasks) - len(left)
        for task, done in _labelled(job, model, predictor, place, left, shown if len(tasks) == 1 else None):
            ledger.add(task.source, task.output, states[task.source], done.rows, done.skipped)
            whole = _sum(whole, done)
            finished += 1
            if shown is not None:
                shown.update(finished, f"{finished:,} of {len(tasks):,} files, {whole.rows:,} rows")
    finally:
        if ledger is not None:
            ledger.close()
        del lock  # releases it, even if a traceback keeps this frame alive
    predictor.cut, predictor.unlike_training = whole.cut, whole.unlike_training
    return whole, predictor


def _check_own(ledger: Ledger, task: FileTask, is_output_there: bool, beside: str | None) -> None:
    """Refuse to replace a file that the folder's ledger does not know.

    Raises:
        BortError: The output, or the file of its rows that cannot be read, is one.
    """
    if not ledger.owns(task.source, task.output):
        for path, there in ((task.output, is_output_there), (beside, beside is not None and is_there(beside))):
            if there:
                rule = f"already exists, and {LEDGER} does not list it; move it away, or name another --output"
                raise BortError(rule, file=path)


def _labelled(
    job: LabelJob,
    model: OpenModel,
    predictor: Predictor,
    place: Placement,
    tasks: Sequence[FileTask],
    shown: Bar | None,
) -> Iterator[tuple[FileTask, LabelledRows]]:
    if not tasks:
        return
    if place.is_cluster:
        needs = Needs(cpus=model.threads or 1, retries=place.retries)
        yield from label_on_ray(place.workers, model, job, tasks, needs, keep_order=place.keep_order)
        return
    with contextlib.ExitStack() as stack:
        answers: AnswerBlocks | None = None
        if place.processes:
            pool = stack.enter_context(WorkerProcesses(model, place.processes, keep_order=place.keep_order))
            if len(tasks) >= place.processes:
                yield from pool.label_files(job, tasks)
                return
            answers = pool.answering(predictor)  # fewer files than processes: all processes share the rows of each
        for task in tasks:
            yield task, label_file(job, predictor, task, answers=answers, on_block=_tells(shown))


def _opened(sources: Sequence[str | IO[bytes]]) -> Iterator[Source]:
    """Open sources in order; a downloaded file is deleted before the next download."""
    for source in sources:
        if isinstance(source, str):
            with as_file(source) as path:
                yield path, source
        else:
            yield source, None


def _locked(folder: str) -> FolderLock | None:
    """Lock a folder against other processes on this machine.

    Raises:
        BortError: Another process holds the lock.
    """
    if is_address(folder):
        return None
    Path(folder).mkdir(parents=True, exist_ok=True)
    try:
        return FolderLock(Path(folder))
    except BlockingIOError:
        raise BortError("another process labels files into it", file=folder) from None


def _tells(shown: Bar | None) -> Callable[[Block, int], None] | None:
    return None if shown is None else lambda _, rows: shown.update(rows, f"{rows:,} rows")


def _sum(one: LabelledRows, other: LabelledRows) -> LabelledRows:
    return LabelledRows(
        one.rows + other.rows,
        one.skipped + other.skipped,
        one.unread + other.unread,
        (*one.first_errors, *other.first_errors)[:_MOST_ERRORS],
        cut=one.cut + other.cut,
        unlike_training=one.unlike_training + other.unlike_training,
    )
