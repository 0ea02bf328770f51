"""The files of an index, and its description."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from bort.errors import BortError
from bort.files import with_home, write_aside
from bort.formats import check_format, stamp

FORMAT = 1
NAME = "index.json"
"""The description; an index without it is not finished."""
VECTORS, SCALES, TEXTS, ENDS = "vectors.bin", "scales.bin", "texts.bin", "ends.bin"
"""Stored vectors; the factor that scales each to length 1; concatenated UTF-8 texts; the end offset of each."""
FILES = (VECTORS, SCALES, TEXTS, ENDS)
Stored = Literal["int8", "float16"]
BYTES: Mapping[Stored, int] = {"int8": 1, "float16": 2}


def located(model: str) -> str:
    """The absolute path of a model's folder, since an index may be used in another working folder; else its name."""
    folder = Path(with_home(model))
    return str(folder.absolute()) if folder.is_dir() else model


@dataclass(frozen=True)
class Description:
    """Description of an index.

    Args:
        model: Name of the encoder, or the absolute path of its folder.
        size: Dimension of the vectors.
        stored: Type of the stored numbers.
        count: Number of texts.
        sources: Name, bytes and modification time of each file that was read.
        files: SHA-256 and bytes of each file of the index.
        model_sha256: Fingerprint of the encoder's files; empty if an earlier version made the index.
    """

    model: str
    size: int
    stored: Stored
    count: int = 0
    sources: tuple[Mapping[str, Any], ...] = ()
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    model_sha256: str = ""

    def write(self, folder: Path) -> None:
        """Write the description, which finishes an index."""
        with write_aside(folder / NAME) as out:
            json.dump({**stamp(FORMAT), **asdict(self)}, out, indent=2)  # ASCII: a file's name may be no valid Unicode
            out.write("\n")

    @classmethod
    def read(cls, folder: Path) -> Description:
        """Read the description of an index.

        Raises:
            BortError: It is missing, damaged or of another version.
        """
        file = folder / NAME
        try:
            described = json.loads(file.read_text("utf-8"))
            if not isinstance(described, dict):
                raise ValueError
        except FileNotFoundError:
            raise BortError(
                "holds no index.json, so no finished index; make one with bort index", file=folder
            ) from None
        except OSError as error:
            raise BortError(f"cannot be read: {error.strerror or error}", file=file) from None
        except (ValueError, RecursionError):
            raise BortError("must hold one JSON object", file=file) from None
        check_format(described, FORMAT, file, "make the index again")
        described = {name: value for name, value in described.items() if name not in stamp(FORMAT)}
        described.setdefault("model_sha256", "")
        kinds = {"model": str, "size": int, "stored": str, "count": int, "sources": list, "files": dict}
        kinds["model_sha256"] = str
        for name, kind in kinds.items():
            if type(described.get(name)) is not kind:
                raise BortError("is not what bort index writes", file=file, column=name, value=described.get(name))
        if (
            {*described} != {*kinds}
            or not all(isinstance(sums, dict) for sums in described["files"].values())
            or described["stored"] not in BYTES
            or min(described["size"], described["count"]) < 0
        ):
            raise BortError("is not what bort index writes", file=file)
        return cls(**described | {"sources": tuple(described["sources"])})

    @property
    def lengths(self) -> dict[str, int]:
        """Required bytes of each file except the texts."""
        return {name: self.count * width for name, width in self.widths.items()}

    @property
    def widths(self) -> dict[str, int]:
        """Bytes per text in each file except the texts."""
        return {VECTORS: self.size * BYTES[self.stored], SCALES: 4, ENDS: 8}
