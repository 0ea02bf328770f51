"""What every test shares: no network, a tiny tokenizer, a tiny shape, and the data of ../shared where it is at hand."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "true"

import pytest
from hypothesis import settings

from bort.model.config import architecture
from bort.model.tokenization import train_tokenizer
from bort.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bort.finetuning.arguments import FinetuneArguments
    from bort.pretraining.arguments import PretrainArguments
    from launcher import Launcher

# How long an example takes depends on what else the machine does.
settings.register_profile("bort", deadline=None)
settings.load_profile("bort")

_SHARED = Path(__file__).parents[1].parent / "shared"
_WHO = ("The old baker", "A quiet student", "My sister", "The grey cat", "Nobody here", "Dr. Müller", "The committee")
_DOES = ("walked to", "wrote about", "never liked", "is painting", "sold", "dreamt of", "counted")
_WHAT = (
    "the harbour",
    "seven green apples",
    "a broken clock",
    "café tables",
    "her neighbour's garden",
    "x = 3 * (y - 1)",
)


# In the order of their names they would be among the last, and one process would still be at one of them when the
# others have nothing left to do.
_ALL_ON_RAY = "test_on_ray.py"
_LONGEST = (_ALL_ON_RAY, "test_notebook.py", "test_python_page.py", "test_distributed.py", "test_demo.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the longest files first, all server tests in one worker, and Ray tests outside xdist."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ray)
        if item.path.parent.name == "serve":
            item.add_marker(pytest.mark.xdist_group("serve"))
        group = item.get_closest_marker("xdist_group")
        # From 9.2 on pytest does not see where pytest-xdist 3.8 writes the group, and spreads its tests.
        if group and config.getoption("loadgroup", default=False) and hasattr(item, "_id"):
            item._id = type(item._id).parse(f"{item.nodeid}@{group.args[0]}")
    spread = hasattr(config, "workerinput")
    others = {item for item in items if (_on_ray(item) if spread else item.path.name == _ALL_ON_RAY)}
    config.hook.pytest_deselected(items=[*others])
    items[:] = [item for item in items if item not in others]


def _on_ray(item: pytest.Item) -> bool:
    return item.get_closest_marker("ray") is not None


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Tell what ended a process of pytest-xdist, which only names the test."""
    if not error:
        return
    with suppress(subprocess.TimeoutExpired):
        node.gateway._io.popen.wait(10)
    status = node.gateway._io.popen.poll()
    ended = signal.Signals(-status).name if status is not None and status < 0 else f"status {status}"
    free = ""
    with suppress(OSError):
        free = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    node.config.pluginmanager.get_plugin("terminalreporter").write_line(f"{node.gateway.id} ended by {ended}; {free}")


@pytest.fixture(autouse=True)
def _little_garbage() -> None:
    """Freeze existing objects, so that each training's full collection scans only this test's objects.

    A scan of all that was ever imported takes longer than a training.
    """
    gc.collect()  # what is garbage now would be kept for good
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the repository."""
    if not _SHARED.is_dir():
        pytest.skip("the reference data (the folder `shared` beside the repository) is absent")
    return _SHARED


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    """294 different sentences."""
    return [f"{who} {does} {what}." for who in _WHO for does in _DOES for what in _WHAT]


@pytest.fixture(scope="session")
def tiny_tokenizer(sentences):
    """A byte-level BPE of 400 entries."""
    return train_tokenizer(sentences, vocab_size=400)


@pytest.fixture
def tiny_config(tiny_tokenizer, tmp_path_factory):
    """A configuration of 2 layers, 2 heads, hidden size 16, that a test may change."""
    shape = {"depth": 2, "heads": 2, "hidden": 16, "intermediate": 24, "positions": 64}
    file = tmp_path_factory.mktemp("shape") / "architecture.json"
    file.write_text(json.dumps({**shape, "vocab_size": len(tiny_tokenizer)}))
    return architecture(file)


@dataclass
class World:
    tokenizer: str
    architecture: str
    corpus: str
    encoder: str
    train: str
    dev: str
    test: str
    pairs: str
    regression: str
    multilabel: str
    multilabel_test: str

    def finetuning(self, folder: Path, **settings: Any) -> FinetuneArguments:
        """The settings of a tiny fine-tuning into `folder`/run, with the changes that a test wants."""
        from bort.finetuning.arguments import FinetuneArguments

        given = {
            "train": self.train,
            "dev": self.dev,
            "test": self.test,
            "model": self.encoder,
            "out": str(folder / "run"),
            "batch_sizes": [8],
            "max_length": 32,
            "precision": "fp32",
            "averaged": 1,
        }
        return FinetuneArguments(**given | settings)

    def pretraining(self, folder: Path, **settings: Any) -> PretrainArguments:
        """The settings of a tiny pre-training into `folder`/run, with the changes that a test wants."""
        from bort.pretraining.arguments import PretrainArguments

        given = {
            "corpus": [self.corpus],
            "tokenizer": self.tokenizer,
            "architecture": self.architecture,
            "out": str(folder / "run"),
            "corpus_cache": str(folder / "corpus"),
            "sequence_length": 32,
            "valid_share": 0.1,
            "precision": "fp32",
        }
        return PretrainArguments(**given | settings)


@pytest.fixture(scope="session")
def world(tmp_path_factory, tiny_tokenizer, sentences) -> World:
    """A tokenizer folder, a shape, a corpus, an encoder and labelled texts, all tiny."""
    import torch

    from bort.model.checkpoints import save, save_tokenizer
    from bort.model.modelling import BortForMaskedLM

    folder = tmp_path_factory.mktemp("world")
    save_tokenizer(tiny_tokenizer, folder / "tokenizer")
    shape = {"depth": 2, "heads": 2, "hidden": 16, "intermediate": 24, "positions": 64}
    (folder / "shape.json").write_text(json.dumps(shape))
    rng = random.Random(0)
    documents = ["\n".join(rng.sample(sentences, 4)) for _ in range(300)]
    (folder / "corpus.txt").write_text("\n\n".join(documents) + "\n", "utf-8")

    torch.manual_seed(0)
    config = architecture(folder / "shape.json", vocab_size=len(tiny_tokenizer))
    save(BortForMaskedLM(config), tiny_tokenizer, folder / "encoder")
    rows = [{"text": text, "label": "cat" if "cat" in text else "other"} for text in sentences]
    rows = [row for row in rows if row["label"] == "cat"] + rng.sample([r for r in rows if r["label"] == "other"], 42)
    rng.shuffle(rows)
    parts = {"train": rows[:40], "dev": rows[40:60], "test": rows[60:]}
    parts["pairs"] = [
        {"text": row["text"], "text_b": rng.choice(sentences) if i % 2 else row["text"], "label": "01"[i % 2]}
        for i, row in enumerate(rows[:40])
    ]
    parts["regression"] = [{"text": row["text"], "label": len(row["text"]) / 10 + 0.05} for row in rows[:40]]
    # Of the subject, the verb and the object each one may be a label; a text has up to three of them, or none.
    labels = {"cat": "cat", "walking": "walked", "apples": "apples"}
    several = [{"text": text, "label": [n for n, word in labels.items() if word in text]} for text in sentences]
    rng.shuffle(several)
    parts |= {"multilabel": several[:200], "multilabel_test": several[200:]}
    for name, part in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), "utf-8")
    files = {name: str(folder / f"{name}.jsonl") for name in parts}
    return World(
        tokenizer=str(folder / "tokenizer"),
        architecture=str(folder / "shape.json"),
        corpus=str(folder / "corpus.txt"),
        encoder=str(folder / "encoder"),
        **files,
    )


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory, sentences) -> str:
    """An encoder of another vocabulary: 2 layers of width 12, WordPiece, 64 positions, as the hub's are saved."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("teacher")
    # Not trained: the trainer breaks ties by chance, and figures of a test would change with the vocabulary.
    characters = sorted({character for text in sentences for character in text.lower() if not character.isspace()})
    words = sorted({word for text in sentences for word in text.lower().rstrip(".").split()} - {*characters})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    ends = sorted({f"##{word[place:]}" for word in words for place in range(1, len(word))})
    vocabulary = list(dict.fromkeys([*special, *characters, *(f"##{one}" for one in characters), *words, *ends]))[:200]
    (folder / "vocab.txt").write_text("".join(f"{entry}\n" for entry in vocabulary), "utf-8")
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=True)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def weights():
    """Read the tensors of a saved model by name."""
    from safetensors.torch import load_file

    return lambda folder: load_file(Path(folder) / "model.safetensors")


@pytest.fixture(scope="session")
def assert_same_weights(weights):
    """Compare two saved models, bit for bit."""
    import torch

    def compare(left: str | Path, right: str | Path) -> None:
        one, other = weights(left), weights(right)
        assert one.keys() == other.keys()
        for name in one:
            assert torch.equal(one[name], other[name]), name

    return compare


@pytest.fixture(scope="session")
def official(tmp_path_factory) -> Path:
    """A folder with glue, superglue and race: a few made-up rows of each task in the official layouts."""
    from official_files import write_official

    return write_official(tmp_path_factory.mktemp("official"))


_LAUNCHER = pytest.StashKey["Launcher"]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[object]:
    """Fork the launcher while all that tests need is loaded, and none has changed anything yet."""
    made = None
    if sys.platform == "linux" and any("launcher" in getattr(item, "fixturenames", ()) for item in session.items):
        from launcher import Launcher

        made = session.config.stash[_LAUNCHER] = Launcher()
    try:
        return (yield)
    finally:
        if made:
            made.close()


@pytest.fixture(scope="session")
def launcher(pytestconfig) -> Launcher:
    """Starts commands without loading again what they need."""
    if sys.platform != "linux":
        pytest.skip("needs Linux, where what has threads and libraries may be forked")
    return pytestconfig.stash[_LAUNCHER]


@pytest.fixture(scope="session")
def python():
    """Run code in a process of its own, which has to succeed."""

    def run(code: str, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-c", code, *words]
        done = subprocess.run(line, capture_output=True, text=True, check=False, **options)
        assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def killed(launcher, tmp_path_factory):
    """Run a command of `bort` in a process of its own and kill it (-9) once a file is there, and what it should be."""

    def run(
        arguments: list[str], folder: Path, pattern: str, ready: Callable[[Path], bool] = lambda file: True
    ) -> None:
        log = tmp_path_factory.mktemp("killed") / "log"
        process = launcher.start(arguments, Path.cwd(), log)
        while not any(map(ready, folder.glob(pattern))):
            if launcher.status(process) is not None:
                raise AssertionError(f"no {pattern} appeared: {log.read_text('utf-8')[-2000:]}")
            time.sleep(0.01)
        os.kill(process, signal.SIGKILL)
        launcher.wait(process)

    return run


_NODES = pytest.StashKey["Cluster"]()


@pytest.fixture(scope="module")
def cluster(pytestconfig):
    """What `--workers` calls a Ray cluster of two nodes of a core each."""
    if _NODES not in pytestconfig.stash:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
            patch.setenv("RAY_worker_niceness", "0")  # a busy machine would let them wait for minutes
            # Where a busy machine does not answer for seconds, Ray would give a node up, and end this process with it.
            patch.setenv("RAY_health_check_timeout_ms", "60000")
            patch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "600")
            # Nor may it end trials for the memory that other tests take.
            patch.setenv("RAY_memory_monitor_refresh_ms", "0")
            # The nodes find by its name what is sent, the functions of tests among it.
            patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]))
            pytest.importorskip("ray")  # which reads some of these as it is loaded
            from ray.cluster_utils import Cluster

            node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
            nodes = pytestconfig.stash[_NODES] = Cluster(initialize_head=True, head_node_args=node)
            nodes.add_node(**node)
    return str(pytestconfig.stash[_NODES].address)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the cluster when others follow than the tests that use it: they may measure times."""
    if nextitem is not None and (nextitem.get_closest_marker("ray") or nextitem.path == item.path):
        return
    if (nodes := item.config.stash.get(_NODES, None)) is not None:
        del item.config.stash[_NODES]
        nodes.shutdown()


@pytest.fixture(autouse=True, scope="session")
def _told():
    """Let functions tell what the command line tells; what they do otherwise has a test of its own."""
    from bort.progress import verbose

    with verbose():
        yield


@cache
def _threads_at_start() -> int:
    import torch

    return torch.get_num_threads()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    _threads_at_start()  # before the first fixture that could change them
    # A core of OpenVINO that is not ours, such as NNCF's, may free the main thread's stack for signals; then a handler
    # of SIGCHLD, which PyTorch's data loader leaves here, would end the process as the next child ends.
    if hasattr(item.config, "workerinput") and signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _threads_as_they_were():
    """Undo what a test, or a fixture that lives longer, sets for the whole process.

    Sums in another order are not the same to the last bit.
    """
    import torch

    torch.set_num_threads(_threads_at_start())
    yield
    torch.set_num_threads(_threads_at_start())


@pytest.fixture
def one_thread(_threads_as_they_were):
    """Compute as a trial on one core does, to the last bit."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def page_of_files():
    """Make the page of a run's folder once more, of the other files there alone."""

    def made(report: Callable[..., Report], folder: str, *events: str) -> str:
        run = Path(folder)
        metrics, environment = (
            json.loads((run / f"{name}.json").read_text("utf-8")) for name in ("metrics", "environment")
        )
        journal = [json.loads(line) for line in (run / "journal.jsonl").read_text("utf-8").splitlines()]
        page = report(run.name, metrics, *([each for each in journal if each["event"] == name] for name in events))
        page.made_with(environment)
        return page.text()

    return made


@pytest.fixture(scope="session")
def finetuned_files() -> set[str]:
    """What every fine-tuning leaves in its folder."""
    model = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    return model | {"config.yaml", "environment.json", "journal.jsonl", "metrics.json", "report.html"}


LABELS = ("cat", "other", 'a, "b"')


@pytest.fixture(scope="session")
def make_classifier(world, tiny_tokenizer, sentences, tmp_path_factory):
    """Save an untrained classifier or regressor whose outputs differ from sentence to sentence, cut at 32 tokens."""
    import torch

    from bort.data.tables.examples import Example
    from bort.predict.classifiers import new_classifier, predict_logits, save_classifier
    from bort.predict.encoding import encode

    def make(task) -> Path:
        torch.manual_seed(1)
        model = new_classifier(world.encoder, task)
        with torch.no_grad():
            for name, weights in model.named_parameters():
                if weights.ndim == 2 and "embeddings" not in name:
                    weights.mul_(12 if "encoder" in name else 6)
            encoded = encode([Example(text) for text in sentences], tiny_tokenizer, 32)
            logits = torch.from_numpy(predict_logits(model, encoded, tiny_tokenizer.pad_token_id))
            scale = 1.5 / logits.std(0)
            model.classifier.weight.mul_(scale[:, None])
            model.classifier.bias.copy_(-logits.mean(0) * scale)
        folder = tmp_path_factory.mktemp("fine-tuned") / "model"
        save_classifier(model, tiny_tokenizer, folder, 32)
        return folder

    return make


@pytest.fixture(scope="session")
def labelled_by(tmp_path_factory):
    """Write texts with the labels that a model gives them, and give the file."""

    def write(model: str, texts: list[str]) -> str:
        from bort.predict.predictor import Predictor

        file = tmp_path_factory.mktemp("labelled") / "rows.jsonl"
        answers = Predictor(model).predict(texts)
        rows = [{"text": text, "label": answer.label} for text, answer in zip(texts, answers, strict=True)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        return str(file)

    return write


@pytest.fixture(scope="session")
def classifier(make_classifier) -> str:
    """Folder of a classifier with the labels `LABELS`, each of which it gives to about a third of the sentences."""
    from bort.tasks.classification import Classification

    return str(make_classifier(Classification(LABELS, "accuracy")))


@pytest.fixture(scope="session")
def other_classifier(classifier, tmp_path_factory) -> str:
    """The same with the embeddings of other words: another model, of the same graph."""
    from safetensors.numpy import load_file, save_file

    folder = shutil.copytree(classifier, tmp_path_factory.mktemp("other") / "model")
    weights = load_file(folder / "model.safetensors")
    [name] = [name for name in weights if name.endswith("word_embeddings.weight")]
    weights[name] = weights[name][::-1].copy()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return str(folder)


SEVERAL = ("cat", "walking", "a, b; c")


@pytest.fixture(scope="session")
def multilabeller(make_classifier) -> str:
    """Folder of a model of the labels `SEVERAL`, with a threshold for each."""
    from bort.tasks.multilabel import MultiLabel

    folder = make_classifier(MultiLabel(SEVERAL, "f1_micro"))
    file = folder / "config.json"
    thresholds = {"bort_thresholds": dict(zip(SEVERAL, (0.3, 0.5, 0.7), strict=True))}
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | thresholds), "utf-8")
    return str(folder)


@pytest.fixture(scope="session")
def regressor(make_classifier) -> str:
    """Folder of a regressor."""
    from bort.tasks.regression import Regression

    return str(make_classifier(Regression((), "pearson")))
