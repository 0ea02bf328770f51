"""Models loaded into engines, all with the same token ids as input."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.export.exporter import Exporter
from bort.export.openvino_model import add_prepared
from bort.export.timing import measured_costs
from bort.files import folder_aside
from bort.model.checkpoints import load_config
from bort.predict.classifiers import load_classifier, positions, tensors
from bort.predict.engine import open_exported
from bort.predict.graph.quantization import Quantization
from bort.predict.manifest import is_exported, read_manifest
from bort.speed.models import CONFIGS, save_random
from bort.speed.race import Load

ENGINES = (
    "torch-eager",
    "torch-sdpa",
    "torch-bf16",
    "onnxruntime-fp32",
    "onnxruntime-int8",
    "openvino-fp32",
    "openvino-int8",
)
"""Engine and precision. torch-bf16 is torch-sdpa with all weights in bf16."""
_CALIBRATION_TEXTS, _PAD = 16, 1


def usual_engines() -> list[str]:
    """Engines that are installed and suit this processor: bf16 only if it has instructions for it."""
    leave = set()
    if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        leave.add("torch-bf16")
    if find_spec("openvino") is None:
        leave |= {"openvino-fp32", "openvino-int8"}
    elif find_spec("nncf") is None:
        leave.add("openvino-int8")
    return [engine for engine in ENGINES if engine not in leave]


Prepare = Callable[[Load, int], Callable[[], Any]]


@dataclass(frozen=True)
class Contestant:
    """A model in an engine.

    Args:
        model: Name of the model.
        engine: One of `ENGINES`.
        folder: The model's folder.
        prepare: Takes a load and a vocabulary size, and returns a function that computes the load's logits.
    """

    model: str
    engine: str
    folder: Path
    prepare: Prepare

    @property
    def size_bytes(self) -> int:
        """Size of the folder on disk."""
        return sum(file.stat().st_size for file in self.folder.iterdir())


class Model:
    """A model in the forms that the engines need, made on demand.

    Args:
        name: One of `CONFIGS`, for a model with random weights, or a folder of `bort finetune` or `bort export`.
        work: Working directory of this model; files of an earlier call there are reused.

    Raises:
        BortError: There is no such folder or name.
    """

    def __init__(self, name: str, work: Path) -> None:
        if name not in CONFIGS and not Path(name).is_dir():
            raise BortError(f"is neither a folder nor one of {', '.join(CONFIGS)}", value=name)
        self.name, self.work = name, work
        self.shown = name if name in CONFIGS else Path(name).resolve().name
        """Short name."""
        self.exported = is_exported(name)
        """Whether it is already exported, so that its engine is fixed."""

    @cached_property
    def folder(self) -> Path:
        """Folder with weights for PyTorch."""
        if self.name not in CONFIGS:
            return Path(self.name)
        if not (self.work / "torch" / "tokenizer.json").is_file():  # it is written last
            save_random(CONFIGS[self.name], self.work / "torch")
        return self.work / "torch"

    @property
    def vocab_size(self) -> int:
        """A number of token ids, from 0, that it has embeddings for."""
        if self.exported:
            manifest = read_manifest(self.name)  # it does not tell the rows, of which each token has one
            return int(Tokenizer.from_buffer(manifest.checked(Path(self.name), manifest.tokenizer)).get_vocab_size())
        config = CONFIGS[self.name] if self.name in CONFIGS else load_config(self.name)
        return int(config.vocab_size)

    def check_length(self, longest: int) -> None:
        """Refuse texts that it has no positions for, and a model of choices, before anything is exported or timed.

        Args:
            longest: Tokens of the longest text.

        Raises:
            BortError: It has none for so many tokens, or chooses between texts.
        """
        most, task = None, None  # of `CONFIGS`, all have enough
        if self.exported:
            manifest = read_manifest(self.name)
            most, task = manifest.about.get("positions"), manifest.task  # version 0.1.0 did not write the former
        elif self.name not in CONFIGS:
            model, task = load_classifier(self.name, ours=False)
            most = positions(model)
        if task is not None and task.choices:
            raise BortError("chooses between texts, and is not timed on single ones", file=self.name)
        if isinstance(most, int) and longest > most:
            rule = f"reads at most {most} tokens, and --sequence-length or --mix asks for {longest}"
            raise BortError(rule, file=self.name)

    def contestants(self, engines: Sequence[str], threads: int) -> Iterator[Contestant]:
        """Load it into each engine, and yield the contestants.

        Raises:
            BortError: It cannot be exported, or an engine is not installed.
        """
        if self.exported:
            manifest, folder = read_manifest(self.name), Path(self.name)
            yield Contestant(self.shown, f"{manifest.engine}-{manifest.precision}", folder, _opened(folder, threads))
            return
        exporters: dict[str, Exporter] = {}
        for engine in engines:
            if engine.startswith("torch-"):
                yield Contestant(self.shown, engine, self.folder, _torch(self.folder, engine))
            else:
                kind: Any = engine.partition("-")[0]
                folder = self.work / engine
                if not is_exported(folder):
                    if kind not in exporters:
                        exporters[kind] = Exporter(str(self.folder), kind)
                    self.export(exporters[kind], engine, threads)
                yield Contestant(self.shown, engine, folder, _opened(folder, threads))

    def export(self, exporter: Exporter, engine: str, threads: int) -> Path:
        """Export it for an engine, and return the folder."""
        folder = self.work / engine
        if engine.endswith("-int8") and not exporter.calibrated:
            plain = self.work / f"{engine}-calibration"
            shutil.rmtree(plain, ignore_errors=True)
            plain.mkdir()
            exporter.write(plain, None)
            exporter.calibrate(plain, [Example("a small film " * count) for count in range(1, _CALIBRATION_TEXTS)])
        shutil.rmtree(folder, ignore_errors=True)
        with folder_aside(folder) as aside:
            manifest = exporter.write(aside, Quantization() if engine.endswith("int8") else None)
            graph = dataclasses.replace(manifest.graphs[0], costs=measured_costs(open_exported(aside, threads)))
            add_prepared(aside, dataclasses.replace(manifest, graphs=(graph,)).write(aside))
        return folder


def _opened(folder: Path, threads: int) -> Prepare:
    engine = open_exported(folder, threads)

    def prepare(load: Load, vocab_size: int) -> Callable[[], Any]:
        types = "token_type_ids" in engine.manifest.inputs
        asked = [one.tokens_of(vocab_size, types=types) for one in load.lists]
        return lambda: [engine.run(encoded) for encoded in asked]

    return prepare


def _torch(folder: Path, engine: str) -> Prepare:
    # The original implementation, as papers and other programs use; ours computes less of the last layer.
    model: Any = load_classifier(str(folder), ours=False)[0]
    model.set_attn_implementation("eager" if engine == "torch-eager" else "sdpa")
    if engine == "torch-bf16":
        model.bfloat16()

    def prepare(load: Load, vocab_size: int) -> Callable[[], Any]:
        asked = [(one, one.tokens_of(vocab_size, types=False)) for one in load.lists]
        feeds = [tensors(encoded.batch(batch, _PAD)) for one, encoded in asked for batch in one.batches]

        def answer() -> None:
            with torch.inference_mode():
                for feed in feeds:
                    model(**feed)

        return answer

    return prepare
