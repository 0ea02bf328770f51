"""What the package carries: models by name, and example data."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).resolve().parents[1] / "assets"
EMBEDDED = ("bort-nano",)


def unpacked(name: str | Path) -> str:
    """The folder of an embedded model; any other name, and one that a folder here has, as it is."""
    name = str(name)
    return str(ASSETS / name) if name in EMBEDDED and not Path(name).exists() else name
