"""Choice of the fastest accurate candidate: one engine and precision, or two engines for different text lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bort.data.tables.examples import Example
from bort.export.candidate import ExportCandidate
from bort.export.openvino_model import add_prepared
from bort.export.timing import (
    Speeds,
    fastest,
    is_clearly_faster,
    measured_costs,
    meeting,
    score,
    speeds,
)
from bort.predict.costs import BatchCosts
from bort.predict.engine import open_exported
from bort.predict.manifest import Manifest


@dataclass(frozen=True)
class ExportDecision:
    """The model to write, and why.

    Args:
        first: The candidate that computes all inputs, or the shorter ones.
        costs: Its batch costs.
        why: A sentence without its full stop.
        longer: The candidate for inputs of at least `from_tokens`, with its costs; None if `first` computes all.
        from_tokens: Minimum length of the inputs for `longer`.
        times: Times of everything that was timed, by name; empty if there was no choice.
    """

    first: ExportCandidate
    costs: BatchCosts
    why: str
    longer: tuple[ExportCandidate, BatchCosts] | None = None
    from_tokens: int = 0
    times: Mapping[str, Speeds] = field(default_factory=dict)

    @property
    def candidates(self) -> tuple[ExportCandidate, ...]:
        """The candidates to write, the one for shorter inputs first."""
        return (self.first,) if self.longer is None else (self.first, self.longer[0])

    def write(
        self,
        folder: Path,
        about: Mapping[str, Any],
        thresholds: Mapping[str, float] | None = None,
        *,
        prepared: bool = False,
    ) -> Manifest:
        """Write the folder.

        Args:
            folder: Where to; the manifest also lists other files that are already there.
            about: How it was made, for the manifest.
            thresholds: By label; by default the model's own, if it has any.
            prepared: Whether to add OpenVINO's compiled graphs, for a faster first prediction.
        """
        first = self.first
        manifest = first.exporter.write(folder, first.quantization, about, thresholds, self.costs)
        if self.longer is not None:
            other, costs = self.longer
            manifest = other.exporter.add(folder, manifest, other.quantization, costs, self.from_tokens)
        if prepared:
            manifest = add_prepared(folder, manifest)
        return manifest

    def figures(self) -> dict[str, Any]:
        """Its entries in `metrics.json` and the manifest."""
        found: dict[str, Any] = {"why": self.why}
        if self.times:
            found["ms_per_text"] = {name: dict(times) for name, times in self.times.items()}
        if self.longer is not None:
            found["longer"] = {"engine": self.longer[0].name, "from_tokens": self.from_tokens}
        return found


def decide(
    candidates: Sequence[ExportCandidate],
    texts: Sequence[Example],
    passes: Callable[[Path], bool],
    work: Path,
    say: Callable[[str], None],
) -> ExportDecision:
    """Time candidates on typical requests, and choose the fastest.

    Args:
        candidates: At least one.
        texts: Texts to time them on; without any, the first candidate is chosen.
        passes: Whether a folder with two engines is accurate enough.
        work: A working directory that does not exist yet.
        say: Called with a short note on the current step.
    """
    by_name = {candidate.name: candidate for candidate in candidates}
    if len(by_name) == 1 or not texts:
        say("measuring batches")
        only = candidates[0]
        return ExportDecision(only, measured_costs(open_exported(only.folder)), f"{only.name} is written")
    say(f"timing {', '.join(by_name)}")
    times = speeds({name: candidate.folder for name, candidate in by_name.items()}, texts)
    best = by_name[fastest(times)]
    costs = _costs(best, say)
    others = [name for name, candidate in by_name.items() if candidate.engine != best.engine]
    if others:
        other = by_name[fastest({name: times[name] for name in others})]
        both = _together(best, costs, other, _costs(other, say), texts)
        if both is not None:
            say("trying two engines")
            work.mkdir()
            both.write(work, {})
            name = f"{both.first.name} below {both.from_tokens} tokens, {other_name(both)} from there on"
            both_times = speeds({"both": work, best.name: best.folder}, texts)
            if is_clearly_faster(both_times["both"], both_times[best.name]) and passes(work):
                why = f"{name}: {_gain(both_times[best.name], both_times['both'])} as {best.name} alone"
                return ExportDecision(
                    both.first, both.costs, why, both.longer, both.from_tokens, {**times, name: both_times["both"]}
                )
    next_best = min((name for name in times if name != best.name), key=lambda name: score(times[name]))
    gain = _gain(times[next_best], times[best.name])
    return ExportDecision(best, costs, f"{best.name} is written: {gain} as {next_best}", times=times)


def other_name(both: ExportDecision) -> str:
    """Name of the candidate for the longer inputs."""
    assert both.longer is not None
    return both.longer[0].name


def _costs(candidate: ExportCandidate, say: Callable[[str], None]) -> BatchCosts:
    say(f"measuring batches of {candidate.name}")
    return measured_costs(open_exported(candidate.folder))


def _together(
    best: ExportCandidate, costs: BatchCosts, other: ExportCandidate, other_costs: BatchCosts, texts: Sequence[Example]
) -> ExportDecision | None:
    """Two engines for different text lengths; None unless their costs show that this is clearly faster."""
    encoded = open_exported(best.folder).encode(texts)
    found = []
    for (first, ours), (second, theirs) in (
        ((best, costs), (other, other_costs)),
        ((other, other_costs), (best, costs)),
    ):
        start, part = meeting(ours, theirs, encoded.lengths)
        found.append((part, ExportDecision(first, ours, "", (second, theirs), start)))
    part, both = min(found, key=lambda pair: pair[0])
    return both if is_clearly_faster({"modelled": part}, {"modelled": 1.0}) else None


def _gain(slower: Speeds, faster: Speeds) -> str:
    times = score(slower) / score(faster)
    return f"{times:.2f} x as fast{'' if times >= 1 else ', in less memory,'}"
