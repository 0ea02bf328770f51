"""Loads and saves models: plain Hugging Face BERT folders, found by path, embedded name or hub name."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from bort.errors import BortError, lines_of
from bort.files import folder_aside, sync_folder, with_home, write_aside
from bort.formats import check_format, stamp
from bort.model.sentence_files import find

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

ASSETS = Path(__file__).resolve().parents[1] / "assets"
EMBEDDED = ("bort-nano",)
_FORMAT = 1
"""Version of Bort's own entries in `config.json`, stored there as `bort_format`."""
_QUIETING = Lock()
_LOUDER: list[tuple[int, bool]] = []
"""What each `quiet` block found, the first one the user's settings; whichever block ends last takes those."""
_MASKED_LM_HEADS = ("ForMaskedLM", "ForPreTraining")
_PLAIN_HEADS = ("Model", *_MASKED_LM_HEADS)
_MOST_LAYERS = 1000
_BUILT_IN_ATTENTION = (None, "eager", "sdpa")
_RELATIVE_POSITIONS = ("relative_key", "relative_key_query")
_READS_POSITION_TYPE = ("esm",)
"""Model types whose relative positions the library still computes; for the others, positions are absolute."""
_READS_AGAIN = ("bart", "bigbird_pegasus", "led", "mbart", "mvp", "plbart")
"""Encoder-decoders whose decoder reads the text itself, unless it gets another."""
_HUGGING_FACE_NAMES = {
    "BortForMaskedLM": "BertForMaskedLM",
    "BortForSequenceClassification": "BertForSequenceClassification",
    "BortForMultipleChoice": "BertForMultipleChoice",
}


def unpacked(name: str | Path) -> str:
    """Return the folder of an embedded model; any other name, or one that exists as a path, is returned as it is.

    Only a leading `~/` becomes the home folder.
    """
    name = with_home(str(name))
    return str(ASSETS / name) if name in EMBEDDED and not Path(name).exists() else name


def locate(model: str | Path) -> str:
    """Turn `--model` into what `from_pretrained` takes: a folder with a config, or a hub name.

    Raises:
        BortError: The name is neither a folder with `config.json`, an embedded model nor a possible hub name.
    """
    name = unpacked(model)
    if not name:
        raise BortError("names no model", value=name)
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            if (folder / "manifest.json").is_file():
                rule = "is a folder of bort export, for prediction alone; name the one it was made of"
                raise BortError(rule, file=folder)
            raise BortError("holds no config.json, so no finished model", file=folder)
        return name
    if folder.is_file():
        raise BortError("is a file; a model is a folder (`bort convert` makes one of a .params file)", file=folder)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise BortError("no such folder", file=name)
    if "/" not in name:
        rule = f"is neither a folder, an embedded model ({', '.join(EMBEDDED)}) nor a hub name (owner/name)"
        raise BortError(rule, value=name)
    return name


def example_data(name: str) -> Path:
    """Return the folder of an embedded data set: in an installed package, or in `examples/` of a source checkout."""
    packaged = ASSETS / "examples" / name
    return packaged if packaged.is_dir() else ASSETS.parents[2] / "examples" / name


def load(
    model_class: Any, model: str | Path, *, ignore_mismatched_sizes: bool = False, **config: Any
) -> PreTrainedModel:
    """Load a model with a class of ours or of `transformers`, in fp32 whatever the file's precision.

    Args:
        model_class: Any class with `from_pretrained`.
        model: A folder, an embedded name, or a hub name.
        ignore_mismatched_sizes: Whether weights of a head that have other shapes are left as initialised.
        config: Changes to the configuration, such as `num_labels`.

    Raises:
        BortError: The model cannot be found or read, or its files lack weights of the encoder (a head may be new).
    """
    return _load(model_class, model, ignore_mismatched_sizes=ignore_mismatched_sizes, **config)[0]


def load_encoder(model: str | Path) -> PreTrainedModel:
    """Load an encoder, with its masked-LM head if its files hold one; see `load`."""
    from transformers import AutoModel

    return load_masked_lm(model) or load(AutoModel, model)


def load_masked_lm(model: str | Path) -> PreTrainedModel | None:
    """Load an encoder with its masked-LM head; None if its files hold no such head, or a part of one. See `load`."""
    from transformers import AutoModelForMaskedLM

    names = load_config(model).architectures
    if names and not any(name.endswith(_MASKED_LM_HEADS) for name in names):
        return None
    loaded, absent = _load(AutoModelForMaskedLM, model)
    # The encoder is complete, or it would not have been loaded. A head may be absent whatever `config.json` says.
    return None if any("pooler" not in name for name in absent) else loaded


def _load(
    model_class: Any, model: str | Path, *, ignore_mismatched_sizes: bool = False, **config: Any
) -> tuple[PreTrainedModel, set[str]]:
    """See `load`; also returns the names of the weights that the files lack."""
    import torch
    from transformers import AutoConfig

    # If memory is short, one of the library's loading threads may fail to start, and it would wait forever.
    os.environ.setdefault("HF_DEACTIVATE_ASYNC_LOAD", "1")
    source = locate(model)
    check_layout(source)
    try:
        with quiet():
            if (config_class := getattr(model_class, "config_class", None)) is None:
                described = AutoConfig.from_pretrained(source, trust_remote_code=False)
            else:
                described = config_class.from_pretrained(source)
            for name, value in config.items():
                setattr(described, name, value)
            _secure(described, source)
            _check_sizes(described, source)
            _check_positions(described, source)
            described.return_dict = True  # else a model gives tuples
            loaded, report = model_class.from_pretrained(
                source,
                config=described,
                dtype=torch.float32,
                ignore_mismatched_sizes=ignore_mismatched_sizes,
                output_loading_info=True,
                trust_remote_code=False,
            )
    except BortError:
        raise
    except (pickle.UnpicklingError, EOFError):
        raise BortError("the weights are damaged, or their .bin file holds more than weights", file=source) from None
    except Exception as error:  # each kind of damage raises its own class
        if "ignore_mismatched_sizes" in str(error):
            rule = "the weights do not have the shapes that config.json gives"
        else:
            first = lines_of(error)[:2]
            rule = f"the model cannot be loaded: {' '.join(map(str.strip, first))}"
        raise BortError(rule, file=source) from None
    absent = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
    _check_encoder(loaded, absent, source)
    return loaded, absent


def load_config(model: str | Path) -> Any:
    """Load a model's configuration; code in its folder is never run, and the user is not asked about it.

    Raises:
        BortError: The configuration cannot be found or read.
    """
    from transformers import AutoConfig

    source = locate(model)
    check_layout(source)
    try:
        found = AutoConfig.from_pretrained(source, trust_remote_code=False)
        if not all(isinstance(name, str) for name in found.architectures or []):
            raise ValueError("architectures must be names")
    except Exception as error:  # each kind of damage raises its own class
        first = lines_of(error)[:2]
        raise BortError(f"the configuration cannot be read: {' '.join(map(str.strip, first))}", file=source) from None
    _secure(found, source)
    return found


def _secure(config: Any, source: str) -> None:
    """Keep a model from being built with code that the library would fetch from the hub.

    A configuration may name kernels there. Attention and experts compute the same without, quantised weights do not.

    Raises:
        BortError: The weights are quantised, or the folder holds an adapter, which only the peft package would apply.
    """
    from transformers.utils import is_peft_available

    # Without peft, the library ignores the adapter of a hub model, too; then the hub is not asked for it.
    if (Path(source).is_dir() or is_peft_available()) and (adapter := find(source, "adapter_config.json")):
        raise BortError("an adapter is not applied here: merge it into the model, and remove this file", file=adapter)
    for part in _with_parts(config):
        if quantized := getattr(part, "quantization_config", None):
            quantized = quantized.get("quant_method", quantized) if isinstance(quantized, dict) else quantized
            rule = "quantised weights are not supported; save the model in single or half precision"
            raise BortError(rule, file=f"{source}/config.json", column="quantization_config", value=quantized)
        if part._attn_implementation not in _BUILT_IN_ATTENTION:
            part._attn_implementation = None  # the library then chooses
        part._experts_implementation = None


def _with_parts(config: Any) -> Iterator[Any]:
    """A configuration, and those of its parts."""
    yield config
    for name in config.sub_configs:
        if (part := getattr(config, name, None)) is not None:
            yield from _with_parts(part)


def require_encoder(model: str | Path) -> None:
    """Refuse an encoder-decoder whose decoder needs inputs of its own; that of BART reads the text again.

    Raises:
        BortError: It is one, or its configuration cannot be read.
    """
    config = load_config(model)
    kind = config.model_type
    # An encoder of T5 alone calls itself an encoder, but is loaded as the whole.
    is_t5 = kind in ("t5", "mt5", "umt5", "longt5")
    if is_t5 or (getattr(config, "is_encoder_decoder", False) and kind not in _READS_AGAIN):
        raise BortError("is an encoder-decoder; take an encoder", file=str(model), value=kind)


def is_encoder(model: str | Path) -> bool:
    """Whether a folder or hub model is an encoder, with at most a pre-training head, rather than, say, a classifier.

    Raises:
        BortError: The model cannot be found or read.
    """
    file, names = Path(locate(model)) / "config.json", None
    with contextlib.suppress(OSError, ValueError, RecursionError, KeyError, TypeError):
        names = json.loads(file.read_bytes())["architectures"]  # without importing transformers, which takes seconds
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        names = load_config(model).architectures or []
    return all(name.endswith(_PLAIN_HEADS) for name in names)


def check_layout(source: str) -> None:
    """Refuse a folder that a later version of this package has written in a newer layout."""
    file = Path(source) / "config.json"
    with contextlib.suppress(OSError, ValueError, RecursionError):  # the library reports these
        described = json.loads(file.read_bytes())
        if isinstance(described, dict) and "bort_format" in described:
            found = {"format": described["bort_format"], "bort": described.get("bort_version")}
            check_format(found, _FORMAT, file, "fine-tune the model again")


def _check_positions(config: Any, source: str) -> None:
    """Refuse relative positions, which older releases of the library computed and the present one ignores."""
    kind = getattr(config, "position_embedding_type", None)
    if kind in _RELATIVE_POSITIONS and config.model_type not in _READS_POSITION_TYPE:
        rule = "must be absolute: other positions are not supported"
        raise BortError(rule, file=f"{source}/config.json", column="position_embedding_type", value=kind)


def _check_sizes(config: Any, source: str) -> None:
    """Refuse sizes that the library accepts but that fail at the first text, or fill the memory with layers."""
    if config.model_type == "xlnet":
        raise BortError("is not supported: it has no positions", file=f"{source}/config.json", value="xlnet")
    names = ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size", "max_position_embeddings")
    for name in names:
        value = getattr(config, name, 0)
        if isinstance(value, int) and value < 0:
            raise BortError("must not be negative", file=f"{source}/config.json", column=name, value=value)
    if isinstance(layers := getattr(config, "num_hidden_layers", 0), int) and layers > _MOST_LAYERS:
        rule = f"must be at most {_MOST_LAYERS:,}"
        raise BortError(rule, file=f"{source}/config.json", column="num_hidden_layers", value=layers)


def _check_encoder(loaded: PreTrainedModel, absent: set[str], source: str) -> None:
    """Refuse an encoder whose missing weights the library has initialised at random."""
    prefix = "" if loaded.base_model is loaded else f"{loaded.base_model_prefix}."
    lost = sorted(name for name in absent if name.startswith(prefix) and "pooler" not in name)
    if lost:
        rule = f"the weights of the encoder that config.json describes must all be there; {len(lost)} are not"
        raise BortError(rule, file=source, value=lost[0])


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: str | Path, **config: Any) -> None:
    """Save a model so that `AutoModel…` loads it without this package.

    The files go to a temporary folder first; `config.json`, without which a folder is not a model, is moved last.

    Args:
        model: The model, saved in its current precision.
        tokenizer: The tokenizer, saved next to the weights.
        folder: Output folder; other files in it are kept.
        config: Additional entries of `config.json`.
    """
    folder = Path(folder)
    with folder_aside(folder / ".model") as aside:
        with quiet():
            model.save_pretrained(aside)
        described = json.loads((aside / "config.json").read_text("utf-8"))
        names = described.get("architectures") or []
        described["architectures"] = [_HUGGING_FACE_NAMES.get(name, name) for name in names]
        written = stamp(_FORMAT)
        described |= {**config, "bort_format": written["format"], "bort_version": written["bort"]}
        (aside / "config.json").write_text(json.dumps(described, indent=2) + "\n", "utf-8")
        _write_tokenizer(tokenizer, aside)
    _move_up(folder / ".model", folder)


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> None:
    """Save a tokenizer in its own folder, atomically."""
    with folder_aside(folder) as aside:
        _write_tokenizer(tokenizer, aside)


def _write_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        # Padding and truncation of the last call are not part of the tokenizer, but would be saved with it.
        backend.no_padding()
        backend.no_truncation()
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text("utf-8"))
    if settings.get("tokenizer_class") == "TokenizersBackend":
        # transformers 4 knows this name too.
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        with write_aside(file) as out:
            json.dump(settings, out, indent=2)


def _move_up(source: Path, target: Path) -> None:
    """Replace a model's files; `config.json` is removed first and moved last, so that no mixture passes for a model."""
    (target / "config.json").unlink(missing_ok=True)
    files = sorted(source.iterdir(), key=lambda file: file.name == "config.json")
    for file in files:
        file.replace(target / file.name)
    source.rmdir()
    sync_folder(target)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the progress bars and load reports of `transformers`; Bort shows its own. Threads may do so together."""
    from transformers.utils import logging as theirs

    logger = logging.getLogger("transformers")
    with _QUIETING:
        _LOUDER.append((logger.level, theirs.is_progress_bar_enabled()))
        logger.setLevel(logging.ERROR)
        theirs.disable_progress_bar()
    try:
        yield
    finally:
        with _QUIETING:
            level, bars = _LOUDER.pop()
            logger.setLevel(level)
            if bars:
                theirs.enable_progress_bar()
