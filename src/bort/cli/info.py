"""`bort info`: a model's shape and parameter counts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bort.bounds import validate
from bort.cli.results import FiguresResult

if TYPE_CHECKING:
    from bort.model.config import Preset

POSITIONAL = ("model",)


@dataclass
class InfoArguments:
    """Arguments of `bort info`.

    Example:
        >>> InfoArguments("bort-nano").json
        False
    """

    model: str
    """preset (bort, bort-2-16-1024-512, bort-768, nano), folder, embedded name (bort-nano) or hub name"""
    json: bool = False
    """print one JSON object and nothing else on standard output"""


def info(arguments: InfoArguments) -> FiguresResult:
    """Print a model's shape and parameter counts, and for a published architecture also the paper's claims.

    Example:

        >>> import bort
        >>> bort.info(bort.InfoArguments("bort-nano")).metrics["hidden"]
        384
    """
    validate(arguments)
    from bort.model.config import BERT_LARGE_ENCODER, PRESETS

    labels: list[str] = []
    shape = PRESETS.get(arguments.model)
    if shape is None:
        shape, labels = _saved(arguments.model)
    size = shape.size()
    described: dict[str, Any] = {
        "model": arguments.model,
        "depth": shape.depth,
        "heads": shape.heads,
        "hidden": shape.hidden,
        "intermediate": shape.intermediate,
        "vocabulary": shape.vocab_size,
        "positions": shape.positions,
        "parameters": {"embeddings": size.embeddings, "encoder": size.encoder, "total": size.total},
        "encoder_share_of_bert_large": size.encoder / BERT_LARGE_ENCODER,
    }
    if labels:
        described["labels"] = labels
    if shape.claims:
        described["claims"] = [vars(claim) for claim in shape.claims]
    if arguments.json:
        print(json.dumps(described))
    else:
        _print(described, shape.about)
    return FiguresResult(described)


def _saved(model: str) -> tuple[Preset, list[str]]:
    """Shape and labels of a saved model. A folder's `config.json` is read directly, without loading transformers."""
    from bort.errors import BortError
    from bort.model.checkpoints import load_config, locate
    from bort.model.config import shape_of

    file = Path(locate(model), "config.json")
    try:
        config = json.loads(file.read_text("utf-8")) if file.is_file() else load_config(model).to_dict()
    except (ValueError, RecursionError) as error:
        raise BortError(f"must be JSON: {error}", file=file) from None
    if not isinstance(config, dict):
        raise BortError("must hold one JSON object", file=file)
    if (kind := config.get("model_type")) != "bert":
        raise BortError("must be a BERT model to be counted", file=file, column="model_type", value=kind)
    names = config.get("id2label") or {}
    if not isinstance(names, dict):
        raise BortError("must map numbers to names", file=file, column="id2label", value=names)
    classifies = any("SequenceClassification" in str(name) for name in config.get("architectures") or [])
    if classifies and all(str(number).isdecimal() for number in names):
        names = dict(sorted(names.items(), key=lambda item: int(item[0])))
    return shape_of(config, file), [str(name) for name in names.values()] if classifies else []


def _print(described: dict[str, Any], about: str) -> None:
    from rich.table import Table

    from bort.progress import out

    table = Table(title=f"{described['model']}{': ' + about if about else ''}", title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("figure", justify="right")
    for name in ("depth", "heads", "hidden", "intermediate", "vocabulary", "positions"):
        table.add_row(name, f"{described[name]:,}")
    for name, count in described["parameters"].items():
        table.add_row(f"parameters, {name} (counted)", f"{count:,}")
    table.add_row("encoder beside BERT-large's (counted)", f"{100 * described['encoder_share_of_bert_large']:.1f} %")
    if described.get("labels"):
        table.add_row("labels", ", ".join(described["labels"]))
    out().print(table)
    if described.get("claims"):
        out().print("The paper's figures, which are claims and do not all fit the counted ones:")
        for claim in described["claims"]:
            out().print(f"  {claim['what']}: {claim['claimed']} ({claim['source']})", soft_wrap=True)
