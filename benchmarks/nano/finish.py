"""Finish bort-nano: cut the vocabulary to size, and train a masked-LM head on the frozen encoder.

    python -m benchmarks.nano.finish --texts build/nano/texts --model build/nano/run/model --out build/nano/bort-nano

`infill` samples words from the head, and `bort extract` compares its distributions. The head decodes with the word
embeddings, so it adds a dense layer, a layer norm and a bias. To make room for it, the words that the text uses least
are removed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import AutoTokenizer, BertForMaskedLM

_LONGEST = 64


def cut(model: Path, out: Path, size: int, counts: np.ndarray) -> np.ndarray:
    """Write the model without its rarest words; single characters and special tokens stay.

    Args:
        model: Folder of a BERT encoder with a WordPiece tokenizer.
        out: Output folder.
        size: Entries to keep.
        counts: How often the text uses each entry. *Shape:* (entries,), or fewer.

    Returns:
        The new id of each old entry; removed ones have that of the unknown token. *Shape:* (entries,).
    """
    shutil.copytree(model, out, dirs_exist_ok=True)
    described = json.loads((out / "tokenizer.json").read_text("utf-8"))
    vocabulary: dict[str, int] = described["model"]["vocab"]
    counts = np.pad(counts, (0, len(vocabulary) - len(counts)))
    special = {token["content"] for token in described["added_tokens"]}
    words = [word for word in vocabulary if word not in special and len(word.removeprefix("##")) > 1]
    gone = set(sorted(words, key=lambda word: (counts[vocabulary[word]], word))[: len(vocabulary) - size])
    kept = [word for word in sorted(vocabulary, key=vocabulary.__getitem__) if word not in gone]
    renumbered = np.full(len(vocabulary), kept.index("[UNK]"), np.int64)
    for number, word in enumerate(kept):
        renumbered[vocabulary[word]] = number
    weights = load_file(out / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    weights[name] = weights[name][[vocabulary[word] for word in kept]].contiguous()
    described["model"]["vocab"] = {word: number for number, word in enumerate(kept)}
    for token in described["added_tokens"]:
        token["id"] = described["model"]["vocab"][token["content"]]
    processor = described["post_processor"]
    assert all(vocabulary[word] == kept.index(word) for word in special), "special tokens stand first"
    assert processor is not None
    (out / "tokenizer.json").write_text(json.dumps(described, ensure_ascii=False), "utf-8")
    config = json.loads((out / "config.json").read_text("utf-8"))
    (out / "config.json").write_text(json.dumps({**config, "vocab_size": len(kept)}, indent=2) + "\n", "utf-8")
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    return renumbered


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vocabulary", type=int, default=17_344)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    rng = np.random.default_rng(arguments.seed)
    ids = np.load(arguments.texts / "singles.ids.npy", mmap_mode="r")
    starts = np.load(arguments.texts / "singles.starts.npy")
    renumbered = cut(arguments.model, arguments.out, arguments.vocabulary, np.bincount(ids))
    tokenizer = AutoTokenizer.from_pretrained(arguments.out)
    model = BertForMaskedLM.from_pretrained(arguments.out, dtype=torch.float32).eval()
    for weights in model.bert.parameters():
        weights.requires_grad_(False)
    head = [*model.cls.predictions.transform.parameters(), model.cls.predictions.bias]
    for weights in head:
        weights.requires_grad_(True)
    optimizer = torch.optim.AdamW(head, lr=arguments.learning_rate, fused=True)

    lengths = np.diff(starts)
    usable = np.flatnonzero((lengths >= 8) & (lengths <= _LONGEST))
    held_out, usable = usable[-2000:], rng.permutation(usable[:-2000])
    special = torch.tensor(tokenizer.all_special_ids)

    def batch(chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        chosen = chosen[np.argsort(lengths[chosen])]
        longest = int(lengths[chosen].max())
        tokens = torch.full((len(chosen), longest), tokenizer.pad_token_id)
        for place, row in enumerate(chosen):
            tokens[place, : lengths[row]] = torch.from_numpy(renumbered[ids[starts[row] : starts[row + 1]]])
        masked = (torch.rand(tokens.shape) < 0.15) & ~torch.isin(tokens, special)
        return torch.where(masked, tokenizer.mask_token_id, tokens), masked, tokens

    def logits(tokens: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            hidden = model.bert(tokens, attention_mask=(tokens != tokenizer.pad_token_id).long()).last_hidden_state
        return model.cls(hidden[masked].float())

    started, seen = time.time(), 0
    pool = arguments.rows * 16
    for step in range(arguments.steps):
        # Batches of similar length, cut from a larger sample.
        draw = np.take(usable, range(step // 16 * pool, (step // 16 + 1) * pool), mode="wrap")
        draw = draw[np.argsort(lengths[draw], kind="stable")]
        part = int(np.random.default_rng([arguments.seed, step // 16]).permutation(16)[step % 16])
        tokens, masked, right = batch(draw[part * arguments.rows : (part + 1) * arguments.rows])
        for group in optimizer.param_groups:
            group["lr"] = arguments.learning_rate * min(1.0, (step + 1) / 50) * (1 - step / arguments.steps)
        loss = F.cross_entropy(logits(tokens, masked), right[masked])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        seen += int((tokens != tokenizer.pad_token_id).sum())
        if step % 50 == 49:
            speed = round(seen / (time.time() - started))
            print(json.dumps({"step": step + 1, "loss": round(float(loss), 3), "tokens_per_s": speed}), flush=True)

    losses, hits, count = 0.0, 0, 0
    torch.manual_seed(1)
    with torch.no_grad():
        for start in range(0, len(held_out), 200):
            tokens, masked, right = batch(held_out[start : start + 200])
            found = logits(tokens, masked)
            losses += float(F.cross_entropy(found, right[masked], reduction="sum"))
            hits += int((found.argmax(-1) == right[masked]).sum())
            count += int(masked.sum())
    print(json.dumps({"held_out_loss": round(losses / count, 3), "held_out_accuracy": round(hits / count, 4)}))

    theirs = load_file(arguments.out / "model.safetensors")
    model.half().save_pretrained(arguments.out)
    # The masked LM does not use the pooler, but it was trained on pairs, and a classifier starts from it.
    weights = load_file(arguments.out / "model.safetensors")
    weights |= {f"bert.{name}": theirs[name].half() for name in theirs if name.startswith("pooler.")}
    save_file(weights, arguments.out / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
