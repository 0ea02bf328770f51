"""How fast `bort` and bort-nano are, compared with BERT-large in PyTorch, as in papers, and with what users would
pick instead.

    python -m benchmarks.speed.inference
    python -m benchmarks.speed.inference --only prepare   # then tokens, texts, lists, and publish

Each part writes a file to --work, and a part whose file exists is not measured again; --fresh starts over.

prepare: exports all models. tokens: token ids of fixed lengths in, logits out, also as a share of the machine's peak.
texts: texts of natural lengths in, answers out, as users run it: `bort.Predictor` with one text, with lists of 8 and
32, and with 256 texts, compared with static models, TF-IDF and BERT-large. lists: the same lists cut by cost and cut as
before, in turn.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import ANSWERING, Benchmark, Shown, Target, parser, publish, table
from benchmarks.fingerprints import commit
from bort.files import write_aside

OWN = ("bort", "bort-nano")
OTHERS = ("bert-large", "bert-base", "minilm-l6")
EXPORTED = (*OWN, "minilm-l6")
LENGTHS = (16, 128)
WAYS = {"1 text": (1, 16), "8 texts": (8, 4), "32 texts": (32, 2), "256 texts": (256, 1)}
"""Texts per list, and number of lists."""
NATURAL = "256 texts"
PARTS = ("prepare", "tokens", "texts", "lists")
EAGER, LARGE = "torch-eager", "bert-large"
EAGER_TEXTS = 32
"""List length with PyTorch, whose time per text is about the same as with 256."""

Timed = dict[str, Any]
"""A row: model, engine, load, texts, tokens, and the seconds of each round."""


class Found:
    """The figures, by model, engine and load."""

    def __init__(self, figures: dict[str, Any]) -> None:
        results = [row for row in figures["results"] if row["load"] in WAYS or row["load"].endswith(" tokens")]
        self.rows = {(row["model"], row["engine"], row["load"]): row for row in results}
        self.loads = list(dict.fromkeys(row["load"] for row in results))
        self.engines = list(dict.fromkeys(row["engine"] for row in results))

    def ms(self, model: str, engine: str, load: str) -> float | None:
        """Milliseconds per text: the median of the rounds."""
        row = self.rows.get((model, engine, load))
        return None if row is None else row["ms"]["median"]

    def ratio(self, own: tuple[str, str], other: tuple[str, str], load: str) -> float | None:
        """How many times as fast one model and engine is as another: the median of the rounds."""
        ours, theirs = self.rows.get((*own, load)), self.rows.get((*other, load))
        if ours is None or theirs is None:
            return None
        return statistics.median(b / a for a, b in zip(ours["rounds"], theirs["rounds"], strict=True))

    def best(self, model: str, load: str) -> str | None:
        """The engine in which an exported model is fastest."""
        exported = [engine for engine in self.engines if engine.startswith(("onnxruntime", "openvino"))]
        timed = [(ms, engine) for engine in exported if (ms := self.ms(model, engine, load)) is not None]
        return min(timed)[1] if timed else None


def targets_of(found: Found, lists: Mapping[str, Any]) -> list[Target]:
    """The targets, with the best engine."""
    targets = []
    for load, bound in (("128 tokens", 75), ("16 tokens", 95), (NATURAL, 65)):
        engine = found.best("bort", load)
        value = found.ratio(("bort", engine or ""), (LARGE, EAGER), load)
        if value is not None:
            targets.append(Target(f"bort {engine}, {load}: speed relative to BERT-large {EAGER}", value, ">=", bound))
    for load in ("16 tokens", "128 tokens", NATURAL):
        engine = found.best("bort-nano", load)
        value = found.ratio(("bort-nano", engine or ""), ("minilm-l6", engine or ""), load)
        if value is not None:
            targets.append(Target(f"bort-nano {engine}, {load}: speed relative to MiniLM-L6", value, ">=", 2.2))
    engine = found.best("bort-nano", "128 tokens")
    row = found.rows.get(("bort-nano", engine or "", "128 tokens"))
    if row is not None and row.get("peak_share"):
        share = 100 * row["peak_share"]
        targets.append(Target(f"bort-nano {engine}, 128 tokens: share of the peak", share, ">=", 45, " %"))
    for name, ratios in lists.items():
        for load in ("8 texts", "32 texts"):
            leads = name == "bort onnxruntime-fp32"
            what = f"{name}, {load}: speed cut by cost, relative to cut by tokens"
            targets.append(Target(what, ratios[load]["median"], ">=", 1.25, leads=leads))
    return targets


def milliseconds(value: float) -> str:
    """With at least three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    found = Found(figures)
    pairs = list(dict.fromkeys((model, engine) for model, engine, _ in found.rows))
    parts = []
    for title, loads in (
        ("Token ids in, logits out: ms per text", [load for load in found.loads if load.endswith(" tokens")]),
        ("Texts in, answers out: ms per text", [load for load in found.loads if not load.endswith(" tokens")]),
    ):
        shown = [pair for pair in pairs if any((*pair, load) in found.rows for load in loads)]
        if not shown:
            continue
        shown.sort(key=lambda pair: found.ms(*pair, loads[-1]) or 0)
        rows = []
        for pair in shown:
            row = found.rows.get((*pair, loads[-1]), {})
            peak = f"{100 * row['peak_share']:.0f}" if row.get("peak_share") else ""
            large = found.ratio(pair, (LARGE, EAGER), loads[-1])
            cells = [_spread(found.rows.get((*pair, load))) for load in loads]
            rate = f"{row['tokens_per_second']:,.0f}" if row else ""
            rows.append([", ".join(filter(None, pair)), *cells, rate, peak, f"{large:.1f}" if large else ""])
        head = ["model and engine", *loads, f"tokens/s, {loads[-1]}", f"% of peak, {loads[-1]}"]
        parts += [title, table([*head, f"x BERT-large, {loads[-1]}"], rows)]
    lists = figures.get("lists", {})
    if lists:
        loads = list(next(iter(lists.values())))
        rows = [[name, *(f"{ratios[load]['median']:.2f}" for load in loads)] for name, ratios in lists.items()]
        parts += ["Lists cut by cost: speed relative to lists cut by tokens", table(["model and engine", *loads], rows)]
    peaks = ", ".join(f"{name} {value / 1e9:.0f} G" for name, value in figures["peaks"].items())
    about = f"""
        {settings.threads} threads; medians (range) of {settings.rounds} rounds, in which all run in turn; random
        weights, which do not change the speed. "x BERT-large" is the speed relative to BERT-large in PyTorch eager
        fp32, whatever the engine of the row. "% of peak" is the time that the model's matrix products would take at the
        speed of the machine's fastest product ({peaks} operations per second), as a share of the measured time. Text
        lengths in lists are log-normal: half are below 25 tokens, 95 % below 70.
    """
    return Shown(about, "\n\n".join(parts), tuple(targets_of(found, lists)))


def _spread(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    ms = row["ms"]
    return f"{milliseconds(ms['median'])} ({milliseconds(ms['low'])} to {milliseconds(ms['high'])})"


BENCHMARK = Benchmark(
    name="inference",
    page="speed",
    title="Speed of inference",
    question="How fast are `bort` and bort-nano on a CPU, compared with BERT and small rivals?",
    sources=(*ANSWERING, "src/bort/export", "src/bort/speed", "src/bort/model/modelling.py"),
    show=show,
)


def row(model: str, engine: str, load: str, texts: int, tokens: int, seconds: Sequence[float]) -> Timed:
    """What is stored of a contestant's rounds; milliseconds are per text."""
    from bort.speed.race import Spread

    rounds = [1000 * one / texts for one in seconds]
    rate = tokens / statistics.median(seconds)
    return {"model": model, "engine": engine, "load": load, "ms": vars(Spread.of(rounds)), "rounds": rounds,
            "tokens_per_second": rate, "texts_per_second": texts / statistics.median(seconds)}  # fmt: skip


class Parts:
    """The parts of the measurement; each returns what its file stores."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from bort.speed.contestants import usual_engines

        self.arguments = arguments
        self.engines = [engine for engine in usual_engines() if engine.startswith(("onnxruntime", "openvino"))]
        self.models = [name for name in EXPORTED if name in arguments.models]

    def prepare(self) -> dict[str, Any]:
        """Export all models."""
        for name in self.models:
            for contestant in self._model(name).contestants(self.engines, self.arguments.threads):
                print("exported", contestant.model, contestant.engine, flush=True)
        return {}

    def tokens(self) -> dict[str, Any]:
        """Token ids of fixed lengths in, logits out."""
        from benchmarks.speed.peak import floor_seconds, peaks, precision
        from bort.speed.race import fixed, race

        contestants = []
        for name in self.models:
            contestants += self._model(name).contestants(self.engines, self.arguments.threads)
        for name in self.arguments.eager:
            contestants += self._model(name).contestants([EAGER], self.arguments.threads)
        kinds = {precision(engine) for engine in (*self.engines, EAGER)}
        # The clock of the processor changes within minutes, so each round measures the peak, too.
        reached, timings = [], defaultdict(list)
        for _ in range(self.arguments.rounds):
            reached.append(peaks(self.arguments.threads, kinds))
            for load in (fixed(1, length) for length in LENGTHS):
                for timing in race(contestants, load, 1, 1000, print):
                    timings[load, timing.model, timing.engine] += timing.seconds
        rows = []
        for (load, model, engine), seconds in timings.items():
            floors = [floor_seconds(model, engine, load, found) for found in reached]
            shares = [floor / one for floor, one in zip(floors, seconds, strict=True) if floor is not None]
            made = row(model, engine, load.name, 1, load.tokens, seconds)
            rows.append(made | {"peak_share": statistics.median(shares) if shares else None})
        peak = {kind: statistics.median(found[kind] for found in reached) for kind in sorted(kinds)}
        return {"results": rows, "peaks": peak}

    def texts(self) -> dict[str, Any]:
        """Texts of natural lengths in, answers out."""
        from benchmarks.speed.rivals import Answer, eager, sentence_transformers, static, texts_of, tf_idf
        from bort import Predictor
        from bort.speed.race import natural, take_turns

        threads = self.arguments.threads
        lengths = natural(max(size * count for size, count in WAYS.values())).lengths
        texts = texts_of(lengths)
        answers: dict[tuple[str, str], Answer] = {}
        for name in self.models:
            for engine in self.engines:
                predictor = Predictor(str(self._model(name).work / engine), threads=threads)
                answers[name, engine] = predictor.predict
        for name in self.arguments.eager:
            answers[name, EAGER] = eager(self._model(name).folder)
        for folder in self.arguments.static:
            answers[f"static {folder.name}", "model2vec"] = static(folder)
        if self.arguments.sentence_transformers:
            python, folder = self.arguments.sentence_transformers
            name = f"sentence-transformers {folder.name}"
            answers[name, "onnxruntime-fp32, its own backend"] = sentence_transformers(python, folder)
        answers["TF-IDF + logistic regression", "scikit-learn"] = tf_idf(texts)
        rows = []
        for load, (size, count) in WAYS.items():
            turns: dict[Any, Callable[[], object]] = {}
            used = {}
            for pair, answer in answers.items():
                number = min(size * count, EAGER_TEXTS if pair[1] == EAGER else size * count)
                asked = [texts[start : min(start + size, number)] for start in range(0, number, size)]
                turns[pair] = partial(_ask, answer, asked)
                used[pair] = number
            seconds = take_turns(turns, self.arguments.rounds, lambda pair, load=load: print(load, *pair, flush=True))
            for pair, found in seconds.items():
                rows.append(row(*pair, load, used[pair], sum(lengths[: used[pair]]), found))
        return {"results": rows}

    def lists(self) -> dict[str, Any]:
        """Lists cut by cost, and cut as before: into batches of at most 512 tokens."""
        from benchmarks.speed.rivals import texts_of
        from bort.data.tables.examples import Example
        from bort.predict.engine import open_exported
        from bort.speed.race import natural, take_turns

        lengths = natural(1024).lengths
        texts = [Example(text) for text in texts_of(lengths)]
        found: dict[str, Any] = {}
        pool = ThreadPoolExecutor(self.arguments.threads)
        for name in (name for name in OWN if name in self.models):
            for engine in self.engines:
                opened = open_exported(self._model(name).work / engine, self.arguments.threads)
                ratios = {}
                for load, (size, _) in list(WAYS.items())[1:]:
                    lists = [opened.encode(texts[s : s + size]) for s in range(0, min(1024, 8 * size), size)]
                    turns = {
                        "cost": lambda opened=opened, lists=lists: [opened.run(one) for one in lists],
                        "tokens": lambda opened=opened, lists=lists: [before(opened, one, pool) for one in lists],
                    }
                    seconds = take_turns(turns, self.arguments.rounds)
                    by_round = [b / a for a, b in zip(seconds["cost"], seconds["tokens"], strict=True)]
                    ratios[load] = {"median": statistics.median(by_round), "low": min(by_round), "high": max(by_round)}
                    print(name, engine, load, f"{ratios[load]['median']:.2f}", flush=True)
                found[f"{name} {engine}"] = ratios
        return {"lists": found}

    def _model(self, name: str) -> Any:
        from bort.speed.contestants import Model

        work = self.arguments.work / "models" / name
        work.mkdir(parents=True, exist_ok=True)
        return Model(name, work)


def before(engine: Any, encoded: Any, pool: ThreadPoolExecutor) -> None:
    """Compute a list as before batches were cut by cost: greedily, and a short list with all threads on each batch.

    Args:
        engine: An exported engine.
        encoded: The list, tokenised by the engine.
        pool: As many threads as the engine has; the caller waits for them.
    """
    from bort.data.batches import token_budget_batches
    from bort.predict.costs import MOST_ROWS, MOST_TOKENS

    int8 = engine.manifest.precision == "int8"
    lengths = encoded.lengths
    groups = [[i for i, n in enumerate(lengths) if n == length] for length in sorted(set(lengths))]
    batches = []
    for places in groups if int8 else [list(range(len(lengths)))]:
        own = [lengths[place] for place in places]
        cut = token_budget_batches(own, max_tokens=MOST_TOKENS, max_rows=MOST_ROWS)
        batches += [[places[one] for one in batch] for batch in cut]
    shared = engine.threads == 1 or len(batches) < 2 * engine.threads
    compute = engine.runners[0].opened(shared=shared)
    feeds = [engine.batch(encoded, batch) for batch in batches]
    if shared:
        for feed in feeds:
            compute(feed)
    else:
        list(pool.map(compute, feeds))


def _ask(answer: Callable[[Sequence[str]], Any], lists: Sequence[Sequence[str]]) -> None:
    for one in lists:
        answer(one)


def main() -> None:
    from bort.model.checkpoints import quiet
    from bort.predict.int8_weights import processor_flags
    from bort.runs import environment

    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--models", nargs="+", default=EXPORTED)
    made.add_argument("--eager", nargs="*", default=(LARGE, "bert-base"), help="models to run in PyTorch eager fp32")
    made.add_argument("--static", nargs="*", type=Path, default=[], help="model2vec folders")
    made.add_argument(
        "--sentence-transformers",
        nargs=2,
        type=Path,
        metavar=("PYTHON", "FOLDER"),
        help="interpreter with sentence-transformers[onnx], and a model",
    )
    made.add_argument("--work", type=Path, default=Path("build/inference"), help="folder for exports and parts")
    made.add_argument("--only", nargs="+", choices=(*PARTS, "publish"), default=(*PARTS, "publish"))
    made.add_argument("--fresh", action="store_true", help="measure again, even if files exist")
    arguments = made.parse_args()
    parts = Parts(arguments)
    for part in arguments.only:
        file = arguments.work / f"{part}.json"
        if part == "publish" or (file.is_file() and not arguments.fresh):
            continue
        if part == "prepare" and arguments.fresh:
            shutil.rmtree(arguments.work, ignore_errors=True)
        with quiet():
            measured = getattr(parts, part)()
        with write_aside(file) as out:
            json.dump({"commit": commit(), **measured}, out, default=float)
    if "publish" not in arguments.only:
        return
    kept = {part: json.loads((arguments.work / f"{part}.json").read_text("utf-8")) for part in PARTS}
    figures = {
        "threads": arguments.threads,
        "commits": {part: kept[part]["commit"] for part in PARTS},
        "flags": sorted(processor_flags()),
        "environment": environment(),
        "peaks": kept["tokens"]["peaks"],
        "results": kept["tokens"]["results"] + kept["texts"]["results"],
        "lists": kept["lists"]["lists"],
    }
    publish(BENCHMARK, figures, arguments)


if __name__ == "__main__":
    main()
