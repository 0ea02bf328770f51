"""Run a folder of `bort finetune` without PyTorch on machines without a GPU: ONNX Runtime runs a graph built in memory.

Importing PyTorch and transformers takes four times as long as all of this takes to the first answer.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from bort.errors import BortError
from bort.model.checkpoints import check_layout
from bort.model.pair_features import BI_ENCODER
from bort.model.sentence_files import refuse_preparation, stated_length
from bort.model.tokenization import panics_are_errors, try_out
from bort.predict.exported_engine import ExportedEngine
from bort.predict.graph.architectures import NAMES, as_bert
from bort.predict.graph.bert_graph import BertGraph, Weights
from bort.predict.graph_spec import GraphSpec
from bort.predict.inputs import check_readable
from bort.predict.manifest import SHORTEST_INPUT, Manifest
from bort.predict.onnx_runner import OnnxRunner, open_session
from bort.predict.thresholds import IN_CONFIG, are_thresholds
from bort.tasks.kinds import KINDS
from bort.tasks.metrics import METRICS
from bort.tasks.regression import Regression
from bort.tasks.task import Task

_HEADS = ("ForSequenceClassification", "ForMultipleChoice")
_KINDS = {kind.problem_type: kind for kind in KINDS.values()}
_TOKENIZER = "tokenizer.json"
_TOKENIZER_SETTINGS = frozenset(
    {
        "backend",
        "model_input_names",
        "model_max_length",
        "padding_side",
        "split_special_tokens",
        "tokenizer_class",
        "truncation_side",
    }
)
"""What `bort finetune` writes in addition to special tokens. Other settings may override `tokenizer.json`."""


class PlainEngine(ExportedEngine):
    """See `ExportedEngine`.

    Args:
        folder: Folder that `bort finetune` wrote.
        manifest: The manifest that an export of it would have.
        tokenizer: Its `tokenizers.Tokenizer`.
        model: Its graph, and the weights stored outside the graph.
        threads: Threads for the computation and the tokenizer; by default one per core.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, tokenizer: Any, model: tuple[bytes, Weights], threads: int | None = None
    ) -> None:
        self._opened, self._model = tokenizer, model
        super().__init__(folder, manifest, threads)

    def _open_tokenizer(self) -> Any:
        return self._opened

    def _check_and_load(self) -> None:
        self.runners[0].opened(shared=True)

    def _runner(self, spec: GraphSpec, threads: int | None) -> OnnxRunner:
        return _InMemory(self.folder, self.manifest, spec, threads, self._model)


class _InMemory(OnnxRunner):
    """A graph in memory, with the weights stored outside it."""

    def __init__(self, *where: Any) -> None:
        *place, self._model = where
        super().__init__(*place)

    def session(self, threads: int) -> Any:
        """Open a session of the graph in memory."""
        graph, weights = self._model
        return open_session(self.folder, graph, threads, weights)


def open_plain(model: str, threads: int | None = None) -> PlainEngine | None:
    """Load a model without PyTorch, if that gives the same results.

    Args:
        model: A folder, an embedded model's name, or a hub name.
        threads: Threads for the computation and the tokenizer; by default one per core.

    Returns:
        None if there may be a GPU, if the folder is not in a form of `bort finetune` that is supported here, or if
        anything is wrong with it, for which the PyTorch engine has better messages.
    """
    folder = Path(model)
    if may_have_gpu() or not (folder / "config.json").is_file():
        return None
    try:
        check_layout(model)
        refuse_preparation(model)
        config, settings = (_object(folder / name) for name in ("config.json", "tokenizer_config.json"))
        task = _task(config)
        if task is None or not _is_ours(config, settings):
            return None
        tokenizer = plain_tokenizer(folder, settings)
        takes_types = (
            config["model_type"] != "distilbert"
            and "token_type_ids" in settings["model_input_names"]
            and config["type_vocab_size"] > 1
        )
        shape, weights = as_bert(config, load_file(folder / "model.safetensors"), model, takes_types=takes_types)
        if shape.layers != _layers(weights):  # before anything is made for each of them
            return None
        places = len(weights["embeddings.position_embeddings.weight"]) - (shape.uncounted_id is not None)
        longest = min(stated_length(model) or settings["model_max_length"], places)
        ids = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())
        fits = ids <= config["vocab_size"] and type(longest) is int and longest >= SHORTEST_INPUT
        if not fits or _shapes(config, 1 if task.choices else task.outputs) != _found(weights):
            return None
        graph = BertGraph(shape, weights)
        manifest = Manifest(
            graphs=(GraphSpec("onnxruntime", "fp32", "", "model.safetensors"),),
            tokenizer=_TOKENIZER,
            inputs=graph.input_names,
            task=task,
            encoder=None,
            max_length=longest,
            truncation_side=settings["truncation_side"],
            special_tokens={},
            split_special_tokens=settings["split_special_tokens"],
            pad_token_id=tokenizer.token_to_id(settings["pad_token"]),
            pairs=config.get("bort_pairs"),
            cast=config.get("bort_cast"),
            thresholds=task.threshold_by_name,
            about={},
        )
        return PlainEngine(folder, manifest, tokenizer, graph.in_memory(), threads)
    except (BortError, OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError, SafetensorError):
        # AttributeError: safetensors asks numpy for the type of weights in fp8 or fp4.
        return None


def may_have_gpu() -> bool:
    """Whether PyTorch might find a GPU. PyTorch is not asked, because its import takes longer than everything else."""
    try:
        if importlib.metadata.version("torch").endswith("+cpu"):
            return False
    except importlib.metadata.PackageNotFoundError:
        return False
    drivers = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA, the same under WSL, AMD
    return sys.platform == "win32" or any(Path(driver).exists() for driver in drivers)


def _object(file: Path) -> dict[str, Any]:
    found = json.loads(file.read_bytes())
    if not isinstance(found, dict):
        raise ValueError
    return found


def _is_ours(config: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether a folder has only settings that `bort finetune` writes and that are supported here."""
    return (
        "bort_metric" in config
        and config["model_type"] in NAMES
        and settings["tokenizer_class"] == "PreTrainedTokenizerFast"
        and settings.keys() <= _TOKENIZER_SETTINGS | {name for name in settings if name.endswith("_token")}
        and settings["truncation_side"] in ("left", "right")
        and type(settings["split_special_tokens"]) is bool
    )


def _task(config: Mapping[str, Any]) -> Task | None:
    """The task of a classifier; None, or an error, if it is not one of those supported here."""
    [architecture] = map(str, config["architectures"])
    kind, names = _KINDS.get(config["problem_type"]), config["id2label"]
    if kind is None or not architecture.endswith(_HEADS) or config["bort_metric"] not in METRICS[kind.kind]:
        return None
    ordered = tuple(str(names[str(number)]) for number in range(len(names)))
    check_readable(*ordered)
    if kind is Regression:
        return Regression((), config["bort_metric"]) if len(names) == 1 else None
    thresholds = config.get(IN_CONFIG, {})
    if len({*ordered}) < len(ordered) or len(ordered) < 2 or not are_thresholds(thresholds, ordered):
        return None
    choices = architecture.endswith("ForMultipleChoice")
    return kind.of_model(ordered, config["bort_metric"], thresholds, choices=choices)


def plain_tokenizer(folder: Path, settings: Mapping[str, Any]) -> Any:
    """Load the tokenizer of a folder.

    Args:
        folder: Folder of the model.
        settings: Content of its `tokenizer_config.json`.

    Raises:
        ValueError: `tokenizer.json` cannot be read, or lacks a special token of `settings`.
    """
    from tokenizers import Tokenizer

    try:
        with panics_are_errors():
            tokenizer = Tokenizer.from_buffer((folder / _TOKENIZER).read_bytes())
        try_out(tokenizer)
    except Exception as error:  # the library has no exception class of its own
        raise ValueError(error) from None
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    if not {value for name, value in settings.items() if name.endswith("_token")} <= special:
        raise ValueError("a special token is not one of its file")
    return tokenizer


def _layers(weights: Weights) -> int:
    """Number of layers that the weights belong to."""
    return len({name.split(".")[2] for name in weights if name.startswith("encoder.layer.")})


def _shapes(config: Mapping[str, Any], outputs: int) -> dict[str, tuple[int, ...]]:
    """The expected shapes of all weights except the position embeddings, by BERT's names."""
    distilled = config["model_type"] == "distilbert"
    hidden = config["dim" if distilled else "hidden_size"]
    inner = config["hidden_dim" if distilled else "intermediate_size"]
    linear = {"pooler.dense": (hidden, hidden), "classifier": (outputs, hidden)}
    if config["architectures"] == [BI_ENCODER]:
        linear = {"classifier": (outputs, 4 * hidden + 1)}
    norms = ["embeddings.LayerNorm"]
    for number in range(config["n_layers" if distilled else "num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        linear |= {f"{layer}.attention.self.{part}": (hidden, hidden) for part in ("query", "key", "value")}
        linear |= {
            f"{layer}.attention.output.dense": (hidden, hidden),
            f"{layer}.intermediate.dense": (inner, hidden),
            f"{layer}.output.dense": (hidden, inner),
        }
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], hidden),
        "embeddings.token_type_embeddings.weight": (1 if distilled else config["type_vocab_size"], hidden),
    }
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in norms:
        shapes |= {f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)}
    return shapes


def _found(weights: Weights) -> dict[str, tuple[int, ...]]:
    """The actual shapes of all weights except the position embeddings.

    Raises:
        ValueError: A weight is not in single precision.
    """
    if any(values.dtype != np.float32 for values in weights.values()):
        raise ValueError("a weight is not in single precision")
    return {name: values.shape for name, values in weights.items() if "position_embeddings" not in name}
