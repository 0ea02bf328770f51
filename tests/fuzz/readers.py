"""The readers of what others wrote, each with valid files that are then damaged."""

from __future__ import annotations

import asyncio
import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import yaml

import bort
from bort.agora.answer_cache import AnswerCache
from bort.agora.answers import WrongAnswerError, answer_row, parsed_line
from bort.cli.parser import parse
from bort.data.corpus.corpus import open_corpus
from bort.data.index.search import Index
from bort.data.tables.examples import read_examples
from bort.data.tables.lines import read_lines
from bort.errors import BortError
from bort.finetuning.arguments import FinetuneArguments
from bort.model.checkpoints import load_config
from bort.model.config import architecture
from bort.model.convert.mxnet import read_params
from bort.model.convert.sources import read_checkpoint
from bort.model.tokenization import load_tokenizer
from bort.ose.space import read_space
from bort.predict.manifest import read_manifest, sha256
from bort.pretraining.distill.cache import Field, TeacherCache
from bort.runs import Run
from bort.tasks.classification import Classification
from bort.tasks.regression import Regression
from bort.tasks.suites.reading import read_part
from bort.tasks.suites.table import TASKS
from fuzz.mutations import damaged
from official_files import write_official

OLD = Path(__file__).parents[1] / "upgrade" / "0.1.0"
Read = Callable[[Path], Any]


@dataclass(frozen=True)
class Seed:
    """A valid file.

    Args:
        file: Its place in the reader's folder.
        content: What is in it; by default what lies there.
        read: Reads the folder.
        packs: Compresses the content, where its file is compressed.
    """

    file: str
    read: Read
    content: bytes | None = None
    packs: Callable[[bytes], bytes] | None = None


@dataclass
class Reader:
    """What reads one kind of file.

    Args:
        seeds: Valid files.
        beside: Folders of `tests/upgrade` whose files lie beside them.
        kept: Files that reading may change, put back each time.
    """

    seeds: list[Seed]
    beside: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    folder: Path = field(default=Path(), init=False)
    before: dict[str, bytes] = field(default_factory=dict, init=False)

    def settle(self, folder: Path) -> None:
        """Lay all valid files into a folder, alone in its parent."""
        self.folder = folder
        folder.mkdir()
        for name in self.beside:
            shutil.copytree(OLD / name, folder, dirs_exist_ok=True)
        found = []
        for seed in self.seeds:
            content = (folder / seed.file).read_bytes() if seed.content is None else seed.content
            found.append(Seed(seed.file, seed.read, content, seed.packs))
            (folder / seed.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / seed.file).write_bytes(self.packed(found[-1], content))
        self.seeds = found
        self.before = {name: (folder / name).read_bytes() for name in self.kept}

    @staticmethod
    def packed(seed: Seed, content: bytes) -> bytes:
        """A file's content, compressed where it shall be."""
        return seed.packs(content) if seed.packs else content

    def damaged(self, seed: Seed, chance: Random) -> bytes:
        """A seed's file with something wrong in it; in a compressed one it is inside or outside."""
        assert seed.content is not None
        if seed.packs and chance.random() < 0.5:
            return damaged(seed.packs(seed.content), chance)
        return self.packed(seed, damaged(seed.content, chance))

    @contextlib.contextmanager
    def holding(self, seed: Seed, content: bytes) -> Iterator[None]:
        """Let a file be another."""
        assert seed.content is not None
        for name, before in self.before.items():
            (self.folder / name).write_bytes(before)
        (self.folder / seed.file).write_bytes(content)
        yield
        (self.folder / seed.file).write_bytes(self.packed(seed, seed.content))


def of_old(name: str) -> bytes:
    return (OLD / name).read_bytes()


def read_run(folder: Path) -> None:
    run = Run(folder, "finetune", FinetuneArguments(**yaml.safe_load(of_old("agora/config.yaml"))), resume=True)
    list(run.events("trial"))
    run.finished()


def read_index(folder: Path) -> None:
    index = Index(folder)
    if len(index):
        index.search(index.vectors(slice(0, 1)), 2)
        index.texts([0, len(index) - 1])


def read_corpus(folder: Path) -> None:
    corpus = open_corpus(folder)
    for part in ("train", "valid"):
        tokens = corpus.tokens(part)
        tokens[0 : min(8, len(tokens))]


def read_cache(folder: Path) -> None:
    state = json.loads(of_old("teacher-cache/embeddings/cache.json"))
    fields = {name: Field(dtype, tuple(shape)) for name, (dtype, shape) in state["fields"].items()}
    key = {name: value for name, value in state["key"].items() if name not in ("format", "rows")}
    found = TeacherCache(folder, key, fields, state["key"]["rows"])
    if found.complete:
        found.read(0)


def read_graph(folder: Path) -> None:
    """Sums are made to fit: a stranger's would."""
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError, OSError):
        described = json.loads((folder / "manifest.json").read_bytes())
        for name in ("model.onnx", "model.onnx.data", "model.xml", "model.bin", "tokenizer.json"):
            if name in described["files"]:
                file = folder / name
                described["files"][name] = {"sha256": sha256(file), "bytes": file.stat().st_size}
        (folder / "manifest.json").write_text(json.dumps(described))
    answer(folder)


def answer(folder: Path) -> None:
    with bort.Predictor(str(folder), threads=1) as predictor:
        predictor.predict("The cat.")


def embed(folder: Path) -> None:
    bort.Encoder(str(folder), threads=1).encode(["The cat."])


def read_settings(folder: Path) -> None:
    from bort.cli.finetune import finetune

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parse("finetune", finetune, FinetuneArguments, (), ["--config", str(folder / "settings.yaml")])
    except SystemExit as left:
        if left.code != 2:
            raise
        raise BortError(said.getvalue().removesuffix("\n")) from None


def read_answers_of_llms(folder: Path) -> None:
    from bort.agora.llm.client import Reply
    from bort.agora.llm.reading import read_answer

    text = (folder / "reply.txt").read_text("utf-8", "replace")
    for task in (Classification(("a", "b"), "accuracy"), Regression((), "pearson")):
        read_answer(Reply(text), task)
        with contextlib.suppress(WrongAnswerError):  # whose reader names the text
            answer_row(parsed_line(text, task), task)


@cache
def _server() -> Any:
    from bort.serve.app import build
    from bort.serve.guard import Guard
    from bort.serve.metrics import Metrics
    from bort.serve.model import ServedModel
    from bort.serve.registry import Registry
    from bort.serve.settings import Limits
    from bort.serve.short_cut import ShortCut

    limits, metrics = Limits(), Metrics()
    models = {"m": str(OLD / "export-onnxruntime-fp32"), "e": str(OLD / "export-encoder-fp32")}
    registry = Registry(models, lambda name, folder: ServedModel(name, folder, limits, threads=1))
    return Guard(ShortCut(build(registry, metrics, "0"), registry), limits, metrics, log=None)


def ask(route: str) -> Read:
    """Send a body to a route of a server in this process: whatever it is, the answer is no failure of the server."""

    def read(folder: Path) -> None:
        status, answered = asyncio.run(asked(route, (folder / "body.json").read_bytes()))
        answered = answered and json.loads(answered)
        if status >= 500 or not (status == 200 or "error" in answered):
            raise AssertionError(f"{status}: {answered}")

    return read


async def asked(route: str, body: bytes) -> tuple[int, bytes]:
    headers = [(b"host", b"server"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"}
    scope |= {"path": route, "raw_path": route.encode(), "query_string": b"", "root_path": "", "headers": headers}
    scope |= {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}
    events, status, found = [{"type": "http.request", "body": body, "more_body": False}], 0, b""

    async def receive() -> dict[str, Any]:
        if events:
            return events.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        nonlocal status, found
        status, found = message.get("status", status), found + message.get("body", b"")

    await _server()(scope, receive, send)
    return status, found


def parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table, file = pa.table({"text": ["a", "b", "c"], "label": ["1", "2", "1"]}), io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def zst(content: bytes) -> bytes:
    import zstandard

    return zstandard.compress(content)


def pickled() -> bytes:
    import torch
    from safetensors.torch import load

    file = io.BytesIO()
    torch.save(load(of_old("encoder/model.safetensors")), file)
    return file.getvalue()


def sqlite(tmp: Path) -> Seed:
    AnswerCache(tmp, {"model": "m"}).keep({"a": 1})
    file = next(tmp.glob("*.sqlite"))
    return Seed(file.name, lambda folder: AnswerCache(folder, {"model": "m"}).known(["a"]), file.read_bytes())


def suites(tmp: Path) -> list[Seed]:
    """The training file of each task of the suites, as its authors lay it out."""
    official = write_official(tmp)
    return [Seed(str(file.relative_to(official)), read, file.read_bytes()) for file, read in _official(official)]


def _official(official: Path) -> Iterator[tuple[Path, Read]]:
    for task in TASKS.values():
        if "train" not in task.counts:
            continue

        def read_task(folder: Path, task: Any = task) -> None:
            read_part(task, folder, "train")

        folder = official / task.suite
        if task.suite == "race":
            yield next((folder / "train" / task.config).glob("*.txt")), read_task
        else:
            found = [folder / name / file for name in (task.title, *task.folders) for file in task.files["train"]]
            yield next(file for file in found if file.is_file()), read_task


def roberta_files() -> list[Seed]:
    """RoBERTa's vocabulary and merges, and BERT's."""
    words = [*("<s>", "<pad>", "</s>", "<unk>", "<mask>"), *(chr(code) for code in range(33, 127)), "th", "the"]
    vocabulary = json.dumps({word: number for number, word in enumerate(words)}).encode()
    merges = b"#version: 0.2\nt h\nth e\n"
    pieces = "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "."]).encode()
    config = json.dumps({"tokenizer_class": "BertTokenizer", "model_max_length": 64}).encode()
    return [
        Seed("roberta/vocab.json", lambda f: load_tokenizer(f / "roberta")("the"), vocabulary),
        Seed("roberta/merges.txt", lambda f: load_tokenizer(f / "roberta")("the"), merges),
        Seed("bert/vocab.txt", lambda f: load_tokenizer(f / "bert")("the"), pieces),
        Seed("bert/tokenizer_config.json", lambda f: load_tokenizer(f / "bert")("the"), config),
    ]


LABELLED = b"text,text_b,label\n" + b'"a, ""b""",c,1\nd,"e\nf",2\n\xc3\xa9,g,1\n' * 3
TABBED = b"text\ttext_b\tlabel\n" + b'a, "b"\tc\t1\nd\t"e\t2\n\xc3\xa9\tg\t1\n' * 3
JSONL = (
    b'{"text": "a", "text_b": "c", "label": "x"}\n{"text": "b", "text_b": "c", "label": 2.5}\n'
    b'{"text": "\xc3\xa9", "text_b": "c", "label": "y"}\n'
)
YAML = (
    b"train: t.csv\nout: runs/x\nlearning_rates: [1.0e-3, 2]\nmax_epochs: 3\n"
    b"teacher: t\nteacher_labels: [a=b]\nprecision: fp32\n"
)
SPACE = b"depth: [1, 2]\nheads: [2]\nhidden: [16, 32]\nintermediate: [16, 24]\n"
SHAPE = b'{"depth": 2, "heads": 2, "hidden": 16, "intermediate": 24, "positions": 64, "vocab_size": 300}'
COLA = b"gj04\t1\t\tThe cat sat down.\ngj04\t0\t*\tCat the down sat.\n" * 3
LLM = b'The answer:\n```json\n{"label": "a", "confidence": 0.5}\n```\n'
BODIES = {
    "/predict": {"inputs": ["a", "b"], "truncate": True, "raw_scores": False},
    "/": {"inputs": ["a", "b"], "parameters": {"top_k": 2, "function_to_apply": "none"}},
    "/models/m/predict": {"inputs": [["a", "b"]]},
    "/models/e/embed": {"inputs": ["a", "b"], "truncate": True, "normalize": False},
    "/v1/embeddings": {"input": ["a", [1, 2]], "model": "e", "encoding_format": "base64"},
    "/explain": {"inputs": "a b", "label": None},
}


def table(name: str, content: bytes, packs: Callable[[bytes], bytes] | None = None) -> Seed:
    return Seed(name, lambda folder: read_examples(folder / name), content, packs)


@contextlib.contextmanager
def ready(name: str) -> Iterator[Reader]:
    """A reader whose folder lies in memory where it can: a disk takes longer over each input than the reader."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="bort-fuzz-", dir=memory) as scratch:
        for part in ("made", "alone"):
            Path(scratch, part).mkdir()
        made = READERS[name](Path(scratch, "made"))
        made.settle(Path(scratch, "alone", "given"))
        for seed in made.seeds:
            seed.read(made.folder)
        yield made


READERS: dict[str, Callable[[Path], Reader]] = {
    "params": lambda tmp: Reader([Seed("x.params", lambda f: read_params(f / "x.params"), of_old("bort.params"))]),
    "safetensors": lambda tmp: Reader(
        [Seed("model.safetensors", read_checkpoint), Seed("config.json", read_checkpoint)], ("encoder",)
    ),
    "pickled": lambda tmp: Reader(
        [
            Seed("pytorch_model.bin", read_checkpoint, pickled()),
            Seed("config.json", read_checkpoint, of_old("encoder/config.json")),
        ],
    ),
    "config": lambda tmp: Reader([Seed("config.json", load_config)], ("encoder",)),
    "architecture": lambda tmp: Reader([Seed("a.json", lambda f: architecture(f / "a.json"), SHAPE)]),
    "tokenizer": lambda tmp: Reader(
        [
            Seed("tokenizer.json", lambda f: load_tokenizer(f)("The cat.", "It sits.")),
            Seed("tokenizer_config.json", lambda f: load_tokenizer(f)("The cat.")),
        ],
        ("tokenizer",),
    ),
    "vocabulary": lambda tmp: Reader(roberta_files()),
    "modules": lambda tmp: Reader(
        [Seed(name, embed) for name in ("modules.json", "1_Pooling/config.json", "config.json")], ("encoder",)
    ),
    "fine-tuned": lambda tmp: Reader(
        [Seed(name, answer) for name in ("config.json", "model.safetensors", "tokenizer.json")], ("head",)
    ),
    "manifest": lambda tmp: Reader([Seed("manifest.json", read_manifest)], ("export-onnxruntime-fp32",)),
    "graph": lambda tmp: Reader(
        [Seed(name, read_graph) for name in ("model.onnx", "model.onnx.data", "tokenizer.json", "manifest.json")],
        ("export-onnxruntime-fp32",),
        ("manifest.json",),
    ),
    "openvino": lambda tmp: Reader(
        [Seed(name, read_graph) for name in ("model.xml", "model.bin")],
        ("export-openvino-fp32",),
        ("manifest.json",),
    ),
    "journal": lambda tmp: Reader([Seed("journal.jsonl", read_run)], ("agora",), ("journal.jsonl",)),
    "metrics": lambda tmp: Reader([Seed("metrics.json", read_run)], ("agora",), ("journal.jsonl",)),
    "settings": lambda tmp: Reader([Seed("settings.yaml", read_settings, YAML)]),
    "space": lambda tmp: Reader([Seed("s.yaml", lambda f: read_space(f / "s.yaml"), SPACE)]),
    "csv": lambda tmp: Reader([table("x.csv", LABELLED)]),
    "tsv": lambda tmp: Reader([table("x.tsv", TABBED)]),
    "jsonl": lambda tmp: Reader([table("x.jsonl", JSONL)]),
    "parquet": lambda tmp: Reader([table("x.parquet", parquet())]),
    "compressed": lambda tmp: Reader(
        [
            table("x.csv.gz", LABELLED, lambda content: gzip.compress(content, 1, mtime=0)),
            table("x.csv.bz2", LABELLED, bz2.compress),
            table("x.csv.xz", LABELLED, lambda content: lzma.compress(content, preset=0)),
            table("x.csv.zst", LABELLED, zst),
        ],
    ),
    "lines": lambda tmp: Reader([Seed("x.txt", lambda f: list(read_lines(f / "x.txt")), COLA)]),
    "corpus": lambda tmp: Reader(
        [Seed(name, read_corpus) for name in ("corpus.json", "train-00000.starts.bin")], ("corpus",)
    ),
    "teacher cache": lambda tmp: Reader(
        [Seed(name, read_cache) for name in ("cache.json", "pooled.starts.bin")],
        ("teacher-cache/embeddings",),
        ("cache.json", "pooled.bin", "pooled.starts.bin"),
    ),
    "index": lambda tmp: Reader(
        [Seed(name, read_index) for name in ("index.json", "ends.bin", "scales.bin", "texts.bin")], ("index",)
    ),
    "answers": lambda tmp: Reader([sqlite(tmp)]),
    "answers of LLMs": lambda tmp: Reader([Seed("reply.txt", read_answers_of_llms, LLM)]),
    "bodies": lambda tmp: Reader(
        [Seed("body.json", ask(route), json.dumps(body).encode()) for route, body in BODIES.items()]
    ),
    "suites": lambda tmp: Reader(suites(tmp)),
}
"""By name; each is made with an empty folder to work in."""
SHARES = {
    "params": 20,
    "safetensors": 20,
    "pickled": 8,
    "config": 25,
    "architecture": 25,
    "tokenizer": 12,
    "vocabulary": 8,
    "modules": 2,
    "fine-tuned": 2,
    "manifest": 90,
    "graph": 2,
    "openvino": 0.1,
    "journal": 1.5,
    "metrics": 1,
    "settings": 0.5,
    "space": 25,
    "csv": 100,
    "tsv": 80,
    "jsonl": 100,
    "parquet": 40,
    "compressed": 80,
    "lines": 80,
    "corpus": 60,
    "teacher cache": 40,
    "index": 10,
    "answers": 10,
    "answers of LLMs": 40,
    "bodies": 12,
    "suites": 60,
}
"""Part of all inputs of a long run, by how cheap a reader is."""
