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


def test_the_table_of_commands_is_whole():
    table = (ROOT / "README.md").read_text("utf-8").partition("## Commands")[2]
    named = re.findall(r"\[`bort (\w+)`\]\(docs/", table.partition("\n## ")[0])
    assert sorted(named) == sorted(COMMANDS)


def test_the_readme_is_short_and_runs_the_demo_and_the_tests():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 130
    assert ["make", "demo"] in (made := [words for block in blocks(text, "sh") for words in commands(block)])
    assert ["make", "test"] in made


def test_flags_are_shown_with_hyphens():
    files = [*DOCUMENTS, ROOT / "CONTRIBUTING.md", *(ROOT / "recipes").glob("*.yaml")]
    # jsonargparse, `accelerate launch`, `torchrun` and `ray` have their own spellings.
    theirs = "print_config|multi_gpu|num_(?:processes|machines)|machine_rank|main_process_(?:ip|port)|nproc_per_node"
    for file in files:
        assert not re.findall(rf"--(?!{theirs})[a-z]+_\w+", file.read_text("utf-8")), file.name


def test_the_drawing_has_every_package():
    drawn = (ROOT / "docs" / "house.svg").read_text("utf-8")
    for part in Path(bort.__file__).parent.iterdir():
        if part.is_dir() and (part / "__init__.py").is_file():
            assert f">{part.name}</text>" in drawn


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


@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_has_every_flag(name):
    """`make pages` remakes it."""
    text = (ROOT / "docs" / "commands.md").read_text("utf-8")
    shown = set(
        re.findall(r"^\| `([\w-]+)` \|", text.partition(f"## bort {name}\n")[2].partition("\n## ")[0], re.MULTILINE)
    )
    _, arguments, positional = command(name)
    fields = [field.name for field in dataclasses.fields(arguments)]
    assert shown == {each.upper() if each in positional else f"--{each.replace('_', '-')}" for each in fields}
