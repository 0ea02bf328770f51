"""A corpus is known by the text that it was made from, not by the name of a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bort.data.corpus import sources as sources_module
from bort.data.corpus.build import build_corpus, check_made_from
from bort.data.corpus.corpus import Corpus
from bort.errors import BortError


@pytest.fixture
def source(tmp_path, sentences) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(sentences), "utf-8")
    return path


@pytest.fixture
def corpus(source, tiny_tokenizer, tmp_path) -> Corpus:
    return build_corpus([str(source)], tiny_tokenizer, tmp_path / "c", valid_share=0.1)


def test_the_same_text_is_known(corpus, source, tmp_path, monkeypatch):
    """Without reading it where size and time say enough; by its digest where it was copied or touched."""
    copy = tmp_path / "copy" / "other.txt"
    copy.parent.mkdir()
    copy.write_bytes(source.read_bytes())
    check_made_from(corpus, [str(copy)], 0.1)
    os.utime(source, ns=(1, 1))
    check_made_from(corpus, [str(source)], 0.1)
    os.utime(source, ns=(1, corpus.info.sources[0]["modified_ns"]))
    monkeypatch.setattr(sources_module, "_digest", lambda file: pytest.fail("was read"))
    check_made_from(corpus, [str(source)], 0.1)


@pytest.mark.parametrize("edit", [lambda text: text + b".", lambda text: text.replace(b"sold", b"held", 1)])
def test_an_edited_text_is_another(corpus, source, edit):
    source.write_bytes(edit(source.read_bytes()))
    with pytest.raises(BortError, match=r"c: value .*: holds the corpus of text\.txt as it was"):
        check_made_from(corpus, [str(source)], 0.1)


def test_another_file_of_the_name_is_another(corpus, source, tmp_path):
    other = tmp_path / "other" / source.name
    other.parent.mkdir()
    other.write_text("Nothing of the kind.\n")
    with pytest.raises(BortError, match="as it was when it was tokenised"):
        check_made_from(corpus, [str(other)], 0.1)
    with pytest.raises(BortError, match=r"holds the corpus of text\.txt; name another --corpus-cache"):
        check_made_from(corpus, [str(source), str(other)], 0.1)
    with pytest.raises(BortError, match="no such file"):
        check_made_from(corpus, [str(tmp_path / "absent.txt")], 0.1)
    with pytest.raises(BortError, match="as it was when"):
        check_made_from(corpus, ["owner/name:train"], 0.1)


@pytest.mark.parametrize("name", ["texts/12:30.txt", "a/b/c:train", "C:/texts/a"])
def test_a_file_that_is_not_there_is_not_looked_for_on_the_hub(name):
    assert not sources_module.is_hub(name)
    with pytest.raises(BortError, match="no such file"):
        sources_module.SourceState.of(name)


def test_a_file_with_the_name_of_a_data_set_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sources_module.is_hub("owner/name@en:train")
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "name@en:train").write_text("A text.\n")
    assert not sources_module.is_hub("owner/name@en:train")


def test_another_share_is_told(corpus, source):
    with pytest.raises(BortError, match=r"--valid-share: value 0\.2: the corpus in .* was made with 0\.1"):
        check_made_from(corpus, [str(source)], 0.2)


def test_a_text_that_is_edited_while_it_is_read(source, tiny_tokenizer, tmp_path):
    def edit(done: int, tokens: int) -> None:
        os.utime(source, ns=(1, 1))

    with pytest.raises(BortError, match=r"text\.txt: changed while it was read"):
        build_corpus([str(source)], tiny_tokenizer, tmp_path / "c", progress=edit)
    assert not (tmp_path / "c").exists()
    assert not (tmp_path / ".c.tokenising").exists()
