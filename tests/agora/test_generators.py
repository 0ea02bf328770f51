"""Who writes new texts near mistakes: a command, or an LLM."""

from __future__ import annotations

import json
import random
import shlex
import sys

import pytest

from bort.agora.answer_cache import AnswerCache
from bort.agora.command_lines import LineCommand
from bort.agora.generators import ChatGenerator, CommandGenerator
from bort.agora.llm.asking import Asker
from bort.agora.llm.budget import Budget
from bort.agora.llm.client import Endpoint, Reply
from bort.agora.llm.options import Options
from bort.agora.llm.paid_answers import PaidAnswers
from bort.agora.llm.prompt import Instructions
from bort.agora.llm.writing import WritingPrompt, read_texts
from bort.data.tables.examples import Example
from bort.errors import BortError
from fake_llm import completion

MISTAKES = [Example("a cat", None, "cat"), Example("a dog", None, "other")]
PAIRS = [Example("a cat", "a kitten", "same")]
ANSWERS = ["other", None]


@pytest.fixture
def command(tmp_path):
    def make(code, count=2, batch=1000):
        line = shlex.join([sys.executable, "-c", code])
        return CommandGenerator(LineCommand(line, "generator", 30.0), count, batch, tmp_path / "answers")

    return make


def prints(text: str) -> str:
    return f"import sys; sys.stdin.read(); print({text!r}, end='')"


def test_a_command_is_given_text_truth_and_wrong_answer(command, tmp_path):
    code = f"""
import json, sys
for line in sys.stdin:
    open({str(tmp_path / "seen")!r}, "a").write(line)
    row = json.loads(line)
    print(json.dumps([row["text"] + " %d" % n for n in range(5)] + [" "]))
"""
    made = command(code)(MISTAKES, ANSWERS, random.Random(0))
    assert made == [[Example("a cat 0"), Example("a cat 1")], [Example("a dog 0"), Example("a dog 1")]]
    seen = [json.loads(line) for line in (tmp_path / "seen").read_text().splitlines()]
    assert seen == [
        {"text": "a cat", "label": "cat", "answer": "other", "count": 2},
        {"text": "a dog", "label": "other", "answer": None, "count": 2},
    ]
    command(code)(MISTAKES, ANSWERS, random.Random(0))
    assert len((tmp_path / "seen").read_text().splitlines()) == 2, "the same question has its answer"
    command(code, batch=1)(MISTAKES, ANSWERS, random.Random(1))
    assert len((tmp_path / "seen").read_text().splitlines()) == 4, "another round asks for other texts"


def test_a_command_writes_pairs_for_pairs(command):
    written = '[{"text": "my cat", "text_b": "my kitten"}, {"text": "x", "text_b": " "}]\n'
    assert command(prints(written))(PAIRS, [None], random.Random(0)) == [[Example("my cat", "my kitten")]]


@pytest.mark.parametrize(
    "line", ["a text", '"a text"', '{"texts": []}', '["a", 1]', '[{"text": "a"}]', "[" * 9000, "NaN"]
)
def test_what_is_no_list_of_texts_is_told(command, line):
    with pytest.raises(BortError, match=r"--generator: value .*line 2 of its output: must be a JSON list of texts"):
        command(prints(f'["fine"]\n{line}\n'))(MISTAKES, ANSWERS, random.Random(0))
    with pytest.raises(BortError, match="must be a JSON list of objects with text and text_b"):
        command(prints('["a"]\n'))(PAIRS, [None], random.Random(0))


def test_half_a_surrogate_pair_is_no_text(command):
    written = r'["a \ud83d", "fine \ud83d\ude00", "also"]' + "\n[]\n"
    assert command(prints(written))(MISTAKES, ANSWERS, random.Random(0))[0] == [Example("fine 😀"), Example("also")]
    pairs = r'[{"text": "a", "text_b": "\ud83d"}, {"text": "a", "text_b": "b"}]' + "\n"
    assert command(prints(pairs))(PAIRS, [None], random.Random(0)) == [[Example("a", "b")]]


def test_a_blank_line_writes_nothing(command):
    assert command(prints("\n[]\n"))(MISTAKES, ANSWERS, random.Random(0)) == [[], []]


@pytest.fixture
def llm(server, tmp_path):
    def make(pairs=False, budget=None):
        prompt = WritingPrompt(Instructions("About animals.", {"cat": "purrs"}), 2, pairs)
        budget = budget or Budget()
        cache = AnswerCache(tmp_path / "cache", {"head": prompt.head}, "run")
        options = Options(prompt.schema, 256, temperature=1.0, logprobs=False)
        asker = Asker(Endpoint("m", server.url, "none", 10.0), options, budget, 2)
        return ChatGenerator(prompt, PaidAnswers("openai:m", asker, cache, budget, 256))

    return make


def test_an_llm_is_given_text_truth_and_wrong_answer(server, llm):
    server.behave = lambda request, number: json.dumps({"texts": ["one", " two ", "three"]})
    made = llm()(MISTAKES, ANSWERS, random.Random(0))
    assert made == [[Example("one"), Example("two")]] * 2
    assert sorted(server.texts) == [
        "a cat\n\nRight label: cat\n\nThe classifier's wrong answer: other",
        "a dog\n\nRight label: other",
    ]
    request = server.requests[0]
    assert (request["temperature"], "logprobs" in request) == (1.0, False)
    assert request["response_format"]["json_schema"]["schema"]["properties"]["texts"]["items"] == {"type": "string"}
    assert "- cat: purrs" in request["messages"][0]["content"]
    llm()(MISTAKES, ANSWERS, random.Random(0))
    assert len(server.requests) == 2
    llm()(MISTAKES, ANSWERS, random.Random(1))
    assert len(server.requests) == 4


def test_an_llm_writes_pairs_for_pairs(server, llm):
    server.behave = lambda request, number: json.dumps({"texts": [{"text": "a", "text_b": "b"}, "stray"]})
    assert llm(pairs=True)(PAIRS, [None], random.Random(0)) == [[Example("a", "b")]]


def test_an_llm_that_refuses_or_costs_too_much_writes_nothing(server, llm):
    server.behave = lambda request, number: completion(None, refusal="no")
    generator = llm()
    assert generator(MISTAKES, ANSWERS, random.Random(0)) == [[], []]
    assert generator.answers.usage["abstained"] == {"refused": 2}
    poor = llm(budget=Budget(1.0, 1.0, 1e-6))
    assert poor(MISTAKES, ANSWERS, random.Random(1)) == [[], []]
    assert poor.answers.usage["out_of_budget"]
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"texts": ["a", "b"]}', ["a", "b"]),
        ('```json\n{"texts": ["a"]}\n```', ["a"]),
        ('["a", "b"]', ["a", "b"]),
        ('1. a\n2) b\n- "c"\n', ["a", "b", "c"]),
    ],
)
def test_answers_in_other_clothes(content, expected):
    assert read_texts(Reply(content)) == {"answer": expected}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply('{"texts": ["a", "b'), "no texts"),
        (Reply('{"texts": ["a", "b', finish="length"), "cut off"),
        (Reply('<think>{"texts": ["a"]} or', finish="length"), "cut off"),
        (Reply('{"texts": "a"}'), "no texts"),
        (Reply('{"other": ["a"]}'), "no texts"),
        (Reply(""), "no texts"),
        (Reply("", finish="content_filter"), "refused"),
    ],
)
def test_an_answer_without_texts(reply, reason):
    assert read_texts(reply) == {"abstained": reason}
