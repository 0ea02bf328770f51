"""The files with which sentence-transformers opens an encoder's folder, and gives the same vectors as bort."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bort.files import write_aside
from bort.model.sentence_files import MODULES, PROMPTS, TEXT_SETTINGS
from bort.predict.manifest import Pooling

_MODULES = (("", "Transformer"), ("1_Pooling", "Pooling"))
_NORMALIZE = ("2_Normalize", "Normalize")


def write_sentence_files(
    folder: str | Path,
    hidden_size: int,
    max_length: int,
    pooling: Pooling = "mean",
    *,
    normalizes: bool = False,
    lowercase: bool = False,
    prompt: str = "",
) -> None:
    """Write `modules.json` and the files it refers to, or that prepare texts, into an encoder's folder.

    Args:
        folder: Folder of the encoder.
        hidden_size: Width of its vectors.
        max_length: Maximum number of tokens of a text.
        pooling: How token vectors are pooled.
        normalizes: Whether pooled vectors are scaled to length 1.
        lowercase: Whether texts are lowercased first.
        prompt: Text prepended to every text.
    """
    folder = Path(folder)
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (path, kind) in enumerate([*_MODULES, *([_NORMALIZE] if normalizes else [])])
    ]
    poolings = {"pooling_mode_cls_token": pooling == "cls", "pooling_mode_mean_tokens": pooling == "mean"}
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": hidden_size, **poolings})
    # Otherwise, weights stored in half precision would also be computed in it.
    text = {"max_seq_length": max_length, "do_lower_case": lowercase, "model_args": {"torch_dtype": "float32"}}
    _write(folder / TEXT_SETTINGS[0], text)
    if prompt:
        _write(folder / PROMPTS, {"prompts": {"default": prompt}, "default_prompt_name": "default"})
    _write(folder / MODULES, modules)


def _write(file: Path, value: Any) -> None:
    with write_aside(file) as out:
        json.dump(value, out, indent=2)
        out.write("\n")
