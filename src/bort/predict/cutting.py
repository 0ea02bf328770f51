"""Cut texts far longer than a model's limit before tokenising them, where that gives the same tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bort.model.text_slices import text_slices

_CHARACTERS_PER_TOKEN = 8
"""More than texts usually have; a text that has more is tokenised whole."""
_MARGIN = 32
"""Tokens kept beyond the limit, so that a token of several words that the cut splits lies beyond the limit, too."""
_SHORTEST_REST = 0.25
"""A last window shorter than this share of the others says little, but would have the same weight."""
_NORMALIZERS = frozenset({"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "StripAccents"})
_PRE_TOKENIZERS = frozenset({"BertPreTokenizer", "Whitespace", "WhitespaceSplit"})


def encode(texts: Sequence[Any], backend: Any) -> Iterator[Any]:
    """Tokenise like `backend.encode_batch_fast`, but in slices, and only the needed beginning of long single texts.

    Args:
        texts: Strings, or pairs.
        backend: A `tokenizers.Tokenizer`.

    Returns:
        The library's encoding of each text.
    """
    limit = _most_characters(backend)
    wholes = iter(texts)
    for given in text_slices(text if limit is None else _beginning(text, limit) for text in texts):
        if len(given) == 1:  # avoids the overhead of the thread pool
            encodings = [backend.encode(*given[0]) if isinstance(given[0], tuple) else backend.encode(given[0])]
        else:
            encodings = backend.encode_batch_fast(given)
        # The wholes come last: a slice that has ended must not take one of the next slice.
        for part, encoding, whole in zip(given, encodings, wholes, strict=False):
            is_short = part is not whole and sum(map(len, encoding.overflowing)) < _MARGIN
            yield backend.encode(whole) if is_short else encoding


def windows(encoding: Any) -> list[Any]:
    """The consecutive windows of a text, each with the special tokens; a short last window is left out.

    Args:
        encoding: The library's encoding of a single text, with its overflow.
    """
    rows = [encoding, *encoding.overflowing]
    return rows[:-1] if len(rows) > 1 and len(rows[-1]) < _SHORTEST_REST * len(rows[0]) else rows


def _most_characters(backend: Any) -> int | None:
    """Number of characters that suffices; None if the beginning of a text may have other tokens than the whole text."""
    cut = backend.truncation
    if cut is None or cut["direction"].lower() != "right" or not _splits_at_blanks(backend):
        return None
    return _CHARACTERS_PER_TOKEN * (int(cut["max_length"]) + _MARGIN)


def _splits_at_blanks(backend: Any) -> bool:
    """Whether no token spans a blank or depends on the text after a blank."""
    normalizer, splitter = backend.normalizer, backend.pre_tokenizer
    if normalizer is not None and type(normalizer).__name__ not in _NORMALIZERS:
        return False
    kind = type(splitter).__name__
    return kind in _PRE_TOKENIZERS or (kind == "ByteLevel" and splitter.use_regex)


def _beginning(text: Any, most: int) -> Any:
    """A text up to a blank; the input itself if it is a pair, is short enough, or has no such blank."""
    if not isinstance(text, str) or len(text) <= most:
        return text
    place = text.rfind(" ", most // 2, most)
    return text if place < 0 else text[:place].rstrip() or text
