import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.training.schedule import warmup_then_linear


@given(st.floats(0, 1), st.floats(0, 0.99))
def test_factor_stays_between_0_and_1(progress, warmup):
    assert 0 <= warmup_then_linear(progress, warmup) <= 1


def test_corners():
    assert warmup_then_linear(0.0, 0.1) == 0.0
    assert warmup_then_linear(0.05, 0.1) == pytest.approx(0.5)
    assert warmup_then_linear(0.1, 0.1) == 1.0
    assert warmup_then_linear(0.55, 0.1) == pytest.approx(0.5)
    assert warmup_then_linear(1.0, 0.1) == 0.0
    assert warmup_then_linear(0.0, 0.0) == 1.0
