import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest

from bort.bounds import AtMost, NotEmpty, PositiveFloat, PositiveInt, Share, bounds, validate
from bort.cli.serve import ServeArguments
from bort.errors import BortError


@dataclass
class Settings:
    steps: PositiveInt = 1
    rates: Annotated[list[PositiveFloat], NotEmpty()] = field(default_factory=lambda: [0.1])
    warmup: Share = 0.0
    most: Annotated[int, AtMost(512)] | None = None
    kind: Literal["a", "b"] | None = "a"
    name: str = ""
    fast: bool = False
    low: float = 0.0

    def check(self) -> None:
        if self.low > self.warmup:
            raise BortError("must be at most --warmup", setting="low", value=self.low)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"steps": np.int64(3), "warmup": np.float32(0.5), "rates": (1,)},
        {"most": 512, "kind": None, "name": Path("x")},
    ],
)
def test_good_settings_pass(settings):
    validate(replace(Settings(), **settings))


@dataclass
class Paths:
    model: str | None = None
    files: list[str] = field(default_factory=list)


def test_paths_become_text():
    settings = Paths(Path("a/b"), [Path("c"), "d"])
    validate(settings)
    assert settings == Paths(str(Path("a/b")), ["c", "d"])


@dataclass
class Places:
    out: str | None
    input: list[str] | str = "-"
    texts: str = ""


def test_an_empty_name_is_not_the_working_folder():
    for settings in (Places(""), Places(None, ""), Places(None, ["a", ""]), ServeArguments(["m"], host="")):
        with pytest.raises(BortError, match="must not be empty"):
            validate(settings)
    validate(Places(None, ["a"], ""))  # its default


def test_the_home_folder_is_known_everywhere(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    settings = Paths(Path("~/run"), ["~/a/", "b~/c", "~"])
    validate(settings)
    assert settings == Paths("/home/me/run", ["/home/me/a/", "b~/c", "~"]), "a / at the end says that it is a folder"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "--steps: value 0: must be at least 1"),
        ({"steps": 1.5}, "--steps: value 1.5: must be a whole number"),
        ({"steps": True}, "--steps: value True: must be a whole number"),
        ({"steps": None}, "--steps: value None: must be a whole number"),
        ({"rates": []}, "--rates: value []: must be at least one"),
        ({"rates": [0.1, -1.0]}, "--rates: value [0.1, -1.0]: must be above 0"),
        ({"rates": [math.nan]}, "--rates: value [nan]: must be a finite number"),
        ({"rates": 0.1}, "--rates: value 0.1: must be a list"),
        ({"rates": "0.1"}, "--rates: value '0.1': must be a list"),
        ({"warmup": 1.0}, "--warmup: value 1.0: must be at least 0 and below 1"),
        ({"most": 513}, "--most: value 513: must be at most 512"),
        ({"kind": "c"}, "--kind: value 'c': must be one of a, b"),
        ({"name": 3}, "--name: value 3: must be text"),
        ({"fast": 1}, "--fast: value 1: must be true or false"),
        ({"low": 0.5}, "--low: value 0.5: must be at most --warmup"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(BortError) as told:
        validate(replace(Settings(), **settings))
    assert str(told.value) == message


def test_a_message_names_the_flag_of_the_command():
    with pytest.raises(BortError, match=r"^--trial-steps: value 0: must be at least 1$"):
        validate(Settings(steps=0), prefix="trial_")


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (PositiveInt, "at least 1"),
        (PositiveInt | None, "at least 1"),
        (Annotated[list[Share], NotEmpty()], "at least 0 and below 1"),
        (Annotated[int, AtMost(1_000_000)], "at most 1,000,000"),
        (Literal["a", 1], ""),
        (list[str], ""),
        (float | None, ""),
    ],
)
def test_bounds_in_words(hint, words):
    assert bounds(hint) == words
