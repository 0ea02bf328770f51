"""Casts official rows to what Bort reads: texts, pairs of texts, and texts with choices.

The released code casts every task as a classification of one text or a pair; `released` does the same. `improved`
scores COPA's and RACE's choices one by one with one model, and marks the words that WSC and WiC ask about. The rest is
the same in both: MultiRC has one pair per answer, ReCoRD one per entity (arXiv 2010.10499, and `data/` of alexa/bort).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from bort.data.tables.examples import Example
from bort.tasks.suites.records import Record
from bort.tasks.suites.task_entry import Cast, SuiteTask

_TAGS = re.compile(r"<b>\s*Sent(?:ence)?\s*\d+:\s*</b>|<br\s*/?>|</?b>")
_GAP = re.compile("_+")
_WORD = re.compile(r"\S+")
_LINKS = {"cause": "because", "effect": "so"}


@dataclass(frozen=True, slots=True)
class CastRow:
    """One example for a model, with its official numbers.

    Attributes:
        example: The texts, and the label where it is known.
        idx: Official numbers: of the row; of passage, question and answer (MultiRC); of passage and question (ReCoRD,
            RACE). Rows that share the first number belong together and are never split.
        pair: Number that the two rows of a minimal pair share (AX-g), if the file gives it.
        candidate: The entity that the row is about (ReCoRD).
        answers: The right entities (ReCoRD).
    """

    example: Example
    idx: tuple[int | str, ...]
    candidate: str = ""
    answers: tuple[str, ...] = ()
    pair: int | None = None


def cast_record(task: SuiteTask, record: Record, cast: Cast) -> Iterator[CastRow]:
    """Cast one official row.

    Args:
        task: The task of the row.
        record: The row from the official file or the hub.
        cast: `improved` or `released`.

    Raises:
        BortError: A field is absent or wrong; the error names the file and line.
    """
    yield from _CASTS[task.shape](task, record, cast)


def _texts(task: SuiteTask, record: Record, cast: Cast) -> Iterator[CastRow]:
    # Two of QQP's official pairs lack their second question.
    text_b = record.text(*task.text_b, blank=True) if task.text_b else None
    text = record.text(*task.text, blank=bool(text_b))
    label = record.maybe_label(task, task.label)
    pair = record.whole("pair_id") if "pair_id" in record.row else None
    yield CastRow(record.example(text, text_b, label), (_index(record),), pair=pair)


def _index(record: Record) -> int:
    """The official number if the row has one, else its position."""
    for name in ("idx", "index", "id"):
        if name in record.row:
            return record.whole(name)
    return record.number


def _copa(task: SuiteTask, record: Record, cast: Cast) -> Iterator[CastRow]:
    premise, asked = record.text("premise"), record.text("question")
    if asked not in _LINKS:
        raise record.refuse("must be cause or effect", "question", asked)
    choices = record.text("choice1"), record.text("choice2")
    label = record.maybe_label(task, task.label)
    if cast == "released":
        one, other = (f"{premise} {_LINKS[asked]} {choice}" for choice in choices)
        example = record.example(one, other, label)
    else:
        example = record.example(f"{premise} {_LINKS[asked]}", None, label, choices)
    yield CastRow(example, (_index(record),))


def _race(task: SuiteTask, record: Record, cast: Cast) -> Iterator[CastRow]:
    article, question = record.text("article"), record.text("question")
    options = record.get("options")
    if not isinstance(options, list | tuple) or not all(isinstance(option, str) for option in options):
        raise record.refuse("must be a list of texts", "options", options)
    if len(options) != len(task.labels):
        raise record.refuse(f"must hold {len(task.labels)} options", "options", options)
    label = record.maybe_label(task, ("answer",))
    if cast == "released":
        example = record.example(f"{article} {question}", " </sep> ".join(options), label)
    else:
        example = record.example(article, None, label, tuple(_filled(question, option) for option in options))
    yield CastRow(example, (record.text("example_id"), int(record.row.get("place", record.number))))


def _filled(question: str, option: str) -> str:
    """Fill the gaps of a cloze, or append the option to a question."""
    if "_" in question:
        return _GAP.sub(lambda gap: option, question)
    return f"{question} {option}".strip()


def _multirc(task: SuiteTask, record: Record, cast: Cast) -> Iterator[CastRow]:
    if "passage" not in record.row:  # the hub's copy has one row per answer
        idx = record.within("idx")
        label = record.maybe_label(task, task.label)
        asked = f"{record.text('question')} {record.text('answer', blank=True)}"
        example = record.example(_TAGS.sub(" ", record.text("paragraph")).strip(), asked, label)
        yield CastRow(example, tuple(idx.whole(name) for name in _MULTIRC_IDX))
        return
    passage = record.within("passage")
    text, number = _TAGS.sub(" ", passage.text("text")).strip(), _index(record)
    for question in passage.each("questions"):
        asked, place = question.text("question"), question.whole("idx")
        for answer in question.each("answers"):
            label = answer.maybe_label(task, task.label)
            # An answer may be blank in the official files.
            example = record.example(text, f"{asked} {answer.text('text', blank=True)}", label)
            yield CastRow(example, (number, place, answer.whole("idx")))


_MULTIRC_IDX = ("paragraph", "question", "answer")


def _record(task: SuiteTask, record: Record, cast: Cast) -> Iterator[CastRow]:
    if "qas" not in record.row:  # the hub's copy has one row per question
        idx = record.within("idx")
        place = (idx.whole("passage"), idx.whole("query"))
        answers = tuple(record.row.get("answers") or ())
        yield from _cloze(record, record.text("passage"), record.get("entities"), record.text("query"), place, answers)
        return
    passage = record.within("passage")
    text = passage.get("text")
    if not isinstance(text, str):
        raise record.refuse("must be a text", "passage", text)
    spans = [(span.whole("start"), span.whole("end")) for span in passage.each("entities")]
    entities = [text[start : end + 1] for start, end in spans]
    if not all(entity.strip() for entity in entities):
        raise record.refuse(
            "must lie within the passage", "entities", spans[[not e.strip() for e in entities].index(True)]
        )
    for question in record.each("qas"):
        known = tuple(answer.text("text") for answer in question.each("answers")) if "answers" in question.row else ()
        place = (_index(record), question.whole("idx"))
        yield from _cloze(record, text, entities, question.text("query"), place, known)


def _cloze(
    record: Record, text: str, entities: Sequence[str], query: str, idx: tuple[int, int], answers: tuple[str, ...]
) -> Iterator[CastRow]:
    if "@placeholder" not in query:
        raise record.refuse("must hold @placeholder", "query", query)
    if not entities:
        raise record.refuse("must name an entity", "entities", entities)
    passage = text.replace("\n", " ").strip()
    for entity in sorted(set(entities)):
        label = str(int(entity in answers)) if answers else None
        example = record.example(passage, query.replace("@placeholder", entity), label)
        yield CastRow(example, idx, entity, answers)


def _wic(task: SuiteTask, record: Record, cast: Cast) -> Iterator[CastRow]:
    texts = []
    for which in "12":
        text = record.get(f"sentence{which}")
        if not isinstance(text, str) or not text.strip():
            raise record.refuse("must be a text", f"sentence{which}", text)
        if cast == "improved":
            start, end = record.whole(f"start{which}"), record.whole(f"end{which}")
            if not start < end <= len(text):
                raise record.refuse("must lie within the sentence", f"end{which}", end)
            text = f"{text[:start]}* {text[start:end]} *{text[end:]}"
        texts.append(text.strip())
    yield CastRow(record.example(texts[0], texts[1], record.maybe_label(task, task.label)), (_index(record),))


def _wsc(task: SuiteTask, record: Record, cast: Cast) -> Iterator[CastRow]:
    text = record.text("text")
    target = record.within("target") if "target" in record.row else record  # the hub's copy has no target
    noun, pronoun = target.text("span1_text"), target.text("span2_text")
    if cast == "improved":
        spans = [
            (*_span(record, text, noun, target.whole("span1_index")), "*"),
            (*_span(record, text, pronoun, target.whole("span2_index")), "#"),
        ]
        marked = text
        for start, end, mark in sorted(spans, reverse=True):
            marked = f"{marked[:start]}{mark} {marked[start:end]} {mark}{marked[end:]}"
        text = marked
    label = record.maybe_label(task, task.label)
    yield CastRow(record.example(text, f"{pronoun} means {noun}", label), (_index(record),))


def _span(record: Record, text: str, span: str, index: int) -> tuple[int, int]:
    """Start and end of a span in characters, given the index of its first word.

    A few official indices are off by some words: if the words at the index do not match, the nearest ones that match
    are taken, or those at the index if none match.
    """
    words = list(_WORD.finditer(text))
    length = len(span.split())
    if index >= len(words):
        raise record.refuse(f"must be below the number of words, {len(words)}", "target", index)
    wanted = _letters(span)

    def stands(first: int) -> bool:
        return _letters(" ".join(word.group() for word in words[first : first + length])).startswith(wanted)

    nearest = sorted(range(len(words)), key=lambda first: abs(first - index))
    first = next(filter(stands, nearest), index)
    start, end = words[first].start(), words[min(first + length, len(words)) - 1].end()
    # Punctuation after the span stays outside the marks.
    return start, start + len(text[start:end].rstrip(".,;:!?\"'"))


def _letters(text: str) -> str:
    return re.sub(r"\W", "", text.lower())


_CASTS: Mapping[str, Callable[[SuiteTask, Record, Cast], Iterator[CastRow]]] = {
    "texts": _texts,
    "copa": _copa,
    "multirc": _multirc,
    "record": _record,
    "wic": _wic,
    "wsc": _wsc,
    "race": _race,
}


def balanced(rows: Sequence[CastRow]) -> list[CastRow]:
    """Sample as many wrong entities as right ones of each ReCoRD question, seeded by the question's number.

    A question without a right entity teaches nothing and is left out.
    """
    kept = []
    for idx, group in groupby(rows, key=lambda row: row.idx):
        members = list(group)
        right = [row for row in members if row.example.label == "1"]
        wrong = [row for row in members if row.example.label == "0"]
        drawn = random.Random(repr(idx)).sample(wrong, min(len(right), len(wrong)))
        kept += [row for row in members if row in right or row in drawn]
    return kept
