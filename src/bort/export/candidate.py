"""What may be written: a model in one engine and precision, which lies ready in a folder of its own."""

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
    """A model in one engine and precision, which is exact enough.

    Args:
        exporter: The model in the form of the engine.
        quantization: How int8 is done; None for fp32.
        folder: Where it lies.
        facts: What is known of it, for `metrics.json`.
        told: Lines for a person on how it was judged.
        choice: What the gate decided; None where there is none.
    """

    exporter: Exporter
    quantization: Quantization | None
    folder: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    told: tuple[str, ...] = ()
    choice: Choice | None = None

    @property
    def engine(self) -> str:
        """What runs it."""
        return self.exporter.form.engine

    @property
    def precision(self) -> str:
        """fp32 or int8."""
        return "fp32" if self.quantization is None else "int8"

    @property
    def name(self) -> str:
        """As "onnxruntime-int8"."""
        return f"{self.engine}-{self.precision}"
