"""How many cores this process may use, and how many threads its libraries take."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores that this process may use: those it is bound to, or fewer where its container has a quota of CPU time.

    A quota of 1.5 cores counts as 2.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *(math.ceil(quota) for quota in quotas(_OWN_GROUPS, _CONTROL_GROUPS))])


def quotas(own: Path, mounted: Path) -> Iterator[float]:
    """The CPU quotas, in cores, of a process's control groups and of those above them; nothing where there are none.

    Inside a container the groups that the kernel names may lie outside of what is mounted, so each ancestor is tried.

    Args:
        own: The process's list of groups (`/proc/self/cgroup`), of version 1, 2 or both.
        mounted: Where the groups' files are mounted (`/sys/fs/cgroup`).
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


def limit_threads(threads: int) -> None:
    """Bound the threads of this process's tokenizers, and of PyTorch where it is loaded.

    The tokenizers library makes its threads when it first encodes several texts, and keeps them: call this before.

    Args:
        threads: At least 1.
    """
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)
