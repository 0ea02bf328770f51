"""An export from settings to folder: accurate candidates, the fastest of them, thresholds, and the files."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from bort.errors import BortError
from bort.export.arguments import ExportArguments
from bort.export.candidate import ExportCandidate
from bort.export.classifier_export import ClassifierExport
from bort.export.data import ExportData
from bort.export.decision import ExportDecision, decide
from bort.export.encoder_export import EncoderExport
from bort.export.engines import exporters
from bort.export.exporter import Exporter, write_json
from bort.export.report import MOST_LOST, export_report
from bort.export.timing import WAYS
from bort.files import folder_aside, new_folder
from bort.predict.manifest import joined
from bort.progress import bar, console, say


def export_model(arguments: ExportArguments) -> dict[str, Any]:
    """Write an exported folder, and report the decision on standard error.

    Returns:
        The content of `metrics.json`, and the folder's size in `bytes`.

    Raises:
        BortError: The model cannot be exported, the data do not fit it, or int8 was requested and is not accurate
            enough. Nothing is written then.
    """
    data = ExportData.read(arguments)
    target, steps = new_folder(arguments.out), count(1)
    with tempfile.TemporaryDirectory() as work, folder_aside(target) as aside, bar("exporting") as shown:

        def tell(what: str) -> None:
            shown.update(next(steps), what)

        tell(f"loading {arguments.model}")
        made, left_out = exporters(arguments, has_texts=bool(data.gate or data.texts))
        data.check(made[0])
        judge = (ClassifierExport if made[0].encoder is None else EncoderExport)(arguments, data, Path(work), tell)
        candidates = _candidates(judge, made)
        texts = data.gate or data.texts
        decision = decide(candidates, texts, judge.passes, Path(work) / "both", tell)
        tell("writing")
        metrics, told = _write(aside, judge, decision)
    lines = [left_out, *dict.fromkeys(line for one in candidates for line in one.told), *told]
    for line in filter(None, lines):
        say(line)
    if decision.times:
        _show(decision)
    say(decision.why)
    if decision.first.choice:
        say(f"see {target / 'report.html'}")
    return metrics | {"bytes": sum(file.stat().st_size for file in target.iterdir())}


def _candidates(judge: ClassifierExport | EncoderExport, made: Sequence[Exporter]) -> list[ExportCandidate]:
    """The accurate candidates of all engines.

    Raises:
        BortError: There are none; gives the reason for the last engine.
    """
    found: list[ExportCandidate] = []
    refused: BortError | None = None
    for exporter in made:
        try:
            found += judge.candidates(exporter)
        except BortError as error:
            refused = error
    if not found and refused is not None:
        raise refused
    return found


def _write(
    folder: Path, judge: ClassifierExport | EncoderExport, decision: ExportDecision
) -> tuple[dict[str, Any], list[str]]:
    """Write all files; return the metrics, and lines for the user."""
    first = decision.first
    names = {name: joined(getattr(each, name) for each in decision.candidates) for name in ("engine", "precision")}
    metrics: dict[str, Any] = {**names, **first.facts}
    told: list[str] = []
    thresholds = None
    if isinstance(judge, ClassifierExport):
        with tempfile.TemporaryDirectory() as served:
            decision.write(Path(served), {})
            learned = judge.thresholds(first.exporter, Path(served))
        if learned is not None:
            thresholds, metrics["thresholds"] = learned.by_label, learned.figures()
            told += learned.told()
    metrics["quantization"] = first.exporter.described(first.quantization)
    metrics |= decision.figures()
    found = metrics | {"model": first.exporter.name}
    if first.choice:
        found["lost"] = first.choice.verdict.lost[:MOST_LOST]
        export_report(found).write(folder / "report.html")
    write_json(folder / "metrics.json", found)
    decision.write(folder, metrics, thresholds, prepared=True)  # the manifest gets no texts and paths
    return found, told


def _show(decision: ExportDecision) -> None:
    """Print the times as a table."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table("ms a text", *WAYS, box=SIMPLE)
    for name, times in decision.times.items():
        table.add_row(name, *(f"{times[way]:.3g}" for way in WAYS))
    console().print(table)
