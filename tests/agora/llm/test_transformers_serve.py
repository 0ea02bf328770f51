"""An LLM as the teacher, against `transformers serve` with a tiny model that has learned nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils.import_utils import is_serve_available

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

_TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant: "
_START_SECONDS = 120.0


@pytest.fixture(scope="module")
def model(tiny_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer.chat_template = _TEMPLATE
    tiny_tokenizer.save_pretrained(folder)
    tiny_tokenizer.chat_template = None
    return str(folder)


@pytest.fixture(scope="module")
def url(model, tmp_path_factory):
    if not is_serve_available():
        pytest.skip("transformers serve needs its extras: pip install 'transformers[serving]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", model]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    log = tmp_path_factory.mktemp("serve") / "log"
    with open(log, "wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    try:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except (urllib.error.URLError, OSError):
                told = log.read_text("utf-8", "replace")[-2000:]
                assert server.poll() is None, told
                assert time.monotonic() < deadline, told
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
def test_a_real_server_is_asked_and_its_babble_is_no_label(url, model, tmp_path):
    task = Classification(("cat", "other"), "accuracy")
    prompt = LabelPrompt(task, Instructions(), [Example("a cat", None, "cat"), Example("a dog", None, "other")])
    budget = Budget(1.0, 1.0)
    cache = AnswerCache(tmp_path, {"head": prompt.head}, "run")
    asker = Asker(Endpoint(model, url, "none", 60.0), Options(prompt.schema, 8), budget, 2)
    teacher = ChatTeacher(prompt, PaidAnswers("openai:tiny", asker, cache, budget, 8))
    texts = [Example(f"text {place}") for place in range(5)]
    assert teacher(texts).shape == (5, 2)
    usage = teacher.answers.usage
    assert usage["requests"] == 5
    assert usage["prompt_tokens"] > 5 * 20
    assert 0 < usage["completion_tokens"] <= 5 * 8
    assert {*usage["abstained"]} <= {"no label", "cut off", "blank"}
    assert sum(usage["abstained"].values()) == 5
