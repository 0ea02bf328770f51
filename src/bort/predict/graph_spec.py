"""A graph of an exported folder: what runs it, what it computes in, for which inputs, and what its batches cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from bort.errors import BortError
from bort.predict.costs import BatchCosts


@dataclass(frozen=True)
class GraphSpec:
    """A graph, as the manifest has it.

    Args:
        engine: What runs it.
        precision: What it computes in: fp32 or int8.
        activations: In int8, where the scales of its activations come from: "calibrated" on texts, or "dynamic", from
            what is computed. In fp32 "".
        model: Its file.
        from_tokens: The shortest input that it computes; 0 of a folder's first graph.
        costs: Of its batches, where they were measured.
        prepared: File of the same graph as its engine left it ready to run, which opens sooner; "" where there is none.
        prepared_for: The engine's version and the processor that this file is for.
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
        """For the manifest."""
        return dataclasses.asdict(self)


def read_graph(
    described: Mapping[str, Any], files: Collection[str], refuse: Callable[[str], BortError], *, least: int = 0
) -> GraphSpec:
    """A graph as a manifest describes it.

    Args:
        described: What holds the graph's fields, and maybe others. Those that have a default may be left out.
        files: Of the folder.
        refuse: Makes the error of a field.
        least: Fewest tokens that `from_tokens` may say.

    Raises:
        BortError: A field is missing, or is none that an export writes.
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
