"""Choice of the precision: int8 throughout, int8 except for some blocks, or fp32."""

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
    """Yield the sets of blocks to keep in fp32: the block that moves the outputs most, the top two, ..., never all.

    Args:
        movement: How far the outputs move with only one block in int8, by block. Ties keep their order.
    """
    worst_first = sorted(movement, key=lambda block: -movement[block])
    for count in range(1, len(worst_first)):
        yield frozenset(worst_first[:count])


def keep_worst(movement: Mapping[str, float], passes: Callable[[frozenset[str]], bool]) -> frozenset[str] | None:
    """Keep blocks in fp32, the worst first, until the rest passes in int8.

    Args:
        movement: See `mixtures`.
        passes: Whether the model is accurate enough with these blocks in fp32; called until it returns True.

    Returns:
        The blocks to keep in fp32, or None if nothing passes.
    """
    return next((kept for kept in mixtures(movement) if passes(kept)), None)


def shares(movement: Mapping[str, float]) -> dict[str, float]:
    """Each block's share of the sum; all 0 if nothing moves."""
    total = sum(movement.values())
    return {block: moved / total if total else 0.0 for block, moved in movement.items()}


Precision = Literal["auto", "fp32", "int8"]


_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Choice:
    """The chosen precision, and the verdicts behind it.

    Args:
        quantization: Quantization of the model to write; None for fp32.
        whole: Verdict on int8 in all blocks.
        verdict: Verdict on the int8 model that passed, or `whole` if none did.
        movement: Mean absolute change of the logits with only one block in int8; empty if no mixture was tried.
    """

    quantization: Quantization | None
    whole: Verdict
    verdict: Verdict
    movement: Mapping[str, float] = field(default_factory=dict)

    @property
    def kept(self) -> list[str]:
        """Blocks that stay in fp32 in an int8 model."""
        return sorted(self.quantization.kept) if self.quantization else []

    @property
    def told(self) -> str:
        """The verdict as a sentence without its full stop."""
        if self.kept:
            return f"With {', '.join(self.kept)} in fp32 {self.verdict.told}; as a whole it {self.whole.outcome}"
        return self.whole.told

    def figures(self) -> dict[str, Any]:
        """The entries in `metrics.json` and the manifest."""
        mixed = {"whole_int8": self.whole.int8, "kept_fp32": self.kept} if self.kept else {}
        moved = {"blocks": shares(self.movement)} if self.movement else {}
        return self.verdict.figures() | mixed | moved | {"told": self.told}


@dataclass
class Trials:
    """Tries precisions of one model on labelled rows.

    Args:
        exporter: The model, already calibrated if int8 is to be calibrated.
        fp32: Folder with its fp32 export.
        rows: The labelled rows to judge on.
        max_drop: Maximum number of points that int8 may lose.
        work: An empty working directory; each attempt replaces the previous one.
        say: Called with a short note on the current step.
    """

    exporter: Exporter
    fp32: Path
    rows: Sequence[Example]
    max_drop: float
    work: Path
    say: Callable[[str], None]

    def choose(self, quantization: Quantization, wanted: Precision) -> Choice:
        """Try int8 and, if it does not pass, int8 with the worst blocks in fp32.

        Args:
            quantization: How int8 is done.
            wanted: With fp32, int8 is only scored; otherwise it is chosen if it passes.
        """
        exact = self._logits(self.fp32, self.rows, "scoring fp32")
        whole = self._tried(quantization, exact, "int8")
        if wanted == "fp32":
            return Choice(None, whole, whole)
        if whole.passed:
            return Choice(quantization, whole, whole)
        # If no row is lost, no mixture can lose fewer: there are too few rows to decide.
        return self._mixed(quantization, whole, exact) if whole.lost else Choice(None, whole, whole)

    def judged(self, folder: Path) -> Verdict:
        """Judge any exported folder of the model against fp32."""
        return self._worse(self._logits(self.fp32, self.rows, "scoring fp32"), folder, "scoring both engines")

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
        self._write(quantization, what)
        return self._worse(exact, self.work, f"scoring {what}")

    def _worse(self, exact: NDArray[np.float32], folder: Path, what: str) -> Verdict:
        """Verdict on a folder as on this processor or as on one without VNNI, whichever is worse."""
        found = [
            self._judged(exact, self._logits(folder, self.rows, what, bits))
            for bits in sorted({weight_bits(), LEAST_WEIGHT_BITS}, reverse=True)
        ]
        return max(found, key=lambda verdict: (not verdict.passed, verdict.high))

    def _movement(self, quantization: Quantization, exact: NDArray[np.float32]) -> dict[str, float]:
        blocks = self.exporter.form.blocks
        movement = {}
        for block in blocks:
            alone = quantization.keeping(frozenset(blocks) - {block})
            what = f"{block} alone in int8"
            self._write(alone, what)
            logits = self._logits(self.work, self.rows[: len(exact)], f"scoring {what}")
            movement[block] = float(np.abs(logits - exact).mean())
        return movement

    def _judged(self, exact: NDArray[np.float32], tried: NDArray[np.float32]) -> Verdict:
        assert self.exporter.task is not None
        return judge(self.exporter.task, exact, tried, self.rows, self.max_drop)

    def _write(self, quantization: Quantization, what: str) -> None:
        self.say(f"writing {what}")
        shutil.rmtree(self.work)
        self.work.mkdir()
        self.exporter.write(self.work, quantization)

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
