"""The fastest of what is exact enough: one engine and precision, or two engines of which each has its lengths."""

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
    """What is written, and why.

    Args:
        first: What computes all inputs, or the shorter ones.
        costs: Of its batches.
        why: A sentence without its stop.
        longer: What computes inputs from `from_tokens` on, its costs beside it; None where one computes all.
        from_tokens: The shortest of them.
        times: Of all that was timed, by name; empty where there was nothing to choose.
    """

    first: ExportCandidate
    costs: BatchCosts
    why: str
    longer: tuple[ExportCandidate, BatchCosts] | None = None
    from_tokens: int = 0
    times: Mapping[str, Speeds] = field(default_factory=dict)

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
            folder: It may hold other files already, which are listed too.
            about: How it was made, for the manifest.
            thresholds: Of labels; by default the model's own, where it has any.
            prepared: Whether to add what an engine makes ready for its first answer.
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
        """For `metrics.json` and the manifest."""
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
    """Time candidates as they will be asked, and take the fastest.

    Args:
        candidates: At least one.
        texts: To time them on; where there are none, the first candidate is taken.
        passes: Whether a folder with two engines is exact enough.
        work: A folder that is not there yet.
        say: Takes a few words on what is being done.
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
    """Of what computes the longer inputs."""
    assert both.longer is not None
    return both.longer[0].name


def _costs(candidate: ExportCandidate, say: Callable[[str], None]) -> BatchCosts:
    say(f"measuring batches of {candidate.name}")
    return measured_costs(open_exported(candidate.folder))


def _together(
    best: ExportCandidate, costs: BatchCosts, other: ExportCandidate, other_costs: BatchCosts, texts: Sequence[Example]
) -> ExportDecision | None:
    """Two engines of which each has its lengths, where the costs say that this is clearly faster."""
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
