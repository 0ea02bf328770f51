"""What is newer than this version names the version that reads it."""

from __future__ import annotations

import pytest

import bort
from bort.errors import BortError
from bort.formats import check_format, stamp


def test_what_is_stamped_is_read():
    assert stamp(3) == {"format": 3, "bort": bort.__version__}
    check_format(stamp(3), 3, "f", "make it again")


@pytest.mark.parametrize("writer", ["0.9.1", "12.0.0rc1"])
def test_a_newer_file_names_its_reader(writer):
    rule = f"^f.json: column 'format': value 4: is newer than format 3, .* open it with bort {writer} or later$"
    with pytest.raises(BortError, match=rule):
        check_format({"format": 4, "bort": writer}, 3, "f.json", "make it again")


@pytest.mark.parametrize("writer", [None, "", 7, "x" * 21, "1\n2", ["1"]])
def test_what_a_stranger_wrote_there_is_not_repeated(writer):
    with pytest.raises(BortError, match=r"open it with a later version of bort$"):
        check_format({"format": 4, "bort": writer}, 3, "f", "make it again")


@pytest.mark.parametrize("found", [2, None, "3", 3.0, True, [], float("nan")])
def test_any_other_is_to_be_made_again(found):
    with pytest.raises(BortError, match=r"another format than 3; make it again$"):
        check_format({"format": found}, 3, "f", "make it again")
