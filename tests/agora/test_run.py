"""Agora with texts: from labelled files to a run's folder."""

from __future__ import annotations

import itertools
import json
import pickle
import re
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from transformers import AutoModelForSequenceClassification

import bort
from bort.agora import journal, labelling
from bort.agora.journal import RunClock, RunJournal
from bort.agora.labellers import HeadTeacher, judged
from bort.agora.nearby import Embedding, Near
from bort.agora.report import agora_report, model_card
from bort.agora.rounds import DivergedError, Made
from bort.agora.run import finetune
from bort.agora.session import Session
from bort.agora.trial import TextLearner
from bort.data.tables.checks import identity
from bort.data.tables.examples import Example, read_examples
from bort.errors import BortError
from bort.finetuning.arguments import FinetuneArguments
from bort.finetuning.fitter import Fitter
from bort.finetuning.splits import read_splits
from bort.finetuning.student_head import StudentHead
from bort.predict.predictor import Predictor
from bort.runs import Run
from bort.workers import InProcess
from fake_llm import labels_cats


@pytest.fixture
def arguments(world, tmp_path) -> FinetuneArguments:
    return world.finetuning(
        tmp_path,
        transforms=["swap", "typo", "delete"],
        points_per_mistake=3,
        min_cosine=-1.0,
        max_cosine=2.0,
        learning_rates=[1e-3, 1e-2],
        max_epochs=2,
        keep_better=False,  # a linear head is better than models so tiny
    )


@pytest.fixture
def grown(monkeypatch):
    """The points that the first round of a run has added, which a finished run does not keep."""
    monkeypatch.setattr(RunJournal, "close", lambda self: None)

    def read(out):
        return json.loads((Path(out) / "rounds" / "grown-01.json").read_text("utf-8"))["points"]

    return read


def events(out, name):
    lines = map(json.loads, (Path(out) / "journal.jsonl").read_text("utf-8").splitlines())
    return [event for event in lines if event["event"] == name]


def answers(texts):
    """A teacher that knows what the task is about."""
    return ["cat" if "cat" in text else "other" for text in texts]


def test_leaves_a_whole_run(arguments, finetuned_files, page_of_files):
    metrics = finetune(arguments, teacher=answers)
    run = Path(arguments.out)
    assert {file.name for file in run.iterdir()} == finetuned_files | {"README.md"}
    assert metrics == json.loads((run / "metrics.json").read_text("utf-8"))
    table = (Path(__file__).parents[2] / "docs" / "finetuning.md").read_text("utf-8").partition("### metrics.json")[2]
    explained = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE))))
    rare = {"official", "cast", "generator", "fine_tuned", "out_of_fold", "out_of_fold_confidence"}
    assert explained - rare == set(metrics) - rare
    assert metrics["teacher"]["test"]["accuracy"] == 1.0
    rounds = metrics["rounds"]
    assert 1 <= len(rounds) <= 2
    for done, after in itertools.pairwise(rounds):
        assert after["train_size"] == done["train_size"] + done["kept"]
        assert done["made"] == done["kept"] + sum(done["dropped"].values())
        assert done["made"] % 3 == 0 < done["made"]
        assert sum(done["labels"].values()) == done["kept"]
    assert metrics["labels_used"] == {"result": 60, "selection": 40, "plain": 40, "teacher": None}
    model = AutoModelForSequenceClassification.from_pretrained(run)
    assert model.config.id2label == {0: "cat", 1: "other"}
    test = read_examples(arguments.test)
    said = Predictor(arguments.out).predict([example.text for example in test])
    right = sum(answer.label == example.label for answer, example in zip(said, test, strict=True))
    assert right / len(test) == pytest.approx(metrics["test"]["accuracy"])
    card = (run / "README.md").read_text("utf-8")
    assert f"| by Agora | {metrics['test']['accuracy']:.3f} |" in card
    page = (run / "report.html").read_text("utf-8")
    for said in ("From mistakes to new texts: round 1", "plain fine-tuning", "Made with"):
        assert said in page, said
    assert ("New texts that were dropped" in page) == any(r["dropped"] for r in rounds)
    assert page == page_of_files(agora_report, arguments.out)
    assert card == model_card(run, metrics)
    assert {example["round"] for example in metrics["examples"]} == {r["round"] for r in rounds if r["kept"]}


def test_the_new_texts_are_new_and_labelled_by_the_teacher(arguments, world, grown):
    finetune(replace(arguments, labels="hard"), teacher=answers)
    known = {identity(e) for file in (world.train, world.dev, world.test) for e in read_examples(file)}
    points = grown(arguments.out)
    assert points
    for point in points:
        assert (" ".join(point["text"].split()).casefold(), "") not in known
        assert point["label"] == (0 if "cat" in point["text"] else 1)


def test_a_part_is_held_out_where_no_test_is_given(arguments):
    metrics = finetune(replace(arguments, test=None, dev=None), teacher=answers)
    assert metrics["held_out"]
    rows = metrics["rows"]
    assert rows["test"] > 0
    assert sum(rows.values()) == len(read_examples(arguments.train))
    assert "held out of the training data" in (Path(arguments.out) / "README.md").read_text("utf-8")


def test_the_student_is_its_own_teacher_where_none_is_given(arguments, world, monkeypatch):
    later_rounds_are_better(monkeypatch)
    metrics = finetune(arguments)
    assert metrics["teacher"]["name"] == f"{world.encoder} with a linear head"
    data = read_splits(arguments)
    encoder = Embedding(world.encoder)
    for part, fitted_to in (("dev", data.train), ("test", [*data.train, *data.dev])):
        head, examples = HeadTeacher(encoder, data.task, fitted_to), data.parts[part]
        assert metrics["teacher"][part]["accuracy"] == judged(data.task, head(examples), data.task.targets(examples))
    assert metrics["labels_used"]["teacher"] == len(data.train) + len(data.dev)


@pytest.mark.parametrize("settings", [{"refit": False}, {"rounds": 1}])
def test_a_teacher_that_taught_nothing_at_the_end_is_judged_as_it_taught_in_the_rounds(arguments, world, settings):
    metrics = finetune(replace(arguments, **settings))
    data = read_splits(arguments)
    head, test = HeadTeacher(Embedding(world.encoder), data.task, data.train), data.parts["test"]
    assert metrics["teacher"]["test"]["accuracy"] == judged(data.task, head(test), data.task.targets(test))
    assert metrics["labels_used"]["teacher"] == len(data.train)


def test_unlabelled_texts_near_mistakes_are_trained_on(arguments, tmp_path, sentences, monkeypatch):
    later_rounds_are_better(monkeypatch)
    pool = tmp_path / "pool.txt"
    pool.write_text("\n".join(f"{text} Again." for text in sentences[:60]), "utf-8")
    settings = replace(arguments, points_per_mistake=0, unlabelled=str(pool), unlabelled_per_mistake=2, whole_pool=10)
    metrics = finetune(settings, teacher=answers)
    first = metrics["rounds"][0]
    assert min(2 * first["mistakes"], 60) <= first["kept"] <= 60
    assert metrics["last_training"]["texts"] == 40 + 20 + 60  # whatever the rounds took


def later_rounds_are_better(monkeypatch, number=2):
    """Tiny models learn little; so a round's scores are raised, as if it were better."""
    keep = RunJournal.keep_trial

    def raised(self, slot, trial):
        return keep(self, slot, replace(trial, score=trial.score + (slot.round == number)))

    monkeypatch.setattr(RunJournal, "keep_trial", raised)


def test_where_the_plain_model_is_better_it_learns_from_all_labels_alone(arguments, monkeypatch):
    later_rounds_are_better(monkeypatch, number=1)
    monkeypatch.setattr("bort.agora.growing_run.preferring_grown", lambda result, task, dev: result)
    metrics = finetune(arguments, teacher=answers)
    assert metrics["best_round"] == 1
    assert metrics["last_training"]["texts"] == 60
    assert metrics["dev"] == metrics["plain"]["dev"]


def test_the_passes_of_a_last_training_that_max_steps_cuts_are_told(arguments, monkeypatch):
    later_rounds_are_better(monkeypatch)
    metrics = finetune(replace(arguments, max_steps=2, final_epochs=4), teacher=answers)
    last = metrics["last_training"]
    assert [event["steps"] for event in events(arguments.out, "refit")][-1] == 2
    assert last["epochs"] == pytest.approx(2 / -(-last["texts"] // 8), rel=0.05)


def test_labels_count_only_in_texts_that_the_result_has_learned(arguments, monkeypatch):
    later_rounds_are_better(monkeypatch, number=1)
    metrics = finetune(replace(arguments, refit=False), teacher=answers)
    assert metrics["rounds"][0]["kept"] > 0
    assert metrics["train_labels"] == metrics["given_labels"]
    assert sum(metrics["train_labels"].values()) == 40


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"rounds": 1}, "the first round was the last"),
        ({"budget_minutes": 1e-9}, "time was up"),
        ({"min_cosine": 1.5}, "new texts were dropped"),
    ],
)
def test_why_no_texts_were_added_is_told(arguments, capsys, settings, reason):
    metrics = finetune(replace(arguments, **settings), teacher=answers)
    assert reason in metrics["nothing_added"]
    assert f"no texts were added: {metrics['nothing_added']}" in " ".join(capsys.readouterr().err.split())
    page = (Path(arguments.out) / "report.html").read_text("utf-8")
    assert f"No texts were added: {metrics['nothing_added']}." in page
    assert "Round after round" not in page


def test_that_nobody_is_wrong_is_why_no_texts_were_added(arguments, monkeypatch, tmp_path, sentences):
    monkeypatch.setattr(TextLearner, "right", lambda self, said, truth: [True] * len(truth))
    (tmp_path / "pool.txt").write_text("\n".join(f"{text} Again." for text in sentences[:9]), "utf-8")
    settings = replace(arguments, unlabelled=str(tmp_path / "pool.txt"))
    assert finetune(settings, teacher=answers)["nothing_added"] == "no text was predicted wrongly"


def test_that_no_texts_are_made_of_very_many_is_told(arguments, monkeypatch, capsys):
    monkeypatch.setattr(Session, "out_of_fold", None)
    metrics = finetune(arguments, teacher=answers)
    assert metrics["nothing_added"] == "none were found or made near the mistakes"
    assert any("not known of more than 15,000 texts" in finding for finding in metrics["findings"])
    assert "not known of more than 15,000 texts" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("settings", [{"rounds": 0}, {"replay": 2}])
def test_a_round_without_new_texts_is_not_repeated_as_one_with_them(arguments, monkeypatch, settings):
    monkeypatch.setattr(Near, "__call__", lambda self, mistakes, *_: Made([[] for _ in mistakes]))
    metrics = finetune(replace(arguments, **settings), teacher=answers)
    assert (len(metrics["rounds"]), metrics["best_round"]) == (1, 1)
    assert metrics["last_training"]["texts"] == 60


def test_the_linear_head_is_the_result_where_no_round_beats_it(arguments, world, monkeypatch):
    monkeypatch.setattr("bort.agora.last_trainings.trained", None)  # nothing is trained in vain
    metrics = finetune(replace(arguments, keep_better=True, learning_rates=[1e-3]), teacher=answers)
    assert metrics["result"] == "head"
    assert metrics["test"] == metrics["linear_head"]["test"]
    assert metrics["dev"] == metrics["linear_head"]["dev"]
    assert metrics["dev"]["accuracy"] > metrics["fine_tuned"]["dev"]["accuracy"]
    assert metrics["labels_used"]["result"] == sum(metrics["train_labels"].values()) == 60
    page = (Path(arguments.out) / "report.html").read_text("utf-8")
    for said in ("A linear head on the frozen encoder", "Beside a linear head", "So the linear head is the result"):
        assert said in page
    test = read_examples(world.test)
    said = [answer.label for answer in Predictor(arguments.out).predict([e.text for e in test])]
    right = sum(label == e.label for label, e in zip(said, test, strict=True))
    assert right / len(test) == metrics["test"]["accuracy"]


def test_plain_fine_tuning_that_beats_the_head_is_the_result_where_new_texts_do_not(arguments, monkeypatch):
    later_rounds_are_better(monkeypatch, number=1)
    best = "bort.agora.growing_run.preferring_grown"
    monkeypatch.setattr(best, lambda result, task, dev: replace(result, best=result.rounds[1].winner))
    compared = []

    def beats(self, logits):
        compared.append(logits.tolist())
        return len(compared) == 1

    monkeypatch.setattr(StudentHead, "beats", beats)
    monkeypatch.setattr("bort.agora.plain_run.out_of_fold", lambda *given: None)
    metrics = finetune(replace(arguments, keep_better=True), teacher=answers)
    assert (metrics["best_round"], metrics["result"]) == (1, "fine-tuned")
    assert metrics["last_training"]["texts"] == 60
    assert metrics["dev"] == metrics["plain"]["dev"]
    assert len(compared) == 2
    assert compared[0] != compared[1]


def test_a_small_pool_is_taken_whole_and_no_text_is_made_beside_it(arguments, tmp_path, sentences, monkeypatch):
    pool = tmp_path / "pool.txt"
    pool.write_text("\n".join(f"{text} Again." for text in sentences[:60]), "utf-8")
    settings = replace(arguments, points_per_mistake=None, unlabelled=str(pool), final_epochs=3)
    later_rounds_are_better(monkeypatch)
    metrics = finetune(settings, teacher=answers)
    assert [done["made"] for done in metrics["rounds"]] == [60, 0]
    assert metrics["last_training"] == {"texts": 120, "epochs": 3}
    assert metrics["labels_used"]["result"] == 60


def test_the_vectors_of_a_sentence_encoder_are_learned(arguments, world, tmp_path, sentences, monkeypatch):
    """Only where it teaches, and in the rounds only on data that have grown."""
    seen, fit = [], Fitter.fit

    def watched(self, theta, train, dev, **settings):
        seen.append(None if train.vectors is None else train.vectors.shape)
        return fit(self, theta, train, dev, **settings)

    monkeypatch.setattr(Fitter, "fit", watched)
    pool = tmp_path / "pool.txt"
    pool.write_text("\n".join(f"{text} Again." for text in sentences[:60]), "utf-8")
    settings = replace(arguments, teacher=world.encoder, teacher_fit="head", unlabelled=str(pool), weak_teacher="use")
    settings = replace(settings, points_per_mistake=None, learning_rates=[1e-3])
    later_rounds_are_better(monkeypatch)
    finetune(settings)
    assert seen[:2] == [None, (100, 16)]
    assert seen[-1] == (120, 16)
    assert set(seen[2:-1]) <= {None}
    seen.clear()
    finetune(replace(settings, teacher_vectors=False, out=str(tmp_path / "without")))
    assert set(seen) == {None}


def test_the_rules_of_the_paper(arguments):
    settings = replace(arguments, as_published=True, points_per_mistake=None)
    metrics = finetune(settings, teacher=lambda texts: ["cat"] * len(texts))
    assert metrics["teacher"]["taught"]
    first = metrics["rounds"][0]
    assert first["made"] == 4 * first["mistakes"]
    assert metrics["labels_used"]["result"] == 40
    assert metrics["last_training"] is None
    assert "two guards" in (Path(arguments.out) / "report.html").read_text("utf-8")
    with pytest.raises(BortError, match=r"unlabelled.*--as-published"):
        finetune(replace(settings, unlabelled="pool.txt"))


def test_pairs_grow_by_pairs(arguments, world, grown):
    metrics = finetune(replace(arguments, train=world.pairs, dev=None, test=None, weak_teacher="use"))
    assert metrics["rows"] == {"train": 26, "dev": 6, "test": 8}
    points, known = grown(arguments.out), read_examples(world.pairs)
    assert len(points) == metrics["rounds"][0]["kept"] > 0
    for point in points:
        assert {point["text"], point["text_b"]} & {text for e in known for text in (e.text, e.text_b)}
        assert identity(Example(point["text"], point["text_b"])) not in map(identity, known)


def test_a_regression_is_cast_to_near_enough(arguments, world):
    metrics = finetune(replace(arguments, train=world.regression, dev=None, test=None))
    assert metrics["task"] == "regression"
    assert metrics["rounds"][0]["made"] % 3 == 0
    assert {"pearson", "spearman", "rmse"} <= metrics["test"].keys()


def test_a_command_may_teach(arguments):
    code = "import sys, json\nfor line in sys.stdin: print('cat' if 'cat' in json.loads(line)['text'] else 'other')"
    metrics = finetune(replace(arguments, teacher_command=shlex.join([sys.executable, "-c", code])))
    assert metrics["teacher"]["test"]["accuracy"] == 1.0


@pytest.fixture
def llm(monkeypatch, tmp_path, server):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    return server


@pytest.mark.slow
def test_an_llm_may_teach(arguments, llm, tmp_path):
    (tmp_path / "labels.yaml").write_text("cat: it purrs", "utf-8")
    settings = replace(
        arguments,
        teacher="openai:m",
        teacher_url=llm.url,
        instructions=str(tmp_path / "labels.yaml"),
        teacher_examples=4,
        teacher_input_price=1.0,
        teacher_output_price=1.0,
    )
    metrics = finetune(settings)
    assert metrics["teacher"]["test"]["accuracy"] == 1.0
    usage = metrics["teacher"]["usage"]
    assert usage["requests"] == usage["texts"] == len(llm.requests) == len({*llm.texts})
    assert usage["usd"] == pytest.approx(110e-6 * len(llm.requests))
    prompt = llm.requests[0]["messages"]
    assert "- cat: it purrs" in prompt[0]["content"]
    assert [turn["content"] for turn in prompt[2:-1:2]].count('{"label": "cat"}') == 2
    given = {example.text for example in read_examples(arguments.train)}
    assert {turn["content"] for turn in prompt[1:-1:2]} <= given, "development texts are no examples"
    files = [file for file in Path(settings.out).rglob("*") if file.is_file()]
    assert not any(b"sk-very-secret" in file.read_bytes() for file in files)
    asked = len(llm.requests)
    finetune(replace(settings, out=str(tmp_path / "again")))
    assert len(llm.requests) == asked, "another run pays for nothing that is known"


def test_a_budget_that_is_used_up_ends_the_asking_and_not_the_run(arguments, llm):
    prices = {"teacher_input_price": 1.0, "teacher_output_price": 1.0}
    settings = replace(arguments, teacher="openai:m", teacher_url=llm.url, budget_usd=0.004, **prices)
    metrics = finetune(settings)
    assert metrics["teacher"]["usage"]["out_of_budget"]
    assert metrics["teacher"]["usage"]["usd"] <= 0.004
    assert any("the budget of 0.004 USD was used up" in finding for finding in metrics["findings"])


def test_a_resumed_run_asks_what_the_budget_left_out(arguments, llm, monkeypatch):
    prices = {"teacher_input_price": 1.0, "teacher_output_price": 1.0}
    settings = replace(arguments, teacher="openai:m", teacher_url=llm.url, budget_usd=0.001, max_steps=1, **prices)
    with monkeypatch.context() as patch:
        patch.setattr(TextLearner, "fit", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            finetune(settings)
    asked = len(llm.requests)
    assert asked < len(read_examples(arguments.dev))
    metrics = finetune(replace(settings, budget_usd=10.0, resume=True))
    usage = metrics["teacher"]["usage"]
    assert metrics["teacher"]["dev"]["accuracy"] == 1.0, "each of the development texts is known"
    assert (usage["abstained"], usage["out_of_budget"]) == ({}, False)
    assert usage["from_cache"] == asked
    assert usage["texts"] == usage["requests"] == len(llm.requests) == len({*llm.texts}), "none is paid twice"


def test_a_run_does_not_go_on_with_other_instructions_or_another_teacher(arguments, world, llm, tmp_path, monkeypatch):
    file, teacher = tmp_path / "labels.txt", shutil.copytree(world.encoder, tmp_path / "teacher")
    settings = replace(arguments, teacher=str(teacher), generator="openai:w", teacher_url=llm.url)
    settings = replace(settings, instructions=str(file), points_per_mistake=0, generated_per_mistake=1)
    monkeypatch.setattr("bort.agora.run.fit_growing", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    file.write_text("a cat purrs")
    with pytest.raises(KeyboardInterrupt):
        finetune(settings)
    file.write_text("a cat bites")
    with pytest.raises(BortError, match="the files of --instructions have changed"):
        finetune(replace(settings, resume=True))
    file.write_text("a cat purrs")
    (teacher / "config.json").write_text((teacher / "config.json").read_text("utf-8") + " ")
    with pytest.raises(BortError, match="the files of --teacher have changed"):
        finetune(replace(settings, resume=True))


def test_a_run_does_not_go_on_with_another_encoder_of_words_or_of_the_pool(arguments, world, tmp_path, monkeypatch):
    words, pool = (shutil.copytree(world.encoder, tmp_path / name) for name in ("words", "encoder"))
    (tmp_path / "pool.txt").write_text("a cat\na dog\n")
    settings = replace(arguments, transform_model=str(words), pool=str(tmp_path / "pool.txt"), pool_model=str(pool))
    monkeypatch.setattr("bort.agora.run.fit_growing", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        finetune(settings)
    for model, name in ((words, "--transform-model"), (pool, "--pool-model")):
        before = (model / "config.json").read_bytes()
        (model / "config.json").write_bytes(before + b" ")
        with pytest.raises(BortError, match=f"the files of {name} have changed"):
            finetune(replace(settings, resume=True))
        (model / "config.json").write_bytes(before)


@pytest.mark.parametrize("as_published", [False, True])
def test_a_generator_writes_near_mistakes_on_the_same_bill(arguments, llm, grown, as_published):
    def behave(request, number):
        if "texts" in request["response_format"]["json_schema"]["schema"]["properties"]:
            return json.dumps({"texts": [f"cat {number}", "a known text", "a known text"]})
        return labels_cats(request, number)

    llm.behave = behave
    prices = {"teacher_input_price": 1.0, "teacher_output_price": 1.0}
    settings = replace(arguments, teacher="openai:m", teacher_url=llm.url, generator="openai:w", **prices)
    made = None if as_published else 0
    settings = replace(settings, points_per_mistake=made, generated_per_mistake=2, as_published=as_published)
    metrics = finetune(settings)
    written = [request for request in llm.requests if request["model"] == "w"]
    files = [arguments.dev] if as_published else [arguments.train]  # where mistakes are made from
    known = {example.text: example.label for file in files for example in read_examples(file)}
    first = metrics["rounds"][0]
    assert written
    for request in written:
        text, truth, wrong = request["messages"][-1]["content"].split("\n\n")
        assert truth == f"Right label: {known[text]}"
        assert wrong == f"The classifier's wrong answer: {'other' if known[text] == 'cat' else 'cat'}"
    if not as_published:
        assert (first["made"], first["kept"]) == (2 * len(written), len(written) + 1)
        assert sum(first["dropped"].values()) == len(written) - 1, "made twice"
    assert {point["text"] for point in grown(arguments.out)} >= {"a known text"}
    assert metrics["generator"]["name"] == "openai:w"
    assert metrics["generator"]["usage"]["texts"] == len(written)
    assert metrics["teacher"]["usage"]["requests"] == len(llm.requests), "one bill"


def test_a_budget_that_the_generator_uses_up_is_told(arguments, llm):
    prices = {"teacher_input_price": 1.0, "teacher_output_price": 1.0}
    settings = replace(arguments, generator="openai:w", teacher_url=llm.url, budget_usd=1e-4, **prices)
    metrics = finetune(settings, teacher=answers)
    told = "the budget of 0.0001 USD was used up: the generator was not asked about"
    assert any(finding.startswith(told) for finding in metrics["findings"])


def test_a_command_may_write(arguments, grown):
    code = "import sys, json\nfor line in sys.stdin: print(json.dumps([json.loads(line)['text'] + ' again']))"
    line = shlex.join([sys.executable, "-c", code])
    metrics = finetune(replace(arguments, generator=line, points_per_mistake=0), teacher=answers)
    assert metrics["generator"] == {"name": line}
    assert {point["text"] for point in grown(arguments.out)} == {
        f"{text} again" for text in (point["text"].removesuffix(" again") for point in grown(arguments.out))
    }
    assert metrics["rounds"][0]["kept"] == metrics["rounds"][0]["made"] > 0


def test_a_home_folder_is_one_for_the_answers_of_a_command_too(arguments, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    command = shlex.join([sys.executable, "-c", "raise SystemExit(1)"])
    with pytest.raises(BortError, match="teacher-command"):
        finetune(replace(arguments, out="~/mine", teacher_command=command))
    assert (tmp_path / "mine" / "rounds" / "answers").is_dir()
    assert not (tmp_path / "~").exists()


def test_an_llm_that_cannot_be_asked_is_told_before_anything_is_made(arguments, llm, monkeypatch):
    with pytest.raises(BortError, match=r"none\.txt: no such file"):
        finetune(replace(arguments, teacher="openai:m", teacher_url=llm.url, instructions="none.txt"))
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(BortError, match="needs an API key"):
        finetune(replace(arguments, teacher="openai:m"))
    assert not Path(arguments.out).exists()
    assert not llm.requests


@pytest.mark.parametrize("exported", [False, True])
def test_a_classifier_labels_as_it_predicts(arguments, world, tmp_path, grown, exported):
    plain = replace(arguments, method="plain", out=str(tmp_path / "teacher"), max_epochs=12)
    finetune(plain)
    teacher = plain.out
    if exported:
        teacher = str(tmp_path / "exported")
        bort.export(bort.ExportArguments(model=plain.out, out=teacher, precision="fp32"))
    settings = {"labels": "hard", "labelled_by": "teacher", "weak_teacher": "use"}
    metrics = finetune(replace(arguments, teacher=teacher, out=str(tmp_path / "taught"), **settings))
    assert metrics["teacher"]["name"] == teacher
    points = grown(tmp_path / "taught")
    said = Predictor(teacher).predict([point["text"] for point in points])
    assert [metrics["labels"][point["label"]] for point in points] == [answer.label for answer in said]
    assert points


def test_an_encoder_is_fine_tuned_to_teach(arguments, world):
    """Over the teacher's learning rates, and only over these."""
    settings = replace(arguments, teacher=world.encoder, teacher_fit="full", teacher_learning_rates=[1e-2, 2e-2])
    settings = replace(settings, seeds=[0, 1], weight_decays=[0.0, 0.1], warmups=[0.1, 0.2], max_steps=2)
    metrics = finetune(replace(settings, budget_minutes=1e3, learning_rates=[1e-3]))
    teacher = Path(arguments.out) / "teacher"
    said = json.loads((teacher / "metrics.json").read_text("utf-8"))
    assert metrics["teacher"]["dev"] == said["dev"]
    thetas = [event["theta"] for event in events(teacher, "trial")]
    assert [theta.pop("learning_rate") for theta in thetas] == [1e-2, 2e-2]
    assert thetas == [{"seed": 0, "weight_decay": 0.0, "warmup": 0.1, "batch_size": 8}] * 2


def test_the_better_of_two_teachers_is_taken(arguments, world, capsys):
    metrics = finetune(replace(arguments, teacher=world.encoder, teacher_fit="best", teacher_learning_rates=[1e-2]))
    said = " ".join(capsys.readouterr().err.split())
    head, full = re.search(r"a linear head ([.\d]+), fine-tuned ([.\d]+)", said).groups()
    is_head = metrics["teacher"]["name"].endswith("with a linear head")
    assert metrics["teacher"]["dev"]["accuracy"] == pytest.approx(float(head if is_head else full), abs=1e-3)
    assert is_head or float(full) > float(head)


def test_teacher_and_student_label_together(arguments):
    metrics = finetune(arguments, teacher=answers)
    assert metrics["label_weights"]["teacher"] > 5 * metrics["label_weights"]["student"]  # it is always right


def test_a_teacher_who_knows_nothing_is_not_heard(arguments, tmp_path):
    settings = replace(arguments, labels="soft", learning_rates=[1e-2], max_epochs=8, weak_teacher="use")
    metrics = finetune(settings, teacher=lambda texts: [{"cat": 0.5, "other": 0.5}] * len(texts))
    assert metrics["label_weights"]["student"] > 0
    assert "Who labelled the new texts" in (Path(settings.out) / "report.html").read_text("utf-8")
    with_whom = "plain models trained on all given labels" if metrics["best_round"] > 1 else "the best model of each"
    assert f"together with {with_whom}" in (Path(settings.out) / "README.md").read_text("utf-8")
    alone = replace(settings, labelled_by="teacher", out=str(tmp_path / "alone"))
    metrics = finetune(alone, teacher=lambda texts: [{"cat": 0.5, "other": 0.5}] * len(texts))
    assert metrics["label_weights"] == {"teacher": 1.0, "student": 0.0}
    assert "Who labelled" not in (Path(alone.out) / "report.html").read_text("utf-8")


def test_a_weak_teacher_is_warned_of_and_teaches_nothing(arguments, capsys):
    metrics = finetune(arguments, teacher=lambda texts: ["cat"] * len(texts))
    said = " ".join(capsys.readouterr().err.split())
    assert "less than two thirds" in said
    assert "nothing is learned from the teacher" in said
    assert "Nothing was learned from the teacher" in (Path(arguments.out) / "report.html").read_text("utf-8")
    assert "no texts were added" in (Path(arguments.out) / "README.md").read_text("utf-8")
    assert len(metrics["rounds"]) == 1
    assert metrics["test"] == metrics["plain"]["test"]
    assert metrics["teacher"]["weak"]
    assert not metrics["teacher"]["taught"]


def test_a_weak_teacher_teaches_where_it_is_asked_to(arguments, capsys):
    metrics = finetune(replace(arguments, weak_teacher="use"), teacher=lambda texts: ["cat"] * len(texts))
    assert "less than two thirds" in " ".join(capsys.readouterr().err.split())
    assert "What it teaches may do harm" in (Path(arguments.out) / "report.html").read_text("utf-8")
    assert metrics["teacher"]["weak"]
    assert metrics["teacher"]["taught"]
    assert metrics["rounds"][0]["kept"]


def test_a_weak_teacher_that_is_clearly_better_teaches(arguments, monkeypatch):
    asked = []
    monkeypatch.setattr(labelling, "clearly_better", lambda *right: asked.append(right) or True)

    def half(texts):  # right where it knows, which is of every second text
        return [label if len(text) % 2 else None for text, label in zip(texts, answers(texts), strict=True)]

    metrics = finetune(arguments, teacher=half)
    assert metrics["teacher"]["weak"]
    assert metrics["teacher"]["taught"]
    ((teacher, plain),) = asked
    known = [len(example.text) % 2 == 1 for example in read_examples(arguments.dev)]
    assert teacher.tolist() == [0] * sum(known), "they are told errors, of the texts that it answers"
    wrong = (1 - metrics["plain"]["dev"]["accuracy"]) * len(known)
    assert plain.sum() <= round(wrong) <= plain.sum() + len(known) - sum(known)


def test_a_budget_ends_it_with_the_best_so_far(arguments):
    metrics = finetune(replace(arguments, budget_minutes=1e-9), teacher=answers)
    assert metrics["stopped_early"]
    assert [len(done["trials"]) for done in metrics["rounds"]] == [1]


@pytest.mark.parametrize(
    "moment",
    [
        "rounds/*/checkpoint-*/complete*",
        "rounds/*.safetensors",
        "rounds/grown-01.json",
        "rounds/00-000/checkpoint-*/complete*",
        "rounds/final-0.safetensors",
    ],
)
def test_a_killed_run_resumes_to_the_same_model(arguments, world, tmp_path, killed, moment, assert_same_weights):
    expected = finetune(arguments)
    out = tmp_path / "killed"
    line = ["finetune", "--train", world.train, "--dev", world.dev, "--test", world.test, "--model", world.encoder]
    line += ["--out", str(out), "--learning_rates", "1e-3", "1e-2", "--batch_sizes", "8", "--max_epochs", "2"]
    line += ["--max_length", "32", "--precision", "fp32", "--checkpoint_minutes", "0", "--points_per_mistake", "3"]
    line += ["--transforms", "swap", "typo", "delete", "--min_cosine", "-1", "--max_cosine", "2", "--no-keep-better"]
    line += ["--averaged", "1"]
    killed(line, out, moment)
    assert not (out / "metrics.json").exists()
    metrics = finetune(replace(arguments, out=str(out), resume=True))
    assert metrics["rounds"] == expected["rounds"]
    assert metrics["test"] == expected["test"]
    assert_same_weights(arguments.out, out)


def test_a_run_interrupted_in_a_later_round_resumes_to_the_same_model(
    arguments, tmp_path, monkeypatch, interrupted_in_round, assert_same_weights
):
    settings = replace(arguments, learning_rates=[1e-3, 3e-3, 1e-2, 2e-2], rounds=3)
    later_rounds_are_better(monkeypatch)
    expected = finetune(settings, teacher=answers)
    assert len(expected["rounds"]) == 3
    assert expected["best_round"] == 2
    settings = replace(settings, out=str(tmp_path / "interrupted"))
    with interrupted_in_round(3):
        finetune(settings, teacher=answers)
    metrics = finetune(replace(settings, resume=True), teacher=answers)
    assert metrics["rounds"] == expected["rounds"]
    assert_same_weights(arguments.out, settings.out)


@pytest.mark.parametrize("shared", [True, False])
def test_combinations_may_be_fitted_by_workers_elsewhere(arguments, tmp_path, shared, assert_same_weights):
    """What is sent to another process does the same there, also where it does not see the run's folder."""
    out = tmp_path / "else"

    class Elsewhere:
        sees_files = shared

        def map(self, function, items):
            sent = pickle.loads(pickle.dumps(function))
            for result in InProcess().map(sent, items):
                assert getattr(result.value, "model", result.value).weights  # a trial, or a last training
                yield pickle.loads(pickle.dumps(result))

    expected = finetune(arguments, teacher=answers)
    metrics = finetune(replace(arguments, out=str(out)), teacher=answers, workers=Elsewhere())
    assert metrics["rounds"] == expected["rounds"]
    assert_same_weights(arguments.out, out)


@pytest.mark.slow
@pytest.mark.parametrize("files", ["shared", "sent"])
def test_combinations_may_be_fitted_on_ray(arguments, tmp_path, cluster, one_thread, files, assert_same_weights):
    settings = replace(arguments, out=str(tmp_path / "ray"), workers=cluster, trial_files=files)
    expected, metrics = finetune(arguments, teacher=answers), finetune(settings, teacher=answers)
    assert metrics["rounds"] == expected["rounds"]
    assert metrics["test"] == expected["test"]
    assert_same_weights(arguments.out, settings.out)


def test_a_finished_run_is_left_as_it_is(arguments):
    first = finetune(arguments, teacher=answers)
    assert finetune(replace(arguments, resume=True)) == first


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"points_per_mistake": -1}, "points-per-mistake.*at least 0"),
        ({"points_per_mistake": 0}, "points-per-mistake.*where no unlabelled texts are given"),
        ({"transforms": ["shuffle"]}, "transforms.*'shuffle'.*must be of infill"),
        ({"transforms": ["infill+tpyo"]}, "transforms.*'infill.tpyo'.*must be of infill"),
        ({"min_cosine": 0.9, "max_cosine": 0.8}, "min-cosine.*below --max-cosine"),
        ({"temperature": 0.0}, "temperature.*above 0"),
        ({"replay": -1}, "replay.*at least 0"),
        ({"seeds": [0, 2**31]}, "seeds.*from 0 to 2,147,483,647"),
        ({"budget_minutes": 0.0}, "budget-minutes.*above 0"),
        ({"teacher_learning_rates": [2e-5, 2e-5]}, "teacher-learning-rates: value 2e-05: must not be given twice"),
        ({"teacher": "a/b", "teacher_command": "cat"}, "give one teacher"),
        ({"teacher_labels": ["a=b"]}, "teacher-labels.*is for a classifier"),
        ({"teacher": "openai: "}, "must name a model"),
        ({"teacher_url": "http://localhost:8000/v1"}, "teacher-url: is for an LLM"),
        ({"teacher": "openai:m", "teacher_url": "localhost:8000"}, "teacher-url: must begin with http"),
        ({"teacher": "openai:m", "teacher_url": "http://me:secret@host/v1"}, "teacher-url: must hold no password"),
        ({"teacher": "openai:m", "budget_usd": 1.0}, "budget-usd.*needs the prices"),
        ({"unlabelled": "no-such-file.txt"}, "no-such-file.txt"),
        ({"rounds": 1, "unlabelled": "a.txt"}, "unlabelled: value 'a.txt': a single round adds no texts: leave it out"),
        ({"rounds": 1, "generator": "cat"}, "generator: value 'cat': a single round adds no texts"),
    ],
)
def test_bad_settings_are_told_before_anything_is_made(arguments, settings, rule):
    with pytest.raises(BortError, match=rule):
        finetune(replace(arguments, **settings))
    assert not Path(arguments.out).exists()


def test_an_unlabelled_pair_among_single_texts_is_told(arguments, tmp_path):
    pool = tmp_path / "pool.jsonl"
    pool.write_text('{"text": "a", "text_b": "b"}\n', "utf-8")
    with pytest.raises(BortError, match=r"pool.jsonl:1: column 'text_b'.*must hold pairs where"):
        finetune(replace(arguments, unlabelled=str(pool)))


def test_findings_stand_in_the_terminal_in_the_figures_and_in_the_report(arguments, world, tmp_path, capsys):
    rows = [json.loads(line) for line in Path(world.train).read_text("utf-8").splitlines()]
    rows.append({"text": rows[0]["text"].upper(), "label": "cat" if rows[0]["label"] == "other" else "other"})
    train = tmp_path / "odd.jsonl"
    train.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    metrics = finetune(replace(arguments, train=str(train), dev=world.train, max_steps=1, method="plain"))
    assert metrics["data"]["leaked"] == {"dev": 40}
    assert metrics["data"]["conflicting_texts"] == 1
    said = " ".join(capsys.readouterr().err.split())
    page = (Path(arguments.out) / "report.html").read_text("utf-8")
    leak = "40 of the 40 development texts are training texts too"
    assert leak in metrics["findings"][0]
    assert leak in said
    assert leak in page


def test_a_teacher_that_has_seen_the_test_is_warned_of(arguments, world, tmp_path, capsys):
    """As one does that was fitted to the whole file of which this run holds a part out."""
    plain = replace(
        arguments, method="plain", refit=False, train=world.test, max_steps=1, out=str(tmp_path / "teacher")
    )
    finetune(plain)
    metrics = finetune(replace(arguments, teacher=plain.out, max_steps=1))
    assert metrics["teacher"]["fitted_to"] == {"test": 24}
    told = "the teacher was fitted to 24 of the test texts"
    assert told in metrics["findings"][0]
    assert told in " ".join(capsys.readouterr().err.split())
    assert "teacher was fitted to 24 of the test texts" in (Path(arguments.out) / "report.html").read_text("utf-8")


def test_the_test_file_goes_to_the_teacher_only_at_the_end(arguments, world, monkeypatch):
    asked, tests = [], {example.text for example in read_examples(world.test)}
    fit = TextLearner.fit
    monkeypatch.setattr(TextLearner, "fit", lambda *given: asked.append("a trial") or fit(*given))
    finetune(arguments, teacher=lambda texts: asked.extend(texts) or answers(texts))
    first = next(place for place, text in enumerate(asked) if text in tests)
    assert {*asked[first:]} == tests
    assert len({*asked} - {"a trial"}) == len([each for each in asked if each != "a trial"])


def test_a_resumed_run_does_not_ask_a_teacher_again(arguments, interrupted_in_round):
    asked = []

    def teacher(texts):
        asked.extend(texts)
        return answers(texts)

    with interrupted_in_round(2):
        finetune(arguments, teacher=teacher)
    before = len(asked)
    finetune(replace(arguments, resume=True), teacher=teacher)
    assert len(asked) > before > 0
    assert len({*asked}) == len(asked)


def broken(error, slots):
    """A learner that fails in some slots."""
    fit = TextLearner.fit

    def failing(self, theta, train, slot):
        if tuple(slot) in slots:
            raise error
        return fit(self, theta, train, slot)

    return failing


@pytest.mark.parametrize("method", ["agora", "plain"])
def test_a_trial_that_fails_is_kept_with_its_traceback_and_tried_again(arguments, monkeypatch, capsys, method):
    settings = replace(arguments, method=method, max_epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(TextLearner, "fit", broken(MemoryError("too small"), {(1, 1)}))
        patch.setattr(RunJournal, "keep_growth", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr(Session, "open", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            finetune(settings, teacher=answers)
    (event,) = events(arguments.out, "failed")
    assert (event["round"], event["place"], event["error"], event["message"]) == (1, 1, "MemoryError", "too small")
    assert "in failing" in event["traceback"]
    assert "failed: MemoryError: too small" in " ".join(capsys.readouterr().err.split())
    finetune(replace(settings, resume=True), teacher=answers)
    assert {(e["round"], e["place"]) for e in events(arguments.out, "trial")} >= {(1, 0), (1, 1)}


def test_what_failed_is_not_tried_again_once_a_last_training_has_begun(arguments, monkeypatch):
    settings = replace(arguments, method="plain", max_steps=1)
    with monkeypatch.context() as patch:
        patch.setattr(TextLearner, "fit", broken(MemoryError("too small"), {(1, 1)}))
        patch.setattr(TextLearner, "refit", lambda *given, **named: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            finetune(settings)
    metrics = finetune(replace(settings, resume=True))
    assert [(event["round"], event["place"]) for event in events(arguments.out, "trial")] == [(1, 0)]
    assert [each["error"] for each in metrics["failed"]] == ["MemoryError: too small"]


def test_what_diverges_is_no_class_0(arguments, world, tmp_path):
    """On data of which nine in ten are of the first class, answers that are not numbers were once right so often."""
    rows = [{"text": f"cat {n}", "label": "b" if n % 10 == 0 else "a"} for n in range(40)]
    file = tmp_path / "skewed.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    settings = replace(arguments, train=str(file), dev=str(file), test=str(file), learning_rates=[1e38, 1e-3])
    metrics = finetune(settings, teacher=lambda texts: ["a"] * len(texts))
    assert [trial["theta"] for trial in metrics["rounds"][0]["trials"]] == ["learning_rate=0.001"]
    ((theta, told),) = metrics["rounds"][0]["failed"].items()
    assert "1e+38" in theta
    assert told.startswith("DivergedError: ")
    page = (Path(arguments.out) / "report.html").read_text("utf-8")
    assert "Trials that failed" in page
    assert "DivergedError" in page
    with pytest.raises(DivergedError):
        finetune(replace(settings, learning_rates=[1e38], method="plain", out=str(tmp_path / "alone")))


@pytest.mark.parametrize(("best", "diverges"), [(0, {0}), (1, {1, 2})], ids=["plain", "grown"])
def test_a_last_training_that_diverges_is_not_the_result(arguments, monkeypatch, capsys, diverges, best):
    refit = TextLearner.refit

    def diverged(self, theta, train, slot, **settings):
        trained = refit(self, theta, train, slot, **settings)
        if slot.place not in diverges:
            return trained
        weights = {name: torch.full_like(tensor, torch.nan) for name, tensor in load(trained.read()).items()}
        return replace(trained, weights=save(weights))

    monkeypatch.setattr(TextLearner, "refit", diverged)
    monkeypatch.setattr(
        "bort.agora.growing_run.preferring_grown", lambda result, *_: replace(result, best=result.rounds[best].winner)
    )
    metrics = finetune(arguments, teacher=answers)
    assert "the last training on all labels gave no model" in " ".join(capsys.readouterr().err.split())
    assert metrics["last_training"] is None
    assert metrics["labels_used"]["result"] == metrics["labels_used"]["selection"]
    assert np.isfinite(Predictor(arguments.out).logits([Example("a cat")])).all()


def test_the_time_of_the_teachers_training_counts(arguments, world, monkeypatch):
    clock = iter(range(0, 100_000, 100))
    monkeypatch.setattr(journal, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    settings = replace(arguments, teacher=world.encoder, teacher_fit="full", teacher_learning_rates=[1e-2, 2e-2])
    metrics = finetune(replace(settings, max_steps=1, budget_minutes=100 / 60))
    assert metrics["stopped_early"]
    assert len(events(Path(arguments.out) / "teacher", "trial")) == 1
    assert [len(done["trials"]) for done in metrics["rounds"]] == [1]


def test_time_is_counted_once_however_many_trials_run_and_over_interruptions(arguments):
    run = Run(arguments.out, "finetune", arguments)
    clock = RunClock(run, 1.0)
    for place in range(3):  # side by side, so that each took the 50 seconds
        run.log("trial", place=place, seconds=50.0, elapsed=50.0 + place)
    assert clock.elapsed < 10
    assert 52 <= RunClock(run, 1.0).elapsed < 60
    assert not RunClock(run, 1.0).is_up()
    assert RunClock(run, 0.5).is_up()


def test_plain_fine_tuning_runs_by_workers_too(arguments, tmp_path, assert_same_weights):
    settings, places = replace(arguments, method="plain", max_epochs=3, averaged=2), []

    class Backwards:
        sees_files = False

        def map(self, function, items):
            for result in reversed(list(InProcess().map(pickle.loads(pickle.dumps(function)), items))):
                places.append(result.place)
                yield result

    expected = finetune(settings)
    metrics = finetune(replace(settings, out=str(tmp_path / "else")), workers=Backwards())
    assert places == [1, 0, 1, 0], "two combinations, then two last trainings"
    assert metrics["dev"] == expected["dev"]
    assert_same_weights(arguments.out, tmp_path / "else")
