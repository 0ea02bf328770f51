"""A fingerprint of a model's files, to detect a folder that has been replaced by another model."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bort.model.checkpoints import unpacked


def fingerprint_of_model(model: str) -> str:
    """SHA-256 over the files of a model's folder, also of an embedded model; the name itself if it is not a folder."""
    folder = Path(unpacked(model))
    if not folder.is_dir():
        return model
    # sentence-transformers keeps modules in folders such as 1_Pooling.
    files = {path.relative_to(folder).as_posix(): path for path in [*folder.iterdir(), *folder.glob("[0-9]*_*/*")]}
    found = hashlib.sha256()
    for name, file in sorted(files.items()):
        if file.is_file():
            with open(file, "rb") as opened:
                found.update(f"{name}\n{hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    return found.hexdigest()
