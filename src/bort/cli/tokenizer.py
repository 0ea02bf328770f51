"""`bort tokenizer`: train a vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from bort.bounds import AtLeast, AtMost, validate
from bort.cli.results import FolderResult

POSITIONAL = ("texts",)


@dataclass
class TokenizerArguments:
    """Arguments of `bort tokenizer`.

    Example:
        >>> TokenizerArguments(["texts.txt"], "tokenizer").vocab_size
        16384
    """

    texts: list[str]
    """text files with one paragraph per line (also .gz, .xz, .bz2, .zst)"""
    out: str
    """folder for the tokenizer"""
    vocab_size: Annotated[int, AtMost(1_000_000)] = 16_384
    """vocabulary size, including the 256 bytes and 5 special tokens"""
    lowercase: bool = False
    """lowercase the text first, which suits a small vocabulary"""
    min_frequency: Annotated[int, AtLeast(1), AtMost(2**32)] = 2
    """minimum number of occurrences of a merge"""


def tokenizer(arguments: TokenizerArguments) -> FolderResult:
    """Train a byte-level BPE tokenizer like RoBERTa's and save it.

    Example:
        >>> import tempfile
        >>> import bort
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "mine.txt").write_text("Where is my parcel?\\nMy parcel is late.\\n" * 9)
        ...     made = bort.tokenizer(bort.TokenizerArguments([f"{folder}/mine.txt"], f"{folder}/made", vocab_size=300))
        ...     (made.out / "tokenizer.json").is_file()
        True
    """
    from bort.data.tables.lines import read_all_lines, total_bytes
    from bort.data.tables.readers import check_plain
    from bort.errors import BortError
    from bort.files import new_folder
    from bort.model.checkpoints import save_tokenizer
    from bort.model.tokenization import train_tokenizer
    from bort.progress import bar, out

    validate(arguments)
    for path in arguments.texts:
        check_plain(path)
    try:
        new_folder(arguments.out).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BortError(f"cannot be made: {error.strerror or error}", file=arguments.out) from None
    words = False
    total = total_bytes(arguments.texts)
    with bar("reading", total) as shown:

        def lines() -> Iterator[str]:
            nonlocal words
            for line in read_all_lines(arguments.texts, on_bytes=shown.update):
                words = words or bool(line.strip())
                yield line
            shown.update(total, "counting merges")

        trained = train_tokenizer(
            lines(),
            vocab_size=arguments.vocab_size,
            lowercase=arguments.lowercase,
            min_frequency=arguments.min_frequency,
        )
    if not words:
        raise BortError("there must be text to learn from", value=arguments.texts)
    save_tokenizer(trained, arguments.out)
    out().print(f"{arguments.out}: {len(trained):,} entries", soft_wrap=True)
    return FolderResult({"entries": len(trained)}, Path(arguments.out))
