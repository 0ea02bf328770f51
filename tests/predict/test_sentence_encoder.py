import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from bort.errors import BortError
from bort.predict.sentence_encoder import EmbeddingTeacher, align
from bort.predict.torch_encoder import TorchEncoder


@pytest.fixture
def teacher(teacher_folder) -> EmbeddingTeacher:
    return EmbeddingTeacher(teacher_folder, torch.device("cpu"))


def test_pooled_and_token_vectors_are_the_models(teacher, sentences):
    texts = [sentences[0], "My sister", sentences[5], ""]
    pooled, vectors, offsets = teacher.encode(texts, (1, 2))
    assert pooled.shape == (4, 12)
    for text, mean, layers, places in zip(texts, pooled, vectors, offsets, strict=True):
        encoded = teacher.tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
        assert places.tolist() == encoded.pop("offset_mapping")[0].tolist()
        with torch.no_grad():
            hidden = teacher.model(**encoded, output_hidden_states=True).hidden_states
        np.testing.assert_allclose(mean, hidden[-1][0].mean(0).numpy(), atol=1e-5)
        for layer in (1, 2):
            np.testing.assert_allclose(layers[layer], hidden[layer][0].numpy(), atol=1e-5)


def test_in_bf16_no_row_is_padded(teacher, teacher_folder, sentences, monkeypatch):
    rounded = EmbeddingTeacher(teacher_folder, torch.device("cpu"), bf16=True)
    masks, hidden = [], rounded._hidden
    monkeypatch.setattr(rounded, "_hidden", lambda ids, mask, layers: masks.append(mask) or hidden(ids, mask, layers))
    found, _, _ = rounded.encode(sentences[:40])
    assert all(mask.all() for mask in masks)
    assert len(masks) < 40
    expected, _, _ = teacher.encode(sentences[:40])
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert (found != expected).any()


def test_pooling_of_the_first_token_is_read_from_the_folder(teacher_folder, sentences, tmp_path):
    folder = shutil.copytree(teacher_folder, tmp_path / "teacher")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    teacher = EmbeddingTeacher(str(folder), torch.device("cpu"))
    pooled, vectors, _ = teacher.encode(sentences[:3], (2,))
    np.testing.assert_allclose(pooled, np.stack([layers[2][0] for layers in vectors]), atol=1e-6)
    (folder / "1_Pooling" / "config.json").write_text("[]")
    with pytest.raises(BortError, match=r"1_Pooling.*must hold one JSON object"):
        EmbeddingTeacher(str(folder), torch.device("cpu"))


def test_long_texts_are_cut(teacher):
    pooled, vectors, _ = teacher.encode(["apples " * 500], (2,))
    assert np.isfinite(pooled).all()
    assert len(vectors[0][2]) == 64, "as many as it has positions"


MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


def with_modules(source, folder, *, pooling, dense=(), normalize=False, text=None, prompts=None):
    """A folder as sentence-transformers saves it."""
    shutil.copytree(source, folder)
    listed = [("Transformer", ""), ("Pooling", "1_Pooling")]
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 12} | pooling))
    for number, (weight, bias, activation) in enumerate(dense, 2):
        path = folder / f"{number}_Dense"
        path.mkdir()
        settings = {"in_features": weight.shape[1], "out_features": weight.shape[0], "bias": bias is not None}
        path.joinpath("config.json").write_text(json.dumps(settings | {"activation_function": activation}))
        save_file(
            {"linear.weight": weight} | ({} if bias is None else {"linear.bias": bias}), path / "model.safetensors"
        )
        listed.append(("Dense", path.name))
    if normalize:
        listed.append(("Normalize", "9_Normalize"))
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (kind, path) in enumerate(listed)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps(text or {}))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts or {"similarity_fn_name": "cosine"}))
    return folder


def by_hand(mode, hidden):
    """A text's pooled vector. *Shape:* (length, H) -> (H,)."""
    count = len(hidden)
    weights = np.arange(1, count + 1)[:, None]
    return {
        "cls": hidden[0],
        "max": hidden.max(0),
        "mean": hidden.mean(0),
        "mean_sqrt_len_tokens": hidden.sum(0) / np.sqrt(count),
        "weightedmean": (hidden * weights).sum(0) / weights.sum(),
        "lasttoken": hidden[-1],
    }[mode]


@pytest.mark.parametrize("modes", [*([mode] for mode in MODES), ["lasttoken", "cls", "mean"]], ids="+".join)
def test_poolings(teacher_folder, sentences, tmp_path, modes):
    names = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens", "weightedmean": "weightedmean_tokens"}
    pooling = {f"pooling_mode_{names.get(mode, mode)}": mode in modes for mode in MODES}
    folder = with_modules(teacher_folder, tmp_path / "m", pooling=pooling)
    teacher = EmbeddingTeacher(str(folder), torch.device("cpu"))
    texts = [*sentences[:3], "a", " ".join(sentences[:4])]
    pooled, _, _ = teacher.encode(texts)
    _, vectors, _ = EmbeddingTeacher(teacher_folder, torch.device("cpu")).encode(texts, (2,))
    ordered = [mode for mode in MODES if mode in modes]
    expected = [np.concatenate([by_hand(mode, layers[2]) for mode in ordered]) for layers in vectors]
    np.testing.assert_allclose(pooled, np.stack(expected), atol=1e-5)
    assert pooled.shape[1] == teacher.size == 12 * len(modes)
    teacher.modules = replace(teacher.modules, poolings=("mean",))
    assert teacher.size == 12
    teacher = EmbeddingTeacher(str(folder), torch.device("cpu"))
    if len(modes) > 1:
        with pytest.raises(BortError, match="another width"):
            teacher.encode(texts, (1,))
    else:
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": modes[0]}))
        again, _, _ = EmbeddingTeacher(str(folder), torch.device("cpu")).encode(texts)
        np.testing.assert_array_equal(again, pooled)


def test_dense_layers_normalisation_prompt_length_and_case(teacher_folder, sentences, tmp_path):
    torch.manual_seed(0)
    first, second = (torch.randn(7, 12), torch.randn(7)), (torch.randn(5, 7), None)
    folder = with_modules(
        teacher_folder, tmp_path / "m", pooling={"pooling_mode_mean_tokens": True}, normalize=True,
        dense=[(*first, "torch.nn.modules.activation.Tanh"), (*second, "torch.nn.modules.linear.Identity")],
        text={"max_seq_length": 9, "do_lower_case": True},
        prompts={"prompts": {"query": "The old: ", "other": "x"}, "default_prompt_name": "query"},
    )  # fmt: skip
    teacher = EmbeddingTeacher(str(folder), torch.device("cpu"))
    texts = [f"  {sentences[0].upper()}", sentences[1]]
    pooled, _, places = teacher.encode(texts)
    plain = EmbeddingTeacher(teacher_folder, torch.device("cpu"))
    for text, vector, its in zip(texts, pooled, places, strict=True):
        encoded = plain.tokenizer(f"the old: {text.lower()}", truncation=True, max_length=9, return_tensors="pt")
        with torch.no_grad():
            mean = plain.model(**encoded).last_hidden_state[0].mean(0)
            expected = torch.nn.functional.normalize(torch.tanh(mean @ first[0].T + first[1]) @ second[0].T, dim=-1)
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)
        assert len(its) == 9
        assert its[0].tolist() == its[-1].tolist() == [0, 0]
        named = [text[start:stop].strip().lower() for start, stop in its if stop > start]
        assert named
        assert text.lower().strip().startswith(named[0])
    assert teacher.size == 5


def test_a_prompt_may_be_left_out_of_the_pooling(teacher_folder, sentences, tmp_path):
    prompts = {"prompts": {"q": "The old: "}, "default_prompt_name": "q"}
    pooling = {"pooling_mode_mean_tokens": True, "include_prompt": False}
    folder = with_modules(teacher_folder, tmp_path / "m", pooling=pooling, prompts=prompts)
    teacher = EmbeddingTeacher(str(folder), torch.device("cpu"))
    pooled, vectors, _ = teacher.encode(sentences[:4], (2,))
    first = len(teacher.tokenizer("The old:").input_ids) - 1
    np.testing.assert_allclose(pooled, np.stack([layers[2][first:].mean(0) for layers in vectors]), atol=1e-5)
    pooling = {"pooling_mode_cls_token": True, "include_prompt": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    pooled, vectors, _ = EmbeddingTeacher(str(folder), torch.device("cpu")).encode(sentences[:4], (2,))
    np.testing.assert_allclose(pooled, np.stack([layers[2][first] for layers in vectors]), atol=1e-5)


@pytest.mark.parametrize(("told", "length"), [(None, 9), (20, 20), (100, 64)])
def test_a_folders_length_precedes_its_tokenizers(teacher_folder, tmp_path, told, length):
    text = {} if told is None else {"max_seq_length": told}
    folder = with_modules(teacher_folder, tmp_path / "m", pooling={"pooling_mode": "mean"}, text=text)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": 9}))
    assert TorchEncoder(str(folder)).max_length == length, "at most as many as it has positions"


@pytest.mark.parametrize("key", ["tokenizer_args", "processor_kwargs"])
def test_a_length_for_the_tokenizer_counts_more(teacher_folder, tmp_path, key):
    text = {"max_seq_length": 20, key: {"model_max_length": 8}, "model_args": {"dtype": "float32"}}
    folder = with_modules(teacher_folder, tmp_path / "m", pooling={"pooling_mode": "mean"}, text=text)
    assert TorchEncoder(str(folder)).max_length == 8


def test_length_and_case_are_read_from_the_first_file_that_says_something(teacher_folder, tmp_path):
    folder = with_modules(teacher_folder, tmp_path / "m", pooling={"pooling_mode": "mean"})
    settings = {"max_seq_length": 8, "do_lower_case": True}
    (folder / "sentence_roberta_config.json").write_text(json.dumps(settings))
    (folder / "sentence_albert_config.json").write_text(json.dumps({"max_seq_length": 9}))
    modules = TorchEncoder(str(folder)).modules
    assert (modules.max_length, modules.lowercase) == (8, True)


def test_what_sentence_transformers_saves_opens(teacher_folder, sentences, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    folder = with_modules(teacher_folder, tmp_path / "m", pooling={"pooling_mode": "mean", "embedding_dimension": 12})
    library.SentenceTransformer(str(folder), device="cpu").save_pretrained(str(tmp_path / "theirs"))
    one, other = (TorchEncoder(str(path)).modules.described for path in (folder, tmp_path / "theirs"))
    assert one == other


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("modules.json", [{"type": "sentence_transformers.models.Transformer", "path": ""},
                          {"type": "sentence_transformers.models.CNN", "path": "1"}], "'CNN': must be a Pooling"),
        ("modules.json", [{"type": "custom.Thing", "path": ""}], "'custom.Thing': is code of the model's own"),
        ("modules.json", [{"type": "sentence_transformers.models.BoW", "path": ""}], "must begin with a Transformer"),
        ("modules.json", [{"path": ""}], "must list modules"),
        ("modules.json", {}, "must hold a JSON list"),
        ("1_Pooling/config.json", {"pooling_mode_median": True, "pooling_mode_cls_token": True}, "mode_median'"),
        ("1_Pooling/config.json", {"pooling_mode": "attention"}, "'attention'"),
        ("1_Pooling/config.json", {"pooling_mode_cls_token": False}, "the pooling must be of cls, max, mean"),
        ("1_Pooling/config.json", {"pooling_mode": 3}, "value 3: the pooling must be"),
        ("1_Pooling/config.json", {"pooling_mode": [["mean"]]}, "the pooling must be"),
        ("2_Dense/config.json", {"activation_function": "my.Act"}, "'my.Act'"),
        ("2_Dense/config.json", {"use_residual": True}, "use_residual is not supported"),
        ("2_Dense/config.json", {"module_input_name": "token_embeddings"}, "module_input_name must be sentence_emb"),
        ("2_Dense/config.json", {"module_output_name": "other"}, "'other': module_output_name must be sentence_emb"),
        ("9_Normalize/config.json", {"module_input_name": "token_embeddings"}, "input_name must be sentence_emb"),
        ("config_sentence_transformers.json", {"truncate_dim": 2}, "value 2: truncate_dim is not supported"),
        ("config_sentence_transformers.json", {"prompts": ["a"], "default_prompt_name": "a"}, "prompts must map names"),
        ("config_sentence_transformers.json", {"prompts": {}, "default_prompt_name": ["a"]}, "must be a name"),
        ("config_sentence_transformers.json", {"prompts": {"a": "b"}, "default_prompt_name": "c"}, "must be one of"),
        ("2_Dense/model.safetensors", {}, "cannot be read"),
        ("sentence_bert_config.json", {"max_seq_length": "x"}, "max_seq_length must be a whole number"),
        ("sentence_bert_config.json", {"processing_kwargs": {"text": {"max_length": 8}}}, "'processing_kwargs': value"),
        ("sentence_bert_config.json", {"tokenizer_args": {"padding_side": "left"}}, "entries that are not supported"),
        ("sentence_bert_config.json", {"config_kwargs": {"hidden_act": "relu"}}, "entries that are not supported"),
        ("sentence_bert_config.json", {"model_args": ["dtype"]}, "entries that are not supported"),
        ("sentence_bert_config.json", {"modality_config": {"text": {"method": "get_text_features"}}}, "must give"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused(teacher_folder, tmp_path, name, change, message):
    dense = [(torch.ones(4, 12), None, "torch.nn.modules.activation.Tanh")]
    pooling = {"pooling_mode_cls_token": True}
    folder = with_modules(teacher_folder, tmp_path / "m", pooling=pooling, dense=dense, normalize=True)
    (folder / "9_Normalize").mkdir()
    (folder / name).write_text(json.dumps(change))
    with pytest.raises(BortError, match=message):
        EmbeddingTeacher(str(folder), torch.device("cpu"))


def test_equals_sentence_transformers(teacher_folder, sentences, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    torch.manual_seed(0)
    dense = [(torch.randn(6, 36), torch.randn(6), "torch.nn.modules.activation.Tanh")]
    pooling = {f"pooling_mode_{mode}": True for mode in ("cls_token", "weightedmean_tokens", "max_tokens")}
    prompts = {"prompts": {"q": "The old: "}, "default_prompt_name": "q"}
    folder = with_modules(
        teacher_folder, tmp_path / "m", pooling=pooling, dense=dense, normalize=True, prompts=prompts,
        text={"max_seq_length": 12, "do_lower_case": True},
    )  # fmt: skip
    theirs = library.SentenceTransformer(str(folder), device="cpu").encode(sentences[:30])
    ours, _, _ = EmbeddingTeacher(str(folder), torch.device("cpu")).encode(sentences[:30])
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


spans = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5)), min_size=1, max_size=8).map(
    lambda pairs: np.array([(start, start + length) for start, length in pairs])
)


@given(spans, spans, st.integers(0, 99))
def test_alignment_is_the_mean_over_shared_characters(offsets, mine, seed):
    vectors = np.random.default_rng(seed).random((len(offsets), 3)).astype(np.float32)
    aligned = align(vectors, offsets, mine)
    for (start, stop), vector in zip(mine, aligned, strict=True):
        shared = [n for n, (a, b) in enumerate(offsets) for c in range(a, b) if start <= c < stop]
        expected = vectors[shared].mean(0) if shared else np.zeros(3)
        np.testing.assert_allclose(vector, expected, atol=1e-5)
