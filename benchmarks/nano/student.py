"""What the training of bort-nano starts from: layers of the teacher, or a model that was saved before."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import BertModel, PreTrainedTokenizerFast

from bort.model.checkpoints import quiet
from bort.model.shrink import SubShape, shrink
from bort.model.tokenization import load_tokenizer


def inherited(teacher: BertModel, layers: tuple[int, ...], kept: Tensor) -> BertModel:
    """Some layers and words of the teacher, with a pooler that changes nothing yet."""
    student = shrink(teacher, SubShape(layers), kept=kept.numpy())
    student.set_attn_implementation("eager")
    nn.init.eye_(student.pooler.dense.weight)
    nn.init.zeros_(student.pooler.dense.bias)
    return student


def saved(folder: Path, teacher: BertModel, kept: Tensor, texts: PreTrainedTokenizerFast) -> BertModel:
    """A saved model with the vocabulary of the texts; a word that it lacks begins as the teacher's vector of it.

    Args:
        folder: BERT with a tokenizer; a masked-LM head is left out.
        teacher: Of the same hidden size.
        kept: The teacher's id of each of the texts' entries. *Shape:* (vocab,).
        texts: The tokenizer of the texts.
    """
    with quiet():
        student = BertModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    theirs = load_tokenizer(folder).get_vocab()
    entries = texts.convert_ids_to_tokens(list(range(len(kept))))
    if theirs != {entry: number for number, entry in enumerate(entries)}:
        words = teacher.get_input_embeddings().weight.detach()[kept].clone()
        known = [number for number, entry in enumerate(entries) if entry in theirs]
        words[known] = student.get_input_embeddings().weight.detach()[[theirs[entries[number]] for number in known]]
        student.resize_token_embeddings(len(entries), mean_resizing=False)
        student.get_input_embeddings().weight.data = words
    return student
