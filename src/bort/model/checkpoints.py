"""Models in and out: plain Hugging Face BERT folders, found by path, embedded name or hub name."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.errors import BortError
from bort.files import folder_aside, write_aside

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

ASSETS = Path(__file__).resolve().parents[1] / "assets"
EMBEDDED = ("bort-nano",)
_HUGGING_FACE_NAMES = {
    "BortForMaskedLM": "BertForMaskedLM",
    "BortForSequenceClassification": "BertForSequenceClassification",
    "BortForMultipleChoice": "BertForMultipleChoice",
}


def locate(model: str | Path) -> str:
    """Turn `--model` into what `from_pretrained` takes: a folder with a config, or a hub name.

    Raises:
        BortError: Neither a folder with `config.json`, an embedded name, nor of the form of a hub name.
    """
    name = str(model)
    if name in EMBEDDED and not Path(name).exists():
        return str(ASSETS / name)
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise BortError("holds no config.json, so no finished model", file=folder)
        return name
    if folder.is_file():
        raise BortError("is a file; a model is a folder (`bort convert` makes one of a .params file)", file=folder)
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or not name:
        raise BortError("no such folder", file=name)
    if "/" not in name:
        rule = f"is neither a folder, an embedded model ({', '.join(EMBEDDED)}) nor a hub name (owner/name)"
        raise BortError(rule, value=name)
    return name


def load(model_class: Any, model: str | Path, **config: Any) -> PreTrainedModel:
    """Load weights with a class of ours or of `transformers`; computes in fp32 whatever the file's precision.

    Args:
        model_class: Anything with `from_pretrained`.
        model: A folder, an embedded name, or a hub name.
        config: Changes to the configuration (`num_labels`, say).

    Raises:
        BortError: The model cannot be found or read.
    """
    import torch

    source = locate(model)
    try:
        with quiet():
            return model_class.from_pretrained(source, dtype=torch.float32, **config)  # type: ignore[no-any-return]
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BortError(f"the model cannot be loaded: {first}", file=source) from None


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: str | Path, **config: Any) -> None:
    """Write a model that `AutoModel…` opens without this package.

    The files go aside first; `config.json`, without which a folder is no model, comes last.

    Args:
        model: Weights, saved in the precision they have.
        tokenizer: Saved beside them.
        folder: Where to; other files in it stay.
        config: Further entries of `config.json`.
    """
    folder = Path(folder)
    with folder_aside(folder / ".model") as aside:
        with quiet():
            model.save_pretrained(aside)
        described = json.loads((aside / "config.json").read_text("utf-8"))
        names = described.get("architectures") or []
        described["architectures"] = [_HUGGING_FACE_NAMES.get(name, name) for name in names]
        described.update(config)
        (aside / "config.json").write_text(json.dumps(described, indent=2) + "\n", "utf-8")
        _write_tokenizer(tokenizer, aside)
    _move_up(folder / ".model", folder)


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> None:
    """Write a tokenizer as a folder of its own, whole or not at all."""
    with folder_aside(folder) as aside:
        _write_tokenizer(tokenizer, aside)


def _write_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text("utf-8"))
    if settings.get("tokenizer_class") == "TokenizersBackend":
        # The name that transformers 4 knows too.
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        with write_aside(file) as out:
            json.dump(settings, out, indent=2)


def _move_up(source: Path, target: Path) -> None:
    files = sorted(source.iterdir(), key=lambda file: file.name == "config.json")
    for file in files:
        file.replace(target / file.name)
    source.rmdir()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back the progress bars and load reports of `transformers`; this product shows its own."""
    from transformers.utils import logging as theirs

    logger = logging.getLogger("transformers")
    before, bars = logger.level, theirs.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(before)
        if bars:
            theirs.enable_progress_bar()
