"""Converts checkpoints to a plain Hugging Face BERT folder; nothing is written until everything has been checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bort.errors import BortError
from bort.files import folder_aside, new_folder
from bort.model.config import MLM_HEAD_EPS, PRESETS, count_parameters
from bort.model.convert.sources import WORDS, Array, Checkpoint, cast, drop_tied, read_checkpoint
from bort.model.sentence_files import copy_modules

if TYPE_CHECKING:
    from transformers import BertConfig, PreTrainedTokenizerFast

Dtype = Literal["auto", "float32", "float16"]

KNOWN_HEADS = {(shape.depth, shape.hidden, shape.intermediate): shape.heads for shape in PRESETS.values()}
"""Attention heads by layers, hidden and intermediate size; the arrays do not show them."""

_NOT_OF_THE_MODEL = (
    "auto_map",
    "attn_implementation",
    "_attn_implementation",
    "experts_implementation",
    "_experts_implementation",
    "quantization_config",
    "return_dict",
)
"""Entries of a `config.json` that point to code or say how the library shall compute; none goes into the result."""
_POSITIONS = "bert.embeddings.position_embeddings.weight"
_TYPES = "bert.embeddings.token_type_embeddings.weight"
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")
_RELEASED: dict[str, Any] = {
    "layer_norm_eps": 1e-5,
    "mlm_layer_norm_eps": MLM_HEAD_EPS,
    "hidden_act": "gelu",
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
"""Values that the released code hard-codes and its files do not hold (alexa/bort's model code)."""


def convert_checkpoint(
    source: str | Path,
    out: str | Path,
    *,
    num_attention_heads: int | None = None,
    tokenizer: str | Path | None = None,
    dtype: Dtype = "auto",
) -> dict[str, Any]:
    """Convert a checkpoint to a Hugging Face BERT folder: `config.json`, `model.safetensors`, the tokenizer.

    Pooling, prompts and other modules of a sentence-transformers folder are copied.

    Args:
        source: An MXNet `.params` file of the released code, or a Hugging Face BERT folder (`config.json` with
            `model.safetensors` or `pytorch_model.bin`).
        out: The folder to write; it must be absent or empty.
        num_attention_heads: Heads of a `.params` file, which does not store them; by default those of the known shape.
        tokenizer: Folder of the tokenizer (`vocab.json` and `merges.txt`, or `tokenizer.json`). By default a Hugging
            Face folder's own, and none for a `.params` file.
        dtype: Type of the stored weights. "auto" keeps half precision if all of the source has it, and stores
            single precision otherwise. `config.json` always says float32, so that the model computes in it.

    Returns:
        The shape, counted `parameters`, `dtype`, `files` written, and `notes` on what was left out.

    Raises:
        BortError: The source cannot be read, an array is missing, unexpected, wrongly shaped or not finite, the heads
            are not known, the tokenizer does not fit, or `out` is taken.
    """
    path = Path(source)
    out = new_folder(out)
    checkpoint = read_checkpoint(path)
    stored = _stored_dtype(checkpoint, dtype)
    cast(checkpoint, stored)
    drop_tied(checkpoint)
    config = _configure(checkpoint, num_attention_heads)
    _check_shapes(checkpoint, config)
    checkpoint.arrays.setdefault(_TYPES, np.zeros((1, config.hidden_size), stored))
    words = _tokenizer(checkpoint, tokenizer, config)
    try:
        with folder_aside(out) as folder:
            if checkpoint.format == "huggingface":
                copy_modules(str(path), folder)
            _write(folder, checkpoint.arrays, config, words)
            files = sorted(file.name for file in folder.iterdir())
    except OSError as error:
        raise BortError(f"cannot be written: {error.strerror or error}", file=out) from None
    return {
        "source": str(path),
        "format": checkpoint.format,
        "out": str(out),
        "architecture": config.architectures[0],
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_position_embeddings,
        "num_labels": _outputs(config) if checkpoint.has("classifier.") else None,
        "dtype": stored.name,
        "parameters": _count(checkpoint.arrays),
        "files": files,
        "notes": checkpoint.notes,
    }


def _stored_dtype(checkpoint: Checkpoint, dtype: Dtype) -> np.dtype[Any]:
    if dtype != "auto":
        return np.dtype(dtype)
    halves = all(array.dtype == np.float16 for array in checkpoint.arrays.values())
    return np.dtype(np.float16 if halves else np.float32)


def _configure(checkpoint: Checkpoint, heads: int | None) -> BertConfig:
    """Build the configuration from the arrays and, for a Hugging Face folder, from its `config.json`."""
    from transformers import BertConfig

    classifier, mlm = checkpoint.has("classifier."), checkpoint.has("cls.predictions.")
    if classifier and mlm:
        raise BortError("must hold a classifier or a masked-LM head, not both", file=checkpoint.path)
    shape = _infer_shape(checkpoint)
    if checkpoint.format == "mxnet":
        fields = {**_RELEASED, **shape, "num_attention_heads": heads}
        if heads is None:
            fields["num_attention_heads"] = _known_heads(checkpoint, shape)
        if classifier:
            fields["num_labels"] = _dim(checkpoint, "classifier.weight", 0)
    else:
        fields = {key: value for key, value in checkpoint.config.items() if key not in _NOT_OF_THE_MODEL}
    file = checkpoint.path if checkpoint.format == "mxnet" else checkpoint.path / "config.json"
    try:
        config = BertConfig.from_dict(fields)
    except Exception as error:  # a strict dataclass and the code after it raise different kinds
        raise BortError(f"is not a BERT configuration: {' '.join(str(error).split())}", file=file) from None
    for key, value in shape.items():
        if getattr(config, key) != value:
            rule = f"must agree with the weights, which have {value}"
            raise BortError(rule, file=file, column=key, value=getattr(config, key))
    if heads not in (None, config.num_attention_heads):
        rule = f"must agree with config.json, which has {config.num_attention_heads} heads"
        raise BortError(rule, setting="num_attention_heads", value=heads)
    if config.num_attention_heads < 1 or config.hidden_size % config.num_attention_heads:
        rule = f"must be at least 1 and divide the hidden size of {config.hidden_size}"
        raise BortError(rule, file=file, column="num_attention_heads", value=config.num_attention_heads)
    config.architectures = [_classifier(config, file) if classifier else "BertForMaskedLM" if mlm else "BertModel"]
    config.tie_word_embeddings = True
    config.dtype = "float32"
    return config


def _classifier(config: BertConfig, file: Path) -> str:
    """The class of a model with a classifier, whose weights have the same names in several.

    Raises:
        BortError: The configuration names one whose answers would mean something else here.
    """
    known = ("BertForSequenceClassification", "BertForMultipleChoice")
    if not config.architectures:
        return known[0]
    if found := next((name for name in known if name in config.architectures), None):
        return found
    rule = f"of models with a classifier, only {' and '.join(known)} can be converted"
    raise BortError(rule, file=file, column="architectures", value=config.architectures)


def _known_heads(checkpoint: Checkpoint, shape: Mapping[str, int]) -> int:
    key = (shape["num_hidden_layers"], shape["hidden_size"], shape["intermediate_size"])
    if key not in KNOWN_HEADS:
        rule = "the file does not say how many attention heads this shape (layers, hidden, intermediate size) has; "
        raise BortError(f"{rule}pass --num-attention-heads", file=checkpoint.path, value=key)
    return KNOWN_HEADS[key]


def _infer_shape(checkpoint: Checkpoint) -> dict[str, int]:
    layers = {match[1] for name in checkpoint.arrays if (match := re.match(r"bert\.encoder\.layer\.(\d+)\.", name))}
    return {
        "vocab_size": _dim(checkpoint, WORDS, 0),
        "hidden_size": _dim(checkpoint, WORDS, 1),
        "max_position_embeddings": _dim(checkpoint, _POSITIONS, 0),
        "type_vocab_size": _dim(checkpoint, _TYPES, 0) if checkpoint.format == "huggingface" else 1,
        "intermediate_size": _dim(checkpoint, "bert.encoder.layer.0.intermediate.dense.weight", 0),
        "num_hidden_layers": len(layers),
    }


def _dim(checkpoint: Checkpoint, name: str, axis: int) -> int:
    """Return a dimension of a required matrix."""
    if name not in checkpoint.arrays:
        raise BortError("lacks this array", file=checkpoint.path, value=checkpoint.shown(name))
    shape = checkpoint.arrays[name].shape
    if len(shape) != 2 or 0 in shape:
        raise BortError(f"{checkpoint.shown(name)!r} must be a matrix", file=checkpoint.path, value=shape)
    return int(shape[axis])


def _check_shapes(checkpoint: Checkpoint, config: BertConfig) -> None:
    """Refuse arrays that do not match what the configuration requires, and a model that cannot be built (empty)."""
    expected = dict(_expected_shapes(checkpoint, config))
    for name, shape in expected.items():
        if name not in checkpoint.arrays:
            raise BortError("lacks this array", file=checkpoint.path, value=checkpoint.shown(name))
        if checkpoint.arrays[name].shape != shape:
            rule = f"the shape of {checkpoint.shown(name)!r} must be {shape}"
            raise BortError(rule, file=checkpoint.path, value=checkpoint.arrays[name].shape)
    for name in checkpoint.arrays:
        if name not in expected:
            raise BortError("is not an array of this model", file=checkpoint.path, value=checkpoint.shown(name))
    try:
        count_parameters(config)
    except Exception as error:  # an unknown activation, a padding token beyond the vocabulary: errors of any kind
        raise BortError(f"describes no model that can be built: {error}", file=checkpoint.path) from None


def _expected_shapes(checkpoint: Checkpoint, config: BertConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, wide = config.hidden_size, config.intermediate_size
    yield WORDS, (config.vocab_size, hidden)
    yield _POSITIONS, (config.max_position_embeddings, hidden)
    if checkpoint.format == "huggingface":
        yield _TYPES, (config.type_vocab_size, hidden)
    yield from _vectors("bert.embeddings.LayerNorm", hidden)
    for layer in (f"bert.encoder.layer.{index}" for index in range(config.num_hidden_layers)):
        for part in ("query", "key", "value"):
            yield from _dense(f"{layer}.attention.self.{part}", hidden, hidden)
        yield from _dense(f"{layer}.attention.output.dense", hidden, hidden)
        yield from _vectors(f"{layer}.attention.output.LayerNorm", hidden)
        yield from _dense(f"{layer}.intermediate.dense", wide, hidden)
        yield from _dense(f"{layer}.output.dense", hidden, wide)
        yield from _vectors(f"{layer}.output.LayerNorm", hidden)
    if checkpoint.has("cls.predictions."):
        yield from _dense("cls.predictions.transform.dense", hidden, hidden)
        yield from _vectors("cls.predictions.transform.LayerNorm", hidden)
        yield "cls.predictions.bias", (config.vocab_size,)
    if checkpoint.has("bert.pooler.") or checkpoint.has("classifier."):
        yield from _dense("bert.pooler.dense", hidden, hidden)
    if checkpoint.has("classifier."):
        yield from _dense("classifier", _outputs(config), hidden)


def _outputs(config: BertConfig) -> int:
    """Outputs of a classifier: a multiple choice model gives each choice one score."""
    return 1 if config.architectures == ["BertForMultipleChoice"] else int(config.num_labels)


def _dense(name: str, rows: int, columns: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (rows, columns)
    yield f"{name}.bias", (rows,)


def _vectors(name: str, size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (size,)
    yield f"{name}.bias", (size,)


def _tokenizer(checkpoint: Checkpoint, given: str | Path | None, config: BertConfig) -> PreTrainedTokenizerFast | None:
    """Load the given tokenizer, or the one next to the weights, and check that it fits them."""
    source = given
    if source is None and checkpoint.format == "huggingface":
        source = checkpoint.path if any((checkpoint.path / name).is_file() for name in _TOKENIZER_FILES) else None
    if source is None:
        checkpoint.notes.append("no tokenizer was given, so none was written; name its folder with --tokenizer")
        return None
    from bort.model.tokenization import load_tokenizer

    tokenizer = load_tokenizer(source)
    size, rows = len(tokenizer), config.vocab_size
    # A folder's own embedding may be padded to a round number of rows; a tokenizer given by the user must match.
    if size > rows or (given is not None and size != rows):
        raise BortError(f"the vocabulary must have the {rows} entries of the word embedding", file=source, value=size)
    if tokenizer.pad_token_id not in (None, config.pad_token_id):
        rule = f"the padding token must be number {config.pad_token_id}, as in the checkpoint"
        raise BortError(rule, file=source, value=tokenizer.pad_token_id)
    tokenizer.model_max_length = min(tokenizer.model_max_length, config.max_position_embeddings)
    return tokenizer


def _write(
    folder: Path, arrays: dict[str, Array], config: BertConfig, tokenizer: PreTrainedTokenizerFast | None
) -> None:
    from safetensors.numpy import save_file

    from bort.model.checkpoints import save_tokenizer

    if tokenizer is not None:
        inner = folder / "tokenizer"
        save_tokenizer(tokenizer, inner)
        for file in inner.iterdir():
            file.replace(folder / file.name)
        inner.rmdir()
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)


def _count(arrays: Mapping[str, Array]) -> dict[str, int]:
    """Count the parameters; a tied matrix counts once."""
    counts = {"embeddings": 0, "encoder": 0, "heads": 0}
    for name, array in arrays.items():
        part = name.split(".")[1]
        counts[part if name.startswith("bert.") and part in counts else "heads"] += array.size
    return {**counts, "total": sum(counts.values())}
