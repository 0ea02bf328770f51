"""Loading a model never runs code, whatever its folder holds, and never asks whether it may."""

import io
import json
import pickle

import pytest
from transformers import AutoModelForMaskedLM, BertForMaskedLM, CLIPConfig

from bort.errors import BortError
from bort.model.checkpoints import load, load_config
from bort.model.tokenization import load_tokenizer


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A folder whose configuration, model and tokenizer classes are Python files; a yes waits on standard input."""
    ran = tmp_path / "ran"
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "code.py").write_text(f"open({str(ran)!r}, 'w').write('ran')\nclass C: pass\n")
    mapped = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForMaskedLM"), "code.C")
    config = {"model_type": "evil", "architectures": ["C"], "auto_map": mapped}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["code.C", "code.C"]}}))
    (folder / "tokenizer.json").write_text("{}")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    return folder, ran


@pytest.mark.parametrize("loader", [load_config, load_tokenizer, lambda folder: load(AutoModelForMaskedLM, folder)])
def test_code_in_the_folder_is_not_run(evil, loader):
    folder, ran = evil
    with pytest.raises(BortError):
        loader(folder)
    assert not ran.exists()


@pytest.mark.parametrize("entry", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("named", ["kernels-community/flash-attn", "flash_attention_2", "owner/kernel", "eager"])
def test_no_kernel_of_the_hub_is_asked_for(tmp_path, tiny_config, entry, named):
    BertForMaskedLM(tiny_config).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {entry: named}))
    kept = "eager" if named == "eager" else None
    assert load_config(tmp_path)._attn_implementation == kept
    assert load(AutoModelForMaskedLM, tmp_path).config._attn_implementation == (kept or "sdpa")
    file.write_text(json.dumps(CLIPConfig().to_dict() | {entry: {"text_config": named}}))
    assert load_config(tmp_path).text_config._attn_implementation == kept


def test_what_other_packages_would_do_to_the_weights_is_refused(tmp_path, tiny_config):
    """With `quantization_config` the library fetches kernels; peft would apply an adapter, where it is installed."""
    BertForMaskedLM(tiny_config).save_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/model"}')
    for read in (load_config, lambda folder: load(BertForMaskedLM, folder)):
        with pytest.raises(BortError, match=r"adapter_config\.json: an adapter is not applied here"):
            read(tmp_path)
    (tmp_path / "adapter_config.json").unlink()
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": {"quant_method": "fp8"}}))
    for read in (load_config, lambda folder: load(BertForMaskedLM, folder)):
        with pytest.raises(BortError, match=r"'quantization_config'.*quantised weights are not supported"):
            read(tmp_path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickle_in_a_bin_file_is_not_run(tmp_path, tiny_config, tiny_tokenizer):
    ran = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return (open, (str(ran), "w"))

    tiny_config.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Payload()}))
    with pytest.raises(BortError):
        load(AutoModelForMaskedLM, tmp_path / "model")
    assert not ran.exists()
