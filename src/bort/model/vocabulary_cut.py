"""A tokenizer cut to the entries that a corpus uses, with the ids of the full one for each that is kept.

For a multilingual encoder the word embedding is most of the model, and a corpus uses little of it. WordPiece,
byte-level BPE and Unigram (SentencePiece) are cut so that no character that the full tokenizer knows becomes unknown:
what spells the characters stays, whatever its frequency.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError
from bort.model.tokenization import with_backend

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_CHUNK = 2_000
_BYTE = re.compile("<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class CutVocabulary:
    """A smaller tokenizer and where its entries come from.

    Args:
        tokenizer: Special tokens, normalisation and templates are the full one's.
        kept: The full tokenizer's id of each of its ids, ascending. *Shape:* (entries,).
        covered: Share of the counted tokens whose entry is kept.
    """

    tokenizer: PreTrainedTokenizerFast
    kept: NDArray[np.int64]
    covered: float


def count_tokens(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> Counter[int]:
    """How often each id occurs in some texts, special tokens that are put around them not counted."""
    counts: Counter[int] = Counter()
    lines = iter(texts)
    while chunk := list(islice(lines, _CHUNK)):
        for row in tokenizer(chunk, add_special_tokens=False, verbose=False).input_ids:
            counts.update(row)
    return counts


def cut_vocabulary(
    tokenizer: PreTrainedTokenizerFast, counts: Mapping[int, int], size: int | None = None
) -> CutVocabulary:
    """Cut a tokenizer to its most frequent entries.

    What always stays: special and added tokens; in WordPiece each character, at the start of a word and within it; in
    BPE all that no merge makes (the 256 bytes, or an alphabet); in Unigram each character and each byte piece. An entry
    of several characters stays too where one of them has no entry of its own. The rest is taken by frequency, ties by
    id; a BPE entry counts for those that it is merged from, too, which therefore stay.

    Args:
        tokenizer: A fast tokenizer; it is left as it is.
        counts: Occurrences by id (`count_tokens`).
        size: Entries that remain; by default all that occur.

    Raises:
        BortError: A tokenizer of another kind, or a size that what always stays exceeds.

    Example:
        >>> cut = cut_vocabulary(tokenizer, count_tokens(tokenizer, texts), 16_384)  # doctest: +SKIP
        >>> student = shrink(teacher, SubShape(layers=3), kept=cut.kept)  # doctest: +SKIP
    """
    from tokenizers import Tokenizer

    described = json.loads(tokenizer.backend_tokenizer.to_str())
    model = described["model"]
    kinds = {"WordPiece": _word_piece, "BPE": _bpe, "Unigram": _unigram}
    if model.get("type") not in kinds:
        raise BortError(f"must be a tokenizer of one of {', '.join(kinds)}", value=model.get("type"))
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    needed, parts = kinds[model["type"]](model)
    needed |= {entry["id"] for entry in described["added_tokens"]}
    if size is not None and size < len(needed):
        raise BortError(f"must be at least {len(needed)}: the special tokens and the characters", value=size)
    kept = _chosen(sorted(vocabulary.values()), counts, needed, parts, size)
    new_id = {old: new for new, old in enumerate(kept)}
    _renumber(described, new_id)
    total = sum(counts.values())
    covered = sum(number for old, number in counts.items() if old in new_id) / total if total else 1.0
    backend = Tokenizer.from_str(json.dumps(described, ensure_ascii=False))
    return CutVocabulary(with_backend(tokenizer, backend), np.array(kept, dtype=np.int64), covered)


Parts = Mapping[int, tuple[int, ...]]
"""The entries that an entry is merged from, by id."""


def _chosen(
    all_ids: list[int], counts: Mapping[int, int], needed: set[int], parts: Parts, size: int | None
) -> list[int]:
    """The ids that stay, ascending.

    An entry counts as often as it occurs by itself or within one that is merged from it, so that what an entry is made
    of is never rarer than itself; between equals it comes first.
    """
    steps: dict[int, int] = {}  # merges one upon another
    for number in all_ids:
        _count_steps(number, parts, steps)
    carried = {number: counts.get(number, 0) for number in all_ids}
    for number in sorted(parts, key=lambda number: -steps[number]):
        for part in set(parts[number]):
            carried[part] += carried[number]
    others = [number for number in all_ids if number not in needed]
    if size is None:
        return sorted([*needed, *(number for number in others if carried[number])])
    others.sort(key=lambda number: (-carried[number], steps[number], number))
    return sorted([*needed, *others[: size - len(needed)]])


def _count_steps(number: int, parts: Parts, steps: dict[int, int]) -> None:
    waiting = [number]
    while waiting:
        entry = waiting[-1]
        unknown = [part for part in parts.get(entry, ()) if part not in steps]
        if not unknown:
            steps[entry] = 1 + max((steps[part] for part in parts.get(entry, ())), default=-1)
            waiting.pop()
        waiting += unknown


def _word_piece(model: dict[str, Any]) -> tuple[set[int], Parts]:
    prefix = model["continuing_subword_prefix"]
    vocabulary: dict[str, int] = model["vocab"]

    def spelled(entry: str) -> list[str]:
        """The entries that would spell an entry character by character."""
        inner = entry.startswith(prefix) and len(entry) > len(prefix)
        characters = entry.removeprefix(prefix) if inner else entry
        return [(prefix if inner or place else "") + character for place, character in enumerate(characters)]

    needed = {number for entry, number in vocabulary.items() if _lone(spelled(entry), vocabulary)}
    return needed, {}


def _unigram(model: dict[str, Any]) -> tuple[set[int], Parts]:
    vocabulary = {piece: number for number, (piece, _) in enumerate(model["vocab"])}
    if model.get("byte_fallback"):  # bytes spell whatever has no piece of its own
        needed = {number for piece, number in vocabulary.items() if len(piece) == 1 or _BYTE.fullmatch(piece)}
    else:
        needed = {number for piece, number in vocabulary.items() if _lone(list(piece), vocabulary)}
    if model.get("unk_id") is not None:
        needed.add(model["unk_id"])
    return needed, {}


def _lone(spelled: list[str], vocabulary: Mapping[str, int]) -> bool:
    """A single character, or an entry that single characters could not spell."""
    return len(spelled) == 1 or any(part not in vocabulary for part in spelled)


def _bpe(model: dict[str, Any]) -> tuple[set[int], Parts]:
    vocabulary: dict[str, int] = model["vocab"]
    parts: dict[int, tuple[int, ...]] = {}
    for left, right, made in _merges(model):
        parts.setdefault(vocabulary[made], (vocabulary[left], vocabulary[right]))
    return {number for number in vocabulary.values() if number not in parts}, parts


def _merges(model: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Both symbols of each merge and what it makes."""
    prefix = model.get("continuing_subword_prefix") or ""
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield left, right, left + right.removeprefix(prefix)


def _renumber(described: dict[str, Any], new_id: Mapping[int, int]) -> None:
    """Put the new ids, in place, wherever a tokenizer's description has one."""
    model = described["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [entry for number, entry in enumerate(model["vocab"]) if number in new_id]
        if model.get("unk_id") is not None:
            model["unk_id"] = new_id[model["unk_id"]]
    else:
        if model["type"] == "BPE":
            whole: dict[str, int] = model["vocab"]
            model["merges"] = [
                [left, right]
                for left, right, made in _merges(model)
                if all(whole[symbol] in new_id for symbol in (left, right, made))
            ]
        model["vocab"] = {entry: new_id[old] for entry, old in model["vocab"].items() if old in new_id}
    for entry in described["added_tokens"]:
        entry["id"] = new_id[entry["id"]]
    described["padding"] = described["truncation"] = None
    _renumber_template(described.get("post_processor"), new_id)


def _renumber_template(template: dict[str, Any] | None, new_id: Mapping[int, int]) -> None:
    if template is None:
        return
    for inner in template.get("processors", ()):
        _renumber_template(inner, new_id)
    for name in ("sep", "cls"):
        if isinstance(template.get(name), list):
            template[name] = [template[name][0], new_id[template[name][1]]]
    special = template.get("special_tokens")
    for entry in special.values() if isinstance(special, dict) else ():
        entry["ids"] = [new_id[old] for old in entry["ids"]]
