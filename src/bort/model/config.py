"""Bort architectures: named shapes, their configurations and their parameter counts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bort.errors import BortError

if TYPE_CHECKING:
    from transformers import BertConfig

MLM_HEAD_EPS = 1e-12
"""LayerNorm eps of the masked-LM head in the released code; the encoder's is 1e-5."""

IGNORED = -100
"""Label of a position that the masked-LM loss ignores."""


@dataclass(frozen=True)
class Claim:
    """A figure that a paper states and we could not reproduce by counting."""

    what: str
    claimed: str
    source: str


@dataclass(frozen=True)
class Size:
    """Parameter counts; `total` is the sum of the other two, without heads."""

    embeddings: int
    encoder: int

    @property
    def total(self) -> int:
        """Embeddings and encoder together."""
        return self.embeddings + self.encoder


@dataclass(frozen=True)
class Preset:
    """A named architecture: depth D, heads A, hidden size H, intermediate size I."""

    depth: int
    heads: int
    hidden: int
    intermediate: int
    vocab_size: int = 50_265
    positions: int = 512
    about: str = ""
    claims: tuple[Claim, ...] = ()
    token_types: int = 1

    def size(self) -> Size:
        """Compute the parameter counts in closed form; for a preset they equal those of `count_parameters`."""
        layer = 4 * (self.hidden + 1) * self.hidden + 2 * self.hidden * self.intermediate
        layer += self.intermediate + self.hidden + 4 * self.hidden  # biases, and two layer norms
        return Size((self.vocab_size + self.positions + self.token_types + 2) * self.hidden, self.depth * layer)


_BORT_CLAIMS = (
    Claim("parameters", "56 M", "arXiv 2010.10499, abstract"),
    Claim("size beside BERT-large's encoder", "5.5 %", "arXiv 2010.10499, abstract"),
    Claim("speed on a CPU", "7.9x BERT-base, 20x BERT-large", "arXiv 2010.10499"),
)

PRESETS: dict[str, Preset] = {
    "bort": Preset(4, 8, 1024, 768, about="the published architecture", claims=_BORT_CLAIMS),
    "bort-2-16-1024-512": Preset(2, 16, 1024, 512, about="the second shape of the released code"),
    "bort-768": Preset(4, 8, 768, 1024, about="the shape that fits the paper's published size"),
    "nano": Preset(3, 12, 384, 1536, vocab_size=17_344, about="the shape of the embedded bort-nano"),
}

BERT_LARGE_ENCODER = 302_309_376
"""Parameters of BERT-large's 24 encoder layers, the paper's reference."""


def architecture(source: str | Path, *, vocab_size: int | None = None, pad_token_id: int = 1) -> BertConfig:
    """Build the configuration of a preset, an `architecture.json`, a `config.json` or a folder that holds one.

    Args:
        source: A name in `PRESETS`, or the path of a file or its folder. A file has the keys `depth, heads, hidden,
            intermediate` (as `bort extract` writes them) or those of Hugging Face.
        vocab_size: Rows of the word embedding; by default the source's own.
        pad_token_id: Id of the padding token (1 in RoBERTa's vocabulary).

    Raises:
        BortError: An unknown name, an unreadable file, or a shape that cannot be built.

    Example:
        >>> from bort import architecture
        >>> config = architecture("bort")
        >>> config.num_hidden_layers, config.hidden_size
        (4, 1024)
    """
    name = str(source)
    if name in PRESETS:
        preset = PRESETS[name]
    else:
        preset = _from_file(Path(source))
    return configure(preset, vocab_size or preset.vocab_size, pad_token_id)


def _from_file(path: Path) -> Preset:
    if path.is_dir():
        extracted = path / "architecture.json"
        path = extracted if extracted.is_file() else path / "config.json"
    if not path.is_file():
        names = ", ".join(PRESETS)
        raise BortError(f"is neither a preset ({names}) nor a file", value=str(path))
    try:
        fields = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BortError(f"cannot be read: {error.strerror or error}", file=path) from None
    except (ValueError, RecursionError) as error:
        raise BortError(f"must be JSON: {error}", file=path) from None
    if not isinstance(fields, dict):
        raise BortError("must hold one JSON object", file=path)
    return shape_of(fields, path)


def shape_of(fields: dict[str, object], path: Path) -> Preset:
    """Return the shape that a JSON file describes, with our keys or Hugging Face's.

    Args:
        fields: Content of the file.
        path: Path of the file, for error messages.

    Raises:
        BortError: A number is missing or not a positive integer, or the heads do not divide the hidden size.
    """
    preset = Preset(
        depth=_field(fields, path, "depth", "num_hidden_layers"),
        heads=_field(fields, path, "heads", "num_attention_heads"),
        hidden=_field(fields, path, "hidden", "hidden_size"),
        intermediate=_field(fields, path, "intermediate", "intermediate_size"),
        vocab_size=_field(fields, path, "vocab_size", "vocab_size", 50_265),
        positions=_field(fields, path, "positions", "max_position_embeddings", 512),
        token_types=_field(fields, path, "token_types", "type_vocab_size", 2 if "hidden_size" in fields else 1),
    )
    if preset.hidden % preset.heads:
        column = _key(fields, "hidden", "hidden_size")
        raise BortError(f"must be divisible by the {preset.heads} heads", file=path, column=column, value=preset.hidden)
    return preset


def _field(fields: dict[str, object], path: Path, ours: str, theirs: str, default: int | None = None) -> int:
    key = _key(fields, ours, theirs)
    value = fields.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BortError("must be a whole number above 0", file=path, column=key, value=value)
    return value


def _key(fields: dict[str, object], ours: str, theirs: str) -> str:
    return theirs if ours not in fields and theirs in fields else ours


def configure(preset: Preset, vocab_size: int, pad_token_id: int = 1) -> BertConfig:
    """Build the configuration of a shape; `architecture` builds that of a named shape or a file."""
    from transformers import BertConfig

    return BertConfig(
        num_hidden_layers=preset.depth,
        num_attention_heads=preset.heads,
        hidden_size=preset.hidden,
        intermediate_size=preset.intermediate,
        vocab_size=vocab_size,
        max_position_embeddings=preset.positions,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        hidden_act="gelu",
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        pad_token_id=pad_token_id,
        bos_token_id=0,
        eos_token_id=2,
        mlm_layer_norm_eps=MLM_HEAD_EPS,
    )


def count_parameters(config: BertConfig) -> Size:
    """Count the parameters of the encoder that `config` describes, on the meta device (nothing is allocated)."""
    import torch
    from transformers import BertModel

    with torch.device("meta"):
        model = BertModel(config, add_pooling_layer=False)
    return Size(
        embeddings=sum(p.numel() for p in model.embeddings.parameters()),
        encoder=sum(p.numel() for p in model.encoder.parameters()),
    )
