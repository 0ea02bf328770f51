import numpy as np
import torch

from bort.model.modelling import BortForMaskedLM
from bort.pretraining.init_weights import start_from_sinusoids, start_from_word_counts


def test_bias_is_the_log_frequency(tiny_config):
    """Ids 5, 5, 6 among 400 (one more each): 3, 2 and 1 of 403."""
    model = BortForMaskedLM(tiny_config)
    start_from_word_counts(model, np.array([5, 5, 6], dtype=np.uint16))
    bias = model.cls.predictions.bias
    assert model.cls.predictions.decoder.bias is bias
    total = 3 + tiny_config.vocab_size
    expected = torch.log(torch.tensor([3 / total, 2 / total, 1 / total]))
    torch.testing.assert_close(bias[[5, 6, 7]], expected)


def test_sinusoids_put_neighbours_together_at_the_usual_spread(tiny_config):
    model = BortForMaskedLM(tiny_config)
    start_from_sinusoids(model)
    table = model.bert.embeddings.position_embeddings.weight
    spread = table.square().mean().sqrt().item()
    assert abs(spread - tiny_config.initializer_range) < 1e-6
    near = torch.cosine_similarity(table[:-1], table[1:])
    far = torch.cosine_similarity(table[:-20], table[20:])
    assert near.min() > far.max()
    assert table.requires_grad
