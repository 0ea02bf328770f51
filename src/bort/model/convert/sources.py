"""Reads checkpoints of several formats into arrays under the names of Hugging Face's BERT.

Supported are `.params` files of the released code (MXNet, GluonNLP) and BERT folders of `transformers`, new or old.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bort.errors import BortError, lines_of
from bort.model.checkpoints import locate
from bort.model.convert.mxnet import read_params
from bort.model.convert.weight_names import gluon_to_hf, hf_to_gluon, is_classifier

Array = npt.NDArray[Any]

WORDS = "bert.embeddings.word_embeddings.weight"
_TIED = {"cls.predictions.decoder.weight": WORDS, "cls.predictions.decoder.bias": "cls.predictions.bias"}


@dataclass
class Checkpoint:
    """A checkpoint that was read.

    Attributes:
        path: The file or folder.
        format: Its format.
        arrays: Weights by Hugging Face's names; those of the encoder all start with `bert.`.
        origin: Original name of each array in the source.
        config: The content of `config.json`; empty for a `.params` file.
        notes: Notes for the user, such as on what was left out.
    """

    path: Path
    format: Literal["mxnet", "huggingface"]
    arrays: dict[str, Array]
    origin: dict[str, str]
    config: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def shown(self, name: str) -> str:
        """Return the source's name of an array, also of one that it lacks."""
        if self.format == "mxnet" and name not in self.origin:
            return hf_to_gluon(name, classifier=is_classifier(self.origin.values()))
        return self.origin.get(name, name)

    def has(self, prefix: str) -> bool:
        """Whether the name of any array starts with `prefix`."""
        return any(name.startswith(prefix) for name in self.arrays)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a `.params` file or a Hugging Face BERT folder.

    Raises:
        BortError: The source is neither, cannot be read, or has an array that does not belong in a BERT.
    """
    return _read_folder(path) if path.is_dir() else _read_mxnet(path)


def _read_mxnet(path: Path) -> Checkpoint:
    checkpoint = Checkpoint(path, "mxnet", {}, {})
    for name, array in read_params(path).items():
        try:
            _add(checkpoint, gluon_to_hf(name), name, array)
        except BortError as error:
            raise BortError(error.rule, file=path, value=name) from None
    return checkpoint


def _read_folder(path: Path) -> Checkpoint:
    file = Path(locate(path), "config.json")
    try:
        config = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BortError(f"must be JSON that can be read: {error}", file=file) from None
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "bert":
        raise BortError("only model_type 'bert' can be converted", file=file, column="model_type", value=kind)
    checkpoint = Checkpoint(path, "huggingface", {}, {}, config)
    tensors = _read_weights(path)
    prefix = "" if any(name.startswith("bert.") for name in tensors) else "bert."
    dropped = []
    for name, array in tensors.items():
        if name.endswith(("embeddings.position_ids", "embeddings.token_type_ids")):
            continue  # buffers that older releases saved
        if name.startswith("cls.seq_relationship."):
            dropped.append(name)
            continue
        target = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
        target = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", target)
        if target.startswith(("embeddings.", "encoder.", "pooler.")):
            target = prefix + target
        _add(checkpoint, target, name, array)
    if dropped:
        checkpoint.notes.append("the next-sentence head (cls.seq_relationship) was left out")
    return checkpoint


def _read_weights(path: Path) -> dict[str, Array]:
    safe, pickled = path / "model.safetensors", path / "pytorch_model.bin"
    file = safe if safe.is_file() else pickled
    if not file.is_file():
        raise BortError(f"must hold {safe.name} or {pickled.name} (in one piece)", file=path)
    import torch

    try:
        if file == safe:
            from safetensors.torch import load_file

            tensors = load_file(file)
        else:
            tensors = torch.load(file, map_location="cpu", weights_only=True)
        # A tensor can claim to be larger than its storage; tied ones are counted twice.
        if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > 2 * file.stat().st_size:
            raise ValueError("they claim more numbers than the file holds")
        # NumPy has no bfloat16; single precision holds every value of it.
        return {
            str(name): (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
            for name, tensor in tensors.items()
        }
    except Exception as error:  # the libraries raise a dozen kinds, depending on the damage
        first = lines_of(error)[0]
        raise BortError(f"the weights cannot be loaded: {first}", file=file) from None


def _add(checkpoint: Checkpoint, name: str, origin: str, array: Array) -> None:
    if name in checkpoint.arrays:
        raise BortError(f"holds the same weights as {checkpoint.origin[name]!r}", file=checkpoint.path, value=origin)
    checkpoint.arrays[name], checkpoint.origin[name] = array, origin


def cast(checkpoint: Checkpoint, dtype: np.dtype[Any]) -> None:
    """Convert every array to one floating-point type.

    Raises:
        BortError: An array is not floating-point, or holds NaN or infinity (also from overflow in `dtype`).
    """
    for name, array in checkpoint.arrays.items():
        shown = checkpoint.shown(name)
        if array.dtype.kind != "f":
            raise BortError(f"weights must be floating-point, not {array.dtype}", file=checkpoint.path, value=shown)
        with np.errstate(over="ignore"):
            result = np.ascontiguousarray(array, dtype).reshape(array.shape)  # NumPy makes a scalar a vector
        if not np.isfinite(result).all():
            raise BortError(f"weights must be finite numbers in {dtype}", file=checkpoint.path, value=shown)
        checkpoint.arrays[name] = result


def drop_tied(checkpoint: Checkpoint) -> None:
    """Remove arrays that are tied to others and so not stored: the vocabulary projection and its bias.

    Raises:
        BortError: An array differs from the one it is tied to.
    """
    arrays = checkpoint.arrays
    for name, twin in _TIED.items():
        if name not in arrays or (checkpoint.format == "mxnet" and twin not in arrays):
            continue
        # A Hugging Face file may hold a tied weight under either name.
        checkpoint.origin.setdefault(twin, checkpoint.origin[name])
        array = arrays.pop(name)
        if not np.array_equal(arrays.setdefault(twin, array), array):
            rule = f"must equal {checkpoint.shown(twin)!r}, to which it is tied"
            raise BortError(rule, file=checkpoint.path, value=checkpoint.shown(name))
