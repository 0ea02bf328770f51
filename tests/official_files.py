"""Made-up files in the official layouts of GLUE, SuperGLUE and RACE: a few rows of each task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SINGLE = [("The cat sat down.", "1"), ("Cat the down sat.", "0"), ('She said "no".', "1"), ("Green ideas a.", "0")] * 3
PAIRS = [("A dog barks.", "An animal barks."), ("It rains.", "The sun shines."), ("He left.", "He is gone.")] * 4


def write_official(folder: Path) -> Path:
    """Write all tasks below `folder`, as glue/CoLA/train.tsv and so on; returns it."""
    glue, superglue = folder / "glue", folder / "superglue"
    for part in ("train", "dev"):
        _tsv(glue / f"CoLA/{part}.tsv", [["gj04", label, "*"[: label == "0"], text] for text, label in SINGLE])
        _tsv(glue / f"SST-2/{part}.tsv", [["sentence", "label"], *([text, label] for text, label in SINGLE)])
        head = ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
        rows = [[str(i % 2), str(i), str(i + 50), *pair] for i, pair in enumerate(PAIRS)]
        _tsv(glue / f"MRPC/{part}.tsv", [head, *rows], mark="\ufeff")
        head = ["index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2"]
        rows = [[str(i), "news", "f", "2012", "1", "a", "b", *pair, f"{i % 6}.250"] for i, pair in enumerate(PAIRS)]
        rows = [[*row[:-1], f"{min(float(row[-1]), 5.0):.3f}"] for row in rows]
        _tsv(glue / f"STS-B/{part}.tsv", [[*head, "score"], *rows])
        rows = [[str(133273 + 7 * i), "1", "2", *pair, str(i % 2)] for i, pair in enumerate(PAIRS)]
        rows += AWKWARD_QQP if part == "train" else []
        _tsv(glue / f"QQP/{part}.tsv", [["id", "qid1", "qid2", "question1", "question2", "is_duplicate"], *rows])
        rows = [[str(i), *pair, ("entailment", "not_entailment")[i % 2]] for i, pair in enumerate(PAIRS)]
        _tsv(glue / f"QNLI/{part}.tsv", [["index", "question", "sentence", "label"], *rows])
        _tsv(glue / f"RTE/{part}.tsv", [["index", "sentence1", "sentence2", "label"], *rows])
        rows = [[str(i), *pair, str(i % 2)] for i, pair in enumerate(PAIRS)]
        _tsv(glue / f"WNLI/{part}.tsv", [["index", "sentence1", "sentence2", "label"], *rows])
    for part, annotators in (("train", 1), ("dev_matched", 5), ("dev_mismatched", 5)):
        head = [*MNLI_HEAD, *(f"label{i + 1}" for i in range(annotators)), "gold_label"]
        _tsv(glue / f"MNLI/{part}.tsv", [head, *(_mnli(i, pair, annotators) for i, pair in enumerate(MNLI_PAIRS))])
    for part in ("test_matched", "test_mismatched"):
        _tsv(glue / f"MNLI/{part}.tsv", [MNLI_HEAD, *(_mnli(i, pair, 0) for i, pair in enumerate(MNLI_PAIRS))])
    _tsv(glue / "CoLA/test.tsv", [["index", "sentence"], *([str(i), text] for i, (text, _) in enumerate(SINGLE))])
    _tsv(glue / "SST-2/test.tsv", [["index", "sentence"], *([str(i), text] for i, (text, _) in enumerate(SINGLE))])
    indexed = [[str(i), *pair] for i, pair in enumerate(PAIRS)]
    for name, second in (("MRPC", "#1 String"), ("STS-B", "sentence1"), ("RTE", "sentence1"), ("WNLI", "sentence1")):
        _tsv(glue / f"{name}/test.tsv", [["index", second, second.replace("1", "2")], *indexed])
    _tsv(glue / "QQP/test.tsv", [["id", "question1", "question2"], *indexed])
    _tsv(glue / "QNLI/test.tsv", [["index", "question", "sentence"], *indexed])
    _tsv(glue / "diagnostic/diagnostic.tsv", [["index", "sentence1", "sentence2"], *indexed])
    _write_superglue(superglue)
    for part in ("train", "dev", "test"):
        for number, level in enumerate(("middle", "high")):
            for passage in range(3):
                _race(folder / f"race/{part}/{level}/{passage}.txt", f"{level}{passage}.txt", passage + number)
    return folder


def _write_superglue(folder: Path) -> None:
    for part in ("train", "val", "test"):
        known = part != "test"

        def write(name: str, rows: list[dict[str, Any]], part: str = part, known: bool = known) -> None:
            kept = [row if known else {key: row[key] for key in row if key != "label"} for row in rows]
            _jsonl(folder / f"{name}/{part}.jsonl", kept)

        pairs = list(enumerate(PAIRS))
        three = ("entailment", "contradiction", "neutral")
        write("CB", [{"premise": a, "hypothesis": b, "label": three[i % 3], "idx": i} for i, (a, b) in pairs])
        write("RTE", [{"premise": a, "hypothesis": b, "label": ENTAIL[i % 2], "idx": i} for i, (a, b) in pairs])
        write("BoolQ", [{"question": b, "passage": a, "label": i % 2 == 0, "idx": i} for i, (a, b) in pairs])
        write(
            "COPA",
            [
                {"premise": a, "choice1": b, "choice2": "It fell.", "question": ("cause", "effect")[i % 2]}
                | {"label": i % 2, "idx": i}
                for i, (a, b) in pairs
            ],
        )
        word = {"word": "bank", "sentence1": "A bank of sand.", "sentence2": "The bank is shut.", "version": 1.1}
        word |= {"start1": 2, "end1": 6, "start2": 4, "end2": 8}
        write("WiC", [{**word, "label": i % 2 == 0, "idx": i} for i in range(12)])
        target = {"span1_text": "Ann", "span1_index": 0, "span2_text": "she", "span2_index": 4}
        text = "Ann met Eve because she was late."
        write("WSC", [{"text": text, "target": target, "label": i % 2 == 0, "idx": i} for i in range(12)])
        passages = []
        for i in range(4):
            given = [{"text": word, "idx": 6 * i + j} for j, word in enumerate(("a hat", "rain", ""))]
            more = [{"text": word, "idx": 6 * i + 3 + j} for j, word in enumerate(("Eve", "Ann"))]
            if known:
                given = [answer | {"label": (i + j) % 2} for j, answer in enumerate(given)]
                more = [answer | {"label": j} for j, answer in enumerate(more)]
            questions = [{"question": "What fell?", "answers": given, "idx": 2 * i}]
            questions.append({"question": "Who came?", "answers": more, "idx": 2 * i + 1})
            text = "<b>Sent 1: </b>Ann came.<br><b>Sent 2: </b>A hat fell."
            passages.append({"idx": i, "version": 1.1, "passage": {"text": text, "questions": questions}})
        _jsonl(folder / f"MultiRC/{part}.jsonl", passages)
        text = "Ann Lee met Bob in Rome.\n@highlight\nBob was glad"
        entities = [
            {"start": 0, "end": 6},
            {"start": 12, "end": 14},
            {"start": 19, "end": 22},
            {"start": 36, "end": 38},
        ]
        rows = []
        for i in range(6):
            question: dict[str, Any] = {"query": "It was @placeholder who came.", "idx": 10 + i}
            if known:
                question["answers"] = [{"start": 12, "end": 14, "text": "Bob"}, {"start": 36, "end": 38, "text": "Bob"}]
            rows.append({"idx": i, "source": "x", "passage": {"text": text, "entities": entities}, "qas": [question]})
        _jsonl(folder / f"ReCoRD/{part}.jsonl", rows)
    rows = [{"sentence1": a, "sentence2": b, "label": ENTAIL[i % 2], "idx": i} for i, (a, b) in enumerate(PAIRS)]
    _jsonl(folder / "AX-b/AX-b.jsonl", rows)
    rows = [
        {
            "premise": f"The cook met the guest; {who} ate.",
            "hypothesis": f"Guest {i // 2} ate.",
            "pair_id": 551 + i // 2,
        }
        | {"label": ENTAIL[i // 2 % 2], "idx": i}
        for i, who in enumerate(["he", "she"] * 4)
    ]
    _jsonl(folder / "AX-g/AX-g.jsonl", rows)


ENTAIL = ("entailment", "not_entailment")
AWKWARD_QQP = [
    ["402555", "5", "6", "How can I create an Android app?", "", "0"],
    # a question with a line end inside, as the official file has some
    ["9", "3", "4", "Was he a real figure? "],
    ['"', "What is the evidence?", "0"],
]
MNLI_HEAD = ["index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse"]
MNLI_HEAD += ["sentence1_parse", "sentence2_parse", "sentence1", "sentence2"]
MNLI_PAIRS = [*PAIRS, ('"Well, "yeah" um', "n/a"), ("It is 5\u2028o'clock. ", '"'), ("He said (ROOT", "S")]


def _mnli(number: int, pair: tuple[str, str], annotators: int) -> list[str]:
    """A row as MNLI's files have it: two binary parses, two full ones, the texts, the annotators' labels, the gold."""
    label = ("entailment", "neutral", "contradiction")[number % 3]
    parses = [*(f"( ( {text} ) )" for text in pair), *(f"(ROOT (S {text}))" for text in pair)]
    cells = [str(number), f"{31193 + number}", f"{31193 + number}n", "government", *parses, *pair]
    return cells if not annotators else [*cells, *[label] * annotators, label]


def _race(file: Path, name: str, shift: int) -> None:
    options = [["in Rome", "at home", "at sea", "nowhere"], ["Ann", "Bob", "Eve", "nobody"]]
    passage = {"answers": ["ABCD"[shift % 4], "ABCD"[(shift + 1) % 4]], "options": options, "id": name}
    passage |= {"questions": ["Where was Ann?", "Who was   _  ?"], "article": f"Ann was at sea, {shift} days long."}
    _write(file, json.dumps(passage))


def _tsv(file: Path, rows: list[list[str]], mark: str = "") -> None:
    _write(file, mark + "".join("\t".join(row) + "\n" for row in rows))


def _jsonl(file: Path, rows: list[dict[str, Any]]) -> None:
    _write(file, "".join(json.dumps(row) + "\n" for row in rows))


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
