"""Progress goes to standard error, and results stay results."""

from __future__ import annotations

import io
import sys
import threading

import pytest

from bort import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def test_results_are_not_taken_along_by_the_bar(monkeypatch):
    """With standard error on a terminal and standard output in a file, what is printed meanwhile is for the file."""
    out, err = io.StringIO(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with progress.bar("working", 10) as shown:
        shown.update(3, "[bold]note[/red] :cat:")
        print("a result")
        progress.out().print("another")
        progress.console().print("a remark")
    assert out.getvalue() == "a result\nanother\n"
    assert "a remark" in err.getvalue()
    assert "a result" not in err.getvalue()


def test_a_note_is_no_markup(monkeypatch):
    err = Terminal()
    monkeypatch.setattr(sys, "stderr", err)
    with progress.bar("[/x] working", 10) as shown:
        shown.update(10, "[bold]note[/red]")
        shown._live.refresh()
    assert "[/x] working" in err.getvalue()
    assert "[bold]note[/red]" in err.getvalue()


@pytest.mark.parametrize("colours", [None, "1"])
def test_without_a_terminal_a_line_now_and_then(monkeypatch, capsys, colours):
    now = 100.0
    if colours:
        monkeypatch.setenv("FORCE_COLOR", colours)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.bar("working", 200) as shown:
        for step in range(1, 41):
            now += 1
            shown.update(step, "[note]")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "working: 8 % after 15 s [note]\nworking: 15 % after 30 s [note]\n"


def test_without_a_total(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.bar("working") as shown:
        now = 20.0
        shown.update(5, "5 rows")
    assert capsys.readouterr().err == "working: after 20 s 5 rows\n"


def test_the_bar_ends_with_the_block(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(KeyboardInterrupt), progress.bar("working", 1) as shown:
        raise KeyboardInterrupt
    assert not shown._live.live.is_started


def test_a_bar_within_another_stands_below_it(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress.bar("outer", 2) as outer:
        with progress.bar("inner", 5) as inner:
            assert inner._live is outer._live
            assert [task.description for task in outer._live.tasks] == ["outer", "inner"]
        assert [task.description for task in outer._live.tasks] == ["outer"]
        assert outer._live.live.is_started
    assert not outer._live.live.is_started
    with progress.bar("next", 1) as after:
        assert after._live is not outer._live


def test_items_in_parts(monkeypatch, capsys):
    now, given = 0.0, []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    for part in progress.in_parts("reading", range(600)):
        given.append(part)
        now += 20
    assert [item for part in given for item in part] == [*range(600)]
    assert len(given) == 3
    assert capsys.readouterr().err.splitlines()[0] == "reading: 43 % after 20 s"
    assert [*progress.in_parts("reading", [])] == []


def test_a_bar_of_a_task_that_is_often_short_comes_late(monkeypatch):
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress.bar("outer", 2), progress.bar("inner", 5, after=1.0) as inner:
        inner.update(1)
        assert [task.visible for task in inner._live.tasks] == [True, False]
        now += 1.5
        inner.update(2)
        assert [task.visible for task in inner._live.tasks] == [True, True]


def test_items_in_batches(monkeypatch, capsys):
    now, given = 0.0, []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    for batch in progress.in_batches("reading", [[2, 0], [1]]):
        given.append(batch)
        now += 20
    assert given == [[2, 0], [1]]
    assert capsys.readouterr().err == "reading: 67 % after 20 s\nreading: 100 % after 40 s\n"


def test_what_is_printed_is_no_markup(capsys):
    for console in (progress.out(), progress.console()):
        console.print("[bold]a[/red] :cat: 'x' 3")
    said = capsys.readouterr()
    assert said.out == said.err == "[bold]a[/red] :cat: 'x' 3\n"


def test_a_sentence_stays_in_one_line(capsys):
    progress.say("a sentence of [many] words " * 20)
    assert capsys.readouterr() == ("", "a sentence of [many] words " * 20 + "\n")


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_a_silent_bar_says_nothing(monkeypatch, stream):
    now, err = 100.0, stream()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    monkeypatch.setattr(sys, "stderr", err)
    with progress.bar("working", 10, silent=True) as shown:
        now += 60
        shown.update(5)
    assert err.getvalue() == ""


def test_a_reader_that_has_gone_ends_the_output_as_it_does_for_print(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(BrokenPipeError):
        progress.out().print("a table")


def test_what_one_thread_silences_others_still_hear(capfd):
    """Silences that overlap in time, as estimators' in threads do, leave things as they were."""
    inside, done = threading.Barrier(2), threading.Event()

    def silent():
        with progress.verbose(False):
            inside.wait()
            progress.console().print("not to be heard")
            done.wait()

    thread = threading.Thread(target=silent)
    thread.start()
    with progress.verbose(False):
        inside.wait()
    progress.console().print("heard")
    done.set()
    thread.join()
    progress.console().print("heard again")
    assert capfd.readouterr().err == "heard\nheard again\n"
