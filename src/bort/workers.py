"""Where trials run: sequentially in this process, or in parallel on a Ray cluster.

Both yield results as trials finish, each trial once. If a trial raises, the exception is its result, and the others
continue. A trial is a function of one item. The function is sent to each node once, the items one by one as there is
room, so an iterable of items may stop when time runs out. Only the caller writes journals.

If nodes do not see the caller's files, a trial returns what it would have written as bytes, and the caller writes it
(`Received`).
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

from bort.bounds import NonNegativeFloat, NonNegativeInt, PositiveFloat, validate
from bort.errors import BortError, lines_of
from bort.progress import say

LOCAL = "local"
_RAY = "ray"
_LONGEST_MESSAGE = 300

TrialFiles = Literal["shared", "sent"]
WHERE_TRIALS_RUN = ("workers", "trial_cpus", "trial_gpus", "trial_memory_gb", "trial_retries", "trial_files")
"""Settings of commands that run trials; they say where trials run and do not change the results."""


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial.

    Args:
        place: Index of the item, from 0.
        value: What the function returned.
        error: What it raised instead; `TrialError` if another process raised it, or if the worker was lost.
    """

    place: int
    value: Any = None
    error: Exception | None = None


class TrialError(RuntimeError):
    """A trial that another process could not finish."""


def raised(error: BaseException) -> str:
    """Name of the class of the exception that a trial raised, wherever it ran."""
    there = error.__cause__ if isinstance(error, TrialError) and error.__cause__ else error
    return type(getattr(there, "cause", None) or there).__name__


class Workers(Protocol):
    """Runs trials."""

    @property
    def sees_files(self) -> bool:
        """Whether a trial reads and writes the caller's files, under the same names."""

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[TrialResult]:
        """Call a function with each item, and yield the results as they come, in any order.

        Args:
            function: May be called in another process; everything that it holds is sent there.
            items: Each is taken when there is room for one more.
        """


def _free(error: BaseException | None) -> None:
    """Let go of what failed functions hold, such as a model on a GPU: the caller may keep the exception."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


class InProcess:
    """Runs trials sequentially, each when its result is requested."""

    sees_files = True

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[TrialResult]:
        """See `Workers.map`."""
        for place, item in enumerate(items):
            try:
                value = function(item)
            except Exception as error:
                _free(error)
                yield TrialResult(place, error=error)
            else:
                yield TrialResult(place, value)


class Received:
    """Workers whose values the caller first converts, for example bytes into files.

    Args:
        workers: Run the trials.
        receive: Called with each value as it comes, before the next trial starts in its place.
    """

    def __init__(self, workers: Workers, receive: Callable[[Any], Any]) -> None:
        self.workers, self.receive, self.sees_files = workers, receive, workers.sees_files

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[TrialResult]:
        """See `Workers.map`."""
        for result in self.workers.map(function, items):
            yield result if result.error else replace(result, value=self.receive(result.value))


@dataclass(frozen=True)
class Needs:
    """The resources that a trial on a cluster needs.

    Args:
        cpus: CPU cores.
        gpus: GPUs; a fraction, such as 0.5, lets trials share one.
        memory_gb: Gigabytes that the cluster reserves; None reserves nothing.
        retries: How often a trial whose worker died is retried.
        files: `shared` if all nodes see the caller's files under the same names, `sent` if they do not.
    """

    cpus: PositiveFloat = 1.0
    gpus: NonNegativeFloat = 0.0
    memory_gb: PositiveFloat | None = None
    retries: NonNegativeInt = 2
    files: TrialFiles = "shared"

    @classmethod
    def of(cls, arguments: Any) -> Needs:
        """From the settings of a command (`WHERE_TRIALS_RUN`)."""
        a = arguments
        return cls(a.trial_cpus, a.trial_gpus, a.trial_memory_gb, a.trial_retries, a.trial_files)

    @property
    def asked(self) -> dict[str, float]:
        """Amounts above 0, by Ray's resource names; memory in bytes."""
        amounts = {"CPU": self.cpus, "GPU": self.gpus, "memory": (self.memory_gb or 0) * 1e9}
        return {name: amount for name, amount in amounts.items() if amount}

    def fit_in(self, resources: Mapping[str, float]) -> int:
        """How many such trials run in parallel on one node with these resources."""
        return math.floor(min(resources.get(name, 0) / amount for name, amount in self.asked.items()))


class OnRay:
    """Runs trials as tasks of a Ray cluster that this process has joined.

    Args:
        needs: Resources of each trial.
    """

    def __init__(self, needs: Needs) -> None:
        self.needs = needs

    @property
    def sees_files(self) -> bool:
        """See `Workers.sees_files`."""
        return self.needs.files == "shared"

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[TrialResult]:
        """See `Workers.map`. If the worker of a trial dies, Ray retries the trial, a limited number of times."""
        import ray

        options = {"num_cpus": self.needs.cpus, "num_gpus": self.needs.gpus, "max_retries": self.needs.retries}
        if "memory" in self.needs.asked:
            options["memory"] = int(self.needs.asked["memory"])
        task = ray.remote(**options)(_run)
        sent = [ray.put(function)]
        left = enumerate(items)
        running: dict[Any, int] = {}
        try:
            while True:
                while len(running) < self._room() and (following := next(left, None)) is not None:
                    place, item = following
                    running[task.remote(sent, item, str(Path.cwd()))] = place
                if not running:
                    return
                ready, _ = ray.wait(list(running), num_returns=1)
                yield self._result(running.pop(ready[0]), ready[0])
        finally:
            for reference in running:
                with contextlib.suppress(Exception):
                    # Not by force: a result that arrives later would fail a check in Ray and end this process.
                    ray.cancel(reference)

    def _result(self, place: int, reference: Any) -> TrialResult:
        import ray

        try:
            return TrialResult(place, *ray.get(reference))
        except ray.exceptions.RayTaskError as there:
            if isinstance(there.cause, BortError):
                return TrialResult(place, error=there.cause)
            # The class of the exception may be unknown here; Ray's error has the node's traceback.
            error, cause = TrialError(_line(there, -1)), there
        except ray.exceptions.RayError as lost:
            again = f"{self.needs.retries} retr{'y' if self.needs.retries == 1 else 'ies'}"
            error, cause = TrialError(f"its worker was lost, after {again}: {_line(lost, 0)}"), lost
        error.__cause__ = cause
        return TrialResult(place, error=error)

    def _room(self) -> int:
        """How many trials the cluster can run at a time now; at least one, which waits until a node joins."""
        return max(1, sum(map(self.needs.fit_in, _nodes())))


def _nodes() -> list[dict[str, float]]:
    """The resources of each node of the cluster."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _run(sent: list[Any], item: Any, folder: str) -> tuple[Any]:
    """Run a trial on a node, in the working directory of the driver, so that relative paths mean the same.

    Ray's `working_dir` would copy that directory to each node, including the corpus and the checkpoints, and trials
    would write into the copy.
    """
    with contextlib.suppress(OSError):
        os.chdir(folder)
    return (_fetched(sent[0])(item),)  # wrapped, because Ray would exhaust a bare generator


@lru_cache(maxsize=1)
def _fetched(reference: Any) -> Any:
    """The function, fetched once per node and unpickled once per process, for any number of trials."""
    import ray

    return ray.get(reference)


def _line(error: Exception, place: int) -> str:
    """A line of an error message: the first, or the last, which names the exception if the message is a traceback."""
    return lines_of(error)[place][:_LONGEST_MESSAGE]


def check_workers(where: str, needs: Needs, *, other: str = "") -> None:
    """Check where trials should run and what they need.

    Args:
        where: Value of `--workers`.
        needs: Resources of each trial.
        other: What else the command takes, in words for messages.

    Raises:
        BortError: The first rule that is broken.
    """
    if where.startswith("ray://"):
        rule = "ray:// is Ray Client's, which is not supported; give HOST:PORT, as `ray start` prints it"
        raise BortError(rule, setting="workers", value=where)
    if where not in (LOCAL, _RAY) and not re.fullmatch(r"[^:/]+:\d+", where):
        rule = f"must be {', '.join(filter(None, [other, LOCAL, _RAY]))}, or HOST:PORT"
        raise BortError(rule, setting="workers", value=where)
    validate(needs, prefix="trial_")


@contextlib.contextmanager
def open_workers(where: str = LOCAL, needs: Needs | None = None) -> Iterator[Workers]:
    """Join what `--workers` names, and leave it at the end.

    Args:
        where: `local` is this process. `ray` is the cluster that RAY_ADDRESS names or that runs on this machine, or a
            new one on its cores. `HOST:PORT` is the cluster whose head listens there; this machine must be part of it.
        needs: Resources of each trial, on a cluster.

    Raises:
        BortError: `where` is anything else, Ray is not installed, the cluster cannot be joined, or a cluster that was
            started here can never fit a trial.
    """
    needs = needs or Needs()
    check_workers(where, needs)
    if where == LOCAL:
        yield InProcess()
        return
    os.environ.setdefault("RAY_task_oom_retries", str(needs.retries))  # unlimited by default
    try:
        import ray
    except ImportError:
        raise BortError("needs ray: pip install 'bort[ray]'", setting="workers", value=where) from None
    joined = ray.is_initialized()
    try:
        with _same_end():
            alone = not joined and _join(where)
        _check_room(needs, alone)
        yield OnRay(needs)
    finally:
        if not joined:
            ray.shutdown()


@contextlib.contextmanager
def _same_end() -> Iterator[None]:
    """Keep this process's own reaction to SIGTERM, if it has one; `ray.init` sets another, which tells of a crash."""
    own = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(own):
            with contextlib.suppress(ValueError):  # not the main thread
                signal.signal(signal.SIGTERM, own)


def _join(where: str) -> bool:
    """Join a cluster; returns whether it was started here and consists of this machine alone."""
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # a cluster that is started here sends no usage reports
    settings = {"include_dashboard": False, "log_to_driver": False, "logging_level": "WARNING"}
    try:
        if where != _RAY:
            ray.init(address=where, **settings)
            return False
        try:
            ray.init(address="auto", **settings)
            return False
        except ConnectionError:
            if os.environ.get("RAY_ADDRESS", LOCAL) != LOCAL:
                raise
            ray.init(address=LOCAL, **settings)
            return True
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        rule = f"the cluster cannot be joined: {_line(error, 0)}"
        raise BortError(rule, setting="workers", value=where) from None


def _check_room(needs: Needs, alone: bool) -> None:
    """Refuse needs that a cluster of this machine alone can never meet; on another cluster, say that the run waits."""
    nodes = _nodes()
    if any(map(needs.fit_in, nodes)):
        return
    columns = {"CPU": "trial_cpus", "GPU": "trial_gpus", "memory": "trial_memory_gb"}
    most = {name: max((node.get(name, 0) for node in nodes), default=0) for name in needs.asked}
    scarce = next((name for name, amount in needs.asked.items() if amount > most[name]), next(iter(needs.asked)))
    unit = 1e9 if scarce == "memory" else 1
    has, asked = most[scarce] / unit, needs.asked[scarce] / unit
    if alone:
        rule = f"is more than this machine has for trials, {has:.4g}"
        raise BortError(rule, column=columns[scarce], value=asked)
    say(
        f"no node of the cluster has room for a trial (--{columns[scarce]} {asked:g}, the most of one node is "
        f"{has:.4g}); waiting for one that has"
    )
