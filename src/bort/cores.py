"""Number of cores that this process may use, and of threads that its libraries start."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Number of cores that this process may use: its CPU affinity, or less if its container has a CPU quota.

    A quota of 1.5 cores counts as 2.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *(math.ceil(quota) for quota in quotas(_OWN_GROUPS, _CONTROL_GROUPS))])


def quotas(own: Path, mounted: Path) -> Iterator[float]:
    """Yield the CPU quotas, in cores, of a process's control groups and their ancestors.

    Inside a container, the groups that the kernel names may be outside the mounted tree, so each ancestor is tried.

    Args:
        own: File that lists the process's groups (`/proc/self/cgroup`), of cgroup version 1, 2 or both.
        mounted: Mount point of the groups' files (`/sys/fs/cgroup`).
    """
    for line in _text(own).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        names = controllers.split(",")
        if controllers and "cpu" not in names:
            continue
        roots = [mounted / controllers, mounted / "cpu"] if controllers else [mounted, mounted / "unified"]
        path = Path(group.lstrip("/"))
        for root in roots:
            for folder in (path, *path.parents):
                if ".." not in folder.parts:
                    yield from _quota(root / folder, version=1 if controllers else 2)


def _quota(folder: Path, *, version: int) -> Iterator[float]:
    if version == 2:
        words = _text(folder / "cpu.max").split()
    else:
        words = [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[0]) and int(words[1]):
        yield int(words[0]) / int(words[1])


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def limit_tokenizer_threads(threads: int) -> None:
    """Limit the threads of this process's tokenizers.

    Call this early: the tokenizers library starts its threads when it first encodes several texts, and keeps them.

    Args:
        threads: At least 1.
    """
    os.environ["RAYON_NUM_THREADS"] = str(threads)


def limit_threads(threads: int) -> None:
    """Limit the threads of this process's tokenizers, and of PyTorch if it is loaded.

    Args:
        threads: At least 1.
    """
    limit_tokenizer_threads(threads)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)
