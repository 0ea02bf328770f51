"""The manifest of an exported folder, and the check that its files are unchanged since the export."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import mmap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from bort.errors import BortError
from bort.files import write_aside
from bort.formats import check_format, stamp
from bort.predict.graph_spec import GraphSpec, read_graph
from bort.predict.inputs import check_readable
from bort.predict.thresholds import are_thresholds
from bort.tasks.kinds import KINDS
from bort.tasks.metrics import METRICS
from bort.tasks.suites.task_entry import Cast
from bort.tasks.task import Task

NAME = "manifest.json"
_FORMAT = 1
_MOST_BYTES = 64 * 2**20
SHORTEST_INPUT = 4
"""Minimum of a model's maximum length: the special tokens of a pair, and one token of text."""
LONGEST_INPUT = 2**16
"""Maximum of a model's maximum length; memory that depends on it must be bounded."""

Pooling = Literal["mean", "cls"]
"""How token vectors are pooled, as named by sentence-transformers: their mean, or the first token's vector."""


@dataclass(frozen=True)
class EncoderSpec:
    """How an exported encoder makes a text's vector.

    Args:
        size: Width of a vector.
        pooling: How token vectors are pooled.
        normalizes: Whether vectors are scaled to length 1 by default.
        prompt: Text prepended to every text.
        lowercase: Whether texts are lowercased first.
    """

    size: int
    pooling: Pooling
    normalizes: bool
    prompt: str = ""
    lowercase: bool = False


def joined(names: Iterable[str]) -> str:
    """Different names of engines or precisions, joined by +.

    >>> joined(["onnxruntime", "openvino", "openvino"])
    'onnxruntime+openvino'
    """
    return "+".join(dict.fromkeys(names))


@dataclass(frozen=True)
class Manifest:
    """An exported model: a classifier or regressor, which has a task, or an encoder.

    Args:
        graphs: One graph, or two, of which the second computes the longer inputs.
        tokenizer: File of the tokenizer.
        inputs: Names of the graphs' inputs.
        task: The model's task; None for an encoder.
        encoder: How an encoder makes a vector; None for a classifier or regressor.
        max_length: Maximum number of tokens of an input.
        truncation_side: Side on which longer inputs are cut: "right" keeps the beginning, "left" the end.
        special_tokens: The tokenizer's special tokens by role, as named by `transformers`; for other readers of the
            folder, since bort reads them from `tokenizer.json`.
        split_special_tokens: Whether a special token written in a text is treated as ordinary text.
        pad_token_id: Id of the padding token.
        pairs: Whether the model was fine-tuned on pairs of texts; None if unknown.
        cast: How the rows of the suite task that the model was fine-tuned on were cast, if it was.
        thresholds: By label, the probability that an answer must exceed. Empty if none were set; in a multi-label
            model, every label has one.
        about: How the model was made: settings, scores, versions.
        files: SHA-256 and size in bytes of every file except the manifest.
    """

    graphs: tuple[GraphSpec, ...]
    tokenizer: str
    inputs: tuple[str, ...]
    task: Task | None
    encoder: EncoderSpec | None
    max_length: int
    truncation_side: str
    special_tokens: Mapping[str, str]
    split_special_tokens: bool
    pad_token_id: int
    pairs: bool | None
    cast: Cast | None
    thresholds: Mapping[str, float]
    about: Mapping[str, Any]
    files: Mapping[str, tuple[str, int]] = dataclasses.field(default_factory=dict)

    @property
    def engine(self) -> str:
        """Names of the engines, joined by +."""
        return joined(graph.engine for graph in self.graphs)

    @property
    def precision(self) -> str:
        """Precisions of the graphs, joined by +."""
        return joined(graph.precision for graph in self.graphs)

    @property
    def outputs(self) -> int:
        """Width of the graph's output per row."""
        if self.task is None:
            return self.encoder.size if self.encoder else 0
        return 1 if self.task.choices else self.task.outputs

    def write(self, folder: Path) -> Manifest:
        """Write the manifest into a folder that already holds all other files; returns it with their checksums."""
        files = {file.name: (sha256(file), file.stat().st_size) for file in sorted(folder.iterdir())}
        files.pop(NAME, None)
        whole = dataclasses.replace(self, files=files)
        first, *longer = (graph.described() for graph in self.graphs)
        described = {**stamp(_FORMAT), **first, "longer": longer[0] if longer else None, **dataclasses.asdict(whole)}
        del described["graphs"]
        described["task"] = None if self.task is None else self.task.described()
        described["files"] = {name: {"sha256": value, "bytes": size} for name, (value, size) in files.items()}
        with write_aside(folder / NAME) as out:
            json.dump(described, out, indent=2, ensure_ascii=False, default=float)
            out.write("\n")
        return whole

    def check(self, folder: Path) -> None:
        """Check every file.

        Raises:
            BortError: A file is missing or has changed since the export.
        """
        for name, (expected, size) in self.files.items():
            path = folder / name
            if not path.is_file():
                raise BortError("is named by manifest.json and is not there; export the model again", file=path)
            if path.stat().st_size != size or sha256(path) != expected:
                raise _changed(path)

    def checked(self, folder: Path, name: str) -> bytes:
        """Read one of the files, once, and return the content that was checked.

        Raises:
            BortError: The file has changed since the export, or cannot be read.
        """
        content = _bytes(folder / name)
        if (hashlib.sha256(content).hexdigest(), len(content)) != self.files[name]:
            raise _changed(folder / name)
        return content


def is_exported(folder: str | Path) -> bool:
    """Whether a folder was written by `bort export`."""
    return (Path(folder) / NAME).is_file()


def read_manifest(folder: str | Path) -> Manifest:
    """Read the manifest of a folder; `Manifest.check` compares the files with it.

    Raises:
        BortError: It is damaged or of a later version.
    """
    folder = Path(folder)
    file = folder / NAME
    try:
        described = json.loads(_bytes(file))
        if not isinstance(described, dict):
            raise ValueError
    except (ValueError, RecursionError):
        raise BortError("must hold one JSON object", file=file) from None
    check_format(described, _FORMAT, file, "export the model again")
    return _parsed(described, file)


def sha256(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    if not file.stat().st_size:
        return hashlib.sha256().hexdigest()
    # Hashed in one call, which releases the GIL for the other threads all the while.
    with open(file, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return hashlib.sha256(content).hexdigest()


def _changed(file: Path) -> BortError:
    return BortError(
        "is not what was exported: its SHA-256 differs from manifest.json's; export the model again", file=file
    )


def _bytes(file: Path) -> bytes:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise BortError(f"must be smaller than {_MOST_BYTES >> 20} MiB", file=file)
        return file.read_bytes()
    except OSError as error:
        raise BortError(f"cannot be read: {error.strerror or error}", file=file) from None


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _task(task: Any, thresholds: Any) -> Task | None:
    """Parse the task of a manifest; None if it is not a known task."""
    if not isinstance(task, dict) or not _is_texts([task.get("kind"), task.get("metric")]):
        return None
    if task["kind"] not in METRICS or not _is_texts(task.get("names")):
        return None
    names = task["names"]
    if task["metric"] not in METRICS[task["kind"]] or not isinstance(task.get("choices"), bool):
        return None
    if bool(names) == (task["kind"] == "regression") or len({*names}) < len(names):
        return None
    known = thresholds if are_thresholds(thresholds, names) else {}
    return KINDS[task["kind"]].of_model(names, task["metric"], known, choices=task["choices"])


def _encoder(described: Any) -> EncoderSpec | None:
    """Parse the encoder of a manifest; None if it is not a valid one."""
    kinds = {"size": int, "pooling": str, "normalizes": bool, "prompt": str, "lowercase": bool}
    if not isinstance(described, dict) or {name: type(value) for name, value in described.items()} != kinds:
        return None
    fits = described["size"] > 0 and described["pooling"] in get_args(Pooling)
    return EncoderSpec(**described) if fits else None


def _parsed(described: dict[str, Any], file: Path) -> Manifest:
    def refuse(column: str, rule: str = "is not what bort export writes") -> BortError:
        return BortError(rule, file=file, column=column, value=described.get(column))

    for column, kind in (("tokenizer", str), ("about", dict)):
        if not isinstance(described.get(column), kind):
            raise refuse(column)
    length, pad = described.get("max_length"), described.get("pad_token_id")
    if type(length) is not int or not SHORTEST_INPUT <= length <= LONGEST_INPUT:
        raise refuse("max_length", f"must be a whole number from {SHORTEST_INPUT} to {LONGEST_INPUT:,}")
    if type(pad) is not int or pad < 0:
        raise refuse("pad_token_id", "must be a whole number from 0")
    if not _is_texts(described.get("inputs")):
        raise refuse("inputs")
    among = {
        "truncation_side": ("left", "right"),
        "split_special_tokens": (False, True),
        "pairs": (None, False, True),
        "cast": (None, *get_args(Cast)),
    }
    for column, allowed in among.items():
        if column not in described or described[column] not in allowed:
            raise refuse(column)
    special = described.get("special_tokens")
    if not isinstance(special, dict) or not _is_texts([*special.values()]):
        raise refuse("special_tokens")
    thresholds, task = described.get("thresholds"), _task(described.get("task"), described.get("thresholds"))
    encoder = _encoder(described.get("encoder"))
    if (task is None) == (encoder is None):
        raise refuse("task" if encoder is None else "encoder")
    check_readable(*(task.names if task else ()), file=file, column="task")
    if not are_thresholds(thresholds, task.names if task else ()):
        raise refuse("thresholds", "must map labels to probabilities")
    files: dict[str, tuple[str, int]] = {}
    listed = described.get("files")
    for name, sums in listed.items() if isinstance(listed, dict) else ():
        # Only a plain name cannot point outside the folder.
        plain = Path(name).name == name and name not in ("", ".", "..", NAME) and not {*name} & {"/", "\\", "\0"}
        if not plain or not isinstance(sums, dict) or not isinstance(sums.get("sha256"), str):
            raise BortError(
                "must map names of files in this folder to their sums", file=file, column="files", value=name
            )
        files[name] = (sums["sha256"], sums.get("bytes", -1))
    if described["tokenizer"] not in files:
        raise refuse("tokenizer", "must be one of the files")
    graphs = [read_graph(described, files, refuse)]
    longer = described.get("longer")
    if isinstance(longer, dict):
        graphs.append(read_graph(longer, files, lambda column: refuse("longer"), least=1))
    elif longer is not None:
        raise refuse("longer")
    return Manifest(
        graphs=tuple(graphs),
        tokenizer=described["tokenizer"],
        inputs=tuple(described["inputs"]),
        task=task,
        encoder=encoder,
        max_length=described["max_length"],
        truncation_side=described["truncation_side"],
        special_tokens=special,
        split_special_tokens=described["split_special_tokens"],
        pad_token_id=described["pad_token_id"],
        pairs=described["pairs"],
        cast=described["cast"],
        thresholds=thresholds or {},
        about=described["about"],
        files=files,
    )
