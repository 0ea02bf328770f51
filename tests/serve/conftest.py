"""A real server in a process of its own."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs bort[serve]")
import httpx

_READY = re.compile(r"ready on (http://\S+):")
_ASKED = {"timeout": 30, "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}
"""Of each request: httpx would read all certificates of the machine for it, in 20 ms, and none is needed here."""


def in_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test that is a coroutine in an event loop of its own."""
    return functools.wraps(test)(lambda: asyncio.run(test()))


@dataclass
class Running:
    url: str
    process: subprocess.Popen[str]
    lines: list[str]
    reader: threading.Thread

    def post(self, path: str, body: Any = None, **keywords: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, **_ASKED, **keywords)

    def get(self, path: str, **keywords: Any) -> httpx.Response:
        return httpx.get(self.url + path, **_ASKED, **keywords)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def said(self, part: str, seconds: float = 20) -> bool:
        """Whether a line with this part is written in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if any(part in line for line in self.lines):
                return True
            time.sleep(0.02)
        return False


@contextmanager
def running(*arguments: str, program: Sequence[str] = ("-m", "bort")) -> Iterator[Running]:
    command = [sys.executable, *program, "serve", *arguments, "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        lines: list[str] = []
        assert process.stderr is not None
        try:
            for line in process.stderr:
                lines.append(line)
                if found := _READY.search(line):
                    break
            else:
                pytest.fail("the server did not start: " + "".join(lines))
            reader = threading.Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True)
            reader.start()
            try:
                yield Running(found[1], process, lines, reader)
            finally:
                process.kill()
                reader.join(10)  # before its pipe is closed
        finally:
            process.kill()


def _exported(model: str, out: Path) -> str:
    from bort.cli.export import export
    from bort.export.arguments import ExportArguments

    export(ExportArguments(model=model, out=str(out), precision="fp32"))
    return str(out)


@pytest.fixture(scope="session")
def exported(classifier, tmp_path_factory) -> str:
    """A tiny exported classifier."""
    return _exported(classifier, tmp_path_factory.mktemp("serve") / "exported")


@pytest.fixture(scope="session")
def exported_anew(other_classifier, tmp_path_factory) -> str:
    """One with other weights and the same labels."""
    return _exported(other_classifier, tmp_path_factory.mktemp("serve") / "anew")


@pytest.fixture(scope="session")
def exported_encoder(teacher_folder, tmp_path_factory) -> str:
    """A tiny exported encoder."""
    return _exported(teacher_folder, tmp_path_factory.mktemp("serve") / "encoder")


@pytest.fixture(scope="session")
def server(exported, classifier):
    """Serves an exported and a fine-tuned folder."""
    with running(f"fast={exported}", f"slow={classifier}") as started:
        yield started
