"""Generators of new texts near mistakes: a command, or an LLM."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from bort.agora.answer_cache import AnswerCache, digest
from bort.agora.command_lines import LineCommand
from bort.agora.command_teacher import asked_row
from bort.agora.llm.paid_answers import PaidAnswers
from bort.agora.llm.writing import WritingPrompt, read_texts
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.progress import bar


class Generator(Protocol):
    """Writes texts, or pairs, near mistakes."""

    def __call__(
        self, mistakes: Sequence[Example], answers: Sequence[str | None], rng: random.Random
    ) -> list[list[Example]]:
        """Return new, unlabelled examples for each mistake.

        Args:
            mistakes: The mistakes, with their true labels.
            answers: A model's wrong prediction for each, if known.
            rng: Random generator; a different state requests different texts.
        """


class CommandGenerator:
    """A command that reads one JSON object per line, and writes one JSON list of new texts per line.

    It reads `text` (and `text_b`), `label` (the truth), `answer` (a model's wrong prediction, or null) and `count`. For
    pairs it writes objects with `text` and `text_b`.

    Args:
        command: The command.
        count: Texts to write per mistake.
        batch: Maximum number of mistakes per run of the command.
        folder: Folder of the cache, which is written after each batch.

    Raises:
        BortError: The command line names no program, or the folder cannot be used.
    """

    def __init__(self, command: LineCommand, count: int, batch: int, folder: Path) -> None:
        command.words()
        self._command, self._count, self._batch = command, count, batch
        self._cache = AnswerCache(folder, {"generator": command.line, "count": count})

    def __call__(
        self, mistakes: Sequence[Example], answers: Sequence[str | None], rng: random.Random
    ) -> list[list[Example]]:
        """See `Generator.__call__`.

        Raises:
            BortError: The command fails, or writes invalid output.
        """
        rows = [asked_of_mistake(m, a) | {"count": self._count} for m, a in zip(mistakes, answers, strict=True)]
        names = _names(rows, rng)
        wanted = dict(zip(names, zip(mistakes, rows, strict=True), strict=True))
        with self._cache.alone():
            known = self._cache.known(wanted)
            new = [name for name in wanted if name not in known]
            with bar(f"{self._command.line} writes", len(new)) as shown:
                for start in range(0, len(new), self._batch):
                    part = new[start : start + self._batch]
                    lines = self._command([wanted[name][1] for name in part])
                    for place, (name, line) in enumerate(zip(part, lines, strict=True), 1):
                        known[name] = self._read(line, place, wanted[name][0])
                    self._cache.keep({name: known[name] for name in part})
                    shown.update(start + len(part))
        return [as_examples(m, known[name], self._count) for m, name in zip(mistakes, names, strict=True)]

    def _read(self, line: str, place: int, mistake: Example) -> list[Any]:
        try:
            found = json.loads(line) if line.strip() else []
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, list) or not all(_fits(item, mistake) for item in found):
            what = "texts" if mistake.text_b is None else "objects with text and text_b"
            rule = f"line {place} of its output: must be a JSON list of {what}"
            raise BortError(rule, setting=self._command.setting, value=line)
        return found


class ChatGenerator:
    """An LLM that writes new texts.

    Args:
        prompt: Builds the prompts.
        answers: The LLM's answers, cached.
    """

    def __init__(self, prompt: WritingPrompt, answers: PaidAnswers) -> None:
        self.answers, self._prompt = answers, prompt

    def __call__(
        self, mistakes: Sequence[Example], answers: Sequence[str | None], rng: random.Random
    ) -> list[list[Example]]:
        """See `Generator.__call__`.

        Raises:
            BortError: The server rejects all requests, or fails repeatedly.
        """
        names = _names([asked_of_mistake(m, a) for m, a in zip(mistakes, answers, strict=True)], rng)
        prompts = {
            name: self._prompt.messages(mistake, answer)
            for name, mistake, answer in zip(names, mistakes, answers, strict=True)
        }
        found = self.answers.get(prompts, read_texts, "writes")
        count = self._prompt.count
        return [as_examples(m, found[name].get("answer", []), count) for m, name in zip(mistakes, names, strict=True)]


def asked_of_mistake(mistake: Example, answer: str | None) -> dict[str, Any]:
    """Return what a generator gets for a mistake."""
    return {**asked_row(mistake), "label": mistake.label, "answer": answer}


def as_examples(mistake: Example, items: Sequence[Any], count: int) -> list[Example]:
    """Convert at most `count` texts, or objects with two texts, to examples, skipping blank and ill-formed ones."""
    fitting = [item for item in items if _fits(item, mistake) and _is_unicode(item)][:count]
    if mistake.text_b is None:
        return [Example(item.strip()) for item in fitting if item.strip()]
    pairs = [(item["text"].strip(), item["text_b"].strip()) for item in fitting]
    return [replace(Example(a), text_b=b) for a, b in pairs if a and b]


def _fits(item: Any, mistake: Example) -> bool:
    if mistake.text_b is None:
        return isinstance(item, str)
    return isinstance(item, dict) and all(isinstance(item.get(name), str) for name in ("text", "text_b"))


def _is_unicode(item: Any) -> bool:
    """Whether an item holds no lone surrogates, which JSON can escape but UTF-8 cannot encode."""
    texts = [item] if isinstance(item, str) else [item["text"], item["text_b"]]
    try:
        " ".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def _names(rows: Sequence[dict[str, Any]], rng: random.Random) -> list[str]:
    variant = rng.getrandbits(32)
    return [digest({**row, "variant": variant}) for row in rows]
