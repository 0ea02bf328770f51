"""Which precision a model is written in: int8 as a whole, int8 but for some blocks, or fp32."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.data.examples import Example
from bort.runtime.blocks import keep_worst, shares
from bort.runtime.exporting import MOST_CALIBRATION_ROWS, Exporter
from bort.runtime.gate import Verdict, judge
from bort.runtime.predictor import Predictor
from bort.runtime.quantization import Quantization

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Choice:
    """What was decided, and on what grounds.

    Args:
        quantization: Of the model to write; None for fp32.
        whole: int8 in every block against fp32.
        verdict: The int8 model that passed against fp32, or `whole` where none did.
        movement: How far the logits move, on average, with one block alone in int8; empty where `whole` passed.
        logits: Of the model to write on the gate's rows. *Shape:* (rows, outputs).
    """

    quantization: Quantization | None
    whole: Verdict
    verdict: Verdict
    logits: NDArray[np.float32]
    movement: Mapping[str, float] = field(default_factory=dict)

    @property
    def kept(self) -> list[str]:
        """Blocks in fp32 of a model in int8."""
        return sorted(self.quantization.kept) if self.quantization else []

    @property
    def told(self) -> str:
        """A sentence without its stop."""
        drop = self.whole.drop
        lost = f"int8 {'gains' if drop < 0 else 'loses'} {abs(drop):.2f} points of {self.whole.metric}"
        if self.whole.passed:
            return f"{lost}, at most {self.whole.max_drop:g} are allowed"
        if not self.kept:
            return f"{lost}, more than {self.whole.max_drop:g}, so fp32 is written"
        return f"{lost}, but {self.verdict.drop:.2f} with {', '.join(self.kept)} in fp32, and so it is written"

    def figures(self) -> dict[str, Any]:
        """For `metrics.json` and the manifest."""
        mixed = {"whole_int8": self.whole.int8, "kept_fp32": self.kept} if self.kept else {}
        moved = {"blocks": shares(self.movement)} if self.movement else {}
        return self.verdict.figures() | mixed | moved


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

    def choose(self, quantization: Quantization, *, wanted: bool) -> Choice:
        """Try int8 and, where it fails, int8 but for the blocks that hurt most.

        Args:
            quantization: How int8 is done.
            wanted: Whether int8 may be chosen; if not, it is only scored.
        """
        exact = self._logits(self.fp32, self.rows, "scoring fp32")
        tried = self._int8(quantization, self.rows, "int8")
        whole = self._judged(exact, tried)
        if not wanted:
            return Choice(None, whole, whole, exact)
        if whole.passed:
            return Choice(quantization, whole, whole, tried)
        movement = self._movement(quantization, exact[:MOST_CALIBRATION_ROWS])
        passed: dict[frozenset[str], tuple[NDArray[np.float32], Verdict]] = {}

        def passes(kept: frozenset[str]) -> bool:
            mixed = quantization.keeping(kept)
            logits = self._int8(mixed, self.rows, f"int8 with {len(kept)} of {len(movement)} blocks in fp32")
            passed[kept] = logits, self._judged(exact, logits)
            return passed[kept][1].passed

        kept = keep_worst(movement, passes)
        if kept is None:
            return Choice(None, whole, whole, exact, movement)
        logits, verdict = passed[kept]
        return Choice(quantization.keeping(kept), whole, verdict, logits, movement)

    def _movement(self, quantization: Quantization, exact: NDArray[np.float32]) -> dict[str, float]:
        blocks = self.exporter.form.blocks
        movement = {}
        for block in blocks:
            alone = quantization.keeping(frozenset(blocks) - {block})
            logits = self._int8(alone, self.rows[: len(exact)], f"{block} alone in int8")
            movement[block] = float(np.abs(logits - exact).mean())
        return movement

    def _judged(self, exact: NDArray[np.float32], tried: NDArray[np.float32]) -> Verdict:
        return judge(self.exporter.source.task, exact, tried, self.rows, self.max_drop)

    def _int8(self, quantization: Quantization, rows: Sequence[Example], what: str) -> NDArray[np.float32]:
        self.say(f"writing {what}")
        shutil.rmtree(self.work)
        self.work.mkdir()
        self.exporter.write(self.work, quantization)
        return self._logits(self.work, rows, f"scoring {what}")

    def _logits(self, folder: Path, rows: Sequence[Example], what: str) -> NDArray[np.float32]:
        predictor = Predictor(str(folder))
        found = []
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            self.say(f"{what}: {start:,} of {len(rows):,} rows")
            found.append(predictor.logits(rows[start : start + _ROWS_AT_ONCE]))
        return np.concatenate(found)
