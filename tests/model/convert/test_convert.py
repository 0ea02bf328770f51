"""A converted checkpoint computes what the original code computed, and a broken one is refused by name."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMultipleChoice,
)

from bort.__main__ import main
from bort.cli.convert import ConvertArguments, convert
from bort.errors import BortError
from bort.model.convert.convert import KNOWN_HEADS, convert_checkpoint
from bort.model.convert.mxnet import read_params
from bort.model.modelling import BortForMaskedLM
from bort.model.tokenization import train_tokenizer
from bort.predict.encoder import Encoder
from bort.predict.sentence_folder import write_sentence_files
from bort.predict.sentence_modules import read_modules
from params_file import HEADS, HIDDEN, LABELS, POSITIONS, WIDE, tiny_bort, write_params

GOLDEN = Path(__file__).parent / "golden"
"""Checkpoints of the original code, and what it computed with them."""


def convert_arrays(folder: Path, arrays: dict[str, np.ndarray], **options) -> dict:
    write_params(folder / "x.params", arrays)
    return convert_checkpoint(folder / "x.params", folder / "out", num_attention_heads=HEADS, **options)


def open_quietly(model_class, folder, **options):
    """Open a model and check that no weight of it was missing, left over or wrongly shaped."""
    model, report = model_class.from_pretrained(folder, output_loading_info=True, **options)
    assert not any(report.values()), report
    return model.eval()


@pytest.fixture(scope="session")
def vectors():
    """Inputs and outputs of the original code: token ids, their mask, hidden states, logits."""
    with np.load(GOLDEN / "gluon-tiny.npz") as file:
        arrays = {name: torch.tensor(file[name]) for name in file.files}
    arrays["input_ids"] = arrays["input_ids"].long()
    arrays["attention_mask"] = (torch.arange(arrays["input_ids"].shape[1]) < arrays["lengths"][:, None]).long()
    return arrays


def golden_outputs(folder: Path, kind: str, vectors) -> dict[str, torch.Tensor]:
    """Outputs of a converted golden file, hidden states at the unpadded positions only: GluonNLP zeroes the others."""
    inputs = {name: vectors[name] for name in ("input_ids", "attention_mask")}
    seen = inputs["attention_mask"].bool()
    with torch.no_grad():
        if kind == "cls":
            model = open_quietly(AutoModelForSequenceClassification, folder)
            return {
                "hidden_states": model.bert(**inputs).last_hidden_state[seen],
                "cls_logits": model(**inputs).logits,
            }
        model = open_quietly(BortForMaskedLM, folder)
        rows, columns = inputs["input_ids"].shape
        positions = (torch.arange(rows)[:, None] * columns + vectors["masked_positions"]).reshape(-1)
        logits = model(**inputs, positions=positions).logits
        return {
            "hidden_states": model.bert(**inputs).last_hidden_state[seen],
            "mlm_logits": logits.reshape(rows, -1, logits.shape[-1]),
        }


def expected_outputs(vectors, name: str) -> torch.Tensor:
    return vectors[name][vectors["attention_mask"].bool()] if name == "hidden_states" else vectors[name]


@pytest.mark.parametrize("kind", ["mlm", "cls"])
def test_parity_with_the_original_code(kind, vectors, tmp_path):
    shape = json.loads((GOLDEN / "gluon-tiny.json").read_text())
    heads = shape["num_attention_heads"]
    summary = convert_checkpoint(GOLDEN / f"gluon-tiny.{kind}.params", tmp_path / "out", num_attention_heads=heads)
    for field in ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size", "max_position_embeddings"):
        assert summary[field] == shape[field]
    for name, found in golden_outputs(tmp_path / "out", kind, vectors).items():
        torch.testing.assert_close(found, expected_outputs(vectors, name), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["mlm", "cls"])
def test_half_precision_source_stays_near_the_original(kind, vectors, tmp_path):
    arrays = read_params(GOLDEN / f"gluon-tiny.{kind}.params")
    halves = {name: array.astype(np.float16) for name, array in arrays.items()}
    summary = convert_arrays(tmp_path, halves)
    assert summary["dtype"] == "float16"
    for name, found in golden_outputs(tmp_path / "out", kind, vectors).items():
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected_outputs(vectors, name), atol=2e-2, rtol=0)


def test_the_head_needs_its_own_eps(vectors, tmp_path):
    convert_checkpoint(GOLDEN / "gluon-tiny.mlm.params", tmp_path / "out", num_attention_heads=4)
    plain = AutoModelForMaskedLM.from_pretrained(tmp_path / "out").eval()
    rows = torch.arange(4)[:, None]

    def worst() -> float:
        with torch.no_grad():
            logits = plain(vectors["input_ids"], attention_mask=vectors["attention_mask"]).logits
        return float((logits[rows, vectors["masked_positions"]] - vectors["mlm_logits"]).abs().max())

    with_encoder_eps = worst()
    plain.cls.predictions.transform.LayerNorm.eps = plain.config.mlm_layer_norm_eps
    assert worst() < 1e-5 < with_encoder_eps


AUTO_CLASSES = {"mlm": AutoModelForMaskedLM, "cls": AutoModelForSequenceClassification}


@pytest.mark.parametrize("kind", ["mlm", "cls"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_number_arrives_where_it_belongs(kind, dtype, tmp_path):
    arrays = tiny_bort(kind, dtype=dtype)
    summary = convert_arrays(tmp_path, arrays)
    assert summary["dtype"] == ("float16" if dtype == np.float16 else "float32")
    model = open_quietly(AUTO_CLASSES[kind], tmp_path / "out")
    weights = model.state_dict()
    start = "bort." if kind == "cls" else ""
    cell = f"{start}encoder.transformer_cells.1"
    for ours, theirs in {
        f"{start}word_embed.0.weight": "bert.embeddings.word_embeddings.weight",
        f"{cell}.layer_norm.gamma": "bert.encoder.layer.1.attention.output.LayerNorm.weight",
        f"{cell}.ffn.layer_norm.beta": "bert.encoder.layer.1.output.LayerNorm.bias",
        f"{cell}.ffn.ffn_1.weight": "bert.encoder.layer.1.intermediate.dense.weight",
        **(
            {"decoder.3.bias": "cls.predictions.decoder.bias"}
            if kind == "mlm"
            else {"classifier.3.bias": "classifier.bias"}
        ),
    }.items():
        assert weights[theirs].dtype == torch.float32
        np.testing.assert_array_equal(weights[theirs].numpy(), arrays[ours].astype(np.float32))
    assert not weights["bert.embeddings.token_type_embeddings.weight"].any()


def test_configuration_and_counts_of_a_params_file(tmp_path):
    summary = convert_arrays(tmp_path, tiny_bort("mlm"))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model_type"] == "bert"
    assert config["architectures"] == ["BertForMaskedLM"]
    assert (config["layer_norm_eps"], config["mlm_layer_norm_eps"]) == (1e-5, 1e-12)
    assert (config["bos_token_id"], config["pad_token_id"], config["eos_token_id"]) == (0, 1, 2)
    assert (config["type_vocab_size"], config["hidden_act"], config["tie_word_embeddings"]) == (1, "gelu", True)
    assert config["dtype"] == "float32"
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    counted = summary["parameters"]
    assert counted["total"] == model.num_parameters()
    assert counted["embeddings"] == sum(weight.numel() for weight in model.bert.embeddings.parameters())
    assert counted["encoder"] == sum(weight.numel() for weight in model.bert.encoder.parameters())
    assert summary["files"] == ["config.json", "model.safetensors"]
    assert "no tokenizer" in summary["notes"][0]


def test_the_head_follows_from_the_arrays(tmp_path):
    for kind, architecture, labels in (
        ("mlm", "BertForMaskedLM", None),
        ("cls", "BertForSequenceClassification", LABELS),
        ("encoder", "BertModel", None),
    ):
        (tmp_path / kind).mkdir()
        summary = convert_arrays(tmp_path / kind, tiny_bort(kind))
        assert (summary["architecture"], summary["num_labels"]) == (architecture, labels)
    open_quietly(AutoModel, tmp_path / "encoder" / "out", add_pooling_layer=False)
    config = json.loads((tmp_path / "cls" / "out" / "config.json").read_text())
    assert list(config["id2label"]) == ["0", "1", "2"]


def test_opens_without_this_package(python, tmp_path):
    convert_arrays(tmp_path, tiny_bort("cls"))
    code = (
        "import sys; from transformers import AutoModelForSequenceClassification as A;"
        "m = A.from_pretrained(sys.argv[1]); assert m.config.num_labels == 3;"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'bort']"
    )
    python(code, str(tmp_path / "out"))


@pytest.mark.parametrize(("stored", "asked"), [(np.float16, "float32"), (np.float32, "float16")])
def test_dtype_flag(stored, asked, tmp_path):
    assert convert_arrays(tmp_path, tiny_bort("mlm", dtype=stored), dtype=asked)["dtype"] == asked
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert {weight.dtype.name for weight in weights.values()} == {asked}
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "out").dtype == torch.float32


@pytest.mark.parametrize("listed", [True, False])
def test_modules_and_prompts_are_copied(world, tmp_path, listed):
    source = shutil.copytree(world.encoder, tmp_path / "source")
    write_sentence_files(source, 16, 32, "cls", normalizes=True, lowercase=True, prompt="The old: ")
    if not listed:  # an older folder, which has nothing but a pooling
        (source / "modules.json").unlink()
    files = convert_checkpoint(source, tmp_path / "out")["files"]
    assert "1_Pooling" in files
    assert read_modules(str(tmp_path / "out")).described == read_modules(str(source)).described
    both = [Encoder(str(folder)).encode("Green apples") for folder in (source, tmp_path / "out")]
    np.testing.assert_allclose(*both, atol=1e-6)
    assert read_modules(str(tmp_path / "out")).poolings == ("cls",)


def test_known_shapes_need_no_heads():
    assert KNOWN_HEADS[4, 1024, 768] == 8
    assert KNOWN_HEADS[2, 1024, 512] == 16
    assert KNOWN_HEADS[4, 768, 1024] == 8


def test_a_known_shape_is_converted_without_heads(tmp_path, monkeypatch):
    monkeypatch.setitem(KNOWN_HEADS, (2, HIDDEN, WIDE), 2)
    write_params(tmp_path / "x.params", tiny_bort("mlm"))
    assert convert_checkpoint(tmp_path / "x.params", tmp_path / "out")["num_attention_heads"] == 2


@pytest.mark.parametrize(
    ("heads", "rule"), [(None, "pass --num-attention-heads"), (3, "divide"), (0, "at least 1"), (-4, "at least 1")]
)
def test_refuses_heads(heads, rule, tmp_path):
    write_params(tmp_path / "x.params", tiny_bort("mlm"))
    with pytest.raises(BortError, match=rule):
        convert_checkpoint(tmp_path / "x.params", tmp_path / "out", num_attention_heads=heads)
    assert not (tmp_path / "out").exists()


def without(name: str):
    def change(arrays):
        del arrays[name]

    return change


def put(name: str, array: np.ndarray):
    def change(arrays):
        arrays[name] = array.astype(np.float32) if array.dtype == np.float64 else array

    return change


def spoil(name: str, value: float):
    def change(arrays):
        arrays[name] = arrays[name].copy()
        arrays[name].flat[-1] = value

    return change


CELL = "encoder.transformer_cells.0"


@pytest.mark.parametrize(
    ("change", "named", "rule"),
    [
        (without("word_embed.0.weight"), "word_embed.0.weight", "lacks"),
        (without("encoder.position_weight"), "encoder.position_weight", "lacks"),
        (without(f"{CELL}.ffn.ffn_1.weight"), f"{CELL}.ffn.ffn_1.weight", "lacks"),
        (without(f"{CELL}.attention_cell.proj_key.bias"), f"{CELL}.attention_cell.proj_key.bias", "lacks"),
        (without("decoder.2.gamma"), "decoder.2.gamma", "lacks"),
        (without("decoder.3.bias"), "decoder.3.bias", "lacks"),
        (put("pooler.weight", np.ones((8, 8))), "pooler.weight", "not the name"),
        (put("bort.decoder.0.bias", np.ones(8)), "bort.decoder.0.bias", "not the name"),
        (put("encoder.transformer_cells.5.proj.bias", np.ones(8)), "encoder.transformer_cells.2", "lacks"),
        (put("bort.encoder.layer_norm.beta", np.ones(8)), "encoder.layer_norm.beta", "same weights"),
        (put(f"{CELL}.proj.weight", np.ones((8, 4))), f"{CELL}.proj.weight", "must be (8, 8)"),
        (put("encoder.position_weight", np.ones(8)), "encoder.position_weight", "must be a matrix"),
        (put("decoder.3.bias", np.ones(7)), "decoder.3.bias", "must be (300,)"),
        (put("decoder.3.weight", np.ones((300, 8))), "decoder.3.weight", "tied"),
        (put("classifier.3.bias", np.ones(3)), "x.params", "not both"),
        (put("decoder.0.bias", np.ones(8, np.int32)), "decoder.0.bias", "floating-point"),
        (spoil(f"{CELL}.proj.weight", np.nan), f"{CELL}.proj.weight", "finite"),
        (spoil("decoder.0.bias", np.inf), "decoder.0.bias", "finite"),
    ],
)
def test_refuses_arrays_by_name(change, named, rule, tmp_path):
    arrays = tiny_bort("mlm")
    change(arrays)
    with pytest.raises(BortError) as caught:
        convert_arrays(tmp_path, arrays)
    assert named in str(caught.value)
    assert rule in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_refuses_what_half_precision_cannot_hold(tmp_path):
    arrays = tiny_bort("mlm")
    arrays["decoder.0.bias"][0] = 1e5
    with pytest.raises(BortError, match="finite numbers in float16"):
        convert_arrays(tmp_path, arrays, dtype="float16")


def test_a_classifier_file_names_its_own_arrays(tmp_path):
    arrays = tiny_bort("cls")
    del arrays["bort.encoder.layer_norm.beta"]
    with pytest.raises(BortError, match=r"bort\.encoder\.layer_norm\.beta"):
        convert_arrays(tmp_path, arrays)


def test_leaves_a_taken_folder_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("keep")
    with pytest.raises(BortError, match="already exists"):
        convert_arrays(tmp_path, tiny_bort("mlm"))
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(["low lower lowest new newer newest"] * 4, vocab_size=275).save_pretrained(folder)
    return folder


def test_writes_the_tokenizer_that_fits(tokenizer_folder, tmp_path):
    size = len(AutoTokenizer.from_pretrained(tokenizer_folder))
    summary = convert_arrays(tmp_path, tiny_bort("mlm", vocabulary=size), tokenizer=tokenizer_folder)
    assert "tokenizer.json" in summary["files"]
    assert summary["notes"] == []
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.model_max_length == POSITIONS
    assert tokenizer("new", "low")["input_ids"].count(tokenizer.sep_token_id) == 2  # one between, one at the end


def test_refuses_a_tokenizer_of_another_size(tokenizer_folder, tmp_path):
    with pytest.raises(BortError, match="300 entries"):
        convert_arrays(tmp_path, tiny_bort("mlm"), tokenizer=tokenizer_folder)
    with pytest.raises(BortError):
        convert_arrays(tmp_path, tiny_bort("mlm"), tokenizer=tmp_path / "absent")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def hf_folder(tmp_path, tokenizer_folder):
    """A classifier as transformers saves it, with named labels and a tokenizer."""
    convert_arrays(tmp_path, tiny_bort("cls"))
    model = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "out", id2label={0: "no", 1: "yes", 2: "maybe"}, label2id={"no": 0, "yes": 1, "maybe": 2}
    )
    folder = tmp_path / "hf"
    model.save_pretrained(folder)
    shutil.copytree(tokenizer_folder, folder, dirs_exist_ok=True)
    return folder


def edit_config(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_hf_folder_keeps_numbers_labels_and_tokenizer(hf_folder, tmp_path):
    ways = {"auto_map": {"AutoModel": "evil.Model"}, "return_dict": False, "quantization_config": {}}
    ways |= {"attn_implementation": "kernels-community/flash-attn", "_attn_implementation": "owner/kernel"}
    edit_config(hf_folder, classifier_dropout=0.25, **ways)
    summary = convert_checkpoint(hf_folder, tmp_path / "again")
    assert (summary["format"], summary["num_labels"], summary["notes"]) == ("huggingface", 3, [])
    model = open_quietly(AutoModelForSequenceClassification, tmp_path / "again")
    assert model.config.id2label == {0: "no", 1: "yes", 2: "maybe"}
    assert model.config.classifier_dropout == 0.25
    assert not json.loads((tmp_path / "again" / "config.json").read_text()).keys() & ways.keys()
    before, after = (load_file(folder / "model.safetensors") for folder in (hf_folder, tmp_path / "again"))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert AutoTokenizer.from_pretrained(tmp_path / "again")("new")["input_ids"]


@pytest.mark.parametrize("kind", ["mlm", "encoder"])
def test_hf_folder_as_transformers_saves_it(kind, tmp_path):
    convert_arrays(tmp_path, tiny_bort(kind))
    model = (AutoModelForMaskedLM if kind == "mlm" else AutoModel).from_pretrained(tmp_path / "out").eval()
    model.save_pretrained(tmp_path / "hf")  # an encoder alone is saved without `bert.` in its names
    assert convert_checkpoint(tmp_path / "hf", tmp_path / "again")["architecture"] == type(model).__name__
    again = open_quietly(type(model), tmp_path / "again")
    ids = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        assert torch.equal(model(ids)[0], again(ids)[0])


def test_old_bin_file_with_legacy_names(tmp_path):
    convert_arrays(tmp_path, tiny_bort("mlm"))
    weights = load_file(tmp_path / "out" / "model.safetensors")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
        for name, array in weights.items()
    }
    old["bert.embeddings.position_ids"] = np.arange(POSITIONS)[None]
    old["cls.predictions.decoder.weight"] = weights["bert.embeddings.word_embeddings.weight"]
    old["cls.predictions.decoder.bias"] = weights["cls.predictions.bias"]
    old["cls.seq_relationship.weight"] = np.ones((2, HIDDEN), np.float32)
    (tmp_path / "hf").mkdir()
    shutil.copy(tmp_path / "out" / "config.json", tmp_path / "hf")
    torch.save({name: torch.tensor(array) for name, array in old.items()}, tmp_path / "hf" / "pytorch_model.bin")
    summary = convert_checkpoint(tmp_path / "hf", tmp_path / "again")
    assert any("next-sentence" in note for note in summary["notes"])
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert again.keys() == weights.keys()
    assert all(np.array_equal(weights[name], again[name]) for name in weights)


def test_bfloat16_source_is_stored_in_single_precision(hf_folder, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(hf_folder, dtype=torch.bfloat16)
    model.save_pretrained(hf_folder)
    assert convert_checkpoint(hf_folder, tmp_path / "again")["dtype"] == "float32"
    again = open_quietly(AutoModelForSequenceClassification, tmp_path / "again")
    assert torch.equal(again.classifier.weight, model.classifier.weight.float())


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"model_type": "roberta"}, "value 'roberta'"),
        ({"model_type": None}, "model_type 'bert'"),
        ({"hidden_size": 16}, "must agree with the weights, which have 8"),
        ({"num_hidden_layers": 3}, "must agree with the weights, which have 2"),
        ({"hidden_size": "eight"}, "not a BERT configuration"),
        ({"num_attention_heads": 3}, "divide"),
        ({"id2label": {"0": "a", "1": "b"}}, "classifier.weight"),
        ({"id2label": [1]}, "not a BERT configuration"),
        ({"hidden_act": "no such thing"}, "no model that can be built"),
        ({"pad_token_id": 300}, "no model that can be built"),
        ({"architectures": ["BertForTokenClassification"]}, "only BertForSequenceClassification and"),
    ],
)
def test_refuses_an_hf_configuration(changes, rule, hf_folder, tmp_path):
    edit_config(hf_folder, **changes)
    with pytest.raises(BortError) as caught:
        convert_checkpoint(hf_folder, tmp_path / "again")
    assert rule in str(caught.value)
    assert str(hf_folder) in str(caught.value)
    assert not (tmp_path / "again").exists()


def test_a_multiple_choice_model_stays_one(tmp_path):
    config = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12)
    model = BertForMultipleChoice(config)
    model.save_pretrained(tmp_path / "choices")
    summary = convert_checkpoint(tmp_path / "choices", tmp_path / "out")
    assert (summary["architecture"], summary["num_labels"]) == ("BertForMultipleChoice", 1)
    again = open_quietly(BertForMultipleChoice, tmp_path / "out")
    assert torch.equal(again.classifier.weight, model.classifier.weight)


def test_refuses_other_heads_than_the_configuration(hf_folder, tmp_path):
    with pytest.raises(BortError, match="4 heads"):
        convert_checkpoint(hf_folder, tmp_path / "again", num_attention_heads=2)


def test_refuses_an_exported_folder(tmp_path):
    (tmp_path / "manifest.json").touch()
    with pytest.raises(BortError, match="is a folder of bort export"):
        convert_checkpoint(tmp_path, tmp_path / "again")


@pytest.mark.parametrize("content", [b"", b"[", b"[]", b"\xff", b"[" * 100_000])
def test_refuses_a_broken_config(content, hf_folder, tmp_path):
    (hf_folder / "config.json").write_bytes(content)
    with pytest.raises(BortError, match=r"config\.json"):
        convert_checkpoint(hf_folder, tmp_path / "again")


def test_refuses_broken_weights(hf_folder, tmp_path):
    weights = hf_folder / "model.safetensors"
    whole = weights.read_bytes()
    for content in (b"", whole[:100], whole[:-1]):
        weights.write_bytes(content)
        with pytest.raises(BortError, match="cannot be loaded"):
            convert_checkpoint(hf_folder, tmp_path / "again")
    weights.unlink()
    with pytest.raises(BortError, match="must hold model"):
        convert_checkpoint(hf_folder, tmp_path / "again")
    (hf_folder / "pytorch_model.bin").write_bytes(b"\x80\x02not a checkpoint")
    with pytest.raises(BortError, match="cannot be loaded"):
        convert_checkpoint(hf_folder, tmp_path / "again")


class Trap:
    """Unpickling this would run a command."""

    def __reduce__(self):
        return (os.mkdir, ("trapped",))


@pytest.mark.parametrize(
    "content", [{"classifier.weight": Trap()}, [1], {"classifier.weight": torch.zeros(1).expand(2**20, 2**20)}]
)
def test_a_bin_file_runs_nothing_and_claims_nothing(content, hf_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (hf_folder / "model.safetensors").unlink()
    torch.save(content, hf_folder / "pytorch_model.bin")
    with pytest.raises(BortError, match="cannot be loaded"):
        convert_checkpoint(hf_folder, tmp_path / "again")
    assert not (tmp_path / "trapped").exists()


def test_refuses_an_unexpected_hf_array(hf_folder, tmp_path):
    weights = load_file(hf_folder / "model.safetensors")
    save_file({**weights, "qa_outputs.weight": np.ones((2, 8), np.float32)}, hf_folder / "model.safetensors")
    with pytest.raises(BortError, match=r"qa_outputs\.weight.*not an array"):
        convert_checkpoint(hf_folder, tmp_path / "again")


def test_command_prints_a_summary(tmp_path, capsys):
    write_params(tmp_path / "x.params", tiny_bort("cls"))
    arguments = ConvertArguments(str(tmp_path / "x.params"), str(tmp_path / "out"), num_attention_heads=HEADS)
    summary = convert(arguments).metrics
    printed = capsys.readouterr().out
    assert f"2 layers, {HEADS} heads, hidden {HIDDEN}, intermediate {WIDE}" in printed
    assert f"{summary['parameters']['total']:,} counted" in printed
    assert "config.json, model.safetensors" in printed
    assert "no tokenizer" in printed
    assert "claims" not in printed


def test_command_line(tmp_path, capsys):
    write_params(tmp_path / "x.params", tiny_bort("mlm"))
    line = ["convert", str(tmp_path / "x.params"), "--out", str(tmp_path / "out")]
    assert main(line) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main([*line, "--num_attention_heads", "4", "--dtype", "float16"]) == 0
    assert "float16" in capsys.readouterr().out


def test_help_needs_no_torch(python):
    modules = "bort.cli.convert, bort.model.convert.convert"
    python(f"import sys, {modules}; assert 'torch' not in sys.modules, 'torch was imported'")
