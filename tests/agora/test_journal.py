"""What a run's journal keeps of its trials."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bort.agora.journal import RunClock, RunJournal
from bort.agora.model_choice import preferring_grown
from bort.agora.rounds import AgoraResult, DivergedError, Point, Round, Slot, Trial, error_text
from bort.agora.run import finetune
from bort.agora.trial import TrainedWeights
from bort.runs import Run
from bort.tasks.classification import Classification
from bort.workers import TrialError

TASK = Classification(("a", "b"), "accuracy")
DEV = [Point("x", 0)] * 4
ABOUT = {"evaluations": [], "best_step": 1, "steps": 1, "seconds": 1.0}


@pytest.fixture
def journal(world, tmp_path):
    settings = world.finetuning(tmp_path)

    def opened(*, resume=False):
        run = Run(settings.out, "finetune", settings, resume=resume)
        return RunJournal(run, RunClock(run, None))

    return opened


def test_the_time_spent_is_read_from_a_journal_that_another_process_writes(journal):
    kept = journal()
    kept._run.log("trial", message="a\u2028b\x85", elapsed=70.0)
    with open(kept._run.journal_path, "ab") as file:
        file.write(b'[1]\n{"elapsed": null}\n{"event": "\xe2')  # a character of three bytes
    assert 70 <= RunClock(kept._run, None).elapsed < 80


def test_what_a_process_killed_at_the_end_left_is_removed(world, tmp_path):
    settings = world.finetuning(tmp_path)
    run = Run(settings.out, "finetune", settings)
    RunJournal(run, RunClock(run, None))
    run.write_json("metrics.json", {"accuracy": 1.0})
    assert finetune(replace(settings, resume=True)) == {"accuracy": 1.0}
    assert not (run.path / "rounds").exists()


def trial(score):
    return Trial({"lr": score}, score, [[1.0, 0.0]] * len(DEV), TrainedWeights(f"{score}".encode(), about=ABOUT))


@pytest.mark.parametrize(
    "scores",
    [
        [[0.9], [0.8, 0.7], [0.5]],
        [[0.9], [0.8], [0.8], [0.5]],
        [[0.9], [0.5], [0.8]],
        [[0.5], [0.9, 0.8], [0.7], [0.6]],
        [[0.9, 0.9], [0.9], [0.8]],
    ],
)
def test_the_weights_that_may_be_the_result_are_kept(journal, scores):
    kept, rounds = journal(), []
    for number, row in enumerate(scores, 1):
        trials = [kept.keep_trial(Slot(number, place), trial(score)) for place, score in enumerate(row)]
        rounds.append(Round(number, trials, max((score, place) for place, score in enumerate(row))[1], 9, []))
    best = max(reversed([done.winner for done in rounds]), key=lambda one: one.rank)
    result = AgoraResult(best, rounds, [], False, True)
    preferred = preferring_grown(result, TASK, DEV)
    assert preferred.best_round > 1, "the answers are the same"
    for one in (best, preferred.best, rounds[0].winner):
        assert one.model.read() == f"{one.score}".encode()
    assert len([*kept.folder.iterdir()]) <= 2 + len(scores[-1])


def test_the_weights_of_last_trainings_are_kept(journal):
    kept = journal()
    last = kept.keep_final(0, trial(0.9).model, "data")
    kept.keep_trial(Slot(1, 0), trial(0.5))
    assert last.read() == b"0.9"


def test_nothing_joins_the_ranking_once_a_last_training_has_begun(journal):
    kept = journal()
    kept.keep_failure(Slot(1, 0), {"lr": 1.0}, DivergedError("not finite"))
    kept.keep_failure(Slot(1, 1), {"lr": 2.0}, MemoryError("too small"))
    del kept
    kept = journal(resume=True)
    assert isinstance(kept.failure(Slot(1, 0)), DivergedError)
    assert kept.failure(Slot(1, 1)) is None, "it is tried again"
    kept.end_ranking()
    kept = journal(resume=True)
    assert isinstance(kept.failure(Slot(1, 0)), DivergedError)
    failure = kept.failure(Slot(1, 1))
    assert isinstance(failure, TrialError)
    assert error_text(failure) == "MemoryError: too small"


def test_a_last_training_that_has_begun_is_known_after_an_interruption(journal):
    kept = journal()
    kept.begin(1)
    kept.begin(1)
    assert (kept.has_begun(1), kept.has_begun(0)) == (True, False)
    assert len([*kept._run.events("begun")]) == 1
    kept = journal(resume=True)
    assert (kept.has_begun(1), kept.has_begun(0)) == (True, False)


def test_a_last_training_counts_for_its_own_data_only(journal):
    kept = journal()
    kept.keep_final(0, trial(0.9).model, "few")
    assert kept.final(0, "few").read() == b"0.9"
    assert kept.final(0, "more") is None
    kept.keep_final(0, trial(0.8).model, "more")
    assert kept.final(0, "more").read() == b"0.8"
    assert kept.final(0, "few") is None, "its weights are gone"
    kept._run.log("refit", number=1, **ABOUT)
    assert kept.final(1, "any") is not None, "an earlier version did not record the data"
