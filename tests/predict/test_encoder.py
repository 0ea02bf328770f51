"""Vectors: those of sentence-transformers, alone or beside others, from a folder or exported."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from bort.errors import BortError
from bort.export.encoder_export import cosines
from bort.export.exporter import Exporter
from bort.model.checkpoints import unpacked
from bort.predict.encoder import Encoder, of_length_1
from bort.predict.engine import open_engine
from bort.predict.graph.quantization import Quantization
from bort.predict.manifest import NAME, read_manifest
from bort.predict.sentence_folder import write_sentence_files

LONG = "apples and tables " * 80


@pytest.fixture(scope="module", params=["mean", "cls"])
def folder(request, teacher_folder, tmp_path_factory) -> str:
    """An encoder of either pooling."""
    path = tmp_path_factory.mktemp("encoder") / request.param
    shutil.copytree(teacher_folder, path)
    write_sentence_files(path, 12, 48, request.param)
    return str(path)


@pytest.fixture(scope="module")
def texts(sentences) -> list[str]:
    return [sentences[0], "", "  My sister ", LONG, *sentences[5:40], "Ünïcode ☃", "a"]


def exported(folder: str, texts: list[str], tmp_path: Path, *, int8: bool, engine: str = "onnxruntime") -> str:
    from bort.data.tables.examples import Example

    exporter = Exporter(folder, engine)  # type: ignore[arg-type]
    fp32, out = tmp_path / "fp32", tmp_path / "int8"
    fp32.mkdir()
    exporter.write(fp32, None)
    exporter.check(fp32)
    if not int8:
        return str(fp32)
    exporter.calibrate(fp32, [Example(text) for text in texts])
    out.mkdir()
    exporter.write(out, Quantization())
    return str(out)


def check_near(vectors, exact, *, int8: bool) -> None:
    if int8:
        assert cosines(vectors, exact).mean() > 0.97
    else:
        np.testing.assert_allclose(vectors, exact, atol=1e-5)


def test_vectors_are_those_of_sentence_transformers(folder, texts):
    library = pytest.importorskip("sentence_transformers")
    theirs = library.SentenceTransformer(folder, device="cpu").encode(texts)
    with Encoder(folder) as encoder:
        assert (encoder.size, encoder.max_length) == (12, 48)
        np.testing.assert_allclose(encoder.encode(texts), theirs, atol=1e-5)
        assert list(encoder.told()) == ["texts longer than 48 tokens, which were cut: 1"]
        scaled = encoder.encode(texts, normalize=True)
    np.testing.assert_allclose(np.linalg.norm(scaled, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(scaled, of_length_1(theirs), atol=1e-5)


def test_blanks_around_a_text_and_a_prompt_are_read_too(world, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    folder = shutil.copytree(world.encoder, tmp_path / "m")
    write_sentence_files(folder, 16, 64)
    prompts = {"prompts": {"query": "The old: "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    pooling = {"embedding_dimension": 16, "pooling_mode": "mean", "include_prompt": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    texts = ["My sister", " My sister", "My sister \n", "\u3000x\u3000", ""]
    theirs = library.SentenceTransformer(str(folder), device="cpu").encode(texts)
    ours = Encoder(str(folder)).encode(texts)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert np.abs(ours[0] - ours[2]).max() > 1e-3, "each blank is a token"


def test_a_folder_that_normalises_is_asked_for_what_the_pooling_gives(folder, texts, tmp_path):
    shutil.copytree(folder, tmp_path / "m")
    pooling = (
        "cls" if json.loads((tmp_path / "m/1_Pooling/config.json").read_text())["pooling_mode_cls_token"] else "mean"
    )
    write_sentence_files(tmp_path / "m", 12, 48, pooling, normalizes=True)
    encoder, plain = Encoder(str(tmp_path / "m")), Encoder(folder)
    np.testing.assert_allclose(encoder.encode(texts), plain.encode(texts, normalize=True), atol=1e-6)
    np.testing.assert_allclose(encoder.encode(texts, normalize=False), plain.encode(texts), atol=1e-6)


@pytest.mark.slow
def test_bort_nano_is_opened_by_sentence_transformers(sentences):
    library = pytest.importorskip("sentence_transformers")
    texts = [*sentences[:10], "word " * 700, ""]
    encoder = Encoder("bort-nano")
    folder = unpacked("bort-nano")
    theirs = library.SentenceTransformer(folder, device="cpu").encode(texts)
    assert theirs.dtype == np.float32
    np.testing.assert_allclose(encoder.encode(texts), theirs, atol=1e-5)


@pytest.mark.parametrize("int8", [False, True], ids=["fp32", "int8"])
def test_an_exported_encoder(folder, texts, tmp_path, int8):
    out = exported(folder, texts, tmp_path, int8=int8)
    manifest = read_manifest(out)
    assert manifest.task is None
    assert manifest.encoder is not None
    assert manifest.encoder.pooling == Path(folder).name
    assert (manifest.encoder.size, manifest.encoder.normalizes) == (12, False)
    encoder = Encoder(out)
    together = encoder.encode(texts)
    check_near(together, Encoder(folder).encode(texts), int8=int8)
    alone = np.stack([encoder.encode(text) for text in texts])
    in_twos = encoder.encode(iter(texts), batch_size=2)
    for other in (alone, in_twos):
        if int8:
            np.testing.assert_array_equal(other, together)
        else:
            np.testing.assert_allclose(other, together, atol=1e-5)
    assert np.abs(together[0] - together[4]).max() > 1e-3, "texts are told apart"


@pytest.mark.parametrize("int8", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["fp32", "int8"])
def test_openvino(folder, texts, tmp_path, int8):
    pytest.importorskip("openvino")
    if int8:
        pytest.importorskip("nncf")
    out = exported(folder, texts, tmp_path, int8=int8, engine="openvino")
    encoder = Encoder(out)
    together = encoder.encode(texts)
    check_near(together, Encoder(folder).encode(texts), int8=int8)
    alone = np.stack([encoder.encode(text) for text in texts])
    np.testing.assert_allclose(alone, together, atol=0 if int8 else 1e-5)


def test_prompt_and_case_go_with_an_export(folder, sentences, tmp_path):
    shutil.copytree(folder, tmp_path / "m")
    text = {"max_seq_length": 20, "do_lower_case": True}
    (tmp_path / "m" / "sentence_bert_config.json").write_text(json.dumps(text))
    prompts = {"prompts": {"query": "The old: "}, "default_prompt_name": "query"}
    (tmp_path / "m" / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    given = [f"  {sentences[0].upper()} ", sentences[1]]
    expected = Encoder(str(tmp_path / "m")).encode(given)
    out = exported(str(tmp_path / "m"), given, tmp_path, int8=False)
    np.testing.assert_allclose(Encoder(out).encode(given), expected, atol=1e-5)
    plain = Encoder(folder).encode([f"the old: {text.strip().lower()}" for text in given])
    np.testing.assert_allclose(expected, plain, atol=1e-5)


def test_lower_case_leaves_special_tokens_in_a_text(folder, tmp_path):
    """As sentence-transformers does it, in the tokenizer; here the tokenizer itself keeps the case."""
    shutil.copytree(folder, tmp_path / "m")
    for name, change in (
        ("tokenizer_config.json", {"do_lower_case": False}),
        ("sentence_bert_config.json", {"do_lower_case": True}),
    ):
        file = tmp_path / "m" / name
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
    given = ["[MASK] THE Cat", "the [SEP] DOG"]
    found = Encoder(str(tmp_path / "m")).encode(given)
    np.testing.assert_allclose(found, Encoder(folder).encode(["[MASK] the cat", "the [SEP] dog"]), atol=1e-5)
    out = exported(str(tmp_path / "m"), given, tmp_path, int8=False)
    np.testing.assert_allclose(Encoder(out).encode(given), found, atol=1e-5)


def test_an_exported_encoder_needs_no_torch(folder, texts, python, tmp_path):
    out = exported(folder, texts, tmp_path, int8=False)
    code = (
        "import sys; from bort.predict.encoder import Encoder\n"
        f"assert Encoder({out!r}).encode(['a', 'b']).shape == (2, 12)\n"
        "assert not {'torch', 'transformers'} & {*sys.modules}"
    )
    python(code)


def test_several_threads_share_an_encoder(folder, texts):
    encoder = Encoder(folder)
    expected = encoder.encode(texts)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: encoder.encode(texts, batch_size=3), range(8)):
            np.testing.assert_allclose(found, expected, atol=1e-5)
    assert encoder.cut == 9


def test_what_is_asked_wrongly(folder, classifier, texts, tmp_path):
    encoder = Encoder(folder)
    assert encoder.encode([]).shape == (0, 12)
    with pytest.raises(TypeError, match="a text must be a string, not int 3"):
        encoder.encode(["a", 3])  # type: ignore[list-item]
    for table in ({"text": "a"}, pd.DataFrame({"text": ["a"]}), pa.table({"text": ["a"]})):
        with pytest.raises(TypeError, match="such as one column of a table, not a whole"):
            encoder.encode(table)
    assert encoder.encode(pd.Series(["a", "b"])).shape == (2, 12)
    np.testing.assert_array_equal(encoder.encode(pa.array(["a", "b"])), encoder.encode(["a", "b"]))
    for asked in ("a", ["a"]):
        with pytest.raises(TypeError, match="normalize must be True, False or None, not 'no'"):
            encoder.encode(asked, normalize="no")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        encoder.encode(["a"], batch_size=0)
    for asked in ("\udc80", ["a", "\udc80"]):
        with pytest.raises(BortError, match="character 1 is half of a surrogate pair"):
            encoder.encode(asked)
    with pytest.raises(BortError, match="threads"):
        Encoder(folder, threads=0)
    encoder.close()
    with pytest.raises(ValueError, match="is closed"):
        encoder.encode("a")
    out = exported(folder, texts, tmp_path, int8=False)
    with pytest.raises(BortError, match="is an encoder: it gives vectors"):
        open_engine(out).task  # noqa: B018
    answering = tmp_path / "classifier"
    answering.mkdir()
    Exporter(classifier).write(answering, None)
    with pytest.raises(BortError, match="gives no vectors"):
        Encoder(str(answering))


@pytest.mark.parametrize("change", [{"size": 0}, {"pooling": "max"}, {"prompt": 3}, {"more": 1}])
def test_a_damaged_manifest_is_refused(folder, texts, tmp_path, change):
    out = Path(exported(folder, texts, tmp_path, int8=False))
    described = json.loads((out / NAME).read_text())
    described["encoder"] |= change
    (out / NAME).write_text(json.dumps(described))
    with pytest.raises(BortError, match="is not what bort export writes"):
        read_manifest(out)


def test_poolings_that_no_export_knows_are_refused(teacher_folder, tmp_path):
    shutil.copytree(teacher_folder, tmp_path / "m")
    (tmp_path / "m" / "1_Pooling").mkdir()
    (tmp_path / "m" / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(BortError, match="the mean over all tokens, or the first one's"):
        Exporter(str(tmp_path / "m"))
    assert Encoder(str(tmp_path / "m")).encode("a").shape == (12,)
