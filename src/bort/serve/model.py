"""A served model: loading, warm-up, queue, predictions, and detection of a replaced folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.files import folder_state
from bort.predict.encoder import Encoder
from bort.predict.engine import Engine, VectorEngine, gives_vectors
from bort.predict.exported_engine import ExportedEngine
from bort.predict.predictor import Predictor
from bort.serve.batcher import Batcher
from bort.serve.bodies import Info, ScoredLabel
from bort.serve.errors import Kind, Refused
from bort.serve.settings import Limits

Observe = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Tokens:
    """Tokenised texts of one request or of several."""

    encoded: Any
    tokens: int

    def __len__(self) -> int:
        return len(self.encoded)


class ServedModel:
    """A served classifier, regressor or encoder.

    Args:
        name: Name that clients use.
        folder: A fine-tuned or exported folder, an encoder's folder, or an embedded or hub name.
        limits: Limits of the server.
        threads: Number of threads; by default one per core.
        observe: Called for each batch, with its numbers of texts and tokens and its seconds.

    Raises:
        BortError: The model cannot be loaded, fails on a first text, or chooses between texts.
    """

    def __init__(
        self,
        name: str,
        folder: str,
        limits: Limits,
        threads: int | None = None,
        observe: Observe = lambda texts, tokens, seconds: None,
    ) -> None:
        self.name, self.folder, self.limits = name, folder, limits
        self._state = folder_state(folder)
        self.encodes = gives_vectors(folder)
        """Whether it is an encoder."""
        self.kind: Literal["classification", "regression", "multilabel", "embedding"] = "embedding"
        self.size: int | None = None
        """Width of an encoder's vectors."""
        self.pairs: bool | None = None
        """Whether it was fine-tuned on pairs of texts; None if unknown."""
        # A first prediction warms the model up, and shows that it works.
        self.engine: Engine | VectorEngine
        if self.encodes:
            encoder = Encoder(folder, threads=threads)
            encoder.encode("Is anybody there?")
            self.engine, self.size = encoder.engine, encoder.size
        else:
            predictor = Predictor(folder, threads=threads)
            self.task = predictor.task
            if self.task.choices:
                raise BortError("chooses between texts, and cannot be served; evaluate it on its task", file=folder)
            predictor.logits([Example("Is anybody there?")])
            self.engine, self.kind, self.thresholds = predictor.engine, self.task.kind, predictor.engine.thresholds
            self.pairs = predictor.engine.pairs
        if isinstance(self.engine, ExportedEngine):
            self.engine.open_all()  # the folder may be replaced before a request needs the rest
        self.sha256 = weights_digest(folder)
        self.mistakes = known_mistakes(folder)
        """Test texts that the model got wrong, if its folder lists them."""
        # It gets the engine alone: in a cycle with this object, a replaced model would stay in memory for long.
        self.batcher = Batcher(
            partial(_run, self.engine),
            _join,
            max_batch_tokens=limits.max_batch_tokens,
            max_waiting=limits.max_concurrent_requests,
            max_wait_seconds=limits.max_wait_seconds,
            observe=observe,
        )

    @property
    def truncation_side(self) -> str:
        """The side of a text that is cut off: `right` or `left`."""
        manifest = getattr(self.engine, "manifest", None)
        return str((manifest or self.engine.tokenizer).truncation_side)  # type: ignore[union-attr]

    def encode(self, examples: Sequence[Example], truncate: bool | None) -> Tokens:
        """Tokenise in the caller's thread.

        Raises:
            Refused: A text is too long and must not be truncated.
        """
        cut = self.limits.auto_truncate if truncate is None else truncate
        encoded = self.engine.encode(examples)
        if encoded.cut and not cut:
            rule = f"inputs must have at most {self.engine.max_length} tokens; set truncate to cut longer ones"
            raise Refused(Kind.TOO_LARGE, rule)
        return Tokens(encoded, sum(encoded.lengths))

    async def outputs(self, tokens: Tokens, since: float) -> NDArray[np.float32]:
        """Raw outputs, or vectors that are not scaled. *Shape:* (texts, outputs).

        Args:
            tokens: The texts of a request.
            since: When it was accepted.

        Raises:
            Refused: The server is overloaded, or the model fails.
        """
        return await self.batcher.submit(tokens, since)

    def predictions(self, logits: NDArray[np.float32], raw: bool = False) -> list[list[ScoredLabel]]:
        """The labels of each text, the most likely first.

        A single-label model returns all labels, after an entry without a label if the most likely one is below its
        threshold. A multi-label model returns the labels above their thresholds, if any.

        Args:
            logits: *Shape:* (texts, outputs).
            raw: Return raw outputs instead of probabilities; for a multi-label model, the probabilities of all labels.
        """
        if self.task.kind == "regression":
            return [[ScoredLabel(score=float(value), label="value")] for value in logits[:, 0]]
        if self.task.kind == "multilabel":
            kept = np.ones_like(logits) if raw else self.task.decide(logits)
            return [self.ranked(row, those > 0) for row, those in zip(self.task.activate(logits), kept, strict=True)]
        sure = self.task.sure(logits, self.thresholds)
        scores = logits if raw else self.task.activate(logits)
        answers = []
        for row, is_sure in zip(scores, sure, strict=True):
            ranked = self.ranked(row)
            answers.append(ranked if is_sure else [ScoredLabel(score=ranked[0].score, label=None), *ranked])
        return answers

    def ranked(self, scores: NDArray[Any], those: NDArray[np.bool_] | None = None) -> list[ScoredLabel]:
        """Labels with their scores, the highest first. *Shape:* (outputs,)."""
        order = [n for n in np.argsort(-scores, kind="stable").tolist() if those is None or those[n]]
        return [ScoredLabel(score=float(scores[n]), label=self.task.names[n]) for n in order]

    def info(self, version: str) -> Info:
        """Description of the model, for `/info`."""
        manifest = getattr(self.engine, "manifest", None)
        labels = [] if self.encodes else list(self.task.names)
        kind = (
            {"embedding": {"pooling": getattr(self.engine, "pooling", "")}}
            if self.encodes
            else {
                "classifier": {
                    "id2label": dict(enumerate(labels)),
                    "label2id": {name: n for n, name in enumerate(labels)},
                }
            }
        )
        return Info(
            name=self.name,
            kind=self.kind,
            labels=labels,
            model_type=kind,
            size=self.size,
            thresholds={} if self.encodes else dict(self.thresholds),
            max_input_length=self.engine.max_length,
            engine=manifest.engine if manifest else "pytorch",
            precision=manifest.precision if manifest else "fp32",
            sha256=self.sha256,
            pairs=self.pairs,
            examples=self.mistakes,
            max_concurrent_requests=self.limits.max_concurrent_requests,
            max_client_batch_size=self.limits.max_client_batch_size,
            max_batch_tokens=self.limits.max_batch_tokens,
            auto_truncate=self.limits.auto_truncate,
            version=version,
        )

    def replaced(self) -> bool:
        """Whether the folder has changed since the model was loaded, or since this was last asked."""
        before, self._state = self._state, folder_state(self.folder)
        return self._state != before

    def close(self, seconds: float = 30.0) -> None:
        """Accept no more requests, and wait up to `seconds` for the accepted ones to be answered."""
        self.batcher.close(seconds)


def _run(engine: Engine | VectorEngine, tokens: Tokens) -> NDArray[np.float32]:
    outputs = engine.run(tokens.encoded)
    if not np.isfinite(outputs).all():
        raise Refused(Kind.BACKEND, "the model's outputs are not finite")
    return outputs


def _join(parts: Sequence[Tokens]) -> Tokens:
    first = parts[0].encoded
    return Tokens(first.joined([part.encoded for part in parts[1:]]), sum(part.tokens for part in parts))


def weights_digest(folder: str) -> str:
    """SHA-256 of `manifest.json`, or else of `model.safetensors`; empty if there is neither (a hub name)."""
    for name in ("manifest.json", "model.safetensors"):
        file = Path(folder) / name
        if file.is_file():
            with file.open("rb") as handle:
                return hashlib.file_digest(handle, "sha256").hexdigest()
    return ""


def known_mistakes(folder: str) -> list[dict[str, Any]]:
    """Up to 8 test texts that a run got wrong, if its folder lists them."""
    try:
        metrics = json.loads((Path(folder) / "metrics.json").read_text("utf-8"))
        errors = metrics["test_errors"]
        return [
            {name: one[name] for name in ("text", "text_b", "label", "prediction") if one.get(name) is not None}
            for one in errors[:8]
        ]
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return []
