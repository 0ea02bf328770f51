"""Whole files or none, whatever happens in the middle."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import threading
from pathlib import Path

import pytest

from bort.errors import BortError
from bort.files import (
    _exchange,
    check_apart,
    folder_aside,
    is_vacant,
    new_folder,
    replace_folder,
    write_aside,
    write_folder,
)


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_write_aside(tmp_path, umask):
    file = tmp_path / "new" / "folder" / "a.txt"
    for content in ("één\n", "two\nlines\n"):
        with write_aside(file) as out:
            out.write(content)
            out.flush()
            assert not file.exists() or file.read_text("utf-8") != content
        assert file.read_bytes() == content.encode()
    with write_aside(file, "wb") as out:
        out.write(b"\xff\r\n")
    assert file.read_bytes() == b"\xff\r\n"
    assert names(file.parent) == {"a.txt"}
    assert mode(file) == 0o640


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_while_writing_a_file(tmp_path, existing, error):
    file = tmp_path / "a.txt"
    if existing:
        file.write_text("old")

    def fail() -> None:
        with write_aside(file) as out:
            out.write("new")
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == ({"a.txt"} if existing else set())
    assert not existing or file.read_text() == "old"


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"), write_aside(tmp_path / "a.txt") as out:
        out.write("new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == {"a.txt"}


def test_what_a_killed_write_leaves_takes_no_room(tmp_path):
    with write_aside(tmp_path / "a.txt"):
        (left,) = tmp_path.iterdir()
        kept = left.with_name(left.name.replace("a.txt", "b.txt"))
        kept.write_text("half")
    assert not is_vacant(tmp_path)
    (tmp_path / "a.txt").unlink()
    assert kept.is_file()
    assert is_vacant(tmp_path)
    assert new_folder(tmp_path) == tmp_path
    assert not is_vacant(tmp_path / "absent")
    assert not is_vacant(kept)


def test_folder_aside(tmp_path, umask):
    folder = tmp_path / "above" / "result"
    with folder_aside(folder) as aside:
        assert aside.parent == folder.parent
        assert not any(aside.iterdir())
        (aside / "a.txt").write_text("first")
        (aside / "deep").mkdir()
        (aside / "deep" / "b.txt").touch(mode=0o600)
        assert not folder.exists()
    assert (folder / "a.txt").read_text() == "first"
    assert [mode(path) for path in (folder, folder / "a.txt", folder / "deep" / "b.txt")] == [0o750, 0o640, 0o640]
    with folder_aside(folder) as aside:
        (aside / "c.txt").write_text("second")
        assert names(folder) == {"a.txt", "deep"}
    assert names(folder) == {"c.txt"}
    assert names(folder.parent) == {"result"}


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_while_writing_a_folder(tmp_path, existing, error):
    folder = tmp_path / "result"
    if existing:
        folder.mkdir()
        (folder / "old.txt").write_text("old")

    def fail() -> None:
        with folder_aside(folder) as aside:
            (aside / "new.txt").write_text("new")
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == ({"result"} if existing else set())
    assert not existing or names(folder) == {"old.txt"}


def test_rewriting_keeps_permissions(tmp_path, umask):
    """A file that only its owner may read must not become everybody's, not even while it is written."""
    file = tmp_path / "secret.txt"
    file.touch(mode=0o600)
    with write_aside(file) as out:
        assert stat.S_IMODE(os.fstat(out.fileno()).st_mode) == 0o600
    assert mode(file) == 0o600
    file.chmod(0o664)
    with write_aside(file):
        pass
    assert mode(file) == 0o664


def test_replacing_a_folder_keeps_permissions(tmp_path, umask):
    folder = tmp_path / "result"
    folder.mkdir(mode=0o700)
    (folder / "secret.txt").touch(mode=0o400)
    with folder_aside(folder) as aside:
        for name in ("secret.txt", "new.txt"):
            (aside / name).touch(mode=0o644)
    assert [mode(path) for path in (folder, folder / "secret.txt", folder / "new.txt")] == [0o700, 0o400, 0o600]


def test_the_umask_is_never_set(tmp_path, monkeypatch):
    """It belongs to the whole process: another thread's file would be open to all for a moment."""
    monkeypatch.setattr("os.umask", lambda mask: pytest.fail("os.umask is called"))
    with folder_aside(tmp_path / "result") as aside, write_aside(aside / "a.txt"):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="one step is certain on Linux only")
def test_a_folder_is_replaced_in_one_step(tmp_path, monkeypatch):
    """Whoever looks sees the old folder or the new one, never none."""
    folder = tmp_path / "result"
    folder.mkdir()
    (folder / "0.txt").touch()
    done = threading.Event()
    wrong = []

    def look() -> None:
        while not done.is_set():
            try:
                if len(list(folder.iterdir())) != 1:
                    wrong.append("not whole")
            except FileNotFoundError:
                wrong.append("gone")

    if not _exchange(folder, _other(tmp_path)):
        pytest.skip("this disk cannot exchange names")
    looking = threading.Thread(target=look)
    looking.start()
    for number in range(200):
        aside = tmp_path / f"aside-{number}"
        aside.mkdir()
        (aside / f"{number}.txt").touch()
        replace_folder(aside, folder)
    done.set()
    looking.join()
    assert "gone" not in wrong
    assert names(folder) == {"199.txt"}
    assert names(tmp_path) == {"result", "other"}


def _other(folder: Path) -> Path:
    (folder / "other").mkdir()
    (folder / "other" / "0.txt").touch()
    return folder / "other"


def test_a_link_to_a_folder_is_replaced(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "result").symlink_to("target")
    with folder_aside(tmp_path / "result") as aside:
        (aside / "new.txt").touch()
    assert names(tmp_path) == {"target", "result"}
    assert names(tmp_path / "result") == {"new.txt"}


@pytest.mark.parametrize("failing", [1, 2])
def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path, monkeypatch, failing):
    """Where two names cannot be exchanged."""
    monkeypatch.setattr("bort.files._exchange", lambda *_: False)
    folder = tmp_path / "result"
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    move, moves = os.replace, []

    def fail_once(source: Path, target: Path) -> None:
        moves.append(target)
        if len(moves) == failing:
            raise OSError("cannot move")
        move(source, target)

    monkeypatch.setattr("os.replace", fail_once)
    with pytest.raises(OSError, match="cannot move"), folder_aside(folder) as aside:
        (aside / "new.txt").write_text("new")
    assert names(tmp_path) == {"result"}
    assert (folder / "old.txt").read_text() == "old"


def test_a_folder_that_a_killed_process_had_set_aside_is_put_back(tmp_path, monkeypatch):
    """Where two names cannot be exchanged, between the two steps."""
    monkeypatch.setattr("bort.files._exchange", lambda *_: False)
    write_folder(tmp_path / "model", {"weights": b"old"})

    move, moves = os.replace, []

    def killed_after_the_first(source: Path, target: Path) -> None:
        moves.append(target)
        if len(moves) > 1:
            raise SystemExit
        move(source, target)

    with monkeypatch.context() as steps:
        steps.setattr("os.replace", killed_after_the_first)
        with pytest.raises(SystemExit):
            write_folder(tmp_path / "model", {"weights": b"new"})
    assert not (tmp_path / "model").exists()
    with pytest.raises(RuntimeError), folder_aside(tmp_path / "model"):
        raise RuntimeError("the next one fails")
    assert (tmp_path / "model" / "weights").read_bytes() == b"old"
    shutil.copytree(tmp_path / "model", tmp_path / ".model.replaced")  # as of a process that was killed a step later
    write_folder(tmp_path / "model", {"weights": b"new"})
    assert names(tmp_path) == {"model"}
    assert (tmp_path / "model" / "weights").read_bytes() == b"new"


def test_an_output_is_no_input_under_another_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in.csv").touch()
    Path("link.csv").symlink_to("in.csv")
    os.mkfifo("pipe")
    check_apart([("output", "-"), ("output", "out.csv"), ("errors", None)], ["in.csv", "-", None, "s3://b/in.csv"])
    check_apart([("output", "pipe"), ("output", "/dev/null")], ["pipe", "/dev/null"])
    for output, given in (("link.csv", "in.csv"), ("x/../in.csv", "link.csv"), ("s3://b/in.csv", "s3://b/in.csv")):
        with pytest.raises(BortError, match=f"--output: value '{output}': would replace a file that this command"):
            check_apart([("output", output)], [given])


def test_new_folder(tmp_path):
    for free in (tmp_path / "absent" / "deeper", tmp_path):
        assert new_folder(free) == free
    (tmp_path / "file").touch()
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(BortError) as caught:
            new_folder(str(taken))
        assert str(caught.value) == f"{taken}: already exists; name another --out, or remove it first"


def test_a_new_folder_is_not_in_an_object_store():
    """On this machine, `s3://bucket/a` would be the folder `a` in `bucket` in `s3:`."""
    with pytest.raises(BortError, match="not an address"):
        new_folder("s3://bucket/a")


def test_a_new_folder_may_be_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert new_folder("~/new") == tmp_path / "new"


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path):
    (tmp_path / ".a.json.0123abcd.part").write_text("half")
    (tmp_path / ".out.0123abcd.part").mkdir()
    (tmp_path / ".out.0123abcd.part" / "half").write_text("half")
    kept = [".a.json.0123abc.part", ".a.json.0123abcx.part", ".b.json.0123abcd.part", ".a.json.0123abcd"]
    for name in kept:
        (tmp_path / name).write_text("of somebody else")
    (tmp_path / ".a.json.deadbeef.part").symlink_to(tmp_path / kept[2])
    with write_aside(tmp_path / "a.json") as file:
        file.write("whole")
    with folder_aside(tmp_path / "out") as folder:
        (folder / "x").write_text("whole")
    assert left_behind(tmp_path) == sorted([*kept, ".a.json.deadbeef.part"])
    assert (tmp_path / "a.json").read_text() == "whole"


def test_what_another_one_writes_now_is_not_swept(tmp_path):
    with write_aside(tmp_path / "a") as first, folder_aside(tmp_path / "b") as folder:
        (folder / "x").write_text("1")
        with write_aside(tmp_path / "a") as second, folder_aside(tmp_path / "b") as other:
            (other / "x").write_text("2")
            second.write("2")
        first.write("1")
        assert (tmp_path / "a").read_text() == (tmp_path / "b" / "x").read_text() == "2"
    assert (tmp_path / "a").read_text() == (tmp_path / "b" / "x").read_text() == "1"
    assert not left_behind(tmp_path)
