"""What needs a Ray cluster, run in a process of its own.

Ray can end a process that has used it, later and without a word. So where pytest-xdist spreads the tests, those on Ray
are left out of its processes (see conftest.py), and this one runs them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_all_that_needs_a_cluster():
    pytest.importorskip("ray")
    line = [sys.executable, "-m", "pytest", "-m", "ray"]
    done = subprocess.run(line, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-20_000:]}\n{done.stderr[-5_000:]}"
    assert " passed" in done.stdout
