"""What commands return to Python: figures by name, and where the files are.

Each is frozen, and `to_dict` gives it as JSON has it. `metrics` is the whole of what the run's `metrics.json` says.
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
        """All of it as what JSON knows; paths as strings.

        Example:
            >>> FolderResult({}, Path("pool")).to_dict()["out"]
            'pool'
        """
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self), default=_plain))
        return plain


@dataclass(frozen=True)
class FinetuneResult(CommandResult):
    """A fine-tuned model. Of a run over several tasks only `metrics` and `out` say something.

    Attributes:
        out: The run's folder, which is the model's too.
        method: How it was trained.
        metric: The score that chose the model.
        scores: By part (`dev`, and `test` where there was one), then by metric, with 95 % intervals.
        labels: The classes, in the order of the model's outputs; empty for a regression.
        held_out: Whether the test part was split off the training data.
        best: The combination of settings that won.
        seconds: What it took.

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
        """The page of the run."""
        return self.out / "report.html"

    @classmethod
    def of(cls, out: str, metrics: Mapping[str, Any]) -> FinetuneResult:
        """Read it off `metrics.json`.

        Args:
            out: The run's folder.
            metrics: What the file says.

        Example:
            >>> metrics = json.loads(Path("runs/topics/metrics.json").read_text())
            >>> FinetuneResult.of("runs/topics", metrics).labels
            ('damage', 'delivery')
        """
        return cls(
            metrics,
            Path(out).expanduser(),
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
        scores: By metric, with 95 % intervals, which have no width where no resamples were asked for.
        rows: How many were scored.
        file: Answers for a leaderboard, where they were asked for.

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
    """A file with answers.

    Attributes:
        output: The file, or `-` for standard output.
        rows: How many it has.
        skipped: Rows that could not be read and are left out.

    Example:
        >>> PredictResult({"rows": 3}, "labels.csv", 3, 0).to_dict()["output"]
        'labels.csv'
    """

    output: str
    rows: int
    skipped: int


@dataclass(frozen=True)
class ExportResult(CommandResult):
    """A model that answers fast on a CPU.

    Attributes:
        out: Its folder.
        engine: What runs it.
        precision: fp32 or int8, as was chosen.
        size_bytes: Of the folder.

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
        out: The run's folder, which is the model's too; None for a plan.

    Example:
        >>> PretrainResult({"steps": 2000}, Path("runs/encoder")).to_dict()["out"]
        'runs/encoder'
    """

    out: Path | None


@dataclass(frozen=True)
class ExtractResult(CommandResult):
    """An architecture that was found.

    Attributes:
        out: The run's folder.
        shape: Depth, heads, hidden and intermediate size.
        parameters: Of the model, counted.
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
    """A folder that was written: of `convert`, `shrink`, `submit`, `tokenizer`, `demo`.

    Attributes:
        out: The folder.

    Example:
        >>> FolderResult({"texts": 200}, Path("pool")).to_dict()
        {'metrics': {'texts': 200}, 'out': 'pool'}
    """

    out: Path


@dataclass(frozen=True)
class FiguresResult(CommandResult):
    """Figures alone: of `check`, `info` and `benchmark`.

    Example:
        >>> FiguresResult({"depth": 3}).metrics["depth"]
        3
    """


def scores_of(metrics: Mapping[str, Any], part: str) -> dict[str, Score]:
    """The scores of a part with their intervals.

    Args:
        metrics: What `metrics.json` says.
        part: `dev` or `test`.
    """
    from bort.tasks.metrics import Score

    return {name: Score(value, *metrics[f"{part}_confidence"][name]) for name, value in metrics[part].items()}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value.item()
