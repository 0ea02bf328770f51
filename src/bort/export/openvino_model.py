"""A model in the form of OpenVINO: traced from PyTorch, in fp32, or in int8 with NNCF."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bort.errors import BortError, lines_of
from bort.files import write_aside
from bort.model.checkpoints import quiet
from bort.model.pair_features import BI_ENCODER
from bort.predict.encoding import Feed
from bort.predict.graph.quantization import Quantization
from bort.predict.manifest import Manifest
from bort.predict.openvino_runner import OpenVinoRunner, load_openvino
from bort.predict.torch_encoder import TorchEncoder
from bort.predict.torch_engine import TorchEngine

_LAYER = re.compile(r"\.layers?\.(\d+)\.")


class OpenVinoModel:
    """See `exporter.Exportable`. Supports any architecture that can be traced.

    Raises:
        BortError: OpenVINO is not installed, or cannot convert the model.
    """

    engine, file_name = "openvino", "model.xml"

    def __init__(self, source: TorchEngine | TorchEncoder, name: str, *, takes_types: bool) -> None:
        model = source.model
        if BI_ENCODER in (model.config.architectures or []):
            raise BortError("a bi-encoder can be exported to ONNX Runtime, not to OpenVINO", file=name)
        self._openvino, self._name = load_openvino(name), name
        layers = {int(found[1]) for part, _ in model.named_modules() if (found := _LAYER.search(f"{part}."))}
        self.blocks = tuple(f"layer.{number}" for number in sorted(layers))
        self._feeds: Sequence[Feed] = ()
        # One row is shorter than the other, so that the tracer does not treat the mask as a constant.
        mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
        example = {"input_ids": mask, "attention_mask": mask}
        asked: torch.nn.Module = _Outputs(source)
        if takes_types:
            asked, example["token_type_ids"] = _OutputsOfKinds(source), torch.zeros_like(mask)
        try:
            with _silent():
                self._model = self._openvino.convert_model(asked, example_input=example)
        except Exception as error:  # tracing runs the model, which may raise anything
            first = lines_of(error)[0][:150]
            raise BortError(
                f"OpenVINO cannot convert this model: {first}", file=name, value=model.config.model_type
            ) from None
        self._model.outputs[0].get_tensor().set_names({"outputs"})

    def calibrate(self, feeds: Sequence[Feed], folder: Path) -> None:
        """Keep the rows for later `write` calls; NNCF relearns the ranges each time, because it also moves scales."""
        self._feeds = feeds

    def write(self, file: Path, quantization: Quantization | None) -> None:
        """Write the model, and its weights next to it.

        Raises:
            BortError: int8 is requested, but NNCF is not installed or `calibrate` was not called.
        """
        model = self._model if quantization is None else self._quantized(quantization)
        self._openvino.save_model(model, file, compress_to_fp16=False)

    def _quantized(self, quantization: Quantization) -> Any:
        if not self._feeds:
            rule = "int8 with OpenVINO needs texts to calibrate on: give --calibrate or --gate"
            raise BortError(rule, file=self._name)
        try:
            import nncf
        except ImportError:
            raise BortError("needs NNCF for int8: pip install bort[openvino]", file=self._name) from None
        nncf.set_log_level(logging.ERROR)
        with _silent():
            return nncf.quantize(
                self._model.clone(),
                nncf.Dataset(self._feeds),
                subset_size=len(self._feeds),
                model_type=nncf.ModelType.TRANSFORMER,
                ignored_scope=nncf.IgnoredScope(patterns=self._left(quantization), validate=False),
                # Full range: opening the model narrows the weights if the processor needs that.
                advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.DISABLE),
            )

    def _left(self, quantization: Quantization) -> list[str]:
        """Patterns of the operations that stay in fp32: those outside all layers, and those of the kept blocks."""
        if not self.blocks:
            return []
        kept = [block.removeprefix("layer.") for block in sorted(quantization.kept)]
        return [r"(?!.*\.layers?\.\d+).*", *(rf".*\.layers?\.{number}(\D.*)?" for number in kept)]


def add_prepared(folder: Path, manifest: Manifest) -> Manifest:
    """Add OpenVINO's graphs in compiled form, for a faster first prediction on the same kind of processor.

    The manifest lists them with their checksums like all other files, and opening the folder never writes any.
    """
    graphs = list(manifest.graphs)
    for place, spec in enumerate(graphs):
        if spec.engine == OpenVinoModel.engine:
            content, wanted = OpenVinoRunner(folder, manifest, spec).prepared()
            name = Path(spec.model).with_suffix(".blob").name
            with write_aside(folder / name, "wb") as out:
                out.write(content)
            graphs[place] = dataclasses.replace(spec, prepared=name, prepared_for=wanted)
    changed = dataclasses.replace(manifest, graphs=tuple(graphs))
    return manifest if changed == manifest else changed.write(folder)


class _Outputs(torch.nn.Module):
    """A model as a function of tensors, which can be traced."""

    def __init__(self, source: TorchEngine | TorchEncoder) -> None:
        super().__init__()
        self.model, self._source = source.model, source

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """*Shape:* (batch, length) each -> (batch, outputs)."""
        return self._source.forward({"input_ids": input_ids, "attention_mask": attention_mask})


class _OutputsOfKinds(_Outputs):
    """The same for a model with token types."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:  # type: ignore[override]
        """*Shape:* (batch, length) each -> (batch, outputs)."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        return self._source.forward(inputs)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Suppress warnings about tracing, and progress bars on standard output, which is for results."""
    with quiet(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
