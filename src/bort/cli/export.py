"""`bort export`: a folder that answers fast, without torch."""

from __future__ import annotations

from typing import Any

from bort.bounds import validate
from bort.export.arguments import ExportArguments


def export(arguments: ExportArguments) -> dict[str, Any]:
    """Write a model for ONNX Runtime or OpenVINO, in fp32 or int8, with all that prediction needs.

    fp32 is checked against PyTorch. int8 is refused, or with --precision auto not chosen, where the rows of --gate do
    not show that it loses at most --max-drop points.
    """
    validate(arguments)

    from bort.export.run import export_model
    from bort.progress import out

    metrics = export_model(arguments)
    size = f"{metrics['bytes'] / 1e6:.1f} MB"
    out().print(f"{arguments.out}: {metrics['precision']}, {size}", soft_wrap=True)
    return metrics
