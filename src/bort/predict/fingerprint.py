"""A fingerprint of a model's files, to detect a folder that has been replaced by another model."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bort.errors import BortError, flag
from bort.model.checkpoints import unpacked
from bort.model.sentence_files import listed_modules

_NOT_THE_MODEL = ("journal.jsonl", "README.md")
"""`--resume` of a finished run adds a line to its journal, and a model card may be edited. Hidden
files do not count either."""


def fingerprint_of_model(model: str) -> str:
    """SHA-256 over the files of a model's folder, also of an embedded model; the name itself if it is not a folder."""
    folder = Path(unpacked(model))
    if not folder.is_dir():
        return model
    paths = [path for named in (folder, *_module_folders(folder)) for path in named.iterdir()]
    files = {path.relative_to(folder).as_posix(): path for path in paths}
    found = hashlib.sha256()
    for name, file in sorted(files.items()):
        if name not in _NOT_THE_MODEL and not file.name.startswith(".") and file.is_file():
            with open(file, "rb") as opened:
                found.update(f"{name}\n{hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    return found.hexdigest()


def fingerprints_of_models(**models: str | None) -> dict[str, str]:
    """Fingerprints of the models that settings name, by flag; without those that are None."""
    return {flag(setting): fingerprint_of_model(model) for setting, model in models.items() if model is not None}


def _module_folders(folder: Path) -> list[Path]:
    """The folders of modules of sentence-transformers: those that `modules.json` names, and those of the usual form."""
    try:
        listed = listed_modules(str(folder)) or []
    except BortError:  # an encoder with such a file is refused when it is opened; a classifier needs no modules
        listed = []
    return [path for path in [*(folder / path for _, path in listed), *folder.glob("[0-9]*_*")] if path.is_dir()]
