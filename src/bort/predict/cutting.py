"""Texts far longer than a model takes are cut before they are tokenised, where that gives the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_CHARACTERS_PER_TOKEN = 8
"""More than texts have; where a text has more, it is tokenised whole."""
_MARGIN = 32
"""Tokens behind the cut, so that a token of several words that was cut through lies behind it, too."""
_SHORTEST_REST = 0.25
"""A last window that is shorter, in parts of the others, says little, and would count as much as they do."""
_NORMALIZERS = frozenset({"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "StripAccents"})
_PRE_TOKENIZERS = frozenset({"BertPreTokenizer", "Whitespace", "WhitespaceSplit"})


def encode(texts: Sequence[Any], backend: Any) -> list[Any]:
    """Tokenise as `backend.encode_batch_fast` does, but of long single texts no more than is needed.

    Args:
        texts: Strings, or pairs.
        backend: A `tokenizers.Tokenizer`.

    Returns:
        What the library gives. *Shape:* (texts,).
    """
    limit = _most_characters(backend)
    given = list(texts) if limit is None else [_beginning(text, limit) for text in texts]
    if len(given) == 1:  # without the way to other threads and back
        encodings = [backend.encode(*given[0]) if isinstance(given[0], tuple) else backend.encode(given[0])]
    else:
        encodings = backend.encode_batch_fast(given)
    for place, (whole, part) in enumerate(zip(texts, given, strict=True)):
        if part is not whole and sum(map(len, encodings[place].overflowing)) < _MARGIN:
            encodings[place] = backend.encode(whole)
    return list(encodings)


def windows(encoding: Any) -> list[Any]:
    """A text as one row after another, each with the special tokens; a short rest at the end is left out.

    Args:
        encoding: What the library gives of a single text that it has cut.
    """
    rows = [encoding, *encoding.overflowing]
    return rows[:-1] if len(rows) > 1 and len(rows[-1]) < _SHORTEST_REST * len(rows[0]) else rows


def _most_characters(backend: Any) -> int | None:
    """Characters of a text that are enough; None where a beginning of it may have other tokens than the whole."""
    cut = backend.truncation
    if cut is None or cut["direction"].lower() != "right" or not _splits_at_blanks(backend):
        return None
    return _CHARACTERS_PER_TOKEN * (int(cut["max_length"]) + _MARGIN)


def _splits_at_blanks(backend: Any) -> bool:
    """Whether no token reaches across a blank, and none depends on what stands behind one."""
    normalizer, splitter = backend.normalizer, backend.pre_tokenizer
    if normalizer is not None and type(normalizer).__name__ not in _NORMALIZERS:
        return False
    kind = type(splitter).__name__
    return kind in _PRE_TOKENIZERS or (kind == "ByteLevel" and splitter.use_regex)


def _beginning(text: Any, most: int) -> Any:
    """A text up to a blank, or the text itself where it is a pair, is no longer, or has no blank there."""
    if not isinstance(text, str) or len(text) <= most:
        return text
    place = text.rfind(" ", most // 2, most)
    return text if place < 0 else text[:place].rstrip() or text
