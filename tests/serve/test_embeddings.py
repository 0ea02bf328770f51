"""Vectors over HTTP, from the real server."""

from __future__ import annotations

import base64
import random
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from bort.predict.encoder import Encoder
from serve.conftest import running

LONG = "the old baker walked to the harbour " * 200


@pytest.fixture(scope="module")
def vectors(exported_encoder, exported):
    """Serves an exported encoder, and a classifier beside it."""
    with running(f"tiny={exported_encoder}", f"labels={exported}") as started:
        yield started


@pytest.fixture(scope="module")
def encoder(exported_encoder) -> Encoder:
    return Encoder(exported_encoder)


def test_vectors_are_the_encoders_whatever_stands_beside_them(vectors, encoder, sentences):
    rng = random.Random(0)
    bodies = [
        {"inputs": rng.sample(sentences, rng.choice((1, 2, 9))), "normalize": rng.random() < 0.5} for _ in range(150)
    ]
    with httpx.Client(base_url=vectors.url, timeout=60) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: client.post("/embed", json=body).json(), bodies))
    for body, answer in zip(bodies, answers, strict=True):
        np.testing.assert_allclose(answer, encoder.encode(body["inputs"], normalize=body["normalize"]), atol=1e-5)


def test_the_forms_of_an_input(vectors, encoder):
    one = vectors.post("/embed", {"inputs": "a harbour"}).json()
    np.testing.assert_allclose(one, encoder.encode(["a harbour"], normalize=True), atol=1e-5)
    assert vectors.post("/models/tiny/embed", {"inputs": ["a harbour"]}).json() == one
    own = {"dimensions": 12, "prompt_name": None, "truncation_direction": "right"}
    assert vectors.post("/embed", {"inputs": "a harbour", **own}).json() == one
    assert len(vectors.post("/embed", {"inputs": ["a harbour", "a clock"]}).json()) == 2, "no pair"
    long = vectors.post("/embed", {"inputs": LONG, "truncate": False})
    assert (long.status_code, "tokens" in long.json()["error"]) == (413, True)
    assert vectors.post("/embed", {"inputs": LONG}).status_code == 200
    assert vectors.post("/embed", {"inputs": ["a"] * 33}).status_code == 413


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"inputs": []}, "a list of texts"),
        ({"inputs": {"a": 1}}, "a list of texts"),
        ({"inputs": ["a", 3]}, "inputs[1]"),
        ({"inputs": [["a"]]}, "must be texts"),
        ({"inputs": "a\0b"}, "NUL"),
        ({}, "inputs"),
        ({"inputs": "a", "dimensions": 4}, "have 12 numbers"),
        ({"inputs": "a", "prompt_name": "query"}, "prompt_name"),
        ({"inputs": "a", "truncation_direction": "Left"}, "cuts the right side"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(vectors, body, part):
    answer = vectors.post("/embed", body)
    assert (answer.status_code, answer.json()["error_type"]) == (422, "Validation")
    assert part in answer.json()["error"]


def test_a_model_of_the_other_kind_is_refused_as_the_peer_does(vectors):
    for path, kind in (("/predict", "a classifier"), ("/", "a classifier"), ("/models/labels/embed", "an embedding")):
        answer = vectors.post(path, {"inputs": "a"})
        assert (answer.status_code, answer.json()["error_type"]) == (424, "Backend"), path
        assert f"Model is not {kind} model" in answer.json()["error"]
    assert vectors.post("/explain", {"inputs": "a"}).status_code == 422
    named = vectors.post("/v1/embeddings", {"input": "a", "model": "labels"})
    assert (named.status_code, named.json()["error"]["type"]) == (424, "Backend")


def test_openai_numbers_bytes_and_usage(vectors, encoder):
    texts = ["a harbour", "a clock and a café"]
    answer = vectors.post("/v1/embeddings", {"input": texts, "model": "text-embedding-3-small"}).json()
    assert (answer["object"], answer["model"]) == ("list", "tiny")
    assert [(one["object"], one["index"]) for one in answer["data"]] == [("embedding", 0), ("embedding", 1)]
    expected = encoder.encode(texts, normalize=True)
    np.testing.assert_allclose([one["embedding"] for one in answer["data"]], expected, atol=1e-5)
    from bort.data.tables.examples import Example

    tokens = sum(encoder.engine.encode([Example(text) for text in texts]).lengths)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    packed = vectors.post("/v1/embeddings", {"input": texts, "encoding_format": "base64", "dimensions": 12}).json()
    found = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in packed["data"]]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"input": [1, 2, 3]}, "token ids"),
        ({"input": [[1, 2], [3]]}, "token ids"),
        ({"input": []}, "a list of texts"),
        ({"input": "a", "dimensions": 4}, "have 12 numbers"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
    ],
)
def test_openai_errors_have_its_form(vectors, body, part):
    answer = vectors.post("/v1/embeddings", body)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert part in error["message"]
    assert (error["type"], error["code"]) == ("Validation", 422)


def test_the_client_of_openai(vectors, encoder):
    openai = pytest.importorskip("openai", reason="needs bort[llm]")
    client = openai.OpenAI(base_url=f"{vectors.url}/v1", api_key="none", max_retries=0)
    found = client.embeddings.create(model="tiny", input=["a harbour", ""])  # asks for base64
    expected = encoder.encode(["a harbour", ""], normalize=True)
    np.testing.assert_allclose([one.embedding for one in found.data], expected, atol=1e-5)
    plain = client.embeddings.create(model="tiny", input="a harbour", encoding_format="float")
    np.testing.assert_allclose(plain.data[0].embedding, expected[0], atol=1e-5)
    with pytest.raises(openai.UnprocessableEntityError, match="token ids"):
        client.embeddings.create(model="tiny", input=[1, 2])


def test_info_and_metrics(vectors):
    info = vectors.get("/info").json()
    assert (info["kind"], info["size"], info["labels"]) == ("embedding", 12, [])
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    labels = next(one for one in vectors.get("/models").json() if one["name"] == "labels")
    assert labels["model_type"]["classifier"]["id2label"]["0"] == labels["labels"][0]
    vectors.post("/embed", {"inputs": "a"})
    assert 'bort_requests_total{route="/embed",status="200"}' in vectors.get("/metrics").text


@pytest.mark.slow
def test_bort_nano_is_served_from_its_folder(sentences):
    from bort.model.checkpoints import ASSETS

    with running(str(ASSETS / "bort-nano"), "--threads", "1") as nano:
        found = nano.post("/embed", {"inputs": sentences[:3]}).json()
    np.testing.assert_allclose(found, Encoder("bort-nano").encode(sentences[:3], normalize=True), atol=1e-5)
