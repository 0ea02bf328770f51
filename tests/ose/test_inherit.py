"""The search over the parts of a trained encoder: they start from its weights, and learn its embeddings or logits."""

from __future__ import annotations

import json
import pickle
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from bort.bounds import validate
from bort.errors import BortError
from bort.model.checkpoints import load
from bort.model.config import count_parameters
from bort.ose.arguments import ExtractArguments
from bort.ose.embedding_lesson import apart
from bort.ose.extract import extract
from bort.ose.inherited import InheritedEncoder
from bort.ose.plan import make_plan
from bort.ose.resolve import embeddings_of
from bort.ose.short_training import LEAST_ERROR, Training, train, untrained_error
from bort.ose.space import SearchSpace, Shape, around
from bort.ose.texts import TextRows, draw
from bort.predict.sentence_folder import write_sentence_files
from bort.predict.sentence_modules import read_modules
from bort.workers import InProcess

SPACE = "depth: [1, 2]\nheads: [1, 2]\nhidden: [12]\nintermediate: [12, 24]\nvocabulary: [150, {whole}]\n"


@pytest.fixture
def lines(sentences, tmp_path) -> str:
    (tmp_path / "texts.txt").write_text("\n".join(sentences), "utf-8")
    return str(tmp_path / "texts.txt")


@pytest.fixture
def arguments(teacher_folder, lines, tmp_path) -> ExtractArguments:
    """A search over 16 parts of a tiny sentence encoder, T among them."""
    whole = len(AutoTokenizer.from_pretrained(teacher_folder))
    (tmp_path / "space.yaml").write_text(SPACE.format(whole=whole), "utf-8")
    return ExtractArguments(
        corpus=[lines],
        out=str(tmp_path / "run"),
        inherit=teacher_folder,
        space=str(tmp_path / "space.yaml"),
        epsilon=3,
        steps=4,
        rows_per_step=4,
        row_length=24,
        sequence_length=24,
        held_out_rows=16,
        learning_rates=[1e-3],
        repeats=2,
        precision="fp32",
    )


@pytest.fixture
def lesson(arguments, tmp_path):
    inherited = InheritedEncoder.load(arguments.inherit)
    plan = make_plan(arguments, inherited.config.vocab_size, inherited)
    return embeddings_of(arguments, plan, inherited, arguments.steps, tmp_path / "teacher"), plan


def events(run, name):
    lines = map(json.loads, (Path(run) / "journal.jsonl").read_text("utf-8").splitlines())
    return [event for event in lines if event["event"] == name]


def found(metrics):
    """What must be the same again."""
    kept = ("architecture", "coefficient", "error", "maximum", "top", "noise", "agreement_with_half_the_steps", "steps")
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in metrics["candidates"]]
    return {name: metrics[name] for name in kept} | {"candidates": rows}


# The whole way


def test_the_parts_of_a_sentence_encoder_are_searched(arguments, teacher_folder, tmp_path):
    pooled_first = Path(shutil.copytree(teacher_folder, tmp_path / "sentence-encoder"))
    (pooled_first / "1_Pooling").mkdir()
    (pooled_first / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
    (pooled_first / "modules.json").write_text(json.dumps(modules))
    metrics = extract(replace(arguments, inherit=str(pooled_first)))
    run = Path(arguments.out)
    theirs = load(AutoModel, teacher_folder)
    whole = theirs.config.vocab_size
    assert metrics["outputs"] == "embeddings"
    assert Shape.of(metrics["maximum"]) == Shape(2, 2, 12, 24, whole)
    encoder = sum(p.numel() for name, p in theirs.named_parameters() if "pooler" not in name)
    assert metrics["maximum"]["parameters"] == encoder
    assert len(metrics["candidates"]) == 5
    for row in metrics["candidates"]:
        assert 0 < row["error"] < row["untrained_error"], "it learns something"
    for row, name in zip(metrics["candidates"], metrics["top"], strict=False):
        model, tokenizer = AutoModel.from_pretrained(run / name), AutoTokenizer.from_pretrained(run / name)
        assert model.config.num_hidden_layers == row["depth"]
        assert model.config.vocab_size == len(tokenizer) == row["vocabulary"]
        assert sum(p.numel() for n, p in model.named_parameters() if "pooler" not in n) == row["parameters"]
    assert json.loads((run / metrics["top"][0] / "1_Pooling" / "config.json").read_text())["pooling_mode_cls_token"]
    page = (run / "report.html").read_text("utf-8")
    for said in ("Pareto front", "D,A,H,I,V", "1 - cosine to the teacher", "level with the best W", "another seed"):
        assert said in page
    assert page.index("The Pareto front") < page.index("W alone would take") < page.index("W by candidate")
    described = json.loads((run / "architecture.json").read_text("utf-8"))
    assert described["vocab_size"] == metrics["architecture"]["vocabulary"]
    assert metrics["level"][0] == ",".join(map(str, metrics["architecture"].values()))


@pytest.mark.parametrize("source", ["folder", "acme/encoder"])
def test_the_modules_of_a_folder_or_hub_model_are_copied(monkeypatch, tmp_path, source):
    folder = tmp_path / "hub"
    write_sentence_files(folder, 12, 32, "cls", normalizes=True, lowercase=True, prompt="The old: ")
    (folder / "config.json").write_text("{}")
    found = lambda name, file, **_: str(folder / file) if (folder / file).is_file() else None  # noqa: E731
    monkeypatch.setattr("transformers.utils.cached_file", found)
    named = str(folder) if source == "folder" else source
    inherited = InheritedEncoder(named, None, None, None)
    inherited.copy_modules(tmp_path / "member")
    copied = read_modules(str(tmp_path / "member"))
    assert copied.described == read_modules(named).described
    assert (copied.poolings, copied.prompt, copied.lowercase, copied.normalizes) == (("cls",), "The old: ", True, True)
    assert not (tmp_path / "member" / "config.json").exists()
    listed = [{"type": "sentence_transformers.models.Transformer", "path": "../x"}]
    (folder / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(BortError, match="must name folders inside of this one"):
        inherited.copy_modules(tmp_path / "member")


def test_of_a_masked_lm_the_predictions_are_learned(arguments, world, tmp_path):
    space = "depth: [1, 2]\nheads: [1, 2]\nhidden: [8, 16]\nintermediate: [8, 24]\n"
    (tmp_path / "logits.yaml").write_text(space, "utf-8")
    settings = replace(
        arguments,
        inherit=world.encoder,
        corpus=[world.corpus],
        space=str(tmp_path / "logits.yaml"),
        valid_share=0.1,
        held_out_rows=6,
    )
    metrics = extract(settings)
    assert metrics["outputs"] == "logits"
    assert metrics["teacher"] == metrics["inherited"] == world.encoder
    assert metrics["maximum"]["depth"] == 2
    assert all(row["error"] > metrics["teacher_entropy"] for row in metrics["candidates"])
    best = AutoModelForMaskedLM.from_pretrained(Path(settings.out) / metrics["top"][0])
    assert count_parameters(best.config).total == metrics["candidates"][0]["parameters"]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["teacher/train-150/cache.json", "candidates/*/config.json", "candidates-8"])
def test_a_killed_run_resumes_to_the_same_answer(arguments, tmp_path, killed, moment, assert_same_weights):
    settings = replace(arguments, max_steps=8, rank_agreement=1.0)
    expected = extract(settings)
    out = tmp_path / "killed"
    words = ["extract", "--corpus", *settings.corpus, "--out", str(out)]
    for name in ("inherit", "space", "epsilon", "steps", "max_steps", "rank_agreement", "rows_per_step", "row_length"):
        words += [f"--{name}", str(getattr(settings, name))]
    for name in ("sequence_length", "held_out_rows", "repeats", "precision"):
        words += [f"--{name}", str(getattr(settings, name))]
    killed([*words, "--learning-rates", "1e-3"], out, moment)
    assert not (out / "metrics.json").exists()
    metrics = extract(replace(settings, out=str(out), resume=True))
    assert found(metrics) == found(expected)
    trained = [(event["steps"], *event["shape"]) for event in events(out, "candidate")]
    assert len(trained) == len(set(trained)) == 10  # none twice
    for name in metrics["top"]:
        assert_same_weights(Path(settings.out) / name, out / name)


def test_a_search_does_not_go_on_with_another_encoder(arguments, teacher_folder, tmp_path, monkeypatch):
    """Its teacher is another model, so the outputs that are kept do not tell."""
    inherit = shutil.copytree(teacher_folder, tmp_path / "inherit")
    settings = replace(arguments, inherit=str(inherit), teacher=teacher_folder)
    with monkeypatch.context() as killed:
        killed.setattr("bort.ose.extract.SearchRun", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            extract(settings)
    (inherit / "config.json").write_bytes((inherit / "config.json").read_bytes() + b" ")
    with pytest.raises(BortError, match="the files of --inherit have changed since the run to resume began"):
        extract(replace(settings, resume=True))


def test_steps_are_doubled_until_ranks_agree(arguments, monkeypatch, tmp_path):
    monkeypatch.setattr("bort.ose.search_run.rank_agreement", lambda *errors: next(told))
    told = iter([0.2, None, 0.95])
    metrics = extract(replace(arguments, steps=1, max_steps=100, repeats=0))
    assert metrics["agreement_with_half_the_steps"] == {"2": 0.2, "4": None, "8": 0.95}
    assert metrics["steps"] == 8
    assert metrics["noise"] == {"band": None, "repeated": []}
    assert not any(row["level"] for row in metrics["candidates"])
    assert {event["steps"] for event in events(arguments.out, "candidate")} == {1, 2, 4, 8}
    assert not list(Path(arguments.out).glob("candidates-*"))
    told = iter([0.1])
    few = replace(arguments, steps=1, max_steps=3, repeats=0, out=str(tmp_path / "few"))
    assert extract(few)["steps"] == 2
    # A resumed search that trains a failed candidate again stops at the same number of steps.
    Path(few.out, "metrics.json").unlink()
    told = iter([])
    assert extract(replace(few, resume=True))["agreement_with_half_the_steps"] == {"2": 0.1}


def test_a_bound_on_the_distance_to_the_teacher(arguments, tmp_path):
    errors = sorted(row["error"] for row in extract(arguments)["candidates"])
    bound = (errors[0] + errors[1]) / 2
    bounded = extract(replace(arguments, max_error=bound, out=str(tmp_path / "bounded")))
    assert bounded["error"] == errors[0]
    with pytest.raises(BortError, match=r"max-error.*no candidate keeps the bound; the nearest, ⟨"):
        extract(replace(arguments, max_error=errors[0] / 2, out=str(tmp_path / "none")))


def test_candidates_may_be_trained_elsewhere(arguments, tmp_path, assert_same_weights):
    class Elsewhere:
        sees_files = False

        def map(self, function, items):
            return InProcess().map(pickle.loads(pickle.dumps(function)), items)

    expected = extract(arguments)
    elsewhere = extract(replace(arguments, out=str(tmp_path / "else")), workers=Elsewhere())
    assert found(elsewhere) == found(expected)
    for name in expected["top"]:
        assert_same_weights(Path(arguments.out) / name, tmp_path / "else" / name)


def test_without_a_space_it_lies_around_the_encoder(arguments):
    metrics = extract(replace(arguments, space=None, epsilon=9, steps=1, repeats=0))
    assert metrics["members"] == 2 * 2 * 3 * 2  # a quarter of the vocabulary has not all characters
    assert {row["hidden"] for row in metrics["candidates"]} == {12}


def test_long_parts_of_the_work_are_told(arguments, monkeypatch, capsys):
    monkeypatch.setattr("bort.progress._SECONDS_BETWEEN_LINES", 0.0)
    extract(arguments)
    told = capsys.readouterr().err
    assert "counting tokens: 100 %" in told
    assert "training again: 0 % after 0 s ⟨" in told
    assert "step 4 of 4" in told
    assert "training again: 100 %" in told


def test_another_teacher_than_t_is_told(arguments, tmp_path, teacher_folder, capsys):
    deeper = load(AutoModel, teacher_folder)
    deeper.config.num_hidden_layers = 1
    deeper.encoder.layer = deeper.encoder.layer[:1]
    deeper.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(teacher_folder).save_pretrained(tmp_path / "other")
    extract(replace(arguments, teacher=str(tmp_path / "other"), steps=1, repeats=0))
    assert "the teacher is ⟨1,2,12,24" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"maximum": "2,2,12,24"}, "maximum.*cannot be combined with --inherit"),
        ({"tokenizer": "bort-nano"}, "tokenizer.*cannot be combined with --inherit"),
        ({"positions": 64}, "positions.*cannot be combined with --inherit"),
        ({"error": "kl"}, "error.*this search learns embeddings"),
        ({"valid_share": 0.3}, "valid-share.*this search learns embeddings"),
        ({"outputs": "logits"}, "outputs.*masked-LM head"),
        ({"inherit": None, "maximum": "2,2,12,24"}, "vocabulary.*with --inherit only"),
        ({"max_steps": 7}, "max-steps.*at least twice the 4 steps"),
        ({"row_length": 65, "positions": 512}, "row-length.*at most the 64 positions"),
        ({"sequence_length": 65, "max_latency_ms": 1e6}, "sequence-length.*at most the 64 positions"),
        ({"space": "depth: [3]\nheads: [1]\nhidden: [12]\nintermediate: [12, 18, 24]\n"}, "depth.*at most the 2 of"),
        ({"space": "depth: [1]\nheads: [1]\nhidden: [8, 12]\nintermediate: [12, 18, 24]\n"}, "hidden.*must be 12"),
        ({"space": "depth: [1]\nheads: [1]\nhidden: [9]\nintermediate: [12, 18, 24]\n"}, "heads.*encoder's of 6"),
        (
            {"space": "depth: [1]\nheads: [1]\nhidden: [12]\nintermediate: [12, 18, 24]\nvocabulary: [999]\n"},
            "vocabulary.*at most",
        ),
        (
            {"space": "depth: [1]\nheads: [1]\nhidden: [12]\nintermediate: [12, 18, 24]\nvocabulary: [9]\n"},
            "vocabulary.*special tokens and the characters",
        ),
        ({"inherit": "/nosuch"}, "no such folder"),
    ],
)
def test_bad_settings_are_told_before_anything_is_made(arguments, settings, rule, tmp_path):
    if "\n" in (space := settings.get("space", "")):
        (tmp_path / "bad.yaml").write_text(space, "utf-8")
        settings = {"space": str(tmp_path / "bad.yaml")}
    with pytest.raises(BortError, match=rule):
        extract(replace(arguments, **settings))
    assert not Path(arguments.out).exists()


def test_the_encoders_positions_count(arguments):
    """`positions` are those of shapes with random weights."""
    with pytest.raises(BortError, match=r"row-length.*at most the 8 positions"):
        validate(replace(arguments, positions=8, inherit=None, maximum="2,2,12,24"))


def test_too_small_a_corpus_is_refused(arguments, tmp_path):
    (tmp_path / "few.txt").write_text("one sentence here\nand another one\n" * 20, "utf-8")
    with pytest.raises(BortError, match=r"held-out-rows.*at most half of the corpus's 2 different texts"):
        extract(replace(arguments, corpus=[str(tmp_path / "few.txt")], out=str(tmp_path / "few")))


def test_more_texts_may_be_held_out_than_are_trained_on(arguments, tmp_path):
    (tmp_path / "space.yaml").write_text("depth: [1, 2]\nheads: [1, 2]\nhidden: [12]\nintermediate: [12]\n", "utf-8")
    inherited = InheritedEncoder.load(arguments.inherit)
    plan = make_plan(arguments, inherited.config.vocab_size, inherited)
    [measured] = embeddings_of(arguments, plan, inherited, 1, tmp_path / "teacher").held_out.values()
    assert len(measured.rows.rows) == 16  # and 4 to train on


def test_rows_that_pad_the_word_embedding_are_no_entries(arguments, teacher_folder, tmp_path):
    tokenizer, model = AutoTokenizer.from_pretrained(teacher_folder), load(AutoModel, teacher_folder)
    entries = len(tokenizer)
    model.resize_token_embeddings(entries + 9)
    for one in (model, tokenizer):
        one.save_pretrained(tmp_path / "padded")
    space = SPACE.format(whole=f"{entries + 4}, {entries + 9}")
    (tmp_path / "space.yaml").write_text(space, "utf-8")
    inherited = InheritedEncoder.load(str(tmp_path / "padded"))
    assert make_plan(arguments, entries + 9, inherited).space.vocabulary == (150, entries, entries + 9)


def test_an_encoder_that_reads_texts_otherwise_is_refused(arguments, teacher_folder, tmp_path):
    folder = str(shutil.copytree(teacher_folder, tmp_path / "prompted"))
    write_sentence_files(folder, 12, 64, prompt="The grey cat ")
    with pytest.raises(BortError, match=r"puts the prompt .* must read the ids that the candidates read"):
        extract(replace(arguments, inherit=folder))


# The lesson


def test_t_itself_is_a_perfect_student(lesson):
    made, plan = lesson
    assert untrained_error(made, plan.top, 0) < 1e-5
    assert made.perfect == LEAST_ERROR
    batch = made.batches(plan.top)[0]
    with torch.no_grad():
        assert float(made.loss(made.start(plan.top, 0), batch)) < 1e-4


def test_dropout_is_drawn_from_the_seed_alone(lesson):
    """Not from what was trained before in this process; so a resumed search finds the same."""
    made, _ = lesson
    errors = []
    for seed, state in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(state)
        training = Training(4, dropout=0.3, seed=seed, order_seed=seed)
        errors.append(train(made, Shape(1, 2, 12, 24, 150), training, 1e-3).error)
    assert errors[0] == errors[1] != errors[2]


def test_all_vocabularies_see_the_same_texts_and_are_asked_for_the_same_vectors(lesson):
    made, plan = lesson
    small, whole = Shape(1, 1, 12, 12, 150), plan.top
    assert len(made.batches(small)) == len(made.batches(whole)) == 4
    for one, other in zip(made.batches(small), made.batches(whole), strict=True):
        assert torch.equal(one["pooled"], other["pooled"])
        texts = [
            [" ".join(tokenizer.convert_ids_to_tokens(row)) for row in batch["input_ids"].tolist()]
            for tokenizer, batch in ((made.tokenizer(small), one), (made.tokenizer(whole), other))
        ]
        plain = [
            [t.replace(" ##", "").replace(" [PAD]", "").replace("[SEP]", "").strip() for t in part] for part in texts
        ]
        assert plain[0] == plain[1]
    held_out = [torch.cat([batch["pooled"] for batch in made.held_out[size]]) for size in made.held_out]
    assert torch.equal(*held_out)


def test_the_error_is_the_mean_distance_of_the_texts(lesson, arguments):
    made, _ = lesson
    shape = Shape(1, 2, 12, 24, 150)
    model = made.start(shape, 0).eval()
    teacher = load(AutoModel, arguments.inherit).eval()
    whole, cut = made.inherited.tokenizer, made.tokenizer(shape)
    rows = made.held_out[150].rows.rows
    distances = []
    for number in range(len(rows)):
        ids = torch.from_numpy(rows[number]["input_ids"])[None]
        text = cut.decode(ids[0], skip_special_tokens=True)
        with torch.no_grad():
            own = model(input_ids=ids).last_hidden_state.mean(1)
            theirs = teacher(**whole(text, return_tensors="pt")).last_hidden_state.mean(1)
        distances.append(1 - float(torch.cosine_similarity(own, theirs)))
    assert made.error(model, shape) == pytest.approx(np.mean(distances), abs=1e-4)


def test_training_brings_a_candidate_nearer(lesson):
    made, _ = lesson
    shape = Shape(1, 2, 12, 24, 150)
    trained = train(made, shape, Training(4), 1e-2)
    assert trained.error < untrained_error(made, shape, 0)
    assert trained.model.config._attn_implementation == "eager" or torch.cuda.is_available()


def test_vectors_of_any_length_that_point_the_same_way_are_not_apart():
    torch.manual_seed(0)
    vectors = torch.randn(5, 8)
    assert float(apart(3 * vectors, vectors)) == pytest.approx(0, abs=1e-6)
    assert float(apart(-vectors, vectors)) == pytest.approx(2, abs=1e-6)
    assert float(apart(torch.randn(5, 8), vectors)) > 0.1


# Pure parts


@given(st.integers(0, 60), st.integers(1, 70), st.integers(0, 9))
def test_lines_are_drawn_without_replacement(lines, count, seed):
    texts = [f"line {number}" for number in range(lines)]
    drawn = draw(iter(texts), count, seed)
    assert len(drawn) == min(count, lines)
    assert not Counter(drawn) - Counter(texts)
    assert drawn == draw(iter(texts), count, seed)


def test_each_line_is_as_likely():
    counts = Counter(line for seed in range(2000) for line in draw(map(str, range(10)), 3, seed))
    assert min(counts.values()) > 500  # 600 expected, deviation 20
    assert max(counts.values()) < 700


@given(st.integers(1, 12), st.integers(1, 16), st.integers(1, 64), st.integers(1, 4096), st.integers(1, 60_000))
def test_a_space_around_an_encoder_holds_its_parts_and_itself(depth, heads, width, intermediate, vocabulary):
    from transformers import BertConfig

    config = BertConfig(
        num_hidden_layers=depth,
        num_attention_heads=heads,
        hidden_size=heads * width,
        intermediate_size=intermediate,
        vocab_size=vocabulary,
    )
    space = replace(around(config), head_width=width)
    own = Shape(depth, heads, heads * width, intermediate, vocabulary)
    assert own in space.members
    assert max(space.members) == own
    assert all(own.hidden % shape.heads == 0 for shape in space)


@given(st.integers(1, 6), st.integers(1, 12))
def test_heads_of_a_member_can_be_made_of_the_encoders(width, heads):
    hidden = width * 12
    try:
        members = SearchSpace((1,), (heads,), (hidden,), (8,), head_width=6).members
    except BortError:
        members = ()
    expected = hidden % heads == 0 and (hidden // heads <= 6 or hidden // heads % 6 == 0)
    assert bool(members) == expected


def test_shapes_are_tuples_that_survive_pickling():
    for shape in (Shape(1, 2, 3, 4), Shape(1, 2, 3, 4, 5)):
        assert pickle.loads(pickle.dumps(shape)) == shape
        assert Shape.of(shape._asdict() | {"error": 1}) == shape
    assert Shape(1, 2, 3, 4) == (1, 2, 3, 4)
    assert Shape(1, 2, 3, 4).vocabulary is None
    assert Shape(1, 2, 3, 4, 5).name == "1-2-3-4-5"


def test_rows_of_texts_keep_their_tokens(tiny_tokenizer, sentences):
    rows = TextRows.of(sentences[:30], tiny_tokenizer, None, row_length=12, rows_per_step=4, length=50, seed=1)
    assert len(rows) == 50
    assert sorted(int(rows[place]["number"]) for place in range(30)) == list(range(30))
    for place in (0, 7, 49):
        row = rows[place]
        ids = tiny_tokenizer(sentences[row["number"]], truncation=True, max_length=12).input_ids
        assert row["input_ids"].tolist() == ids
