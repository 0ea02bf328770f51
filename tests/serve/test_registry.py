"""How models are replaced and closed."""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
import threading
import time
import weakref
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np

from bort.data.tables.examples import Example
from bort.predict.engine import open_exported
from bort.serve.batcher import Batcher
from bort.serve.model import ServedModel
from bort.serve.registry import Registry, named
from bort.serve.settings import Limits


def load(name: str, folder: str) -> ServedModel:
    return ServedModel(name, folder, Limits(), threads=1)


@contextmanager
def without_collector():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_a_replaced_model_leaves_the_memory_at_once(exported):
    registry = Registry({"m": exported}, load)
    with without_collector():
        old, thread = weakref.ref(registry.get()), registry.get().batcher._thread
        assert registry.reload(only_replaced=False) == [("m", None)]
        thread.join(10)
        assert old() is None
    registry.close()


def test_a_model_answers_lists_when_its_folder_is_another_ones(exported, exported_anew, tmp_path, sentences):
    folder = tmp_path / "live"
    shutil.copytree(exported, folder)
    model = ServedModel("m", str(folder), Limits(), threads=2)
    known = model.info("0").examples
    tokens = model.encode([Example(text) for text in sentences], None)
    expected = open_exported(exported, 2).run(tokens.encoded)
    folder.rename(tmp_path / "old")
    shutil.copytree(exported_anew, folder)
    (folder / "metrics.json").write_text('{"test_errors": [{"text": "of another model", "label": "a"}]}', "utf-8")
    np.testing.assert_allclose(model.engine.run(tokens.encoded), expected, atol=1e-5)
    assert model.info("0").examples == known
    model.close()


def test_each_state_of_a_damaged_folder_is_tried_once(exported, tmp_path):
    folder = tmp_path / "live"
    shutil.copytree(exported, folder)
    registry = Registry({"m": str(folder)}, load)
    model = registry.get()
    tokenizer = folder / "tokenizer.json"
    whole = tokenizer.read_bytes()
    assert registry.reload(only_replaced=True) == []
    tokenizer.write_bytes(whole[:100])
    [(name, error)] = registry.reload(only_replaced=True)
    assert (name, registry.get()) == ("m", model)
    assert error
    assert registry.reload(only_replaced=True) == []
    tokenizer.write_bytes(whole)
    assert registry.reload(only_replaced=True) == [("m", None)]
    assert registry.reload(only_replaced=True) == []
    registry.close()


def test_a_model_says_whether_it_is_for_pairs(exported, tmp_path):
    folder = tmp_path / "pairs"
    shutil.copytree(exported, folder)
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    (folder / "manifest.json").write_text(json.dumps({**manifest, "pairs": True}), "utf-8")
    model = load("m", str(folder))
    assert model.info("0").pairs is True
    model.close()


class Stub:
    """A model whose queue is that of a server, and whose computation lasts until it is let go."""

    def __init__(self, folder: str) -> None:
        self.folder, self.let_go, self.at_it = folder, threading.Event(), threading.Event()
        self.batcher = Batcher(self._run, lambda parts: parts[0])
        self.close = self.batcher.close

    def _run(self, words):
        self.at_it.set()
        self.let_go.wait(20)
        return np.zeros((len(words), 1), np.float32)

    def replaced(self) -> bool:
        return True


def test_a_model_that_fails_in_any_way_stays_and_keeps_no_other_back():
    failures: dict[str, Exception] = {}

    def opened(name: str, folder: str) -> Stub:
        if name in failures:
            raise failures[name]
        return Stub(folder)

    registry = Registry({name: name for name in "abcd"}, opened)
    models = [registry.get(name) for name in "abcd"]
    failures |= {"a": ValueError("no\nsuch thing"), "b": MemoryError(), "c": RuntimeError()}
    told = [("a", "no"), ("b", "there is not enough memory"), ("c", "RuntimeError"), ("d", None)]
    assert registry.reload(only_replaced=True) == told
    assert [registry.get(name) is model for name, model in zip("abcd", models, strict=True)] == [True] * 3 + [False]
    registry.close()


def test_all_models_share_the_time_to_close():
    class Words(list):
        tokens = property(len)

    async def close() -> float:
        registry = Registry({name: name for name in "abc"}, lambda name, folder: Stub(folder))
        models = [registry.get(name) for name in "abc"]
        asked = [asyncio.ensure_future(model.batcher.submit(Words("x"), time.monotonic())) for model in models]
        for model in models:
            await asyncio.to_thread(model.at_it.wait, 10)
        start = time.monotonic()
        registry.close(0.2)
        took = time.monotonic() - start
        for model in models:
            model.let_go.set()
        await asyncio.gather(*asked)
        return took

    assert asyncio.run(close()) < 0.5


def test_a_folder_may_have_an_equals_sign_in_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=0.1").mkdir()
    assert named(["lr=0.1", "lr=0.2"]) == {"lr=0.1": "lr=0.1", "lr": "0.2"}


def test_a_model_of_the_hub_is_also_known_by_its_full_name():
    folders = {"small": "organisation/small", "other": "organisation/other"}
    registry = Registry(folders, lambda name, folder: SimpleNamespace(folder=folder))
    assert registry.named("organisation/other") == registry.named("other") == "other"
    assert registry.named("text-embedding-3-small") is registry.named(None) is None
