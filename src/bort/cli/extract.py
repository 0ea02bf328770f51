"""`bort extract`: search an architecture for a corpus, a teacher and a device."""

from __future__ import annotations

from pathlib import Path

from bort.cli.results import ExtractResult
from bort.ose.arguments import ExtractArguments
from bort.ose.space import Shape


def extract(arguments: ExtractArguments) -> ExtractResult:
    """Search for an encoder shape that is small, fast and accurate (OSE, arXiv 2010.08512).

    The space is ordered by counted parameters and inference time. Every epsilon-th member is trained for a few steps
    on the same text, to match the outputs of the maximum point, and scored by the size and time that it saves, divided
    by its error. No member is trained fully. With --inherit, the members are parts of a trained encoder and start from
    its weights. To continue an interrupted run, repeat the command with --resume.

    Example:
        >>> import bort
        >>> quick = {"space": "space.yaml", "steps": 2, "rows_per_step": 4, "row_length": 16, "held_out_rows": 4}
        >>> quick |= {"valid_share": 0.2, "repeats": 0, "maximum": "2,2,16,24"}
        >>> found = bort.extract(bort.ExtractArguments(["corpus.txt"], "runs/search", **quick))
        >>> found.architecture.name, sorted(found.shape)
        ('architecture.json', ['depth', 'heads', 'hidden', 'intermediate'])
    """
    from bort.ose.extract import extract as implementation
    from bort.progress import out

    metrics = implementation(arguments)
    best, maximum = metrics["candidates"][0], metrics["maximum"]
    shape = Shape.of(best)
    level = len(metrics["level"]) - 1
    axes = "D,A,H,I,V" if shape.vocabulary else "D,A,H,I"
    lines = [
        f"found {axes} = {','.join(map(str, shape))}: W {best['coefficient']:.4f}, error {best['error']:.3f}, "
        f"{best['parameters'] / 1e6:.2f} M parameters",
        f"  {100 * best['parameters'] / maximum['parameters']:.1f} % of the maximum point's parameters, "
        f"{100 * best['time'] / maximum['time']:.1f} % of its inference time",
        f"  {len(metrics['candidates'])} of {metrics['members']} members trained"
        + (f", {level} level with the found one" if level > 0 else "")
        + "".join(f", {metrics[word]} {word}" for word in ("diverged", "failed") if metrics[word])
        + f", {metrics['training_seconds'] / 60:.1f} min",
        f"{arguments.out}: architecture.json, candidates.csv, report.html, {metrics['top'][0]}",
    ]
    out().print("\n".join(lines), highlight=False, soft_wrap=True)
    folder = Path(arguments.out)
    sizes = {name: int(best[name]) for name in ("depth", "heads", "hidden", "intermediate")}
    return ExtractResult(metrics, folder, sizes, int(best["parameters"]), folder / "architecture.json")


__all__ = ["ExtractArguments", "extract"]
