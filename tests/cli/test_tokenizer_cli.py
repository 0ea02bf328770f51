"""`bort tokenizer`: a vocabulary from text files, or a clear no."""

from __future__ import annotations

import gzip

import pytest
from transformers import AutoTokenizer

from bort.model.tokenization import load_tokenizer


@pytest.fixture
def texts(tmp_path, sentences):
    half = len(sentences) // 2
    (tmp_path / "a.txt").write_text("\n".join(sentences[:half]) + "\n", "utf-8")
    with gzip.open(tmp_path / "b.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(sentences[half:]))
    return [tmp_path / "a.txt", tmp_path / "b.txt.gz"]


def test_trains(bort, texts, tmp_path, sentences, tiny_tokenizer):
    done = bort("tokenizer", *texts, "--out", tmp_path / "new/tokenizer", "--vocab_size", 400)
    assert (done.status, done.err) == (0, "")
    assert done.out == f"{tmp_path}/new/tokenizer: 400 entries\n"
    trained = load_tokenizer(tmp_path / "new/tokenizer")
    assert trained.get_vocab() == tiny_tokenizer.get_vocab()
    theirs = AutoTokenizer.from_pretrained(tmp_path / "new/tokenizer")
    for text in sentences[:20]:
        assert theirs.decode(theirs(text).input_ids, skip_special_tokens=True).strip() == text


def test_lowercase_and_frequency(bort, texts, tmp_path):
    words = ["tokenizer", *texts, "--vocab_size", 500, "--out"]
    assert bort(*words, tmp_path / "low", "--lowercase").status == 0
    low = load_tokenizer(tmp_path / "low")
    assert low("THE OLD BAKER").input_ids == low("the old baker").input_ids
    assert bort(*words, tmp_path / "rare", "--min_frequency", 10**6).out.endswith(": 261 entries\n")


def test_an_existing_result_is_kept(bort, texts, tmp_path):
    out, file = tmp_path / "out", tmp_path / "file"
    out.mkdir()
    assert bort("tokenizer", *texts, "--out", out, "--vocab_size", 300).status == 0  # an empty folder may be filled
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    bort("tokenizer", *texts, "--out", out, "--vocab_size", 400).refused(out, "already exists")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    file.write_text("mine")
    bort("tokenizer", *texts, "--out", file, "--vocab_size", 300).refused(file, "already exists")
    bort("tokenizer", *texts, "--out", file / "x", "--vocab_size", 300).refused(file / "x", "cannot be made")
    assert file.read_text() == "mine"


def test_a_table_is_no_text(bort, texts, tmp_path):
    (tmp_path / "a.tsv.gz").touch()
    bort("tokenizer", *texts, tmp_path / "a.tsv.gz", "--out", tmp_path / "out").refused("a.tsv.gz", "plain text")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"fine\nalso\n\xff\xfe\n", ["bad.txt:3", "UTF-8", "0xff"]),
        (b"", ["there must be text"]),
        (b" \n\n\t\n", ["there must be text"]),
        (None, ["bad.txt: no such file"]),
    ],
)
def test_bad_texts_leave_nothing(bort, tmp_path, content, parts):
    bad = tmp_path / "bad.txt"
    if content is not None:
        bad.write_bytes(content)
    bort("tokenizer", bad, "--out", tmp_path / "out", "--vocab_size", 300).refused(*parts)
    assert {path.name for path in tmp_path.iterdir()} <= {"bad.txt"}


def test_a_good_file_does_not_make_up_for_a_bad_one(bort, texts, tmp_path):
    (tmp_path / "bad.txt.gz").write_bytes(texts[1].read_bytes()[:-20])
    for bad in (tmp_path, tmp_path / "bad.txt.gz"):
        bort("tokenizer", *texts, bad, "--out", tmp_path / "out", "--vocab_size", 300).refused(bad)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--vocab_size", 260], ["260", "at least 261"]),
        (["--vocab_size", -5], ["-5", "at least 261"]),
        (["--vocab_size", 10**12], ["--vocab-size", "at most 1,000,000"]),
        (["--vocab_size", 10**30], ["--vocab-size", "at most 1,000,000"]),
        (["--vocab_size", 300, "--min_frequency", 0], ["--min-frequency", "value 0"]),
        (["--vocab_size", 300, "--min_frequency", -1], ["--min-frequency", "value -1"]),
        (["--vocab_size", 300, "--min_frequency", 10**30], ["--min-frequency"]),
    ],
)
def test_bad_settings(bort, texts, tmp_path, words, parts):
    bort("tokenizer", *texts, "--out", tmp_path / "out", *words).refused(*parts)
    assert not (tmp_path / "out").exists()
