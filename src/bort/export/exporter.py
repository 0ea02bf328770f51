"""Export of a fine-tuned folder to one that runs without torch, checked against PyTorch."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.files import write_aside
from bort.model.checkpoints import is_encoder
from bort.predict.classifiers import positions, tensors
from bort.predict.costs import BatchCosts
from bort.predict.encoding import Feed, TokenizedExamples
from bort.predict.engine import open_exported
from bort.predict.graph.quantization import Quantization
from bort.predict.graph_spec import GraphSpec
from bort.predict.manifest import Manifest
from bort.predict.torch_encoder import TorchEncoder
from bort.predict.torch_engine import TorchEngine
from bort.tasks.task import Task

TOLERANCE = 1e-4
"""Maximum difference of fp32 outputs from PyTorch's; more means a wrong graph, not rounding."""
MOST_CALIBRATION_ROWS = 300
_TOKENIZER = "tokenizer.json"
EngineName = Literal["onnxruntime", "openvino"]


class Exportable(Protocol):
    """A model in the form of one engine. Its inputs are `input_ids`, `attention_mask` and, if the model uses them,
    `token_type_ids`, *shape* (batch, length) each; its one output has the *shape* (batch, outputs).
    """

    engine: str
    file_name: str
    blocks: tuple[str, ...]
    """Parts that can individually stay in fp32."""

    def calibrate(self, feeds: Sequence[Feed], folder: Path) -> None:
        """Learn the activation ranges for int8 from single rows; `folder` is an empty working directory."""

    def write(self, file: Path, quantization: Quantization | None) -> None:
        """Write the model as `file`, and its other files next to it."""


class Exporter:
    """Exports a fine-tuned model or an encoder for one engine.

    Args:
        model: A folder or a hub name.
        engine: The inference engine.
        like: The exporter of the same model for another engine, whose loaded model is reused.

    Raises:
        BortError: The model cannot be loaded, is not a classifier, regressor or encoder, or cannot be exported; or the
            engine is not installed.
    """

    def __init__(self, model: str, engine: EngineName = "onnxruntime", like: Exporter | None = None) -> None:
        self.name = model
        self.source: TorchEngine | TorchEncoder
        if like is not None:
            self.source = like.source
        else:
            self.source = TorchEncoder(model, torch.device("cpu")) if is_encoder(model) else TorchEngine(model)
        self.source.model.cpu()
        self.encoder = self.source.spec if isinstance(self.source, TorchEncoder) else None
        """How an encoder makes a vector; None for a classifier or regressor."""
        self.inputs = tuple(self.source.tokenizer.model_input_names)
        takes_types = "token_type_ids" in self.inputs
        self.form: Exportable
        if engine == "onnxruntime":
            from bort.export.onnx_model import OnnxModel

            pooling = self.encoder.pooling if self.encoder else None
            self.form = OnnxModel(self.source.model, model, takes_types=takes_types, pooling=pooling)
        else:
            from bort.export.openvino_model import OpenVinoModel

            self.form = OpenVinoModel(self.source, model, takes_types=takes_types)
        self.calibrated = False

    @property
    def task(self) -> Task | None:
        """The model's task; None for an encoder."""
        return self.source.task if isinstance(self.source, TorchEngine) else None

    def write(
        self,
        folder: Path,
        quantization: Quantization | None,
        about: Mapping[str, Any] = MappingProxyType({}),
        thresholds: Mapping[str, float] | None = None,
        costs: BatchCosts | None = None,
    ) -> Manifest:
        """Write the model in one precision, with everything that prediction needs.

        Args:
            folder: An empty folder.
            quantization: How int8 is done; None for fp32.
            about: How it was made, for the manifest, which also gets the number of the model's positions.
            thresholds: By label, for the manifest; by default the model's own, if it has any.
            costs: Batch costs, if measured.

        Returns:
            The manifest.
        """
        self.form.write(folder / self.form.file_name, quantization)
        source, tokenizer = self.source, self.source.tokenizer
        with write_aside(folder / _TOKENIZER) as out:
            out.write(self._tokenizer())
        return Manifest(
            graphs=(self.graph(quantization, costs),),
            tokenizer=_TOKENIZER,
            inputs=self.inputs,
            task=self.task,
            encoder=self.encoder,
            max_length=source.max_length,
            truncation_side=tokenizer.truncation_side,
            special_tokens={name: str(token) for name, token in tokenizer.special_tokens_map.items()},
            split_special_tokens=bool(tokenizer.split_special_tokens),
            pad_token_id=int(tokenizer.pad_token_id),
            pairs=getattr(source, "pairs", None),
            cast=getattr(source, "cast", None),
            thresholds=dict(getattr(source, "thresholds", {}) if thresholds is None else thresholds),
            about={**about, "positions": positions(source.model)},
        ).write(folder)

    def add(
        self, folder: Path, manifest: Manifest, quantization: Quantization | None, costs: BatchCosts, from_tokens: int
    ) -> Manifest:
        """Add the model in one precision, for the longer inputs, to the folder of another engine.

        Args:
            folder: The folder of the other engine.
            manifest: Its manifest.
            quantization: How int8 is done; None for fp32.
            costs: Batch costs.
            from_tokens: Minimum length of the inputs for this engine.

        Returns:
            The manifest of both engines.
        """
        self.form.write(folder / self.form.file_name, quantization)
        longer = dataclasses.replace(self.graph(quantization, costs), from_tokens=from_tokens)
        return dataclasses.replace(manifest, graphs=(*manifest.graphs, longer)).write(folder)

    def graph(self, quantization: Quantization | None, costs: BatchCosts | None = None) -> GraphSpec:
        """The manifest's entry for the graph in one precision."""
        if quantization is None:
            return GraphSpec(self.form.engine, "fp32", "", self.form.file_name, costs=costs)
        return GraphSpec(self.form.engine, "int8", self.activations, self.form.file_name, costs=costs)

    @property
    def activations(self) -> Literal["calibrated", "dynamic"]:
        """Source of the activation scales of int8."""
        return "calibrated" if self.calibrated else "dynamic"

    def _tokenizer(self) -> str:
        """The tokenizer file, without truncation and padding, which the manifest defines."""
        described = json.loads(self.source.tokenizer.backend_tokenizer.to_str())
        return json.dumps(described | {"truncation": None, "padding": None}, ensure_ascii=False)

    def check(self, folder: Path) -> float:
        """Compare an exported fp32 model with PyTorch, on token ids of several lengths and texts, some too long.

        Returns:
            The largest absolute difference of the outputs, relative to the largest output if that is above 1.

        Raises:
            BortError: They differ by more than rounding, as for an architecture that the graph does not reproduce.
        """
        engine = open_exported(folder, threads=1)
        apart = [
            _apart(engine.run(encoded), self._asked(engine.batch(encoded, range(len(encoded)))))
            for encoded in self._checked_ids()
        ]
        texts = self._checked_texts()
        apart.append(_apart(engine.run(engine.encode(texts)), self.source.run(self.source.encode(texts))))
        worst = float(np.max(apart))
        if not worst <= TOLERANCE:  # a NaN must not pass
            runtime = self.form.engine
            rule = f"the exported model's outputs must be within {TOLERANCE} of PyTorch's; with {runtime} they are not"
            raise BortError(rule, file=self.name, value=worst)
        return worst

    def _checked_ids(self) -> Iterator[TokenizedExamples]:
        """Random token ids in padded batches of several lengths, up to the model's maximum."""
        rng = np.random.default_rng(0)
        config, longest, pad = self.source.model.config, self.source.max_length, self.source.tokenizer.pad_token_id
        words = np.setdiff1d(np.arange(config.vocab_size), [pad])
        for length in sorted({1, 2, min(7, longest), min(33, longest), longest}):
            lengths = [length, max(1, length // 2), 1]
            columns = {"input_ids": [rng.choice(words, size).tolist() for size in lengths]}
            if "token_type_ids" in self.inputs:
                columns["token_type_ids"] = [rng.integers(0, config.type_vocab_size, size).tolist() for size in lengths]
            yield TokenizedExamples(columns)

    def _checked_texts(self) -> list[Example]:
        """Texts and pairs of words from the vocabulary: short, empty, and longer than the model's maximum."""
        rng, tokenizer = np.random.default_rng(1), self.source.tokenizer
        ordinary = np.setdiff1d(sorted(tokenizer.get_vocab().values()), tokenizer.all_special_ids)

        def text(tokens: int) -> str:
            spelled: str = tokenizer.decode(rng.choice(ordinary, tokens).tolist())
            return spelled

        longest = self.source.max_length
        pairs = [(text(5), text(3)), (text(longest + 20), text(longest)), (text(2), text(longest + 9)), ("", text(4))]
        if self.task is None:
            return [Example(one) for pair in pairs for one in pair]
        if self.task.choices:
            return [Example(first, choices=(second, first)) for first, second in pairs]
        return [Example(first, second) for first, second in pairs] + [Example(first) for first, _ in pairs]

    @torch.no_grad()
    def _asked(self, feed: Feed) -> NDArray[np.float32]:
        outputs: NDArray[np.float32] = self.source.forward(tensors(feed)).numpy()
        return outputs

    def calibrate(self, folder: Path, examples: Sequence[Example]) -> None:
        """Learn the activation ranges for all later `write` calls in int8.

        Args:
            folder: This model's fp32 export.
            examples: Typical texts; at most `MOST_CALIBRATION_ROWS` are read.
        """
        engine = open_exported(folder)
        encoded = engine.encode(examples[:MOST_CALIBRATION_ROWS])
        # One row at a time, so that padding does not affect the ranges.
        feeds = [engine.batch(encoded, [row]) for row in range(len(encoded))]
        with tempfile.TemporaryDirectory() as work:
            self.form.calibrate(feeds, Path(work))
        self.calibrated = True

    def described(self, quantization: Quantization | None) -> dict[str, Any]:
        """How the model is quantised, for the manifest."""
        if quantization is None:
            return {}
        return {
            "activations": self.activations,
            "kept_fp32": sorted(quantization.kept),
        }


def _apart(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    return float(np.abs(ours - theirs).max()) / max(1.0, float(np.abs(theirs).max()))


def write_json(file: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    with write_aside(file) as out:
        json.dump(value, out, indent=2, ensure_ascii=False, default=float)
        out.write("\n")
