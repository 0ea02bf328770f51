"""What an LLM is told, and how its answers are read."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.agora.asked_teachers import endpoint
from bort.agora.llm.budget import Budget
from bort.agora.llm.client import ChatClient, Endpoint, Reply, TokenChoices, api_key, retry_after
from bort.agora.llm.label_shares import label_shares
from bort.agora.llm.prompt import Instructions, LabelPrompt, check_labels, chosen_examples, read_instructions
from bort.agora.llm.reading import read_answer
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.finetuning.arguments import FinetuneArguments
from bort.tasks.classification import Classification
from bort.tasks.regression import Regression

TASK = Classification(("cat", "other"), "accuracy")
LABELLED = [Example(f"{'x' * place}{label}", None, label) for place in range(1, 6) for label in ("cat", "other")]


# Instructions


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "Label it.\n", Instructions("Label it.")),
        ("a.md", "cat: purrs", Instructions("cat: purrs")),
        ("a.yaml", "cat: purrs\nother: does not", Instructions("", {"cat": "purrs", "other": "does not"})),
        ("a.yml", "instructions: Label it.\nlabels: {cat: purrs}", Instructions("Label it.", {"cat": "purrs"})),
        ("a.json", '{"labels": {"cat": "purrs"}}', Instructions("", {"cat": "purrs"})),
        ("a.yaml", "no: nothing\n1: one", Instructions("", {"no": "nothing", "1": "one"})),
        ("a.yaml", "labels: about labels\nother: else", Instructions("", {"labels": "about labels", "other": "else"})),
    ],
)
def test_instructions_are_text_or_a_mapping(tmp_path, name, content, expected):
    (tmp_path / name).write_text(content, "utf-8")
    assert read_instructions(str(tmp_path / name)) == expected
    assert read_instructions(None) == Instructions()


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("a.txt", b" \n", "must not be blank"),
        ("a.txt", b"caf\xe9", "must be UTF-8"),
        ("a.yaml", b"- cat", "must map labels"),
        ("a.yaml", b"", "must map labels"),
        ("a.yaml", b"cat: [", "must be valid YAML"),
        ("a.yaml", b"cat: [purrs]", "column 'cat'.*must be text"),
        ("a.yaml", b"instructions: {a: b}\nlabels: {}", "column 'instructions'.*must be text"),
        ("none.txt", None, "no such file"),
    ],
)
def test_other_instructions_are_refused(tmp_path, name, content, rule):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BortError, match=f"{name}.*{rule}"):
        read_instructions(str(tmp_path / name))


def test_a_description_of_no_label_is_refused():
    check_labels(Instructions("", {"cat": "purrs"}), TASK, "a.yaml")
    with pytest.raises(BortError, match=r"a\.yaml.*value 'cats': is no label of the data; did you mean 'cat'"):
        check_labels(Instructions("", {"cats": "purr"}), TASK, "a.yaml")


# Examples


@given(st.permutations(LABELLED), st.integers(0, 12))
def test_examples_are_balanced_and_do_not_hang_on_the_order(examples, count):
    chosen = chosen_examples(examples, TASK, count)
    assert chosen == chosen_examples(LABELLED, TASK, count)
    assert len(chosen) == min(count, len(LABELLED))
    by_label = [sum(example.label == name for example in chosen) for name in TASK.names]
    assert abs(by_label[0] - by_label[1]) <= 1


def test_examples_are_of_usual_length():
    assert chosen_examples(LABELLED, TASK, 2) == [Example("xxxcat", None, "cat"), Example("xxxother", None, "other")]


def test_examples_of_values_go_from_low_to_high():
    rows = [Example(str(place), None, float(place)) for place in (3, 1, 4, 0, 2)]
    values = Regression((), "pearson")
    assert [e.label for e in chosen_examples(rows, values, 3)] == [0.0, 2.0, 4.0]
    assert [e.label for e in chosen_examples(rows, values, 1)] == [0.0]
    assert chosen_examples(rows, values, 0) == []
    head = LabelPrompt(values, Instructions(), rows[:1]).head
    assert head[2]["content"] == '{"value": 3.0}'


def test_examples_stand_as_turns_and_are_cut():
    long = Example("y" * 5000, None, "other")
    head = LabelPrompt(TASK, Instructions(), [LABELLED[0], long]).head
    assert [turn["role"] for turn in head] == ["system", "user", "assistant", "user", "assistant"]
    assert head[2]["content"] == '{"label": "cat"}'
    assert len(head[3]["content"]) < 1100
    assert LabelPrompt(TASK, Instructions()).messages(long)[-1]["content"] == long.text


# Log-probabilities


def certain(text: str) -> TokenChoices:
    return TokenChoices(text.encode(), 0.0, [(text.encode(), 0.0)])


def uncertain(token: str, **shares: float) -> TokenChoices:
    return TokenChoices(token.encode(), math.log(shares[token]), [(t.encode(), math.log(p)) for t, p in shares.items()])


def test_a_token_may_hold_the_quotation_mark_too():
    tokens = [
        certain('{"label":'),
        TokenChoices(b' "a', math.log(0.7), [(b' "a', math.log(0.7)), (b' "b', math.log(0.3))]),
    ]
    shares = label_shares([*tokens, certain('"}')], ("a", "b"), "a")
    assert shares == pytest.approx({"a": 0.7, "b": 0.3})


def test_labels_that_begin_alike_are_told_apart_where_they_part():
    tokens = [
        certain('"'),
        uncertain("card", card=0.8, loan=0.2),
        uncertain("_lost", _lost=0.75, _late=0.25),
        certain('"'),
    ]
    shares = label_shares(tokens, ("card_lost", "card_late", "loan"), "card_lost")
    assert shares == pytest.approx({"card_lost": 0.6, "card_late": 0.2, "loan": 0.2})


def test_a_label_that_begins_another_ends_at_its_quotation_mark():
    tokens = [
        certain('"'),
        certain("no"),
        TokenChoices(b'"', math.log(0.9), [(b'"', math.log(0.9)), (b"ne", math.log(0.1))]),
    ]
    assert label_shares(tokens, ("no", "none"), "no") == pytest.approx({"no": 0.9, "none": 0.1})


def test_what_leads_to_several_labels_is_shared():
    tokens = [certain('"'), uncertain("x", x=0.5, c=0.5), certain('"')]
    assert label_shares(tokens, ("x", "ca", "cb"), "x") == pytest.approx({"x": 0.5, "ca": 0.25, "cb": 0.25})


def test_bytes_of_a_letter_may_be_apart():
    first, second = "é".encode()[:1], "é".encode()[1:]
    tokens = [certain('"'), TokenChoices(first, math.log(0.5), [(first, math.log(0.5)), (b"e", math.log(0.5))])]
    tokens += [TokenChoices(second, 0.0, [(second, 0.0)]), certain('"')]
    assert label_shares(tokens, ("é", "e"), "é") == pytest.approx({"é": 0.5, "e": 0.5})


def test_a_bare_label():
    tokens = [uncertain("cat", cat=0.9, other=0.1), certain("\n")]
    assert label_shares(tokens, ("cat", "other"), "cat") == pytest.approx({"cat": 0.9, "other": 0.1})


def test_tokens_without_the_label_say_nothing():
    assert label_shares([certain("something else")], ("cat", "other"), "cat") is None
    reply = Reply('{"label": "cat"}', tokens=[certain("something else")])
    assert read_answer(reply, TASK) == {"answer": "cat"}


@given(
    st.sets(st.text('abé"{', min_size=1, max_size=4), min_size=2, max_size=5),
    st.lists(st.floats(0.01, 1.0), min_size=5, max_size=5),
    st.integers(0, 2**32),
)
def test_a_tokenizer_of_single_letters_gives_the_model_s_own_probabilities(names, weights, seed):
    """Each letter's distribution is that of the labels; off the answer's path it is exact where one label is left."""

    names = sorted(names)
    p = np.array(weights[: len(names)]) / sum(weights[: len(names)])
    spelled = [json.dumps(name, ensure_ascii=False) for name in names]
    answer = spelled[random.Random(seed).randrange(len(names))]
    tokens, alone = [], True
    for place in range(len(answer)):
        left = [k for k, text in enumerate(spelled) if text.startswith(answer[:place])]
        total = sum(p[k] for k in left)
        nexts: dict[str, float] = {}
        for k in left:
            nexts[spelled[k][place]] = nexts.get(spelled[k][place], 0.0) + p[k] / total
        for letter in nexts:
            if letter != answer[place]:
                alone &= sum(spelled[k][place] == letter for k in left) == 1
        others = [(letter.encode(), math.log(share)) for letter, share in nexts.items()]
        tokens.append(TokenChoices(answer[place].encode(), math.log(nexts[answer[place]]), others))
    shares = label_shares(tokens, names, json.loads(answer))
    assert shares is not None
    assert math.fsum(shares.values()) == pytest.approx(1.0)
    assert shares[json.loads(answer)] == pytest.approx(p[spelled.index(answer)], rel=1e-6)
    if alone:
        assert [shares[name] for name in names] == pytest.approx(p.tolist(), rel=1e-6)


@given(st.text(), st.sampled_from(["stop", "length"]))
def test_any_text_is_read(text, finish):
    for task in (TASK, Regression((), "pearson")):
        found = read_answer(Reply(text, finish=finish), task)
        assert found.keys() == {"answer"} or found.keys() == {"abstained"}


@pytest.mark.parametrize("name", ["1", "01", "1.0", "true", "null", "{x", "NaN"])
def test_labels_that_json_would_take_otherwise(name):
    task = Classification((name, "other"), "accuracy")
    assert read_answer(Reply(name), task) == {"answer": name}


# Headers, keys, money


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:30 GMT"}, 20.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:01 GMT"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_how_long_a_server_asks_to_wait(headers, wait):
    assert retry_after(headers, now=10.0) == wait


def test_the_key_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    file, openai = tmp_path / "key", "https://api.openai.com/v1"
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(BortError, match="needs an API key"):
        api_key(None, openai)
    assert api_key(None, "http://localhost:8000/v1") == "none"
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    assert api_key(None, openai) == "from-environment"
    file.write_text("from-file\n")
    assert api_key(str(file), openai) == "from-file"
    for content in ("two words", "first\nsecond", "a\x7fb", "schlüssel"):
        monkeypatch.setenv("OPENAI_API_KEY", content)
        with pytest.raises(BortError) as refused:
            api_key(None, openai)
        assert str(refused.value) == "OPENAI_API_KEY must hold an API key and nothing else"
    for content in (b"", b"two words", b"\xff", b"a\x7fb"):
        file.write_bytes(content)
        with pytest.raises(BortError, match="key"):
            api_key(str(file), openai)
    with pytest.raises(BortError, match="cannot be read"):
        api_key(str(tmp_path / "none"), openai)


def test_a_message_shows_no_key_in_any_form():
    pytest.importorskip("openai")
    key = "se\\cret"
    client = ChatClient(Endpoint("m", "http://localhost/v1", key, 1.0))
    assert client._shown(f"{key} is wrong") == "*** is wrong"
    assert client._shown(f"wrong: {key!r}") == "wrong: '***'"
    client.close()


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("https://me:secret@host/v1", "must hold no password"),
        ("localhost:8000/v1", "must begin with http"),
        ("http://[secret/v1", "must be a URL"),
    ],
)
def test_a_url_of_the_environment_is_checked_as_a_setting_is(monkeypatch, url, rule):
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(BortError, match=f"^OPENAI_BASE_URL {rule}") as refused:
        endpoint(FinetuneArguments("out", teacher="openai:m"), "openai:m")
    assert "secret" not in str(refused.value)
    with pytest.raises(BortError, match=f"^--teacher-url: {rule}"):
        FinetuneArguments("out", train="train.csv", teacher="openai:m", teacher_url=url).check()


@given(
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 500), st.booleans()), max_size=40), st.floats(0.001, 0.1)
)
def test_a_budget_is_not_passed_whatever_is_asked(requests, limit):
    budget = Budget(3.0, 15.0, limit)
    open_ones = []
    for prompt, completion, answered in requests:
        most = budget.charge(prompt, completion)
        if budget.set_aside(most):
            open_ones.append(most)
        if answered and open_ones:
            most = open_ones.pop(0)
            budget.settle(most, budget.charge(most.prompt_tokens // 2, most.completion_tokens))
    for most in open_ones:
        budget.settle(most, most)
    assert budget.spent.usd <= limit + 1e-9
