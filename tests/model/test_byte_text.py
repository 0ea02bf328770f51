import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bort.errors import BortError
from bort.model.tokenization import SPECIAL_TOKENS, ByteText, byte_alphabet


@pytest.fixture(scope="module")
def byte_text(tiny_tokenizer) -> ByteText:
    return ByteText.of(tiny_tokenizer)


texts = st.text(min_size=1).filter(lambda text: not any(token in text for token in SPECIAL_TOKENS))


def test_the_alphabet_is_the_libraries():
    assert set(byte_alphabet()) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(byte_alphabet().values()) == list(range(256))


@given(texts)
def test_text_and_spans_are_those_of_the_tokenizer(tiny_tokenizer, byte_text, text):
    encoded = tiny_tokenizer(text, add_special_tokens=False)
    decoded, spans = byte_text.decode(np.array(encoded.input_ids, dtype=np.int64))
    # The tokenizer puts a space before the first word.
    assert decoded == (text if text.startswith(" ") else f" {text}")
    assert spans[0, 0] == 0
    assert spans[-1, 1] == len(decoded)
    assert (spans[:, 0] <= spans[:, 1]).all()
    # Each character belongs to a token, and tokens follow each other, sharing at most one character.
    assert (spans[1:, 0] >= spans[:-1, 1] - 1).all()
    assert (spans[1:, 0] <= spans[:-1, 1]).all()
    for (start, stop), entry in zip(spans, tiny_tokenizer.convert_ids_to_tokens(encoded.input_ids), strict=True):
        whole = bytes(byte_alphabet()[character] for character in entry)
        assert whole in decoded[start:stop].encode()


@given(texts, st.integers(0, 30), st.integers(0, 30))
def test_a_cut_anywhere_gives_a_text_and_spans_in_it(tiny_tokenizer, byte_text, text, head, tail):
    """A row may begin or end inside a character's bytes."""
    ids = np.array(tiny_tokenizer(text, add_special_tokens=False).input_ids, dtype=np.int64)
    ids = ids[head : max(head, len(ids) - tail)]
    if not len(ids):
        return
    decoded, spans = byte_text.decode(ids)
    assert spans.shape == (len(ids), 2)
    assert (spans >= 0).all()
    assert (spans[:, 0] < spans[:, 1]).all()
    assert spans.max() <= len(decoded)


def test_special_tokens_have_no_text(tiny_tokenizer, byte_text):
    ids = np.array(tiny_tokenizer("two apples").input_ids)
    decoded, spans = byte_text.decode(ids)
    assert decoded == " two apples"
    assert (spans[0, 1] - spans[0, 0], spans[-1, 1] - spans[-1, 0]) == (0, 0)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (models.BPE({"[UNK]": 0, "naïve": 1, "日本": 2}, [], unk_token="[UNK]"), "日本"),
        (models.WordPiece({"[UNK]": 0, "naïve": 1, "##ly": 2}, unk_token="[UNK]"), "WordPiece"),
    ],
    ids=["characters", "WordPiece"],
)
def test_other_vocabularies_are_refused(model, told):
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), unk_token="[UNK]")
    with pytest.raises(BortError, match=f"{told}.*needs a byte-level BPE"):
        ByteText.of(words)
