"""The step that is measured on a GPU, on the CPU: its operations, the cards it knows, what it publishes."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from benchmarks.gpu import step as gpu_step
from benchmarks.gpu.step import forward_operations, peak_tflops, step_operations
from transformers import BertConfig, BertForMaskedLM


@pytest.mark.parametrize(
    ("device", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA H200", 989),
        ("NVIDIA H200 NVL", 835),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10", 125),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA L40", None),
        ("Tesla T4", None),
        ("CPU, 2 threads", None),
    ],
)
def test_a_card_is_known_by_its_name(device, peak):
    assert peak_tflops(device, "bf16") == peak
    assert peak_tflops(device, "fp32") is None


def test_counted_operations_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    config = BertConfig(
        vocab_size=300,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=40,
        attn_implementation="eager",
    )
    model = BertForMaskedLM(config)
    with FlopCounterMode(display=False) as counter:
        loss = model(torch.randint(300, (3, 24))).logits.sum()
        forward = counter.get_total_flops()
        loss.backward()
    assert forward == 72 * forward_operations(config, 24, 1.0)
    assert counter.get_total_flops() == 72 * step_operations(config, None, 24, 1.0)
    assert step_operations(config, config, 24, 0.15) == 4 * forward_operations(config, 24, 0.15)


def test_a_step_is_published(tmp_path, monkeypatch, capsys, teacher_folder):
    shape = {"depth": 1, "heads": 2, "hidden": 16, "intermediate": 24, "positions": 64, "vocab_size": 200}
    (tmp_path / "shape.json").write_text(json.dumps(shape))
    words = ["--architecture", str(tmp_path / "shape.json"), "--teacher", teacher_folder, "--batch-size", "2"]
    words += ["--sequence-length", "16", "--precision", "fp32", "--no-compile", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["step", *words, "--packed-at", "0123456789"])
    gpu_step.main()
    record = json.loads((tmp_path / "results" / "gpu_step.json").read_text("utf-8"))
    figures = record["figures"]
    assert figures["tokens_per_second"] > 0
    assert figures["peak_bytes"] > 0
    assert figures["peak_tflops"] is None or torch.cuda.is_available()
    assert record["commit"]
    assert "| share of the peak |" in capsys.readouterr().out
