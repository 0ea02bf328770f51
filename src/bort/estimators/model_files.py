"""A fitted model as bytes, so that an estimator does not depend on a folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from bort.errors import BortError
from bort.files import new_folder, write_folder
from bort.model.checkpoints import locate
from bort.model.sentence_files import MODULE_FILES, MODULES, PROMPTS, TEXT_SETTINGS, files_of_modules
from bort.predict.manifest import NAME as MANIFEST
from bort.predict.manifest import is_exported
from bort.predict.predictor import Predictor

_NAMES = (
    "config.json",
    "tokenizer*.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "*.model",
    PROMPTS,  # a cross-encoder may be refused for these
    TEXT_SETTINGS[0],
)
_MODULES = (MODULES, *(f"[0-9]*_*/{name}" for name in MODULE_FILES))
"""The list of modules of an encoder, such as a bi-encoder's, and their files on the hub."""
_WEIGHTS = "model*.safetensors*"
_OPENING = Lock()


class ModelFiles:
    """The files of a model's folder by name, with weights in the safetensors format; only these bytes are pickled.

    Args:
        files: Contents by name, which for a module of an encoder is a path.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.__setstate__({"files": dict(files)})

    @property
    def exported(self) -> bool:
        """Whether they are those of an exported model."""
        return MANIFEST in self.files

    @classmethod
    def of(cls, model: str | Path) -> ModelFiles:
        """Read a model.

        Args:
            model: A folder of `bort finetune`, `bort export` or Hugging Face, or a hub name.

        Raises:
            BortError: It does not exist, its weights are not in the safetensors format, or its modules are broken.
        """
        folder = Path(str(model)).expanduser()
        if is_exported(str(folder)):
            found = [file for file in folder.iterdir() if file.is_file()]
            return cls({file.name: file.read_bytes() for file in found})
        source = locate(folder if folder.is_dir() else str(model))
        if not Path(source).is_dir():
            from huggingface_hub import snapshot_download

            try:
                source = snapshot_download(source, allow_patterns=[*_NAMES, *_MODULES, _WEIGHTS])
            except Exception as error:  # the hub's client and its HTTP library raise many types
                raise BortError(f"cannot be loaded from the hub: {str(error)[:200]}", file=source) from None
        weights = list(Path(source).glob(_WEIGHTS))
        if not weights:
            rule = "holds no model.safetensors; save it anew: save_pretrained writes this format"
            raise BortError(rule, file=source)
        named = {file for pattern in _NAMES for file in Path(source).glob(pattern)}
        named |= {file for name in files_of_modules(source) if (file := Path(source) / name).is_file()}
        return cls({file.relative_to(source).as_posix(): file.read_bytes() for file in sorted([*named, *weights])})

    def __getstate__(self) -> dict[str, Any]:
        """Return only the files, without an opened model."""
        return {"files": self.files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the files, without an opened model."""
        self.files: dict[str, bytes] = state["files"]
        self._opened: tuple[int | None, Predictor] | None = None
        self._folder: Path | None = None

    def write(self, folder: str | Path, more: Mapping[str, bytes] | None = None) -> None:
        """Write the folder atomically.

        Args:
            folder: Folder to write.
            more: Further files by name.

        Raises:
            BortError: `folder` exists and is not empty.
        """
        write_folder(new_folder(folder), {**self.files, **(more or {})})

    def predictor(self, threads: int | None) -> Predictor:
        """Return the model, opened on first use. Thread-safe.

        Args:
            threads: Number of threads; by default one per core.

        Raises:
            BortError: It is not a classifier or regressor.
        """
        with _OPENING:
            if self._opened is None or self._opened[0] != threads:
                self._opened = None
                self._opened = threads, Predictor(str(self._written()), threads=threads)
            return self._opened[1]

    @contextlib.contextmanager
    def opened(self, threads: int | None, name: str = "model_") -> Iterator[Predictor]:
        """Like `predictor`, for a block whose errors name the model instead of its temporary folder.

        Args:
            threads: Number of threads; by default one per core.
            name: Name of the model.

        Raises:
            BortError: It is not a classifier or regressor.
        """
        try:
            yield self.predictor(threads)
        except BortError as error:
            if self._folder is None or str(self._folder) not in str(error):
                raise
            raise BortError(str(error).replace(str(self._folder), name)) from None

    def _written(self) -> Path:
        """The temporary folder of the files, which ONNX Runtime maps for as long as it runs."""
        if self._folder is None:
            scratch = Path(tempfile.mkdtemp(prefix="bort-"))
            weakref.finalize(self, _remove, scratch, os.getpid())
            self._folder = scratch / "model"
        if not all((self._folder / name).is_file() for name in self.files):  # the system may tidy up, too
            write_folder(self._folder, self.files)
        return self._folder


def _remove(folder: Path, owner: int) -> None:
    """Remove a temporary folder, but not where a forked process ends that its owner has started."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
