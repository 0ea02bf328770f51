"""Files labelled on a Ray cluster, by Ray Data: a worker holds one session, and a file is one worker's."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

from bort.errors import BortError
from bort.predict.bulk.files import FileTask, OpenModel, label_file
from bort.predict.bulk.labelling import LabelJob, LabelledRows
from bort.predict.predictor import Predictor
from bort.workers import Needs, open_workers

_PLACE, _RESULT = "place", "result"


class FileLabeller:
    """A worker of the cluster, as `map_batches` takes it: made once, called with one file after another.

    Args:
        model: What it opens.
        job: What is done.
        tasks: All files, by their place.
    """

    def __init__(self, model: OpenModel, job: LabelJob, tasks: Sequence[FileTask]) -> None:
        self._predictor: Predictor = model.open()
        self._job, self._tasks = job, tasks

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Label the files whose places are given. What is wrong with one is its result, and ends no worker."""
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
    """Label files on a cluster, and tell of each when it is done.

    Ray Data starts as many workers as there is room and work for. It begins a file anew whose worker died, on another;
    as a file appears when it is whole, nothing is there twice.

    Args:
        where: `ray` or HOST:PORT, as of `open_workers`.
        model: Seen by every node, as all files are.
        job: What is done.
        tasks: The files.
        needs: Of each worker.
        keep_order: Whether files are told of in their order.

    Raises:
        BortError: A file breaks a rule, or the cluster cannot be joined.
    """
    with open_workers(where, needs):
        os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")  # its steps are not the user's
        import ray.data

        places = ray.data.from_items([{_PLACE: place} for place in range(len(tasks))], override_num_blocks=len(tasks))
        done = places.map_batches(
            FileLabeller,
            fn_constructor_args=(model, job, tasks),
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
