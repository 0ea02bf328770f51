"""`bort export`: a model for fast inference without torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from bort.bounds import validate
from bort.cli.results import ExportResult
from bort.export.arguments import ExportArguments


def export(arguments: ExportArguments, *, gate: Any = None, calibrate: Any = None) -> ExportResult:
    """Export a model for ONNX Runtime or OpenVINO, in fp32 or int8, with all files that prediction needs.

    fp32 is checked against PyTorch. If the rows of --gate do not show that int8 loses at most --max-drop points,
    --precision int8 fails and --precision auto writes fp32.

    Example:
        >>> import bort
        >>> result = bort.export(bort.ExportArguments("runs/topics", "fast", "onnxruntime"))
        >>> result.precision, bort.Predictor("fast").predict("The zip broke.").label
        ('fp32', 'damage')
    """
    validate(arguments)
    import tempfile

    from bort.data.tables.objects import kept_file
    from bort.export.run import export_model
    from bort.progress import out

    with tempfile.TemporaryDirectory() as scratch:
        files: dict[str, Any] = {
            name: kept_file(data, Path(scratch), name, arguments.columns, labelled=name == "gate")
            for name, data in (("gate", gate), ("calibrate", calibrate))
            if data is not None
        }
        metrics = export_model(dataclasses.replace(arguments, **files))
    size = f"{metrics['bytes'] / 1e6:.1f} MB"
    out().print(f"{arguments.out}: {metrics['precision']}, {size}", soft_wrap=True)
    folder = Path(arguments.out)
    return ExportResult(metrics, folder, metrics["engine"], metrics["precision"], metrics["bytes"])
