"""A model in the form of ONNX Runtime: a graph, and the activation ranges for int8."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bort.predict.encoding import Feed
from bort.predict.graph.architectures import as_bert
from bort.predict.graph.bert_graph import BertGraph
from bort.predict.graph.quantization import Quantization, Range
from bort.predict.manifest import Pooling
from bort.predict.onnx_runner import open_session

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class OnnxModel:
    """See `exporter.Exportable`.

    Raises:
        BortError: The architecture cannot be exported.
    """

    engine, file_name = "onnxruntime", "model.onnx"

    def __init__(self, model: PreTrainedModel, name: str, *, takes_types: bool, pooling: Pooling | None = None) -> None:
        state = {own: tensor.numpy() for own, tensor in model.state_dict().items()}
        self.shape, self.weights = as_bert(
            model.config.to_dict(), state, name, takes_types=takes_types, pooling=pooling
        )
        self.blocks = self.shape.blocks
        self._ranges: dict[str, Range] = {}

    def calibrate(self, feeds: Sequence[Feed], folder: Path) -> None:
        """Learn the range of each matrix's inputs."""
        graph = BertGraph(self.shape, self.weights)
        graph.write(folder / self.file_name, with_inputs=True)
        session = open_session(folder, (folder / self.file_name).read_bytes())
        names = [*dict.fromkeys(graph.matrix_inputs.values())]
        seen = dict.fromkeys(names, (0.0, 0.0))
        for feed in feeds:
            for name, values in zip(names, session.run(names, feed), strict=True):
                low, high = seen[name]
                seen[name] = (min(low, float(values.min())), max(high, float(values.max())))
        self._ranges = {matrix: seen[name] for matrix, name in graph.matrix_inputs.items()}

    def write(self, file: Path, quantization: Quantization | None) -> None:
        """Write the graph, and its weights next to it."""
        BertGraph(self.shape, self.weights, quantization, self._ranges).write(file)
