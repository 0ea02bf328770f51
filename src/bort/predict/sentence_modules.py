"""The modules of a sentence-transformers folder around its encoder; a folder that is not fully supported is refused.

The file format is that of sentence-transformers 6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bort.errors import BortError
from bort.model.sentence_files import PROMPTS, TEXT_SETTINGS, find, listed_modules, read_json, stated_length
from bort.predict.manifest import Pooling

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
_COMPUTING = ("torch_dtype", "dtype", "attn_implementation")
_ARGUMENTS: Mapping[str, Sequence[str]] = {
    "model_args": _COMPUTING,
    "model_kwargs": _COMPUTING,
    "tokenizer_args": ("model_max_length",),
    "processor_kwargs": ("model_max_length",),
    "config_args": (),
    "config_kwargs": (),
    "processing_kwargs": (),
}
"""Arguments for other libraries by their former and present names, and those that are obeyed or change no vector."""
_USUAL_PROMPTS = ("query", "document")
"""Names of prompts that are empty unless the folder says otherwise."""
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

    @property
    def plain_pooling(self) -> Pooling | None:
        """The pooling if it alone makes the vectors and is the mean over all tokens or the first one; else None."""
        known: dict[tuple[str, ...], Pooling] = {("mean",): "mean", ("cls",): "cls"}
        leaves_out = self.prompt and not self.pools_prompt
        return None if self.steps or leaves_out else known.get(self.poolings)

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
    named = listed_modules(source)
    if named is None:
        pooling = read_json(source, "1_Pooling/config.json")
        return SentenceModules() if pooling is None else _Reader(source).modules([("Pooling", "1_Pooling")])
    for kind, _ in named:
        if not kind.startswith("sentence_transformers."):
            raise BortError("is code of the model's own, which is not run", file=f"{source}/modules.json", value=kind)
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
        (length, lowercase), prompt = _length_and_case(self.source), _prompt(self.source)
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
        file = find(self.source, f"{path}/model.safetensors")
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
        self._check_names(read_json(self.source, f"{path}/config.json") or {}, path)  # older folders have no such file
        self.normalizes = True
        self.described.append("normalize")

    def _check_names(self, settings: Mapping[str, Any], path: str) -> None:
        """Refuse a module that reads or writes anything but the pooled vectors."""
        for key in ("module_input_name", "module_output_name"):
            if settings.get(key) not in (None, _POOLED):
                rule = f"{key} must be {_POOLED}"
                raise BortError(rule, file=f"{self.source}/{path}/config.json", value=settings[key])


def _length_and_case(source: str) -> tuple[int | None, bool]:
    """Maximum number of tokens, if the folder sets it, and whether texts are lowercased.

    Raises:
        BortError: The folder also sets what would change vectors and is not supported.
    """
    settings: dict[str, Any] = {}
    for name in TEXT_SETTINGS:
        if settings := read_json(source, name) or {}:
            break
    file = f"{source}/{name}"
    for key, known in _ARGUMENTS.items():
        given = settings.get(key) or {}
        if not isinstance(given, dict) or not given.keys() <= {*known, "trust_remote_code"}:
            raise BortError("has entries that are not supported", file=file, column=key, value=given)
    if "modality_config" in settings and not _reads_texts(settings["modality_config"]):
        rule = "must give the last hidden state of texts"
        raise BortError(rule, file=file, column="modality_config", value=settings["modality_config"])
    return stated_length(source, name), bool(settings.get("do_lower_case"))


def _reads_texts(modalities: Any) -> bool:
    """Whether texts go through the whole encoder; a cross-encoder's folder gives logits, and lends its encoder."""
    text = modalities.get("text") if isinstance(modalities, dict) else None
    outputs = ("last_hidden_state", "logits")
    return text in [{"method": "forward", "method_output_name": output} for output in outputs]


def _prompt(source: str) -> str:
    """The default prompt.

    Raises:
        BortError: The file of prompts is broken, names none of its prompts, or shortens vectors.
    """
    asked, file = read_json(source, PROMPTS) or {}, f"{source}/{PROMPTS}"
    if asked.get("truncate_dim") is not None:
        raise BortError("truncate_dim is not supported", file=file, value=asked["truncate_dim"])
    prompts, name = asked.get("prompts") or {}, asked.get("default_prompt_name") or ""
    if not isinstance(prompts, dict) or not isinstance(name, str):
        raise BortError("prompts must map names to texts, and default_prompt_name must be a name", file=file)
    if name and name not in (*prompts, *_USUAL_PROMPTS):
        rule = f"must be one of the prompts: {', '.join(prompts) or 'there are none'}"
        raise BortError(rule, file=file, column="default_prompt_name", value=name)
    prompt = prompts.get(name, "") if name else ""
    if not isinstance(prompt, str):
        raise BortError("a prompt must be a text", file=file, value=prompt)
    return prompt


def _settings(source: str, name: str) -> dict[str, Any]:
    found = read_json(source, name)
    if found is None:
        raise BortError("is named by modules.json and is not there", file=f"{source}/{name}")
    settings: dict[str, Any] = found
    return settings
