import pytest

from bort.errors import BortError, lines_of, packages_installed


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


def test_a_package_that_is_not_installed_is_named():
    rule = r"^in\.parquet: needs no_such_package, which is not installed$"
    with pytest.raises(BortError, match=rule), packages_installed("in.parquet"):
        import no_such_package.parquet  # noqa: F401
    with pytest.raises(ModuleNotFoundError), packages_installed():  # a bug of ours keeps its traceback
        import bort.no_such_module  # noqa: F401
