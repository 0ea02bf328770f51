"""A tokenised corpus: nothing lost, nothing twice, whole or absent, in shards that read as one."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bort.data.corpus import parallel_encoding, text_blocks
from bort.data.corpus.build import build_corpus
from bort.data.corpus.corpus import Corpus, fingerprint, open_corpus
from bort.data.tables.lines import total_bytes
from bort.errors import BortError
from bort.model.checkpoints import save_tokenizer
from bort.model.tokenization import SPECIAL_TOKENS, load_tokenizer, train_tokenizer

END = 2


def write(folder: Path, documents: list[list[str]], name: str = "text.txt") -> str:
    path = folder / name
    path.write_bytes("\n\n".join("\n".join(document) for document in documents).encode())
    return str(path)


def documents_of(corpus: Corpus, part) -> list[list[int]]:
    """Ids of each document of a part, by its starts."""
    tokens, starts = corpus.tokens(part), corpus.starts(part)[:].tolist()
    assert not starts or starts[0] == 0
    return [tokens[start:end].tolist() for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True)]


def ids_of(tokenizer, document: list[str]) -> list[int]:
    paragraphs = tokenizer(document, add_special_tokens=False).input_ids
    return [number for ids in paragraphs for number in ids] + [END]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-2])


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def documents(sentences) -> list[list[str]]:
    """98 documents of 3 paragraphs."""
    return [sentences[start : start + 3] for start in range(0, len(sentences), 3)]


paragraphs = (
    st.text(min_size=1)
    .map(lambda text: text.replace("\n", " ").rstrip("\r").removeprefix("\ufeff"))
    .filter(lambda text: text.strip() and not any(token in text for token in SPECIAL_TOKENS))
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.lists(paragraphs, min_size=1, max_size=4), min_size=1, max_size=12),
    st.sampled_from([0.5, 0.25, 0.1]),
)
def test_every_text_is_in_exactly_one_part(tiny_tokenizer, tmp_path_factory, texts, share):
    folder = tmp_path_factory.getbasetemp()
    corpus = build_corpus([write(folder, texts)], tiny_tokenizer, folder / "any-corpus", valid_share=share)
    stride = round(1 / share)
    expected = [ids_of(tiny_tokenizer, document) for document in texts]
    if len(texts) >= stride:
        held_out = [index for index in range(len(texts)) if index % stride == stride - 1]
        assert documents_of(corpus, "valid") == [expected[index] for index in held_out]
        assert documents_of(corpus, "train") == [ids for i, ids in enumerate(expected) if i not in held_out]
        assert corpus.info.train_documents + corpus.info.valid_documents == len(texts)
    else:
        whole = [number for ids in expected for number in ids]
        assert [*corpus.tokens("train")[:], *corpus.tokens("valid")[:]] == whole
        assert corpus.info.valid_tokens == max(1, round(share * len(whole)))
        ends = np.cumsum([len(ids) for ids in expected]).tolist()
        starts = [*corpus.starts("train")[:], *(corpus.starts("valid")[:] + corpus.info.train_tokens)]
        assert set(starts) == {0, *ends[:-1], corpus.info.train_tokens}
    assert corpus.info.train_tokens + corpus.info.valid_tokens == sum(map(len, expected))
    assert len(corpus.tokens("train")) == corpus.info.train_tokens
    (source,) = corpus.info.sources
    assert (source["name"], source["tokens"]) == ("text.txt", sum(map(len, expected)))


def test_decoding_gives_the_texts_back(tiny_tokenizer, tmp_path, documents):
    corpus = build_corpus([write(tmp_path, documents)], tiny_tokenizer, tmp_path / "c", valid_share=0.5)
    for part, offset in (("train", 0), ("valid", 1)):
        texts = [tiny_tokenizer.decode(ids) for ids in documents_of(corpus, part)]
        # Each paragraph begins with the space that words have inside of a sentence.
        assert texts == ["".join(f" {text}" for text in document) + "</s>" for document in documents[offset::2]]


def test_one_document_gives_its_end_to_validation(tiny_tokenizer, tmp_path, sentences):
    corpus = build_corpus([write(tmp_path, [sentences])], tiny_tokenizer, tmp_path / "c", valid_share=0.1)
    ids = ids_of(tiny_tokenizer, sentences)
    held_out = round(0.1 * len(ids))
    assert corpus.tokens("train")[:].tolist() == ids[:-held_out]
    assert corpus.tokens("valid")[:].tolist() == ids[-held_out:]
    assert (corpus.starts("train")[:].tolist(), corpus.starts("valid")[:].tolist()) == ([0], [0])


def test_a_cut_between_two_documents_begins_one(tiny_tokenizer, tmp_path):
    texts = [["qqqq"], ["zzzz"], ["qz"]]
    assert [len(ids_of(tiny_tokenizer, document)) for document in texts] == [6, 6, 4]
    corpus = build_corpus([write(tmp_path, texts)], tiny_tokenizer, tmp_path / "c", valid_share=0.25)
    assert (corpus.starts("train")[:].tolist(), corpus.starts("valid")[:].tolist()) == ([0, 6], [0])


def test_documents_are_counted_through_all_sources(tiny_tokenizer, tmp_path, documents):
    parts = [write(tmp_path, documents[:5], "a.txt"), write(tmp_path, documents[5:12], "b.txt")]
    corpus = build_corpus(parts, tiny_tokenizer, tmp_path / "c", valid_share=0.25)
    assert documents_of(corpus, "valid") == [ids_of(tiny_tokenizer, documents[index]) for index in (3, 7, 11)]
    assert [source["name"] for source in corpus.info.sources] == ["a.txt", "b.txt"]
    assert sum(source["tokens"] for source in corpus.info.sources) == (
        corpus.info.train_tokens + corpus.info.valid_tokens
    )


@pytest.mark.parametrize("packing", [".gz", ".xz", ".bz2", ".zst"])
def test_packed_sources_give_the_same_corpus(tiny_tokenizer, tmp_path, documents, packing):
    plain = Path(write(tmp_path, documents))
    packed = plain.with_name(plain.name + packing)
    if packing == ".zst":
        pack = pytest.importorskip("zstandard").ZstdCompressor().compress
    else:
        pack = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}[packing]
    packed.write_bytes(pack(plain.read_bytes()))
    first = build_corpus([str(plain)], tiny_tokenizer, tmp_path / "a")
    second = build_corpus([str(packed)], tiny_tokenizer, tmp_path / "b")
    for part in ("train", "valid"):
        assert np.array_equal(first.tokens(part), second.tokens(part))
        assert np.array_equal(first.starts(part), second.starts(part))


@pytest.mark.parametrize("bounds", [(1, 1 << 23, 1), (7, 1 << 23, 1 << 20), (2048, 1, 500), (2048, 100, 5000)])
def test_the_size_of_batches_does_not_show(tiny_tokenizer, tmp_path, documents, monkeypatch, bounds):
    source = write(tmp_path, documents)
    whole = build_corpus([source], tiny_tokenizer, tmp_path / "whole", valid_share=0.1)
    monkeypatch.setattr(parallel_encoding, "_BATCH_PARAGRAPHS", bounds[0])
    monkeypatch.setattr(parallel_encoding, "_BATCH_CHARACTERS", bounds[1])
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", bounds[2])
    small = build_corpus([source], tiny_tokenizer, tmp_path / "small", valid_share=0.1)
    assert contents(small.path) == contents(whole.path)


def test_the_state_of_the_tokenizer_does_not_show(tiny_tokenizer, tmp_path, documents):
    source = write(tmp_path, documents)
    tiny_tokenizer(["a", "longer"], padding=True, truncation=True, max_length=4)
    corpus = build_corpus([source], tiny_tokenizer, tmp_path / "c", valid_share=0.5)
    assert documents_of(corpus, "train")[0] == ids_of(tiny_tokenizer, documents[0])


def big_tokenizer(folder: Path, entries: int):
    """A vocabulary of whole size whose letters come last."""
    alphabet = [token for token in train_tokenizer(["x"], vocab_size=261).get_vocab() if token not in SPECIAL_TOKENS]
    unused = [f"unused{number}" for number in range(entries - len(alphabet) - len(SPECIAL_TOKENS))]
    tokens = [*SPECIAL_TOKENS, *unused, *sorted(alphabet)]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("")
    return load_tokenizer(folder)


@pytest.mark.parametrize(("entries", "dtype"), [(1 << 16, "uint16"), ((1 << 16) + 1, "uint32")])
def test_ids_are_as_wide_as_the_vocabulary_needs(tmp_path, entries, dtype):
    tokenizer = big_tokenizer(tmp_path, entries)
    corpus = build_corpus([write(tmp_path, [["héllo", "ÿ"]])], tokenizer, tmp_path / "c", valid_share=0.1)
    assert corpus.info.dtype == corpus.tokens("train").dtype.name == dtype
    assert corpus.info.vocab_size == entries
    whole = [*corpus.tokens("train")[:].tolist(), *corpus.tokens("valid")[:].tolist()]
    assert max(whole) > entries - 256
    assert tokenizer.decode(whole) == "hélloÿ</s>"


def test_progress(tiny_tokenizer, tmp_path, documents):
    sources = [write(tmp_path, documents, "a.txt"), write(tmp_path, documents, "b.txt")]
    seen: list[tuple[int, int]] = []
    build_corpus(sources, tiny_tokenizer, tmp_path / "c", progress=lambda *now: seen.append(now))
    assert seen == sorted(seen)
    assert seen[-1][0] == total_bytes(sources)


# Opening


def test_a_corpus_belongs_to_its_tokenizer(tiny_tokenizer, tmp_path, documents, sentences):
    build_corpus([write(tmp_path, documents)], tiny_tokenizer, tmp_path / "c")
    save_tokenizer(tiny_tokenizer, tmp_path / "t")
    assert open_corpus(tmp_path / "c", load_tokenizer(tmp_path / "t")).info.train_documents == len(documents)
    others = [train_tokenizer(sentences, vocab_size=400, lowercase=True), train_tokenizer(sentences, vocab_size=399)]
    for other in others:
        assert fingerprint(other) != fingerprint(tiny_tokenizer)
        with pytest.raises(BortError, match="was tokenised with another tokenizer"):
            open_corpus(tmp_path / "c", other)


def test_arrays_are_read_only(tiny_tokenizer, tmp_path, documents):
    corpus = build_corpus([write(tmp_path, documents)], tiny_tokenizer, tmp_path / "c")
    for array in (corpus.tokens("train"), corpus.starts("train")):
        with pytest.raises(ValueError, match="read-only"):
            array[:][0] = 1


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (lambda c: cut(c / "train-00000.bin"), "train-00000.bin: must hold"),
        (lambda c: (c / "valid-00000.bin").unlink(), "valid-00000.bin: must hold"),
        (lambda c: (c / "train-00000.starts.bin").unlink(), "train-00000.starts.bin: must hold the starts of"),
        (lambda c: cut(c / "valid-00000.starts.bin"), "valid-00000.starts.bin: must hold the starts of"),
        (lambda c: (c / "corpus.json").unlink(), "corpus.json: is not a tokenised corpus"),
        (lambda c: (c / "corpus.json").write_text("{"), "corpus.json: is not a tokenised corpus"),
        (lambda c: (c / "corpus.json").write_text("[]"), "corpus.json: is not a tokenised corpus"),
        ({"format": 1}, "was written in another format than 3"),
        ({"dtype": "float64"}, "must be uint16 or uint32"),
        ({"train_tokens": None}, "must give numbers of tokens and documents"),
        ({"shards": {"train": [[1, 1]]}}, "must give shards that add up"),
        ({"shards": {"train": [[1]]}}, "must give the tokens and documents of each shard"),
        ({"shards": None}, "must give the tokens and documents of each shard"),
        ({"surprise": 1}, "corpus.json: is not a tokenised corpus"),
    ],
)
def test_a_damaged_corpus(tiny_tokenizer, tmp_path, documents, damage, rule):
    folder = build_corpus([write(tmp_path, documents)], tiny_tokenizer, tmp_path / "c").path
    if isinstance(damage, dict):
        file = folder / "corpus.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **damage}))
    else:
        damage(folder)
    with pytest.raises(BortError) as caught:
        open_corpus(folder)
    assert rule in str(caught.value)
    assert str(folder) in str(caught.value)


# Bad input


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"fine\n\nw\xffong\n", "bad.txt:3: must be UTF-8"),
        (b"", "bad.txt: holds no text"),
        (b"\n \n\t\n", "bad.txt: holds no text"),
    ],
)
def test_a_bad_source_leaves_nothing(tiny_tokenizer, tmp_path, documents, content, rule):
    good, bad = write(tmp_path, documents), tmp_path / "bad.txt"
    bad.write_bytes(content)
    with pytest.raises(BortError) as caught:
        build_corpus([good, str(bad)], tiny_tokenizer, tmp_path / "c")
    assert str(caught.value).startswith(f"{tmp_path}/{rule}")
    assert {file.name for file in tmp_path.iterdir()} == {"text.txt", "bad.txt"}
    # Nor does it harm what was there.
    build_corpus([good], tiny_tokenizer, tmp_path / "c")
    before = contents(tmp_path / "c")
    with pytest.raises(BortError):
        build_corpus([str(bad)], tiny_tokenizer, tmp_path / "c")
    assert contents(tmp_path / "c") == before
    assert {file.name for file in tmp_path.iterdir()} == {"text.txt", "bad.txt", "c"}


def test_a_missing_source(tiny_tokenizer, tmp_path):
    with pytest.raises(BortError, match=r"absent\.txt: no such file"):
        build_corpus([str(tmp_path / "absent.txt")], tiny_tokenizer, tmp_path / "c")
    with pytest.raises(BortError, match="nobody/nothing:train: the data set cannot be loaded from the hub"):
        build_corpus(["nobody/nothing:train"], tiny_tokenizer, tmp_path / "c")


def test_only_a_corpus_is_replaced(tiny_tokenizer, tmp_path, documents):
    source = write(tmp_path, documents)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("all of it")
    for out in (tmp_path / "mine", Path(source)):
        with pytest.raises(BortError, match="holds something other than a corpus, which would be lost"):
            build_corpus([source], tiny_tokenizer, out)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "all of it"
    (tmp_path / "empty").mkdir()
    first = build_corpus([source], tiny_tokenizer, tmp_path / "empty")
    second = build_corpus([write(tmp_path, documents[:9])], tiny_tokenizer, tmp_path / "empty")
    assert first.info.train_tokens > second.info.train_tokens


@pytest.mark.parametrize("share", [0, -0.1, 0.51, float("nan")])
def test_the_held_out_share(tiny_tokenizer, tmp_path, documents, share):
    with pytest.raises(BortError, match=r"--valid-share: value .*: must be above 0 and at most 0\.5"):
        build_corpus([write(tmp_path, documents)], tiny_tokenizer, tmp_path / "c", valid_share=share)
