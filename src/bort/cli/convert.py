"""`bort convert`: from a checkpoint to a Hugging Face BERT folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bort.bounds import validate
from bort.cli.results import FolderResult

POSITIONAL = ("source",)
_PAPER_SHAPE = (4, 8, 1024, 768)


@dataclass
class ConvertArguments:
    """Arguments of `bort convert`.

    Example:
        >>> ConvertArguments("bort.params", "bort").dtype
        'auto'
    """

    source: str
    """MXNet .params file of the released code, or Hugging Face BERT folder"""
    out: str
    """folder to write; new or empty"""
    num_attention_heads: int | None = None
    """number of attention heads of a .params file, which does not store it; not needed for the published shapes"""
    tokenizer: str | None = None
    """folder of the tokenizer (vocab.json with merges.txt, or tokenizer.json); a Hugging Face source has its own"""
    dtype: Literal["auto", "float32", "float16"] = "auto"
    """type of the stored weights; auto: half precision if the source has it; models compute in float32"""


def convert(arguments: ConvertArguments) -> FolderResult:
    """Convert the original .params checkpoint, or a Hugging Face BERT one, to a plain Hugging Face BERT folder.

    Example:
        >>> import bort
        >>> bort.convert(bort.ConvertArguments("runs/topics", "converted")).metrics["num_labels"]
        2
    """
    validate(arguments)
    from rich.text import Text

    from bort.model.convert.convert import convert_checkpoint
    from bort.progress import out

    summary = convert_checkpoint(
        arguments.source,
        arguments.out,
        num_attention_heads=arguments.num_attention_heads,
        tokenizer=arguments.tokenizer,
        dtype=arguments.dtype,
    )
    console = out()
    for label, value in _lines(summary):
        console.print(Text.assemble((f"{label:<11}", "bold"), value), soft_wrap=True)
    return FolderResult(summary, Path(arguments.out))


def _lines(summary: dict[str, Any]) -> list[tuple[str, str]]:
    shape = tuple(
        summary[key] for key in ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size")
    )
    depth, heads, hidden, intermediate = shape
    counted = summary["parameters"]
    labels = "" if summary["num_labels"] is None else f", {summary['num_labels']} labels"
    lines = [
        ("model", summary["architecture"] + labels),
        ("shape", f"{depth} layers, {heads} heads, hidden {hidden}, intermediate {intermediate}"),
        ("", f"vocabulary {summary['vocab_size']:,}, positions {summary['max_position_embeddings']:,}"),
        (
            "parameters",
            f"{counted['total']:,} counted: {counted['embeddings']:,} embeddings, {counted['encoder']:,} encoder, "
            f"{counted['heads']:,} heads",
        ),
    ]
    if shape == _PAPER_SHAPE:
        lines.append(("", "the paper claims 56 M for this shape (arXiv 2010.10499)"))
    lines.append(("wrote", f"{summary['out']} ({summary['dtype']}): {', '.join(summary['files'])}"))
    return lines + [("note", note) for note in summary["notes"]]
