"""The share of the peak that the benchmark of inference states."""

from __future__ import annotations

import pytest
import torch
from benchmarks.speed.peak import floor_seconds, operations, peaks, precision
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, DistilBertConfig

from bort.model.config import Preset, configure
from bort.speed.contestants import ENGINES
from bort.speed.models import CONFIGS
from bort.speed.race import fixed

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_operations_are_those_that_pytorch_counts(kind):
    config = (
        DistilBertConfig(n_layers=3, n_heads=2, dim=32, hidden_dim=48, vocab_size=100)
        if kind == "distilbert"
        else configure(Preset(3, 2, 32, 48), 100)
    )
    # The counter does not see into the fused attention of CPUs.
    model = AutoModel.from_config(config, attn_implementation="eager").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.ones(1, 9, dtype=torch.long))
    pooler = 2 * 32 * 32 if kind == "bert" else 0
    assert operations(config, 9) == counter.get_total_flops() - pooler


@given(st.sampled_from(sorted(CONFIGS)), st.integers(1, 512))
def test_a_graph_that_computes_the_first_token_only_does_less(name, tokens):
    config = CONFIGS[name]
    whole, first = operations(config, tokens), operations(config, tokens, last="first")
    one_query = operations(config, tokens, last="one query")
    assert 0 < first <= whole
    assert 0 < one_query <= first or tokens < 2
    alone = operations(config, 1, last="first")
    assert alone == operations(config, 1), "one token is the first"


def test_published_operations():
    assert {name: operations(CONFIGS[name], 128) // 10**8 for name in ("bert-large", "bert-base", "bort")} == {
        "bert-large": 789,
        "bert-base": 223,
        "bort": 61,
    }


def test_the_floor_is_the_operations_at_the_peak_of_the_precision():
    found = {"fp32": 1e9}
    assert floor_seconds("bort", "torch-sdpa", fixed(2, 8), found) == 2 * operations(CONFIGS["bort"], 8) / 1e9
    for engine, last in (("onnxruntime-fp32", "one query"), ("openvino-fp32", "first")):
        seconds = 2 * operations(CONFIGS["bort"], 8, last=last) / 1e9
        assert floor_seconds("bort", engine, fixed(2, 8), found) == seconds
    assert floor_seconds("bort", "onnxruntime-int8", fixed(2, 8), found) is None, "its precision has no peak"
    assert {precision(engine) for engine in ENGINES} == {"fp32", "bf16", "int8"}


def test_the_peak_is_counted():
    found = peaks(1)
    assert set(found) == {"fp32", "int8"}
    assert all(value > 1e9 for value in found.values())
