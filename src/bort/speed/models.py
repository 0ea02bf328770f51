"""Models to compare, by name: classifiers with random weights, which do not affect the speed."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)

from bort.model.checkpoints import unpacked
from bort.model.config import PRESETS, configure
from bort.predict.classifiers import save_classifier


def _bert(depth: int, heads: int, hidden: int, intermediate: int) -> BertConfig:
    sizes = {"num_hidden_layers": depth, "num_attention_heads": heads, "hidden_size": hidden}
    return BertConfig(**sizes, intermediate_size=intermediate, pad_token_id=1)


CONFIGS: dict[str, PretrainedConfig] = {
    "bert-large": _bert(24, 16, 1024, 4096),
    "bert-base": _bert(12, 12, 768, 3072),
    "distilbert": DistilBertConfig(n_layers=6, n_heads=12, dim=768, hidden_dim=3072, pad_token_id=1),
    "minilm-l6": _bert(6, 12, 384, 1536),
    "tinybert-4": _bert(4, 12, 312, 1200),
    **{name: configure(preset, preset.vocab_size) for name, preset in PRESETS.items()},
}
"""Common models to compare with, and the presets of this package."""
CONFIGS["bort-nano"] = CONFIGS["nano"]


def save_random(config: PretrainedConfig, folder: Path) -> None:
    """Write a two-label classifier with random weights, and a tokenizer of the same vocabulary size."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config)
    save_classifier(model, padded_tokenizer(config.vocab_size), folder, 512)


def padded_tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """bort-nano's tokenizer, padded with made-up words, because its loading time depends on its size."""
    described = json.loads((Path(unpacked("bort-nano")) / "tokenizer.json").read_text("utf-8"))
    vocabulary = described["model"]["vocab"]
    words = [word for word in vocabulary if word.isalpha()]
    for first, second in product(words, words):
        if len(vocabulary) >= vocab_size:
            break
        vocabulary.setdefault(first + second, len(vocabulary))
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(described)), **names)
