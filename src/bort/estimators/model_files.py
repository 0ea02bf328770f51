"""A fitted model as bytes, so that an estimator does not depend on a folder."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from bort.errors import BortError
from bort.files import new_folder, write_folder
from bort.model.checkpoints import locate
from bort.model.sentence_files import PROMPTS, TEXT_SETTINGS
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
_WEIGHTS = "model*.safetensors*"
_OPENING = Lock()


class ModelFiles:
    """The files of a model's folder by name, with weights in the safetensors format; only these bytes are pickled.

    Args:
        files: Contents by name.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self._opened: tuple[int | None, Predictor] | None = None

    @classmethod
    def of(cls, model: str | Path) -> ModelFiles:
        """Read a model.

        Args:
            model: A folder of `bort finetune`, `bort export` or Hugging Face, or a hub name.

        Raises:
            BortError: It does not exist, or its weights are not in the safetensors format.
        """
        folder = Path(str(model)).expanduser()
        if is_exported(str(folder)):
            found = [file for file in folder.iterdir() if file.is_file()]
            return cls({file.name: file.read_bytes() for file in found})
        source = locate(folder if folder.is_dir() else str(model))
        if not Path(source).is_dir():
            from huggingface_hub import snapshot_download

            try:
                source = snapshot_download(source, allow_patterns=[*_NAMES, _WEIGHTS])
            except Exception as error:  # the hub's client and its HTTP library raise many types
                raise BortError(f"cannot be loaded from the hub: {str(error)[:200]}", file=source) from None
        weights = list(Path(source).glob(_WEIGHTS))
        if not weights:
            rule = "holds no model.safetensors; save it anew: save_pretrained writes this format"
            raise BortError(rule, file=source)
        named = {file for pattern in _NAMES for file in Path(source).glob(pattern)}
        return cls({file.name: file.read_bytes() for file in sorted([*named, *weights])})

    def __getstate__(self) -> dict[str, Any]:
        """Return only the files, without an opened model."""
        return {"files": self.files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the files, without an opened model."""
        self.files, self._opened = state["files"], None

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
                # ONNX Runtime maps files of the folder for as long as it runs.
                scratch = Path(tempfile.mkdtemp(prefix="bort-"))
                weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
                write_folder(scratch / "model", self.files)
                self._opened = threads, Predictor(str(scratch / "model"), threads=threads)
            return self._opened[1]
