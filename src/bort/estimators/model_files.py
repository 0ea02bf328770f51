"""A fitted model as bytes: what an estimator carries along, so that it needs no folder."""

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
from bort.predict.manifest import is_exported
from bort.predict.predictor import Predictor

_NAMES = ("config.json", "tokenizer*.json", "vocab.*", "merges.txt", "special_tokens_map.json", "*.model")
_WEIGHTS = "model*.safetensors*"
_OPENING = Lock()


class ModelFiles:
    """The files of a model's folder by name, weights in the safetensors format; it is pickled as these bytes alone.

    Args:
        files: Content by name.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self._opened: tuple[int | None, Predictor] | None = None

    @classmethod
    def of(cls, model: str | Path) -> ModelFiles:
        """Read a model.

        Args:
            model: A folder of `bort finetune` or `bort export`, one of Hugging Face, or a name on the hub.

        Raises:
            BortError: There is none, or its weights are not in the safetensors format.
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
            except Exception as error:  # the hub's client and its HTTP library have many
                raise BortError(f"cannot be loaded from the hub: {str(error)[:200]}", file=source) from None
        weights = list(Path(source).glob(_WEIGHTS))
        if not weights:
            rule = "holds no model.safetensors; save it anew: save_pretrained writes this format"
            raise BortError(rule, file=source)
        named = {file for pattern in _NAMES for file in Path(source).glob(pattern)}
        return cls({file.name: file.read_bytes() for file in sorted([*named, *weights])})

    def __getstate__(self) -> dict[str, Any]:
        """The bytes; an opened model stays behind."""
        return {"files": self.files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As it was, not opened."""
        self.files, self._opened = state["files"], None

    def write(self, folder: str | Path, more: Mapping[str, bytes] | None = None) -> None:
        """Write the folder, whole or not at all.

        Args:
            folder: Where to.
            more: Further files.

        Raises:
            BortError: Something is there already.
        """
        write_folder(new_folder(Path(folder).expanduser()), {**self.files, **(more or {})})

    def predictor(self, threads: int | None) -> Predictor:
        """The model, opened at its first use. Any number of threads may ask.

        Args:
            threads: Of the computation; by default one a core.

        Raises:
            BortError: It is no classifier or regressor.
        """
        with _OPENING:
            if self._opened is None or self._opened[0] != threads:
                # ONNX Runtime maps files of the folder for as long as it runs.
                scratch = Path(tempfile.mkdtemp(prefix="bort-"))
                weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
                write_folder(scratch / "model", self.files)
                self._opened = threads, Predictor(str(scratch / "model"), threads=threads)
            return self._opened[1]
