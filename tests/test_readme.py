"""What the documents say can be done: commands parse, links lead to files, the Python examples name what exists."""

from __future__ import annotations

import ast
import dataclasses
import re
import shlex
from pathlib import Path

import pytest

import bort
from bort.__main__ import COMMANDS, command
from bort.cli.parser import parse

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_REDIRECTION = re.compile(r"(?:\d?>>?|<)")


def blocks(text: str, language: str) -> list[str]:
    """Content of the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[list[str]]:
    """Words of each simple command of a shell block, without comments, pipes and redirections."""
    found: list[list[str]] = []
    for line in block.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        skip = False
        for word in lexer:
            if skip:
                skip = False
            elif word in ("|", "||", "&&", ";", "&"):
                found.append(words)
                words = []
            elif _REDIRECTION.fullmatch(word):
                skip = True
            else:
                words.append(word)
        found.append(words)
    return [words for words in found if words]


def lines_of(document: Path) -> list[list[str]]:
    text = document.read_text("utf-8")
    return [words for block in blocks(text, "sh") for words in commands(block) if words[0] == "bort"]


CASES = [(document.name, words) for document in DOCUMENTS for words in lines_of(document)]


@pytest.mark.parametrize(("document", "words"), CASES, ids=[f"{name}: {shlex.join(words)}" for name, words in CASES])
def test_command_parses(document, words, monkeypatch):
    monkeypatch.chdir(ROOT)
    name, *line = words[1:]
    function, arguments, positional = command(name)
    assert isinstance(parse(name, function, arguments, positional, line), arguments)


def test_the_tour_shows_every_command():
    shown = {words[1] for name, words in CASES if name == "README.md"}
    assert shown | {"demo"} == COMMANDS.keys()
    assert "bort demo" in (ROOT / "README.md").read_text("utf-8")


def test_a_line_is_read_as_a_shell_reads_it():
    block = 'echo "a | b" | bort predict --model m > out.txt  # it\nbort info m && \\\n  bort info "n o"\n# bort x\n'
    assert [words for words in commands(block) if words[0] == "bort"] == [
        ["bort", "predict", "--model", "m"],
        ["bort", "info", "m"],
        ["bort", "info", "n o"],
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document):
    text = re.sub(r"^```.*?^```$", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    assert local
    assert not [target for target in local if not (document.parent / target).exists()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_examples_name_what_exists(document):
    for block in blocks(document.read_text("utf-8"), "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "bort":
                assert node.attr in bort.__all__
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and "Arguments" in node.func.attr:
                fields = {field.name for field in dataclasses.fields(getattr(bort, node.func.attr))}
                assert {keyword.arg for keyword in node.keywords} <= fields


def test_figures_have_their_place():
    text = (ROOT / "README.md").read_text("utf-8")
    assert text.count("<!-- FIGURES -->") == text.count("<!-- /FIGURES -->") == 1
    assert text.index("<!-- FIGURES -->") < text.index("<!-- /FIGURES -->")
