"""The files that make a folder one of sentence-transformers, which then opens it with the same vectors as ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bort.files import write_aside
from bort.predict.manifest import Pooling

_MODULES = (("", "Transformer"), ("1_Pooling", "Pooling"))
_NORMALIZE = ("2_Normalize", "Normalize")


def write_sentence_files(
    folder: str | Path, hidden_size: int, max_length: int, pooling: Pooling = "mean", *, normalizes: bool = False
) -> None:
    """Write `modules.json` and what it names beside an encoder.

    Args:
        folder: Where the encoder lies.
        hidden_size: Width of its vectors.
        max_length: Most tokens of a text.
        pooling: How the vectors of tokens become one.
        normalizes: Whether they are scaled to length 1 at the end.
    """
    folder = Path(folder)
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (path, kind) in enumerate([*_MODULES, *([_NORMALIZE] if normalizes else [])])
    ]
    poolings = {"pooling_mode_cls_token": pooling == "cls", "pooling_mode_mean_tokens": pooling == "mean"}
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": hidden_size, **poolings})
    # Without this weights that are stored in half precision would be computed in it, too.
    text = {"max_seq_length": max_length, "do_lower_case": False, "model_args": {"torch_dtype": "float32"}}
    _write(folder / "sentence_bert_config.json", text)
    _write(folder / "modules.json", modules)


def _write(file: Path, value: Any) -> None:
    with write_aside(file) as out:
        json.dump(value, out, indent=2)
        out.write("\n")
