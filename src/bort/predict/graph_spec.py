"""The description of a graph in an exported folder: engine, precision, range of lengths, and costs of batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from bort.errors import BortError
from bort.predict.costs import BatchCosts


@dataclass(frozen=True)
class GraphSpec:
    """A graph, as described in the manifest.

    Args:
        engine: Name of the engine that runs it.
        precision: fp32 or int8.
        activations: Source of the activation scales in int8: "calibrated" on texts, or "dynamic", computed for each
            input. "" in fp32.
        model: File of the graph.
        from_tokens: Length of the shortest input that it computes; 0 for a folder's first graph.
        costs: Costs of its batches, if they were measured.
        prepared: File of the same graph as compiled by its engine, which loads faster; "" if there is none.
        prepared_for: Version of the engine and kind of processor that this file is for.
    """

    engine: str
    precision: str
    activations: str
    model: str
    from_tokens: int = 0
    costs: BatchCosts | None = None
    prepared: str = ""
    prepared_for: str = ""

    def described(self) -> dict[str, Any]:
        """The entry in the manifest."""
        return dataclasses.asdict(self)


def read_graph(
    described: Mapping[str, Any], files: Collection[str], refuse: Callable[[str], BortError], *, least: int = 0
) -> GraphSpec:
    """Parse the description of a graph in a manifest.

    Args:
        described: The graph's fields, and maybe others. Fields that have a default may be missing.
        files: Names of the files in the folder.
        refuse: Creates the error for an invalid field.
        least: Minimum of `from_tokens`.

    Raises:
        BortError: A field is missing, or has a value that no export writes.
    """
    texts = ("engine", "precision", "activations", "model", "prepared", "prepared_for")
    fields: dict[str, Any] = {name: described[name] for name in texts if name in described}
    for name in texts:
        if not isinstance(described.get(name, "" if name.startswith("prepared") else None), str):
            raise refuse(name)
    among = {
        "precision": ("fp32", "int8"),
        "activations": ("calibrated", "dynamic") if fields["precision"] == "int8" else ("",),
        "model": files,
        "prepared": ("", *files),
    }
    for name, allowed in among.items():
        if fields.get(name, "") not in allowed:
            raise refuse(name)
    start = described.get("from_tokens", 0)
    if type(start) is not int or start < least:
        raise refuse("from_tokens")
    costs = described.get("costs")
    if costs is not None and BatchCosts.of(costs) is None:
        raise refuse("costs")
    return GraphSpec(**fields, from_tokens=start, costs=BatchCosts.of(costs))
