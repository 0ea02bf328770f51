"""An LLM as the teacher, against a server that speaks the protocol and misbehaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from bort.agora.answer_cache import AnswerCache, default_folder
from bort.agora.llm import asking
from bort.agora.llm.asking import Asker
from bort.agora.llm.budget import Budget
from bort.agora.llm.client import Endpoint, Reply
from bort.agora.llm.options import Options
from bort.agora.llm.paid_answers import PaidAnswers
from bort.agora.llm.prompt import Instructions, LabelPrompt
from bort.agora.llm.reading import read_answer
from bort.agora.llm.teacher import ChatTeacher
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.tasks.classification import Classification
from bort.tasks.regression import Regression
from fake_llm import Response, asked_text, completion, error, labels_cats

TASK = Classification(("cat", "other"), "accuracy")
VALUES = Regression((), "pearson")
TEXTS = [Example("a cat"), Example("a dog")]
MANY = [Example(f"{'cat' if place % 2 else 'dog'} {place}") for place in range(40)]
KEY = "sk-very-secret-key"


@pytest.fixture(autouse=True)
def impatience(monkeypatch):
    monkeypatch.setattr(asking, "FIRST_WAIT_SECONDS", 0.01)


@pytest.fixture
def teacher(server, tmp_path):
    def make(*, task=TASK, owner="run", budget=None, timeout=10.0, at_once=4, per_minute=None, max_tokens=64, url=None):
        prompt = LabelPrompt(task, Instructions("Which animal?", {"cat": "purrs"} if task.names else {}))
        budget = budget or Budget()
        cache = AnswerCache(tmp_path / "cache", {"url": url or server.url, "head": prompt.head}, owner)
        options = Options(prompt.schema, max_tokens, logprobs=bool(task.names))
        asker = Asker(Endpoint("m", url or server.url, KEY, timeout), options, budget, at_once, per_minute)
        return ChatTeacher(prompt, PaidAnswers("openai:m", asker, cache, budget, max_tokens))

    return make


def test_what_is_asked_and_how(server, teacher):
    assert TASK.decide(teacher()(TEXTS)).tolist() == [0, 1]
    request = server.requests[0]
    assert server.keys[0] == f"Bearer {KEY}"
    assert (request["model"], request["temperature"], request["max_completion_tokens"]) == ("m", 0.0, 64)
    assert (request["logprobs"], request["top_logprobs"]) == (True, 20)
    schema = request["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["properties"]["label"]["enum"] == ["cat", "other"]
    assert "Which animal?" in request["messages"][0]["content"]
    assert "- cat: purrs\n- other\n" in request["messages"][0]["content"]
    assert [message["role"] for message in request["messages"]] == ["system", "user"]


def test_log_probabilities_become_soft_labels(server, teacher):
    tokens = [('{"label": "', {'{"label": "': 1.0}), ("cat", {"cat": 0.6, "oth": 0.2, "dog": 0.2}), ('"}', {'"}': 1.0})]
    server.behave = lambda request, number: completion('{"label": "cat"}', tokens=tokens)
    np.testing.assert_allclose(np.exp(teacher()(TEXTS)), [[0.75, 0.25]] * 2)


def test_a_regression_asks_for_numbers(server, teacher):
    server.behave = lambda request, number: '{"value": 2.5}' if "cat" in asked_text(request) else '{"value": "x"}'
    says = teacher(task=VALUES)(TEXTS)
    assert says[0, 0] == 2.5
    assert np.isnan(says[1, 0])
    assert "logprobs" not in server.requests[0]
    assert server.requests[0]["response_format"]["json_schema"]["schema"]["properties"]["value"] == {"type": "number"}


@pytest.mark.parametrize(("text", "value"), [(".75", 0.75), ("-.5", -0.5), ("**5.**", 5.0), ('"2.5".', 2.5)])
def test_a_number_in_other_clothes_keeps_its_point(text, value):
    assert read_answer(Reply(text), VALUES) == {"answer": value}


def test_pairs_are_shown_as_pairs(server, teacher):
    teacher()([Example("a cat", "a kitten")])
    assert server.texts == ["First text:\na cat\n\nSecond text:\na kitten"]


# What servers refuse, ignore, or answer


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    "refused", [("logprobs",), ("response_format",), ("temperature", "max_completion_tokens"), ("logprobs", "system")]
)
def test_what_a_server_refuses_is_not_asked_for_again(server, teacher, refused, named, capfd):
    def behave(request, number):
        for option in refused:
            if option in request or (option == "system" and request["messages"][0]["role"] == "system"):
                told = "System role not supported" if option == "system" else f"Unsupported parameter: {option}"
                return error(400, told if named else "Bad request")
        return labels_cats(request, number)

    server.behave = behave
    assert TASK.decide(teacher(at_once=8)(MANY)).tolist() == [place % 2 == 0 for place in range(40)]
    # All refusals came in the first request's ladder.
    assert len(server.requests) <= len(MANY) + 8
    if named:
        # Each named option goes alone; another form of it is tried before.
        assert ("temperature" in server.requests[-1]) == ("temperature" not in refused)
    if named and "max_completion_tokens" in refused:
        assert server.requests[-1]["max_tokens"] == 64
    if "logprobs" in refused:
        assert "without log-probabilities" in " ".join(capfd.readouterr().err.split())


def test_a_server_that_fails_where_it_should_refuse(server, teacher):
    server.behave = lambda request, number: (
        error(500, "internal error") if "logprobs" in request else labels_cats(request, number)
    )
    assert TASK.decide(teacher()(TEXTS)).tolist() == [0, 1]


def test_a_text_that_the_server_refuses_is_not_known_and_spoils_nothing(server, teacher):
    server.behave = lambda request, number: (
        error(400, "context length exceeded") if "dog" in asked_text(request) else labels_cats(request, number)
    )
    asked = teacher(at_once=1)
    says = asked([Example("a dog"), *TEXTS[:1], Example("dog 2"), Example("cat 2")])
    assert np.isnan(says[:, 0]).tolist() == [True, False, True, False]
    assert asked.answers.usage["abstained"] == {"refused by the server": 2}
    assert "logprobs" in server.requests[-1], "a bad text costs the others nothing"


def test_one_forbidden_text_neither_ends_a_run_nor_the_next(server, teacher):
    server.behave = lambda request, number: (
        error(403, "flagged by moderation") if asked_text(request) == "dog 4" else labels_cats(request, number)
    )
    assert np.isnan(teacher()(MANY[:10])[:, 0]).nonzero()[0].tolist() == [4]
    says = teacher()([MANY[4], *MANY[:12]])  # now that text comes first, as the others are known
    assert np.isnan(says[:, 0]).nonzero()[0].tolist() == [0, 5]


def test_many_refused_texts_in_a_row_do_not_end_a_run(server, teacher):
    """One that was answered before is answered again, so these texts are to blame."""
    server.behave = lambda request, number: (
        error(400, "content policy") if "dog" in asked_text(request) else labels_cats(request, number)
    )
    rows = [Example("a cat"), *(Example(f"dog {place}") for place in range(12)), Example("cat 2")]
    asked = teacher(budget=Budget(1.0, 1.0), at_once=1)
    assert np.isnan(asked(rows)[:, 0]).tolist() == [False, *[True] * 12, False]
    assert server.texts.count("a cat") == 3, "after every five refusals"
    assert asked.answers.usage["requests"] == 4, "what is answered again is paid for again"
    assert asked.answers.usage["abstained"] == {"refused by the server": 12}
    assert np.isnan(teacher()([*rows[1:], rows[0]])[:-2, 0]).all(), "nor do they end a run that begins with them"


@pytest.mark.parametrize("told", ["no money", "no money, request {}"])
def test_an_account_that_runs_out_under_any_status_ends_the_run(server, teacher, told):
    server.behave = lambda request, number: (
        error(400, told.format(number)) if number > 10 else labels_cats(request, number)
    )
    with pytest.raises(BortError, match=r"status 400: .*no money.*; answers so far are kept"):
        teacher(at_once=2)(MANY)
    assert len(server.requests) <= 10 + 10, "five refusals, the check, and what is in flight beside them"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (completion(None, refusal="I cannot help with that"), "refused"),
        (completion("", finish="content_filter"), "refused"),
        (completion('{"label": "ca', finish="length"), "cut off"),
        (completion("<think>it may be a", finish="length"), "cut off"),
        (completion('<think>it may be {"label": "cat"}, or', finish="length"), "cut off"),
        (completion('<think>a</think>\n<THINKING> it may be {"label": "cat"}'), "blank"),
        (completion(""), "blank"),
        (completion(None), "blank"),
        (completion('{"label": "dog"}'), "no label"),
        (completion('{"animal": "cat"}'), "no label"),
        (completion('{"label": ["cat"]}'), "no label"),
        (completion("I think it is a cat."), "no label"),
    ],
)
def test_an_answer_without_a_label_is_no_answer(server, teacher, body, reason):
    server.behave = lambda request, number: body
    asked = teacher()
    assert np.isnan(asked(TEXTS)).all()
    assert asked.answers.usage["abstained"] == {reason: 2}
    teacher()(TEXTS)
    assert len(server.requests) == 2, "it was paid for all the same"


@pytest.mark.parametrize(
    "content",
    [
        "cat",
        " Cat.\n",
        '"cat"',
        "**cat**",
        '```json\n{"label": "cat"}\n```',
        '<think>a dog? {"label": "other"} no</think>\n{"label": "cat"}',
        'Is it {any}? {"label": "other"}\n</think>\n\n{"label": "cat"}',
        "<think>a</think> or <think>b</think>cat",
        'Here it is: {"label": "CAT"}',
        '{"label": "cat", "because": "a </think> is no end"}',
    ],
)
def test_answers_in_other_clothes(server, teacher, content):
    server.behave = lambda request, number: content
    assert np.exp(teacher()(TEXTS)).tolist() == [[1, 0]] * 2


def test_a_longer_answer_is_allowed_after_one_was_cut_off(server, teacher):
    server.behave = lambda request, number: (
        completion("<think>", finish="length") if request["max_completion_tokens"] < 100 else '{"label": "cat"}'
    )
    assert np.isnan(teacher(max_tokens=64)(TEXTS)).all()
    assert TASK.decide(teacher(max_tokens=128)(TEXTS)).tolist() == [0, 0]


# Failures, patience and pace


@pytest.mark.parametrize(
    "trouble",
    [
        error(500, "oops"),
        error(503, "loading", retry_after="0.05"),
        error(429, "slow down", retry_after="0.05"),
        error(429, "slow down"),
        Response(completion('{"label": "cat"}'), breaks_off=True),
        Response(status=0),
        Response(b"<html>busy</html>"),
        Response(b'{"choices": []}'),
        Response({"choices": [{"message": {"content": 5}}]}),
        Response(b"\xff\xfe"),
        Response(completion('{"label": "cat"}'), delay=3.0),
        Response(completion('{"label": "cat"}'), pieces=40, pause=0.1),
    ],
    ids=["500", "503", "429", "429 bare", "cut", "hung up", "html", "empty", "wrong", "bytes", "slow", "drips"],
)
def test_what_fails_twice_is_asked_again(server, teacher, trouble):
    server.behave = lambda request, number: trouble if number in (2, 3) else labels_cats(request, number)
    assert TASK.decide(teacher(timeout=1.0)(TEXTS)).tolist() == [0, 1]
    assert len(server.requests) >= 4


@pytest.mark.parametrize("header", [{"retry_after": "1"}, {"retry_after_ms": "1000"}])
def test_all_wait_as_long_as_the_server_asks(server, teacher, header):
    server.behave = lambda request, number: (
        error(429, "slow down", **header) if number == 4 else labels_cats(request, number)
    )
    teacher(at_once=2)(MANY[:10])
    assert np.diff(server.times).max() > 0.7, "but for what was on its way, nothing is sent for a second"
    assert np.diff(server.times).argmax() <= 6


def test_a_server_that_asks_for_an_hour_ends_the_run(server, teacher):
    server.behave = lambda request, number: error(429, "quota of the day", retry_after="3600")
    with pytest.raises(BortError, match="asks to wait for 3600 seconds; answers so far are kept"):
        teacher()(TEXTS)


@pytest.mark.parametrize(
    ("response", "rule", "requests"),
    [
        (error(401, f"Incorrect API key provided: {KEY}"), "status 401", 1),
        (error(404, "the model m does not exist"), "status 404.*does not exist", 1),
        (error(402, "Insufficient Balance"), "status 402", 1),
        (error(400, "Your credit balance is too low to access the API"), "credit balance", 1),
        (error(403, "no access from your country"), "status 403", 3),
        (error(429, "You exceeded your current quota (insufficient_quota)"), "insufficient_quota", 1),
        (Response(b"<html>login</html>"), "no answer of OpenAI's protocol", 3),
        (error(400, "no"), "status 400", 100),
    ],
)
def test_a_server_that_takes_nothing_ends_the_run_without_showing_the_key(server, teacher, response, rule, requests):
    server.behave = lambda request, number: response
    with pytest.raises(BortError, match=f"{server.url}: m: .*{rule}") as told:
        teacher()(MANY)
    assert KEY not in str(told.value)
    assert len(server.requests) <= requests


def test_a_server_that_is_not_there(teacher):
    with pytest.raises(BortError, match="cannot be reached"):
        teacher(url="http://127.0.0.1:9/v1")(TEXTS)


def test_a_server_that_dies_on_the_way_keeps_what_it_said(server, teacher):
    server.behave = lambda request, number: error(500, "gone") if number > 10 else labels_cats(request, number)
    with pytest.raises(BortError, match=r"status 500: .*gone; answers so far are kept"):
        teacher(at_once=2)(MANY)
    server.behave = labels_cats
    first = len(server.requests)
    assert not np.isnan(teacher()(MANY)).any()
    assert len(server.requests) - first == 30


def test_answers_in_flight_are_kept_when_another_request_ends_the_run(server, teacher, monkeypatch):
    """They are paid for; one that takes too long counts as the most that it may cost."""
    monkeypatch.setattr(asking, "_LANDING_SECONDS", 1.0)
    never, left = threading.Event(), threading.Event()

    def behave(request, number):
        match asked_text(request):
            case "dog 2":
                left.wait(5)
                return error(401, "the key has ended")
            case "cat 3":
                never.wait(10)
            case "dog 4":
                left.set()
                time.sleep(0.2)
        return labels_cats(request, number)

    server.behave = behave
    budget = Budget(input_price=1.0)
    with pytest.raises(BortError, match="status 401"):
        teacher(budget=budget)(MANY[1:5])
    never.set()
    server.behave, asked = labels_cats, len(server.requests)
    again = Budget(input_price=1.0)
    teacher(budget=again)(MANY[1:5])
    assert len(server.requests) - asked == 2, "dog 2 and cat 3"
    assert budget.requests == 3, "cat 1, dog 4, and cat 3 at most"
    assert again.requests == 3 + 2, "the next process of the run knows of them"


def test_one_text_that_kills_the_server_each_time_is_left_out(server, teacher):
    server.behave = lambda request, number: (
        error(500, "oops") if asked_text(request) == "dog 4" else labels_cats(request, number)
    )
    asked = teacher()
    assert np.isnan(asked(MANY)[:, 0]).nonzero()[0].tolist() == [4]
    assert asked.answers.usage["abstained"] == {"no answer": 1}
    server.behave = labels_cats
    assert not np.isnan(teacher()(MANY)).any(), "another time it may be answered"


def test_so_many_at_a_time(server, teacher):
    def behave(request, number):
        time.sleep(0.02)
        return labels_cats(request, number)

    server.behave = behave
    teacher(at_once=6)(MANY)
    assert 3 <= server.most_at_once <= 6


def test_no_more_a_minute_than_wished(server, teacher):
    began = time.monotonic()
    teacher(per_minute=1200)(MANY[:10])
    assert time.monotonic() - began >= 9 * 0.05
    for number, asked in enumerate(sorted(server.times)):  # one may arrive late, but none is sent early
        assert asked - began >= 0.05 * number - 0.001


# Memory


def test_each_text_is_asked_of_once(server, teacher, tmp_path):
    teacher()([*TEXTS, *TEXTS])
    asked = teacher(owner="another run")
    asked([*TEXTS, Example("a third")])
    assert server.texts == ["a cat", "a dog", "a third"]
    assert asked.answers.usage["from_cache"] == 2
    assert asked.answers.usage["requests"] == 1, "what another run has paid is not on this one's bill"
    content = b"".join(file.read_bytes() for file in (tmp_path / "cache").iterdir())
    assert KEY.encode() not in content
    assert b"a dog" not in content


KILLED = """
import sys
import threading
from pathlib import Path
sys.path[:0] = {path!r}
from bort.agora.answer_cache import AnswerCache
from bort.agora.llm.asking import Asker
from bort.agora.llm.budget import Budget
from bort.agora.llm.client import Endpoint
from bort.agora.llm.options import Options
from bort.agora.llm.paid_answers import PaidAnswers
from bort.agora.llm.prompt import Instructions, LabelPrompt
from bort.agora.llm.teacher import ChatTeacher
from bort.data.tables.examples import Example
from bort.tasks.classification import Classification

task = Classification(("cat", "other"), "accuracy")
prompt = LabelPrompt(task, Instructions("Which animal?", {{"cat": "purrs"}}))
budget = Budget()
cache = AnswerCache(Path({folder!r}), {{"url": {url!r}, "head": prompt.head}}, "run")
asker = Asker(Endpoint("m", {url!r}, "key", 10.0), Options(prompt.schema, 64), budget, {at_once})
teacher = ChatTeacher(prompt, PaidAnswers("openai:m", asker, cache, budget, 64))
teacher([Example("cat %d" % place) for place in range({texts})])
print(teacher.answers.usage["requests"])
"""


def other_process(server, tmp_path, *, texts=30, at_once=3):
    code = KILLED.format(path=sys.path, folder=str(tmp_path / "cache"), url=server.url, at_once=at_once, texts=texts)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_killed_in_the_middle_it_pays_nothing_twice(server, tmp_path):
    def behave(request, number):
        if number == 15:
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.01)
        return labels_cats(request, number)

    server.behave = behave
    process = other_process(server, tmp_path)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    first = server.texts
    server.behave = labels_cats
    done = other_process(server, tmp_path)
    out, err = done.communicate()
    assert done.returncode == 0, err
    again = [text for text in server.texts[len(first) :] if text in first]
    assert len(again) <= 3 + 1, "only what was on its way when the process was killed, or not yet written"
    assert {*server.texts} == {f"cat {place}" for place in range(30)}
    assert int(out) == 30, "what was paid before counts"


@pytest.mark.slow
def test_two_processes_pay_each_text_once(server, tmp_path):
    def behave(request, number):
        time.sleep(0.02)
        return labels_cats(request, number)

    server.behave = behave
    processes = [other_process(server, tmp_path, texts=20) for _ in range(2)]
    for process in processes:
        _, err = process.communicate()
        assert process.returncode == 0, err
    assert sorted(server.texts) == sorted(f"cat {place}" for place in range(20))


# Money


def test_tokens_and_dollars_are_counted(server, teacher):
    budget = Budget(input_price=2.0, output_price=30.0)
    asked = teacher(budget=budget)
    asked(TEXTS)
    assert asked.answers.usage["prompt_tokens"] == 200
    assert asked.answers.usage["completion_tokens"] == 20
    assert asked.answers.usage["usd"] == pytest.approx(200 * 2e-6 + 20 * 30e-6)
    assert "200 + 20 tokens; 0.0010 USD" in asked.answers.summary()


@pytest.mark.parametrize("at_once", [1, 8])
@pytest.mark.parametrize("usage", [(300, 10), None])
def test_the_budget_is_never_passed(server, teacher, at_once, usage):
    prices, limit = (1.0, 10.0), 0.02
    bill = []

    def behave(request, number):
        took = usage or (sum(len(m["content"]) for m in request["messages"]) // 4, 64)
        bill.append(took[0] * prices[0] / 1e6 + took[1] * prices[1] / 1e6)
        return completion(labels_cats(request, number), usage=usage and took)

    server.behave = behave
    asked = teacher(budget=Budget(*prices, limit), at_once=at_once)
    says = asked([Example(f"cat {place}") for place in range(200)])
    assert sum(bill) <= asked.answers.usage["usd"] + 1e-9 <= limit + 2e-9
    assert 0 < np.isnan(says[:, 0]).sum() == 200 - len(server.requests)
    assert asked.answers.usage["out_of_budget"]
    assert asked.answers.usage["abstained"] == {"not asked: the budget is used up": 200 - len(server.requests)}
    if usage:
        assert sum(bill) > 0.8 * limit, "nearly all of it is used"
    before = len(server.requests)
    assert np.isnan(teacher(budget=Budget(*prices, limit))([Example("another")])).all()
    assert len(server.requests) == before, "the run has paid that much before"
    teacher(budget=Budget(*prices, 2 * limit))([Example("another")])
    assert len(server.requests) == before + 1, "a greater budget goes on"


def test_that_the_budget_is_used_up_stays_known(server, teacher):
    budget = Budget(1.0, 1.0, 0.01)
    asked = teacher(budget=budget)
    asked([Example("a cat")])
    asked([Example("cat" * 10_000)])
    budget.limit_usd = budget.spent.usd + 0.0004  # for one request at a time
    asked(MANY[:2])
    assert asked.answers.usage["abstained"] == {"not asked: the budget is used up": 1}
    assert asked.answers.usage["out_of_budget"]


def test_a_server_that_takes_no_limit_of_the_answer_cannot_keep_a_budget(server, teacher):
    server.behave = lambda request, number: (
        error(400, f"{refused[0]} is not supported")
        if (refused := [name for name in request if name.endswith("_tokens")])
        else completion('{"label": "cat"}', usage=(100, 5000))
    )
    with pytest.raises(BortError, match=r"status 400: .*max_tokens is not supported"):
        teacher(budget=Budget(1.0, 1.0, 0.012))(MANY[:5])
    assert not np.isnan(teacher(budget=Budget(1.0, 1.0))(MANY[:5])).any()


def test_an_answer_that_was_lost_may_be_on_the_bill(server, teacher):
    server.behave = lambda request, number: (
        Response(completion('{"label": "cat"}'), breaks_off=True) if number == 2 else labels_cats(request, number)
    )
    asked = teacher(budget=Budget(1.0, 1.0), at_once=1)
    asked(TEXTS)
    assert len(server.requests) == 3
    assert asked.answers.usage["requests"] == 3
    assert asked.answers.usage["completion_tokens"] == 10 + 64 + 10


def test_an_interrupted_run_does_not_wait_for_the_server(server, teacher):
    def behave(request, number):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return Response(completion('{"label": "cat"}'), delay=20.0)

    server.behave = behave
    asked = teacher(timeout=60.0)
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            asked(TEXTS)
    finally:
        signal.signal(signal.SIGINT, previous)
    assert time.monotonic() - began < 5


def test_the_shared_cache_is_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "bort" / "answers"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == Path.home() / ".cache" / "bort" / "answers"


def test_a_damaged_cache_is_told(tmp_path):
    cache = AnswerCache(tmp_path, {"model": "m"})
    cache.keep({"a": {"answer": "cat"}})
    file = next(tmp_path.glob("*.sqlite"))
    file.write_bytes(b"no database" * 100)
    with pytest.raises(BortError, match=f"{file.name}: the cache of answers cannot be used"):
        cache.known(["a"])
