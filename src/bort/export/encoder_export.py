"""The export of an encoder: no labels judge it, so int8 must keep the direction of fp32's vectors."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.export.arguments import ExportArguments
from bort.export.exporter import Exporter, write_json
from bort.export.precision import is_slower, keep_worst, ms_per_row, shares
from bort.predict.engine import open_exported
from bort.predict.graph.quantization import Quantization

_JUDGING_SHARE = 3
"""One text in so many judges, and the others calibrate."""


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each row with the row in the same place. *Shape:* (texts, width) each -> (texts,)."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: NDArray[np.float32] = (a * b).sum(1) / np.maximum(lengths, 1e-12)
    return found


class EncoderExport:
    """The steps of one export.

    Args:
        arguments: Its settings.
        exporter: The encoder.
        texts: To calibrate and to judge int8; none where fp32 is all that is wanted.
        work: An empty folder to work in.
        say: Takes a few words on what is being done.
    """

    def __init__(
        self,
        arguments: ExportArguments,
        exporter: Exporter,
        texts: Sequence[Example],
        work: Path,
        say: Callable[[str], None],
    ) -> None:
        self.arguments, self.exporter, self.say = arguments, exporter, say
        self.judging = texts[::_JUDGING_SHARE] if len(texts) > 1 else texts
        self.calibrating = [text for place, text in enumerate(texts) if place % _JUDGING_SHARE] or list(texts)
        self._fp32, self._tried = work / "fp32", work / "tried"
        self._told: list[str] = []

    def write(self, folder: Path) -> dict[str, Any]:
        """Decide and write; returns the figures.

        Raises:
            BortError: fp32 differs from PyTorch, or int8 was asked for and moves the vectors too far.
        """
        arguments, exporter = self.arguments, self.exporter
        self._fp32.mkdir()
        self.say("writing fp32")
        exporter.write(self._fp32, None)
        self.say("comparing fp32 with PyTorch")
        metrics: dict[str, Any] = {"engine": arguments.engine, "off_pytorch": exporter.check(self._fp32)}
        chosen: Quantization | None = None
        if arguments.precision != "fp32" and (self.judging or arguments.precision == "int8"):
            chosen = Quantization(weight_bits=arguments.weight_bits)
            if self.calibrating and arguments.activations != "dynamic":
                self.say(f"calibrating int8 on {len(self.calibrating)} texts")
                exporter.calibrate(self._fp32, self.calibrating)
            if self.judging:
                chosen = self._judged(chosen, metrics)
        metrics["precision"] = "fp32" if chosen is None else "int8"
        metrics["quantization"] = exporter.described(chosen)
        self.say(f"writing {metrics['precision']}")
        write_json(folder / "metrics.json", metrics)
        exporter.write(folder, chosen, metrics)
        return metrics

    def told(self) -> Iterator[str]:
        """Lines for a person."""
        yield from self._told

    def _judged(self, whole: Quantization, metrics: dict[str, Any]) -> Quantization | None:
        """int8 as a whole, but for the blocks that move the vectors most, or None for fp32."""
        least, exact = self.arguments.min_cosine, self._vectors(self._fp32)
        seen: dict[frozenset[str], NDArray[np.float32]] = {}

        def passes(kept: frozenset[str]) -> bool:
            seen[kept] = cosines(exact, self._int8(whole.keeping(kept)))
            return bool(seen[kept].mean() >= least)  # a NaN is no agreement

        kept: frozenset[str] | None = frozenset()
        if not passes(frozenset()):
            movement = self._movement(whole, exact)
            metrics["blocks"] = shares(movement)
            kept = keep_worst(movement, passes)
        found = seen[kept or frozenset()]
        metrics["cosine"] = {"mean": float(found.mean()), "least": float(found.min()), "texts": len(found)}
        said = f"int8's vectors have a mean cosine of {found.mean():.4f} with fp32's on {len(found)} texts"
        if kept:
            said = f"with {', '.join(sorted(kept))} in fp32 {said}"
        said += f"; at least {least:g} is asked for"
        if kept is None:
            if self.arguments.precision == "int8":
                rule = "Nothing is written; lower --min-cosine, give other texts, or take --precision auto"
                raise BortError(f"{said}. {rule}", setting="precision", value="int8")
            self._told.append(f"{said}, so fp32 is written")
            return None
        if self.arguments.precision == "auto":
            metrics["ms_per_row"] = times = ms_per_row({"fp32": self._fp32, "int8": self._tried}, self.judging)
            if is_slower(times):
                shown = " against ".join(f"{name}'s {ms:.3g}" for name, ms in times.items())
                self._told.append(f"{said}, but int8 is slower here ({shown} ms a text), so fp32 is written")
                return None
        self._told.append(said)
        return whole.keeping(kept)

    def _movement(self, whole: Quantization, exact: NDArray[np.float32]) -> dict[str, float]:
        """How far one block alone in int8 turns the vectors, by block."""
        blocks = self.exporter.form.blocks
        return {
            block: float(1 - cosines(exact, self._int8(whole.keeping(frozenset(blocks) - {block}))).mean())
            for block in blocks
        }

    def _int8(self, quantization: Quantization) -> NDArray[np.float32]:
        self.say(f"trying int8 with {len(quantization.kept)} blocks in fp32")
        shutil.rmtree(self._tried, ignore_errors=True)
        self._tried.mkdir()
        self.exporter.write(self._tried, quantization)
        return self._vectors(self._tried)

    def _vectors(self, folder: Path) -> NDArray[np.float32]:
        engine = open_exported(folder)
        return engine.run(engine.encode(self.judging))
