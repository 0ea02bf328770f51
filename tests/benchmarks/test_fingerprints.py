"""A result is stale where what runs has changed since, and only there."""

from __future__ import annotations

import subprocess

import pytest
from benchmarks.fingerprints import commit, fingerprints, what_runs

from benchmarks import fingerprints as module


@pytest.fixture
def repository(tmp_path, monkeypatch):
    def git(*words):
        name = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        return subprocess.run(["git", "-C", tmp_path, *name, *words], check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("1")
    (tmp_path / "b.py").write_text("1")
    git("add", ".")
    git("commit", "-qm", "one")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


def now(*sources):
    module._fingerprint.cache_clear()
    return fingerprints(sources)


def test_a_fingerprint_is_that_of_the_content_alone(repository):
    first, at_first = now("src", "b.py"), commit()
    assert len({*first.values()}) == 2
    assert fingerprints(["src", "b.py"], at_first) == first
    (repository / "b.py").write_text("2")
    second = now("src", "b.py")
    assert (second["src"] == first["src"], second["b.py"] == first["b.py"]) == (True, False)
    (repository / "src" / "a.py").write_text("2")
    assert now("src/a.py") != fingerprints(["src/a.py"], at_first)
    (repository / "src" / "a.py").write_text("1")
    assert now("src") == {"src": first["src"]}


def test_what_is_not_there_has_a_fingerprint_too(repository):
    gone = now("none")
    assert fingerprints(["none"], commit()) == gone
    assert gone["none"] != now("src")["src"]


def test_uncommitted_code_is_marked(repository):
    assert not commit().endswith("+")
    (repository / "src" / "a.py").write_text("2")
    assert commit().endswith("+")


SAID = '''"""What it is."""

LEAST = 1  # of them
"""Why one."""


def half(number):
    """Half of it.

    More about it.
    """
    # no rounding
    return number / 2, "# no comment"
'''
BARE = '''LEAST = 1
def half(number):
    return number / 2, "# no comment"'''


def test_words_do_not_count():
    assert what_runs("a.py", SAID.encode()).decode() == BARE
    assert what_runs("a.md", SAID.encode()).decode() == SAID


def test_a_string_that_runs_counts():
    one, other = (what_runs("a.py", f"x = {text!r}\n".encode()) for text in ("a", "b"))
    assert one != other


def test_other_words_leave_the_fingerprint(repository):
    (repository / "src" / "a.py").write_text("x = 1  # one\n")
    first = now("src")
    (repository / "src" / "a.py").write_text('"""A number."""\n\nx = 1\n')
    assert now("src") == first
    (repository / "src" / "a.py").write_text("x = 2\n")
    assert now("src") != first
