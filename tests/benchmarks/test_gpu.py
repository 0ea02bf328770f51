"""What is prepared for a GPU, tried on the CPU with tiny models: the archive, the training, the step, the whole run."""

from __future__ import annotations

import contextlib
import json
import random
import sys
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.gpu import run as gpu_run
from benchmarks.gpu import step as gpu_step
from benchmarks.gpu.pack import STEMS, pack, unpack
from benchmarks.gpu.step import forward_operations, peak_tflops, step_operations
from benchmarks.nano import losses, pairs, train
from benchmarks.nano.prepare import write
from benchmarks.nano.rows import Rows
from benchmarks.nano.train import Run, Settings
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import BertConfig, BertForMaskedLM, BertModel

from bort.errors import BortError
from bort.model.tokenization import load_tokenizer
from bort.model.vocabulary_cut import count_tokens, cut_vocabulary

TINY = {"layers": (0, 1), "rows": 16, "pairs": 8, "edits": 4, "held_out": 64, "log_every": 2, "save_every": 2}


@pytest.fixture(scope="module")
def texts(tmp_path_factory, teacher_folder, sentences) -> Path:
    """What `prepare` writes: the teacher's vocabulary without its last entries, 6,000 texts and 5,200 pairs."""
    folder = tmp_path_factory.mktemp("texts")
    full = load_tokenizer(teacher_folder)
    cut = cut_vocabulary(full, count_tokens(full, sentences), 180)
    cut.tokenizer.save_pretrained(folder)
    np.save(folder / "kept.npy", cut.kept)
    ids = [row[:40] for row in cut.tokenizer(sentences, add_special_tokens=False)["input_ids"]]
    rng = random.Random(0)
    for stem, count in (("singles", 6000), ("pairs.a", 5200), ("pairs.b", 5200)):
        write(rng.choices(ids, k=count), folder / stem)
    return folder


@pytest.fixture
def settings(texts, teacher_folder, tmp_path):
    return Settings(texts, Path(teacher_folder), tmp_path / "run", tokens=1500, **TINY)


def test_a_run_that_stopped_ends_with_the_same_weights(settings, tmp_path, assert_same_weights, monkeypatch, capsys):
    Run(settings).train()
    other = replace(settings, out=tmp_path / "other")
    read = Run.read

    def fail(self, *inputs):
        if self.step == 5:
            raise KeyboardInterrupt
        return read(self, *inputs)

    monkeypatch.setattr(Run, "read", fail)
    with pytest.raises(KeyboardInterrupt):
        Run(other).train()
    monkeypatch.setattr(Run, "read", read)
    Run(other).train()
    assert '"resumed": 4' in capsys.readouterr().out
    assert_same_weights(settings.out / "model", other.out / "model")


def test_minutes_end_a_run_and_more_of_them_go_on(settings, monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(train.time, "monotonic", lambda: clock[0])
    kind = Run.kind

    def tick(self, step):
        clock[0] += 3.0  # once a step
        return kind(self, step)

    monkeypatch.setattr(Run, "kind", tick)
    timed = replace(settings, minutes=0.5, log_every=1000)
    Run(timed).train()
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert first["seconds"] == 30
    assert torch.load(timed.out / "checkpoint.pt", weights_only=True)["place"]["step"] == 10
    assert (timed.out / "at-0.5000" / "model.safetensors").is_file()
    Run(replace(timed, minutes=0.8)).train()
    assert torch.load(timed.out / "checkpoint.pt", weights_only=True)["place"] == {
        "step": 16,
        "tokens": json.loads(capsys.readouterr().out.splitlines()[-1])["done"],
        "seconds": 48.0,
    }
    assert {weight.dtype for weight in BertModel.from_pretrained(timed.out / "model", dtype="auto").parameters()} == {
        torch.float16
    }


def test_a_start_from_another_vocabulary_keeps_what_each_word_means(settings, texts, teacher_folder, tmp_path):
    """bort-nano's vocabulary is smaller than that of the texts it was trained on."""
    full = load_tokenizer(teacher_folder)
    counts = Counter({number: len(full) - number for number in range(len(full))})
    cut = cut_vocabulary(full, counts, 170)
    start = BertForMaskedLM(replace_config(teacher_folder, vocab_size=len(cut.kept)))
    start.save_pretrained(tmp_path / "start")
    cut.tokenizer.save_pretrained(tmp_path / "start")
    run = Run(replace(settings, start_from=tmp_path / "start"))
    words = run.student.get_input_embeddings().weight.detach()
    theirs, old = cut.tokenizer.get_vocab(), start.get_input_embeddings().weight.detach()
    teacher = BertModel.from_pretrained(teacher_folder).get_input_embeddings().weight.detach()
    lacking = 0
    for entry, number in load_tokenizer(texts).get_vocab().items():
        wanted = old[theirs[entry]] if entry in theirs else teacher[full.get_vocab()[entry]]
        lacking += entry not in theirs
        assert torch.equal(words[number], wanted), entry
    assert lacking
    assert run.student.config.vocab_size == len(words) == 180
    run.train()


def replace_config(folder, **changes) -> BertConfig:
    return BertConfig(**{**BertConfig.from_pretrained(folder).to_dict(), **changes})


class AnyContents(TorchDispatchMode):
    """Lets tensors without contents be asked for some: a number is 0, and a mask takes all."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return 0
        if func is torch.ops.aten.index.Tensor and [one.dtype for one in args[1] if one is not None] == [torch.bool]:
            return args[0].clone()
        return func(*args, **(kwargs or {}))


def test_all_of_a_step_is_on_one_device(settings, monkeypatch):
    """Tensors of the device `meta`, which computes nothing but refuses those of the CPU, stand for a GPU's."""
    run = Run(settings)
    vectors = torch.nn.functional.normalize(torch.randn(24, 12), dim=-1)
    joined = pairs.join(vectors, 8, [pairs.Edit.ALTERED] * 4, random.Random(0))
    monkeypatch.setattr(train, "join", lambda *_: joined)  # it chooses by contents
    monkeypatch.setattr(train, "moved", lambda device, *given: tuple(one.to(device) for one in given))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    run.device = torch.device("meta")
    for module in (run.student, run.heads, run.teacher):
        module.to(run.device)
    run.kept = run.kept.to(run.device)
    with AnyContents():
        made, tokens = run.single_step(np.arange(16))
    assert tokens == sum(len(run.singles[row]) + 2 for row in range(16))
    torch.stack(list(made.values())).sum().backward()
    assert all(weight.grad.device.type == "meta" for weight in run.student.encoder.parameters())
    with AnyContents():
        made, tokens = run.pair_step(np.arange(8), random.Random(0))
    assert tokens > 0
    assert {loss.device.type for loss in made.values()} == {"meta"}
    with pytest.raises(RuntimeError, match="meta"):  # a tensor left on the CPU is noticed
        losses.pair_losses(*broken(run))


def broken(run):
    """What `pair_losses` takes, of which the heads are on the CPU."""
    states, ids = torch.zeros(1, 4, 12, device="meta"), torch.ones(1, 4, dtype=torch.long, device="meta")
    laid = pairs.Laid(ids, ids, ids, ids, ids)
    targets = losses.PairTargets(
        states, states[..., :2], states[0, :1, :5], states[:, 0], states[:, 0], ids[0, :1], ids[0, :1]
    )
    return states, states[:, 0], laid, targets, losses.Heads(12)


def test_a_missing_gpu_is_told(settings):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit, match="finds no GPU"):
        Run(replace(settings, device="cuda"))


def test_an_archive_holds_the_last_texts_and_the_teacher(texts, teacher_folder, tmp_path):
    whole = pack(texts, Path(teacher_folder), tmp_path / "whole.tar.xz", 2**20)
    assert (whole.texts, whole.pairs) == (6000, 5200)
    limit = whole.size_bytes - 2000
    packed = pack(texts, Path(teacher_folder), tmp_path / "packed.tar.xz", limit)
    assert packed.size_bytes == (tmp_path / "packed.tar.xz").stat().st_size <= limit
    assert 0 < packed.texts < 6000
    assert unpack(tmp_path / "packed.tar.xz", tmp_path / "made") == unpack(
        tmp_path / "packed.tar.xz", tmp_path / "made"
    )
    for stem in STEMS:
        ours, theirs = Rows.open(tmp_path / "made" / "texts" / stem), Rows.open(texts / stem)
        assert [ours[row] for row in range(len(ours))] == [
            theirs[row] for row in range(len(theirs) - len(ours), len(theirs))
        ]
    teacher = BertModel.from_pretrained(teacher_folder).to(torch.bfloat16).eval()
    cut = BertModel.from_pretrained(tmp_path / "made" / "teacher", dtype=torch.float32).to(torch.bfloat16).eval()
    ids = torch.tensor([Rows.open(texts / "singles")[0]])
    with torch.no_grad():
        known = teacher(torch.from_numpy(np.load(texts / "kept.npy"))[ids]).last_hidden_state
        assert torch.equal(cut(ids).last_hidden_state, known)
    with pytest.raises(BortError, match="MiB, which teacher and vocabulary take"):
        pack(texts, Path(teacher_folder), tmp_path / "small.tar.xz", 1000)


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


@pytest.mark.slow
def test_the_whole_run_on_a_cpu(texts, teacher_folder, tmp_path, monkeypatch, capsys):
    pack(texts, Path(teacher_folder), tmp_path / "nano.tar.xz", 2**20)
    words = [
        "--archive",
        str(tmp_path / "nano.tar.xz"),
        "--out",
        str(tmp_path / "out"),
        "--work",
        str(tmp_path / "work"),
    ]
    words += ["--device", "cpu", "--minutes", "0.02", "--step-minutes", "0", "--part-mib", "0.01", "--"]
    small = {name: value for name, value in TINY.items() if name != "layers"} | {"save_every": 1000}
    words += [word for name, value in small.items() for word in (f"--{name}", str(value))]
    words += ["--start_from", str(tmp_path / "work" / "teacher")]
    monkeypatch.setattr(sys, "argv", ["run", *words])
    unpack(tmp_path / "nano.tar.xz", tmp_path / "work")
    load_tokenizer(texts).save_pretrained(tmp_path / "work" / "teacher")
    assert gpu_run.main() == 0, (tmp_path / "out" / "train.log").read_text("utf-8")
    found = sorted((tmp_path / "out").glob("model.tar.*"), key=lambda file: int(file.suffix[1:]))
    assert len(found) > 1
    (tmp_path / "joined.tar").write_bytes(b"".join(file.read_bytes() for file in found))
    with tarfile.open(tmp_path / "joined.tar") as tar:
        tar.extractall(tmp_path / "home", filter="data")
    assert BertModel.from_pretrained(tmp_path / "home" / "model").config.vocab_size == 180
    assert '"done"' in (tmp_path / "out" / "train.log").read_text("utf-8")
    assert (tmp_path / "work" / "run" / "checkpoint.pt").is_file()


def test_what_does_not_end_is_ended(tmp_path, capsys):
    assert not gpu_run.run("http.server", ["0", "--bind", "127.0.0.1"], tmp_path / "log", 0.5)
    assert "stopped after" in capsys.readouterr().out
    assert not gpu_run.run("benchmarks.gpu.nothing", [], tmp_path / "log", 60)
    assert "failed (1)" in capsys.readouterr().out
