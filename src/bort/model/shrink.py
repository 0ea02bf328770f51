"""Cuts a smaller BERT out of a trained encoder: layers, heads, neurons, dimensions, vocabulary.

A sub-architecture with random weights knows nothing; one cut out of a trained encoder starts with its knowledge. At
the full shape and vocabulary, the result computes the same as the encoder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, BertModel, PreTrainedModel

from bort.errors import BortError
from bort.model.inheritance import ReadEncoder, read_source
from bort.model.shrink_scores import Scores, weight_scores

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class SubShape:
    """The shape to keep of an encoder; None leaves a part as it is.

    A BERT layer's heads fill its hidden size, so the width of a head is `hidden / heads`. Fewer heads of the same width
    need a smaller hidden size; fewer heads at the same hidden size are wider, each merged from several.

    Args:
        layers: Numbers of the layers to keep, from 0, in ascending order; or how many, spread evenly.
        heads: Attention heads per layer.
        intermediate: Neurons per layer.
        hidden: Dimensions of the residual stream.
    """

    layers: int | Sequence[int] | None = None
    heads: int | None = None
    intermediate: int | None = None
    hidden: int | None = None


def spread(whole: int, part: int) -> list[int]:
    """Return evenly spread numbers of `range(whole)`, including the last and, unless `part` is 1, the first.

    >>> spread(6, 3), spread(12, 4), spread(5, 1)
    ([0, 2, 5], [0, 4, 7, 11], [4])
    """
    if part == 1:
        return [whole - 1]
    return [round(number * (whole - 1) / (part - 1)) for number in range(part)]


def shrink(
    model: PreTrainedModel,
    shape: SubShape | None = None,
    *,
    kept: NDArray[np.int64] | None = None,
    scores: Scores | None = None,
) -> BertModel | BertForMaskedLM:
    """Cut a smaller BERT out of a trained encoder.

    Each remaining layer keeps the heads and neurons with the highest scores. If heads become narrower, their query-key
    and value-output products are truncated to the leading singular vectors; if they become wider, each averages the
    attention of several. Hidden dimensions are selected, not mixed, because the LayerNorms on the residual stream
    commute only with a selection.

    Args:
        model: An encoder of BERT, RoBERTa, XLM-RoBERTa or CamemBERT, with or without a masked-LM head; it is left
            unchanged.
        shape: The shape to keep; by default all of it.
        kept: Rows of the word embedding to keep, in their new order (see `cut_vocabulary`). *Shape:*
            (new vocabulary,).
        scores: Importance of heads, neurons and dimensions; by default from the norms of their weights.

    Returns:
        A model with its own weights, in the precision of `model`, and with a masked-LM head if `model` has one.

    Raises:
        BortError: The model is of another family, or the shape does not fit into the encoder's.

    Example:
        >>> teacher = BertModel.from_pretrained("some/encoder")  # doctest: +SKIP
        >>> student = shrink(teacher, SubShape(layers=(0, 2, 5)), kept=cut.kept)  # doctest: +SKIP
    """
    source = read_source(model)
    shape = shape or SubShape()
    cut = _Cut.plan(source.config, shape)
    if scores is None:
        scores = weight_scores(source)
    scores.check(source.config)
    dims = scores.best_hidden(cut.hidden)
    rows = _rows(kept, source.config.vocab_size)
    weights = dict(_embeddings(source, dims, rows))
    for new, old in enumerate(cut.layers):
        heads, neurons = scores.best_heads(old, cut.old_heads), scores.best_neurons(old, cut.intermediate)
        weights |= {
            f"encoder.layer.{new}.{name}": tensor for name, tensor in _layer(source, old, cut, heads, neurons, dims)
        }
    if source.has_pooler:
        weights |= {
            "pooler.dense.weight": source.weights["pooler.dense.weight"][dims][:, dims],
            "pooler.dense.bias": source.weights["pooler.dense.bias"][dims],
        }
    return _built(source, cut, weights, dims, rows)


@dataclass(frozen=True)
class _Cut:
    """The new shape: in each layer, `old_heads` heads of the encoder become `heads` new ones."""

    layers: list[int]
    heads: int
    old_heads: int
    intermediate: int
    hidden: int
    old_width: int

    @property
    def width(self) -> int:
        return self.hidden // self.heads

    @classmethod
    def plan(cls, config: BertConfig, shape: SubShape) -> _Cut:
        depth, old_heads = config.num_hidden_layers, config.num_attention_heads
        if shape.layers is None:
            layers = list(range(depth))
        elif isinstance(shape.layers, int):
            _within("layers", shape.layers, depth)
            layers = spread(depth, shape.layers)
        else:
            layers = list(shape.layers)
            if not layers or layers != sorted(set(layers)) or layers[0] < 0 or layers[-1] >= depth:
                raise BortError(f"layers must be ascending numbers of 0 to {depth - 1}", value=layers)
        hidden = _within("hidden", shape.hidden, config.hidden_size)
        heads = _within("heads", shape.heads, old_heads)
        intermediate = _within("intermediate", shape.intermediate, config.intermediate_size)
        old_width = config.hidden_size // old_heads
        if hidden % heads:
            raise BortError(f"hidden must be divisible by the {heads} heads", value=hidden)
        width = hidden // heads
        if width > old_width and width % old_width:
            rule = f"a head of {width} (hidden / heads) must be a multiple of the encoder's of {old_width}, or narrower"
            raise BortError(rule, value=hidden)
        of_each = max(1, width // old_width)
        return cls(layers, heads, heads * of_each, intermediate, hidden, old_width)


def _within(what: str, asked: int | None, most: int) -> int:
    if asked is None:
        return most
    if not 1 <= asked <= most:
        raise BortError(f"{what} must be 1 to {most}, the encoder's own", value=asked)
    return asked


def _rows(kept: NDArray[np.int64] | None, vocab_size: int) -> Tensor:
    if kept is None:
        return torch.arange(vocab_size)
    if kept.ndim != 1 or not len(kept) or kept.min() < 0 or kept.max() >= vocab_size:
        raise BortError(f"kept must be rows of the word embedding, 0 to {vocab_size - 1}", value=kept.tolist()[:5])
    return torch.from_numpy(np.ascontiguousarray(kept, dtype=np.int64))


def _embeddings(source: ReadEncoder, dims: Tensor, rows: Tensor) -> Iterator[tuple[str, Tensor]]:
    for part in ("word", "position", "token_type"):
        name = f"embeddings.{part}_embeddings.weight"
        whole = source.weights[name]
        yield name, (whole[rows] if part == "word" else whole)[:, dims]
    for kind in ("weight", "bias"):
        yield f"embeddings.LayerNorm.{kind}", source.weights[f"embeddings.LayerNorm.{kind}"][dims]


def _layer(
    source: ReadEncoder, old: int, cut: _Cut, heads: Tensor, neurons: Tensor, dims: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of one new layer, by their names within the layer."""
    own = {
        name.removeprefix(f"encoder.layer.{old}."): tensor
        for name, tensor in source.weights.items()
        if name.startswith(f"encoder.layer.{old}.")
    }
    q, k, v = (
        torch.cat([own[f"attention.self.{part}.weight"][:, dims], own[f"attention.self.{part}.bias"][:, None]], 1)
        for part in ("query", "key", "value")
    )  # (old heads x old width, hidden + 1): the bias is the last column
    out = own["attention.output.dense.weight"][dims]  # (hidden, old heads x old width)
    by_head = [(number * cut.old_width, (number + 1) * cut.old_width) for number in heads.tolist()]
    q, k, v = (torch.stack([part[start:stop] for start, stop in by_head]) for part in (q, k, v))
    out = torch.stack([out[:, start:stop] for start, stop in by_head])  # (heads, hidden, old width)
    if cut.width < cut.old_width:
        q, k = _narrowed(q.transpose(1, 2), k.transpose(1, 2), cut.width)
        out, v = _narrowed(out, v.transpose(1, 2), cut.width)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        q = q * math.sqrt(cut.width / cut.old_width)  # attention divides by the root of the new width
    elif cut.width > cut.old_width:
        q = q / math.sqrt(cut.width // cut.old_width)  # the mean of the merged heads' scores
    for part, stacked in (("query", q), ("key", k), ("value", v)):
        flat = stacked.reshape(cut.hidden, -1)
        yield f"attention.self.{part}.weight", flat[:, :-1]
        yield f"attention.self.{part}.bias", flat[:, -1]
    yield "attention.output.dense.weight", out.permute(1, 0, 2).reshape(cut.hidden, cut.hidden)
    yield "intermediate.dense.weight", own["intermediate.dense.weight"][neurons][:, dims]
    yield "intermediate.dense.bias", own["intermediate.dense.bias"][neurons]
    yield "output.dense.weight", own["output.dense.weight"][dims][:, neurons]
    for name in ("attention.output.dense.bias", "output.dense.bias"):
        yield name, own[name][dims]
    for norm in ("attention.output.LayerNorm", "output.LayerNorm"):
        for kind in ("weight", "bias"):
            yield f"{norm}.{kind}", own[f"{norm}.{kind}"][dims]


def _narrowed(left: Tensor, right: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return the best approximation left' @ right'ᵀ of left @ rightᵀ with the given width.

    *Shapes:* (heads, n, old width), (heads, m, old width) -> (heads, n, width), (heads, m, width).
    """
    dtype = left.dtype
    left_base, left_part = torch.linalg.qr(left.float())
    right_base, right_part = torch.linalg.qr(right.float())
    u, s, v = torch.linalg.svd(left_part @ right_part.transpose(1, 2))
    root = s[:, None, :width].sqrt()
    new_left = left_base @ u[:, :, :width] * root
    new_right = right_base @ v.transpose(1, 2)[:, :, :width] * root
    return new_left.to(dtype), new_right.to(dtype)


def _built(source: ReadEncoder, cut: _Cut, weights: Weights, dims: Tensor, rows: Tensor) -> BertModel | BertForMaskedLM:
    config = BertConfig(**source.config.to_dict())
    config.num_hidden_layers, config.num_attention_heads = len(cut.layers), cut.heads
    config.hidden_size, config.intermediate_size = cut.hidden, cut.intermediate
    config.vocab_size = len(rows)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if (number := getattr(config, name, None)) is not None:
            place = (rows == number).nonzero()
            setattr(config, name, int(place[0]) if len(place) else None)
    model: BertModel | BertForMaskedLM
    if source.head is None:
        model = BertModel(config, add_pooling_layer=source.has_pooler)
    else:
        model = source.head_class(config)
        weights = {f"bert.{name}": tensor for name, tensor in weights.items()}
        for name, tensor in source.head.items():
            if name.endswith("predictions.bias"):
                weights[name] = tensor[rows]
            elif name.endswith("transform.dense.weight"):
                weights[name] = tensor[dims][:, dims]
            else:
                weights[name] = tensor[dims]
        weights["cls.predictions.decoder.weight"] = weights["bert.embeddings.word_embeddings.weight"]
        weights["cls.predictions.decoder.bias"] = weights["cls.predictions.bias"]
    model.to(source.weights["embeddings.word_embeddings.weight"].dtype)
    model.load_state_dict({name: tensor.clone() for name, tensor in weights.items()})
    return model.eval()
