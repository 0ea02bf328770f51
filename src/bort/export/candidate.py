"""A candidate for the export: a model in one engine and precision, written to a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bort.export.exporter import Exporter
from bort.export.precision import Choice
from bort.predict.graph.quantization import Quantization


@dataclass(frozen=True)
class ExportCandidate:
    """A model in one engine and precision that is accurate enough.

    Args:
        exporter: The model in the form of the engine.
        quantization: How int8 is done; None for fp32.
        folder: Its folder.
        facts: Its entries in `metrics.json`.
        told: Lines for the user on how it was judged.
        choice: The decision of the gate; None without a gate.
    """

    exporter: Exporter
    quantization: Quantization | None
    folder: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    told: tuple[str, ...] = ()
    choice: Choice | None = None

    @property
    def engine(self) -> str:
        """Name of the inference engine."""
        return self.exporter.form.engine

    @property
    def precision(self) -> str:
        """fp32 or int8."""
        return "fp32" if self.quantization is None else "int8"

    @property
    def name(self) -> str:
        """Engine and precision, such as "onnxruntime-int8"."""
        return f"{self.engine}-{self.precision}"
