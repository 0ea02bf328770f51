"""What every kind of workers keeps to, in this process and on a Ray cluster of two nodes."""

from __future__ import annotations

import gc
import importlib.util
import math
import os
import random
import signal
import sys
import traceback
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest

import bort.ose
from bort.errors import BortError
from bort.ose.criteria import Cost
from bort.workers import InProcess, Needs, OnRay, Received, TrialError, check_workers, open_workers

HAS_RAY = importlib.util.find_spec("ray") is not None
RAY = pytest.param(
    "ray", marks=[pytest.mark.slow, pytest.mark.skipif(not HAS_RAY, reason="needs ray"), pytest.mark.ray]
)


@pytest.fixture(scope="module")
def on_ray(cluster):
    with open_workers(cluster, Needs(retries=1)) as workers:
        yield workers


@pytest.fixture(params=["here", RAY])
def workers(request):
    return InProcess() if request.param == "here" else request.getfixturevalue("on_ray")


def square(number: int) -> int:
    if number == 3:
        raise ValueError("three is too many")
    if number == 4:
        raise BortError("must not be four", column="number", value=number)
    return number * number


def test_each_trial_counts_once_and_one_that_raises_ends_nothing(workers):
    results = {result.place: result for result in workers.map(square, iter(range(8)))}
    assert sorted(results) == list(range(8))
    assert {n: r.value for n, r in results.items() if r.error is None} == {n: n * n for n in (0, 1, 2, 5, 6, 7)}
    assert isinstance(results[3].error, ValueError | TrialError)
    assert "three is too many" in str(results[3].error)
    assert "in square\n" in "".join(traceback.format_exception(results[3].error)), "where it was raised is told"
    assert isinstance(results[4].error, BortError)
    assert (results[4].error.column, str(results[4].error)) == (
        "number",
        "column 'number': value 4: must not be four",
    )


def test_a_failed_trial_holds_nothing():
    """What it had computed, such as a model on a GPU, would be there until the last trial."""
    seen = []

    class Large:
        pass

    def trial(number):
        large = Large()
        seen.append(weakref.ref(large))
        try:
            raise ValueError(number)
        except ValueError as error:
            raise RuntimeError("failed") from error

    failed = [result.error for result in InProcess().map(trial, range(3))]
    gc.collect()
    assert [ref() for ref in seen] == [None] * 3
    assert "in trial" in "".join(traceback.format_exception(failed[0]))


def test_no_items(workers):
    assert list(workers.map(square, [])) == []


def test_items_are_taken_as_there_is_room(workers):
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    results = workers.map(math.sqrt, items())
    next(results)
    assert len(taken) <= 3
    results.close()
    assert len(taken) <= 3


def test_relative_paths_mean_the_same(workers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("here.txt").write_text("found")
    assert [result.value for result in workers.map(lambda name: Path(name).read_text(), ["here.txt"])] == ["found"]


def noisy(member: int) -> float:
    return 1 + random.Random(member).random()


def test_a_search_finds_the_same_on_all(workers):
    costs = {n: Cost(1 + n, 1 + n) for n in range(8)}
    outcome = bort.ose.search(costs, costs.__getitem__, noisy, workers=workers)
    assert outcome == bort.ose.search(costs, costs.__getitem__, noisy)


class Noted(dict):
    """A journal in memory."""

    def evaluation(self, member):
        return self.get(member)

    def keep_evaluation(self, member, trial):
        assert member not in self
        self[member] = trial


def test_ctrl_c_leaves_a_journal_that_resumes(workers):
    costs = {n: Cost(1 + n, 1 + n) for n in range(8)}
    journal = Noted()

    def interrupt(candidate):
        if len(journal) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bort.ose.search(costs, costs.__getitem__, noisy, workers=workers, journal=journal, on_candidate=interrupt)
    assert len(journal) == 3
    outcome = bort.ose.search(costs, costs.__getitem__, noisy, workers=workers, journal=journal)
    assert len(journal) == 7
    assert outcome == bort.ose.search(costs, costs.__getitem__, noisy)


def test_values_may_be_received(workers):
    received = []
    doubled = Received(workers, lambda value: received.append(value) or 2 * value)
    results = {result.place: result for result in doubled.map(square, range(5))}
    assert {place: result.value for place, result in results.items()} == {0: 0, 1: 2, 2: 8, 3: None, 4: None}
    assert sorted(received) == [0, 1, 4]
    assert doubled.sees_files


# A cluster alone


def dies(task: tuple[str, int]) -> int:
    """Killed in the middle, the first so many times."""
    file, deaths = Path(task[0]), task[1]
    with file.open("a") as attempts:
        attempts.write("x")
    if len(file.read_text()) <= deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return deaths


@pytest.mark.slow
def test_a_killed_worker_is_replaced_a_bounded_number_of_times(on_ray, tmp_path):
    tasks = [(str(tmp_path / str(deaths)), deaths) for deaths in (0, 1, 9)]
    results = sorted(on_ray.map(dies, tasks), key=lambda result: result.place)
    assert [result.value for result in results] == [0, 1, None]
    assert isinstance(results[2].error, TrialError)
    assert "its worker was lost, after 1 retry" in str(results[2].error)
    assert [len((tmp_path / str(deaths)).read_text()) for deaths in (0, 1, 9)] == [1, 2, 2]


class Unpacked:
    """Tells how often it was unpacked in the process where it is called."""

    times = 0

    def __init__(self):
        self.state = "that there is some"

    def __setstate__(self, state):
        Unpacked.times += 1

    def __call__(self, item: int) -> int:
        return Unpacked.times


@pytest.mark.slow
def test_a_function_is_unpacked_once_a_process(on_ray):
    assert {result.value for result in on_ray.map(Unpacked(), range(6))} == {1}


class Unloadable(Unpacked):
    def __setstate__(self, state):
        raise ImportError("no module named elsewhere")


@pytest.mark.slow
def test_a_function_that_a_node_cannot_load_is_told(on_ray):
    results = list(on_ray.map(Unloadable(), range(3)))
    assert all(isinstance(result.error, TrialError) for result in results)
    assert all("no module named elsewhere" in str(result.error) for result in results)
    assert max(len(str(result.error)) for result in results) < 400


@pytest.mark.slow
def test_a_value_that_cannot_be_sent_back_is_told(on_ray):
    [result] = on_ray.map(lambda item: (number for number in range(item)), [3])
    assert isinstance(result.error, TrialError)
    assert "cannot pickle" in str(result.error)
    assert len(str(result.error)) < 400


# Settings


def test_the_default_is_this_process():
    with open_workers() as workers:
        assert isinstance(workers, InProcess)


@pytest.mark.parametrize("where", ["rays", "ray:", "host", "host:port", "http://a:1", ""])
def test_places_that_are_none(where):
    with pytest.raises(BortError, match=r"--workers: value .*: must be local, ray, or HOST:PORT"):
        check_workers(where, Needs())


def test_the_scheme_of_ray_client_is_not_taken_for_an_address():
    with pytest.raises(BortError, match=r"value 'ray://host:10001': ray:// is Ray Client's"):
        check_workers("ray://host:10001", Needs())


@pytest.mark.parametrize(
    ("needs", "name"),
    [
        (Needs(cpus=0), "trial_cpus"),
        (Needs(cpus=math.nan), "trial_cpus"),
        (Needs(gpus=-1), "trial_gpus"),
        (Needs(memory_gb=0), "trial_memory_gb"),
        (Needs(retries=-1), "trial_retries"),
        (Needs(files="some"), "trial_files"),
    ],
)
def test_needs_that_none_can_have(needs, name):
    with pytest.raises(BortError, match=f"--{name.replace('_', '-')}"):
        check_workers("ray", needs)


class FakeRay(SimpleNamespace):
    """Nodes, and whether a cluster runs on this machine."""

    def __init__(self, *nodes, running=False):
        super().__init__(told=[], resources=nodes, running=running)

    def is_initialized(self):
        return False

    def init(self, *, address, **settings):
        self.told.append(address)
        if address == "auto" and not self.running:
            raise ConnectionError("there is none")

    def nodes(self):
        return [{"Alive": True, "Resources": node} for node in self.resources] + [{"Alive": False, "Resources": {}}]

    def shutdown(self):
        self.told.append("left")


@pytest.mark.parametrize(
    ("where", "running", "joined"),
    [
        ("ray", False, ["auto", "local"]),
        ("ray", True, ["auto"]),
        ("host:6379", True, ["host:6379"]),
    ],
)
def test_a_cluster_is_joined_or_begun_and_reports_to_nobody(monkeypatch, where, running, joined):
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray = FakeRay({"CPU": 1.0}, running=running)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with open_workers(where) as workers:
        assert isinstance(workers, OnRay)
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert ray.told == [*joined, "left"]


def test_a_cluster_leaves_the_reaction_to_sigterm_as_it_was(monkeypatch):
    ray = FakeRay({"CPU": 1.0}, running=True)
    monkeypatch.setattr(ray, "init", lambda **settings: signal.signal(signal.SIGTERM, lambda *_: sys.exit(15)))
    monkeypatch.setitem(sys.modules, "ray", ray)

    def own(number, frame):
        pass

    before = signal.signal(signal.SIGTERM, own)
    try:
        with open_workers("ray"):
            assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_cluster_that_is_named_and_gone_is_not_replaced(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "host:6379")
    monkeypatch.setitem(sys.modules, "ray", FakeRay({"CPU": 1.0}))
    with pytest.raises(BortError, match="cannot be joined: there is none"), open_workers("ray"):
        pass


@pytest.mark.parametrize(
    ("needs", "rule"),
    [
        (Needs(gpus=1), "'trial_gpus': value 1.0: is more than this machine has for trials, 0"),
        (Needs(cpus=3), "'trial_cpus': value 3.0: is more than this machine has for trials, 2"),
        (Needs(memory_gb=9), "'trial_memory_gb': value 9.0: is more than this machine has for trials, 8"),
    ],
)
def test_what_a_cluster_of_ours_can_never_meet_is_refused_at_once(monkeypatch, capsys, needs, rule):
    machine = {"CPU": 2.0, "memory": 8e9}
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", FakeRay(machine))
    with pytest.raises(BortError, match=rule), open_workers("ray", needs):
        pass
    monkeypatch.setitem(sys.modules, "ray", FakeRay(machine, machine, running=True))
    with open_workers("ray", needs):
        pass  # another node may come
    assert "no node of the cluster has room for a trial" in capsys.readouterr().err


def test_ray_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BortError, match=r"pip install 'bort\[ray\]'"), open_workers("ray"):
        pass


def test_needs_become_room(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", FakeRay({"CPU": 16.0, "GPU": 2.0, "memory": 64e9}))
    assert OnRay(Needs())._room() == 16
    assert OnRay(Needs(cpus=4, gpus=0.5))._room() == 4
    assert OnRay(Needs(memory_gb=30))._room() == 2
    assert OnRay(Needs(gpus=8))._room() == 1


def test_a_trial_has_room_on_one_node_not_on_two_halves(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", FakeRay({"CPU": 3.0}, {"CPU": 3.0}))
    assert OnRay(Needs(cpus=2))._room() == 2
