"""RoBERTa's ids, Bort's pairs, a trained vocabulary that loses nothing, and files that are refused by name."""

from __future__ import annotations

import json
import random
import shutil
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers, processors
from transformers import AutoTokenizer, RobertaTokenizer

from bort.data.corpus.corpus import fingerprint
from bort.errors import BortError
from bort.model.checkpoints import save_tokenizer
from bort.model.tokenization import (
    SMALLEST_VOCABULARY,
    SPECIAL_TOKENS,
    load_tokenizer,
    panics_are_errors,
    train_tokenizer,
    with_bort_pairs,
)

START, PAD, END, UNKNOWN, MASK = range(5)
PIECES = (
    *("Hello", "world", "don't", "we've", "naïve", "Ωmega", "Привет", "日本語", "テスト", "한국어", "مرحبا"),
    *("👍🏽", "🏳️‍🌈", "e\u0301", "3.14159", "2024-01-31", "http://a.b/c?d=e&f", "C++", "\u00a0", "\u200b", "\t", "\n\n"),
    *("\x00", "\x07", "\x1b[0m", "…", "—", "\ufeff", "\U0010fffd", "   ", "a" * 70, "!!!", "ﬁ", "İ", "\r\n"),
)


def varied_texts(count: int) -> list[str]:
    rng = random.Random(0)
    texts = ["", " ", "\n", "Hello world", " Hello world ", "日本語" * 300, "word " * 3000]
    while len(texts) < count:
        texts.append(rng.choice(["", " "]).join(rng.choices(PIECES, k=rng.randrange(1, 40))))
    return texts


# RoBERTa's vocabulary


@pytest.fixture(scope="module")
def roberta(shared):
    return load_tokenizer(shared / "roberta-tokenizer")


def test_known_ids(roberta):
    assert roberta("Hello world").input_ids == [0, 31414, 232, 2]
    assert (len(roberta), roberta.mask_token_id, roberta.pad_token_id) == (50_265, 50_264, 1)
    assert roberta("Hello <mask>").input_ids == [0, 31414, 50_264, 2]  # the mask takes the space before it


def test_ids_equal_the_librarys(roberta, shared):
    theirs = RobertaTokenizer.from_pretrained(shared / "roberta-tokenizer")
    texts = varied_texts(200)
    assert roberta(texts).input_ids == theirs(texts).input_ids
    assert roberta.batch_decode(roberta(texts).input_ids) == theirs.batch_decode(theirs(texts).input_ids)


def test_one_separator_where_the_library_has_two(roberta, shared, tmp_path):
    theirs = RobertaTokenizer.from_pretrained(shared / "roberta-tokenizer")
    assert theirs("Hello", " world").input_ids == [0, 31414, 2, 2, 232, 2]
    assert roberta("Hello", " world").input_ids == [0, 31414, 2, 232, 2]
    theirs.save_pretrained(tmp_path)
    for saved in (load_tokenizer(tmp_path), load_tokenizer(str(tmp_path))):
        assert saved("Hello", " world").input_ids == [0, 31414, 2, 2, 232, 2], "their folder, their template"
        assert with_bort_pairs(saved)("Hello", " world").input_ids == [0, 31414, 2, 232, 2]


def test_a_model_made_here_writes_one_separator_into_its_folder(tiny_tokenizer, tmp_path):
    model = json.loads(tiny_tokenizer.backend_tokenizer.to_str())["model"]
    theirs = RobertaTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    theirs.save_pretrained(tmp_path)
    assert theirs("the cat", "a dog").input_ids.count(END) == 3
    given = load_tokenizer(tmp_path)
    given.truncation_side = "left"
    save_tokenizer(with_bort_pairs(given), tmp_path / "ours")
    assert given("the cat", "a dog").input_ids == theirs("the cat", "a dog").input_ids
    for ours in (load_tokenizer(tmp_path / "ours"), AutoTokenizer.from_pretrained(tmp_path / "ours")):
        assert ours("the cat").input_ids == theirs("the cat").input_ids
        first, second = (ours(text, add_special_tokens=False).input_ids for text in ("the cat", "a dog"))
        assert ours("the cat", "a dog").input_ids == [START, *first, END, *second, END]
        assert ours.truncation_side == "left"


def test_a_template_with_one_separator_stays_as_it_is(tiny_tokenizer, tmp_path):
    save_tokenizer(tiny_tokenizer, tmp_path)
    given = load_tokenizer(tmp_path)
    given.backend_tokenizer.post_processor = processors.BertProcessing(("</s>", END), ("<s>", START))  # HerBERT's
    assert with_bort_pairs(given) is given
    assert given.backend_tokenizer.encode("the cat", "a dog").type_ids[-1] == 1


@pytest.mark.parametrize("saved_as", ["PreTrainedTokenizerFast", "RobertaTokenizer", "RobertaTokenizerFast"])
def test_the_file_decides_whatever_class_is_named(tiny_tokenizer, tmp_path, saved_as):
    """transformers builds RoBERTa's class anew from the vocabulary, without what else tokenizer.json says."""
    save_tokenizer(tiny_tokenizer, tmp_path)
    backend = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    backend.normalizer = normalizers.Lowercase()
    backend.add_tokens(["zipseam"])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> </s> $B </s>", special_tokens=[("<s>", START), ("</s>", END)]
    )
    backend.enable_truncation(12, direction="left")
    backend.save(str(tmp_path / "tokenizer.json"))
    file = tmp_path / "tokenizer_config.json"
    settings = json.loads(file.read_text()) | {"tokenizer_class": saved_as}
    del settings["truncation_side"]
    file.write_text(json.dumps(settings))
    loaded = load_tokenizer(tmp_path)
    backend.no_truncation()
    for text in ("The CAT zipseam", "x <mask> y </s> z"):
        assert loaded(text).input_ids == backend.encode(text).ids
        assert loaded(text, "A dog").input_ids == backend.encode(text, "A dog").ids
    assert loaded.truncation_side == "left"
    save_tokenizer(loaded, tmp_path / "again")
    assert load_tokenizer(tmp_path / "again")("The CAT zipseam").input_ids == loaded("The CAT zipseam").input_ids


def test_what_the_settings_say_of_case_counts(teacher_folder, tmp_path):
    """Both are known to differ in folders of the hub, and transformers goes by the settings."""
    shutil.copytree(teacher_folder, tmp_path / "m")
    file = tmp_path / "m" / "tokenizer_config.json"
    for lower in (True, False):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"do_lower_case": lower}))
        loaded = load_tokenizer(tmp_path / "m")
        assert (loaded("THE CAT").input_ids == loaded("the cat").input_ids) == lower
        assert loaded("THE CAT").input_ids == AutoTokenizer.from_pretrained(tmp_path / "m")("THE CAT").input_ids


@pytest.mark.parametrize("blank", [True, False])
def test_what_the_settings_say_of_a_blank_in_front_counts(tiny_tokenizer, tmp_path, blank):
    save_tokenizer(tiny_tokenizer, tmp_path)
    file = tmp_path / "tokenizer_config.json"
    settings = {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": blank}
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    theirs = AutoTokenizer.from_pretrained(tmp_path)("cat").input_ids
    assert load_tokenizer(tmp_path)("cat").input_ids == theirs
    assert (theirs == tiny_tokenizer(" cat").input_ids) == blank


# Pairs, truncation, padding


def test_pairs(tiny_tokenizer):
    first, second = (tiny_tokenizer(text, add_special_tokens=False).input_ids for text in ("The cat", "a dog"))
    encoded = tiny_tokenizer("The cat", "a dog")
    assert encoded.input_ids == [START, *first, END, *second, END]
    assert set(encoded) == {"input_ids", "attention_mask"}
    assert tiny_tokenizer([""], [""]).input_ids == [[START, END, END]]


@given(st.integers(0, 30), st.integers(0, 30), st.integers(5, 40))
def test_truncation_takes_from_the_longer(tiny_tokenizer, first, second, limit):
    texts = ["x" * first, "y" * second]
    whole = [tiny_tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    # In lists, for the library takes a lone empty second text for none.
    [ids] = tiny_tokenizer(texts[:1], texts[1:], truncation=True, max_length=limit).input_ids
    room = limit - 3
    separator = ids.index(END)
    kept = ids[1:separator], ids[separator + 1 : -1]
    assert all(whole_part[: len(part)] == part for whole_part, part in zip(whole, kept, strict=True))
    lengths = [len(part) for part in whole]
    if sum(lengths) <= room:
        assert [len(part) for part in kept] == lengths
    else:
        assert len(ids) == limit
        # What was cut is at most one token shorter than what was not.
        cut = [len(part) for part, before in zip(kept, lengths, strict=True) if len(part) < before]
        assert min(cut) >= max(map(len, kept)) - 1


def test_padding_goes_to_the_right(tiny_tokenizer):
    batch = tiny_tokenizer(["a much longer text", "a"], padding=True, return_tensors="pt")
    length = int(batch.attention_mask[1].sum())
    assert length < batch.input_ids.shape[1]
    assert batch.attention_mask[1].tolist() == [1] * length + [0] * (batch.input_ids.shape[1] - length)
    assert set(batch.input_ids[1, length:].tolist()) == {PAD}


# A trained vocabulary


def test_special_tokens_come_first(tiny_tokenizer):
    assert [tiny_tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    named = (tiny_tokenizer.bos_token_id, tiny_tokenizer.pad_token_id, tiny_tokenizer.eos_token_id)
    assert named == (START, PAD, END)
    assert (tiny_tokenizer.cls_token_id, tiny_tokenizer.sep_token_id) == (START, END)
    assert (tiny_tokenizer.unk_token_id, tiny_tokenizer.mask_token_id) == (UNKNOWN, MASK)
    assert sorted(tiny_tokenizer.all_special_ids) == [0, 1, 2, 3, 4]
    assert tiny_tokenizer("a \t <mask>").input_ids == [*tiny_tokenizer("a").input_ids[:-1], MASK, END]
    assert len(tiny_tokenizer) == 400
    assert sorted(tiny_tokenizer.get_vocab().values()) == list(range(400))


def test_training_is_deterministic(tiny_tokenizer, sentences):
    again = train_tokenizer(iter([*sentences, "", "  "]), vocab_size=400)
    assert again.get_vocab() == tiny_tokenizer.get_vocab()
    assert fingerprint(again) == fingerprint(tiny_tokenizer)


@settings(max_examples=300)
@given(st.text())
@example("")
@example(" two  spaces, then a full stop . isn 't it ? ")
@example("\x00\x07\ufeff\u2028\U0010ffff")
def test_nothing_is_lost(tiny_tokenizer, text):
    ids = tiny_tokenizer(text, add_special_tokens=False).input_ids
    assert all(number > MASK for number in ids) or any(token in text for token in SPECIAL_TOKENS)
    if not any(token in text for token in SPECIAL_TOKENS):
        # The first word gets the space that it has inside of a sentence.
        expected = text if text.startswith(" ") or not text else f" {text}"
        assert tiny_tokenizer.decode(ids) == expected
        assert tiny_tokenizer(text).input_ids == [START, *ids, END]


def test_lowercase_folds_case(sentences):
    folding = train_tokenizer(sentences, vocab_size=300, lowercase=True)
    assert folding("CAFÉ Müller").input_ids == folding("cafe\u0301 mu\u0308ller").input_ids
    assert folding.decode(folding("CAFÉ", add_special_tokens=False).input_ids) == " café"


@pytest.mark.parametrize("word", ["river ", "ab", "漢"])
def test_a_line_of_a_megabyte(tiny_tokenizer, word):
    text = word * (2**20 // len(word.encode()))
    start = time.monotonic()
    ids = tiny_tokenizer(text, add_special_tokens=False).input_ids
    assert time.monotonic() - start < 30
    assert tiny_tokenizer.decode(ids) == f" {text}"


def test_a_vocabulary_must_hold_the_bytes():
    with pytest.raises(BortError, match=f"value {SMALLEST_VOCABULARY - 1}: .* at least {SMALLEST_VOCABULARY} entries"):
        train_tokenizer(["text"], vocab_size=SMALLEST_VOCABULARY - 1)
    smallest = train_tokenizer(["text"], vocab_size=SMALLEST_VOCABULARY)
    assert len(smallest) == SMALLEST_VOCABULARY
    assert smallest.decode(smallest("a漢", add_special_tokens=False).input_ids) == " a漢"


# Files


def test_saved_and_loaded_it_gives_the_same_ids(tiny_tokenizer, tmp_path):
    folder = tmp_path / "tokenizer"
    save_tokenizer(tiny_tokenizer, folder)
    texts = [*varied_texts(60), "a <mask> b"]
    for loaded in (load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)):
        assert loaded(texts).input_ids == tiny_tokenizer(texts).input_ids
        assert loaded(texts, texts[::-1]).input_ids == tiny_tokenizer(texts, texts[::-1]).input_ids
        assert loaded.all_special_ids == tiny_tokenizer.all_special_ids
        assert loaded.model_max_length == 512


def test_what_the_last_call_cut_and_padded_to_is_not_saved(tiny_tokenizer, tmp_path):
    tiny_tokenizer(["a long text", "a"], padding="max_length", truncation=True, max_length=4)
    save_tokenizer(tiny_tokenizer, tmp_path / "t")
    described = json.loads((tmp_path / "t" / "tokenizer.json").read_text())
    assert (described["padding"], described["truncation"]) == (None, None)
    again = tiny_tokenizer(["a long text"], padding="max_length", truncation=True, max_length=4)
    assert len(again.input_ids[0]) == 4


def test_a_tokenizer_of_another_kind_stays_as_it_is(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    loaded = load_tokenizer(tmp_path)
    assert loaded("Hello", "world").input_ids == [2, 5, 3, 6, 3]
    assert loaded.sep_token == "[SEP]"


def roberta_folder(folder, vocab=None, merges: str | bytes = "#version: 0.2\na b\n"):
    entries = [*SPECIAL_TOKENS, "a", "b", "ab"]
    vocab = {token: number for number, token in enumerate(entries)} if vocab is None else vocab
    (folder / "vocab.json").write_text(vocab if isinstance(vocab, str) else json.dumps(vocab))
    (folder / "merges.txt").write_bytes(merges if isinstance(merges, bytes) else merges.encode())
    return folder


def test_two_small_files(tmp_path):
    loaded = load_tokenizer(roberta_folder(tmp_path, merges="a b\r\n"))  # no version line, Windows line ends
    assert loaded("abba").input_ids == [0, 7, 6, 5, 2]
    assert loaded.model_max_length == 512


@pytest.mark.parametrize(
    ("merges", "place", "rule"),
    [
        ("#version: 0.2\na b\na\n", "merges.txt:3: value 'a'", "two symbols with a space between"),
        ("a b c\n", "merges.txt:1: value 'a b c'", "two symbols with a space between"),
        (" b\n", "merges.txt:1: value ' b'", "two symbols with a space between"),
        ("a b\nb a\n", "merges.txt:2: value 'b a'", "vocab.json, which lacks 'ba'"),
        (b"a b\n\xff\n", "merges.txt:2", "must be UTF-8"),
    ],
)
def test_bad_merges(tmp_path, merges, place, rule):
    with pytest.raises(BortError) as caught:
        load_tokenizer(roberta_folder(tmp_path, merges=merges))
    assert str(caught.value).startswith(f"{tmp_path}/{place}: ")
    assert rule in str(caught.value)


@pytest.mark.parametrize(
    ("vocab", "rule"),
    [
        ("{", "must be JSON that maps tokens to ids"),
        ("5", "must be JSON that maps tokens to ids"),
        (list(SPECIAL_TOKENS), "must be JSON that maps tokens to ids"),
        (dict.fromkeys(SPECIAL_TOKENS, "0"), "must be JSON that maps tokens to ids"),
        (dict.fromkeys(SPECIAL_TOKENS, 0), "the ids must be 0 to 4, each once"),
        ({token: 7 * number for number, token in enumerate(SPECIAL_TOKENS)}, "the ids must be 0 to 4, each once"),
        (
            {token: number for number, token in enumerate([*SPECIAL_TOKENS[:4], "a", "b"])},
            "value '<mask>': the vocabulary lacks this special token",
        ),
    ],
)
def test_bad_vocabularies(tmp_path, vocab, rule):
    with pytest.raises(BortError) as caught:
        load_tokenizer(roberta_folder(tmp_path, vocab=vocab))
    assert str(caught.value).startswith(f"{tmp_path}/vocab.json: ")
    assert rule in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "{}", '{"model": 1}', "\x00" * 50])
def test_a_damaged_tokenizer_json(tiny_tokenizer, tmp_path, content):
    save_tokenizer(tiny_tokenizer, tmp_path / "t")
    (tmp_path / "t" / "tokenizer.json").write_text(content)
    with pytest.raises(BortError, match="the tokenizer cannot be loaded: ") as caught:
        load_tokenizer(tmp_path / "t")
    assert str(tmp_path / "t") in str(caught.value)


def test_a_template_of_an_unknown_token(tiny_tokenizer, tmp_path):
    """The library panics, and only when a text comes."""
    save_tokenizer(tiny_tokenizer, tmp_path / "t")
    file = tmp_path / "t" / "tokenizer.json"
    described = json.loads(file.read_text("utf-8"))
    described["post_processor"]["special_tokens"].pop("</s>")
    file.write_text(json.dumps(described), "utf-8")
    with pytest.raises(BortError, match="the tokenizer cannot be loaded: "):
        load_tokenizer(tmp_path / "t")


def test_only_a_panic_becomes_an_error():
    with pytest.raises(KeyboardInterrupt), panics_are_errors():
        raise KeyboardInterrupt
    panic = type("PanicException", (BaseException,), {})
    with pytest.raises(ValueError, match="no entry"), panics_are_errors():
        raise panic("no entry")


def test_a_sentencepiece_model_alone_is_a_tokenizer_where_its_library_is(monkeypatch, teacher_folder, tmp_path):
    (tmp_path / "spm.model").write_bytes(b"")
    monkeypatch.setattr("bort.model.tokenization.find_spec", lambda name: None)
    with pytest.raises(BortError, match="has a SentencePiece tokenizer, which needs: pip install sentencepiece"):
        load_tokenizer(tmp_path)
    monkeypatch.setattr("bort.model.tokenization.find_spec", lambda name: name)
    opened = AutoTokenizer.from_pretrained(teacher_folder)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: opened)
    assert load_tokenizer(tmp_path)("The cat").input_ids == opened("The cat").input_ids


def test_no_tokenizer(tmp_path):
    with pytest.raises(BortError, match=r"holds no tokenizer \(tokenizer\.json, or vocab\.json with merges\.txt\)"):
        load_tokenizer(tmp_path)
    for name in ("absent", str(tmp_path / "absent"), "./a/b"):
        with pytest.raises(BortError, match="no such folder"):
            load_tokenizer(name)
    with pytest.raises(BortError, match="nobody/nothing: the tokenizer cannot be loaded"):
        load_tokenizer("nobody/nothing")


def test_an_embedded_model_has_a_tokenizer_by_name():
    assert load_tokenizer("bort-nano").convert_tokens_to_ids("[MASK]") == 4
