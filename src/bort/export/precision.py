"""Which precision a model is written in: int8 as a whole, int8 but for some blocks, or fp32."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.export.exporter import MOST_CALIBRATION_ROWS, Exporter
from bort.export.gate import Verdict, judge
from bort.predict.engine import open_exported
from bort.predict.graph.quantization import Quantization
from bort.predict.int8_weights import LEAST_WEIGHT_BITS, weight_bits


def mixtures(movement: Mapping[str, float]) -> Iterator[frozenset[str]]:
    """What may stay in fp32: the block that moves the outputs most, the two that do, and so on, but never all.

    Args:
        movement: How far the outputs move with one block alone in int8, by block. Of equals the first goes first.
    """
    worst_first = sorted(movement, key=lambda block: -movement[block])
    for count in range(1, len(worst_first)):
        yield frozenset(worst_first[:count])


def keep_worst(movement: Mapping[str, float], passes: Callable[[frozenset[str]], bool]) -> frozenset[str] | None:
    """Keep blocks in fp32, the worst first, until the rest passes in int8.

    Args:
        movement: As of `mixtures`.
        passes: Whether the model is good enough with these blocks in fp32; asked until it says so.

    Returns:
        What is kept, or None where nothing passes.
    """
    return next((kept for kept in mixtures(movement) if passes(kept)), None)


def shares(movement: Mapping[str, float]) -> dict[str, float]:
    """Each block's part of the sum of all; 0 each where nothing moves."""
    total = sum(movement.values())
    return {block: moved / total if total else 0.0 for block, moved in movement.items()}


Precision = Literal["auto", "fp32", "int8"]


_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Choice:
    """What was decided, and on what grounds.

    Args:
        quantization: Of the model to write; None for fp32.
        whole: int8 in every block against fp32.
        verdict: The int8 model that passed against fp32, or `whole` where none did.
        movement: How far the logits move, on average, with one block alone in int8; empty where `whole` passed.
    """

    quantization: Quantization | None
    whole: Verdict
    verdict: Verdict
    movement: Mapping[str, float] = field(default_factory=dict)

    @property
    def kept(self) -> list[str]:
        """Blocks in fp32 of a model in int8."""
        return sorted(self.quantization.kept) if self.quantization else []

    @property
    def told(self) -> str:
        """A sentence without its stop."""
        if self.kept:
            return f"With {', '.join(self.kept)} in fp32 {self.verdict.told}; as a whole it {self.whole.outcome}"
        return self.whole.told

    def figures(self) -> dict[str, Any]:
        """For `metrics.json` and the manifest."""
        mixed = {"whole_int8": self.whole.int8, "kept_fp32": self.kept} if self.kept else {}
        moved = {"blocks": shares(self.movement)} if self.movement else {}
        return self.verdict.figures() | mixed | moved | {"told": self.told}


@dataclass
class Trials:
    """Precisions of one model, tried on labelled rows.

    Args:
        exporter: The model, calibrated if it shall be.
        fp32: Folder in which it lies exported in fp32.
        rows: The gate's.
        max_drop: Most points that int8 may lose.
        work: An empty folder, for one attempt after another.
        say: Takes a few words on what is being done.
    """

    exporter: Exporter
    fp32: Path
    rows: Sequence[Example]
    max_drop: float
    work: Path
    say: Callable[[str], None]

    def choose(self, quantization: Quantization, wanted: Precision) -> Choice:
        """Try int8 and, where it fails, int8 but for the blocks that hurt most.

        Args:
            quantization: How int8 is done.
            wanted: fp32: int8 is only scored. Otherwise it is chosen where it passes.
        """
        exact = self._logits(self.fp32, self.rows, "scoring fp32")
        whole = self._tried(quantization, exact, "int8")
        if wanted == "fp32":
            return Choice(None, whole, whole)
        if whole.passed:
            return Choice(quantization, whole, whole)
        # Where no row is lost, no mixture can lose fewer: there are too few rows.
        return self._mixed(quantization, whole, exact) if whole.lost else Choice(None, whole, whole)

    def judged(self, folder: Path) -> Verdict:
        """Any exported folder of the model against fp32."""
        exact = self._logits(self.fp32, self.rows, "scoring fp32")
        return self._judged(exact, self._logits(folder, self.rows, "scoring both engines"))

    def _mixed(self, quantization: Quantization, whole: Verdict, exact: NDArray[np.float32]) -> Choice:
        movement = self._movement(quantization, exact[:MOST_CALIBRATION_ROWS])
        verdicts: dict[frozenset[str], Verdict] = {}

        def passes(kept: frozenset[str]) -> bool:
            what = f"int8 with {len(kept)} of {len(movement)} blocks in fp32"
            verdicts[kept] = self._tried(quantization.keeping(kept), exact, what)
            return verdicts[kept].passed

        kept = keep_worst(movement, passes)
        if kept is None:
            return Choice(None, whole, whole, movement)
        return Choice(quantization.keeping(kept), whole, verdicts[kept], movement)

    def _tried(self, quantization: Quantization, exact: NDArray[np.float32], what: str) -> Verdict:
        """int8 as this processor computes it, and as one without VNNI does, where the worse of the two counts."""
        found = [self._judged(exact, self._int8(quantization, self.rows, what))]
        if weight_bits() > LEAST_WEIGHT_BITS:
            found.append(self._judged(exact, self._logits(self.work, self.rows, what, LEAST_WEIGHT_BITS)))
        return max(found, key=lambda verdict: (not verdict.passed, verdict.high))

    def _movement(self, quantization: Quantization, exact: NDArray[np.float32]) -> dict[str, float]:
        blocks = self.exporter.form.blocks
        movement = {}
        for block in blocks:
            alone = quantization.keeping(frozenset(blocks) - {block})
            logits = self._int8(alone, self.rows[: len(exact)], f"{block} alone in int8")
            movement[block] = float(np.abs(logits - exact).mean())
        return movement

    def _judged(self, exact: NDArray[np.float32], tried: NDArray[np.float32]) -> Verdict:
        assert self.exporter.task is not None
        return judge(self.exporter.task, exact, tried, self.rows, self.max_drop)

    def _int8(self, quantization: Quantization, rows: Sequence[Example], what: str) -> NDArray[np.float32]:
        self.say(f"writing {what}")
        shutil.rmtree(self.work)
        self.work.mkdir()
        self.exporter.write(self.work, quantization)
        return self._logits(self.work, rows, f"scoring {what}")

    def _logits(
        self, folder: Path, rows: Sequence[Example], what: str, weight_bits: int | None = None
    ) -> NDArray[np.float32]:
        engine, found = open_exported(folder, weight_bits=weight_bits), []
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            self.say(f"{what}: {start:,} of {len(rows):,} rows")
            found.append(engine.run(engine.encode(rows[start : start + _ROWS_AT_ONCE])))
        logits = np.concatenate(found)
        if not np.isfinite(logits).all():
            raise BortError(f"{what}: the model's outputs must be finite numbers, and they are not", file=folder)
        return logits
