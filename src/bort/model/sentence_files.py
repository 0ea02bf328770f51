"""The files in which sentence-transformers describes an encoder, in a folder or a hub model; read without torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path, PurePath
from typing import Any

from bort.errors import BortError

MODULES = "modules.json"
PROMPTS = "config_sentence_transformers.json"
TEXT_SETTINGS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
"""Names of the file on length and case; the first one that says anything counts. Only the first is still written."""
MODULE_FILES = ("config.json", "model.safetensors", "pytorch_model.bin")
"""Files of a module, in its folder."""


def find(source: str, name: str) -> Path | None:
    """Path of a file of a folder or hub model; None if there is none."""
    if Path(source).is_dir():
        file = Path(source) / name
        return file if file.is_file() else None
    from transformers.utils import cached_file

    found = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
    return Path(found) if found else None


def read_json(source: str, name: str) -> Any:
    """Content of a JSON file: a list for `modules.json`, else an object; None if there is no such file.

    Raises:
        BortError: It holds something else.
    """
    file = find(source, name)
    if file is None:
        return None
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BortError(f"must hold JSON: {error}", file=file) from None
    if content == [] or not isinstance(content, list if name == MODULES else dict):
        kind = "a JSON list of modules" if name == MODULES else "one JSON object"
        raise BortError(f"must hold {kind}", file=file)
    return content


def listed_modules(source: str) -> list[tuple[str, str]] | None:
    """Type and path of each module that `modules.json` lists; None if there is no such file.

    Raises:
        BortError: It is broken, or a path leads out of the folder.
    """
    listed = read_json(source, MODULES)
    if listed is None:
        return None
    file = f"{source}/{MODULES}"
    try:
        modules = [(str(entry["type"]), str(entry["path"])) for entry in listed]
    except (KeyError, TypeError):
        raise BortError("must list modules by type and path", file=file) from None
    for _, path in modules:
        if ".." in PurePath(path).parts or PurePath(path).is_absolute():
            raise BortError("must name folders inside of this one", file=file, value=path)
    return modules


def refuse_preparation(source: str) -> None:
    """Refuse a cross-encoder that changes texts before it reads them: nothing here would.

    Raises:
        BortError: It has a default prompt, or lower-cases texts.
    """
    asked, settings = read_json(source, PROMPTS) or {}, read_json(source, TEXT_SETTINGS[0]) or {}
    prompts, default = asked.get("prompts"), asked.get("default_prompt_name")
    rule = "is not applied here; without this entry, the texts are read as they are"
    if default and not (isinstance(prompts, dict) and prompts.get(str(default)) == ""):
        raise BortError(rule, file=f"{source}/{PROMPTS}", column="default_prompt_name", value=default)
    if lowercases := settings.get("do_lower_case"):
        raise BortError(rule, file=f"{source}/{TEXT_SETTINGS[0]}", column="do_lower_case", value=lowercases)


def stated_length(source: str, name: str = TEXT_SETTINGS[0]) -> int | None:
    """Maximum number of tokens that a file on length and case sets; None if it sets none, or is not there.

    Raises:
        BortError: It is not a whole number, or the file is broken.
    """
    settings = read_json(source, name) or {}
    passed = settings.get("tokenizer_args") or settings.get("processor_kwargs") or {}
    if not isinstance(passed, dict):
        raise BortError("tokenizer_args and processor_kwargs must be objects", file=f"{source}/{name}", value=passed)
    length = passed.get("model_max_length", settings.get("max_seq_length"))
    if length is None or (type(length) is int and length > 0):
        return length
    raise BortError("max_seq_length must be a whole number", file=f"{source}/{name}", value=length)


def files_of_modules(source: str) -> list[str]:
    """Names of files that the modules of a folder or hub model may have, with the list of the modules at the end.

    Raises:
        BortError: The list is broken, or names a folder outside of the source.
    """
    # Without such a list, a pooling may be there all the same.
    listed = listed_modules(source) or [("Pooling", "1_Pooling")]
    return [*(f"{path}/{name}" for _, path in listed if path for name in MODULE_FILES), MODULES]


def copy_modules(source: str, folder: Path) -> None:
    """Copy a folder's or hub model's modules, and its settings for texts, to another encoder's folder.

    Raises:
        BortError: The list of modules is broken, or names a folder outside of the source.
    """
    for name in (*TEXT_SETTINGS, PROMPTS, *files_of_modules(source)):
        if (file := find(source, name)) is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / name)
