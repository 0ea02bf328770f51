"""Closed-form costs against what the built models have and do."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertModel

from bort.model.config import PRESETS, Preset, configure, count_parameters
from bort.ose.cost import Split, matrix_operations, operations, other_operations, parameters
from bort.ose.criteria import lacking
from bort.ose.space import SPACES, Shape


def built(shape, vocab_size=50_265, positions=512, **config):
    made = configure(Preset(*shape, positions=positions), vocab_size)
    for name, value in config.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("space", SPACES)
def test_parameters_are_those_of_the_built_model(space):
    """For all 300 members, on the meta device."""
    for shape in SPACES[space]:
        counted = count_parameters(built(shape))
        ours = parameters(shape, vocab_size=50_265)
        assert (ours.outer, ours.layers) == (counted.embeddings, counted.encoder), shape
        assert ours.total == counted.total


@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 16),
    st.integers(1, 64),
    st.integers(6, 999),
    st.integers(1, 99),
)
@settings(max_examples=30)
def test_parameters_of_any_shape(depth, heads, width, intermediate, vocab_size, positions):
    shape = Shape(depth, heads, heads * width, intermediate)
    counted = count_parameters(built(shape, vocab_size, positions))
    assert parameters(shape, vocab_size=vocab_size, positions=positions).total == counted.total


def test_the_published_architecture():
    preset = PRESETS["bort"]
    shape = Shape(preset.depth, preset.heads, preset.hidden, preset.intermediate)
    assert parameters(shape, vocab_size=50_265).total == 75_107_328


@pytest.mark.parametrize("shape", [(1, 2, 16, 24), (3, 4, 32, 8), (2, 1, 12, 50), (4, 8, 64, 48), (6, 4, 40, 10)])
@pytest.mark.parametrize("sequence_length", [5, 32])
def test_matrix_operations_are_those_that_torch_counts(shape, sequence_length):
    shape = Shape(*shape)
    model = BertModel(built(shape, 100, _attn_implementation="eager"), add_pooling_layer=False).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.randint(5, 100, (1, sequence_length)))
    assert matrix_operations(shape, sequence_length=sequence_length) == counter.get_total_flops()


def test_matrix_operations_of_a_large_member_on_the_meta_device():
    shape, length = Shape(4, 8, 1024, 768), 512
    with torch.device("meta"):
        model = BertModel(built(shape, _attn_implementation="eager"), add_pooling_layer=False).eval()
        ids = torch.empty((1, length), dtype=torch.long)
        mask = torch.zeros((1, 1, length, length))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(input_ids=ids, attention_mask=mask)
    assert matrix_operations(shape, sequence_length=length) == counter.get_total_flops()


def test_other_operations_by_hand():
    """One layer, one head, H = 2, I = 3, two tokens."""
    other = other_operations(Shape(1, 1, 2, 3), sequence_length=2)
    assert other.outer == 2 * 2 * (2 + 7)  # two additions and a layer norm
    scores, elements, inner = 2 * 2, 2 * 2, 2 * 3
    biases = 4 * elements + inner + elements
    assert other.layers == 6 * scores + biases + 2 * elements + 2 * 7 * elements + 5 * inner


def test_operations_grow_along_every_axis():
    for axis in range(4):
        for shape in SPACES["paper"]:
            more = Shape(*(value * (2 if place == axis else 1) for place, value in enumerate(shape)))
            assert operations(more, sequence_length=128).total > operations(shape, sequence_length=128).total


def costs(vocab_size=50_265, sequence_length=128):
    return {
        "parameters": lambda shape: parameters(shape, vocab_size=vocab_size),
        "time": lambda shape: operations(shape, sequence_length=sequence_length),
    }


@pytest.mark.parametrize("space", SPACES)
def test_the_named_spaces_have_the_weak_property(space):
    assert lacking(SPACES[space].members, costs()) is None


def test_a_space_that_lacks_the_weak_property_is_told():
    """Where I is much more than H², a wider H hardly makes the layers larger, and the embeddings much."""
    said = lacking([Shape(1, 1, 2, 10_000), Shape(1, 1, 4, 10_000)], costs())
    assert said is not None
    assert said.startswith("from ⟨1,1,2,10000⟩ to ⟨1,1,4,10000⟩ the parameters of the embeddings grow 2.00-fold")
    said = lacking([Shape(1, 1, 8, 8), Shape(2, 1, 8, 8)], {"time": lambda shape: Split(1.0, 9.0 - shape.depth)})
    assert said == "the time of the layers fall with the depth from ⟨1,1,8,8⟩ to ⟨2,1,8,8⟩"
