"""Loading a model never runs code, whatever its folder holds, and never asks whether it may."""

import io
import json
import pickle

import pytest
from transformers import AutoModelForMaskedLM

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
