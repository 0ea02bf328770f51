"""The two teachers of bort-nano, cut to its vocabulary and rounded to one byte per weight: 90 MB in all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerBase

from bort.model.checkpoints import quiet
from bort.model.tokenization import load_tokenizer

_NAMES_OF_MPNET = {"[CLS]": "<s>", "[SEP]": "</s>", "[PAD]": "<pad>", "[MASK]": "<mask>"}
_STEPS_OF_DEVIATION = 20.0
"""Rounding steps per standard deviation of a row's weights: errors are a seventieth of the deviation."""
_WORDS = "embeddings.word_embeddings.weight"
Packed = dict[str, NDArray[Any]]


def packed(folder: Path, student: PreTrainedTokenizerBase) -> Packed:
    """A teacher's weights: matrices in int8 with one scale per row, vectors in fp16, words in the student's order.

    Args:
        folder: A BERT or MPNet sentence encoder with BERT's uncased vocabulary.
        student: Tokenizer whose entries are kept.
    """
    with quiet():
        model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    known = load_tokenizer(folder).get_vocab()
    entries = student.convert_ids_to_tokens(list(range(len(student))))
    names = [_NAMES_OF_MPNET[entry] if _NAMES_OF_MPNET.get(entry) in known else entry for entry in entries]
    made: Packed = {}
    for name, weights in model.state_dict().items():
        array = weights.numpy()
        if name == _WORDS:
            array = array[[known.get(entry, known["[UNK]"]) for entry in names]]
        if array.ndim < 2:
            made[name] = array.astype(np.float16) if array.dtype == np.float32 else array
            continue
        step = np.maximum(array.std(1) / _STEPS_OF_DEVIATION, np.abs(array).max(1) / 127)[:, None]
        made[f"{name} step"] = step.astype(np.float32)
        made[name] = np.rint(array / np.maximum(step, 1e-12)).astype(np.int8)
    return made


def unpacked(weights: Packed, config: Path) -> Any:
    """The teacher of `packed`, which reads the student's ids. `config` is the folder of its config.json."""
    described = AutoConfig.from_pretrained(config)
    described.vocab_size = len(weights[_WORDS])
    # The student's ids; 0 is the padding of both.
    described.pad_token_id = 0
    with quiet():
        model = AutoModel.from_config(described, attn_implementation="eager")
    state = {}
    for name, array in weights.items():
        if not name.endswith(" step"):
            step = weights.get(f"{name} step")
            value = torch.from_numpy(array if step is None else array.astype(np.float32) * step)
            state[name] = value.float() if value.is_floating_point() else value
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def states(teacher: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """The last layer. *Shapes:* (texts, seq) twice -> (texts, seq, H)."""
    positions: dict[str, Tensor] = {}
    if teacher.config.model_type == "mpnet":  # positions start at 2, and its padding id is a word here
        positions["position_ids"] = torch.arange(2, ids.shape[1] + 2, device=ids.device).expand_as(ids)
    with torch.no_grad():
        made: Tensor = teacher(input_ids=ids, attention_mask=mask, **positions).last_hidden_state
    return made
