"""What tells the code behind a result from any other code."""

from __future__ import annotations

import ast
import hashlib
import io
import subprocess
import tarfile
import tokenize
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def fingerprints(sources: Iterable[str], at: str = "") -> dict[str, str]:
    """Fingerprints of files and folders. A rewritten history, which renames commits, keeps them.

    Of Python files only what runs counts: neither comments nor docstrings nor blank lines.

    Args:
        sources: Paths from the root of the repository.
        at: The commit to look at; by default the files as they are now.

    Returns:
        A few digits for each path. Those of a path where nothing is are those of an empty folder.
    """
    return {source: _fingerprint(ROOT, source, at) for source in sources}


@cache
def _fingerprint(root: Path, source: str, at: str) -> str:
    contents = _committed(root, source, at) if at else _present(root, source)
    hashes = {name: hashlib.sha1(what_runs(name, content)).hexdigest() for name, content in contents.items()}
    return hashlib.sha256("".join(f"{name} {hashes[name]}\n" for name in sorted(hashes)).encode()).hexdigest()[:12]


def _committed(root: Path, source: str, at: str) -> dict[str, bytes]:
    archive = git("archive", "--format=tar", at, "--", source, tree=root)
    if archive.returncode:  # nothing of that name
        return {}
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        files = [(member.name, tar.extractfile(member)) for member in tar if member.isfile()]
        return {name: file.read() for name, file in files if file is not None}


def _present(root: Path, source: str) -> dict[str, bytes]:
    names = git("ls-files", "--", source, tree=root).stdout.decode().splitlines()
    return {name: (root / name).read_bytes() for name in names if (root / name).is_file()}


def what_runs(name: str, content: bytes) -> bytes:
    """A Python file without comments, docstrings and blank lines; any other file as it is.

    Args:
        name: Of the file.
        content: Of the file.
    """
    if not name.endswith(".py"):
        return content
    lines = content.decode().splitlines()
    for token in tokenize.tokenize(io.BytesIO(content).readline):
        if token.type == tokenize.COMMENT:
            lines[token.start[0] - 1] = token.line[: token.start[1]]
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for place in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[place] = ""
    return "\n".join(line.rstrip() for line in lines if line.strip()).encode()


def commit(tree: Path | None = None) -> str:
    """The commit that is checked out, with a + where the package differs from it; empty where there is no history.

    Args:
        tree: The checkout; this one by default.
    """
    known = git("rev-parse", "--short=10", "HEAD", tree=tree)
    if known.returncode:
        return ""
    changed = git("diff", "--quiet", "HEAD", "--", "src", tree=tree).returncode
    return known.stdout.decode().strip() + ("+" if changed else "")


def git(*words: str, tree: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """What git says, in a checkout; a failure where there is no git."""
    command = ["git", "-C", str(tree or ROOT), *words]
    try:
        return subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError as error:
        return subprocess.CompletedProcess(command, 127, b"", str(error).encode())
