"""Export of an encoder: without labels, int8 is judged by the cosine of its vectors with those of fp32."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.export.arguments import ExportArguments
from bort.export.candidate import ExportCandidate
from bort.export.data import ExportData, drawn_apart
from bort.export.exporter import Exporter
from bort.export.precision import keep_worst, shares
from bort.predict.engine import open_exported
from bort.predict.graph.quantization import Quantization
from bort.predict.int8_weights import LEAST_WEIGHT_BITS, weight_bits

Vectors = NDArray[np.float32]
_JUDGING_SHARE = 3
"""One in this many different texts judges int8; the others calibrate it."""


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine of each row with the row at the same index. *Shape:* (texts, width) each -> (texts,)."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: NDArray[np.float32] = (a * b).sum(1) / np.maximum(lengths, 1e-12)
    return found


class EncoderExport:
    """Finds the accurate candidates for the export of an encoder.

    Args:
        arguments: Settings of the export.
        data: Texts to calibrate int8 and to judge it, if any.
        work: An empty folder to work in.
        say: Called with a short note on the current step.
    """

    def __init__(self, arguments: ExportArguments, data: ExportData, work: Path, say: Callable[[str], None]) -> None:
        self.arguments, self.work, self.say = arguments, work, say
        self.judging, others = drawn_apart(data.texts, _JUDGING_SHARE)
        self.calibrating = others or self.judging  # a single text does both
        self._exact: Vectors | None = None

    def candidates(self, exporter: Exporter) -> list[ExportCandidate]:
        """The candidates of one engine: fp32, int8 or both.

        Raises:
            BortError: fp32 differs from PyTorch, or int8 was requested and moves the vectors too far.
        """
        wanted, engine = self.arguments.precision, exporter.form.engine
        fp32 = self.work / f"{engine}-fp32"
        fp32.mkdir()
        self.say(f"writing fp32 for {engine}")
        exporter.write(fp32, None)
        self.say("comparing fp32 with PyTorch")
        facts: dict[str, Any] = {"off_pytorch": exporter.check(fp32)}
        if wanted == "fp32" or not (self.judging or wanted == "int8"):
            return [ExportCandidate(exporter, None, fp32, facts)]
        if self.calibrating and self.arguments.activations != "dynamic":
            self.say(f"calibrating int8 on {len(self.calibrating)} texts")
            exporter.calibrate(fp32, self.calibrating)
        self._exact = _vectors(fp32, self.judging)
        trial = _Trial(exporter, self.judging, self._exact, self.work / f"{engine}-int8", self.say)
        if not self.judging:
            trial.written(Quantization())
            return [ExportCandidate(exporter, Quantization(), trial.folder, facts)]
        least = self.arguments.min_cosine
        kept, told = trial.kept(least, facts)
        if kept is None and wanted == "int8":
            rule = "Nothing is written; lower --min-cosine, give other texts, or take --precision auto"
            raise BortError(f"{told}. {rule}", setting="precision", value="int8")
        found = [] if wanted == "int8" else [ExportCandidate(exporter, None, fp32, facts, (told,))]
        if kept is not None:
            found.append(ExportCandidate(exporter, Quantization(kept), trial.folder, facts, (told,)))
        return found

    def passes(self, folder: Path) -> bool:
        """Whether a folder with two engines is accurate enough; each of the two alone is."""
        if self._exact is None:
            return True
        return bool(_lower(self._exact, folder, self.judging).mean() >= self.arguments.min_cosine)


class _Trial:
    """int8 in one engine, judged by its vectors."""

    def __init__(
        self, exporter: Exporter, judging: Sequence[Example], exact: Vectors, folder: Path, say: Callable[[str], None]
    ) -> None:
        self.exporter, self.judging, self.exact, self.folder, self.say = exporter, judging, exact, folder, say

    def kept(self, least: float, facts: dict[str, Any]) -> tuple[frozenset[str] | None, str]:
        """Find the blocks to keep in fp32 (None if that is not enough), and a message on it; adds to `facts`."""
        seen: dict[frozenset[str], Vectors] = {}

        def passes(kept: frozenset[str]) -> bool:
            seen[kept] = self._cosines(Quantization(kept))
            return bool(seen[kept].mean() >= least)  # a NaN must not pass

        kept: frozenset[str] | None = frozenset()
        if not passes(frozenset()):
            movement = self._movement()
            facts["blocks"] = shares(movement)
            kept = keep_worst(movement, passes)
        found = seen[kept or frozenset()]
        facts["cosine"] = {"mean": float(found.mean()), "least": float(found.min()), "texts": len(found)}
        engine = self.exporter.form.engine
        said = f"{engine}: int8's vectors have a mean cosine of {found.mean():.4f} with fp32's on {len(found)} texts"
        if kept:
            said = f"with {', '.join(sorted(kept))} in fp32 {said}"
        return kept, f"{said}; at least {least:g} is asked for"

    def written(self, quantization: Quantization) -> Path:
        """Write the model, and return its folder."""
        self.say(f"trying int8 with {len(quantization.kept)} blocks in fp32")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.exporter.write(self.folder, quantization)
        return self.folder

    def _cosines(self, quantization: Quantization) -> Vectors:
        return _lower(self.exact, self.written(quantization), self.judging)

    def _movement(self) -> dict[str, float]:
        """How far the vectors turn with only one block in int8, by block."""
        blocks = self.exporter.form.blocks
        return {block: float(1 - self._cosines(Quantization(frozenset(blocks) - {block})).mean()) for block in blocks}


def _lower(exact: Vectors, folder: Path, texts: Sequence[Example]) -> Vectors:
    """Cosines with a folder as on this processor or as on one without VNNI, whichever are lower on average."""
    found = [cosines(exact, _vectors(folder, texts, bits)) for bits in {weight_bits(), LEAST_WEIGHT_BITS}]
    return min(found, key=lambda cosine: float(cosine.mean()))


def _vectors(folder: Path, texts: Sequence[Example], weight_bits: int | None = None) -> Vectors:
    engine = open_exported(folder, weight_bits=weight_bits)
    return engine.run(engine.encode(texts))
