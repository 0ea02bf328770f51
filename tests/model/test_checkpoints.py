"""Models are found by name, saved whole or not at all, and a damaged one is refused."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    BertForMaskedLM,
    BertForPreTraining,
    BertModel,
)
from transformers.utils.logging import is_progress_bar_enabled

from bort.errors import BortError
from bort.model import checkpoints
from bort.model.checkpoints import ASSETS, load, load_encoder, locate, save, save_tokenizer
from bort.model.modelling import BortForMaskedLM, BortForSequenceClassification

FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture
def saved(tiny_config, tiny_tokenizer, tmp_path) -> Path:
    folder = tmp_path / "model"
    save(BortForMaskedLM(tiny_config), tiny_tokenizer, folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_positions_that_no_release_reads_are_no_obstacle(saved):
    file = saved / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"position_embedding_type": "sans_pos"}))
    assert load(BortForMaskedLM, saved)


def test_threads_hide_messages_together():
    logger, first, second = logging.getLogger("transformers"), checkpoints.quiet(), checkpoints.quiet()
    before = logger.level, is_progress_bar_enabled()
    assert before != (logging.ERROR, False)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert (logger.level, is_progress_bar_enabled()) == (logging.ERROR, False), "the second still hides them"
    second.__exit__(None, None, None)
    assert (logger.level, is_progress_bar_enabled()) == before


# Finding


def test_locate(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert locate(saved) == str(saved)
    assert locate("model") == "model"
    assert locate("owner/name") == "owner/name"
    assert locate("bort-nano") == str(ASSETS / "bort-nano")
    (tmp_path / "bort-nano").mkdir()
    (tmp_path / "bort-nano" / "config.json").write_text("{}")
    assert locate("bort-nano") == "bort-nano"  # what the user has under that name goes first


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("half", "half: holds no config.json, so no finished model"),
        ("bort.params", "bort.params: is a file; a model is a folder"),
        ("./absent", "./absent: no such folder"),
        ("/absent/model", "/absent/model: no such folder"),
        ("~/model", "/absent/model: no such folder"),
        ("~nobody/model", "~nobody/model: no such folder"),
        ("a/b/c", "a/b/c: no such folder"),
        ("fast", "fast: is a folder of bort export, for prediction alone; name the one it was made of"),
        ("", "value '': names no model"),
        ("bert", "value 'bert': is neither a folder, an embedded model (bort-nano) nor a hub name (owner/name)"),
    ],
)
def test_what_is_no_model(tmp_path, monkeypatch, name, rule):
    monkeypatch.setenv("HOME", "/absent")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "half").mkdir()
    (tmp_path / "fast").mkdir()
    (tmp_path / "fast" / "manifest.json").touch()
    (tmp_path / "bort.params").touch()
    with pytest.raises(BortError) as caught:
        locate(name)
    assert rule in str(caught.value)


# Loading


def test_loading_computes_in_single_precision(tiny_config, tiny_tokenizer, tmp_path):
    model = BortForMaskedLM(tiny_config)
    save(model.half(), tiny_tokenizer, tmp_path / "half")
    assert load_file(tmp_path / "half" / "model.safetensors")["bert.embeddings.LayerNorm.weight"].dtype == torch.half
    loaded = load(BortForMaskedLM, tmp_path / "half")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.float()), name


def damage(folder: Path, kind: str) -> None:
    weights, config = folder / "model.safetensors", folder / "config.json"
    if kind == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif kind == "garbage":
        weights.write_bytes(b"no weights" * 100)
    elif kind == "empty":
        weights.write_bytes(b"")
    elif kind == "absent":
        weights.unlink()
    elif kind == "code":
        weights.unlink()
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Path}, protocol=2))
    elif kind == "no json":
        config.write_text("{")
    elif kind == "list":
        config.write_text("[]")
    else:
        key, value = json.loads(kind)
        config.write_text(json.dumps({**json.loads(config.read_text()), key: value}))


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("cut", ("file not fully covered", "MetadataIncompleteBuffer")),
        ("garbage", ("header too large", "HeaderTooLarge")),
        ("empty", ("header too small", "HeaderTooSmall")),
        ("absent", "no file named model.safetensors"),
        ("code", "holds more than weights"),
        ("no json", "not a valid JSON file"),
        ("list", "the model cannot be loaded"),
        ('["hidden_size", "wide"]', "'hidden_size' expected int, got str (value: 'wide')"),
        ('["num_attention_heads", 3]', "not a multiple of the number of attention heads (3)"),
        ('["hidden_size", 32]', "do not have the shapes that config.json gives"),
        ('["hidden_act", "nothing"]', "nothing"),
        ('["pad_token_id", 100000]', "Padding_idx must be within num_embeddings"),
        ('["position_embedding_type", "relative_key"]', "value 'relative_key': must be absolute"),
    ],
)
def test_damaged_models(saved, kind, rule):
    damage(saved, kind)
    with pytest.raises(BortError) as caught:
        load(BortForMaskedLM, saved)
    message = str(caught.value)
    assert message.startswith((f"{saved}: ", f"{saved}/config.json: "))
    assert any(
        one in message for one in (rule if isinstance(rule, tuple) else (rule,))
    )  # by the version of safetensors
    assert "\n" not in message


@pytest.mark.parametrize("model_class", [BortForMaskedLM, AutoModel, AutoModelForSequenceClassification])
def test_an_encoder_is_never_filled_up_with_random_numbers(saved, model_class):
    weights = load_file(saved / "model.safetensors")
    weights.pop("bert.encoder.layer.1.output.dense.weight")
    save_file(weights, saved / "model.safetensors", metadata={"format": "pt"})
    rule = r"value '(bert\.)?encoder\.layer\.1\.output\.dense\.weight': the weights .* must all be there; 1 are not"
    with pytest.raises(BortError, match=rule):
        load(model_class, saved)


def test_a_head_may_be_new_but_the_encoder_must_fit(saved):
    loaded = load(BortForSequenceClassification, saved, num_labels=7, ignore_mismatched_sizes=True)
    assert loaded.classifier.out_features == 7
    expected = load_file(saved / "model.safetensors")["bert.encoder.layer.0.output.dense.weight"]
    assert torch.equal(loaded.bert.encoder.layer[0].output.dense.weight, expected)
    damage(saved, '["intermediate_size", 25]')
    with pytest.raises(BortError, match=r"the weights of the encoder that config\.json describes"):
        load(BortForSequenceClassification, saved, num_labels=7, ignore_mismatched_sizes=True)


@pytest.mark.parametrize("model_class", [BortForMaskedLM, BertForPreTraining, BertModel])
def test_an_encoder_has_the_masked_lm_head_that_its_files_hold(tiny_config, tiny_tokenizer, tmp_path, model_class):
    """Whatever else was trained beside it, and whatever `config.json` says."""
    torch.manual_seed(0)
    model = model_class(tiny_config)
    save(model, tiny_tokenizer, tmp_path)
    if model_class is BertModel:
        for names in (["BertModel"], ["BertForMaskedLM"], None):
            damage(tmp_path, json.dumps(["architectures", names]))
            assert load_encoder(tmp_path).get_output_embeddings() is None
            assert torch.equal(load_encoder(tmp_path).pooler.dense.weight, model.pooler.dense.weight)
        return
    loaded = load_encoder(tmp_path)
    assert torch.equal(loaded.cls.predictions.transform.dense.weight, model.cls.predictions.transform.dense.weight)


def test_a_model_gives_names_to_its_outputs_whatever_its_folder_says(saved):
    damage(saved, '["return_dict", false]')
    assert load(AutoModel, saved)(torch.tensor([[0, 2]])).last_hidden_state.shape == (1, 2, 16)


def test_offline_a_hub_name_is_refused():
    with pytest.raises(BortError, match="nobody/nothing: the model cannot be loaded"):
        load(BortForMaskedLM, "nobody/nothing")


# Saving


def test_a_plain_hugging_face_folder(tiny_config, tiny_tokenizer, tmp_path):
    save(BortForSequenceClassification(tiny_config), tiny_tokenizer, tmp_path, note="ours")
    assert {file.name for file in tmp_path.iterdir()} == FILES
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["architectures"], config["model_type"]) == (["BertForSequenceClassification"], "bert")
    assert config["note"] == "ours"
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_other_files_stay_and_the_model_is_replaced(saved, tiny_config, tiny_tokenizer):
    (saved / "metrics.json").write_text("mine")
    (saved / "checkpoints").mkdir()
    (saved / "checkpoints" / "state").write_text("mine too")
    before = contents(saved)
    model = BortForMaskedLM(tiny_config)
    save(model, tiny_tokenizer, saved)
    after = contents(saved)
    assert set(after) == set(before) == {*FILES, "metrics.json", "checkpoints/state"}
    assert {name for name in before if before[name] != after[name]} == {"model.safetensors"}
    loaded = load(BertForMaskedLM, saved)
    assert torch.equal(loaded.get_input_embeddings().weight, model.get_input_embeddings().weight)


@pytest.mark.parametrize("where", ["weights", "tokenizer", "sync"])
def test_a_failure_leaves_the_old_model(saved, tiny_config, tiny_tokenizer, monkeypatch, where):
    before = contents(saved)
    model = BortForMaskedLM(tiny_config)

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("No space left on device")

    if where == "weights":

        def half(folder: Path) -> None:
            (folder / "model.safetensors").write_bytes(b"half")
            fail()

        monkeypatch.setattr(model, "save_pretrained", half)
    elif where == "tokenizer":
        monkeypatch.setattr(checkpoints, "_write_tokenizer", fail)
    else:
        monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        save(model, tiny_tokenizer, saved)
    assert contents(saved) == before
    assert {file.name for file in saved.iterdir()} == FILES


def test_killed_while_the_files_move_it_is_no_model_rather_than_a_mixture(
    saved, tiny_config, tiny_tokenizer, monkeypatch
):
    move, moved = Path.replace, []

    def killed(self: Path, target: Path) -> Path:
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(target.name)
        return move(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save(BortForMaskedLM(tiny_config), tiny_tokenizer, saved)
    assert "config.json" not in moved
    with pytest.raises(BortError, match=r"holds no config\.json, so no finished model"):
        load(BortForMaskedLM, saved)
    monkeypatch.undo()
    save(BortForMaskedLM(tiny_config), tiny_tokenizer, saved)
    assert {file.name for file in saved.iterdir()} == FILES


def test_a_tokenizer_folder_is_whole_or_absent(tiny_tokenizer, tmp_path, monkeypatch):
    save_tokenizer(tiny_tokenizer, tmp_path / "t")
    assert {file.name for file in (tmp_path / "t").iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
    monkeypatch.setattr(checkpoints.json, "loads", lambda text: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_tokenizer(tiny_tokenizer, tmp_path / "u")
    assert {file.name for file in tmp_path.iterdir()} == {"t"}
