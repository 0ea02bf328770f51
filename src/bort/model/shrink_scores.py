"""Importance scores of the heads, neurons and dimensions of an encoder, from its weights or from data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, PreTrainedModel

from bort.errors import BortError
from bort.model.inheritance import ReadEncoder, read_source


@dataclass(frozen=True)
class Scores:
    """Non-negative importance scores; the highest are kept, ties go to the lower index.

    Args:
        heads: *Shape:* (layers, heads).
        neurons: *Shape:* (layers, intermediate).
        hidden: *Shape:* (H,).
    """

    heads: Tensor
    neurons: Tensor
    hidden: Tensor

    def check(self, config: BertConfig) -> None:
        """Refuse scores of another shape.

        Raises:
            BortError: The scores do not have the shapes of this encoder.
        """
        depth = config.num_hidden_layers
        shapes = (depth, config.num_attention_heads), (depth, config.intermediate_size), (config.hidden_size,)
        if tuple(tuple(part.shape) for part in (self.heads, self.neurons, self.hidden)) != shapes:
            raise BortError(f"scores must have the encoder's shapes {shapes}", value=tuple(self.heads.shape))

    def best_heads(self, layer: int, number: int) -> Tensor:
        """Return the indices of the best heads of a layer, ascending. *Shape:* (number,)."""
        return _best(self.heads[layer], number)

    def best_neurons(self, layer: int, number: int) -> Tensor:
        """Return the indices of the best neurons of a layer, ascending. *Shape:* (number,)."""
        return _best(self.neurons[layer], number)

    def best_hidden(self, number: int) -> Tensor:
        """Return the indices of the best dimensions of the residual stream, ascending. *Shape:* (number,)."""
        return _best(self.hidden, number)


def _best(scores: Tensor, number: int) -> Tensor:
    return scores.argsort(descending=True, stable=True)[:number].sort().values


def even_scores(config: BertConfig) -> Scores:
    """Return scores that keep heads, neurons and dimensions evenly spread, whatever their weights.

    An index is scored by the largest power of two that divides it (0 scores highest), so halving keeps every second.
    """

    def spaced(number: int) -> Tensor:
        return torch.tensor([float(n & -n) if n else float(number) for n in range(number)])

    depth = config.num_hidden_layers
    heads, neurons = spaced(config.num_attention_heads), spaced(config.intermediate_size)
    return Scores(heads.expand(depth, -1), neurons.expand(depth, -1), spaced(config.hidden_size))


def weight_scores(model: PreTrainedModel | ReadEncoder) -> Scores:
    """Score parts by the norms of their weights.

    A head scores the product of its value and output norms, a neuron that of its input and output norms. A dimension
    scores the sum of its embedding norm (as LayerNorm scales it), the scales of the LayerNorms in the layers, and the
    norms of the query and intermediate weights that read it, each divided by the mean over dimensions.

    Raises:
        BortError: The model is not an encoder of the BERT family.
    """
    source = model if isinstance(model, ReadEncoder) else read_source(model)
    weights, count = source.weights, source.config.num_attention_heads

    def norm(name: str, dim: int) -> Tensor:
        found: Tensor = torch.linalg.vector_norm(weights[name].float(), dim=dim)
        return found

    heads, neurons = [], []
    hidden = norm("embeddings.word_embeddings.weight", 0) * weights["embeddings.LayerNorm.weight"].float().abs()
    hidden = hidden / hidden.mean()
    for number in range(source.config.num_hidden_layers):
        layer = f"encoder.layer.{number}"
        value = norm(f"{layer}.attention.self.value.weight", 1).view(count, -1).norm(dim=1)
        out = norm(f"{layer}.attention.output.dense.weight", 0).view(count, -1).norm(dim=1)
        heads.append(value * out)
        neurons.append(norm(f"{layer}.intermediate.dense.weight", 1) * norm(f"{layer}.output.dense.weight", 0))
        for read, norms in (("attention.self.query", "attention.output"), ("intermediate", "output")):
            reads = norm(f"{layer}.{read if 'self' in read else read + '.dense'}.weight", 0)
            written = weights[f"{layer}.{norms}.LayerNorm.weight"].float().abs()
            hidden = hidden + reads / reads.mean() + written / written.mean()
    return Scores(torch.stack(heads), torch.stack(neurons), hidden)


def first_order_scores(model: PreTrainedModel, batches: Iterable[Mapping[str, Tensor]]) -> Scores:
    """Score parts by the first-order effect of removing them (Michel et al. 2019, Molchanov et al. 2017).

    The score of a part is |Σ activation · gradient|, averaged over the examples. The gradient is that of a fixed random
    projection of the mean hidden state, since without a task the states are all that matters. Scores are not normalised
    across layers, since heads and neurons are selected within each layer.

    Args:
        model: An encoder of the BERT family; the gradients of its parameters are left unchanged.
        batches: Arguments of its `forward`, for one or more texts; with `attention_mask` if there is padding.

    Raises:
        BortError: There is no batch, or the model is not an encoder of the BERT family.
    """
    source = read_source(model)
    encoder = model.base_model
    config, training = source.config, encoder.training
    by_weight = weight_scores(source)
    heads = torch.zeros_like(by_weight.heads)
    neurons = torch.zeros_like(by_weight.neurons)
    hidden = torch.zeros_like(by_weight.hidden)
    direction = torch.randn(config.hidden_size, generator=torch.Generator().manual_seed(0))
    examples = 0
    encoder.eval()
    try:
        for batch in batches:
            seen = _Seen(encoder)
            states = encoder(**batch).last_hidden_state
            mask = batch.get("attention_mask")
            value = _mean(states.float(), mask) @ direction
            grads = torch.autograd.grad(value.sum(), seen.all)
            seen.remove()
            effects = [(tensor.detach() * grad).float() for tensor, grad in zip(seen.all, grads, strict=True)]
            depth, count = config.num_hidden_layers, config.num_attention_heads
            for number in range(depth):
                context, inner, out = effects[number], effects[depth + number], effects[2 * depth + number]
                by_head = context.view(*context.shape[:2], count, -1).sum(dim=(1, 3))  # (batch, heads)
                heads[number] += by_head.abs().sum(0)
                neurons[number] += inner.sum(1).abs().sum(0)
                hidden += out.sum(1).abs().sum(0)
            examples += len(states)
    finally:
        encoder.train(training)
    if not examples:
        raise BortError("scores by a batch need at least one batch")
    return Scores(heads / examples, neurons / examples, hidden / examples)


def _mean(states: Tensor, mask: Tensor | None) -> Tensor:
    """*Shape:* (batch, seq, H) -> (batch, H)."""
    if mask is None:
        return states.mean(1)
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


class _Seen:
    """Records the outputs of each layer's heads and neurons, and its states, in one forward pass."""

    def __init__(self, encoder: nn.Module) -> None:
        layers: Any = encoder.get_submodule("encoder.layer")
        self._context: list[Tensor] = []
        self._inner: list[Tensor] = []
        self._out: list[Tensor] = []
        self._hooks = []
        for layer in layers:
            before = layer.attention.output.dense.register_forward_pre_hook(
                lambda _, inputs: self._context.append(inputs[0])
            )
            after = layer.intermediate.register_forward_hook(lambda _, __, output: self._inner.append(output))
            whole = layer.output.register_forward_hook(lambda _, __, output: self._out.append(output))
            self._hooks += [before, after, whole]

    @property
    def all(self) -> list[Tensor]:
        """Head outputs of all layers, then neuron outputs of all layers, then states of all layers."""
        return [*self._context, *self._inner, *self._out]

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()
