"""`bort info`: what a model is, counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

POSITIONAL = ("model",)


@dataclass
class InfoArguments:
    """Arguments of `bort info`."""

    model: str
    """a preset (bort, bort-2-16-1024-512, bort-768, nano), a folder, an embedded name (bort-nano) or a hub name"""
    json: bool = False
    """print one JSON object and nothing else on standard output"""


def info(arguments: InfoArguments) -> dict[str, Any]:
    """Print a model's shape and its counted parameters, and for a published architecture the paper's claims beside."""
    from bort.errors import BortError
    from bort.model.config import BERT_LARGE_ENCODER, PRESETS, architecture, count_parameters

    preset = PRESETS.get(arguments.model)
    labels: list[str] = []
    if preset is not None:
        config = architecture(arguments.model)
    else:
        config, labels = _saved(arguments.model)
    try:
        size = count_parameters(config)
    except ValueError as error:
        raise BortError(f"cannot be built: {error}", file=arguments.model) from None
    described: dict[str, Any] = {
        "model": arguments.model,
        "depth": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "hidden": config.hidden_size,
        "intermediate": config.intermediate_size,
        "vocabulary": config.vocab_size,
        "positions": config.max_position_embeddings,
        "parameters": {"embeddings": size.embeddings, "encoder": size.encoder, "total": size.total},
        "encoder_share_of_bert_large": size.encoder / BERT_LARGE_ENCODER,
    }
    if labels:
        described["labels"] = labels
    if preset is not None and preset.claims:
        described["claims"] = [vars(claim) for claim in preset.claims]
    if arguments.json:
        import json

        print(json.dumps(described))
    else:
        _print(described, "" if preset is None else preset.about)
    return described


def _saved(model: str) -> tuple[Any, list[str]]:
    from bort.errors import BortError
    from bort.model.checkpoints import load_config

    config = load_config(model)
    if config.model_type != "bert":
        raise BortError("must be a BERT model to be counted", file=model, column="model_type", value=config.model_type)
    classifier = any("SequenceClassification" in name for name in config.architectures or [])
    return config, [str(name) for name in config.id2label.values()] if classifier else []


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
