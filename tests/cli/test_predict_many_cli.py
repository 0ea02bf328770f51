"""Many files: the same labels wherever they are computed, and nothing twice or half."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from bort.cli.predict import PredictArguments, predict
from bort.data.tables.examples import stream_rows
from bort.errors import BortError
from bort.predict.bulk.files import FileTask, OpenModel, file_tasks
from bort.predict.bulk.ledger import LEDGER, Ledger
from bort.predict.bulk.on_ray import _absolute
from bort.predict.bulk.places import expand
from bort.predict.plain_engine import may_have_gpu, open_plain

SAME = {"window": 5, "threads": 1}


def on_ray(test):
    """Of Ray Data's own, copying its settings, are the warnings."""
    test = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray")(test)
    return pytest.mark.filterwarnings("ignore::DeprecationWarning")(pytest.mark.slow(test))


@pytest.fixture(scope="module")
def classifier(classifier, tmp_path_factory):
    """As `bort finetune` leaves it, so that worker processes need not load PyTorch."""
    folder = tmp_path_factory.mktemp("plain") / "model"
    shutil.copytree(classifier, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "bort_metric": "accuracy", "bort_pairs": False}), "utf-8")
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "split_special_tokens": False}), "utf-8")
    assert may_have_gpu() or open_plain(str(folder)), "each worker process would load PyTorch, for seconds"
    return str(folder)


@pytest.fixture
def texts(tmp_path, sentences):
    """Three files in two folders, in three formats."""
    folder = tmp_path / "in"
    (folder / "more").mkdir(parents=True)
    (folder / "a.csv").write_text("id,text\n" + "".join(f'{n},"{s}"\n' for n, s in enumerate(sentences[:20])))
    (folder / "b.jsonl").write_text(
        "".join(json.dumps({"text": s, "n": n}) + "\n" for n, s in enumerate(sentences[:7]))
    )
    (folder / "more/a.txt").write_text("\n".join(sentences[7:40]))
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != LEDGER
    }


def ask(model, given, output, **settings) -> int:
    """In blocks of the same rows and with one thread, for sums in another order differ in the last digit."""
    inputs = [str(each) for each in (given if isinstance(given, list) else [given])]
    return predict(PredictArguments(str(model), inputs, str(output), **{**SAME, **settings})).rows


@pytest.fixture
def alone(classifier, texts, tmp_path):
    """The three files, labelled one by one."""
    ask(classifier, texts / "a.csv", tmp_path / "alone/a.csv")
    ask(classifier, texts / "b.jsonl", tmp_path / "alone/b.jsonl")
    ask(classifier, texts / "more/a.txt", tmp_path / "alone/more/a.jsonl")
    return files_of(tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"workers": "2"}, {"workers": "4"}])
def test_a_folder_has_what_the_files_give_one_by_one(classifier, texts, tmp_path, alone, settings):
    """In this process, by file in two processes, and by rows in four."""
    assert ask(classifier, f"{texts}/**/*.*", f"{tmp_path}/out/", **settings) == 60
    assert files_of(tmp_path / "out") == alone
    said = json.loads((tmp_path / "out" / LEDGER).read_text("utf-8"))
    assert sorted(entry["rows"] for entry in said["files"].values()) == [7, 20, 33]


@pytest.mark.slow
def test_many_files_become_one_in_their_order(bort, classifier, texts, tmp_path):
    given = [texts / "a.csv", texts / "more/a.txt"]
    same = ["--model", classifier, "--threads", 1, "--window", 1]
    each = [row for file in given for row in bort("predict", file, *same).rows()]
    assert bort("predict", *given, *same).rows() == each
    done = bort("predict", *given, *same, "--workers", 2)
    assert (done.status, done.rows()) == (0, each)
    out = tmp_path / "any.jsonl"
    assert ask(classifier, given, out, workers="2", window=1, keep_order=False) == len(each)
    read = [row for row, _ in stream_rows(out)]
    assert sorted(map(json.dumps, read)) == sorted(map(json.dumps, each))


def test_what_is_done_stays_done(bort, classifier, regressor, texts, tmp_path, alone):
    out = tmp_path / "out"
    words = ["predict", f"{texts}/*.*", "--model", classifier, "--output", f"{out}/"]
    broken = texts / "c.csv"
    broken.write_text("text\na\nb,c\n")
    bort(*words).refused(f"{broken}:3")
    assert sorted(files_of(out)) == ["a.csv", "b.jsonl"]
    bort(*words).refused("--resume")
    before = {name: (out / name).stat().st_mtime_ns for name in ("a.csv", "b.jsonl")}
    broken.write_text("text\na\nb\n")
    (texts / "b.jsonl").write_text('{"text": "a"}\n')
    assert bort(*words, "--resume").status == 0
    assert (out / "a.csv").stat().st_mtime_ns == before["a.csv"]
    assert (out / "b.jsonl").stat().st_mtime_ns > before["b.jsonl"]
    assert [len(list(stream_rows(out / name))) for name in ("a.csv", "b.jsonl", "c.csv")] == [20, 1, 2]
    bort(*words, "--resume", "--long", "mean").refused("long", "first", "mean")
    bort("predict", f"{texts}/*.*", "--model", regressor, "--output", out, "--resume").refused("model")
    (out / LEDGER).write_text('{"format": 1, "made_by": {}, "files": {"a": 3}}')
    bort(*words, "--resume").refused("is damaged")


def test_other_inputs_replace_no_labels_and_are_not_labelled_twice(bort, classifier, tmp_path, monkeypatch):
    for name in ("x", "y"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "a.csv").write_text(f"text\n{name}\n")
    monkeypatch.chdir(tmp_path)
    words = ["predict", "--model", classifier, "--resume", "--output", "out/", "--input"]
    assert bort(*words, "in/x/a.csv").status == 0
    before = files_of(tmp_path / "out")
    bort(*words, "in/y/a.csv").refused("in/y/a.csv", "would replace a.csv", "in/x/a.csv")
    bort(*words, "in/x/a.csv", "in/y/a.csv").refused("in/x/a.csv", "has its labels in a.csv", "would get x/a.csv")
    assert files_of(tmp_path / "out") == before
    words[words.index("out/")] = f"{tmp_path}/out"
    assert bort(*words, "in/x/a.csv").status == 0, "the folder may be named in another way"


def test_no_file_is_replaced_that_is_an_input_or_of_somebody_else(bort, classifier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("d").mkdir()
    rows = {"in.jsonl": '{"text": "a"}\n3\n', "d/a.txt": "a\n", "d/a.jsonl": '{"text": "mine"}\n'}
    rows["o.jsonl.errors.jsonl"] = '{"text": "a"}\n'
    for name, content in rows.items():
        Path(name).write_text(content)
    words = ["predict", "--model", classifier, "--on-error", "skip", "--input"]
    replaced = "would replace a file that this command reads"
    bort(*words, "in.jsonl", "--output", "out.csv", "--errors", "d/../in.jsonl").refused("--errors", replaced)
    bort(*words, "in.jsonl", "--output", "in.jsonl").refused("--output", replaced)
    bort(*words, "o.jsonl.errors.jsonl", "--output", "o.jsonl").refused("--errors", replaced)
    bort(*words, "d/a.txt", "d/a.jsonl", "--output", "d/a.jsonl").refused("--output", replaced)
    bort(*words, "d/a.txt", "--output", "d/").refused("d/a.jsonl", "already exists, and _manifest.json does not list")
    Path("a.txt").write_text("a\n")
    bort(*words, "a.txt", "d/a.jsonl", "--output", "d/").refused("d/a.jsonl", "be replaced by the labels of", "a.txt")
    bort(*words, "in.jsonl", "--output", "./").refused("in.jsonl", "would be replaced by its labels")
    assert {name: Path(name).read_text() for name in rows} == rows
    Path("in.jsonl").write_text('{"text": "a", "n": 1}\n')
    assert bort("predict", "in.jsonl", "--model", classifier, "--output", "in.jsonl").status == 0
    assert json.loads(Path("in.jsonl").read_text())["n"] == 1, "each row is kept"


def test_an_output_that_was_begun_is_known_after_a_kill(bort, classifier, tmp_path, monkeypatch):
    """Between an output and its entry in the ledger."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Path(f"{name}.txt").write_text("x\n")
    words = ["predict", "a.txt", "b.txt", "--model", classifier, "--output", "out/"]
    with monkeypatch.context() as killed:
        killed.setattr(Ledger, "add", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        killed.setattr(Ledger, "close", lambda _: None)
        bort(*words)
    assert sorted(path.name for path in Path("out").iterdir()) == ["_manifest.json", "a.jsonl"]
    assert bort(*words).status == 0, "nothing is finished, so there is nothing to resume"
    said = json.loads(Path("out/_manifest.json").read_text("utf-8"))
    assert ([*said["files"]], said["begun"]) == ([f"{tmp_path}/a.txt", f"{tmp_path}/b.txt"], [])


def test_a_ledger_of_an_earlier_version_does_not_say_what_was_begun(bort, classifier, tmp_path, monkeypatch):
    """A file that was finished, but not recorded before a kill, is labelled again."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Path(f"{name}.txt").write_text("x\n")
    words = ["predict", "a.txt", "b.txt", "--model", classifier, "--output", "out/", "--resume"]
    assert bort(*words).status == 0
    ledger = Path("out/_manifest.json")
    said = json.loads(ledger.read_text("utf-8"))
    del said["begun"], said["files"][f"{tmp_path}/b.txt"]
    ledger.write_text(json.dumps(said))
    assert bort(*words).status == 0
    assert len(json.loads(ledger.read_text("utf-8"))["files"]) == 2


def test_the_ledger_of_many_files_is_not_written_for_each(tmp_path, monkeypatch):
    written, clock = [], [0.0]

    def write(name, text):
        written.append(len(json.loads(text)["files"]))
        clock[0] += 1.0

    module = sys.modules[Ledger.__module__]
    monkeypatch.setattr(module, "write_text", write)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    ledger = Ledger(str(tmp_path), {}, resume=False)
    for number in range(100):
        ledger.add(f"/in/{number}", f"{tmp_path}/{number}", [], 1, 0)
        clock[0] += 0.5
    ledger.close()
    ledger.close()
    assert written == [1, 41, 81, 100]


def test_a_path_through_a_link_names_the_file_that_the_system_opens(bort, classifier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("far/folder").mkdir(parents=True)
    Path("link").symlink_to("far/folder")
    Path("far/t.txt").write_text("far\n")
    Path("t.txt").write_text("near\nnear\n")
    assert bort("predict", "link/../t.txt", "--model", classifier, "--output", "out/").status == 0
    assert json.loads(Path("out/t.jsonl").read_text())["text"] == "far"
    [task] = file_tasks(["far/../t.txt"], "out", "auto")
    assert task.source == f"{tmp_path}/t.txt"


def test_a_manifest_of_the_first_version_tells_the_places_too(tmp_path):
    entry = {"output": f"{tmp_path}/x/a.csv", "rows": 1, "skipped": 0, "state": [1]}
    (tmp_path / LEDGER).write_text(json.dumps({"format": 1, "made_by": {}, "files": {"/in/x/a.csv": entry}}))
    ledger = Ledger(str(tmp_path), {}, resume=True)
    ledger.check_outputs({"/in/x/a.csv": f"{tmp_path}/x/a.csv", "/in/b.csv": f"{tmp_path}/b.csv"})
    with pytest.raises(BortError, match=r"has its labels in x/a\.csv"):
        ledger.check_outputs({"/in/x/a.csv": f"{tmp_path}/a.csv"})
    elsewhere = tmp_path / "moved"
    elsewhere.mkdir()
    shutil.copy(tmp_path / LEDGER, elsewhere)
    moved = Ledger(str(elsewhere), {"model_files": "of a later version"}, resume=True)
    moved.check_outputs({"/in/x/a.csv": f"{elsewhere}/a.csv"})
    assert moved.done("/in/x/a.csv", [1]) == (1, 0)


@pytest.mark.slow
def test_bad_rows_stand_beside_each_file(bort, classifier, texts, tmp_path):
    (texts / "a.csv").write_text("text\na\nb,c\n")
    for workers in ("local", 2):
        out = tmp_path / f"out-{workers}"
        out.mkdir()
        done = bort("predict", f"{texts}/*.*", "--model", classifier, "--output", out, "--on-error", "skip",
                    "--workers", workers)  # fmt: skip
        assert done.status == 0
        assert "a.csv:3: " in done.err
        assert "rows that cannot be read, left out: 1, see FILE.errors.jsonl" in done.err
        assert sorted(files_of(out)) == ["a.csv", "a.csv.errors.jsonl", "b.jsonl"]
        again = PredictArguments(str(classifier), [f"{texts}/*.*"], str(out), on_error="skip", resume=True)
        assert (predict(again).rows, predict(again).skipped) == (8, 1)


def test_files_whose_names_are_no_utf8(classifier, tmp_path):
    given = tmp_path / os.fsdecode(b"caf\xe9.jsonl")
    try:
        given.write_text('{"text": "a"}\n{"text": 3}\n')
    except OSError:
        pytest.skip("the file system takes no such name")
    for resume in (False, True):
        asked = PredictArguments(str(classifier), str(given), f"{tmp_path}/out/", on_error="label", resume=resume)
        assert predict(asked).rows == 2
    assert (tmp_path / "out" / given.name).exists()
    predict(PredictArguments(str(classifier), str(given), str(tmp_path / "o.jsonl"), on_error="label"))
    errors = [json.loads(line)["error"] for line in (tmp_path / "o.jsonl").read_text("utf-8").splitlines()]
    assert errors[0] is None
    assert errors[1].startswith(f"{tmp_path}/caf\\udce9.jsonl:2: ")


def test_object_stores(bort, classifier, texts, tmp_path, alone):
    """`local` is a file system of fsspec like any store; `memory` is one that has no paths at all."""
    import fsspec

    store = fsspec.filesystem("memory")
    for name in ("a.csv", "b.jsonl"):
        store.pipe_file(f"/texts/{name}", (texts / name).read_bytes())
    out = "memory://labels/of"
    same = ["--model", classifier, "--threads", 1, "--window", 5]
    words = ["predict", "memory://texts/*", *same, "--output", f"{out}/"]
    assert bort(*words).status == 0
    assert {name: store.cat_file(f"/labels/of/{name}") for name in ("a.csv", "b.jsonl")} == {
        name: alone[name] for name in ("a.csv", "b.jsonl")
    }
    assert json.loads(store.cat_file(f"/labels/of/{LEDGER}"))["files"]["memory://texts/a.csv"]["rows"] == 20
    bort(*words).refused("--resume")
    store.pipe_file("/texts/c.csv", b"text\na,b\n")
    bort(*words, "--resume").refused("memory://texts/c.csv:2")
    assert bort(*words, "--resume", "--on-error", "skip").status == 2
    store.rm("/labels", recursive=True)
    assert bort(*words, "--on-error", "skip").status == 0
    assert b"memory://texts/c.csv:2" in store.cat_file("/labels/of/c.csv.errors.jsonl")
    store.pipe_file("/texts/c.csv", b"text\na\n")
    assert bort("predict", "memory://texts/c.csv", *same, "--output", f"{out}/c.csv", "--on-error", "skip").status == 0
    assert not store.exists("/labels/of/c.csv.errors.jsonl"), "it is of an earlier run"
    one = f"local://{tmp_path}/one.jsonl"
    assert bort("predict", f"local://{texts}/b.jsonl", *same, "--output", one).status == 0
    assert (tmp_path / "one.jsonl").read_bytes() == alone["b.jsonl"]
    here = bort("predict", f"file://{texts}/b.jsonl", *same)
    assert here.out.encode() == alone["b.jsonl"]
    bort("predict", "memory://none.csv", "--model", classifier).refused("memory://none.csv", "no such file")
    bort("predict", "nosuch://b/none.csv", "--model", classifier).refused("nosuch://b/none.csv", "cannot be read")


def test_a_slice_of_a_data_set_is_no_pattern(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = ["nyu-mll/glue@sst2:train[:10%]", "stanfordnlp/imdb:test[5:7]"]
    assert expand(named) == named
    Path("in").mkdir()
    Path("in/a:x1").touch()
    assert expand(["in/a:x[1]"]) == ["in/a:x1"]


def test_names(tmp_path):
    (tmp_path / "x[1].csv").write_text("text\n")
    assert expand([f"{tmp_path}/x[1].csv", f"{tmp_path}/*.csv"]) == [f"{tmp_path}/x[1].csv"]
    with pytest.raises(BortError, match="no file has such a name"):
        expand([f"{tmp_path}/*.tsv"])
    (tmp_path / "a.csv?version=2").write_text("text\n")
    address = f"local://{tmp_path}/a.csv?version=2"
    assert expand([address]) == [address]
    tasks = file_tasks(["s3://b/in/x/a.parquet", "s3://b/in/a.csv.gz", "s3://b/in/b.c.tsv"], "s3://b/out/", "auto")
    assert [task.output for task in tasks] == ["s3://b/out/x/a.jsonl", "s3://b/out/a.csv", "s3://b/out/b.c.tsv"]
    with pytest.raises(BortError, match="the same file as"):
        file_tasks(["/in/a.txt", "/in/a.parquet"], "/out", "auto")
    with pytest.raises(BortError, match="would be replaced"):
        file_tasks(["/in/a.csv"], "/in/", "auto")


def test_what_does_not_go_together(bort, classifier, texts, tmp_path):
    words = ["predict", "--model", classifier]
    bort(*words, "--workers", 0).refused("--workers", "at least 1")
    bort(*words, "--workers", "many").refused("--workers", "many")
    bort(*words, "--workers", "ray", "--output", tmp_path / "o.csv").refused("--output", "folder")
    bort(*words, "--input", "-", texts / "a.csv").refused("standard input is read alone")
    bort(*words, "--resume", "--output", tmp_path / "o.csv").refused("--resume", "folder")
    skip = [*words, "--output", tmp_path / "o.jsonl", "--on-error", "skip", "--errors"]
    bort(*skip, "memory://b/e.jsonl").refused("--errors", "memory://b/e.jsonl", "not an address")
    bort(*skip, f"{tmp_path}/x/../o.jsonl").refused("--errors", "another file than --output")
    (tmp_path / "out").mkdir()
    bort(*words, "--output", tmp_path / "out").refused("is a folder")
    bort("predict", f"{texts}/*.xls", "--model", classifier).refused("no file has such a name")


def kill_one(command: str, folder: Path, pattern: str) -> list[int]:
    """Kill -9 one process that calls itself so, once a file is there; the number of it is told when it is done.

    Ray's workers are nobody's children; of all others only ours are killed, for other tests run beside this one.
    """
    killed: list[int] = []
    others = psutil.process_iter if command.startswith("ray::") else lambda: psutil.Process().children(recursive=True)

    def look() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not killed:
            if list(folder.glob(pattern)):
                for process in others():
                    with contextlib.suppress(psutil.Error):
                        if command in " ".join(process.cmdline()) and not killed:
                            process.kill()
                            killed.append(process.pid)
            time.sleep(0.01)

    threading.Thread(target=look, daemon=True).start()
    return killed


@pytest.fixture
def larger(tmp_path, sentences):
    folder = tmp_path / "larger"
    folder.mkdir()
    for number in range(10):
        rows = [{"n": n, "text": f"{sentences[n % len(sentences)]} {number} {n}"} for n in range(900)]
        (folder / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_workers_in_another_folder_find_what_is_named_relatively(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("fast").mkdir()
    tasks = [FileTask("/in/a.csv", "out/a.csv", "csv"), FileTask("s3://b/a.csv", "s3://b/out/a.csv", "csv")]
    model, sent = _absolute(OpenModel("fast"), tasks)
    assert model.model == f"{tmp_path}/fast"
    assert [task.output for task in sent] == [f"{tmp_path}/out/a.csv", "s3://b/out/a.csv"]
    assert _absolute(OpenModel("owner/name"), [])[0].model == "owner/name"


@on_ray
def test_a_cluster_with_a_killed_worker_answers_as_one_process(classifier, larger, tmp_path, cluster):
    out = tmp_path / "out"
    killed = kill_one("ray::MapWorker", out, "*.jsonl")
    assert ask(classifier, f"{larger}/*.jsonl", f"{out}/", workers=cluster, window=32) == 9000
    assert killed, "no worker was killed, so nothing is shown"
    ask(classifier, f"{larger}/*.jsonl", f"{tmp_path}/one/", window=32)
    assert files_of(out) == files_of(tmp_path / "one")
    assert len(json.loads((out / LEDGER).read_text("utf-8"))["files"]) == 10
    # The folder is resumed as any: what is done is not done again.
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.jsonl")}
    (out / "3.jsonl").unlink()
    assert ask(classifier, f"{larger}/*.jsonl", f"{out}/", workers=cluster, resume=True, window=32) == 9000
    assert {path.name for path in out.glob("*.jsonl") if path.stat().st_mtime_ns != before[path.name]} == {"3.jsonl"}


@on_ray
def test_a_bad_row_ends_the_job_of_a_cluster_too(bort, classifier, texts, tmp_path, cluster, monkeypatch):
    """Paths may be relative, though the workers have another working folder."""
    monkeypatch.chdir(tmp_path)
    (texts / "a.csv").write_text("text\na\nb,c\n")
    model = os.path.relpath(classifier)
    words = ["predict", "in/*.*", "--model", model, "--workers", cluster, "--output", "out/"]
    done = bort(*words)
    assert (done.status, done.out) == (2, "")
    assert "a.csv:3: " in done.err
    assert not (tmp_path / "out/a.csv").exists()
    (texts / "a.csv").write_text("text\na\n")
    assert bort(*words, "--resume", "--no-keep-order").status == 0
    assert sorted(files_of(tmp_path / "out")) == ["a.csv", "b.jsonl"]
    assert json.loads((tmp_path / "out" / LEDGER).read_text("utf-8"))["made_by"]["model"] == model


@pytest.mark.slow
def test_a_killed_process_is_told_of(bort, classifier, larger, tmp_path, monkeypatch):
    out = tmp_path / "out"
    words = ["predict", f"{larger}/*.jsonl", "--model", classifier, "--workers", 2, "--output", f"{out}/"]
    killed = kill_one("multiprocessing.spawn import spawn_main", out, "*.jsonl")
    done = bort(*words, "--window", 1)
    assert killed
    assert done.status == 2
    assert "--workers: a worker process was killed" in done.err
    kept = {path.name: path.read_bytes() for path in out.glob("*.jsonl")}
    assert bort(*words, "--window", 1, "--resume").status == 0
    assert {name: (out / name).read_bytes() for name in kept} == kept
    assert len(list(out.glob("*.jsonl"))) == 10
