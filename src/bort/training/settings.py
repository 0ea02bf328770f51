"""Settings of the `transformers` trainer that all runs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bort.training import distributed

if TYPE_CHECKING:
    from transformers import TrainingArguments


def trainer_settings(folder: Path, **settings: Any) -> TrainingArguments:
    """Settings of the `transformers` trainer: AdamW and clipping as in the paper, own progress, log and checkpoints.

    A process trains on one GPU, however many it sees. Several GPUs need one process each (`accelerate launch`): one
    process that drives them all (`DataParallel`) is slower, and would not use the requested batch size.

    Args:
        folder: Folder for checkpoints.
        settings: Settings that differ between runs.
    """
    from transformers import TrainingArguments

    made = TrainingArguments(
        output_dir=str(folder),
        adam_epsilon=1e-6,
        max_grad_norm=1.0,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=10**9,  # a callback requests checkpoints, at time intervals
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        log_level="error",
        use_cpu=distributed.on_cpu(),
        ddp_find_unused_parameters=False,
        **settings,
    )
    made._n_gpu = min(made.n_gpu, 1)
    return made
