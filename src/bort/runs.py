"""The folder of one run: settings, environment, journal, metrics and report."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import shlex
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from bort.cores import usable_cores
from bort.errors import BortError
from bort.files import FolderLock, check_local, is_vacant, new_folder, write_aside
from bort.formats import check_format, stamp
from bort.progress import say
from bort.report import Report

_PACKAGES = ("bort", "torch", "transformers", "tokenizers", "accelerate", "datasets", "numpy", "scikit-learn")
DATA_FOLDER = "data"
"""Subfolder with data that were passed as Python objects; it exists before the run starts."""
CORPUS_FOLDER = "corpus"
"""Subfolder with the tokenised corpus of a run, which another start may use."""
_BEFORE_THE_JOURNAL = ("config.yaml", "environment.json")
"""What a run writes before the first line of its journal."""
_RESULTS = ("config.json", "metrics.json", "model.safetensors", "pytorch_model.bin", "report.html", "README.md")
"""Files of models and finished runs, which a run would replace."""
_FORMAT = 1
"""Number of the folder's layout, in the journal's first line."""
_LOCKS: weakref.WeakValueDictionary[tuple[int, int], FolderLock] = weakref.WeakValueDictionary()
"""Locks on the folders that this process writes, by device and inode."""
_LOCKING = threading.Lock()


class Run:
    """One command's run in one folder.

    `config.yaml` holds the settings (pass it to `--config` to rerun), `environment.json` the versions and the machine,
    `journal.jsonl` one JSON object per event, appended and synced, `metrics.json` the metrics, `report.html` the page.

    Args:
        out: The folder.
        command: Name of the command, for the journal.
        arguments: Its settings, a dataclass.
        resume: Continue an earlier run with the same settings.
        may_change: Settings that may differ in a resumed run (such as budgets).
        leads: Whether this process writes the folder; the other processes of distributed training only read it.

    Raises:
        BortError: The folder is not empty and `resume` is off, it has other settings, another process is writing it,
            or `out` is an address.
    """

    def __init__(
        self,
        out: str | Path,
        command: str,
        arguments: Any,
        *,
        resume: bool = False,
        may_change: tuple[str, ...] = (),
        leads: bool = True,
    ) -> None:
        check_local("out", str(out))
        self.path = Path(out)
        self.journal_path = self.path / "journal.jsonl"
        self.started = time.time()
        self.leads = leads
        if not leads:
            return
        settings = json.loads(json.dumps(dataclasses.asdict(arguments), default=str))
        started = self.journal_path.is_file()
        self.resumed = resume and started
        if started:
            self._lock = self._locked()
        if self.resumed:
            self._check_format()
            self._check_settings(settings, _defaults(arguments), may_change)
        elif started and self._got_nowhere():
            self.journal_path.unlink()  # a run that failed right after its start must not block the folder
        elif started:
            raise BortError("holds an earlier run; go on with --resume, or name another --out", file=self.path)
        else:
            self._make_folder(resume)
            self._lock = self._locked()
        if not self.resumed:
            self._write_yaml("config.yaml", settings)
        self.environment = environment()
        if not (self.path / "metrics.json").is_file():  # finished metrics keep the environment that produced them
            self.write_json("environment.json", self.environment)
        self._mend_journal()
        begun = {**({} if self.resumed else stamp(_FORMAT)), "command": command, "pid": os.getpid()}
        self.log("resumed" if self.resumed else "started", **begun, host=platform.node())

    def same_data(self, digests: dict[str, str]) -> None:
        """Record which data the run starts with, and refuse to resume with other data.

        Args:
            digests: For each part of the data, a digest of its content; for a setting that names files or a model, such
                as `--model`, one of those. Parts that are not recorded yet, as by an earlier version, are from now on.

        Raises:
            BortError: A part has changed since the run started.
        """
        if not self.leads:
            return
        known: dict[str, str] = {}
        for event in self.events("data"):
            known |= event["digests"]
        for part, digest in digests.items():
            if known.get(part, digest) != digest:
                what = f"files of {part}" if part.startswith("--") else f"{part} data"
                rule = f"the {what} have changed since the run to resume began"
                if not part.startswith("--"):
                    rule += ", or this version splits them otherwise"
                rule += "; restore them, or name another --out"
                raise BortError(rule, file=self.path)
        if new := {part: digest for part, digest in digests.items() if part not in known}:
            self.log("data", digests=new)

    def finished(self) -> dict[str, Any] | None:
        """The metrics of a finished run, after a message that it is finished; None if the run is not finished."""
        file = self.path / "metrics.json"
        if not file.is_file():
            return None
        if self.leads:
            say(f"{self.path}: already finished")
        try:
            metrics: dict[str, Any] = json.loads(file.read_text("utf-8"))
            if not isinstance(metrics, dict):
                raise ValueError
        except (ValueError, RecursionError):
            raise BortError("must hold one JSON object", file=file) from None
        return metrics

    def _locked(self) -> FolderLock:
        """Lock the folder against other processes as long as a `Run` of this process uses it."""
        try:
            return locked(self.path)
        except BlockingIOError:
            rule = f"{self._holder()} is writing this run; wait for it, or stop it"
            raise BortError(rule, file=self.path) from None

    def _holder(self) -> str:
        """The process that last started or resumed the run, according to the journal."""
        with contextlib.suppress(OSError, KeyError, IndexError):
            events = readable_events(self.journal_path)
            begun = [event for event in events if event.get("event") in ("started", "resumed")][-1]
            host = begun["host"]
            return f"process {begun['pid']}" + ("" if host == platform.node() else f" on {host}")
        return "another process"

    def _got_nowhere(self) -> bool:
        """Whether the folder holds only what the start of a run writes, and a corpus that another start may use."""
        files = {file.name for file in self.path.iterdir()}
        events = {event.get("event") for event in readable_events(self.journal_path)}
        written = {DATA_FOLDER, CORPUS_FOLDER, *_BEFORE_THE_JOURNAL, "journal.jsonl"}
        return files <= written and events <= {"started", "resumed", "data", "corpus"}

    def log(self, event: str, **fields: Any) -> None:
        """Append an event to the journal, durably."""
        if not self.leads:
            return
        record = {"event": event, "time": round(time.time(), 3), **fields}
        with open(self.journal_path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False, default=float) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def events(self, event: str) -> Iterator[dict[str, Any]]:
        """Yield the journal's events of one name, oldest first.

        Raises:
            BortError: A line is not an event.
        """
        with open(self.journal_path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    record = json.loads(line)
                    found = record["event"]
                except (ValueError, TypeError, KeyError, RecursionError):
                    rule = "must be a JSON object with an event; this run cannot be resumed: choose another --out"
                    raise BortError(rule, file=self.journal_path, line=number) from None
                if found == event:
                    yield record

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the run atomically."""
        with write_aside(self.path / name) as file:
            json.dump(value, file, indent=2, ensure_ascii=False, default=float)
            file.write("\n")

    def write_page(self, page: Report) -> None:
        """Write the run's report, with the command, machine and versions at its end."""
        page.made_with(self.environment)
        page.write(self.path / "report.html")

    def _write_yaml(self, name: str, value: dict[str, Any]) -> None:
        import yaml

        with write_aside(self.path / name) as file:
            yaml.safe_dump(value, file, sort_keys=False, allow_unicode=True, width=float("inf"))  # one line per setting

    def _make_folder(self, resume: bool) -> None:
        if resume and self.path.is_dir():
            # A log or the like may be there, as may what a run writes before its journal, but no model or result.
            if held := [name for name in _RESULTS if (self.path / name).exists()]:
                rule = f"holds something other than a run to resume ({held[0]}); name another --out"
                raise BortError(rule, file=self.path)
        elif not is_vacant(self.path, apart_from={DATA_FOLDER}):
            new_folder(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BortError(f"cannot be made: {error.strerror or error}", file=self.path) from None

    def _check_format(self) -> None:
        """Refuse to resume in a folder of another layout."""
        self._mend_journal()
        if (begun := next(self.events("started"), None)) is not None:
            check_format(begun, _FORMAT, self.journal_path, "name another --out")

    def _check_settings(self, settings: dict[str, Any], defaults: dict[str, Any], may_change: tuple[str, ...]) -> None:
        import yaml

        file = self.path / "config.yaml"
        try:
            before = yaml.safe_load(file.read_text("utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            before = None
        if not isinstance(before, dict):
            raise BortError("the settings of the run to resume cannot be read; name another --out", file=file)
        for name, value in settings.items():
            # A setting that an earlier version did not have counts as left at its default.
            if name in ("resume", "out", *may_change) or before.get(name, defaults.get(name)) == value:
                continue
            rule = f"the run to resume was started with {before.get(name)!r}; give the same, or name another --out"
            raise BortError(rule, file=file, column=name, value=value)

    def _mend_journal(self) -> None:
        """Drop an incomplete last line, left by a killed process."""
        if not self.journal_path.is_file():
            return
        content = self.journal_path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            with write_aside(self.journal_path, "wb") as file:
                file.write(whole)


def locked(folder: Path) -> FolderLock:
    """Lock a run's folder against other processes; a `Run` of this process shares the lock.

    Raises:
        BlockingIOError: Another process holds it.
    """
    found = folder.stat()
    with _LOCKING:
        lock = _LOCKS.get((found.st_dev, found.st_ino))
        if lock is None:
            lock = _LOCKS[found.st_dev, found.st_ino] = FolderLock(folder)
        return lock


def readable_events(journal: Path) -> list[dict[str, Any]]:
    """The events of a journal that another process may be writing: lines that are none, or not whole, are left out.

    Raises:
        OSError: It cannot be read.
    """
    found = []
    for line in journal.read_bytes().split(b"\n"):
        with contextlib.suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict):
                found.append(event)
    return found


def environment() -> dict[str, Any]:
    """Versions, processor, cores and command: what a result depends on."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": usable_cores(),
        "packages": versions,
        "command": command_line(),
    }


def command_line() -> str:
    """The running command, as typed in a shell."""
    module = getattr(sys.modules["__main__"].__spec__, "name", "").removesuffix(".__main__")
    program = Path(sys.argv[0]).name
    if "bort" in (module, program):
        words = ["bort"]
    else:
        words = ["python", *(["-m", module] if module else [program])]
    return shlex.join([*words, *sys.argv[1:]])


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _defaults(arguments: Any) -> dict[str, Any]:
    """The defaults of a dataclass's fields, in the form of `config.yaml`."""
    found = {}
    for field in dataclasses.fields(arguments):
        if field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
    settings: dict[str, Any] = json.loads(json.dumps(found, default=str))
    return settings
