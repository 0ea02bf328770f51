"""Create, load, save and run classifiers and regressors of `transformers`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from bort.data.batches import token_budget_batches
from bort.data.tables.labels import Kind
from bort.errors import BortError
from bort.model.bi_encoder import BortBiEncoderForSequenceClassification
from bort.model.checkpoints import load, load_config, locate, require_encoder, save
from bort.model.devices import INFERENCE_TOKENS
from bort.model.modelling import BortForMultipleChoice, BortForSequenceClassification
from bort.model.sentence_files import PROMPTS, read_json, refuse_preparation
from bort.model.tokenization import load_tokenizer
from bort.predict.encoding import Feed, TokenizedExamples
from bort.predict.inputs import check_readable
from bort.predict.thresholds import IN_CONFIG, are_thresholds
from bort.progress import in_batches
from bort.tasks.classification import Classification
from bort.tasks.metrics import METRICS, primary_metric
from bort.tasks.multilabel import MultiLabel
from bort.tasks.regression import Regression
from bort.tasks.task import Task

_ROWS_PER_BATCH = 512
_STATED_ACTIVATIONS = ("sentence_transformers", "sbert_ce_default_activation_function")
"""Entries of config.json, the older one last, by which sentence-transformers applies a function to a head's outputs."""
_SEE_NO_PADDING = frozenset(
    {
        "albert",
        "bart",
        "bert",
        "big_bird",
        "bigbird_pegasus",
        "camembert",
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
        "longformer",
        "mbart",
        "modernbert",
        "mpnet",
        "roberta",
        "t5",
        "xlm-roberta",
    }
)
"""Model types known to give the same answers to padded texts. Others are tried when they are loaded."""


def new_classifier(model: str, task: Task, *, bi_encoder: bool = False) -> PreTrainedModel:
    """Put a new head for `task` on an encoder; its weights are drawn from torch's global random state.

    An existing head is not reused, because its outputs may stand for other labels.

    Args:
        model: A folder, an embedded model's name, or a hub name.
        task: The task of the new head.
        bi_encoder: Whether the two texts of a pair are encoded separately; the encoder must then be a BERT.

    Raises:
        BortError: The model cannot be loaded, or is an encoder-decoder.
    """
    require_encoder(model)
    labels: dict[str, Any] = {"num_labels": task.outputs, "problem_type": task.problem_type}
    if task.names:
        labels["id2label"] = dict(enumerate(task.names))
        labels["label2id"] = {name: number for number, name in enumerate(task.names)}
    ours = BortBiEncoderForSequenceClassification
    opened = _Opened(ours if bi_encoder else _classifier_class(model, choices=task.choices))
    loaded = load(opened, model, ignore_mismatched_sizes=True, **labels)
    for stated in _STATED_ACTIVATIONS:  # of a cross-encoder's former head
        if hasattr(loaded.config, stated):
            delattr(loaded.config, stated)
    for name, weights in loaded.named_parameters():
        if not name.startswith(f"{loaded.base_model_prefix}.") and name not in opened.absent:
            if weights.ndim > 1:
                torch.nn.init.normal_(weights, std=getattr(loaded.config, "initializer_range", 0.02))
            elif name.endswith("bias"):
                torch.nn.init.zeros_(weights)
    return loaded


def load_classifier(model: str, *, ours: bool = True) -> tuple[PreTrainedModel, Task]:
    """Load a fine-tuned classifier or regressor, and its task.

    Args:
        model: A folder or hub name.
        ours: Load BERT into bort's class, which computes less for the same output, instead of that of `transformers`.

    Raises:
        BortError: The model cannot be loaded, it is not a classifier, its head or other weights are missing, or its
            outputs are neither labels nor one number.
    """
    named = load_config(model).architectures or []
    choices = any("MultipleChoice" in name for name in named)
    if BortBiEncoderForSequenceClassification.__name__ in named:
        opened = _Opened(BortBiEncoderForSequenceClassification)
    else:
        opened = _Opened(_classifier_class(model, choices=choices, ours=ours))
    loaded = load(opened, model).eval()
    if not choices and not any("SequenceClassification" in name for name in named):
        rule = "is no classifier; fine-tune it first: bort finetune --train F --model M --out DIR"
        if not named:
            rule = "must name the class of a classifier; if it is none, fine-tune it first: bort finetune"
        raise BortError(rule, file=model, **({"value": named[0]} if named else {"column": "architectures"}))
    if opened.absent:
        rule = f"the weights of a fine-tuned model must all be there; {len(opened.absent)} are not"
        raise BortError(rule, file=model, value=opened.absent[0])
    if opened.surplus:
        rule = "config.json describes fewer layers than the weights have, or layers without this weight"
        raise BortError(rule, file=model, value=opened.surplus[0])
    return loaded, _task(loaded, model, choices=choices)


def _task(model: PreTrainedModel, name: str, *, choices: bool) -> Task:
    """The task of a classifier, from its config.json.

    Raises:
        BortError: It gives neither one label, nor several labels, nor one number, or config.json is inconsistent.
    """
    config = model.config
    refuse_preparation(locate(name))
    kind, outputs = config.problem_type, config.num_labels
    if (kind == Regression.problem_type and outputs != 1) or (kind == MultiLabel.problem_type and outputs == 1):
        rule = "must be a model that gives each text one label, several labels, or one number"
        raise BortError(rule, file=name, column="problem_type", value=kind)
    if outputs == 1:
        if kind != Regression.problem_type:
            _refuse_activation(config, name, "regression", ("Identity",))
        return Regression((), _metric(model, name, "regression"))
    # Earlier versions kept what a cross-encoder says of its former head.
    if kind != MultiLabel.problem_type and not hasattr(config, "bort_metric"):
        _refuse_activation(config, name, "multi_label_classification", ("Identity", "Softmax"))
    names = tuple(str(config.id2label.get(number)) for number in range(outputs))
    if len({*names}) < outputs or not {*range(outputs)} <= {*config.id2label}:
        rule = f"must name the outputs 0 to {outputs - 1}, each differently"
        raise BortError(rule, file=name, column="id2label", value=config.id2label)
    check_readable(*names, file=name, column="id2label")
    if kind == MultiLabel.problem_type:
        least = getattr(config, IN_CONFIG, {})
        if not are_thresholds(least, names):
            raise BortError("must map labels to probabilities", file=name, column=IN_CONFIG, value=least)
        return MultiLabel.of_model(names, _metric(model, name, "multilabel"), least)
    return Classification(names, _metric(model, name, "classification"), choices=choices)


def _refuse_activation(config: Any, name: str, instead: str, applied: tuple[str, ...]) -> None:
    """Refuse a cross-encoder of sentence-transformers that says that its scores are another function of the outputs."""
    inside, oldest = _STATED_ACTIVATIONS
    places = (read_json(locate(name), PROMPTS), getattr(config, inside, None))
    stated = [place.get("activation_fn") for place in places if isinstance(place, dict)]
    stated.append(getattr(config, oldest, None))
    function = next(filter(None, stated), "Identity")
    if str(function).rpartition(".")[2] not in applied:
        says = "the outputs without it" if instead == Regression.problem_type else "the probability of each label alone"
        rule = f'is not applied here; "problem_type": "{instead}" in config.json asks for {says}'
        raise BortError(rule, file=name, column="activation_fn", value=function)


def _metric(model: PreTrainedModel, name: str, kind: Kind) -> str:
    """The metric that selected the model, from config.json; by default the primary metric of the kind.

    Another library may have fine-tuned the folder to another kind of task, and left the metric as it was.
    """
    named = getattr(model.config, "bort_metric", None)
    if named is not None and not any(named in metrics for metrics in METRICS.values()):
        raise BortError(f"must be one of {', '.join(METRICS[kind])}", file=name, column="bort_metric", value=named)
    return named if named in METRICS[kind] else primary_metric(kind)


def fitting_tokenizer(name: str, model: PreTrainedModel) -> PreTrainedTokenizerFast:
    """Load a model's tokenizer, check it against the model, and restrict its outputs to the model's inputs.

    Args:
        name: The folder or hub name.
        model: The model loaded from there.

    Raises:
        BortError: It cannot be loaded, has no padding token, or has ids beyond the model's word embedding.
    """
    tokenizer = load_tokenizer(locate(name))
    if tokenizer.pad_token_id is None:
        raise BortError("the tokenizer has no padding token", file=name)
    try:
        rows = len(model.get_input_embeddings().weight)
    except (AttributeError, NotImplementedError):
        raise BortError("must be a model of texts", file=name, value=type(model).__name__) from None
    ids = 1 + max(tokenizer.get_vocab().values(), default=-1)
    if ids > rows:
        rule = f"the tokenizer has {ids:,} ids, the model's word embedding {rows:,} rows: call resize_token_embeddings"
        raise BortError(rule, file=name)
    names = ["input_ids", "attention_mask"]
    takes_types = "token_type_ids" in inspect.signature(model.forward).parameters
    if takes_types and "token_type_ids" in tokenizer.model_input_names:
        # RoBERTa has one token type, even if its tokenizer gives types 0 and 1; DeBERTa may have none.
        names += ["token_type_ids"] if getattr(model.config, "type_vocab_size", 2) > 1 else []
    tokenizer.model_input_names = names
    if hasattr(model, "score"):  # a decoder's head, which reads the last token that is not padding
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return tokenizer


def save_classifier(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, max_length: int, **about: Any
) -> None:
    """Write a folder that `AutoModelForSequenceClassification` (or `...MultipleChoice`) opens.

    Args:
        model: The classifier.
        tokenizer: Its tokenizer; it is saved with `max_length` as its maximum length.
        folder: Folder to write.
        max_length: Maximum length in tokens used in fine-tuning.
        about: Additional entries for config.json.
    """
    before = tokenizer.model_max_length
    tokenizer.model_max_length = max_length
    try:
        save(model, tokenizer, folder, **about)
    finally:
        tokenizer.model_max_length = before


def positions(model: PreTrainedModel) -> int:
    """Maximum number of tokens of a model's inputs; RoBERTa's positions start after its padding id."""
    table = int(getattr(model.config, "max_position_embeddings", None) or 512)
    embeddings = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    padding = getattr(embeddings, "padding_idx", None)
    return table if padding is None else table - padding - 1


class _Opened:
    """A model class that records missing weights, and unexpected weights of layers."""

    def __init__(self, model_class: Any) -> None:
        self._class = model_class
        self.absent: list[str] = []
        self.surplus: list[str] = []

    def from_pretrained(self, *source: Any, **settings: Any) -> Any:
        """Like the method of the class, with `output_loading_info`."""
        loaded, report = self._class.from_pretrained(*source, **settings)
        self.absent = sorted({*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])})
        self.surplus = sorted(name for name in report["unexpected_keys"] if ".layer." in name)
        return loaded, report


def _classifier_class(model: str, *, choices: bool = False, ours: bool = True) -> Any:
    """The class for multiple choice or sequence classification: bort's for BERT, that of `transformers` for others."""
    from transformers import AutoModelForMultipleChoice, AutoModelForSequenceClassification

    ours = ours and load_config(model).model_type == "bert"
    if choices:
        return BortForMultipleChoice if ours else AutoModelForMultipleChoice
    return BortForSequenceClassification if ours else AutoModelForSequenceClassification


def tensors(batch: Feed, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Convert a batch to PyTorch tensors on a device. *Shapes:* unchanged."""
    return {name: torch.from_numpy(values).to(device) for name, values in batch.items()}


@torch.no_grad()
def sees_padding(
    model: PreTrainedModel,
    outputs: Callable[[dict[str, Tensor]], Tensor],
    encoded: TokenizedExamples,
    pad_token_id: int,
    max_length: int,
) -> bool:
    """Whether padding changes a model's outputs, as where a convolution or a Fourier transform reads it.

    Args:
        model: The model, in eval mode.
        outputs: Computes its outputs for a batch of one text, as logits or its tokens' vectors. *Shape:* (1, ...).
        encoded: A text, whose first tokens are tried.
        pad_token_id: Id of padding.
        max_length: Maximum number of tokens.
    """
    if model.config.model_type in _SEE_NO_PADDING or not encoded.lengths[0]:
        return False
    first = {name: [ids[: min(4, max_length - 1)]] for name, [ids] in encoded.columns.items()}
    batches = (TokenizedExamples(first).batch([0], pad_token_id, least) for least in (0, min(12, max_length)))
    alone, padded = (outputs(tensors(batch, model.device)) for batch in batches)
    # Outputs near 0 differ by more than their own rounding, since they are sums of larger numbers.
    return not bool((padded - alone).abs().max() <= 1e-4 * max(1.0, float(alone.abs().max())))


def split_batches(batches: Iterable[list[int]], key: Callable[[int], int]) -> list[list[int]]:
    """Split batches of indices into batches with one value of a key.

    >>> split_batches([[0, 1, 2], [3]], [5, 7, 5, 5].__getitem__)
    [[0, 2], [1], [3]]
    """
    return [list(rows) for batch in batches for _, rows in groupby(sorted(batch, key=key), key=key)]


@torch.no_grad()
def predict_logits(
    model: PreTrainedModel,
    encoded: TokenizedExamples,
    pad_token_id: int,
    *,
    bf16: bool = False,
    what: str = "",
    padded: bool = True,
) -> NDArray[np.float32]:
    """Run a classifier on examples, in batches of similar length, and return the logits in the examples' order.

    A model in eval mode is not modified, so several threads may call it at once.

    Args:
        model: The classifier.
        encoded: The examples.
        pad_token_id: Id of padding.
        bf16: Whether to compute in bf16.
        what: Description for a progress bar; without it, none is shown.
        padded: Whether a batch may hold examples of different lengths.

    Returns:
        *Shape:* (examples, outputs); with choices (examples, choices).
    """
    training = model.training
    if training:
        model.eval()
    logits = np.empty((len(encoded), encoded.choices or model.config.num_labels), dtype=np.float32)
    each, tokens = encoded.choices or 1, INFERENCE_TOKENS[model.device.type]
    lengths = encoded.lengths
    batches = token_budget_batches(lengths, max_tokens=max(1, tokens // each), max_rows=max(1, _ROWS_PER_BATCH // each))
    if not padded:
        batches = split_batches(batches, lengths.__getitem__)
    if getattr(model.config, "is_encoder_decoder", False) and not encoded.choices:
        # Such a head reads the last end-of-text token, and wants as many of them in all rows.
        end = model.config.eos_token_id
        batches = split_batches(batches, lambda row: encoded.columns["input_ids"][row].count(end))
    for indices in in_batches(what, batches) if what else batches:
        inputs = tensors(encoded.batch(indices, pad_token_id), model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            logits[indices] = model(**inputs).logits.float().cpu().numpy()
    if training:
        model.train()
    return logits
