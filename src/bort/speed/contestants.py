"""Models ready to run in an engine, all fed with the same token ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bort.errors import BortError
from bort.predict.exported_engine import Feed
from bort.predict.manifest import is_exported, read_manifest
from bort.speed.models import SHAPES, ClassifierShape, save_random, shape_of

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
_CALIBRATION_TEXTS = 16


def precision(engine: str) -> str:
    """What an engine computes in."""
    return {"eager": "fp32", "sdpa": "fp32"}.get(name := engine.partition("-")[2], name)


def usual_engines() -> list[str]:
    """Those that are installed and at home on this processor: bf16 only where it has instructions for it."""
    import torch

    leave = set()
    if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        leave.add("torch-bf16")
    if find_spec("openvino") is None:
        leave |= {"openvino-fp32", "openvino-int8"}
    elif find_spec("nncf") is None:
        leave.add("openvino-int8")
    return [engine for engine in ENGINES if engine not in leave]


@dataclass(frozen=True)
class Contestant:
    """A model in an engine.

    Args:
        model: Its name.
        engine: One of `ENGINES`.
        folder: Where it lies.
        answer: Computes the logits of some batches.
        floor_operations: By the tokens of a text, additions and multiplications of the matrix products that it does.
    """

    model: str
    engine: str
    folder: Path
    answer: Callable[[Sequence[Feed]], Any]
    floor_operations: Callable[[int], int]

    @property
    def bytes(self) -> int:
        """On disk."""
        return sum(file.stat().st_size for file in self.folder.iterdir())


class Model:
    """A model in the forms that the engines take, made as they are asked for.

    Args:
        name: One of `SHAPES`, of which a model with random weights is made, or a folder of `bort finetune` or
            `bort export`.
        work: An empty folder of its own.

    Raises:
        BortError: There is no such folder or name.
    """

    def __init__(self, name: str, work: Path) -> None:
        self.name, self.work = name, work
        self._exporters: dict[str, Any] = {}
        self.shown = name if name in SHAPES else Path(name).resolve().name
        """A short name."""
        self.exported = is_exported(name)
        """Whether it comes in an engine of its own."""
        if name not in SHAPES and not Path(name).is_dir():
            raise BortError(f"is neither a folder nor one of {', '.join(SHAPES)}", value=name)

    @cached_property
    def folder(self) -> Path:
        """With weights that PyTorch reads."""
        if self.name not in SHAPES:
            return Path(self.name)
        made = self.work / "torch"
        save_random(SHAPES[self.name], made)
        return made

    @cached_property
    def shape(self) -> ClassifierShape:
        """What decides its speed."""
        return SHAPES[self.name] if self.name in SHAPES else shape_of(self.name)

    def contestants(self, engines: Sequence[str], threads: int) -> Iterator[Contestant]:
        """Load it into engines, one after another.

        Raises:
            BortError: It cannot be exported, or an engine is not installed.
        """
        if self.exported:
            manifest = read_manifest(self.name)
            engine = f"{manifest.engine}-{manifest.precision}"
            yield Contestant(self.shown, engine, Path(self.name), self._opened(Path(self.name), threads), lambda _: 0)
            return
        for engine in engines:
            if engine.startswith("torch-"):
                yield Contestant(self.shown, engine, self.folder, self._torch(engine), self.shape.operations)
            else:
                folder = self._export(engine)
                yield Contestant(self.shown, engine, folder, self._opened(folder, threads), self._floor(engine))
        self._exporters.clear()  # the weights are in the engines now

    def _floor(self, engine: str) -> Callable[[int], int]:
        first_only = engine.startswith("onnxruntime") or self.shape.kind == "bert"
        return lambda tokens: self.shape.operations(tokens, first_only=first_only)

    def _export(self, engine: str) -> Path:
        from bort.data.tables.examples import Example
        from bort.export.quantization import Quantization

        name, _, wanted = engine.partition("-")
        exporter = self._exporter(name)
        folder = self.work / engine
        folder.mkdir()
        if wanted == "int8" and name == "openvino":
            plain = self.work / f"{engine}-calibration"
            plain.mkdir()
            exporter.write(plain, None)
            exporter.calibrate(plain, [Example("a small film " * count) for count in range(1, _CALIBRATION_TEXTS)])
        exporter.write(folder, Quantization() if wanted == "int8" else None)
        return folder

    def _exporter(self, engine: str) -> Any:
        from bort.export.exporter import Exporter

        if engine not in self._exporters:
            self._exporters[engine] = Exporter(str(self.folder), engine)  # type: ignore[arg-type]
        return self._exporters[engine]

    def _opened(self, folder: Path, threads: int) -> Callable[[Sequence[Feed]], Any]:
        from bort.predict.engine import open_engine

        engine: Any = open_engine(str(folder), threads)
        takes_types = "token_type_ids" in engine.manifest.inputs

        def answer(feeds: Sequence[Feed]) -> Any:
            if takes_types:
                feeds = [{**feed, "token_type_ids": np.zeros_like(feed["input_ids"])} for feed in feeds]
            return list(engine.compute_all(feeds))

        return answer

    def _torch(self, engine: str) -> Callable[[Sequence[Feed]], Any]:
        import torch

        from bort.predict.classifiers import load_classifier

        # As a paper or another program would: ours computes less of the last layer.
        model: Any = load_classifier(str(self.folder), ours=False)[0]
        model.set_attn_implementation("eager" if engine == "torch-eager" else "sdpa")
        if engine == "torch-bf16":
            model.bfloat16()

        def answer(feeds: Sequence[Feed]) -> Any:
            with torch.inference_mode():
                for feed in feeds:
                    model(**{name: torch.from_numpy(values) for name, values in feed.items()})

        return answer
