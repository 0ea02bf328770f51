"""bort-nano gives its vectors without PyTorch as with it."""

from __future__ import annotations

import numpy as np
import pytest

from bort.data.tables.examples import Example
from bort.predict import plain_encoder
from bort.predict.engine import gives_vectors, open_vector_engine
from bort.predict.plain_encoder import open_plain_encoder
from bort.predict.plain_engine import PlainEngine
from bort.predict.torch_encoder import TorchEncoder


def test_the_vectors_are_pytorchs(monkeypatch, sentences, tmp_path):
    monkeypatch.setattr(plain_encoder, "may_have_gpu", lambda: False)
    plain, torchs = open_vector_engine("bort-nano"), TorchEncoder("bort-nano")
    assert isinstance(plain, PlainEngine)
    for name in ("size", "max_length", "pooling", "normalizes"):
        assert getattr(plain, name) == getattr(torchs, name), name
    texts = [Example(text) for text in ["", "a", "word " * 700, "Ünïcödé 漢字 [MASK] [SEP] x", *sentences[:20]]]
    ours, theirs = plain.encode(texts), torchs.encode(texts)
    assert (ours.columns["input_ids"], ours.cut) == (theirs.columns["input_ids"], theirs.cut)
    assert plain.whole_lengths(texts) == torchs.whole_lengths(texts)
    assert plain.whole_lengths(texts)[2] == 702, "it has more tokens than the model reads"
    np.testing.assert_allclose(plain.run(ours), torchs.run(theirs), atol=1e-5)
    assert gives_vectors("bort-nano")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bort-nano").mkdir()
    assert open_plain_encoder("bort-nano") is None, "a folder of that name goes before"


def test_a_gpu_is_not_left_idle(monkeypatch):
    monkeypatch.setattr(plain_encoder, "may_have_gpu", lambda: True)
    assert isinstance(open_vector_engine("bort-nano"), TorchEncoder)


LABELLED = "text,label\nIt is torn.,damage\nThe zip broke.,damage\nWhere is it?,delivery\nIt is late.,delivery\n"


@pytest.mark.parametrize(
    "words",
    [
        ["check", "mine.csv"],
        ["embed", "new.txt", "--model", "bort-nano", "--output", "o.npy"],
        ["suggest", "new.txt", "--model", "bort-nano", "--labelled", "mine.csv", "--output", "o.jsonl"],
    ],
    ids=lambda words: words[0],
)
def test_commands_load_neither_torch_nor_transformers(words, python, tmp_path):
    (tmp_path / "mine.csv").write_text(LABELLED)
    (tmp_path / "new.txt").write_text("A hole.\nThe parcel is late.\n")
    code = f"""
import sys
from bort.predict import plain_encoder
plain_encoder.may_have_gpu = lambda: False
from bort.__main__ import main
assert main({words!r}) == 0
print(sorted({{"torch", "transformers", "datasets", "ray"}} & sys.modules.keys()))
"""
    assert python(code, cwd=tmp_path).stdout.splitlines()[-1] == "[]"
