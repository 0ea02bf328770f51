"""Cores of a process: fewer where a container's quota of CPU time says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bort import cores

V1 = {"cpu.cfs_quota_us": "150000\n", "cpu.cfs_period_us": "100000\n"}


def laid_out(folder, own, files):
    (folder / "own").write_text(own)
    for name, content in files.items():
        file = folder / "mounted" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder / "own", folder / "mounted"


@pytest.mark.parametrize(
    ("own", "files", "found"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, [2.0]),
        ("0::/\n", {"cpu.max": "max 100000\n"}, []),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "50000 100000\n"}, [0.5]),
        ("0::/host/path\n", {"cpu.max": "300000 100000\n"}, [3.0]),
        ("0::/../x\n", {"cpu.max": "300000 100000\n"}, [3.0]),
        ("4:cpu,cpuacct:/\n", {f"cpu,cpuacct/{name}": text for name, text in V1.items()}, [1.5]),
        ("4:cpuacct,cpu:/d/1\n", {f"cpu/d/1/{name}": text for name, text in V1.items()}, [1.5]),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, []),
        ("9:memory:/\n1:name=systemd:/\n", {"cpu.max": "100000 100000\n"}, []),
        ("", {"cpu.max": "100000 100000\n"}, []),
        ("0::/\n", {"cpu.max": "nonsense"}, []),
        ("0::/\n", {"cpu.max": "100000 0\n"}, []),
    ],
)
def test_quotas(tmp_path, own, files, found):
    assert [*dict.fromkeys(cores.quotas(*laid_out(tmp_path, own, files)))] == found


def test_without_control_groups(tmp_path):
    assert list(cores.quotas(tmp_path / "absent", tmp_path / "absent")) == []


@pytest.mark.parametrize(("quota", "expected"), [("150000", 2), ("20000", 1), ("6400000", 3), ("max", 3)])
def test_the_least_of_all_bounds(tmp_path, monkeypatch, quota, expected):
    own, mounted = laid_out(tmp_path, "0::/\n", {"cpu.max": f"{quota} 100000\n"})
    monkeypatch.setattr(cores, "_OWN_GROUPS", own)
    monkeypatch.setattr(cores, "_CONTROL_GROUPS", mounted)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 5}, raising=False)
    assert cores.usable_cores() == expected


def test_a_limit_holds_for_tokenizers_and_pytorch(python):
    """More threads than cores, so that the number is not what it would be anyway."""
    code = """
import os, sys
from bort.cores import limit_threads
limit_threads(int(sys.argv[1]))
from tokenizers import Tokenizer, models
before = len(os.listdir("/proc/self/task"))
Tokenizer(models.BPE()).encode_batch(["a"] * 1000)
print(len(os.listdir("/proc/self/task")) - before)
import torch
limit_threads(int(sys.argv[1]))
print(torch.get_num_threads())
"""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("needs /proc")
    for threads in ("1", "5"):
        assert python(code, threads).stdout.split() == [threads, threads]
