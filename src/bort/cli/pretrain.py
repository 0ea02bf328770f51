"""`bort pretrain`: a model from text."""

from __future__ import annotations

from typing import Any

from bort.training.arguments import PretrainArguments


def pretrain(arguments: PretrainArguments) -> dict[str, Any]:
    """Pre-train an architecture on text, or distil it from a teacher of the same vocabulary.

    Without a teacher the loss is the masked LM's; with one it is 0.1 MLM + 0.5 T² KL(teacher || student) at the
    masked positions. A killed run goes on with --resume.
    """
    from bort.progress import out
    from bort.training.pretrain import pretrain as implementation

    metrics = implementation(arguments)
    if metrics:
        lines = [f"{arguments.out}: {metrics['tokens'] / 1e6:.1f} M tokens in {metrics['seconds'] / 60:.1f} min"]
        if "validation_loss" in metrics:
            lines.append(
                f"  held-out loss {metrics['validation_loss']:.3f}, "
                f"{100 * metrics['validation_accuracy']:.1f} % of masked tokens right "
                f"(counting words: {metrics['unigram_loss']:.3f}, {100 * metrics['unigram_accuracy']:.1f} %)"
            )
        if "validation_distance" in metrics:
            lines.append(
                f"  held-out cosine to the teacher's embeddings {1 - metrics['validation_distance']:.3f} "
                f"(before training: {1 - metrics['initial_distance']:.3f})"
            )
        out().print("\n".join(lines), highlight=False, soft_wrap=True)
    return metrics


__all__ = ["PretrainArguments", "pretrain"]
