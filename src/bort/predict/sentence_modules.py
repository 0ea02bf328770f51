"""The modules of a sentence-transformers folder around its encoder; a folder that is not fully supported is refused.

The file format is that of sentence-transformers 5 (`sentence_transformers/models`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import torch
from torch import Tensor

from bort.errors import BortError

_POOLINGS: Mapping[str, str] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Pooling modes by setting, in the order in which several are concatenated."""
_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "Identity": lambda values: values,
    "Tanh": torch.tanh,
    "ReLU": torch.relu,
    "GELU": torch.nn.functional.gelu,
    "Sigmoid": torch.sigmoid,
    "SiLU": torch.nn.functional.silu,
}
_POOLED = "sentence_embedding"
"""Name of the pooled vectors among all features of a text."""
Step = Callable[[Tensor], Tensor]
"""*Shape:* (texts, width) -> (texts, new width)."""


@dataclass(frozen=True)
class SentenceModules:
    """Preparation of texts before an encoder, and pooling and further steps after it.

    Args:
        poolings: Pooling modes, whose vectors are concatenated.
        steps: Steps after pooling, in order.
        described: Description of all modules, for fingerprints; tensors by their checksums.
        widths: Width after each step that can change it.
        max_length: Maximum number of tokens; None if the folder does not set it.
        lowercase: Whether texts are lowercased first.
        prompt: Text prepended to every text.
        pools_prompt: Whether the prompt's tokens are pooled, too.
        normalizes: Whether vectors are scaled to length 1 after all steps.
    """

    poolings: tuple[str, ...] = ("mean",)
    steps: tuple[Step, ...] = ()
    described: Mapping[str, Any] = field(default_factory=dict)
    widths: tuple[int, ...] = ()
    max_length: int | None = None
    lowercase: bool = False
    prompt: str = ""
    pools_prompt: bool = True
    normalizes: bool = False

    def size(self, hidden: int) -> int:
        """Width of the final vectors, for an encoder with token vectors of width `hidden`."""
        return self.widths[-1] if self.widths else hidden * len(self.poolings)

    def __call__(self, hidden: Tensor, mask: Tensor, prompt_tokens: int = 0) -> Tensor:
        """Pool, apply the steps, and scale to length 1 if the folder ends with that.

        The arguments are those of `pooled`.
        """
        vectors = self.pooled(hidden, mask, prompt_tokens)
        return torch.nn.functional.normalize(vectors, dim=-1) if self.normalizes else vectors

    def pooled(self, hidden: Tensor, mask: Tensor, prompt_tokens: int = 0) -> Tensor:
        """Pool, and apply the steps, without the final normalisation.

        Args:
            hidden: *Shape:* (texts, length, H), padded on the right.
            mask: 1 for tokens, 0 for padding. *Shape:* (texts, length).
            prompt_tokens: Number of leading tokens that belong to the prompt.

        Returns:
            *Shape:* (texts, `size`).
        """
        first = 0 if self.pools_prompt else prompt_tokens
        if first:
            mask = mask.clone()
            mask[:, :first] = 0
        vectors = torch.cat([_pooled(mode, hidden.float(), mask, first) for mode in self.poolings], dim=-1)
        for step in self.steps:
            vectors = step(vectors)
        return vectors


def _pooled(mode: str, hidden: Tensor, mask: Tensor, first: int) -> Tensor:
    weights = mask[..., None].float()
    if mode == "cls":
        return hidden[:, first]
    if mode == "max":
        return hidden.masked_fill(weights == 0, -1e9).amax(1)
    if mode == "lasttoken":
        last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    if mode == "weightedmean":
        weights = weights * torch.arange(1, hidden.shape[1] + 1, device=hidden.device)[None, :, None]
    total, count = (hidden * weights).sum(1), weights.sum(1).clamp_min(1e-9)
    return total / (count.sqrt() if mode == "mean_sqrt_len_tokens" else count)


def read_modules(source: str) -> SentenceModules:
    """Read the modules of a folder or hub model; without `modules.json` and pooling settings, the mean over tokens.

    Raises:
        BortError: A module, pooling or activation is not supported, or a file is broken.
    """
    listed = _json(source, "modules.json")
    if listed is None:
        pooling = _json(source, "1_Pooling/config.json")
        return SentenceModules() if pooling is None else _Reader(source).modules([("Pooling", "1_Pooling")])
    try:
        named = [(str(entry["type"]), str(entry["path"])) for entry in listed]
    except (KeyError, TypeError):
        raise BortError("must list modules by type and path", file=f"{source}/modules.json") from None
    for kind, _ in named:
        if not kind.startswith("sentence_transformers."):
            raise BortError("is code of the model's own, which is not run", file=f"{source}/modules.json", value=kind)
    for _, path in named:
        if ".." in PurePath(path).parts or PurePath(path).is_absolute():
            raise BortError("must name folders inside of this one", file=f"{source}/modules.json", value=path)
    kinds = [(kind.rpartition(".")[2], path) for kind, path in named]
    if kinds[0] != ("Transformer", ""):
        raise BortError("must begin with a Transformer in the folder itself", file=f"{source}/modules.json")
    return _Reader(source).modules(kinds[1:])


class _Reader:
    """Collects the settings of a folder's modules."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.poolings: tuple[str, ...] = ()
        self.pools_prompt = True
        self.steps: list[Step] = []
        self.widths: list[int] = []
        self.normalizes = False
        self.described: list[Any] = []

    def modules(self, kinds: Sequence[tuple[str, str]]) -> SentenceModules:
        """Read all modules after the encoder, and how texts are prepared."""
        readers = {"Pooling": self._pooling, "Dense": self._dense, "Normalize": self._normalize}
        for place, (kind, path) in enumerate(kinds):
            if kind not in readers or (kind == "Pooling") != (place == 0):
                rule = "must be a Pooling, and then any of Dense and Normalize"
                raise BortError(rule, file=f"{self.source}/modules.json", value=kind)
            if self.normalizes:  # not the last module, so it becomes a step
                self.steps.append(lambda vectors: torch.nn.functional.normalize(vectors, dim=-1))
            self.normalizes = False
            readers[kind](path)
        before = _json(self.source, "sentence_bert_config.json") or {}
        asked = _json(self.source, "config_sentence_transformers.json") or {}
        if asked.get("truncate_dim") is not None:
            rule = "truncate_dim is not supported"
            raise BortError(rule, file=f"{self.source}/config_sentence_transformers.json", value=asked["truncate_dim"])
        prompts, name = asked.get("prompts") or {}, asked.get("default_prompt_name") or ""
        if not isinstance(prompts, dict) or not isinstance(name, str):
            rule = "prompts must map names to texts, and default_prompt_name must be a name"
            raise BortError(rule, file=f"{self.source}/config_sentence_transformers.json")
        prompt = prompts.get(name, "") if name else ""
        length, lowercase = before.get("max_seq_length"), bool(before.get("do_lower_case"))
        if not isinstance(prompt, str) or not (length is None or (type(length) is int and length > 0)):
            raise BortError("max_seq_length must be a whole number, and a prompt a text", file=self.source)
        text = {"max_seq_length": length, "do_lower_case": lowercase, "prompt": prompt}
        return SentenceModules(
            self.poolings or ("mean",),
            tuple(self.steps),
            {"modules": self.described, **text},
            tuple(self.widths),
            length,
            lowercase,
            prompt,
            self.pools_prompt,
            self.normalizes,
        )

    def _pooling(self, path: str) -> None:
        file, settings = f"{self.source}/{path}/config.json", _settings(self.source, f"{path}/config.json")
        unknown = [
            key for key, on in settings.items() if key.startswith("pooling_mode_") and on and key not in _POOLINGS
        ]
        named = settings.get("pooling_mode")
        chosen = named if isinstance(named, list) else [] if named is None else [named]
        self.poolings = tuple(chosen or [mode for key, mode in _POOLINGS.items() if settings.get(key)])
        unknown += [mode for mode in self.poolings if mode not in _POOLINGS.values()]
        if unknown or not self.poolings:
            rule = f"the pooling must be of {', '.join(_POOLINGS.values())}"
            raise BortError(rule, file=file, value=(unknown or [""])[0])
        self.pools_prompt = bool(settings.get("include_prompt", True))
        self.described.append({"poolings": list(self.poolings), "include_prompt": self.pools_prompt})

    def _dense(self, path: str) -> None:
        import hashlib

        from safetensors.torch import load

        settings = _settings(self.source, f"{path}/config.json")
        self._check_names(settings, path)
        if settings.get("use_residual"):
            raise BortError("use_residual is not supported", file=f"{self.source}/{path}/config.json")
        named = str(settings.get("activation_function", "torch.nn.modules.activation.Tanh"))
        activation = _ACTIVATIONS.get(named.rpartition(".")[2]) if named.startswith("torch.nn.modules.") else None
        if activation is None:
            rule = f"the activation must be of {', '.join(_ACTIVATIONS)}"
            raise BortError(rule, file=f"{self.source}/{path}/config.json", value=named)
        file = _file(self.source, f"{path}/model.safetensors")
        if file is None:
            raise BortError("must hold the layer's weights as model.safetensors", file=f"{self.source}/{path}")
        try:
            content = file.read_bytes()
            tensors = load(content)
            weight, bias = tensors["linear.weight"].float(), tensors.get("linear.bias")
            bias = bias if bias is None else bias.float()
        except Exception as error:  # the library has exception classes of its own
            raise BortError(f"cannot be read: {error}", file=file) from None

        def step(vectors: Tensor) -> Tensor:
            if vectors.shape[-1] != weight.shape[1]:
                raise BortError("does not take as many numbers as come", file=file, value=vectors.shape[-1])
            offset = None if bias is None else bias.to(vectors)
            return activation(torch.nn.functional.linear(vectors, weight.to(vectors), offset))

        self.steps.append(step)
        self.widths.append(int(weight.shape[0]))
        self.described.append({"dense": hashlib.sha256(content).hexdigest(), "activation": named})

    def _normalize(self, path: str) -> None:
        self._check_names(_json(self.source, f"{path}/config.json") or {}, path)  # older folders have no such file
        self.normalizes = True
        self.described.append("normalize")

    def _check_names(self, settings: Mapping[str, Any], path: str) -> None:
        """Refuse a module that reads or writes anything but the pooled vectors."""
        for key in ("module_input_name", "module_output_name"):
            if settings.get(key) not in (None, _POOLED):
                rule = f"{key} must be {_POOLED}"
                raise BortError(rule, file=f"{self.source}/{path}/config.json", value=settings[key])


def _file(source: str, name: str) -> Path | None:
    """Path of a file of a folder or hub model; None if there is none."""
    if Path(source).is_dir():
        file = Path(source) / name
        return file if file.is_file() else None
    from transformers.utils import cached_file

    found = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
    return Path(found) if found else None


def _json(source: str, name: str) -> Any:
    file = _file(source, name)
    if file is None:
        return None
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BortError(f"must hold JSON: {error}", file=file) from None
    if content == [] or not isinstance(content, list if name == "modules.json" else dict):
        kind = "a JSON list of modules" if name == "modules.json" else "one JSON object"
        raise BortError(f"must hold {kind}", file=file)
    return content


def _settings(source: str, name: str) -> dict[str, Any]:
    found = _json(source, name)
    if found is None:
        raise BortError("is named by modules.json and is not there", file=f"{source}/{name}")
    settings: dict[str, Any] = found
    return settings
