"""Maps Bort's parameter names between GluonNLP and Hugging Face's BERT, in both directions.

The left column is what the released code saves, the right one what `transformers` expects. The file of
a fine-tuned classifier has the prefix `bort.` before the encoder's names; a pre-training file does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from bort.errors import BortError

MODULES: tuple[tuple[str, str], ...] = (
    ("word_embed.0", "bert.embeddings.word_embeddings"),
    ("encoder.layer_norm", "bert.embeddings.LayerNorm"),
    ("encoder.transformer_cells.{}.attention_cell.proj_query", "bert.encoder.layer.{}.attention.self.query"),
    ("encoder.transformer_cells.{}.attention_cell.proj_key", "bert.encoder.layer.{}.attention.self.key"),
    ("encoder.transformer_cells.{}.attention_cell.proj_value", "bert.encoder.layer.{}.attention.self.value"),
    ("encoder.transformer_cells.{}.proj", "bert.encoder.layer.{}.attention.output.dense"),
    ("encoder.transformer_cells.{}.layer_norm", "bert.encoder.layer.{}.attention.output.LayerNorm"),
    ("encoder.transformer_cells.{}.ffn.ffn_1", "bert.encoder.layer.{}.intermediate.dense"),
    ("encoder.transformer_cells.{}.ffn.ffn_2", "bert.encoder.layer.{}.output.dense"),
    ("encoder.transformer_cells.{}.ffn.layer_norm", "bert.encoder.layer.{}.output.LayerNorm"),
    ("decoder.0", "cls.predictions.transform.dense"),
    ("decoder.2", "cls.predictions.transform.LayerNorm"),
    ("classifier.1", "bert.pooler.dense"),
    ("classifier.3", "classifier"),
)
"""GluonNLP module and Hugging Face module; `{}` is the number of the layer."""

WHOLE: tuple[tuple[str, str], ...] = (
    ("encoder.position_weight", "bert.embeddings.position_embeddings.weight"),
    ("decoder.3.weight", "cls.predictions.decoder.weight"),
    ("decoder.3.bias", "cls.predictions.bias"),
)
"""Parameters whose last name part differs too."""

DENSE_PARTS: tuple[tuple[str, str], ...] = (("weight", "weight"), ("bias", "bias"))
NORM_PARTS: tuple[tuple[str, str], ...] = (("gamma", "weight"), ("beta", "bias"))

CLASSIFIER_PREFIX = "bort."
"""Prefix of the encoder's names in a classifier's file."""
_PREFIXED = ("word_embed.", "encoder.")


def _table() -> list[tuple[str, str]]:
    rows = list(WHOLE)
    for gluon, hf in MODULES:
        # An embedding has no bias; only the parameters of layer norms are called gamma and beta in GluonNLP.
        parts = NORM_PARTS if hf.endswith("LayerNorm") else DENSE_PARTS[:1] if "word_embed" in gluon else DENSE_PARTS
        rows += [(f"{gluon}.{ours}", f"{hf}.{theirs}") for ours, theirs in parts]
    return rows


_TO_HF = dict(_table())
_TO_GLUON = {hf: gluon for gluon, hf in _TO_HF.items()}


def gluon_to_hf(name: str) -> str:
    """Translate one name, with or without `bort.` ("encoder.layer_norm.gamma" → "bert.embeddings.LayerNorm.weight").

    Raises:
        BortError: It is not the name of a Bort parameter.
    """
    bare = name.removeprefix(CLASSIFIER_PREFIX)
    return _translate(name, bare if bare.startswith(_PREFIXED) else name, _TO_HF)


def hf_to_gluon(name: str, *, classifier: bool = False) -> str:
    """Translate one name back.

    Args:
        name: A name in Hugging Face's BERT, including `bert.`.
        classifier: Prefix the encoder's names with `bort.`, as in a classifier's file.

    Raises:
        BortError: It is not the name of a Bort parameter (such as the token types, which GluonNLP's Bort lacks).
    """
    gluon = _translate(name, name, _TO_GLUON)
    return CLASSIFIER_PREFIX + gluon if classifier and gluon.startswith(_PREFIXED) else gluon


def is_classifier(gluon_names: Iterable[str]) -> bool:
    """Whether the names are those of a fine-tuned classifier's file."""
    return any(name.startswith((CLASSIFIER_PREFIX, "classifier.")) for name in gluon_names)


def _translate(name: str, bare: str, table: dict[str, str]) -> str:
    # No leading zeros: "01" would not survive the round trip.
    layer = re.fullmatch(r"(encoder\.transformer_cells|bert\.encoder\.layer)\.(0|[1-9][0-9]{0,3})(\..+)", bare)
    pattern, number = (f"{layer[1]}.{{}}{layer[3]}", layer[2]) if layer else (bare, "")
    if pattern not in table or "{}" in bare:
        raise BortError("is not the name of a parameter of Bort", value=name)
    return table[pattern].format(number)
