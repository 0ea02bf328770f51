"""How fast a Bort answers on this CPU, beside BERT-large, BERT-base and the small models one would pick instead.

    python -m benchmarks.speed.inference

It is `bort benchmark` with texts of 16, 32, 64 and 128 tokens, and some of natural lengths, held to targets.
"""

from __future__ import annotations

from typing import Any

from benchmarks.common import Target, parser, publish, table
from benchmarks.speed.peak import floor_seconds, peaks, precision
from bort.model.checkpoints import quiet
from bort.speed.contestants import usual_engines
from bort.speed.measure import measure
from bort.speed.race import Load, fixed, natural
from bort.speed.report import notes, tables

OWN = ("bort", "bort-nano")
OTHERS = ("bert-large", "bert-base", "distilbert", "minilm-l6", "tinybert-4")
LENGTHS = (16, 32, 64, 128)


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
    """What was to be reached, in each engine that could reach it."""
    targets = []
    for engine in engines:
        if engine.endswith("int8"):
            for load, bound in (("128 tokens", 60), ("16 tokens", 75), (mix, 60)):
                name = f"bort {engine}, {load}: times BERT-large torch-eager"
                targets.append(Target(name, found.against_large(engine, load), ">=", bound))
        if engine in ("onnxruntime-fp32", "openvino-fp32"):
            name = f"bort {engine}, 128 tokens: times BERT-large torch-eager"
            targets.append(Target(name, found.against_large(engine, "128 tokens"), ">=", 19))
    for engine in engines:
        for other, bound in (("bert-large", 11), ("bert-base", 3.3)):
            name = f"bort against {other}, both {engine}, 128 tokens"
            targets.append(Target(name, found.same_engine("bort", engine, "128 tokens", other), ">=", bound))
    for engine in engines:
        if engine.endswith("int8"):
            for load in ("16 tokens", "128 tokens", mix):
                name = f"bort-nano against minilm-l6, both {engine}, {load}"
                targets.append(Target(name, found.same_engine("bort-nano", engine, load, "minilm-l6"), ">=", 4))
    return targets


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--mix_rounds", type=int, default=1)
    made.add_argument("--texts", type=int, default=512)
    made.add_argument("--threads", type=int, default=2)
    arguments = made.parse_args()
    engines, mix = usual_engines(), natural(arguments.texts)
    loads = [(fixed(1, length), arguments.rounds) for length in LENGTHS] + [(mix, arguments.mix_rounds)]
    with quiet():
        figures = measure(OWN, OTHERS, engines=engines, loads=loads, threads=arguments.threads, fresh_rounds=0)
    figures["peaks"] = peaks(arguments.threads, set(map(precision, engines)))
    shown = f"{markdown(figures)}\n\n{of_peak(figures, [load for load, _ in loads])}"
    targets = targets_of(Found(figures), engines, mix.name)
    title, about = "Speed of inference", " ".join(notes(figures))
    publish("inference", title, about=about, shown=shown, figures=figures, targets=targets, out=arguments.out)


def of_peak(figures: dict[str, Any], loads: list[Load]) -> str:
    """The least time of a model's own matrix products, beside its time; noted in the rows as well."""
    rows: dict[tuple[str, str], list[str]] = {}
    for load in loads:
        for row in figures["results"]:
            if row["load"] == load.name:
                seconds = floor_seconds(row["model"], row["engine"], load, figures["peaks"])
                row["floor_ms"] = None if seconds is None else 1000 * seconds
                share = "" if seconds is None else f"{100 * row['floor_ms'] / row['ms']['median']:.0f}"
                rows.setdefault((row["model"], row["engine"]), []).append(share)
    said = ", ".join(f"{name} {value / 1e9:.0f} G" for name, value in figures["peaks"].items())
    head = ["model, engine", *(load.name for load in loads)]
    cells = table(head, [[", ".join(names), *shares] for names, shares in rows.items()])
    return f"**% of the peak of this machine's matrix products ({said} operations a second)**\n\n{cells}"


def markdown(figures: dict[str, Any]) -> str:
    """All tables; the first two columns are words."""
    shown = ((title, table(header, rows)) for title, header, rows in tables(figures))
    return "\n\n".join(f"**{title}**\n\n{rows.replace('| ---: |', '| --- |', 1)}" for title, rows in shown)


if __name__ == "__main__":
    main()
