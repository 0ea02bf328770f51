"""Texts as token ids: padding, what is cut, and pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.model import text_slices
from bort.predict.encoding import TokenizedExamples, encode, prepare, tokenize, whole_lengths

FIRST, PAD, LAST = 0, 1, 2
TEXT = st.text(st.characters(codec="utf-8"), max_size=30)


def ids(encoded: TokenizedExamples) -> list[list[int]]:
    return encoded.columns["input_ids"]


def test_single_texts(tiny_tokenizer, sentences):
    encoded = encode([Example(text) for text in sentences[:5]], tiny_tokenizer, 64)
    assert ids(encoded) == [tiny_tokenizer(text).input_ids for text in sentences[:5]]
    assert encoded.cut == 0
    assert len(encoded) == 5
    assert encoded.lengths == [len(row) for row in ids(encoded)]
    for place, row in enumerate(ids(encoded)):
        assert (row[0], row[-1]) == (FIRST, LAST)
        assert encoded.batch([place], PAD)["attention_mask"].tolist() == [[1] * len(row)]


def test_pairs_have_one_separator(tiny_tokenizer, sentences):
    first, second = sentences[:2]
    (row,) = ids(encode([Example(first, second)], tiny_tokenizer, 64))
    assert row == [*tiny_tokenizer(first).input_ids, *tiny_tokenizer(second).input_ids[1:]]


def test_an_empty_second_text_keeps_the_pair(tiny_tokenizer):
    encoded = encode([Example("a", ""), Example("a"), Example("", ""), Example("")], tiny_tokenizer, 64)
    single = tiny_tokenizer("a").input_ids
    assert ids(encoded) == [[*single, LAST], single, [FIRST, LAST, LAST], [FIRST, LAST]]


@settings(max_examples=50)
@given(st.lists(st.tuples(TEXT, st.none() | TEXT), max_size=6), st.integers(4, 20))
def test_an_example_is_encoded_alike_in_any_company(tiny_tokenizer, texts, length):
    examples = [Example(*text) for text in texts]
    together = encode(examples, tiny_tokenizer, length)
    alone = [encode([example], tiny_tokenizer, length) for example in examples]
    assert ids(together) == [ids(one)[0] for one in alone]
    assert together.cut == sum(one.cut for one in alone)
    assert all(2 <= count <= length for count in together.lengths)


def test_what_is_cut_is_counted(tiny_tokenizer):
    whole = tiny_tokenizer("word " * 50).input_ids
    for length, cut in ((len(whole), 0), (len(whole) - 1, 1), (4, 1)):
        encoded = encode([Example("word " * 50), Example("a")], tiny_tokenizer, length)
        assert encoded.cut == cut
        assert encoded.lengths[0] == length
        assert ids(encoded)[0] == [*whole[: length - 1], LAST]


def test_an_example_with_choices_is_cut_once(tiny_tokenizer):
    examples = [
        Example("word " * 50, choices=("b", "c")),
        Example("a", choices=("b", "c " * 50)),
        Example("a", choices=("b", "c")),
    ]
    encoded = encode(examples, tiny_tokenizer, 16)
    assert (encoded.cut, encoded.cut_places) == (2, (0, 1))
    both = encode(examples[2:], tiny_tokenizer, 16).joined([encoded])
    assert (both.cut_places, both.choices) == ((1, 2), 2)


@settings(max_examples=50)
@given(st.lists(TEXT | st.integers(0, 900).map("word ".__mul__), max_size=4), st.sampled_from(["left", "right"]))
def test_whole_lengths_are_those_without_truncation(tiny_tokenizer, texts, side):
    backend = Tokenizer.from_str(tiny_tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    whole = [len(backend.encode(text)) for text in texts]
    prepare(backend, 8, side)
    assert whole_lengths([Example(text) for text in texts], backend) == whole


class Watched:
    """A tokenizer that notes how much it is given at once."""

    def __init__(self, backend: Tokenizer) -> None:
        self.backend, self.sizes = backend, []

    def __getattr__(self, name):
        return getattr(self.backend, name)

    def encode_batch_fast(self, texts):
        self.sizes.append(len(texts))
        return self.backend.encode_batch_fast(texts)


@pytest.mark.parametrize("side", ["left", "right"])
def test_many_texts_are_tokenised_in_slices(tiny_tokenizer, monkeypatch, side):
    """The encodings of a whole training file would take far more memory than its ids."""
    monkeypatch.setattr(text_slices, "MOST_TEXTS", 3)
    backend = Tokenizer.from_str(tiny_tokenizer.backend_tokenizer.to_str())
    prepare(backend, 8, side)
    examples = [Example(f"a {n} " * n, "b" if n % 3 == 0 else None) for n in range(0, 120, 10)]
    for windows in (False, True):
        alone = [tokenize([example], backend, types=True, windows=windows) for example in examples]
        together = tokenize(examples, watched := Watched(backend), types=True, windows=windows)
        for name, column in together.columns.items():
            assert column == [row for one in alone for row in one.columns[name]]
        assert together.cut_places == tuple(place for place, one in enumerate(alone) if one.cut)
        assert together.windows == tuple(count for one in alone for count in one.windows)
        assert watched.sizes == [3, 3, 3, 3]
    found = whole_lengths(examples, watched := Watched(backend))
    assert found == [whole_lengths([example], backend)[0] for example in examples]
    assert watched.sizes == [3, 3, 3, 3]


def test_the_longer_text_of_a_pair_is_cut_first(tiny_tokenizer):
    short = tiny_tokenizer("a").input_ids
    for example in (Example("a", "word " * 50), Example("word " * 50, "a")):
        encoded = encode([example], tiny_tokenizer, 16)
        (row,) = ids(encoded)
        assert (len(row), encoded.cut) == (16, 1)
        assert " ".join(map(str, short[1:-1])) in " ".join(map(str, row)), "the short one is whole"
        assert row.count(LAST) == 2


def test_padding(tiny_tokenizer):
    encoded = encode([Example("a"), Example("a b c d e"), Example("a b")], tiny_tokenizer, 64)
    batch = encoded.batch([2, 1], PAD)
    assert set(batch) == {"input_ids", "attention_mask"}
    longest = encoded.lengths[1]
    for tensor in batch.values():
        assert tensor.shape == (2, longest)
        assert tensor.dtype == np.int64
    assert batch["input_ids"][1].tolist() == ids(encoded)[1]
    assert batch["attention_mask"][1].tolist() == [1] * longest
    short = encoded.lengths[2]
    assert batch["input_ids"][0].tolist() == [*ids(encoded)[2], *[PAD] * (longest - short)]
    assert batch["attention_mask"][0].tolist() == [1] * short + [0] * (longest - short)
    assert encoded.batch([0], PAD)["input_ids"].shape == (1, encoded.lengths[0])


def test_other_columns_are_padded_with_zeros():
    encoded = TokenizedExamples({"input_ids": [[5, 6], [7]], "token_type_ids": [[1, 1], [1]]})
    batch = encoded.batch([0, 1], 9)
    assert batch["input_ids"].tolist() == [[5, 6], [7, 9]]
    assert batch["token_type_ids"].tolist() == [[1, 1], [1, 0]]


def test_nothing(tiny_tokenizer):
    encoded = encode([], tiny_tokenizer, 8)
    assert (len(encoded), encoded.lengths, encoded.cut) == (0, [], 0)


def test_a_tokenizer_written_in_python_is_refused():
    class Slow:
        is_fast, name_or_path = False, "some/model"

    with pytest.raises(BortError, match="'some/model': the tokenizer must be one of the tokenizers library"):
        encode([Example("a")], Slow(), 8)
