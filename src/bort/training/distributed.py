"""Coordination of processes that train together: the first process, shared values, and errors.

`accelerate launch -m bort ...` and `torchrun -m bort ...` start the same command once per device. The first process
creates the run's folder, writes and prints; the others only compute. In a single process all of this does nothing.
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
    """Join the other processes of this launch, on this process's device."""
    from accelerate import PartialState

    PartialState(cpu=on_cpu())
    if count() > 1:
        _talk(distributed.group.WORLD)
        atexit.register(_leave)


def on_cpu() -> bool:
    """Whether to train on the CPU: there is no accelerator, or the launcher asks for it (`accelerate launch --cpu`)."""
    from accelerate.utils import parse_flag_from_env

    return parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()


def device() -> torch.device:
    """The device of this process."""
    from accelerate import PartialState

    return cast(torch.device, PartialState().device)


def count() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if _joined() else 1


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return not _joined() or distributed.get_rank() == 0


def wait() -> None:
    """Wait until every process has reached this call."""
    if count() > 1:
        distributed.barrier(_talk(distributed.group.WORLD))


def from_first(value: T) -> T:
    """Broadcast the first process's `value`; every process must call this."""
    if count() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0, group=_talk(distributed.group.WORLD))
    return values[0]


def together(work: Callable[[], T], *, first_alone: bool = False) -> T:
    """Run `work` on every process, and raise an error of one on all, so that none waits for a failed process.

    Args:
        work: The function to run; it must not communicate with other processes.
        first_alone: Whether the others start only after the first has finished, because they read what it writes.

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
    """Let only the first process report an error that all have met.

    The others wait, and the launcher ends them when the first has exited. A process that is still alive after that
    was the only one with the error, and reports it.
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
    """Process group for everything but gradients.

    It runs on the CPU, with a timeout long enough for a first process that tokenises for hours. The gradients' group
    must not have such a timeout: there, silence means that a machine is lost.
    """
    return distributed.new_group(backend="gloo", timeout=_PATIENCE)


def _leave() -> None:
    """End the groups' threads before the interpreter shuts down: a thread that needs it later aborts the process.

    A thread ends with its group, and a group with the last reference to it, so the cached one is dropped first.
    """
    _talk.cache_clear()
    if _joined():
        distributed.destroy_process_group()
