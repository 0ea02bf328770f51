"""Where trials run: one after another in this process, or side by side on a Ray cluster.

Both give results as trials finish, each trial once. What a trial raises is its result and ends nothing. A trial is a
function of one item; the function is sent to each node once, the items one by one as there is room, so that an
iterable of items may stop when time runs out. Only the caller writes journals.

Where nodes do not see the caller's files, a trial gives what it would have written as bytes, and the caller writes it
(`Received`).
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from bort.errors import BortError

LOCAL = "local"
_RAY = "ray"
_LONGEST_MESSAGE = 300

TrialFiles = Literal["shared", "sent"]
WHERE_TRIALS_RUN = ("workers", "trial_cpus", "trial_gpus", "trial_memory_gb", "trial_retries", "trial_files")
"""Settings of commands that run trials; they say where that happens, not what it comes to."""


@dataclass(frozen=True)
class TrialResult:
    """What became of an item.

    Args:
        place: Of the item, from 0.
        value: What the function gave.
        error: What it raised instead; `TrialError` where that happened elsewhere, or where the worker was lost.
    """

    place: int
    value: Any = None
    error: Exception | None = None


class TrialError(RuntimeError):
    """A trial that another process could not finish."""


class Workers(Protocol):
    """Runs trials."""

    @property
    def sees_files(self) -> bool:
        """Whether a trial reads and writes the caller's files, under the same names."""

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[TrialResult]:
        """Call a function with each item, and give the results as they come, in whatever order.

        Args:
            function: May be called in another process; what it holds is sent there.
            items: Taken when there is room for one more.
        """


class InProcess:
    """One trial after another, each when its result is asked for."""

    sees_files = True

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[TrialResult]:
        """As of `Workers`."""
        for place, item in enumerate(items):
            try:
                value = function(item)
            except Exception as error:
                yield TrialResult(place, error=error)
            else:
                yield TrialResult(place, value)


class Received:
    """Workers whose values the caller first makes into something else: files of what came as bytes.

    Args:
        workers: They run the trials.
        receive: Called with each value as it comes, before the next trial begins in its place.
    """

    def __init__(self, workers: Workers, receive: Callable[[Any], Any]) -> None:
        self.workers, self.receive, self.sees_files = workers, receive, workers.sees_files

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[TrialResult]:
        """As of `Workers`."""
        for result in self.workers.map(function, items):
            yield result if result.error else replace(result, value=self.receive(result.value))


@dataclass(frozen=True)
class Needs:
    """What a trial on a cluster takes.

    Args:
        cpus: Cores.
        gpus: GPUs; a part of one, such as 0.5, lets trials share it.
        memory_gb: Gigabytes that the cluster counts as taken; None counts nothing.
        retries: How often a trial whose worker died is run again.
        files: `shared` where all nodes see the caller's files under the same names, `sent` where they do not.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory_gb: float | None = None
    retries: int = 2
    files: TrialFiles = "shared"

    @classmethod
    def of(cls, arguments: Any) -> Needs:
        """What the settings of a command say (`WHERE_TRIALS_RUN`)."""
        a = arguments
        return cls(a.trial_cpus, a.trial_gpus, a.trial_memory_gb, a.trial_retries, a.trial_files)


@dataclass
class _Trial:
    """One that is on its way."""

    place: int
    item: Any
    lost: int = 0


class OnRay:
    """Trials as tasks of a Ray cluster that this process has joined.

    Args:
        needs: Of each trial.
    """

    def __init__(self, needs: Needs) -> None:
        self.needs = needs

    @property
    def sees_files(self) -> bool:
        """As of `Workers`."""
        return self.needs.files == "shared"

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[TrialResult]:
        """As of `Workers`: a trial whose worker died is run again, a bounded number of times."""
        import ray

        # Ray's own retries count a worker that ran out of memory apart, and without bound.
        options = {"num_cpus": self.needs.cpus, "num_gpus": self.needs.gpus, "max_retries": 0}
        if self.needs.memory_gb is not None:
            options["memory"] = int(self.needs.memory_gb * 1e9)
        task = ray.remote(**options)(_run)
        sent = [ray.put(function)]
        left = (_Trial(place, item) for place, item in enumerate(items))
        running: dict[Any, _Trial] = {}

        def begin(trial: _Trial) -> None:
            running[task.remote(sent, trial.item, str(Path.cwd()))] = trial

        try:
            while True:
                while len(running) < self._room() and (trial := next(left, None)) is not None:
                    begin(trial)
                if not running:
                    return
                ready, _ = ray.wait(list(running), num_returns=1)
                trial = running.pop(ready[0])
                try:
                    value, error = ray.get(ready[0])
                except ray.exceptions.RayTaskError as error_there:  # before the trial began, or in sending its value
                    value, error = None, TrialError(f"could not be run on a node: {_last_line(error_there)}")
                except ray.exceptions.RayError as lost:
                    trial.lost += 1
                    if trial.lost <= self.needs.retries:
                        begin(trial)
                        continue
                    value, error = None, TrialError(f"its worker was lost {trial.lost} times: {_first_line(lost)}")
                yield TrialResult(trial.place, value, error)
        finally:
            for reference in running:
                with contextlib.suppress(Exception):
                    # Not by force: an answer that comes then would end this process (a failed check inside of Ray).
                    ray.cancel(reference)

    def _room(self) -> int:
        """Trials that the cluster can run at a time as it is now; at least one, which waits for a node to come."""
        import ray

        has = ray.cluster_resources()
        asked = {"CPU": self.needs.cpus, "GPU": self.needs.gpus, "memory": (self.needs.memory_gb or 0) * 1e9}
        room: int = math.floor(min(has.get(name, 0) / amount for name, amount in asked.items() if amount))
        return max(1, room)


def _run(sent: list[Any], item: Any, folder: str) -> tuple[Any, Exception | None]:
    """A trial on a node, in the folder of the driver, so that relative paths mean the same."""
    with contextlib.suppress(OSError):
        os.chdir(folder)
    try:
        return _fetched(sent[0])(item), None
    except (BortError, TrialError) as error:
        return None, error
    except Exception as error:  # its class may be unknown to the driver
        return None, TrialError(f"{type(error).__name__}: {error}"[:_LONGEST_MESSAGE])


@lru_cache(maxsize=1)
def _fetched(reference: Any) -> Any:
    """A function, fetched once a node and unpacked once a process, however many trials those run."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RaySystemError as error:
        raise TrialError(f"could not be loaded on a node: {_last_line(error)}") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:_LONGEST_MESSAGE]


def _last_line(error: Exception) -> str:
    """Where a message of Ray ends with a traceback: what was raised."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1][:_LONGEST_MESSAGE]


def check_workers(where: str, needs: Needs) -> None:
    """Refuse what is no place to run trials, and what no trial can need.

    Raises:
        BortError: The first rule that is broken.
    """
    if where not in (LOCAL, _RAY) and not re.fullmatch(r"ray://[^:/]+:\d+", where):
        raise BortError("must be local, ray, or ray://HOST:PORT", column="workers", value=where)
    rules = {
        "trial_cpus": (needs.cpus, math.isfinite(needs.cpus) and needs.cpus > 0, "must be above 0"),
        "trial_gpus": (needs.gpus, math.isfinite(needs.gpus) and needs.gpus >= 0, "must be at least 0"),
        "trial_memory_gb": (needs.memory_gb, needs.memory_gb is None or needs.memory_gb > 0, "must be above 0"),
        "trial_retries": (needs.retries, needs.retries >= 0, "must be at least 0"),
        "trial_files": (needs.files, needs.files in get_args(TrialFiles), "must be shared or sent"),
    }
    for name, (value, holds, rule) in rules.items():
        if not holds:
            raise BortError(rule, column=name, value=value)


@contextlib.contextmanager
def open_workers(where: str = LOCAL, needs: Needs | None = None) -> Iterator[Workers]:
    """Join what `--workers` names, and leave it in the end.

    Args:
        where: `local` is this process. `ray` is the cluster that RAY_ADDRESS names or that runs on this machine, or a
            new one on its cores; `ray://HOST:PORT` the one whose head listens there (6379 by default), of which this
            machine must be a part.
        needs: Of each trial, on a cluster.

    Raises:
        BortError: Another word, Ray is not installed, or the cluster cannot be joined.
    """
    needs = needs or Needs()
    check_workers(where, needs)
    if where == LOCAL:
        yield InProcess()
        return
    try:
        import ray
    except ImportError:
        raise BortError("needs ray: pip install 'bort[ray]'", column="workers", value=where) from None
    mine = not ray.is_initialized()
    if mine:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # a cluster that begins here reports to nobody
        try:
            ray.init(
                address=None if where == _RAY else where.removeprefix("ray://"),
                include_dashboard=False,
                log_to_driver=False,
                logging_level="WARNING",
            )
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            rule = f"the cluster cannot be joined: {_first_line(error)}"
            raise BortError(rule, column="workers", value=where) from None
    try:
        yield OnRay(needs)
    finally:
        if mine:
            ray.shutdown()
