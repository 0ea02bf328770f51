from bort.pretraining.trainer import StepClock


def test_clock_goes_by_the_nearer_limit():
    assert StepClock(max_steps=10, max_seconds=None).progress(5) == 0.5
    assert StepClock(max_steps=None, max_seconds=100.0, elapsed=25.0).progress(10**9) == 0.25
    assert StepClock(max_steps=10, max_seconds=100.0, elapsed=90.0).progress(5) == 0.9
    assert StepClock(max_steps=10, max_seconds=100.0, elapsed=900.0).progress(5) == 1.0


def test_clock_counts_earlier_parts():
    clock = StepClock(max_steps=None, max_seconds=1000.0, elapsed=500.0)
    clock.start()
    assert 500.0 <= clock.seconds() < 510.0
