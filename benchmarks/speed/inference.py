"""How fast a Bort answers on this CPU, beside BERT-large, BERT-base and the small models one would pick instead.

    python -m benchmarks.speed.inference

This is `bort benchmark` with texts of 16, 32, 64 and 128 tokens, and some of natural lengths, held to targets.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.common import Benchmark, Shown, Target, parser, publish, table

OWN = ("bort", "bort-nano")
OTHERS = ("bert-large", "bert-base", "distilbert", "minilm-l6", "tinybert-4")
LENGTHS = (16, 32, 64, 128)
LONGEST = "128 tokens"
EAGER = "torch-eager"


class Found:
    """The figures, by model, engine and load."""

    def __init__(self, figures: dict[str, Any]) -> None:
        self.rows = {(row["model"], row["engine"], row["load"]): row for row in figures["results"]}
        self.same = {(row["model"], row["engine"], row["load"]): row["times"] for row in figures["like_for_like"]}

    def against_large(self, engine: str, load: str) -> float:
        """How many times as fast as BERT-large in PyTorch's eager fp32 `bort` is."""
        ratio: float = self.rows["bort", engine, load]["times bert-large torch-eager"]["median"]
        return ratio

    def same_engine(self, model: str, engine: str, load: str, other: str) -> float:
        """How many times as fast as another model in the same engine."""
        ratio: float = self.same[model, engine, load][other]["median"]
        return ratio


def targets_of(found: Found, engines: list[str], mix: str) -> list[Target]:
    """What was to be reached, in each engine that could reach it; ONNX Runtime, the default, leads."""
    targets = []
    for engine in engines:
        leads = engine.startswith("onnxruntime")
        if engine.endswith("int8"):
            for load, bound in ((LONGEST, 60), ("16 tokens", 75), (mix, 60)):
                name = f"bort {engine}, {load}: times BERT-large {EAGER}"
                targets.append(Target(name, found.against_large(engine, load), ">=", bound, leads=leads))
        if engine in ("onnxruntime-fp32", "openvino-fp32"):
            name = f"bort {engine}, {LONGEST}: times BERT-large {EAGER}"
            targets.append(Target(name, found.against_large(engine, LONGEST), ">=", 19, leads=leads))
    for engine in engines:
        for other, bound in (("bert-large", 11), ("bert-base", 3.3)):
            name = f"bort against {other}, both {engine}, {LONGEST}"
            value, leads = found.same_engine("bort", engine, LONGEST, other), engine == EAGER
            targets.append(Target(name, value, ">=", bound, leads=leads))
    for engine in engines:
        if engine.endswith("int8"):
            for load in ("16 tokens", LONGEST, mix):
                name = f"bort-nano against minilm-l6, both {engine}, {load}"
                value, leads = found.same_engine("bort-nano", engine, load, "minilm-l6"), engine.startswith("onnx")
                targets.append(Target(name, value, ">=", 4, leads=leads))
    return targets


def milliseconds(value: float) -> str:
    """With three digits at least."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def show(figures: dict[str, Any], settings: argparse.Namespace) -> Shown:
    found = Found(figures)
    loads = list(figures["rounds"])
    mix = loads[-1]
    pairs = list(dict.fromkeys((model, engine) for model, engine, _ in found.rows))
    pairs.sort(key=lambda pair: found.rows[(*pair, LONGEST)]["ms"]["median"])
    timed = []
    for model, engine in pairs:
        spreads = [found.rows[model, engine, load]["ms"] for load in loads[:-1]]
        cells = [
            f"{milliseconds(s['median'])} ({milliseconds(s['low'])} to {milliseconds(s['high'])})" for s in spreads
        ]
        rate = f"{found.rows[model, engine, mix]['tokens_per_second']:,.0f}"
        row = found.rows[model, engine, LONGEST]
        peak = f"{100 * row['floor_ms'] / row['ms']['median']:.0f}" if row["floor_ms"] else ""
        ratios = [row.get(f"times {other} {EAGER}") for other in ("bert-large", "bert-base")]
        timed.append([f"{model}, {engine}", *cells, rate, peak, *(f"{r['median']:.1f}" if r else "" for r in ratios)])
    head = ["model and engine", *(f"ms, {load}" for load in loads[:-1]), "tokens/s, natural lengths"]
    head += [f"% of peak, {LONGEST}", f"x bert-large, {LONGEST}", f"x bert-base, {LONGEST}"]
    parts = [table(head, timed)]
    for load in (LONGEST, mix):
        rows = [
            [f"{model}, {engine}"] + [f"{times[o]['median']:.1f}" if o in times else "" for o in OTHERS]
            for (model, engine, at), times in found.same.items()
            if at == load
        ]
        parts.append(f"{load}: times as fast as the others in the same engine and precision")
        parts.append(table(["model and engine", *OTHERS], rows))
    peaks = ", ".join(f"{name} {value / 1e9:.0f} G" for name, value in figures["peaks"].items())
    about = f"""
        {settings.threads} threads; medians (range) of {settings.rounds} rounds in which all took turns, of natural
        lengths {settings.mix_rounds}. Token ids in, logits out; models have random weights, which does not change their
        speed. "x bert-large" and "x bert-base" compare with these in PyTorch eager fp32, whatever the engine of the
        row. "% of peak" is the time that the model's own matrix products would take at the speed of the machine's
        fastest product ({peaks} operations a second), as a share of its time.
    """
    targets = targets_of(found, list(dict.fromkeys(engine for _, engine in pairs_in_order(figures))), mix)
    return Shown(about, "\n\n".join(parts), tuple(targets))


def pairs_in_order(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """Models and engines as they were measured."""
    return list(dict.fromkeys((row["model"], row["engine"]) for row in figures["results"]))


BENCHMARK = Benchmark(
    name="inference",
    page="speed",
    title="Speed of inference",
    question="How fast do `bort` and bort-nano answer on a CPU, beside BERT and small rivals?",
    sources=("src/bort/predict", "src/bort/export", "src/bort/speed", "src/bort/model/modelling.py"),
    show=show,
)


def main() -> None:
    from benchmarks.speed.peak import floor_seconds, peaks, precision
    from bort.model.checkpoints import quiet
    from bort.speed.contestants import usual_engines
    from bort.speed.measure import measure
    from bort.speed.race import fixed, natural

    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--mix-rounds", type=int, default=1)
    made.add_argument("--texts", type=int, default=512)
    made.add_argument("--threads", type=int, default=2)
    arguments = made.parse_args()
    loads = [(fixed(1, length), arguments.rounds) for length in LENGTHS]
    loads.append((natural(arguments.texts), arguments.mix_rounds))
    with quiet():
        engines = usual_engines()
        figures = measure(OWN, OTHERS, engines=engines, loads=loads, threads=arguments.threads, fresh_rounds=0)
    figures["peaks"] = peaks(arguments.threads, set(map(precision, engines)))
    by_name = {load.name: load for load, _ in loads}
    for row in figures["results"]:
        seconds = floor_seconds(row["model"], row["engine"], by_name[row["load"]], figures["peaks"])
        row["floor_ms"] = None if seconds is None else 1000 * seconds
    publish(BENCHMARK, figures, arguments)


if __name__ == "__main__":
    main()
