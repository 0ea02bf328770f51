"""Sentences of a corpus: found whole, trained on in steps of like length, in an order that the seed alone decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bort.data.corpus.masking import Masker
from bort.data.corpus.sentence_rows import (
    SHORTEST,
    Punctuation,
    SentenceRows,
    find_sentences,
    order_of_like_lengths,
)
from bort.errors import BortError
from bort.model.config import IGNORED
from bort.model.tokenization import load_tokenizer

END, STOP, SPACE = 2, 10, 20  # ids from SPACE on begin with a space
VOCABULARY = 60
PUNCTUATION = Punctuation(
    ends=np.arange(VOCABULARY) == STOP,
    begins=np.arange(VOCABULARY) >= SPACE,
)
MASKER = Masker(mask_id=4, special_ids=(0, 1, 2, 3, 4), vocab_size=VOCABULARY)


def rows_of(tokens, *, masker=None, seed=0, length=10_000, rows_per_step=4, distinct=None, fixed_masks=False):
    return SentenceRows(
        np.asarray(tokens, dtype=np.uint16),
        masker,
        12,
        0,
        END,
        length,
        seed,
        distinct,
        fixed_masks,
        punctuation=PUNCTUATION,
        rows_per_step=rows_per_step,
    )


def some_corpus(sentences: int, seed: int = 0) -> np.ndarray:
    """Sentences of 5 to 10 tokens, a document's end now and then."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(sentences):
        parts += [[*rng.integers(SPACE, VOCABULARY, rng.integers(SHORTEST - 1, 10)), STOP]]
        parts += [[END]] if rng.random() < 0.2 else []
    return np.concatenate(parts)


@given(st.lists(st.sampled_from([END, STOP, 15, 25, 30]), max_size=200))
def test_sentences_end_where_they_should(tokens):
    starts, stops = find_sentences(np.array(tokens, dtype=np.uint16), PUNCTUATION, end_id=END, longest=10)
    previous = 0
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        assert previous <= start
        assert SHORTEST <= stop - start <= 10
        sentence = tokens[start:stop]
        assert END not in sentence
        assert all(not (sentence[i] == STOP and sentence[i + 1] >= SPACE) for i in range(len(sentence) - 1))
        before, after = tokens[start - 1 : start], tokens[stop : stop + 1]
        assert not before or before == [END] or (before == [STOP] and sentence[0] >= SPACE)
        assert not after or after == [END] or (sentence[-1] == STOP and after[0] >= SPACE)
        previous = stop


def test_blocks_do_not_cut_sentences(monkeypatch):
    tokens = some_corpus(200).astype(np.uint16)
    whole = find_sentences(tokens, PUNCTUATION, end_id=END, longest=10)
    monkeypatch.setattr("bort.data.corpus.sentence_rows._BLOCK", 7)
    in_blocks = find_sentences(tokens, PUNCTUATION, end_id=END, longest=10)
    assert np.array_equal(whole, in_blocks)
    assert len(whole[0]) == 200


@settings(max_examples=30)
@given(st.integers(1, 90), st.integers(1, 20), st.integers(0, 3), st.integers(0, 1000), st.booleans())
def test_an_epoch_holds_every_sentence_once(sentences, rows_per_step, epoch, seed, few):
    tokens = some_corpus(sentences)
    distinct = max(1, sentences // 2) if few else None
    rows = rows_of(tokens, seed=seed, rows_per_step=rows_per_step, distinct=distinct)
    count = rows.rows_per_epoch
    assert count == (distinct or sentences)
    numbers = [rows[index]["number"] for index in range(epoch * count, (epoch + 1) * count)]
    assert sorted(numbers) == list(range(count))
    for number in numbers[:5]:
        row = rows.row(number)
        assert (row[0], row[-1], len(row)) == (0, END, rows.lengths[number] + 2)
        assert row[-2] == STOP


def test_steps_are_of_like_length_and_come_in_any_order():
    rows = rows_of(some_corpus(800), rows_per_step=8)
    lengths = rows.lengths[rows.order(0)].reshape(-1, 8)
    assert (lengths.max(1) - lengths.min(1)).mean() < 1
    means = lengths.mean(1)
    assert not (np.diff(means) >= 0).all()
    assert not np.array_equal(rows.order(0), rows.order(1))


def test_later_epochs_pad_as_little_as_the_first():
    """Although a step holds the last rows of one epoch and the first of the next."""
    lengths = np.random.default_rng(0).integers(5, 60, 3_001)
    epochs = [order_of_like_lengths(lengths, 0, epoch, 16) for epoch in range(6)]
    for epoch in epochs:
        assert np.array_equal(np.sort(epoch), np.arange(len(lengths)))
    rows = np.concatenate(epochs)
    steps = lengths[rows[: len(rows) // 16 * 16]].reshape(-1, 16)
    spread = steps.max(1) - steps.min(1)
    per_epoch = len(lengths) / 16
    of_epochs = [spread[int(epoch * per_epoch) + 1 : int((epoch + 1) * per_epoch)].mean() for epoch in range(6)]
    assert max(of_epochs) < 1.2 * of_epochs[0] < 3


@given(st.integers(0, 1000), st.lists(st.integers(0, 499), min_size=1, max_size=6))
def test_a_row_depends_on_the_seed_and_its_index_alone(seed, indices):
    tokens = some_corpus(60)
    first, again = (rows_of(tokens, masker=MASKER, seed=seed, length=500) for _ in range(2))
    expected = {index: first[index] for index in indices}
    for index in [*reversed(indices), *indices]:
        for name in ("input_ids", "labels", "number"):
            assert np.array_equal(again[index][name], expected[index][name])


@pytest.mark.parametrize("fixed_masks", [False, True])
def test_masks_are_drawn_anew_unless_they_are_fixed(fixed_masks):
    rows = rows_of(some_corpus(40), masker=MASKER, distinct=20, fixed_masks=fixed_masks)
    by_number = {}
    for index in range(40):
        row = rows[index]
        by_number.setdefault(row["number"], []).append(row)
        assert (row["labels"] != IGNORED).sum() >= 1
    same = [np.array_equal(first["labels"], second["labels"]) for first, second in by_number.values()]
    assert all(same) if fixed_masks else not all(same)
    if fixed_masks:
        assert all(np.array_equal(rows.numbered(n)["input_ids"], by_number[n][0]["input_ids"]) for n in range(20))


@given(st.integers(0, 200))
def test_tokens_are_counted_exactly(count):
    rows = rows_of(some_corpus(50), length=200)
    assert rows.tokens_of(count) == sum(len(rows[index]["input_ids"]) for index in range(count))


def test_a_corpus_without_sentences_is_refused():
    with pytest.raises(BortError, match="the corpus holds no sentence of 5 to 10 tokens"):
        rows_of([SPACE] * 100)
    with pytest.raises(BortError, match=r"distinct-rows.*must be at least 1 and at most the 30 rows of the corpus"):
        rows_of(some_corpus(30), distinct=31)


def test_punctuation_of_a_tokenizer(tiny_tokenizer, sentences):
    text = "The old baker sold apples. " + " ".join(sentences[:20])
    ids = np.array(tiny_tokenizer(text, add_special_tokens=False).input_ids, dtype=np.uint16)
    starts, stops = find_sentences(ids, Punctuation.of(tiny_tokenizer), end_id=END, longest=100)
    found = [tiny_tokenizer.decode(ids[a:b]).strip() for a, b in zip(starts, stops, strict=True)]
    assert found[0] == "The old baker sold apples."
    assert "My sister sold seven green apples." in sentences
    assert {text for text in found if "Dr." not in text} <= {"The old baker sold apples.", *sentences}


def test_a_sentence_piece_vocabulary_ends_sentences_too():
    words = ["▁The", "▁cat", "▁sat", "▁down", ".", "▁", "A", "▁dog", "▁ran", "!", '"']
    model = models.Unigram([("<unk>", 0.0), *((word, -1.0) for word in words)], unk_id=0)
    backend = Tokenizer(model)
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    ids = np.array(tokenizer("The cat sat down. The dog ran down! A cat.").input_ids)
    starts, stops = find_sentences(ids, Punctuation.of(tokenizer), end_id=-1, longest=60)
    found = [tokenizer.decode(ids[a:b]) for a, b in zip(starts, stops, strict=True)]
    assert found == ["The cat sat down.", "The dog ran down!"]


def test_a_word_piece_vocabulary_ends_sentences_too(teacher_folder):
    """At a mark that a word follows; a mark inside of a number ends nothing."""
    tokenizer = load_tokenizer(teacher_folder)
    text = "the old baker sold a broken clock. my sister sold cafe tables. x = 3.1"
    ids = np.array(tokenizer(text, add_special_tokens=False).input_ids)
    starts, stops = find_sentences(ids, Punctuation.of(tokenizer), end_id=tokenizer.sep_token_id, longest=60)
    assert [tokenizer.decode(ids[a:b]).rstrip(" .!") for a, b in zip(starts, stops, strict=True)] == [
        "the old baker sold a broken clock",
        "my sister sold cafe tables",
        "x = 3. 1",
    ]
