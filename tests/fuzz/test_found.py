"""What fuzzing has found, each as a file of its own: a refusal in one line, or an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from fuzz.probe import names, probe
from fuzz.readers import ready


def with_values(**values: object) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps(json.loads(content) | values).encode()


def changed(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(old, new)


def put(at: int, odd: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content[:at] + odd + content[at + len(odd) :]


FOUND = {
    "an architecture that is no name": ("fine-tuned", "config.json", with_values(architectures=[-1]), ""),
    "a negative number of heads": ("modules", "config.json", with_values(num_attention_heads=-1), "negative"),
    "a longest text that is no number": (
        "tokenizer",
        "tokenizer_config.json",
        with_values(model_max_length="/etc/passwd"),
        "the tokenizer cannot be loaded",
    ),
    "a vocabulary without the unknown": (
        "vocabulary",
        "bert/vocab.txt",
        changed(b"[UNK]\n", b""),
        "the tokenizer cannot be loaded",
    ),
    "an id beyond any vocabulary": (
        "fine-tuned",
        "tokenizer.json",
        lambda content: re.sub(rb'"C": *\d+', b'"C": 2147483648', content),
        "its ids must be below 10,000,000",
    ),
    "a module in another folder": (
        "modules",
        "modules.json",
        changed(b'"1_Pooling"', b'"../given/1_Pooling"'),
        "must name folders inside of this one",
    ),
    "rows that begin below nothing": ("teacher cache", "pooled.starts.bin", put(0, b"\xff" * 8), "must never fall"),
    "rows that begin beyond the file": ("teacher cache", "pooled.starts.bin", put(8, b"\xff\0\0\0\xff"), "never fall"),
    "a message of SQLite that is no UTF-8": (
        "answers",
        "",
        changed(b"TABLE charges", b"TA\xcePE charges"),
        "cannot be used",
    ),
    "a vocabulary of brackets without end": (
        "vocabulary",
        "roberta/vocab.json",
        lambda content: b"[" * 20_000,
        "must be JSON that maps tokens to ids",
    ),
    "a configuration of brackets without end": ("fine-tuned", "config.json", lambda content: b"[" * 20_000, "config"),
    "a message of SQLite of several lines": (
        "answers",
        "",
        changed(b"completion_tokens INT", b'completion_tokens I"T'),
        "cannot be used",
    ),
}


@pytest.mark.parametrize("found", FOUND)
def test_is_told_in_one_line(found):
    name, file, damage, rule = FOUND[found]
    with ready(name) as reader:
        seed = next(one for one in reader.seeds if one.file == file or not file)
        content = damage(seed.content)
        with reader.holding(seed, content):
            refused = probe(seed.read, reader.folder, len(content), names(reader.folder.parent))
    assert rule in refused
