"""The examples in public docstrings run."""

from __future__ import annotations

import doctest
import inspect
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bort

# What an example cannot run: minutes of training, and what ends with Ctrl-C alone.
SHOWN_ONLY = {"demo", "serve"}


def documented() -> Iterator[tuple[str, Any]]:
    """The public names, and the methods of public classes that are ours and not scikit-learn's or transformers'.

    Left out is what users do not call: `check` of the arguments, which each command calls itself.
    """
    for name in bort.__all__:
        if name == "__version__":
            continue
        found, is_arguments = getattr(bort, name), name.endswith("Arguments")
        yield name, found
        if inspect.isclass(found):
            for own, method in inspect.getmembers(found, inspect.isroutine):
                module = getattr(method, "__module__", None) or ""
                if not own.startswith("_") and module.startswith("bort.") and not (is_arguments and own == "check"):
                    yield f"{name}.{own}", method


EXAMPLES = {name: found for name, found in documented() if ">>>" in (found.__doc__ or "")}

ONCE = {found.__doc__: name for name, found in EXAMPLES.items()}  # what is inherited has its parent's


def test_every_public_name_and_method_has_an_example():
    assert not {name for name, _ in documented()} - EXAMPLES.keys()


@pytest.fixture(scope="module")
def made(tmp_path_factory, official) -> Path:
    """What the examples find where they run: a trained model, texts, a shape and a search space."""
    from bort.model.checkpoints import example_data

    folder = tmp_path_factory.mktemp("examples")
    topics = {
        "delivery": ["It has not arrived.", "Where is it?", "When does it come?", "Where is my parcel?"],
        "damage": ["The zip broke.", "It is torn.", "It came in pieces.", "The glass is cracked."],
    }
    rows = [{"text": text, "label": label} for label, texts in topics.items() for text in texts]
    lines = ["text,label", *(f"{row['text']},{row['label']}" for row in rows * 3)]
    (folder / "dev.csv").write_text("\n".join(lines[:21]) + "\n")
    arguments = bort.FinetuneArguments(method="head", out=str(folder / "runs" / "topics"))
    bort.finetune(arguments, train=rows * 3, dev=rows)
    pool = (example_data("support") / "unlabelled.jsonl").read_text("utf-8").splitlines()
    texts = [" ".join(json.loads(line)["text"].split()) for line in pool]
    (folder / "texts.txt").write_text("\n".join(texts) + "\n", "utf-8")
    (folder / "corpus.txt").write_text("\n\n".join(texts) + "\n", "utf-8")
    shape = {"depth": 1, "heads": 2, "hidden": 16, "intermediate": 24, "positions": 64}
    (folder / "tiny.json").write_text(json.dumps(shape))
    space = {"depth": [1, 2], "heads": [2], "hidden": [16], "intermediate": [24]}
    (folder / "space.yaml").write_text(json.dumps(space))
    shutil.copytree(official, folder / "official")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ONCE.values())
def test_example(name, made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "here", copy_function=os.link)
    monkeypatch.chdir(tmp_path / "here")
    found = EXAMPLES[name]
    names = {**vars(inspect.getmodule(inspect.unwrap(found)))}
    example = doctest.DocTestParser().get_doctest(found.__doc__, names, name, None, 0)
    with bort.verbose(False):
        results = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example)
    assert any(one.options.get(doctest.SKIP) for one in example.examples) == (name in SHOWN_ONLY)
    assert not results.failed
