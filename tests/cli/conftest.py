"""Commands as a user gives them, in this process."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from bort.__main__ import main


@dataclass
class Done:
    status: int
    out: str
    err: str

    def rows(self) -> list[dict[str, Any]]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    def refused(self, *parts: object) -> None:
        """Check that a mistake was told in one line that holds each part, and that nothing else was said."""
        assert self.status == 2, self
        assert self.out == ""
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("bort"), self.err
        assert len(self.err) < 400
        for part in parts:
            assert str(part) in self.err


@pytest.fixture
def bort(capsys, monkeypatch):
    """Run `bort` with these words; `stdin` is bytes, or anything with `readline`."""

    def run(*words: object, stdin: Any = b"") -> Done:
        buffer = io.BytesIO(stdin) if isinstance(stdin, bytes) else stdin
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=buffer, close=lambda: None))
        capsys.readouterr()
        status = main([str(word) for word in words])
        said = capsys.readouterr()
        return Done(status, said.out, said.err)

    return run
