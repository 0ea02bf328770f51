import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, BertForPreTraining, BertModel

from bort.data.corpus.build import build_corpus
from bort.data.corpus.corpus import open_corpus
from bort.errors import BortError
from bort.model.checkpoints import load, save
from bort.model.config import IGNORED
from bort.model.modelling import BortForMaskedLM
from bort.model.tokenization import load_tokenizer, train_tokenizer
from bort.pretraining.arguments import PretrainArguments
from bort.pretraining.distill.mlm_teacher import MaskedLMTeacher
from bort.pretraining.pretrain import pretrain
from bort.pretraining.report import pretrain_report
from bort.pretraining.rows import RowSource
from bort.pretraining.run_corpus import tokenised
from bort.pretraining.trainer import RunCallback
from bort.pretraining.validation import unigram_score
from bort.report import Report
from bort.runs import Run


@pytest.fixture
def arguments(world, tmp_path) -> PretrainArguments:
    return world.pretraining(tmp_path, max_steps=12, batch_size=4, learning_rate=1e-3)


def test_learns_and_leaves_a_whole_run(arguments, page_of_files):
    metrics = pretrain(replace(arguments, max_steps=200, batch_size=16, learning_rate=1e-2, dropout=0.0))
    assert metrics["steps"] == 200
    assert metrics["tokens"] == 200 * 16 * 32
    assert metrics["validation_loss"] < metrics["unigram_loss"] - 0.1
    assert metrics["validation_accuracy"] > metrics["unigram_accuracy"]
    assert metrics["unigram_loss"] - 0.1 < metrics["initial_loss"] < metrics["unigram_loss"] + 0.5
    run = arguments.out
    for name in ("config.yaml", "environment.json", "journal.jsonl", "metrics.json", "report.html", "tokenizer.json"):
        assert Path(run, name).read_text("utf-8").strip(), name
    model = AutoModelForMaskedLM.from_pretrained(run)
    assert type(model).__name__ == "BertForMaskedLM"
    assert model.config.hidden_dropout_prob == 0.1
    events = [json.loads(line)["event"] for line in Path(run, "journal.jsonl").read_text("utf-8").splitlines()]
    assert events[0] == "started"
    assert events[-1] == "finished"
    assert events.count("validation") == 11
    page = Path(run, "report.html").read_text("utf-8")
    assert page == page_of_files(pretrain_report, run, "step", "validation")


def test_same_seed_same_weights_other_seed_other_weights(arguments, tmp_path, weights, assert_same_weights):
    pretrain(arguments)
    pretrain(replace(arguments, out=str(tmp_path / "again")))
    pretrain(replace(arguments, out=str(tmp_path / "other"), seed=1))
    assert_same_weights(arguments.out, tmp_path / "again")
    name = "bert.encoder.layer.0.output.dense.weight"
    assert not torch.equal(weights(arguments.out)[name], weights(tmp_path / "other")[name])


@pytest.mark.slow
def test_killed_run_resumes_to_the_same_weights(arguments, world, tmp_path, killed, assert_same_weights):
    """kill -9 at a checkpoint in the middle, with dropout and all, then --resume: bit for bit the uninterrupted run."""
    pretrain(arguments)
    out = tmp_path / "killed"
    resumed = replace(arguments, out=str(out), checkpoint_minutes=0.0)
    line = ["pretrain", "--corpus", world.corpus, "--tokenizer", world.tokenizer, "--out", str(out)]
    for name in ("architecture", "corpus_cache", "max_steps", "batch_size", "sequence_length", "learning_rate"):
        line += [f"--{name}", str(getattr(resumed, name))]
    line += ["--valid_share", "0.1", "--precision", "fp32", "--checkpoint_minutes", "0"]
    killed(line, out, "checkpoints/checkpoint-5/complete.json")
    assert not (out / "metrics.json").exists()
    pretrain(replace(resumed, resume=True))
    assert_same_weights(arguments.out, out)


def test_resume_takes_no_other_settings(arguments):
    pretrain(arguments)
    with pytest.raises(BortError, match="learning_rate"):
        pretrain(replace(arguments, resume=True, learning_rate=1e-5))
    with pytest.raises(BortError, match="--resume"):
        pretrain(arguments)


def test_finished_run_resumes_to_its_figures(arguments):
    assert pretrain(arguments) == pretrain(replace(arguments, resume=True))


def test_a_kept_corpus_is_not_taken_for_that_of_an_edited_text(arguments, tmp_path):
    text = tmp_path / "text.txt"
    shutil.copy(arguments.corpus[0], text)
    settings = replace(arguments, corpus=[str(text)], max_steps=1)
    pretrain(settings)
    pretrain(replace(settings, out=str(tmp_path / "again")))
    with pytest.raises(BortError, match=r"was made with 0\.1"):
        pretrain(replace(settings, out=str(tmp_path / "share"), valid_share=0.2))
    with open(text, "a", encoding="utf-8") as file:
        file.write("One more line.\n")
    with pytest.raises(BortError, match=r"holds the corpus of text\.txt as it was when it was tokenised"):
        pretrain(replace(settings, out=str(tmp_path / "edited")))


def test_a_run_does_not_go_on_with_another_corpus(arguments, tmp_path, sentences, tiny_tokenizer):
    text, corpus, begun = tmp_path / "text.txt", tmp_path / "corpus", Run(arguments.out, "pretrain", arguments)

    def opened(run):
        shutil.rmtree(corpus, ignore_errors=True)
        build_corpus([str(text)], tiny_tokenizer, corpus, valid_share=0.1)
        return tokenised([str(corpus)], tiny_tokenizer, None, valid_share=0.1, run=run)

    text.write_text("\n\n".join(sentences), "utf-8")
    opened(begun)
    run = Run(arguments.out, "pretrain", arguments, resume=True)
    opened(run)
    text.write_text("\n\n".join(sentences[::-1]), "utf-8")
    with pytest.raises(BortError, match="the corpus data have changed since the run to resume began"):
        opened(run)


def test_a_run_does_not_go_on_with_another_teacher(arguments, world, tmp_path, monkeypatch):
    teacher = shutil.copytree(world.encoder, tmp_path / "teacher")
    settings = replace(arguments, teacher=str(teacher))
    with monkeypatch.context() as killed:
        killed.setattr("bort.pretraining.pretrain.TrainingRun", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pretrain(settings)
    before = (teacher / "config.json").read_bytes()
    (teacher / "config.json").write_bytes(before + b" ")
    with pytest.raises(BortError, match="the files of --teacher have changed since the run to resume began"):
        pretrain(replace(settings, resume=True))
    (teacher / "config.json").write_bytes(before)
    journal = Path(arguments.out, "journal.jsonl")
    lines = [line for line in journal.read_text("utf-8").splitlines(True) if "--teacher" not in line]
    journal.write_text("".join(lines), "utf-8")  # as version 0.1.0 left it
    assert pretrain(replace(settings, resume=True))["steps"] == 12


def test_what_a_process_killed_at_the_end_of_tokenising_left_is_removed(arguments, tmp_path, sentences, tiny_tokenizer):
    (tmp_path / "text.txt").write_text("\n\n".join(sentences), "utf-8")
    given, corpus = [str(tmp_path / "text.txt")], tmp_path / "kept"
    build_corpus(given, tiny_tokenizer, corpus, valid_share=0.1)
    (tmp_path / ".kept.tokenising").mkdir()
    run = Run(arguments.out, "pretrain", arguments)
    tokenised(given, tiny_tokenizer, str(corpus), valid_share=0.1, run=run)
    assert not (tmp_path / ".kept.tokenising").exists()


def test_too_little_held_out_text_is_told_of_as_such(arguments):
    rule = "the held-out part of the corpus has too little text for one row of 64 tokens; raise --valid-share"
    with pytest.raises(BortError, match=rule):
        pretrain(replace(arguments, sequence_length=64, valid_share=0.001))


def test_a_model_of_another_vocabulary_is_not_gone_on_with(arguments):
    with pytest.raises(BortError, match=r"init.*must have the vocabulary of --tokenizer"):
        pretrain(replace(arguments, init="bort-nano", architecture="nano"))
    assert not Path(arguments.out).exists()


@pytest.mark.parametrize("lacking", [["cls_token", "pad_token"], ["mask_token"]])
def test_a_tokenizer_without_the_special_tokens_is_refused(arguments, tmp_path, tiny_tokenizer, lacking):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    for name in lacking:
        setattr(tokenizer, name, None)
    tokenizer.save_pretrained(tmp_path / "bare")
    with pytest.raises(BortError, match=f"--tokenizer.*must have a {', '.join(lacking)}"):
        pretrain(replace(arguments, tokenizer=str(tmp_path / "bare")))
    assert not Path(arguments.out).exists()


def test_goes_on_from_a_model(arguments, world, tmp_path, weights):
    settings = replace(arguments, init=world.encoder, architecture="nano", max_steps=1, learning_rate=1e-9)
    metrics = pretrain(settings)
    assert metrics["initial_loss"] == pytest.approx(metrics["validation_loss"], abs=1e-3)
    name = "bert.encoder.layer.0.output.dense.weight"
    torch.testing.assert_close(weights(arguments.out)[name], weights(world.encoder)[name], atol=1e-6, rtol=0)


def test_distils_from_a_teacher(arguments, tmp_path, tiny_tokenizer, world):
    """With the distillation term alone: the KL draws the student to its teacher, the released loss hardly does."""
    teacher = load(BortForMaskedLM, world.encoder)
    with torch.no_grad():
        teacher.cls.predictions.bias.copy_(2 * torch.randn(len(tiny_tokenizer)))
    folder = str(tmp_path / "teacher")
    save(teacher, tiny_tokenizer, folder)
    settings = replace(
        arguments, teacher=folder, mlm_weight=0.0, kd_weight=1.0, dropout=0.0, learning_rate=2e-2, max_steps=60
    )
    pretrain(replace(settings, out=str(tmp_path / "start"), max_steps=1, learning_rate=1e-9))
    start = divergence(folder, tmp_path / "start", arguments)
    distances = {}
    for kind in ("kl", "as-released"):
        pretrain(replace(settings, out=str(tmp_path / kind), kd_loss=kind))
        distances[kind] = divergence(folder, tmp_path / kind, arguments)
    assert distances["kl"] < 0.5 * start
    assert distances["kl"] < 0.7 * distances["as-released"]


def divergence(teacher, student, arguments) -> float:
    corpus = open_corpus(arguments.corpus_cache)
    ids = torch.from_numpy(corpus.tokens("valid")[:320].astype(np.int64)).reshape(10, 32)
    with torch.no_grad():
        p, q = (load(BortForMaskedLM, m).eval()(input_ids=ids).logits.log_softmax(-1) for m in (teacher, student))
    return float((p.exp() * (p - q)).sum(-1).mean())


def test_teacher_of_another_vocabulary_is_refused(arguments, world, tmp_path, sentences, tiny_config):
    other = train_tokenizer([s.upper() for s in sentences], vocab_size=400)
    save(BortForMaskedLM(tiny_config), other, tmp_path / "teacher")
    with pytest.raises(BortError, match="student's vocabulary"):
        pretrain(replace(arguments, teacher=str(tmp_path / "teacher")))
    assert not Path(arguments.corpus_cache).exists(), "before the text is tokenised"


def test_teacher_without_a_head_is_refused(arguments, world, tmp_path, tiny_tokenizer):
    """Such as the hub's amazon/bort, whose converter dropped the head: a random one would teach noise."""
    save(load(BertModel, world.encoder), tiny_tokenizer, tmp_path / "encoder")
    with pytest.raises(BortError, match="masked-LM head"):
        pretrain(replace(arguments, teacher=str(tmp_path / "encoder")))


def test_a_teacher_must_take_the_rows(world, tiny_tokenizer):
    with pytest.raises(BortError, match="must take the 65 tokens of a row"):
        MaskedLMTeacher(world.encoder, tiny_tokenizer.get_vocab(), torch.device("cpu"), longest=65)


def test_teacher_decodes_the_masked_positions_only(world, tiny_tokenizer):
    teacher = MaskedLMTeacher(world.encoder, tiny_tokenizer.get_vocab(), torch.device("cpu"))
    ids = torch.randint(5, 300, (3, 16))
    labels = torch.full_like(ids, IGNORED)
    labels[0, 3], labels[2, 7] = 9, 11
    full = teacher.model(input_ids=ids).logits
    torch.testing.assert_close(teacher.logits(ids, labels), torch.stack([full[0, 3], full[2, 7]]))


def test_roberta_teacher(tmp_path, tiny_tokenizer):
    """RoBERTa counts positions from 2 and keeps its head elsewhere."""
    from transformers import RobertaConfig, RobertaForMaskedLM

    config = RobertaConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=66,
        pad_token_id=1,
    )
    save(RobertaForMaskedLM(config), tiny_tokenizer, tmp_path / "roberta")
    teacher = MaskedLMTeacher(str(tmp_path / "roberta"), tiny_tokenizer.get_vocab(), torch.device("cpu"))
    ids = torch.randint(5, 300, (2, 16))
    labels = torch.full_like(ids, IGNORED)
    labels[1, 5] = 9
    torch.testing.assert_close(teacher.logits(ids, labels)[0], teacher.model(input_ids=ids).logits[1, 5])


def test_the_head_of_a_bert_for_pre_training_is_inherited(arguments, tiny_config, tiny_tokenizer, tmp_path, weights):
    """Its name in `config.json` is not the usual one."""
    torch.manual_seed(5)
    save(BertForPreTraining(tiny_config), tiny_tokenizer, tmp_path / "both")
    settings = replace(arguments, init_from=str(tmp_path / "both"), max_steps=1, learning_rate=1e-9, dropout=0.0)
    pretrain(settings)
    name = "cls.predictions.transform.dense.weight"
    torch.testing.assert_close(weights(settings.out)[name], weights(tmp_path / "both")[name], atol=1e-6, rtol=0)


def test_divergence_is_told(arguments):
    with pytest.raises(BortError, match="diverged"):
        pretrain(replace(arguments, learning_rate=1e30, warmup=0.0))
    assert "finished" not in Path(arguments.out, "journal.jsonl").read_text("utf-8")
    late = replace(arguments, learning_rate=1e30, warmup=0.0, max_steps=None, max_minutes=0.02, accumulate=16)
    with pytest.raises(BortError, match="diverged"):  # before the first step that is logged anyway
        pretrain(replace(late, out=f"{arguments.out}-late"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_steps": None}, "--max-steps or --max-minutes"),
        ({"max_steps": 0}, "max-steps"),
        ({"max_minutes": -1.0}, "max-minutes"),
        ({"batch_size": 0}, "batch-size"),
        ({"sequence_length": 4}, "sequence-length"),
        ({"sequence_length": 65}, "64 positions"),
        ({"mask_probability": 1.0}, "mask-probability"),
        ({"warmup": 1.0}, "warmup"),
        ({"temperature": 0.0}, "temperature"),
        ({"dropout": 1.0}, "dropout"),
        ({"architecture": "nosuch"}, "preset"),
        ({"mlm_weight": 0.0}, "mlm-weight.*above 0 without a teacher"),
        ({"teacher": "t", "mlm_weight": 0.0, "kd_weight": 0.0}, "--mlm-weight, --kd-weight must be above 0"),
        ({"embedding_teacher": "t", "embedding_weight": 0.0, "similarity_weight": 0.0}, "one of --mlm-weight.*no loss"),
        ({"temperature": 9.0}, "temperature.*needs a --teacher"),
        ({"embedding_teacher": "t", "kd_weight": 1.0}, "kd-weight.*needs a --teacher"),
        ({"teacher": "t", "teacher_tail": 0}, "teacher-tail.*needs a --teacher and a --teacher-cache"),
        ({"teacher": "t", "teacher_dtype": "fp32"}, "teacher-dtype.*needs an --embedding-teacher, or"),
        ({"teacher": "t", "similarity_weight": 1.0}, "similarity-weight.*needs an --embedding-teacher"),
        ({"embedding_teacher": "t", "mask_probability": 0.5}, "mask-probability.*nothing is masked"),
        ({"init": "m", "position_init": "fixed"}, "position-init.*cannot be combined with --init"),
        ({"init_from": "m", "position_init": "fixed"}, "position-init.*cannot be combined with --init"),
        ({"tokenizer": "/nosuch"}, "no such folder"),
        ({"corpus": ["/nosuch.txt"]}, "no such file"),
    ],
)
def test_bad_settings(arguments, change, message):
    with pytest.raises(BortError, match=message):
        pretrain(replace(arguments, **change))


def test_what_a_resumed_run_repeats_is_told_once(arguments, monkeypatch):
    settings, told = replace(arguments, max_steps=6), []
    with monkeypatch.context() as patch:
        on_log, asked = RunCallback.on_log, iter(range(9))

        def killed(self, args, state, control, **rest):
            on_log(self, args, state, control, **rest)
            if state.global_step == 4:
                raise KeyboardInterrupt

        patch.setattr(RunCallback, "on_log", killed)
        patch.setattr(RunCallback, "_due", lambda self: next(asked) == 1)  # at step 2
        with pytest.raises(KeyboardInterrupt):
            pretrain(settings)
    page = "bort.pretraining.training_run.pretrain_report"
    monkeypatch.setattr(page, lambda *given: told.extend(given) or Report("", ""))
    pretrain(replace(settings, resume=True))
    name, _, losses, evaluations = told
    assert name == "run"
    assert [event["step"] for event in losses] == [1, 2, 3, 4, 5, 6]
    assert [event["step"] for event in evaluations] == [0, 1, 2, 3, 4, 5, 6]
    assert not Path(arguments.out, "checkpoints").exists()


def test_each_held_out_row_is_compared_once(arguments, tiny_tokenizer, tmp_path):
    corpus = build_corpus(arguments.corpus, tiny_tokenizer, tmp_path / "corpus", valid_share=0.1)
    rows = RowSource(replace(arguments, rows="sentences"), corpus, tiny_tokenizer).compared()
    assert len(rows) == rows.available < 512


def test_unigram_by_hand():
    """Frequencies 3:1 over ids 5 and 6 (plus one each over 8 ids); the guess is always 5."""

    class Rows:
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return {"labels": np.array([IGNORED, 5, 6, 5])}

    score = unigram_score(np.array([5, 5, 5, 6], dtype=np.uint16), Rows(), vocab_size=8)
    assert score.accuracy == pytest.approx(2 / 3)
    assert score.loss == pytest.approx(-(2 * np.log(4 / 12) + np.log(2 / 12)) / 3)


def test_minutes_bound_the_run(arguments):
    metrics = pretrain(replace(arguments, max_steps=None, max_minutes=0.03))
    assert metrics["steps"] >= 1
    assert metrics["seconds"] >= 1.8


def test_fixed_positions_stay_and_let_longer_texts_in(arguments, weights):
    name = "bert.embeddings.position_embeddings.weight"
    tables = []
    for steps in (1, 12):
        settings = replace(arguments, out=f"{arguments.out}-{steps}", max_steps=steps, position_init="fixed")
        pretrain(settings)
        tables.append(weights(settings.out)[name])
        assert load_tokenizer(settings.out).model_max_length == 64
    assert torch.equal(*tables)


def test_tokenizer_travels_with_the_model(arguments, world):
    pretrain(arguments)
    text = "The old baker sold a broken clock."
    assert load_tokenizer(arguments.out)(text).input_ids == load_tokenizer(world.tokenizer)(text).input_ids
    assert load_tokenizer(arguments.out).model_max_length == arguments.sequence_length


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="torch.compile needs a C compiler")
def test_compiled_training_is_the_same_and_compiles_twice_at_most(arguments, tmp_path, weights):
    """Rows have one length; where documents end in some, the number of masked positions differs by a few.

    So what follows the encoder is compiled for the first number, then for any.
    """
    settings = replace(arguments, dropout=0.0, sequence_length=64, mask_probability=0.1575)
    pretrain(settings)
    compiled = str(tmp_path / "compiled")
    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=2, fail_on_recompile_limit_hit=True):
        pretrain(replace(settings, out=compiled, compile=True))
    curves = [
        [event["loss"] for event in journal(out) if event["event"] == "step"] for out in (arguments.out, compiled)
    ]
    assert len(curves[0]) == arguments.max_steps
    assert curves[0] == pytest.approx(curves[1], abs=2e-4)
    for name, tensor in weights(arguments.out).items():
        torch.testing.assert_close(weights(compiled)[name], tensor, atol=2e-5, rtol=1e-4)
    assert not any("_orig_mod" in name for name in weights(compiled))


def journal(out) -> list[dict]:
    return [json.loads(line) for line in Path(out, "journal.jsonl").read_text("utf-8").splitlines()]
