"""The real server, asked over HTTP."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from bort.cli.serve import ServeArguments, serve
from bort.errors import BortError
from bort.predict.predictor import Predictor
from conftest import LABELS
from serve.conftest import running

LONG = "the old baker walked to the harbour " * 200


def scores(answer: list[dict[str, object]]) -> dict[str, float]:
    return {one["label"]: one["score"] for one in answer}  # type: ignore[misc]


def test_answers_are_the_predictors_whatever_stands_beside_them(server, exported, sentences):
    rng = random.Random(0)
    bodies = []
    for _ in range(1000):
        rows = [
            [rng.choice(sentences)] if rng.random() < 0.7 else [rng.choice(sentences), rng.choice(sentences)]
            for _ in range(rng.choice((1, 1, 1, 2, 5)))
        ]
        bodies.append(rows if len(rows) > 1 or rng.random() < 0.5 else rows[0])
    with httpx.Client(base_url=server.url, timeout=60) as client, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda body: client.post("/predict", json={"inputs": body}).json(), bodies))
    predictor = Predictor(exported)
    for body, answer in zip(bodies, answers, strict=True):
        batched = isinstance(body[0], list)
        texts = [row[0] if len(row) == 1 else tuple(row) for row in (body if batched else [body])]
        for one, expected in zip(answer if batched else [answer], predictor.predict(texts), strict=True):
            assert scores(one) == pytest.approx(expected.probabilities, abs=1e-5)
            assert [row["score"] for row in one] == sorted((row["score"] for row in one), reverse=True)


def test_the_forms_of_an_input(server):
    single = server.post("/predict", {"inputs": "a harbour"}).json()
    assert server.post("/predict", {"inputs": ["a harbour"]}).json() == single
    [batch] = server.post("/predict", {"inputs": [["a harbour"]]}).json()
    assert scores(batch) == pytest.approx(scores(single), abs=1e-6)
    pair = server.post("/predict", {"inputs": ["a harbour", "a clock"]}).json()
    assert len(pair) == len(single)
    assert scores(pair) != scores(single)
    no_pair = server.post("/predict", {"inputs": ["a harbour", ""]}).json()
    assert scores(no_pair) == pytest.approx(scores(single), abs=1e-6)
    assert server.post("/predict", {"inputs": "a harbour", "truncation_direction": "Right"}).json() == single
    raw = server.post("/predict", {"inputs": "a harbour", "raw_scores": True}).json()
    logits = np.array([one["score"] for one in raw])
    assert np.exp(logits) / np.exp(logits).sum() == pytest.approx([one["score"] for one in single], abs=1e-5)


def test_the_inference_api(server):
    flat = server.post("/", {"inputs": ["a harbour", "a clock"], "parameters": {"top_k": 1}}).json()
    assert [len(one) for one in flat] == [1, 1]
    assert flat[0] == server.post("/", {"inputs": "a harbour"}).json()[:1]
    sigmoid = server.post("/", {"inputs": "a harbour", "parameters": {"function_to_apply": "sigmoid"}}).json()
    raw = server.post("/", {"inputs": "a harbour", "parameters": {"function_to_apply": "none"}}).json()
    assert server.post("/", {"inputs": ["a", None]}).json()["error"].startswith("inputs[1]: ")
    assert sigmoid[0]["score"] == pytest.approx(1 / (1 + np.exp(-raw[0]["score"])), abs=1e-6)


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"", "body"),
        (b"{", "JSON"),
        (b'{"inputs": "\xff"}', "UTF-8"),
        (b"[]", "body"),
        (b"{}", "inputs"),
        (b'{"inputs": []}', "inputs"),
        (b'{"inputs": [[]]}', "inputs[0]"),
        (b'{"inputs": ["a", "b", "c"]}', "each into a list of its own"),
        (b'{"inputs": ["a", 3]}', "inputs[1]"),
        (b'{"inputs": [["a"], ["b", "c", "d"]]}', "inputs[1]"),
        (b'{"inputs": [["a"], "b"]}', "inputs[1]"),
        (b'{"inputs": "a\\u0000b"}', "NUL"),
        (b'{"inputs": "\\ud800"}', "surrogate"),
        (b'{"inputs": "a", "truncate": "perhaps"}', "truncate"),
        (b'{"inputs": null}', "inputs"),
        (b'{"inputs": NaN}', "inputs"),
        (b'{"inputs": "a", "truncation_direction": "Left"}', "cuts the right side"),
        (b'{"inputs": "a", "truncation_direction": 1}', "truncation_direction"),
        (b'{"inputs": "\xc3\xa9\xc3\xa9" x}', "at character 17"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(server, body, part):
    answer = httpx.post(server.url + "/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["error_type"] == "Validation"
    assert part in answer.json()["error"]
    assert "Traceback" not in answer.text


def test_what_is_too_large_is_refused(server):
    many = server.post("/predict", {"inputs": [["a"]] * 33})
    assert (many.status_code, many.json()["error"]) == (413, "batch size 33 > maximum allowed batch size 32")
    body = server.post("/predict", {"inputs": "a" * 2_000_001})
    assert body.status_code == 413
    long = server.post("/predict", {"inputs": LONG, "truncate": False})
    assert long.status_code == 413
    assert "tokens" in long.json()["error"]
    assert server.post("/predict", {"inputs": LONG}).status_code == 200

    def endless():
        while True:
            yield b" " * 65536

    with contextlib.suppress(httpx.WriteError):  # the server has refused and closed before the client read it
        assert httpx.post(server.url + "/predict", content=endless(), timeout=30).status_code == 413


def test_unknown_paths_models_and_methods(server):
    assert server.post("/models/none/predict", {"inputs": "a"}).json()["error_type"] == "NotFound"
    assert server.get("/nothing").status_code == 404
    assert server.get("/predict").status_code == 405
    slow = server.post("/models/slow/predict", {"inputs": "a harbour"}).json()
    assert scores(slow) == pytest.approx(scores(server.post("/predict", {"inputs": "a harbour"}).json()), abs=1e-4)


def test_health_info_metrics_and_docs(server):
    assert server.get("/health").status_code == 200
    info = server.get("/info").json()
    assert (info["name"], info["engine"], info["precision"]) == ("fast", "onnxruntime", "fp32")
    assert len(info["sha256"]) == 64
    assert [one["name"] for one in server.get("/models").json()] == ["fast", "slow"]
    server.post("/predict", {"inputs": "a harbour"})
    counted = server.get("/metrics").text
    assert 'bort_requests_total{route="/predict",status="200"}' in counted
    assert 'bort_tokens_total{model="fast"}' in counted
    page = server.get("/docs").text
    assert "https://" not in page, "the page must need no network"


def test_an_explanation_is_what_leaving_out_does(server, exported, sentences):
    text = sentences[0]
    found = server.post("/explain", {"inputs": text}).json()
    assert [text[word["start"] : word["end"]] for word in found["words"]] == text.split()
    predictor = Predictor(exported)
    whole, first = predictor.predict([text, " ".join(text.split()[1:])])
    assert found["label"] == whole.label
    label = str(found["label"])
    assert found["score"] == pytest.approx(whole.probabilities[label], abs=1e-5)
    expected = whole.probabilities[label] - first.probabilities[label]
    assert found["words"][0]["weight"] == pytest.approx(expected, abs=1e-5)
    pair = server.post("/explain", {"inputs": ["a harbour", "seven apples"]}).json()
    assert [word["part"] for word in pair["words"]] == ["text", "text", "text_b", "text_b"]
    assert server.post("/explain", {"inputs": "a", "label": "none of them"}).status_code == 422


def test_the_access_log_names_requests_and_holds_no_text(server):
    server.post("/predict", {"inputs": "a very secret harbour"}, headers={"x-request-id": "mine-1"})
    assert server.said('"id": "mine-1"')
    assert not any("secret" in line for line in server.lines)


def test_a_client_that_breaks_off_or_sends_slowly_harms_nobody(exported):
    with running(exported, "--body_seconds", "0.5") as server:
        host, port = server.url.removeprefix("http://").split(":")
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        gone = socket.create_connection((host, int(port)))
        gone.sendall(head + b'{"inputs": ')
        gone.close()
        slow = socket.create_connection((host, int(port)))
        slow.settimeout(10)
        slow.sendall(head + b'{"inputs": ')
        silent = socket.create_connection((host, int(port)))
        silent.settimeout(10)
        silent.sendall(head)
        assert server.post("/predict", {"inputs": "a"}).status_code == 200
        for one in (slow, silent):
            assert b" 408 " in one.recv(4096).split(b"\r\n")[0]
            one.close()


def test_the_key(exported, tmp_path):
    key = tmp_path / "key"
    key.write_text("open sesame\n")
    with running(exported, "--api_key_file", str(key)) as server:
        assert server.get("/health").status_code == 200
        assert server.get("/").status_code == 200
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "open sesame"}):
            refused = server.post("/predict", {"inputs": "a"}, headers=headers)
            assert (refused.status_code, refused.json()["error_type"]) == (401, "Unauthorized")
        assert server.get("/metrics").status_code == 401
        answered = server.post("/predict", {"inputs": "a"}, headers={"authorization": "Bearer open sesame"})
        assert answered.status_code == 200


def test_the_end_loses_no_accepted_request(exported, sentences):
    with running(exported) as server:

        def ask(number: int) -> int:
            headers = {"x-request-id": f"n{number}"}
            try:
                text = sentences[number % len(sentences)]
                return server.post("/predict", {"inputs": text}, headers=headers).status_code
            except httpx.TransportError:
                return 0  # not accepted any more

        with ThreadPoolExecutor(32) as pool:
            asked = [pool.submit(ask, number) for number in range(600)]
            while sum(one.done() for one in asked) < 100:
                time.sleep(0.005)
            assert server.stop() == 0
            told = [one.result() for one in asked]
        server.reader.join(10)
        logged = [json.loads(line) for line in server.lines if line.startswith("{")]
    answered = {one["id"]: one["status"] for one in logged}
    assert len(answered) >= 100
    assert set(answered.values()) <= {200, 503}
    for number, status in enumerate(told):
        assert answered.get(f"n{number}", 0) == status, "what the server took it answered"


def test_the_end_waits_no_longer_than_the_drain(exported):
    with running(exported, "--drain_seconds", "1", "--body_seconds", "60") as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.settimeout(20)
            slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            assert server.get("/health").status_code == 200
            start = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - start < 8
            assert b" 503 " in slow.recv(4096).split(b"\r\n")[0]
        server.reader.join(10)
    assert server.said('"status": 503')
    assert not server.said("Traceback", seconds=0.1)


_NEVER_DONE = """
import atexit, importlib, itertools, sys

from bort.__main__ import main

model = importlib.import_module("bort.serve.model")
run = model._run
model._run = lambda engine, tokens: [run(engine, tokens) for _ in itertools.count()]
atexit.register(print, "the usual end", file=sys.stderr)
sys.exit(main())
"""


def test_the_end_waits_for_no_model_that_still_computes(exported):
    """The interpreter's usual end would abort the process as soon as the model's native code returns."""
    with (
        running(exported, "--drain_seconds", "0.1", program=("-c", _NEVER_DONE)) as server,
        ThreadPoolExecutor() as pool,
    ):
        asked = pool.submit(server.post, "/predict", {"inputs": "a harbour"})
        while 'bort_queue_depth{model="exported"} 1.0' not in server.get("/metrics").text:
            time.sleep(0.01)
        assert server.stop() == 0
        assert asked.result().status_code == 503
        server.reader.join(10)
    assert not server.said("the usual end", seconds=0.1)


# A background job of a shell ignores Ctrl-C, and hands that down.
_HEARS_CTRL_C = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("bort", run_name="__main__", alter_sys=True)
"""


def test_a_second_ctrl_c_waits_no_longer(exported):
    program = ("-c", _HEARS_CTRL_C)
    with running(exported, "--drain_seconds", "60", "--body_seconds", "60", program=program) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            assert server.get("/health").status_code == 200
            start = time.monotonic()
            for _ in range(2):
                server.process.send_signal(signal.SIGINT)
                time.sleep(0.3)
            assert server.process.wait(20) == 130
            assert time.monotonic() - start < 8
        server.reader.join(10)
    assert server.said("interrupted")
    assert not server.said("Traceback", seconds=0.1)


def test_an_address_of_ipv6_is_one_that_clients_can_use(exported):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with running(exported, "--host", "::1") as server:
        assert server.url.startswith("http://[::1]:")
        assert server.get("/health").status_code == 200


def test_where_it_cannot_listen_is_said_before_a_model_is_loaded(exported):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(BortError, match=f"--port: value {taken}: cannot be listened on: address already in use"):
            serve(ServeArguments(["no-such-model"], port=taken))
    for host in ("192.0.2.1", "a" * 70):
        with pytest.raises(BortError, match=r"--host: value '.*': cannot be listened on: "):
            serve(ServeArguments(["no-such-model"], host=host, port=0))


def test_a_replaced_folder_is_swapped_without_a_lost_request(exported, exported_anew, tmp_path, sentences):
    """Each request, of one text or of many, is answered by one of the two models alone."""
    folder, changed = tmp_path / "live", tmp_path / "next"
    shutil.copytree(exported, folder)
    shutil.copytree(exported_anew, changed)
    manifest = json.loads((changed / "manifest.json").read_text())
    manifest["thresholds"] = dict.fromkeys(manifest["task"]["names"], 0.99)
    (changed / "manifest.json").write_text(json.dumps(manifest))
    texts = sentences[:32]
    old, new = (Predictor(one).predict_proba(texts) for one in (exported, exported_anew))
    assert np.abs(old - new).max(1).min() > 1e-3, "the models must differ"

    def ask(number: int) -> list[str]:
        asked = texts if number % 2 else texts[:1]
        answer = server.post("/predict", {"inputs": [[text] for text in asked]})
        assert answer.status_code == 200, answer.text
        found = np.array([[scores(one)[label] for label in LABELS] for one in answer.json()])
        models = {"old": old, "new": new}.items()
        return [name for name, answers in models if np.allclose(found, answers[: len(asked)], atol=1e-4)]

    with running(f"live={folder}", "--watch", "--threads", "2", "--no_access_log") as server:
        before = server.get("/info").json()["sha256"]
        with ThreadPoolExecutor(8) as pool:
            folder.rename(tmp_path / "old")
            changed.rename(folder)
            asked = [pool.submit(ask, number) for number in range(300)]
            assert server.said("live: loaded anew")
            by = [one.result() for one in asked]
        assert all(len(models) == 1 for models in by)
        assert ask(1) == ask(0) == ["new"]
        assert server.get("/info").json()["sha256"] != before
        assert server.post("/predict", {"inputs": "a harbour"}).json()[0]["label"] is None
        # A damaged folder is not taken; the old model goes on.
        (folder / "manifest.json").write_text("{")
        assert server.said("kept as it was")
        assert server.post("/predict", {"inputs": "a harbour"}).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["no-such-folder"], "no-such-folder"),
        (["{damaged}"], "manifest"),
        (["{good}", "{good}"], "NAME=FOLDER"),
        (["{good}", "--api_key_file", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_served_is_refused_at_the_start(exported, tmp_path, arguments, part):
    damaged = tmp_path / "damaged"
    shutil.copytree(exported, damaged)
    graph = next(Path(damaged).glob("*.onnx"))
    graph.write_bytes(graph.read_bytes()[:-10])
    words = [one.format(damaged=damaged, good=exported) for one in arguments]
    line = [sys.executable, "-m", "bort", "serve", *words, "--port", "0"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_several_labels_above_their_thresholds(multilabeller, sentences):
    with running(multilabeller) as server, Predictor(multilabeller) as predictor:
        answers = predictor.predict(sentences[:20])
        info = server.get("/info").json()
        assert (info["kind"], info["thresholds"]) == ("multilabel", predictor.task.threshold_by_name)
        for text, answer in zip(sentences[:20], answers, strict=True):
            given = server.post("/predict", {"inputs": text}).json()
            assert {one["label"] for one in given} == {*answer.label}
            raw = server.post("/predict", {"inputs": text, "raw_scores": True}).json()
            assert {one["label"]: one["score"] for one in raw} == pytest.approx(answer.probabilities, abs=1e-5)
            assert [one["score"] for one in raw] == sorted((one["score"] for one in raw), reverse=True)
            whole = server.post("/", {"inputs": text}).json()
            assert [one["label"] for one in whole] == [one["label"] for one in raw]
            assert [one["score"] for one in whole] == pytest.approx([one["score"] for one in raw], abs=1e-6)
        batch = server.post("/predict", {"inputs": [[text] for text in sentences[:20]]}).json()
        assert [{one["label"] for one in given} for given in batch] == [{*answer.label} for answer in answers]
        assert {len(answer.label) for answer in answers} > {0, 1}
        softmax = {"inputs": sentences[0], "parameters": {"function_to_apply": "softmax", "top_k": 3}}
        assert sum(one["score"] for one in server.post("/", softmax).json()) == pytest.approx(1)
        explained = server.post("/explain", {"inputs": sentences[0], "label": "cat"}).json()
        assert explained["score"] == pytest.approx(answers[0].probabilities["cat"], abs=1e-5)
