"""Whatever is in a file, its reader gives a value or one `BortError` of one line, soon, and touches no other file.

The slice here reads 4,000 damaged files; `make fuzz` reads as many as COUNT says.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import bort
from bort.agora.answer_cache import AnswerCache
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
from bort.serve.bodies import EmbeddingsRequest, EmbedRequest, ExplainRequest, PipelineRequest, PredictRequest
from bort.tasks.suites.reading import read_part
from bort.tasks.suites.table import find
from fuzz.mutations import damaged, damaged_json

COUNT = int(os.environ.get("BORT_FUZZ_COUNT", "4000"))
OLD = Path(__file__).parents[1] / "upgrade" / "0.1.0"
SLOW_SECONDS = 2.0
LABELLED = b"text,text_b,label\n" + b'"a, ""b""",c,1\nd,"e\nf",2\n\xc3\xa9,g,1\n' * 3
TABBED = b"text\ttext_b\tlabel\n" + b'a, "b"\tc\t1\nd\t"e\t2\n\xc3\xa9\tg\t1\n' * 3
SHARES = {
    "params": 8,
    "checkpoint": 2,
    "safetensors": 3,
    "config": 4,
    "architecture": 4,
    "tokenizer": 2,
    "manifest": 12,
    "graph": 0.3,
    "journal": 2,
    "metrics": 2,
    "settings": 0.5,
    "space": 4,
    "csv": 8,
    "tsv": 6,
    "jsonl": 8,
    "parquet": 2,
    "compressed": 6,
    "lines": 10,
    "corpus": 6,
    "teacher cache": 4,
    "index": 4,
    "index files": 2,
    "answers": 1,
    "bodies": 8,
    "suite": 6,
}
"""Part of all inputs for each reader, by how cheap it is."""


def of_upgrade(name: str) -> bytes:
    return (OLD / name).read_bytes()


class Case:
    """A reader of foreign bytes, in a folder with all else that it needs.

    Args:
        name: In `SHARES`.
        file: What is damaged, by its place in the folder.
        read: Reads the folder.
        seed: A valid file; by default what is at the place.
        beside: Folder whose files lie beside it.
        refusals: What the reader may raise.
    """

    def __init__(
        self,
        name: str,
        file: str,
        read: Callable[[Path], Any],
        *,
        seed: bytes | None = None,
        beside: str = "",
        refusals: tuple[type[Exception], ...] = (BortError,),
    ) -> None:
        self.name, self.file, self.read, self.beside, self.refusals = name, file, read, beside, refusals
        self.seed = of_upgrade(f"{beside}/{file}") if seed is None else seed

    def inputs(self) -> st.SearchStrategy[bytes]:
        return damaged_json(self.seed) if self.file.endswith(".json") else damaged(self.seed)


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def read_run(folder: Path) -> None:
    arguments = FinetuneArguments(**yaml.safe_load(of_upgrade("agora/config.yaml")))
    run = Run(folder, "finetune", arguments, resume=True)
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
    state = json.loads(of_upgrade("teacher-cache/embeddings/cache.json"))
    fields = {name: Field(dtype, tuple(shape)) for name, (dtype, shape) in state["fields"].items()}
    key = {name: value for name, value in state["key"].items() if name not in ("format", "rows")}
    cache = TeacherCache(folder, key, fields, state["key"]["rows"])
    if cache.complete:
        cache.read(0)


def read_graph(folder: Path) -> None:
    """Sums are made to fit: a stranger's would."""
    file = folder / "manifest.json"
    described = json.loads(of_upgrade("export-onnxruntime-fp32/manifest.json"))
    graph = folder / "model.onnx"
    described["files"]["model.onnx"] = {"sha256": sha256(graph), "bytes": graph.stat().st_size}
    file.write_text(json.dumps(described))
    with bort.Predictor(str(folder), threads=1) as predictor:
        predictor.predict("The cat.")


def read_bodies(folder: Path) -> None:
    content = (folder / "body.json").read_bytes()
    for kind in (PredictRequest, PipelineRequest, EmbedRequest, EmbeddingsRequest, ExplainRequest):
        with contextlib.suppress(ValidationError):  # which the server answers with 422
            kind.model_validate_json(content)


def read_suite(name: str) -> Callable[[Path], None]:
    return lambda folder: list(read_part(find([name])[0], folder, "train"))


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


def parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table, file = pa.table({"text": ["a", "b", "c"], "label": ["1", "2", "1"]}), io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def sqlite(tmp: Path) -> bytes:
    AnswerCache(tmp, {"model": "m"}).keep({"a": 1})
    return next(tmp.glob("*.sqlite")).read_bytes()


JSONL = (
    b'{"text": "a", "text_b": "c", "label": "x"}\n{"text": "b", "text_b": "c", "label": 2.5}\n'
    b'{"text": "\xc3\xa9", "text_b": "c", "label": "y"}\n'
)
BODY = b'{"inputs": ["a", ["b", "c"]], "input": ["a"], "parameters": {"top_k": 2}, "truncate": true, "model": "m"}'
YAML = (
    b"train: t.csv\nout: runs/x\nlearning_rates: [1.0e-3, 2]\nmax_epochs: 3\n"
    b"teacher: t\nteacher_labels: [a=b]\nprecision: fp32\n"
)
SPACE = b"depth: [1, 2]\nheads: [2]\nhidden: [16, 32]\nintermediate: [16, 24]\n"
COLA = b"gj04\t1\t\tThe cat sat down.\ngj04\t0\t*\tCat the down sat.\n" * 3
SHAPE = b'{"depth": 2, "heads": 2, "hidden": 16, "intermediate": 24, "positions": 64, "vocab_size": 300}'


@pytest.fixture(scope="module", params=SHARES)
def case(request, tmp_path_factory) -> Case:
    made = {
        "params": lambda: Case("", "x.params", lambda f: read_params(f / "x.params"), seed=of_upgrade("bort.params")),
        "checkpoint": lambda: Case("", "config.json", read_checkpoint, beside="encoder"),
        "safetensors": lambda: Case("", "model.safetensors", read_checkpoint, beside="encoder"),
        "config": lambda: Case("", "config.json", load_config, beside="encoder"),
        "architecture": lambda: Case("", "a.json", lambda f: architecture(f / "a.json"), seed=SHAPE),
        "tokenizer": lambda: Case("", "tokenizer.json", lambda f: load_tokenizer(f)("The cat."), beside="tokenizer"),
        "manifest": lambda: Case("", "manifest.json", read_manifest, beside="export-onnxruntime-fp32"),
        "graph": lambda: Case("", "model.onnx", read_graph, beside="export-onnxruntime-fp32"),
        "journal": lambda: Case("", "journal.jsonl", read_run, beside="agora"),
        "metrics": lambda: Case("", "metrics.json", read_run, beside="agora"),
        "settings": lambda: Case("", "settings.yaml", read_settings, seed=YAML),
        "space": lambda: Case("", "s.yaml", lambda f: read_space(f / "s.yaml"), seed=SPACE),
        "csv": lambda: Case("", "x.csv", lambda f: read_examples(f / "x.csv"), seed=LABELLED),
        "tsv": lambda: Case("", "x.tsv", lambda f: read_examples(f / "x.tsv"), seed=TABBED),
        "jsonl": lambda: Case("", "x.jsonl", lambda f: read_examples(f / "x.jsonl"), seed=JSONL),
        "parquet": lambda: Case("", "x.parquet", lambda f: read_examples(f / "x.parquet"), seed=parquet()),
        "compressed": lambda: Case(
            "", "x.csv.gz", lambda f: read_examples(f / "x.csv.gz"), seed=gzip.compress(LABELLED)
        ),
        "lines": lambda: Case("", "x.txt", lambda f: list(read_lines(f / "x.txt")), seed=COLA),
        "corpus": lambda: Case("", "corpus.json", read_corpus, beside="corpus"),
        "teacher cache": lambda: Case("", "cache.json", read_cache, beside="teacher-cache/embeddings"),
        "index": lambda: Case("", "index.json", read_index, beside="index"),
        "index files": lambda: Case("", "ends.bin", read_index, beside="index"),
        "answers": lambda: Case(
            "", "x", lambda f: AnswerCache(f, {"model": "m"}).known(["a"]), seed=sqlite(tmp_path_factory.mktemp("sql"))
        ),
        "bodies": lambda: Case("", "body.json", read_bodies, seed=BODY),
        "suite": lambda: Case("", "train.tsv", read_suite("cola"), seed=COLA),
    }[request.param]()
    made.name = request.param
    return made


@pytest.fixture(scope="module")
def folder(case, tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("fuzz") / "given"
    if case.beside:
        shutil.copytree(OLD / case.beside, made)
    else:
        made.mkdir()
    if case.name == "answers":
        AnswerCache(made, {"model": "m"})
        case.file = next(made.glob("*.sqlite")).name
    if case.name == "suite":
        (made / "glue" / "CoLA").mkdir(parents=True)
        case.file = "glue/CoLA/train.tsv"
    return made


def test_the_valid_file_is_read(case, folder):
    (folder / case.file).write_bytes(case.seed)
    case.read(folder)


def test_a_damaged_file_is_read_or_refused_in_one_line(case, folder):
    (folder / case.file).write_bytes(case.seed)
    case.read(folder)  # a run that goes on writes a file of its own
    (folder / case.file).write_bytes(case.seed)
    journal = (folder / "journal.jsonl").read_bytes() if (folder / "journal.jsonl").is_file() else None
    around = listing(folder.parent)

    @settings(
        max_examples=max(1, round(COUNT * SHARES[case.name] / sum(SHARES.values()))),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        derandomize="BORT_FUZZ_COUNT" not in os.environ,
    )
    @given(case.inputs())
    def check(content: bytes) -> None:
        if journal is not None:
            (folder / "journal.jsonl").write_bytes(journal)
        (folder / case.file).write_bytes(content)
        refused, began = "", time.process_time()
        try:
            case.read(folder)
        except case.refusals as error:
            refused = str(error)
        assert time.process_time() - began < SLOW_SECONDS
        assert "\n" not in refused
        assert listing(folder.parent) == around

    check()
