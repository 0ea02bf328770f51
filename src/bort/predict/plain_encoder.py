"""Run an embedded encoder without PyTorch on machines without a GPU, like `plain_engine`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from bort.model.checkpoints import EMBEDDED, unpacked
from bort.predict.graph.architectures import as_bert
from bort.predict.graph.bert_graph import BertGraph
from bort.predict.graph_spec import GraphSpec
from bort.predict.manifest import EncoderSpec, Manifest
from bort.predict.plain_engine import PlainEngine, may_have_gpu, plain_tokenizer


def is_embedded(model: str) -> bool:
    """Whether a name is that of a model in this package, and not of a local folder."""
    return model in EMBEDDED and unpacked(model) != model


def open_plain_encoder(model: str, threads: int | None = None) -> PlainEngine | None:
    """Load an embedded encoder without PyTorch; its vectors are the mean over the tokens.

    Other folders may have settings, in a dozen files, that are not supported here; PyTorch runs them.

    Args:
        model: A folder, an embedded model's name, or a hub name.
        threads: Threads for the computation and the tokenizer; by default one per core.

    Returns:
        None if there may be a GPU, and for any other model.
    """
    if may_have_gpu() or not is_embedded(model):
        return None
    folder = Path(unpacked(model))
    names = ("config.json", "tokenizer_config.json", "sentence_bert_config.json")
    config, settings, sentences = (json.loads((folder / name).read_bytes()) for name in names)
    stored = {name: values.astype(np.float32) for name, values in load_file(folder / "model.safetensors").items()}
    # Without pairs, all tokens have type 0, whose embedding the graph adds to the positions.
    shape, weights = as_bert(config, stored, model, takes_types=False, pooling="mean")
    graph = BertGraph(shape, weights)
    tokenizer = plain_tokenizer(folder, settings)
    manifest = Manifest(
        graphs=(GraphSpec("onnxruntime", "fp32", "", "model.safetensors"),),
        tokenizer="tokenizer.json",
        inputs=graph.input_names,
        task=None,
        encoder=EncoderSpec(config["hidden_size"], "mean", normalizes=False),
        max_length=min(sentences["max_seq_length"], settings["model_max_length"]),
        truncation_side="right",
        special_tokens={},
        split_special_tokens=False,
        pad_token_id=tokenizer.token_to_id(settings["pad_token"]),
        pairs=None,
        cast=None,
        thresholds={},
        about={},
    )
    return PlainEngine(folder, manifest, tokenizer, graph.in_memory(), threads)
