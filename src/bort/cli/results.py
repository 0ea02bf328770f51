"""What commands return to Python: figures by name, and paths of the files.

Each result is frozen, and `to_dict` returns it as JSON types. `metrics` holds everything in the run's `metrics.json`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bort.tasks.metrics import Score


@dataclass(frozen=True)
class CommandResult:
    """What every command returns.

    Attributes:
        metrics: All figures, by name.
    """

    metrics: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON types; paths become strings.

        Example:
            >>> FolderResult({}, Path("pool")).to_dict()["out"]
            'pool'
        """
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self), default=_plain))
        return plain


@dataclass(frozen=True)
class FinetuneResult(CommandResult):
    """A fine-tuned model. After a run over several tasks, only `metrics` and `out` are set.

    Attributes:
        out: The folder of the run and of the model.
        method: How it was trained.
        metric: The metric by which the model was selected.
        scores: By part (`dev`, and `test` if there was one), then by metric, with 95 % intervals.
        labels: The classes, in the order of the model's outputs; empty for a regression.
        held_out: Whether the test part was split off the training data.
        best: The best combination of settings.
        seconds: Duration of the run.

    Example:
        >>> FinetuneResult({}, Path("runs/topics"), metric="accuracy").report.as_posix()
        'runs/topics/report.html'
    """

    out: Path
    method: str = ""
    metric: str = ""
    scores: Mapping[str, Mapping[str, Score]] = dataclasses.field(default_factory=dict)
    labels: tuple[str, ...] = ()
    held_out: bool = False
    best: str = ""
    seconds: float = 0.0

    @property
    def report(self) -> Path:
        """The report of the run."""
        return self.out / "report.html"

    @classmethod
    def of(cls, out: str, metrics: Mapping[str, Any]) -> FinetuneResult:
        """Create the result from `metrics.json`.

        Args:
            out: The run's folder.
            metrics: Contents of the file.

        Example:
            >>> metrics = json.loads(Path("runs/topics/metrics.json").read_text())
            >>> FinetuneResult.of("runs/topics", metrics).labels
            ('damage', 'delivery')
        """
        from bort.tasks.metrics import scores_of

        return cls(
            metrics,
            Path(out),
            metrics["method"],
            metrics["metric"],
            {part: scores_of(metrics, part) for part in ("dev", "test") if part in metrics},
            tuple(metrics["labels"]),
            bool(metrics["held_out"]),
            metrics.get("best_theta", ""),
            float(metrics["seconds"]),
        )


@dataclass(frozen=True)
class EvaluateResult(CommandResult):
    """A model's scores on labelled data, or on a suite's task.

    Attributes:
        scores: By metric, with 95 % intervals, which have zero width without resamples.
        rows: Number of scored rows.
        file: Answers for a leaderboard, if requested.

    Example:
        >>> import bort
        >>> result = bort.evaluate(bort.EvaluateArguments("runs/topics", "dev.csv"))
        >>> result.rows, result.scores["accuracy"].value
        (20, 1.0)
    """

    scores: Mapping[str, Score]
    rows: int
    file: Path | None = None


@dataclass(frozen=True)
class PredictResult(CommandResult):
    """A file with predictions.

    Attributes:
        output: The file, or `-` for standard output.
        rows: Number of rows in it.
        skipped: Number of rows left out because they could not be read.

    Example:
        >>> PredictResult({"rows": 3}, "labels.csv", 3, 0).to_dict()["output"]
        'labels.csv'
    """

    output: str
    rows: int
    skipped: int


@dataclass(frozen=True)
class ExportResult(CommandResult):
    """A model for fast inference on a CPU.

    Attributes:
        out: Its folder.
        engine: The engine that runs it.
        precision: The chosen precision, fp32 or int8; of two engines both, joined by +, if they differ.
        size_bytes: Size of the folder.

    Example:
        >>> ExportResult({}, Path("fast"), "openvino", "int8", 12_800_000).to_dict()["precision"]
        'int8'
    """

    out: Path
    engine: str
    precision: str
    size_bytes: int


@dataclass(frozen=True)
class PretrainResult(CommandResult):
    """A pre-trained encoder, or the plan of a run.

    Attributes:
        out: The folder of the run and of the model; None for a plan.

    Example:
        >>> PretrainResult({"steps": 2000}, Path("runs/encoder")).to_dict()["out"]
        'runs/encoder'
    """

    out: Path | None


@dataclass(frozen=True)
class ExtractResult(CommandResult):
    """The result of an architecture search.

    Attributes:
        out: The run's folder.
        shape: Depth, heads, hidden and intermediate size.
        parameters: Parameter count of the model.
        architecture: The file that `bort pretrain --architecture` takes.

    Example:
        >>> shape = {"depth": 4, "heads": 8, "hidden": 1024, "intermediate": 768}
        >>> ExtractResult({}, Path("run"), shape, 75_000_000, Path("run/architecture.json")).shape["depth"]
        4
    """

    out: Path
    shape: Mapping[str, int]
    parameters: int
    architecture: Path


@dataclass(frozen=True)
class FolderResult(CommandResult):
    """A folder written by `convert`, `shrink`, `submit`, `index`, `tokenizer` or `demo`.

    Attributes:
        out: The folder.

    Example:
        >>> FolderResult({"texts": 200}, Path("pool")).to_dict()
        {'metrics': {'texts': 200}, 'out': 'pool'}
    """

    out: Path


@dataclass(frozen=True)
class FiguresResult(CommandResult):
    """Only figures: the result of `check`, `info` and `benchmark`.

    Example:
        >>> FiguresResult({"depth": 3}).metrics["depth"]
        3
    """


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value.item()
