"""A cut tokenizer loses no character, keeps what it is told to, and its ids point at the full one's."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from bort.errors import BortError
from bort.model import text_slices
from bort.model.checkpoints import save_tokenizer
from bort.model.shrink import shrink
from bort.model.tokenization import train_tokenizer
from bort.model.vocabulary_cut import count_tokens, cut_vocabulary

EXTRA = ("naïve café", "Ωmega Привет", "3.14 (and) 2024!", "日本語", "e-mail: a@b.cd")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
KINDS = ("word piece", "byte-level bpe", "unigram", "bpe")


def word_piece(texts):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=400, special_tokens=SPECIAL))
    return templated(tokenizer)


def unigram(texts):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=SPECIAL, unk_token="[UNK]")
    tokenizer.train_from_iterator(texts, trainer)
    return templated(tokenizer)


def bpe(texts):
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]", continuing_subword_prefix="##"))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, continuing_subword_prefix="##")
    tokenizer.train_from_iterator(texts, trainer)
    return templated(tokenizer)


def templated(tokenizer):
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    names = {f"{name[1:-1].lower()}_token": name for name in SPECIAL}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=128, **names)


@pytest.fixture(scope="module")
def texts(sentences):
    return [*sentences, *EXTRA]


@pytest.fixture(scope="module")
def full(texts):
    """A tokenizer of each kind."""
    byte_level = train_tokenizer(texts, vocab_size=500)
    return dict(zip(KINDS, (word_piece(texts), byte_level, unigram(texts), bpe(texts)), strict=True))


def least(tokenizer):
    """The smallest size that is accepted, read from the message that refuses a smaller one."""
    with pytest.raises(BortError) as refused:
        cut_vocabulary(tokenizer, {}, 1)
    return int(refused.value.rule.split("must be at least ")[1].split(":")[0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_vocabulary_reads_the_same(kind, full, texts):
    tokenizer = full[kind]
    cut = cut_vocabulary(tokenizer, count_tokens(tokenizer, texts), len(tokenizer))
    assert cut.kept.tolist() == list(range(len(tokenizer)))
    assert cut.covered == 1
    assert cut.tokenizer(texts).input_ids == tokenizer(texts).input_ids


def test_long_texts_are_counted_few_at_a_time(full, texts, monkeypatch):
    sizes = []

    def watched(part, **settings):
        sizes.append(sum(map(len, part)))
        return full["unigram"](part, **settings)

    expected = count_tokens(full["unigram"], texts)
    monkeypatch.setattr(text_slices, "MOST_CHARACTERS", most := max(map(len, texts)))
    assert count_tokens(watched, texts) == expected
    assert max(sizes) <= most


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_corpus_uses_reads_it_the_same(kind, full, texts):
    """Without a size all that occurs stays: the corpus is read in the same entries, under new ids."""
    tokenizer, part = full[kind], texts[:40]
    cut = cut_vocabulary(tokenizer, count_tokens(tokenizer, part))
    assert len(cut.kept) < len(tokenizer)
    assert cut.covered == 1
    new, old = cut.tokenizer(part).input_ids, tokenizer(part).input_ids
    assert [[int(cut.kept[number]) for number in row] for row in new] == old


@pytest.mark.parametrize("kind", KINDS)
def test_entries_keep_their_meaning(kind, full, texts, tmp_path):
    tokenizer = full[kind]
    smallest = least(tokenizer)
    size = (smallest + len(tokenizer)) // 2
    cut = cut_vocabulary(tokenizer, count_tokens(tokenizer, texts), size)
    assert len(cut.tokenizer) == len(cut.kept) == size
    assert 0.5 < cut.covered <= 1
    entries = cut.tokenizer.convert_ids_to_tokens(list(range(len(cut.kept))))
    assert entries == tokenizer.convert_ids_to_tokens(cut.kept.tolist())
    assert cut.tokenizer.special_tokens_map == tokenizer.special_tokens_map
    pair, theirs = cut.tokenizer("The old cat", "Nobody"), tokenizer("The old cat", "Nobody")
    assert pair.keys() == theirs.keys()
    at = cut.tokenizer
    assert (pair.input_ids[0], pair.input_ids[-1]) == (at.cls_token_id, at.sep_token_id)
    save_tokenizer(cut.tokenizer, tmp_path / "cut")
    again = AutoTokenizer.from_pretrained(tmp_path / "cut")
    assert again(texts).input_ids == cut.tokenizer(texts).input_ids
    assert again.pad_token_id == cut.tokenizer.pad_token_id


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(data=st.data())
def test_no_character_becomes_unknown(kind, full, texts, data):
    """Any text of the corpus's characters, and of a few others, at any size that is accepted."""
    tokenizer = full[kind]
    size = data.draw(st.integers(least(tokenizer), len(tokenizer)))
    counts = count_tokens(tokenizer, data.draw(st.lists(st.sampled_from(texts), max_size=20)))
    cut = cut_vocabulary(tokenizer, counts, size).tokenizer
    alphabet = sorted(set("".join(texts)))
    text = data.draw(st.text(st.sampled_from([*alphabet, "§", "ß", "\u0301"]), max_size=40))
    if tokenizer.unk_token_id not in tokenizer(text).input_ids:
        ids = cut(text, add_special_tokens=False).input_ids
        assert cut.unk_token_id not in ids
        theirs = tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids)
        assert cut.decode(ids) == theirs


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(data=st.data())
def test_more_room_keeps_more(kind, full, texts, data):
    tokenizer = full[kind]
    counts = count_tokens(tokenizer, texts)
    sizes = sorted(data.draw(st.lists(st.integers(least(tokenizer), len(tokenizer)), min_size=2, max_size=2)))
    small, large = (cut_vocabulary(tokenizer, counts, size) for size in sizes)
    assert [len(small.kept), len(large.kept)] == sizes
    assert set(small.kept.tolist()) <= set(large.kept.tolist())
    assert small.covered <= large.covered


def test_merges_that_remain_make_entries_that_remain(full, texts):
    tokenizer = full["byte-level bpe"]
    cut = cut_vocabulary(tokenizer, count_tokens(tokenizer, texts), 340)
    model = json.loads(cut.tokenizer.backend_tokenizer.to_str())["model"]
    made = {left + right for left, right in model["merges"]}
    assert all(symbol in model["vocab"] for merge in model["merges"] for symbol in [*merge, "".join(merge)])
    assert all(entry in made or len(entry) == 1 or entry.startswith("<") for entry in model["vocab"])


def test_a_character_without_an_entry_of_its_own_keeps_its_words():
    entries = [*SPECIAL, "a", "b", "##a", "##b", "xa", "ab", "##ab", "a##"]
    tokenizer = Tokenizer(models.WordPiece({entry: n for n, entry in enumerate(entries)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    full = templated(tokenizer)
    cut = cut_vocabulary(full, {}, least(full)).tokenizer
    assert "ab" not in cut.get_vocab()
    assert cut.tokenize("xaab abab") == ["xa", "##a", "##b", "a", "##b", "##a", "##b"]


def test_unigram_keeps_byte_pieces():
    pieces = [("<unk>", 0.0), *((f"<0x{byte:02X}>", -9.0) for byte in range(256)), ("▁", -2.0), ("▁the", -1.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    full = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    cut = cut_vocabulary(full, {}, len(full) - 1)
    assert cut.tokenizer.tokenize("é") == full.tokenize("é") == ["▁", "<0xC3>", "<0xA9>"]
    assert "▁the" not in cut.tokenizer.get_vocab()


def test_added_tokens_stay_behind_the_vocabulary(texts):
    tokenizer = word_piece(texts)
    tokenizer.add_tokens(["<url>", "<user>"])
    cut = cut_vocabulary(tokenizer, {}, least(tokenizer)).tokenizer
    assert cut.tokenize("see <url>")[-1] == "<url>"
    assert cut.convert_tokens_to_ids(["<url>", "<user>"]) == [len(cut) - 2, len(cut) - 1]


def test_padding_and_truncation_of_the_last_call_are_not_kept(texts):
    tokenizer = word_piece(texts)
    tokenizer(["a", texts[0]], padding="max_length", max_length=30, truncation=True)
    cut = cut_vocabulary(tokenizer, {}, 300).tokenizer
    assert cut.backend_tokenizer.padding is None
    assert cut.backend_tokenizer.truncation is None


def test_a_cut_encoder_reads_what_the_full_one_reads(full, texts):
    """Texts whose entries all stay have the same states."""
    tokenizer, part = full["word piece"], texts[:30]
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertModel(BertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **shape)).eval()
    cut = cut_vocabulary(tokenizer, count_tokens(tokenizer, part))
    small = shrink(model, kept=cut.kept)
    assert small.config.pad_token_id == cut.tokenizer.pad_token_id
    batch, other = (reader(part, padding=True, return_tensors="pt") for reader in (tokenizer, cut.tokenizer))
    with torch.inference_mode():
        assert torch.allclose(small(**other).last_hidden_state, model(**batch).last_hidden_state, atol=1e-5)


def test_other_kinds_are_refused():
    words = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    with pytest.raises(BortError, match="WordPiece, BPE, Unigram"):
        cut_vocabulary(PreTrainedTokenizerFast(tokenizer_object=words), {})


def test_counts_leave_special_tokens_out(full):
    tokenizer = full["word piece"]
    counts = count_tokens(tokenizer, iter(["the cat", "the"]))
    assert counts[tokenizer.convert_tokens_to_ids("the")] == 2
    assert tokenizer.cls_token_id not in counts
    assert np.all(np.array(list(counts.values())) > 0)
