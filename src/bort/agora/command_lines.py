"""A user's command that reads JSON lines and writes one line for each."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from bort.errors import BortError

_LEAST_BYTES = 1 << 20
_TAIL_BYTES = 1 << 14
_BLOCK = 1 << 16


@dataclass(frozen=True)
class LineCommand:
    """A command that reads one JSON object per line on standard input and writes one line for each.

    Attributes:
        line: The command line, split into words like a shell does; no shell runs it.
        setting: Name of the setting that it comes from, for messages.
        timeout_seconds: Maximum run time.
        row_bytes: Maximum output per row, on top of 1 MiB.
    """

    line: str
    setting: str
    timeout_seconds: float
    row_bytes: int = 1 << 16

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Run the command once and return its output lines, one per row, in order.

        Raises:
            BortError: It cannot be run, fails, is killed, times out, or does not write one line of UTF-8 per row.
        """
        out = self._run(b"".join(_json_line(row) for row in rows), _LEAST_BYTES + self.row_bytes * len(rows))
        try:
            text = out.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = out.count(b"\n", 0, error.start) + 1
            raise self._wrong(f"must write UTF-8; line {line} of its output is not") from None
        lines = text.split("\n")
        # The final newline does not start another line. Other blank lines are answers.
        if lines[-1] == "":
            lines.pop()
        if len(lines) != len(rows):
            raise self._wrong(f"must write one line for each of {len(rows)} that it reads; it wrote {len(lines)}")
        return lines

    def words(self) -> list[str]:
        """Return the program and its arguments.

        Raises:
            BortError: The line is blank, or a quotation mark is not closed.
        """
        try:
            words = shlex.split(self.line)
        except ValueError as error:
            raise self._wrong(f"must be a command line: {str(error).lower()}") from None
        if not words:
            raise self._wrong("must name a program")
        return words

    def _wrong(self, rule: str) -> BortError:
        return BortError(rule, setting=self.setting, value=self.line)

    def _run(self, given: bytes, most: int) -> bytes:
        try:
            process = subprocess.Popen(
                self.words(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # so that its child processes are killed with it
            )
        except (OSError, ValueError) as error:
            raise self._wrong(f"cannot be run: {getattr(error, 'strerror', None) or error}") from None
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        deadline = time.monotonic() + self.timeout_seconds
        out, errors = bytearray(), bytearray()
        threads = [
            threading.Thread(target=_feed, args=(process.stdin, given), daemon=True),
            threading.Thread(target=_read, args=(process.stdout, out, most), daemon=True),
            threading.Thread(target=_read_tail, args=(process.stderr, errors), daemon=True),
        ]
        for thread in threads:
            thread.start()
        late = False
        try:
            for thread in threads[1:]:
                while thread.is_alive() and not late:
                    thread.join(0.2)
                    late = time.monotonic() > deadline
                    if len(out) > most:
                        break
            if not late and len(out) <= most:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
                late = process.returncode is None
        finally:
            _end(process)
        if len(out) > most:
            raise self._wrong(f"wrote more than {most:,} bytes for what it read, and was ended")
        if late:
            raise self._wrong(
                f"took longer than {self.timeout_seconds:g} seconds, and was ended; --teacher-timeout sets the limit,"
                " --teacher-batch how many texts it reads at a time"
            )
        if process.returncode:
            raise self._wrong(f"{_ending(process.returncode)}: {_last_line(bytes(errors))}")
        return bytes(out)


def _json_line(row: Mapping[str, Any]) -> bytes:
    try:
        return (json.dumps(row, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can escape and UTF-8 cannot encode
        return (json.dumps(row) + "\n").encode()


def _feed(pipe: IO[bytes], given: bytes) -> None:
    # A command may exit before it has read everything; whether that is an error shows in its output.
    with contextlib.suppress(OSError), pipe:
        pipe.write(given)


def _read(pipe: IO[bytes], into: bytearray, most: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        while len(into) <= most and (block := os.read(pipe.fileno(), _BLOCK)):
            into += block


def _read_tail(pipe: IO[bytes], into: bytearray) -> None:
    with contextlib.suppress(OSError, ValueError):
        while block := os.read(pipe.fileno(), _BLOCK):
            into += block
            del into[:-_TAIL_BYTES]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a command and its child processes, if any still run."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _ending(status: int) -> str:
    if status > 0:
        return f"failed with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _last_line(errors: bytes) -> str:
    lines = errors.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else "it wrote nothing to standard error"
