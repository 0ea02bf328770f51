"""From a fine-tuned folder to one that answers without torch: both precisions, checked before they are written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bort.data.examples import Example
from bort.errors import BortError
from bort.files import write_aside
from bort.runtime.bert_graph import BertGraph, BertShape
from bort.runtime.manifest import Manifest
from bort.runtime.onnx_engine import EncodedTexts, OnnxEngine, open_session
from bort.runtime.quantization import Quantization
from bort.runtime.torch_engine import TorchEngine

TOLERANCE = 1e-4
"""Most that fp32 logits may be off PyTorch's, by which a wrong graph is told from rounding."""
MODEL, TOKENIZER = "model.onnx", "tokenizer.json"
_MOST_CALIBRATION_ROWS = 512


class Exporter:
    """A fine-tuned model in the forms that it can be exported in.

    Args:
        model: A folder or a hub name.

    Raises:
        BortError: The model cannot be loaded, it is no classifier, or not of a kind that can be exported.
    """

    def __init__(self, model: str) -> None:
        self.name = model
        self.source = TorchEngine(model)
        self.shape = BertShape.of(self.source.model.config, model)
        state = self.source.model.state_dict()
        self._weights = {name.removeprefix("bert."): tensor.cpu().numpy() for name, tensor in state.items()}
        if "pooler.dense.weight" not in self._weights:
            raise BortError("must have BERT's pooler to be exported", file=model)

    def write(self, folder: Path, quantization: Quantization | None, about: dict[str, Any] | None = None) -> Manifest:
        """Write one precision into an empty folder, with all that prediction needs; returns its manifest."""
        written = BertGraph(self.shape, self._weights, quantization)
        written.write(folder / MODEL)
        with write_aside(folder / TOKENIZER) as out:
            out.write(self._tokenizer())
        return self._manifest(written.input_names, quantization, about or {}).write(folder)

    def _tokenizer(self) -> str:
        backend = self.source.tokenizer.backend_tokenizer
        backend.no_padding()
        backend.no_truncation()
        text: str = backend.to_str(pretty=True)
        return text

    def _manifest(self, inputs: tuple[str, ...], quantization: Quantization | None, about: dict[str, Any]) -> Manifest:
        return Manifest(
            engine="onnxruntime",
            precision="fp32" if quantization is None else "int8",
            model=MODEL,
            tokenizer=TOKENIZER,
            inputs=inputs,
            task=self.source.task,
            max_length=self.source.max_length,
            pad_token_id=int(self.source.tokenizer.pad_token_id),
            cast=self.source.cast,
            thresholds={},
            about=about,
        )

    def check(self, folder: Path) -> float:
        """Compare an exported fp32 model with PyTorch on token ids of many lengths; returns the largest difference.

        Raises:
            RuntimeError: The logits differ by more than rounding does.
        """
        rng = np.random.default_rng(0)
        words, longest = self._weights["embeddings.word_embeddings.weight"].shape[0], self.source.max_length
        engine, worst = OnnxEngine(folder, threads=1), 0.0
        for length in sorted({1, 2, min(7, longest), min(33, longest), longest}):
            lengths = [length, max(1, length // 2), 1]
            ids = [rng.integers(0, words, size).tolist() for size in lengths]
            types = [rng.integers(0, self.shape.token_types, size).tolist() for size in lengths]
            ours = engine.run(EncodedTexts(ids, types, 0))
            theirs = self._asked(engine.feed(EncodedTexts(ids, types, 0), range(len(ids))))
            scale = max(1.0, float(np.abs(theirs).max()))
            worst = max(worst, float(np.abs(ours - theirs).max()) / scale)
        if not worst <= TOLERANCE:  # a NaN is no agreement
            raise RuntimeError(f"{self.name}: the exported logits are off PyTorch's by {worst:.3g}, not {TOLERANCE}")
        return worst

    def _asked(self, fed: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        import torch

        tensors = {name: torch.from_numpy(values) for name, values in fed.items()}
        if self.source.task.choices:
            tensors = {name: values[:, None] for name, values in tensors.items()}
        device = self.source.model.device
        with torch.no_grad():
            logits = self.source.model(**{name: tensor.to(device) for name, tensor in tensors.items()}).logits
        found: NDArray[np.float32] = logits.float().cpu().numpy()
        return found

    def ranges(self, examples: Sequence[Example], folder: Path) -> dict[str, tuple[float, float]]:
        """What the inputs of each matrix lie between, over some texts; padding is not looked at.

        Args:
            examples: Texts like those to come; at most 512 are read.
            folder: An empty one to work in.
        """
        written = BertGraph(self.shape, self._weights)
        written.write(folder / MODEL, with_inputs=True)
        session = open_session(folder, (folder / MODEL).read_bytes(), threads=None)
        engine_folder = folder / "plain"
        engine_folder.mkdir()
        self.write(engine_folder, None)
        engine = OnnxEngine(engine_folder)
        names = [*dict.fromkeys(written.matrix_inputs.values())]
        seen: dict[str, tuple[float, float]] = {}
        encoded = engine.encode(examples[:_MOST_CALIBRATION_ROWS])
        for row in range(len(encoded.ids)):
            for name, values in zip(names, session.run(names, engine.feed(encoded, [row])), strict=True):
                low, high = seen.get(name, (0.0, 0.0))
                seen[name] = (min(low, float(values.min())), max(high, float(values.max())))
        return {matrix: seen[name] for matrix, name in written.matrix_inputs.items()}


Precision = Literal["auto", "fp32", "int8"]


def described(quantization: Quantization | None) -> dict[str, Any]:
    """How a model is quantised, for the manifest."""
    if quantization is None:
        return {}
    whole = dataclasses.asdict(quantization)
    return {
        "activations": "calibrated" if quantization.ranges else "dynamic",
        "weight_bits": quantization.weight_bits,
        "kept_fp32": sorted(whole["kept"]),
    }


def write_json(file: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    with write_aside(file) as out:
        json.dump(value, out, indent=2, ensure_ascii=False, default=float)
        out.write("\n")
