import pytest

from bort.errors import lines_of


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (ValueError("first\nsecond"), ["first", "second"]),
        (KeyError(), ["KeyError"]),
        (MemoryError(), ["there is not enough memory"]),
        (RuntimeError("can't start new thread"), ["there is not enough memory"]),
        (ImportError("onnx.so: failed to map segment from shared object"), ["there is not enough memory"]),
        (RuntimeError("std::bad_alloc"), ["there is not enough memory"]),
        (SystemError("error return without exception set"), ["there is not enough memory"]),
    ],
)
def test_what_a_library_says(error, lines):
    assert lines_of(error) == lines
