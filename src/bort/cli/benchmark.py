"""`bort benchmark`: how fast a model is on this machine, compared with common ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from bort.bounds import AtLeast, AtMost, NonNegativeInt, NotEmpty, PositiveInt, validate
from bort.cli.results import FiguresResult


@dataclass
class BenchmarkArguments:
    """Arguments of `bort benchmark`.

    Example:
        >>> BenchmarkArguments(alone=True).model
        ['bort', 'bort-nano']
    """

    model: Annotated[list[str], NotEmpty()] = field(default_factory=lambda: ["bort", "bort-nano"])
    """models to measure: folders of finetune or export, or names of shapes (bort, bort-nano, bert-base, ...), which get
    random weights"""
    against: list[str] = field(
        default_factory=lambda: ["bert-large", "bert-base", "distilbert", "minilm-l6", "tinybert-4"]
    )
    """models to compare with"""
    alone: bool = False
    """measure only --model, without --against"""
    engines: list[str] = field(default_factory=list)
    """engines to use: torch-eager, torch-sdpa, torch-bf16, onnxruntime-fp32, onnxruntime-int8, openvino-fp32,
    openvino-int8; by default all installed ones, bf16 only if the processor has it"""
    batch_size: PositiveInt = 1
    """texts per batch"""
    sequence_length: Annotated[list[Annotated[int, AtLeast(1), AtMost(512)]], NotEmpty()] = field(
        default_factory=lambda: [16, 128]
    )
    """tokens per text"""
    mix: bool = False
    """also measure texts of natural lengths, sorted by length, in batches of at most 512 tokens"""
    texts: PositiveInt = 512
    """number of texts for --mix"""
    threads: PositiveInt | None = None
    """number of threads; by default one per core"""
    rounds: PositiveInt = 10
    """measurements of each model and engine at each length"""
    mix_rounds: PositiveInt = 3
    """number of measurements for --mix, which takes longer"""
    fresh_rounds: NonNegativeInt = 3
    """measurements of a new process: time to its first answer, and memory; 0 for none"""
    out: str | None = None
    """folder for benchmark.json and report.html"""


def benchmark(arguments: BenchmarkArguments) -> FiguresResult:
    """Time models in all engines, in turn, next to BERT-large, BERT-base and the usual small alternatives.

    Ratios are to BERT in PyTorch eager fp32, and to each other model in the same engine and precision.

    Example:
        >>> import bort
        >>> quick = {"engines": ["torch-sdpa"], "sequence_length": [16], "rounds": 1, "fresh_rounds": 0}
        >>> figures = bort.benchmark(bort.BenchmarkArguments(["runs/topics"], alone=True, **quick)).metrics
        >>> figures["results"][0]["load"]
        '16 tokens'
    """
    from bort.cores import usable_cores
    from bort.errors import BortError
    from bort.files import folder_aside, new_folder
    from bort.model.checkpoints import quiet
    from bort.predict.manifest import is_exported
    from bort.runs import command_line
    from bort.speed.contestants import usual_engines
    from bort.speed.measure import measure
    from bort.speed.race import fixed, natural
    from bort.speed.report import speed_report

    validate(arguments)
    names = [*arguments.model, *([] if arguments.alone else arguments.against)]
    if arguments.engines and all(map(is_exported, names)):
        rule = "has no effect on exported folders, which have engines of their own: leave it out"
        raise BortError(rule, setting="engines", value=arguments.engines)
    threads = usable_cores() if arguments.threads is None else arguments.threads
    target = new_folder(arguments.out) if arguments.out else None
    loads = [(fixed(arguments.batch_size, length), arguments.rounds) for length in arguments.sequence_length]
    if arguments.mix:
        loads.append((natural(arguments.texts), arguments.mix_rounds))
    with quiet():
        figures = measure(
            arguments.model,
            [] if arguments.alone else arguments.against,
            engines=arguments.engines or usual_engines(),
            loads=loads,
            threads=threads,
            fresh_rounds=arguments.fresh_rounds,
        )
    figures["command"] = command_line()
    _print(figures)
    if target is not None:
        import json

        from bort.files import write_aside

        with folder_aside(target) as aside:
            with write_aside(aside / "benchmark.json") as file:
                json.dump(figures, file, indent=2)
                file.write("\n")
            speed_report(figures).write(aside / "report.html")
    return FiguresResult(figures)


def _print(figures: dict[str, Any]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from bort.progress import out
    from bort.speed.report import notes, tables

    console = out()
    for title, header, rows in tables(figures, brief=True):
        shown = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False)
        for name in header:
            words = name in ("model", "engine", "load")
            shown.add_column(name, justify="left" if words else "right", no_wrap=words)
        for row in rows:
            shown.add_row(*row)
        console.print(shown)
    for note in notes(figures):
        console.print(note, soft_wrap=True)
