"""FSDP: weights, gradients and optimiser states sharded across GPUs."""

from __future__ import annotations

from typing import Any

from bort.errors import BortError
from bort.model.modelling import BortForMaskedLM
from bort.pretraining.distill.projected_student import PROJECTIONS, Student
from bort.training import distributed


def fsdp_settings(fsdp: bool) -> dict[str, Any]:
    """Settings of the `transformers` trainer that shard each layer of the encoder, and the rest as one more unit.

    Raises:
        BortError: There are no GPUs, or there is only one process.
    """
    if not fsdp:
        return {}
    if distributed.on_cpu():
        raise BortError("needs GPUs; on CPUs every process keeps the whole model", setting="fsdp", value=fsdp)
    if distributed.count() == 1:
        rule = "needs several processes; start them with `accelerate launch -m bort pretrain ...`"
        raise BortError(rule, setting="fsdp", value=fsdp)
    return {"fsdp": True, "fsdp_config": {"transformer_layer_cls_to_wrap": ["BertLayer"]}}


def make_shardable(model: BortForMaskedLM) -> None:
    """Remove the unused second name of the decoder's bias: FSDP could put the two names into different shards."""
    del model.cls.predictions.bias


def whole(trainer: Any) -> BortForMaskedLM:
    """The unsharded model without projections; all processes must call this, with FSDP only the first gets weights."""
    model: BortForMaskedLM = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    if not trainer.is_fsdp_enabled:
        return model.without_projections() if isinstance(model, Student) else model
    weights = trainer.accelerator.get_state_dict(model)
    gathered = BortForMaskedLM(model.config)
    if distributed.is_first():
        kept = {name: value for name, value in weights.items() if not name.startswith(PROJECTIONS)}
        gathered.load_state_dict({**kept, "cls.predictions.bias": kept["cls.predictions.decoder.bias"]})
    return gathered
