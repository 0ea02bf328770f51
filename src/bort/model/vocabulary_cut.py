"""Cuts a tokenizer to the entries that a corpus uses, and records the original id of each.

The word embedding is most of a multilingual encoder, and a corpus uses little of it. WordPiece, byte-level BPE and
Unigram (SentencePiece) are cut so that no character that the full tokenizer knows becomes unknown: entries needed to
spell characters are kept, whatever their frequency.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bort.errors import BortError
from bort.model.text_slices import text_slices
from bort.model.tokenization import with_backend

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_BYTE = re.compile("<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class CutVocabulary:
    """A smaller tokenizer and the origin of its entries.

    Args:
        tokenizer: The cut tokenizer, with the full one's special tokens, normalisation and templates.
        kept: The original id of each entry, ascending. *Shape:* (entries,).
        covered: Share of the counted tokens whose entry is kept.
    """

    tokenizer: PreTrainedTokenizerFast
    kept: NDArray[np.int64]
    covered: float


def count_tokens(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> Counter[int]:
    """Count how often each id occurs in some texts, without the special tokens added around them."""
    counts: Counter[int] = Counter()
    for part in text_slices(texts):
        for row in tokenizer(part, add_special_tokens=False, verbose=False).input_ids:
            counts.update(row)
    return counts


def cut_vocabulary(
    tokenizer: PreTrainedTokenizerFast, counts: Mapping[int, int], size: int | None = None
) -> CutVocabulary:
    """Cut a tokenizer to its most frequent entries.

    Always kept: special and added tokens; in WordPiece each character, at the start of a word and within it; in BPE
    each entry that no merge makes (the 256 bytes, or an alphabet); in Unigram each character and each byte piece.
    Entries of several characters, one of which has no entry of its own, are kept too. The rest is chosen by frequency,
    ties by id; a BPE entry also counts for the entries it is merged from, so that these are kept with it.

    Args:
        tokenizer: A fast tokenizer; it is left unchanged.
        counts: Occurrences by id (`count_tokens`).
        size: Number of entries to keep; by default all that occur.

    Raises:
        BortError: The tokenizer is of another kind, or `size` is too small for the entries that are always kept.

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
    """Return the ids to keep, ascending.

    An entry counts as often as it occurs by itself or within one that is merged from it, so that the parts of an entry
    are never rarer than the entry; on ties the parts come first.
    """
    steps: dict[int, int] = {}  # depth of merges
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
        """Return the entries that would spell an entry character by character."""
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
    """Whether an entry is a single character, or cannot be spelled by single characters."""
    return len(spelled) == 1 or any(part not in vocabulary for part in spelled)


def _bpe(model: dict[str, Any]) -> tuple[set[int], Parts]:
    vocabulary: dict[str, int] = model["vocab"]
    parts: dict[int, tuple[int, ...]] = {}
    for left, right, made in _merges(model):
        parts.setdefault(vocabulary[made], (vocabulary[left], vocabulary[right]))
    return {number for number in vocabulary.values() if number not in parts}, parts


def _merges(model: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield both symbols of each merge and the result."""
    prefix = model.get("continuing_subword_prefix") or ""
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield left, right, left + right.removeprefix(prefix)


def _renumber(described: dict[str, Any], new_id: Mapping[int, int]) -> None:
    """Replace all ids in a tokenizer's description by the new ones, in place."""
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
