"""How long an encoder of a shape takes on the device at hand."""

from __future__ import annotations

import statistics
import time

import torch
from transformers import BertConfig, BertModel

_WARMUP = 2
_LEAST_REPEATS, _MOST_REPEATS = 5, 30
_SECONDS = 0.25


def time_ms(config: BertConfig, *, batch_size: int, sequence_length: int, device: torch.device) -> float:
    """Median milliseconds of an inference of the encoder, with random weights in fp32, on texts without padding.

    Args:
        config: Its shape.
        batch_size: Texts at a time.
        sequence_length: Tokens of each.
        device: Where.
    """
    with torch.random.fork_rng(), torch.device(device):
        model = BertModel(config, add_pooling_layer=False).eval()
        ids = torch.randint(5, max(6, config.vocab_size), (batch_size, sequence_length))
    seconds: list[float] = []
    with torch.inference_mode():
        while len(seconds) < _WARMUP + _LEAST_REPEATS or (
            sum(seconds) < _SECONDS and len(seconds) < _WARMUP + _MOST_REPEATS
        ):
            started = time.perf_counter()
            model(input_ids=ids)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds[_WARMUP:])
