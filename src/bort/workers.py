"""Where trials run: one after another in this process, or side by side on a Ray cluster.

Both give results as trials finish, each trial once. What a trial raises is its result and ends nothing. A trial is a
function of one item; the function is sent to each node once, the items one by one as there is room, so that an
iterable of items may stop when time runs out. Only the caller writes journals.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bort.errors import BortError

LOCAL = "local"
_RAY = "ray"


@dataclass(frozen=True)
class Result:
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

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Result]:
        """Call a function with each item, and give the results as they come, in whatever order.

        Args:
            function: May be called in another process; what it holds is sent there.
            items: Taken when there is room for one more.
        """


class InProcess:
    """One trial after another, each when its result is asked for."""

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Result]:
        """As of `Workers`."""
        for place, item in enumerate(items):
            try:
                value = function(item)
            except Exception as error:
                yield Result(place, error=error)
            else:
                yield Result(place, value)


@dataclass(frozen=True)
class Needs:
    """What a trial on a cluster takes.

    Args:
        cpus: Cores.
        gpus: GPUs; a part of one, such as 0.5, lets trials share it.
        memory_gb: Gigabytes that the cluster counts as taken; None counts nothing.
        retries: How often a trial whose worker died is run again.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory_gb: float | None = None
    retries: int = 2


class OnRay:
    """Trials as tasks of a Ray cluster that this process has joined.

    Args:
        needs: Of each trial.
    """

    def __init__(self, needs: Needs) -> None:
        self.needs = needs

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Result]:
        """As of `Workers`: a worker that is killed is replaced, and its trial runs again a bounded number of times."""
        import ray

        needs = self.needs
        memory = None if needs.memory_gb is None else int(needs.memory_gb * 1e9)
        task = ray.remote(
            num_cpus=needs.cpus, num_gpus=needs.gpus, memory=memory, max_retries=needs.retries, retry_exceptions=False
        )(_run)
        sent = ray.put(function)  # nodes fetch it once
        left, places = enumerate(items), dict[Any, int]()
        try:
            while True:
                while len(places) < self._room():
                    try:
                        place, item = next(left)
                    except StopIteration:
                        break
                    places[task.remote(sent, item, str(Path.cwd()))] = place
                if not places:
                    return
                ready, _ = ray.wait(list(places), num_returns=1)
                place = places.pop(ready[0])
                try:
                    value, error = ray.get(ready[0])
                except ray.exceptions.RayTaskError as error_there:  # before the function could be called
                    told = str(error_there).strip().splitlines()[-1]
                    value, error = None, TrialError(f"could not be run on a node: {told}")
                except ray.exceptions.RayError as lost:
                    told = (str(lost).strip() or type(lost).__name__).splitlines()[0]
                    value, error = None, TrialError(f"its worker was lost {needs.retries + 1} times: {told}")
                yield Result(place, value, error)
        finally:
            for reference in places:
                with contextlib.suppress(Exception):
                    ray.cancel(reference, force=True)

    def _room(self) -> int:
        """Trials that the cluster can run at a time as it is now; at least one, which waits for a node to come."""
        import ray

        has = ray.cluster_resources()
        asked = {"CPU": self.needs.cpus, "GPU": self.needs.gpus, "memory": (self.needs.memory_gb or 0) * 1e9}
        room: int = math.floor(min(has.get(name, 0) / amount for name, amount in asked.items() if amount))
        return max(1, room)


def _run(function: Callable[[Any], Any], item: Any, folder: str) -> tuple[Any, Exception | None]:
    """A trial on a node, in the folder of the driver, so that relative paths mean the same."""
    with contextlib.suppress(OSError):
        os.chdir(folder)
    try:
        return function(item), None
    except BortError as error:
        return None, error
    except Exception as error:  # its class may be unknown to the driver
        return None, TrialError(f"{type(error).__name__}: {error}")


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
        try:
            ray.init(address=where.removeprefix("ray://") if where != _RAY else None, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            told = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BortError(f"the cluster cannot be joined: {told}", column="workers", value=where) from None
    try:
        yield OnRay(needs)
    finally:
        if mine:
            ray.shutdown()
