"""A long text that is cut before it is tokenised has the tokens that the whole one has."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from bort.predict import cutting

MAX_LENGTH = 8
_WORDS = st.sampled_from(
    ["a", "harbour", "Éclair", "e\u0301", "apples,", "...", "<mask>", "New York", "x" * 90, "語", "\u200b"]
)
_BLANKS = st.sampled_from([" ", "  ", "\n", " \t ", "\u00a0", "\u3000"])
_TEXTS = st.lists(st.tuples(_WORDS, _BLANKS), max_size=200).map(lambda parts: "".join(map("".join, parts)))


def trained(model, splitter, normalizer=None) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer, tokenizer.normalizer = splitter, normalizer
    kinds = {"WordPiece": trainers.WordPieceTrainer, "BPE": trainers.BpeTrainer, "Unigram": trainers.UnigramTrainer}
    special = ["[UNK]", "[CLS]", "<mask>"]
    extra = {"unk_token": "[UNK]"} if type(model).__name__ == "Unigram" else {}
    trainer = kinds[type(model).__name__](vocab_size=120, special_tokens=special, show_progress=False, **extra)
    tokenizer.train_from_iterator(["a harbour of apples, New York and an eclair ... e\u0301"] * 4, trainer)
    tokenizer.add_tokens(["New York"])
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A", "[CLS] $A $B", [("[CLS]", 1)])
    tokenizer.enable_truncation(MAX_LENGTH)
    return tokenizer


TOKENIZERS = {
    "BERT": lambda: trained(
        models.WordPiece(unk_token="[UNK]"), pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer()
    ),
    "RoBERTa": lambda: trained(models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "no splits": lambda: trained(models.BPE(unk_token="[UNK]"), None),
    "pieces of sentences": lambda: trained(models.Unigram(), pre_tokenizers.Metaspace(), normalizers.NFKC()),
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]()


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.lists(_TEXTS | st.tuples(_TEXTS, _TEXTS), min_size=1, max_size=3))
@example(["a " * 500])
@example(["x" * 700 + " a " * 400])
@example([("New York " * 200).strip()])
def test_the_tokens_are_the_same(tokenizer, texts):
    wanted = tokenizer.encode_batch(texts)
    found = [*cutting.encode(texts, tokenizer)]
    assert [encoding.ids for encoding in found] == [encoding.ids for encoding in wanted]
    assert [bool(encoding.overflowing) for encoding in found] == [bool(encoding.overflowing) for encoding in wanted]


def test_the_end_is_kept_where_the_beginning_is_cut(tokenizer):
    tokenizer.enable_truncation(MAX_LENGTH, direction="left")
    text = "a " * 900 + "harbour"
    assert next(cutting.encode([text], tokenizer)).ids == tokenizer.encode(text).ids
    tokenizer.enable_truncation(MAX_LENGTH)


def test_a_book_is_not_read_to_its_end():
    tokenizer = TOKENIZERS["BERT"]()
    seen = []

    class Watched:
        truncation, normalizer, pre_tokenizer = tokenizer.truncation, tokenizer.normalizer, tokenizer.pre_tokenizer

        def encode(self, text):
            seen.append(len(text))
            return tokenizer.encode(text)

    next(cutting.encode(["a harbour of apples " * 100_000], Watched()))
    assert seen == [max(seen)]
    assert seen[0] <= 8 * (MAX_LENGTH + 32)
