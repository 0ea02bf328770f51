"""Label files on a Ray cluster with Ray Data: each worker loads the model once, and labels whole files."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bort.errors import BortError
from bort.files import is_address
from bort.predict.bulk.files import FileTask, OpenModel, label_file
from bort.predict.bulk.labelling import LabelJob, LabelledRows
from bort.predict.predictor import Predictor
from bort.workers import Needs, open_workers

_PLACE, _RESULT = "place", "result"


class FileLabeller:
    """A worker for `map_batches`: created once, and called with one file at a time.

    Args:
        model: The model to open.
        job: Settings of the job.
        tasks: All files; a batch has indices into them.
    """

    def __init__(self, model: OpenModel, job: LabelJob, tasks: Sequence[FileTask]) -> None:
        self._predictor: Predictor = model.open()
        self._job, self._tasks = job, tasks

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Label the files at the given indices. A file's error is returned as its result, and ends no worker."""
        results: list[bytes] = []
        for place in batch[_PLACE]:
            result: LabelledRows | BortError
            try:
                result = label_file(self._job, self._predictor, self._tasks[int(place)])
            except BortError as error:
                result = error
            results.append(pickle.dumps(result))
        return {_PLACE: batch[_PLACE], _RESULT: results}


def label_on_ray(
    where: str, model: OpenModel, job: LabelJob, tasks: Sequence[FileTask], needs: Needs, *, keep_order: bool
) -> Iterator[tuple[FileTask, LabelledRows]]:
    """Label files on a cluster, and yield each when it is done.

    Ray Data starts as many workers as there is room and work for. If a worker dies, another one starts its file again;
    as a file appears only when it is complete, no row is written twice.

    Args:
        where: `ray` or HOST:PORT, as in `open_workers`.
        model: The model to open; every node must see it, like all files.
        job: Settings of the job.
        tasks: The files.
        needs: Resources of each worker.
        keep_order: Whether to yield files in the order of `tasks`.

    Raises:
        BortError: A file is invalid, or the cluster cannot be joined.
    """
    with open_workers(where, needs):
        os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")  # the user need not see its steps
        import ray.data

        model, sent = _absolute(model, tasks)
        places = ray.data.from_items([{_PLACE: place} for place in range(len(tasks))], override_num_blocks=len(tasks))
        done = places.map_batches(
            FileLabeller,
            fn_constructor_args=(model, job, sent),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=len(tasks)),
            num_cpus=needs.cpus,
            max_task_retries=needs.retries,
        )
        done.context.enable_progress_bars = False
        done.context.print_on_execution_start = False
        done.context.execution_options.preserve_order = keep_order
        for row in done.iter_rows():
            result = pickle.loads(row[_RESULT])
            if isinstance(result, BortError):
                raise result
            yield tasks[row[_PLACE]], result


def _absolute(model: OpenModel, tasks: Sequence[FileTask]) -> tuple[OpenModel, list[FileTask]]:
    """The same with absolute paths, as a worker has another working folder. Sources have them already."""
    if Path(model.model).exists():  # otherwise it is a name
        model = replace(model, model=str(Path(model.model).absolute()))
    outputs = [task.output if is_address(task.output) else str(Path(task.output).absolute()) for task in tasks]
    return model, [replace(task, output=output) for task, output in zip(tasks, outputs, strict=True)]
