"""From a fine-tuned folder to one that answers without torch, checked against PyTorch."""

from __future__ import annotations

import inspect
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.export.quantization import Quantization
from bort.files import write_aside
from bort.predict.engine import open_exported
from bort.predict.exported_engine import EncodedTexts, Feed
from bort.predict.manifest import Manifest
from bort.predict.torch_engine import TorchEngine

TOLERANCE = 1e-4
"""Most that fp32 logits may be off PyTorch's, by which a wrong graph is told from rounding."""
MOST_CALIBRATION_ROWS = 300
_TOKENIZER = "tokenizer.json"
EngineName = Literal["onnxruntime", "openvino"]


class Exportable(Protocol):
    """A classifier in the form of one engine. Its inputs are `input_ids`, `attention_mask` and, where the model knows
    kinds of tokens, `token_type_ids`, *shape* (batch, length) each; its output is `logits`, *shape* (batch, outputs).
    """

    engine: str
    file_name: str
    blocks: tuple[str, ...]
    """Parts that can stay in fp32, one by one."""

    def calibrate(self, feeds: Sequence[Feed], folder: Path) -> None:
        """Learn the ranges of activations for int8 from single rows; `folder` is an empty one to work in."""

    def write(self, file: Path, quantization: Quantization | None) -> None:
        """Write the model as `file`, and what belongs to it beside it."""


class Exporter:
    """A fine-tuned model in the forms that it can be exported in.

    Args:
        model: A folder or a hub name.
        engine: What shall run it.

    Raises:
        BortError: The model cannot be loaded, it is no classifier, not of a kind that can be exported, or the engine
            is not installed.
    """

    def __init__(self, model: str, engine: EngineName = "onnxruntime") -> None:
        self.name = model
        self.source = TorchEngine(model)
        self.source.model.cpu()
        takes_types = _takes_types(self.source)
        self.inputs = ("input_ids", "attention_mask", *(["token_type_ids"] if takes_types else []))
        self.form: Exportable
        if engine == "onnxruntime":
            from bort.export.architectures import OnnxModel

            self.form = OnnxModel(self.source.model, model, takes_types=takes_types)
        else:
            from bort.export.openvino_model import OpenVinoModel

            choices = self.source.task.choices
            self.form = OpenVinoModel(self.source.model, model, takes_types=takes_types, choices=choices)
        self.calibrated = False

    def write(
        self,
        folder: Path,
        quantization: Quantization | None,
        about: Mapping[str, Any] = MappingProxyType({}),
        thresholds: Mapping[str, float] = MappingProxyType({}),
    ) -> Manifest:
        """Write one precision, with all that prediction needs.

        Args:
            folder: An empty one.
            quantization: How int8 is done; None for fp32.
            about: How it was made, for the manifest.
            thresholds: Of labels, for the manifest.

        Returns:
            The manifest.
        """
        self.form.write(folder / self.form.file_name, quantization)
        with write_aside(folder / _TOKENIZER) as out:
            out.write(self._tokenizer())
        return Manifest(
            engine=self.form.engine,
            precision="fp32" if quantization is None else "int8",
            model=self.form.file_name,
            tokenizer=_TOKENIZER,
            inputs=self.inputs,
            task=self.source.task,
            max_length=self.source.max_length,
            pad_token_id=int(self.source.tokenizer.pad_token_id),
            cast=self.source.cast,
            thresholds=dict(thresholds),
            about=dict(about),
        ).write(folder)

    def _tokenizer(self) -> str:
        backend = self.source.tokenizer.backend_tokenizer
        backend.no_padding()
        backend.no_truncation()
        text: str = backend.to_str()
        return text

    def check(self, folder: Path) -> float:
        """Compare an exported fp32 model with PyTorch on token ids of many lengths; returns the largest difference.

        Raises:
            BortError: The logits differ by more than rounding does, as of an architecture that does what is not known
                here.
        """
        rng = np.random.default_rng(0)
        config, longest, pad = self.source.model.config, self.source.max_length, self.source.tokenizer.pad_token_id
        words = np.setdiff1d(np.arange(config.vocab_size), [pad])
        engine, worst = open_exported(folder, threads=1), 0.0
        for length in sorted({1, 2, min(7, longest), min(33, longest), longest}):
            lengths = [length, max(1, length // 2), 1]
            ids = [rng.choice(words, size).tolist() for size in lengths]
            types = [rng.integers(0, getattr(config, "type_vocab_size", 1), size).tolist() for size in lengths]
            encoded = EncodedTexts(ids, types, 0)
            theirs = self._asked(engine.feed(encoded, range(len(ids))))
            scale = max(1.0, float(np.abs(theirs).max()))
            worst = max(worst, float(np.abs(engine.run(encoded) - theirs).max()) / scale)
        if not worst <= TOLERANCE:  # a NaN is no agreement
            rule = f"the exported logits must be within {TOLERANCE} of PyTorch's; with {self.form.engine} they are not"
            raise BortError(rule, file=self.name, value=worst)
        return worst

    @torch.no_grad()
    def _asked(self, feed: Feed) -> NDArray[np.float32]:
        tensors = {name: torch.from_numpy(values) for name, values in feed.items()}
        if self.source.task.choices:
            tensors = {name: values[:, None] for name, values in tensors.items()}
        logits: NDArray[np.float32] = self.source.model(**tensors).logits.numpy()
        return logits

    def calibrate(self, folder: Path, examples: Sequence[Example]) -> None:
        """Learn the ranges of activations for every later `write` in int8.

        Args:
            folder: This model's, exported in fp32.
            examples: Texts like those to come; at most `MOST_CALIBRATION_ROWS` are read.
        """
        engine = open_exported(folder)
        encoded = engine.encode(examples[:MOST_CALIBRATION_ROWS])
        # One by one: padding is nothing to learn from.
        feeds = [engine.feed(encoded, [row]) for row in range(len(encoded.ids))]
        with tempfile.TemporaryDirectory() as work:
            self.form.calibrate(feeds, Path(work))
        self.calibrated = True

    def described(self, quantization: Quantization | None) -> dict[str, Any]:
        """How a model is quantised, for the manifest."""
        if quantization is None:
            return {}
        return {
            "activations": "calibrated" if self.calibrated else "dynamic",
            "weight_bits": quantization.weight_bits,
            "kept_fp32": sorted(quantization.kept),
        }


def _takes_types(source: TorchEngine) -> bool:
    """Whether the tokenizer tells kinds of tokens apart, and the model too."""
    known = "token_type_ids" in inspect.signature(source.model.forward).parameters
    told = "token_type_ids" in source.tokenizer.model_input_names
    return known and told and getattr(source.model.config, "type_vocab_size", 1) > 1


def write_json(file: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    with write_aside(file) as out:
        json.dump(value, out, indent=2, ensure_ascii=False, default=float)
        out.write("\n")
