"""Several processes that train together: who comes first, what all agree on, and who tells of an error.

`accelerate launch -m bort ...` and `torchrun -m bort ...` start the same command once for each device. The first
process makes the run's folder, writes and speaks; the others compute. In a single process all of this does nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar, cast

import torch
from torch import distributed

from bort.errors import BortError

T = TypeVar("T")
_PATIENCE = timedelta(days=7)
_COURTESY_SECONDS = 10.0


def join() -> None:
    """Meet the other processes of this launch, on the device that is this one's."""
    from accelerate import PartialState

    PartialState(cpu=on_cpu())
    if count() > 1:
        _talk(distributed.group.WORLD)
        atexit.register(_leave)


def on_cpu() -> bool:
    """Whether to train on the CPU: there is nothing else, or the launcher was told so (`accelerate launch --cpu`)."""
    from accelerate.utils import parse_flag_from_env

    return parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()


def device() -> torch.device:
    """Where this process computes."""
    from accelerate import PartialState

    return cast(torch.device, PartialState().device)


def count() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if _joined() else 1


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return not _joined() or distributed.get_rank() == 0


def wait() -> None:
    """Go on when every process has come here."""
    if count() > 1:
        distributed.barrier(_talk(distributed.group.WORLD))


def from_first(value: T) -> T:
    """The first process's `value`, on every process; all must ask."""
    if count() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0, group=_talk(distributed.group.WORLD))
    return values[0]


def together(work: Callable[[], T], *, first_alone: bool = False) -> T:
    """Do `work` on every process, and raise the error of any on all: no process is left waiting for a failed one.

    Args:
        work: What to do; it talks to no other process.
        first_alone: The others begin when the first has done it, for they read what it writes.

    Raises:
        BortError: Some process raised it.
        OSError: Some process raised it.
    """
    if count() == 1:
        return work()
    result: T | None = None
    for mine in (is_first(), not is_first()) if first_alone else (True,):
        error: Exception | None = None
        if mine:
            try:
                result = work()
            except (BortError, OSError) as raised:
                error = raised
        errors: list[Exception | None] = [None] * count()
        distributed.all_gather_object(errors, error, group=_talk(distributed.group.WORLD))
        for met in errors:
            if met is not None:
                raise met
    return cast(T, result)


@contextlib.contextmanager
def told_once() -> Iterator[None]:
    """Let the first process tell of an error that all have met.

    The others wait; the launcher ends them when the first has left. One that is still there met the error alone, and
    tells it.
    """
    try:
        yield
    except (BortError, OSError):
        if not is_first():
            time.sleep(_COURTESY_SECONDS)
        raise


def _joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()


@cache
def _talk(world: Any) -> Any:
    """Where processes talk of anything but gradients.

    It goes over the network of the CPUs, and has the patience for a first process that tokenises for hours, which the
    group of the gradients must not have: there, silence means that a machine is lost.
    """
    return distributed.new_group(backend="gloo", timeout=_PATIENCE)


def _leave() -> None:
    """End the groups' threads while the interpreter lives: one that wants it later aborts the process.

    A thread ends with its group, and a group with the last that knows it; so what is remembered is forgotten first.
    """
    _talk.cache_clear()
    if _joined():
        distributed.destroy_process_group()
