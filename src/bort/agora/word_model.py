"""Words from a masked language model for transforms: neighbours of a word, and words that fit into a gap."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from bort.agora.transforms import Transform, chain, delete, of_text, some, swap, synonyms, typo
from bort.errors import BortError
from bort.model.checkpoints import load, locate
from bort.model.modelling import BortForMaskedLM
from bort.model.tokenization import load_tokenizer

_NEIGHBOURS = 8
_LEAST_COSINE = 0.4
_LIKELIEST = 64
_LONGEST = 256
_WORD = re.compile(r"\S+")


class Language:
    """A masked LM as a source of words.

    Args:
        model: A folder, a hub name, or bort-nano.

    Raises:
        BortError: The model cannot be loaded, or it has no masked LM head, mask token or fast tokenizer.
    """

    def __init__(self, model: str = "bort-nano") -> None:
        self._model: Any = load(BortForMaskedLM, model).eval()
        self._tokenizer = load_tokenizer(locate(model))
        if self._tokenizer.mask_token_id is None or not self._tokenizer.is_fast:
            raise BortError("must be a masked LM with a mask token and a tokenizer.json", file=model)

    @cached_property
    def neighbours(self) -> Callable[[str], Sequence[str]]:
        """A function that returns the words with the nearest embeddings, nearest first; none for unknown words.

        All are whole words of the vocabulary, in lower case. The embeddings are centred, because a component that all
        words share carries no information.
        """
        ids = self._whole_words()
        words, place = list(ids), {word: number for number, word in enumerate(ids)}
        with torch.no_grad():
            vectors = self._model.get_input_embeddings().weight[list(ids.values())].float()
            vectors = torch.nn.functional.normalize(vectors - vectors.mean(0), dim=-1)

        def near(word: str) -> Sequence[str]:
            if word not in place:
                return ()
            if word not in known:
                cosines = vectors @ vectors[place[word]]
                cosines[place[word]] = -1.0
                best = cosines.topk(min(_NEIGHBOURS, len(words) - 1))
                known[word] = [
                    words[n]
                    for n, c in zip(best.indices.tolist(), best.values.tolist(), strict=True)
                    if c > _LEAST_COSINE
                ]
            return known[word]

        known: dict[str, list[str]] = {}
        return near

    def _whole_words(self) -> dict[str, int]:
        """Return words of three letters or more that are a single token after a space, with their IDs."""
        entries = {self._tokenizer.decode([number]).strip().lower() for number in range(len(self._tokenizer))}
        candidates = sorted(entry for entry in entries if len(entry) >= 3 and entry.isalpha())
        encoded = self._tokenizer([f" {word}" for word in candidates], add_special_tokens=False).input_ids
        return {word: ids[0] for word, ids in zip(candidates, encoded, strict=True) if len(ids) == 1}

    def infill(self, text: str, rng: random.Random) -> str:
        """Mask some words and sample others from the model's most likely predictions."""
        encoded = self._tokenizer(
            text, return_offsets_mapping=True, truncation=True, max_length=min(_LONGEST, self._most_tokens)
        )
        ids, offsets = torch.tensor([encoded.input_ids]), encoded.offset_mapping
        spans = [found.span() for found in _WORD.finditer(text)]
        tokens = [
            [n for n, (start, stop) in enumerate(offsets) if start < last and stop > first] for first, last in spans
        ]
        places = [place for place, its in enumerate(tokens) if its]
        chosen = [places[n] for n in some(places, rng)]
        masked = [n for place in chosen for n in tokens[place]]
        if not masked:
            return text
        ids[0, masked] = self._tokenizer.mask_token_id
        with torch.no_grad():
            logits = self._model(input_ids=ids).logits[0, masked].float()
        logits[:, self._tokenizer.all_special_ids] = -torch.inf
        likely = logits.softmax(-1).topk(min(_LIKELIEST, logits.shape[-1]), -1)
        drawn = {
            n: rng.choices(row.tolist(), weights.tolist())[0]
            for n, row, weights in zip(masked, likely.indices, likely.values.double(), strict=True)
        }
        for place in reversed(chosen):
            first, last = spans[place]
            word = self._tokenizer.decode([drawn[n] for n in tokens[place]]).strip()
            text = text[:first] + (word or text[first:last]) + text[last:]
        return text

    @cached_property
    def _most_tokens(self) -> int:
        from bort.predict.classifiers import positions

        return positions(self._model)


_TRANSFORMS: Mapping[str, Callable[[Callable[[], Language]], Transform]] = {
    "infill": lambda language: of_text(language().infill),
    "synonym": lambda language: of_text(synonyms(language().neighbours)),
    "swap": lambda _: swap,
    "delete": lambda _: delete,
    "typo": lambda _: typo,
}


def check_transforms(names: Sequence[str]) -> None:
    """Reject unknown transforms.

    Args:
        names: From `infill`, `synonym`, `swap`, `delete`, `typo`, or several of them joined by a +.

    Raises:
        BortError: A name is unknown.
    """
    for name in names:
        if not {*name.split("+")} <= {*_TRANSFORMS}:
            raise BortError(f"must be of {', '.join(_TRANSFORMS)}, joined by +", setting="transforms", value=name)


def transforms(names: Sequence[str], language: Callable[[], Language]) -> dict[str, Transform]:
    """Return transforms by name; those joined by a + are applied in sequence.

    Args:
        names: As for `check_transforms`.
        language: Loads the masked LM; called only if it is needed.
    """
    return {name: chain(*(_TRANSFORMS[part](language) for part in name.split("+"))) for name in names}
