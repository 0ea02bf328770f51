"""The search with text and encoders: from a corpus to a run's folder, through kills, and what is refused."""

from __future__ import annotations

import contextlib
import copy
import csv
import html
import json
import math
import os
import pickle
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import spearmanr
from transformers import AutoModelForMaskedLM

from bort.errors import BortError
from bort.model.checkpoints import load, save
from bort.model.config import architecture, count_parameters
from bort.model.modelling import BortForMaskedLM
from bort.ose import coefficient
from bort.ose.algorithm import Evaluation
from bort.ose.arguments import ExtractArguments
from bort.ose.cost import fit_polynomial
from bort.ose.criteria import Cost
from bort.ose.extract import extract
from bort.ose.journal import CANDIDATE, REPEAT, StepsJournal, earlier_seconds, training_cost
from bort.ose.report import extract_report
from bort.ose.short_training import train
from bort.ose.space import Shape, read_space
from bort.pretraining.pretrain import pretrain
from bort.runs import Run
from bort.workers import InProcess

LINE = {
    "rows_per_step": 4,
    "row_length": 24,
    "sequence_length": 24,
    "held_out_rows": 6,
    "positions": 64,
    "valid_share": 0.1,
}


@pytest.fixture
def arguments(extraction, tmp_path) -> ExtractArguments:
    return extraction(corpus_cache=str(tmp_path / "corpus"), epsilon=3, steps=4, **LINE)


def found(metrics):
    """What must be the same again."""
    kept = ("architecture", "coefficient", "error", "teacher_entropy", "maximum", "kept_savings", "roughness", "top")
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in metrics["candidates"]]
    return {name: metrics[name] for name in kept} | {"candidates": rows}


def test_leaves_a_whole_run(arguments):
    metrics = extract(arguments)
    run = Path(arguments.out)
    files = {"architecture.json", "candidates.csv", "config.yaml", "environment.json", "journal.jsonl", "metrics.json"}
    assert {file.name for file in run.iterdir()} == files | {"report.html", "teacher", "top"}
    assert metrics == json.loads((run / "metrics.json").read_text("utf-8"))
    space = read_space(arguments.space)
    assert metrics["members"] == len(space) == 16
    assert metrics["in_blocks"] == 15
    assert len(metrics["candidates"]) == 5
    top = metrics["maximum"]
    assert Shape(*(top[axis] for axis in Shape._fields)) == (2, 2, 16, 24)
    weights = []
    for row in metrics["candidates"]:
        cost = Cost(row["parameters"], row["time"])
        weights.append(coefficient(cost, Cost(top["parameters"], top["time"]), row["error"]))
        assert row["coefficient"] == pytest.approx(weights[-1])
        assert row["error"] > metrics["teacher_entropy"]
    assert weights == sorted(weights, reverse=True)
    assert metrics["architecture"] == {axis: metrics["candidates"][0][axis] for axis in Shape._fields}
    with open(run / "candidates.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["rank"]) for row in rows] == [1, 2, 3, 4, 5]
    assert [float(row["coefficient"]) for row in rows] == weights
    page = (run / "report.html").read_text("utf-8")
    for said in (
        "Pareto front",
        "W alone would take",
        "could have won at all",
        "W by candidate",
        "its blocks",
        "What the search cost",
        "bort extract --config",
        "adamw",
    ):
        assert said in page


def test_the_checkpoints_are_the_best_and_can_be_gone_on_from(arguments, world, tmp_path):
    metrics = extract(replace(arguments, top_k=2))
    run = Path(arguments.out)
    assert sorted(folder.name for folder in (run / "top").iterdir()) == [Path(name).name for name in metrics["top"]]
    for row, name in zip(metrics["candidates"], metrics["top"], strict=False):
        model = AutoModelForMaskedLM.from_pretrained(run / name)
        assert model.config.num_hidden_layers == row["depth"]
        assert count_parameters(model.config).total == row["parameters"]
    settings = {"max_steps": 2, "batch_size": 4, "sequence_length": 24}
    gone_on = pretrain(
        world.pretraining(
            tmp_path, init=str(run / metrics["top"][0]), architecture="nano", out=str(tmp_path / "a"), **settings
        )
    )
    assert gone_on["parameters"] == metrics["candidates"][0]["parameters"]
    for source in (run, run / "architecture.json"):
        out = str(tmp_path / f"b{source.suffix}")
        anew = pretrain(world.pretraining(tmp_path, architecture=str(source), out=out, **settings))
        assert anew["parameters"] == metrics["candidates"][0]["parameters"]
    config = architecture(run)
    assert (config.num_hidden_layers, config.num_attention_heads) == (
        metrics["architecture"]["depth"],
        metrics["architecture"]["heads"],
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    ["teacher/train/cache.json", "candidates/*/config.json", "candidates/2-1-8-24/config.json"],
    ids=["while the teacher is asked", "with the first candidate", "with a later one"],
)
def test_a_killed_run_resumes_to_the_same_answer(arguments, world, tmp_path, killed, moment, assert_same_weights):
    expected = extract(arguments)
    out = tmp_path / "killed"
    killed(line(arguments, world, out), out, moment)
    assert not (out / "metrics.json").exists()
    before = events(out, "candidate")
    metrics = extract(replace(arguments, out=str(out), resume=True))
    assert found(metrics) == found(expected)
    after = events(out, "candidate")
    assert after[: len(before)] == before
    shapes = [tuple(event["shape"]) for event in after]
    assert len(shapes) == len(set(shapes)) == 5  # none twice
    for name in metrics["top"]:
        assert_same_weights(Path(arguments.out) / name, out / name)
    assert (out / "candidates.csv").read_text().count("\n") == 6


def line(arguments, world, out) -> list[str]:
    words = ["extract", "--corpus", world.corpus, "--corpus_cache", arguments.corpus_cache, "--out", str(out)]
    words += ["--space", arguments.space, "--teacher", world.encoder, "--epsilon", "3", "--precision", "fp32"]
    words += ["--steps", str(arguments.steps), "--learning-rates", *map(str, arguments.learning_rates)]
    return [*words, *(str(word) for name, value in LINE.items() for word in (f"--{name}", value))]


def events(run, name):
    lines = map(json.loads, (run / "journal.jsonl").read_text("utf-8").splitlines())
    return [event for event in lines if event["event"] == name]


def test_finished_candidates_are_not_trained_again(arguments, monkeypatch):
    extract(arguments)
    run = Path(arguments.out)
    expected = found(json.loads((run / "metrics.json").read_text("utf-8")))
    (run / "metrics.json").unlink()
    monkeypatch.setattr("bort.ose.candidate.train", lambda *_: pytest.fail("trained again"))
    assert found(extract(replace(arguments, resume=True))) == expected


def test_the_cost_of_a_search_is_that_of_all_its_trainings(arguments):
    """Also of those with fewer steps, and of those from another seed."""
    run = Run(arguments.out, "extract", arguments)
    for steps, event in ((2, CANDIDATE), (4, CANDIDATE), (4, REPEAT)):
        about = {"seconds": 1.25, "tokens": 10 * steps}
        StepsJournal(run, steps, event).keep_evaluation(Shape(1, 1, 8, 8), Evaluation(0.5, about))
        StepsJournal(run, steps, event).keep_evaluation(Shape(2, 1, 8, 8), Evaluation(math.nan, failure=ValueError()))
    assert training_cost(run) == {"training_seconds": 3.8, "training_tokens": 100}


def test_a_finished_run_is_left_as_it_is(arguments):
    first = extract(arguments)
    assert extract(replace(arguments, resume=True)) == first
    with pytest.raises(BortError, match="--resume"):
        extract(arguments)


def test_a_report_is_made_of_what_a_run_has_written(arguments, page_of_files):
    """One that was killed before it is made has it later."""
    metrics = extract(arguments)
    report = Path(arguments.out) / "report.html"
    before = report.read_text("utf-8")
    made = page_of_files(lambda _, found, order: extract_report(report.parent, found, *order), arguments.out, "order")
    assert before == made
    report.unlink()
    assert extract(replace(arguments, resume=True)) == metrics
    assert report.read_text("utf-8") == before
    assert before.count("Plotly.newPlot(") > 2


@pytest.mark.parametrize("shared", [True, False])
def test_candidates_may_be_trained_by_workers_elsewhere(arguments, tmp_path, shared, assert_same_weights):
    """What is sent to another process does the same there."""

    class Elsewhere:
        sees_files = shared

        def map(self, function, items):
            return InProcess().map(pickle.loads(pickle.dumps(function)), items)

    settings = replace(arguments, max_parameters=9_000)
    expected = extract(settings)
    assert found(extract(replace(settings, out=str(tmp_path / "else")), workers=Elsewhere())) == found(expected)
    for name in expected["top"]:
        assert_same_weights(Path(settings.out) / name, tmp_path / "else" / name)


@pytest.mark.slow
@pytest.mark.parametrize("files", ["shared", "sent"])
def test_candidates_may_be_trained_on_ray(arguments, tmp_path, cluster, one_thread, files, assert_same_weights):
    settings = replace(arguments, max_parameters=9_000)
    elsewhere = replace(settings, out=str(tmp_path / "ray"), workers=cluster, trial_files=files)
    expected, metrics = extract(settings), extract(elsewhere)
    assert not events(tmp_path / "ray", "failed")
    assert found(metrics) == found(expected)
    assert len(events(tmp_path / "ray", "candidate")) == len(expected["candidates"])
    for name in expected["top"]:
        assert_same_weights(Path(settings.out) / name, tmp_path / "ray" / name)


@pytest.mark.slow
def test_ctrl_c_on_ray_leaves_a_run_that_resumes_in_this_process(
    launcher, arguments, world, tmp_path, cluster, one_thread
):
    settings = replace(arguments, steps=100)
    expected = extract(settings)
    out = tmp_path / "interrupted"
    log = tmp_path / "log"
    words = [*line(settings, world, out), "--workers", cluster]
    process = launcher.start(words, tmp_path, log)
    while not (out / "journal.jsonl").is_file() or not events(out, "candidate"):
        assert launcher.status(process) is None, log.read_text("utf-8")
        time.sleep(0.01)
    os.kill(process, signal.SIGINT)
    deadline = time.monotonic() + 60
    while (status := launcher.status(process)) is None:
        assert time.monotonic() < deadline, log.read_text("utf-8")
        time.sleep(0.01)
    said = log.read_text("utf-8")
    # Ray ends the process now and then when an answer comes for a task that is being cancelled, by a signal or with
    # status 1; the run must resume all the same.
    aborted = status in (-signal.SIGABRT, 1) and "discovered a bug in Ray" in said
    assert aborted or status == 130, said
    assert aborted or "Traceback" not in said
    assert not (out / "metrics.json").exists()
    before = events(out, "candidate")
    assert len(before) < 5
    assert found(extract(replace(settings, out=str(out), resume=True))) == found(expected)
    after = events(out, "candidate")
    assert after[: len(before)] == before
    assert len({tuple(event["shape"]) for event in after}) == len(after) == 5


def test_of_several_learning_rates_the_best_counts(arguments, tmp_path):
    rates = [1e-3, 2e-2]
    alone = {rate: extract(replace(arguments, learning_rates=[rate], out=str(tmp_path / f"{rate}"))) for rate in rates}
    both = extract(replace(arguments, learning_rates=rates))
    for row in both["candidates"]:
        errors = {
            rate: next(r["error"] for r in run["candidates"] if r["place"] == row["place"])
            for rate, run in alone.items()
        }
        assert row["error"] == min(errors.values())
        assert row["learning_rate"] == min(errors, key=errors.__getitem__)


def test_a_search_in_which_all_diverge_is_told(arguments):
    with pytest.raises(BortError, match=r"learning-rates.*all 5 candidates diverged; lower"):
        extract(replace(arguments, optimizer="sgd", learning_rates=[1e38]))
    assert not (Path(arguments.out) / "metrics.json").exists()


def test_some_diverge(arguments, monkeypatch):
    def sometimes(lesson, shape, *rest):
        trained = train(lesson, shape, *rest)
        return replace(trained, error=math.nan) if shape.hidden == 8 else trained

    monkeypatch.setattr("bort.ose.candidate.train", sometimes)
    metrics = extract(replace(arguments, epsilon=1, top_k=99))
    lost = [row for row in metrics["candidates"] if row["hidden"] == 8]
    assert lost
    assert metrics["diverged"] == len(lost)
    assert all(r["diverged"] and r["coefficient"] == 0 and r["error"] is None and not r["pareto"] for r in lost)
    assert len(metrics["top"]) == len(metrics["candidates"]) - len(lost)
    page = (Path(arguments.out) / "report.html").read_text("utf-8")
    assert f"{len(lost)} of 15 candidates diverged" in page


def test_a_candidate_that_raises_is_told_with_its_error_and_tried_again(arguments, monkeypatch):
    expected = extract(replace(arguments, out=f"{arguments.out}-whole"))

    def sometimes(lesson, shape, *rest):
        if shape.hidden == 8:
            raise ZeroDivisionError("no such luck")
        return train(lesson, shape, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("bort.ose.candidate.train", sometimes)
        metrics = extract(arguments)
    lost = [row for row in metrics["candidates"] if row["hidden"] == 8]
    assert lost
    assert metrics["failed"] == len(lost)
    assert metrics["diverged"] == 0
    assert all(row["failed"] == "ZeroDivisionError" and not row["diverged"] for row in lost)
    noted = events(Path(arguments.out), "failed")
    assert len(noted) == len(lost)
    assert {(event["error"], event["message"]) for event in noted} == {("ZeroDivisionError", "no such luck")}
    assert all("in sometimes\n" in event["traceback"] for event in noted)
    assert "ZeroDivisionError" in (Path(arguments.out) / "report.html").read_text("utf-8")
    again = extract(replace(arguments, resume=True))
    assert found(again) == found(expected)
    assert again["failed"] == 0
    top = Path(arguments.out) / "top"
    assert sorted(f"top/{folder.name}" for folder in top.iterdir()) == sorted(again["top"])


def test_kl_is_the_cross_entropy_less_the_teachers_entropy(arguments, tmp_path):
    plain = extract(arguments)
    kl = extract(replace(arguments, error="kl", out=str(tmp_path / "kl")))
    by_place = {row["place"]: row["error"] for row in plain["candidates"]}
    for row in kl["candidates"]:
        assert row["error"] == pytest.approx(by_place[row["place"]] - plain["teacher_entropy"])


def test_measured_times(arguments):
    settings = replace(arguments, time="measured", timed_members=12, sequence_length=16, epsilon=5)
    metrics = extract(settings)
    assert metrics["time_unit"] == "ms"
    assert metrics["latency"]["members"] == 12
    run = Path(arguments.out)
    timings = json.loads((run / "timings.json").read_text("utf-8"))
    assert len(timings["timed"]) == 12
    polynomial = fit_polynomial({Shape(*shape): ms for shape, ms in timings["timed"]})
    assert metrics["latency"]["spearman"] == polynomial.fit.spearman
    assert all(
        row["time"] == polynomial(Shape(*(row[a] for a in Shape._fields))).total for row in metrics["candidates"]
    )
    assert "polynomial, ms" in (run / "report.html").read_text("utf-8")
    (run / "metrics.json").unlink()
    assert found(extract(replace(settings, resume=True))) == found(metrics)  # nothing is timed anew
    assert json.loads((run / "timings.json").read_text("utf-8")) == timings
    (run / "metrics.json").unlink()
    (run / "timings.json").write_text("{", "utf-8")
    with pytest.raises(BortError, match=r"timings\.json: must hold the timings of a search"):
        extract(replace(settings, resume=True))
    for damaged in ("", "[]", "{}"):
        (run / "metrics.json").write_text(damaged, "utf-8")
        with contextlib.suppress(BortError):  # never another one
            extract(replace(settings, resume=True))


def test_budgets(arguments):
    metrics = extract(replace(arguments, epsilon=1, max_parameters=5_000))
    assert metrics["in_blocks"] == len(metrics["candidates"]) < 15
    assert max(row["parameters"] for row in metrics["candidates"]) <= 5_000
    assert metrics["maximum"]["hidden"] == 16


def test_a_bound_on_the_error_is_kept_and_what_w_alone_takes_is_told(arguments, tmp_path):
    free = extract(arguments)
    assert free["by_w_alone"] == free["architecture"]
    assert free["front"] == [row for row in free["candidates"] if row["pareto"]]
    assert free["decision"]["rank_correlation"] == pytest.approx(
        spearmanr(*zip(*((r["coefficient"], r["savings"]) for r in free["candidates"]), strict=True)).statistic
    )
    assert 1 <= free["could_win_as_perfect_students"] <= free["in_blocks"]
    errors = sorted(row["error"] for row in free["candidates"])
    bound = (errors[0] + errors[1]) / 2
    bounded = extract(replace(arguments, max_error=bound, out=str(tmp_path / "bounded")))
    assert bounded["error"] == errors[0]
    assert bounded["by_w_alone"] == free["by_w_alone"]
    assert bounded["architecture"] == {axis: bounded["candidates"][0][axis] for axis in Shape._fields}
    assert bounded["top"][0].endswith("-".join(map(str, bounded["architecture"].values())))


def test_a_bound_that_none_keeps_may_be_raised(arguments, tmp_path, assert_same_weights):
    free = extract(replace(arguments, top_k=1, out=str(tmp_path / "free")))
    tight = replace(arguments, top_k=1, max_error=0.01)
    with pytest.raises(BortError, match=r"max-error.*; train longer, or raise --max-error"):
        extract(tight)
    run = Path(arguments.out)
    assert (run / "candidates.csv").read_text("utf-8").count("\n") == 6
    assert "so there is no answer" in (run / "report.html").read_text("utf-8")
    assert [folder.name for folder in (run / "top").iterdir()] == [Path(name).name for name in free["top"]]
    assert not (run / "metrics.json").exists()
    assert not (run / "architecture.json").exists()
    errors = sorted(row["error"] for row in free["candidates"])
    bounded = replace(tight, max_error=(errors[0] + errors[1]) / 2)
    expected = extract(replace(bounded, out=str(tmp_path / "bounded")))
    assert expected["error"] == errors[0] != free["error"]
    assert found(extract(replace(bounded, resume=True))) == found(expected)  # its best checkpoint was not kept
    assert_same_weights(run / expected["top"][0], tmp_path / "bounded" / expected["top"][0])
    assert found(extract(replace(tight, max_error=None, resume=True))) == found(free)
    assert len(events(run, "candidate")) == 5


def test_the_report_says_among_which_the_answer_is_the_best(arguments, tmp_path):
    metrics = extract(arguments)
    [order] = events(Path(arguments.out), "order")

    def page(**changes) -> str:
        extract_report(tmp_path / "a run", metrics | changes, order).write(tmp_path / "page.html")
        return html.unescape((tmp_path / "page.html").read_text("utf-8"))

    assert "the one found has the greatest W." in page(epsilon=1)
    assert "the one found has the greatest W of those with an error of at most 9." in page(epsilon=1, max_error=9.0)
    assert "2 of 5 candidates gave no error" in page(diverged=1, failed=1)
    assert "the greatest W of the candidates, whatever their errors, is at least" in page(max_error=9.0)
    assert f"bort pretrain --architecture '{tmp_path}/a run' --corpus" in page()


def test_the_time_of_a_resumed_search_is_that_of_all_its_parts(arguments):
    run = Run(arguments.out, "extract", arguments)
    begun = [("started", 10), ("candidate", 15), ("resumed", 100), ("candidate", 103), ("resumed", 200), ("x", 209)]
    run.journal_path.write_text("".join(json.dumps({"event": e, "time": t}) + "\n" for e, t in begun), "utf-8")
    assert earlier_seconds(run) == 5 + 3


def test_a_teacher_of_another_shape_than_t_is_told(arguments, capsys):
    extract(arguments)
    assert "the teacher is" not in capsys.readouterr().err
    extract(replace(arguments, maximum="3,2,32,64", out=f"{arguments.out}-other"))
    assert "the teacher is ⟨2,2,16,24⟩, the maximum point ⟨3,2,32,64⟩" in " ".join(capsys.readouterr().err.split())


def test_latency_budgets_are_measured(arguments, tmp_path):
    settings = replace(arguments, timed_members=12, sequence_length=16, epsilon=1)
    metrics = extract(replace(settings, max_latency_ms=1e6))
    assert metrics["time_unit"] == "operations"
    assert metrics["latency"]["members"] == 12
    with pytest.raises(
        BortError, match=r"the nearest, ⟨\d,\d,\d+,\d+⟩, has milliseconds .* where at most 1e-06 may be"
    ):
        extract(replace(settings, max_latency_ms=1e-6, out=str(tmp_path / "none")))
    assert not (tmp_path / "none").exists()


def test_a_maximum_point_outside_of_the_space(arguments):
    metrics = extract(replace(arguments, teacher=None, maximum="3,2,32,64"))
    assert metrics["in_blocks"] == 16
    assert metrics["maximum"]["depth"] == 3
    assert metrics["teacher"] == "⟨3,2,32,64⟩ with random weights, seed 0"


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"teacher": None}, "give --teacher, or --maximum"),
        ({"epsilon": 0}, "epsilon.*at least 1"),
        ({"epsilon": 17}, "epsilon.*from 1 to the 16 members"),
        ({"steps": 0}, "steps.*at least 1"),
        ({"row_length": 65}, "row-length.*at most the 64 positions"),
        ({"sequence_length": 65}, "sequence-length.*64 positions"),
        ({"learning_rates": []}, "learning-rates.*at least one"),
        ({"learning_rates": [1e-3, 0.0]}, "learning-rates.*above 0"),
        ({"clip_weights": 0.0}, "clip-weights.*above 0"),
        ({"timed_members": 3}, "timed-members.*at least 10"),
        ({"timed_members": 30}, "timed-members.*is for measured times"),
        ({"batch_size": 8}, "batch-size.*is for measured times"),
        ({"rank_agreement": 0.5}, "rank-agreement.*needs --max-steps"),
        ({"max_parameters": 10}, "nearest, ⟨1,1,8,8⟩, has parameters .* where at most 10 may be"),
        ({"max_latency_ms": -1.0}, "max-latency-ms.*above 0"),
        ({"maximum": "2,2,16"}, "maximum.*four whole numbers"),
        ({"maximum": "2,2,x,1"}, "maximum.*four whole numbers"),
        ({"maximum": "2,3,16,24"}, "maximum.*heads must divide"),
        ({"maximum": "1,2,16,24"}, "maximum.*⟨2,1,16,8⟩ has more|maximum.*has more"),
        ({"space": "nowhere"}, "space.*neither a space"),
        ({"teacher": "/nosuch"}, "no such folder"),
        ({"seed": -1}, "seed.*from 0 to 2,147,483,647"),
    ],
)
def test_bad_settings_are_told_before_anything_is_made(arguments, settings, rule):
    with pytest.raises(BortError, match=rule) as told:
        extract(replace(arguments, **settings))
    assert not Path(arguments.out).exists()
    assert len(str(told.value)) < 400


def test_a_small_space_cannot_be_timed(arguments, tmp_path):
    space = Path(arguments.space).read_text("utf-8")
    (tmp_path / "small.yaml").write_text(space.replace("[1, 2]", "[1]"), "utf-8")
    with pytest.raises(BortError, match="at least 10 members, not 4"):
        extract(replace(arguments, space=str(tmp_path / "small.yaml"), time="measured"))


def test_a_teacher_of_another_vocabulary_is_refused(arguments):
    with pytest.raises(BortError, match="student's vocabulary"):
        extract(replace(arguments, tokenizer="bort-nano"))


def test_a_run_that_failed_early_does_not_block_its_folder(arguments, world, tmp_path):
    settings = replace(arguments, max_latency_ms=1e6, timed_members=10, sequence_length=8)
    for wrong in ({"corpus": ["/nosuch.txt"]}, {"tokenizer": "bort-nano", "corpus_cache": None}):
        with pytest.raises(BortError, match=r"no such file|student's vocabulary"):
            extract(replace(settings, **wrong))
    assert extract(settings)["latency"]["members"] == 10
    assert (Path(arguments.out) / "timings.json").is_file()


@pytest.mark.parametrize("inherits", [False, True])
def test_a_padded_word_embedding_changes_nothing_in_the_vocabulary(
    arguments, world, tiny_tokenizer, tmp_path, inherits
):
    model = load(BortForMaskedLM, world.encoder)
    model.resize_token_embeddings(len(tiny_tokenizer) + 48)
    save(model, tiny_tokenizer, tmp_path / "padded")
    padded = str(tmp_path / "padded")
    settings = replace(arguments, steps=1, repeats=0)
    inheriting = {"inherit": padded, "teacher": None, "positions": 512}
    settings = replace(settings, **inheriting) if inherits else replace(settings, teacher=padded)
    metrics = extract(settings)
    assert all(metrics["teacher_entropy"] < row["error"] < 10 for row in metrics["candidates"])


def test_a_tokenizer_without_the_special_tokens_is_refused(arguments, tmp_path, tiny_tokenizer):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(tmp_path / "bare")
    with pytest.raises(BortError, match=r"--tokenizer.*must have a mask_token"):
        extract(replace(arguments, tokenizer=str(tmp_path / "bare")))
    assert not Path(arguments.out).exists()
