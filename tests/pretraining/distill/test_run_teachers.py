"""Pre-training with teachers whose answers are kept: what is learned, what resumes, what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM

from bort.errors import BortError
from bort.model.checkpoints import load, save
from bort.model.modelling import BortForMaskedLM
from bort.model.tokenization import load_tokenizer
from bort.predict.sentence_encoder import EmbeddingTeacher
from bort.pretraining.arguments import PretrainArguments
from bort.pretraining.distill.projected_student import Student
from bort.pretraining.init_weights import start_from_teacher_words
from bort.pretraining.pretrain import pretrain


@pytest.fixture
def arguments(world, tmp_path) -> PretrainArguments:
    return world.pretraining(tmp_path, max_steps=8, batch_size=8, learning_rate=3e-3, dropout=0.0)


@pytest.fixture
def embedding(arguments, teacher_folder) -> PretrainArguments:
    return replace(arguments, embedding_teacher=teacher_folder, rows="sentences", distinct_rows=100)


@pytest.fixture
def flat_teacher(world, tiny_tokenizer, tmp_path) -> str:
    """A masked LM of the student's vocabulary, with an opinion of its own."""
    teacher = load(BortForMaskedLM, world.encoder)
    torch.manual_seed(3)
    with torch.no_grad():
        teacher.cls.predictions.bias.copy_(torch.randn(len(tiny_tokenizer)))
    save(teacher, tiny_tokenizer, tmp_path / "teacher")
    return str(tmp_path / "teacher")


def events(run: str, name: str) -> list[dict]:
    lines = Path(run, "journal.jsonl").read_text("utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["event"] == name]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pooling": "first"},
        {"pooling": "both", "token_weight": 1.0, "token_layers": [1, 2], "mlm_weight": 0.5},
        {"rows": "packed", "words_from_teacher": True},
    ],
    ids=["pooled", "first", "all", "packed"],
)
def test_embeddings_come_nearer_to_the_teachers(embedding, settings):
    metrics = pretrain(replace(embedding, max_steps=60, **settings))
    assert metrics["validation_distance"] < 0.7 * metrics["initial_distance"]
    assert ("validation_loss" in metrics) == ("mlm_weight" in settings)
    if "mlm_weight" in settings:
        # Sixty steps on four masked tokens a row teach it next to nothing, but it must not be harmed.
        assert metrics["validation_loss"] < metrics["initial_loss"] + 0.05
    terms = {name for name in events(embedding.out, "step")[0] if name.startswith("loss_")}
    expected = {"loss_embedding", "loss_similarity"}
    assert terms == expected | ({"loss_tokens", "loss_mlm"} if "token_weight" in settings else set())
    model = AutoModelForMaskedLM.from_pretrained(embedding.out)
    assert not any("projection" in name for name in model.state_dict())
    assert Path(embedding.out, "report.html").is_file()


def test_what_was_learned_is_in_the_saved_model(embedding, sentences, teacher_folder, tmp_path):
    """The projection is dropped; a new one, fitted on other texts, finds the teacher's vectors again."""
    pretrain(replace(embedding, max_steps=200))
    pretrain(replace(embedding, out=str(tmp_path / "start"), max_steps=1, learning_rate=1e-9))
    theirs, _, _ = EmbeddingTeacher(teacher_folder, torch.device("cpu")).encode(sentences)

    def unexplained(folder) -> float:
        tokenizer, model = load_tokenizer(folder), AutoModel.from_pretrained(folder).eval()
        with torch.no_grad():
            ours = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state.mean(1)[0] for text in sentences]
        features = np.hstack([torch.stack(ours).numpy(), np.ones((len(sentences), 1))])
        # Half of them drawn at random: every other one would leave out all that end alike.
        half, rest = np.split(np.random.default_rng(0).permutation(len(sentences)), 2)
        found = np.linalg.lstsq(features[half], theirs[half], rcond=None)[0]
        missed, scattered = features[rest] @ found - theirs[rest], theirs[rest] - theirs[half].mean(0)
        return float((missed**2).sum() / (scattered**2).sum())

    assert unexplained(embedding.out) < unexplained(tmp_path / "start")


def test_words_start_where_the_teacher_has_them(tiny_config):
    torch.manual_seed(0)
    student = Student(tiny_config, 12, "mean", (2,))
    vectors = np.random.default_rng(0).normal(size=(tiny_config.vocab_size, 12)).astype(np.float32) + 5
    special = student.bert.embeddings.word_embeddings.weight[:5].clone()
    start_from_teacher_words(student, vectors, [0, 1, 2, 3, 4])
    table = student.bert.embeddings.word_embeddings.weight.detach()
    assert torch.equal(table[:5], special)
    assert (table[5:, 12:] == 0).all()  # 16 dimensions, of which the teacher fills 12
    assert table[5:].std(0)[:12].mean() == pytest.approx(tiny_config.initializer_range, rel=0.3)
    for projection in student.projections.values():
        back = projection.weight.detach() @ table[5:].T
        centred = torch.from_numpy(vectors[5:] - vectors[5:].mean(0)).T
        torch.testing.assert_close(back / back.norm(), centred / centred.norm(), atol=1e-5, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["teacher/embeddings/layer_2.bin", "checkpoints/checkpoint-3/complete.json"])
def test_killed_run_resumes_to_the_same_weights(embedding, tmp_path, killed, assert_same_weights, moment):
    """kill -9 while the teacher is asked, or while the student learns."""
    settings = replace(embedding, token_weight=0.5, mlm_weight=0.5)
    pretrain(settings)
    out = tmp_path / "killed"
    line = ["pretrain", "--corpus", *settings.corpus, "--out", str(out), "--checkpoint_minutes", "0"]
    for name in ("tokenizer", "architecture", "corpus_cache", "max_steps", "batch_size", "sequence_length", "rows"):
        line += [f"--{name}", str(getattr(settings, name))]
    for name in ("learning_rate", "valid_share", "precision", "dropout", "embedding_teacher", "distinct_rows"):
        line += [f"--{name}", str(getattr(settings, name))]
    killed([*line, "--token_weight", "0.5", "--mlm_weight", "0.5"], out, moment)
    assert not (out / "metrics.json").exists()
    pretrain(replace(settings, out=str(out), resume=True, checkpoint_minutes=0.0))
    assert_same_weights(settings.out, out)


def test_the_teacher_reads_what_is_masked_for_the_student(embedding, tmp_path):
    kept = {}
    for weight in (0.0, 1.0):
        cache = tmp_path / f"cache-{weight}"
        settings = replace(embedding, out=str(tmp_path / f"run-{weight}"), teacher_cache=str(cache), token_weight=0.5)
        pretrain(replace(settings, mlm_weight=weight))
        kept[weight] = {file.name: file.read_bytes() for file in (cache / "embeddings").glob("*.bin")}
    assert kept[0.0]
    assert kept[0.0] == kept[1.0]


def test_a_cache_serves_other_runs_and_other_shapes(embedding, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    settings = replace(embedding, teacher_cache=str(cache), token_weight=0.5)
    pretrain(settings)
    before = {file: file.stat().st_mtime_ns for file in cache.rglob("*.bin")}
    assert before
    monkeypatch.setattr(EmbeddingTeacher, "encode", lambda *_: pytest.fail("the teacher was asked"))
    shape = tmp_path / "shape.json"
    shape.write_text(json.dumps({"depth": 1, "heads": 2, "hidden": 8, "intermediate": 8, "positions": 64}))
    other = replace(settings, out=str(tmp_path / "other"), architecture=str(shape), token_weight=0.0, mlm_weight=1.0)
    pretrain(other)
    assert {file: file.stat().st_mtime_ns for file in cache.rglob("*.bin")} == before


def test_a_stale_or_foreign_cache_is_refused(embedding, world, teacher_folder, tmp_path):
    settings = replace(embedding, teacher_cache=str(tmp_path / "cache"))
    pretrain(settings)
    other_text = tmp_path / "other.txt"
    text = Path(world.corpus).read_text("utf-8").replace("apples", "plums!")
    other_text.write_text(text, "utf-8")
    other_teacher = shutil.copytree(teacher_folder, tmp_path / "other-teacher")
    model = AutoModel.from_pretrained(other_teacher)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.add_(1e-3)
    model.save_pretrained(other_teacher)
    changes = {
        "corpus": {"corpus": [str(other_text)], "corpus_cache": str(tmp_path / "other-corpus")},
        "teacher": {"embedding_teacher": str(other_teacher)},
        "seed": {"seed": 1},
        "rows": {"distinct_rows": 99},
        "sequence_length": {"sequence_length": 30},
        "cut": {"rows": "packed"},
    }
    for number, (column, change) in enumerate(changes.items()):
        with pytest.raises(BortError, match=f"{column}.*the cache was made with"):
            pretrain(replace(settings, out=str(tmp_path / str(number)), **change))
    with pytest.raises(BortError, match="the cache keeps pooled of float16"):
        pretrain(replace(settings, out=str(tmp_path / "layers"), token_weight=1.0))


def test_a_cache_of_other_held_out_text_is_refused(embedding, world, tmp_path):
    """The same training text does not make it the same: each tenth document is held out."""
    documents = Path(world.corpus).read_text("utf-8").strip().split("\n\n")
    settings = replace(embedding, teacher_cache=str(tmp_path / "cache"), max_steps=2)
    pretrain(settings)
    held_out = documents[9::10]
    documents[9::10] = reversed(held_out)
    assert held_out != documents[9::10]
    (tmp_path / "other.txt").write_text("\n\n".join(documents) + "\n", "utf-8")
    changed = {"corpus": [str(tmp_path / "other.txt")], "corpus_cache": str(tmp_path / "other-corpus")}
    with pytest.raises(BortError, match=r"held-out.*held_out.*the cache was made with"):
        pretrain(replace(settings, out=str(tmp_path / "other"), **changed))


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_head_that_was_not_trained_is_no_teacher(embedding, arguments, tmp_path, weight):
    pretrain(replace(embedding, max_steps=2, mlm_weight=weight))
    settings = replace(arguments, teacher=embedding.out, out=str(tmp_path / "taught"), max_steps=2)
    if weight:
        assert pretrain(settings)["steps"] == 2
        return
    assert json.loads(Path(embedding.out, "config.json").read_text())["architectures"] == ["BertModel"]
    with pytest.raises(BortError, match="holds no masked-LM head"):
        pretrain(settings)
    # It can be trained on.
    on = replace(arguments, init=embedding.out, architecture="nano", out=str(tmp_path / "on"), max_steps=2)
    assert pretrain(on)["steps"] == 2


def test_cached_distributions_teach_what_live_ones_do(arguments, flat_teacher, tmp_path):
    """With the whole vocabulary kept the two are the same; with a part of it they are close."""
    live = replace(arguments, teacher=flat_teacher, learning_rate=1e-2, max_steps=20)
    kept = replace(live, teacher_cache=str(tmp_path / "cache"), teacher_top_k=400, teacher_dtype="fp32")
    few = replace(live, teacher_cache=str(tmp_path / "few"), teacher_top_k=64, teacher_tail=64)
    runs = {name: replace(settings, out=str(tmp_path / name)) for name, settings in (("live", live), ("kept", kept))}
    runs["few"] = replace(few, out=str(tmp_path / "few-run"))
    curves = {}
    for name, settings in runs.items():
        # Masks that do not depend on whether answers are kept: one epoch of distinct rows.
        pretrain(replace(settings, distinct_rows=160, kd_weight=1.0))
        curves[name] = [(e["loss_kd"], e["loss_mlm"]) for e in events(settings.out, "step")]
    np.testing.assert_allclose(curves["kept"][0], curves["live"][0], rtol=0.1)  # other masks, the same text
    assert curves["kept"][-1][0] < 0.8 * curves["kept"][0][0]
    np.testing.assert_allclose(np.mean(curves["few"], 0), np.mean(curves["kept"], 0), rtol=0.05)


def test_cached_distributions_need_the_same_masks_and_temperature(arguments, flat_teacher, tmp_path):
    settings = replace(arguments, teacher=flat_teacher, teacher_cache=str(tmp_path / "cache"), max_steps=2)
    pretrain(settings)
    for column, change in {"masks": {"mask_probability": 0.3}, "temperature": {"temperature": 1.0}}.items():
        with pytest.raises(BortError, match=f"{column}.*the cache was made with"):
            pretrain(replace(settings, out=str(tmp_path / column), **change))
    with pytest.raises(BortError, match=r"rows.*the cache was made with 16"):
        pretrain(replace(settings, out=str(tmp_path / "longer"), max_steps=4))
    metrics = pretrain(replace(settings, out=str(tmp_path / "again"), max_steps=4, distinct_rows=16))
    assert metrics["steps"] == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher_cache": "x"}, "teacher-cache.*needs a --teacher"),
        ({"words_from_teacher": True}, "words-from-teacher.*needs an --embedding-teacher"),
        (
            {"embedding_teacher": "t", "words_from_teacher": True, "init": "bort-nano"},
            "leave --init and --init-from out",
        ),
        ({"embedding_teacher": "t", "max_steps": None, "max_minutes": 1.0}, "--distinct-rows"),
        ({"teacher": "t", "teacher_cache": "x", "kd_loss": "as-released"}, "kd-loss"),
        ({"embedding_teacher": "t", "token_layers": [1]}, "token-layers.*needs a --token-weight"),
        ({"embedding_teacher": "t", "token_weight": 1.0, "token_layers": [3]}, "token-layers.*1 to 2"),
        ({"teacher_top_k": 0}, "teacher-top-k"),
        ({"teacher_tail": -1}, "teacher-tail"),
        ({"embedding_weight": -1.0}, "embedding-weight"),
        ({"distinct_rows": 0}, "distinct-rows"),
        ({"embedding_teacher": "/nosuch"}, "no such folder"),
    ],
)
def test_bad_settings(arguments, teacher_folder, change, message):
    change = {name: teacher_folder if value == "t" and "embedding" in name else value for name, value in change.items()}
    with pytest.raises(BortError, match=message):
        pretrain(replace(arguments, **change))
    assert not Path(arguments.corpus_cache).exists(), "before the text is tokenised"


def test_more_rows_than_the_corpus_has(embedding):
    with pytest.raises(BortError, match=r"distinct-rows.*rows of the corpus"):
        pretrain(replace(embedding, distinct_rows=10**6))
