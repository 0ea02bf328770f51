import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from bort.model.config import IGNORED
from bort.model.mlm_loss import SoftTargets, linear_cross_entropy, linear_distillation, soft_distance
from bort.model.modelling import BortForMaskedLM


def make(seed: int, positions: int, hidden: int, vocab: int):
    rng = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(shape, generator=rng) for shape in ((positions, hidden), (vocab, hidden), (vocab,))]
    return [t.requires_grad_() for t in tensors], torch.randint(vocab, (positions,), generator=rng)


@given(st.integers(0, 99), st.integers(1, 300), st.integers(1, 12), st.integers(2, 50), st.floats(0.1, 3.0))
@settings(max_examples=40)
def test_loss_and_gradients_are_those_of_the_plain_computation(seed, positions, hidden, vocab, scale):
    """Over one chunk and several, whole and broken, and with a loss that is scaled afterwards."""
    ours, targets = make(seed, positions, hidden, vocab)
    plain = [tensor.detach().clone().requires_grad_() for tensor in ours]
    loss = linear_cross_entropy(*ours, targets)
    expected = functional.cross_entropy(functional.linear(*plain), targets)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    (scale * loss).backward()
    (scale * expected).backward()
    for left, right in zip(ours, plain, strict=True):
        torch.testing.assert_close(left.grad, right.grad, atol=1e-5, rtol=1e-4)


def test_extreme_logits_stay_finite():
    hidden = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    weight, bias = torch.tensor([[1.0], [-1.0]], requires_grad=True), torch.zeros(2, requires_grad=True)
    loss = linear_cross_entropy(hidden, weight, bias, torch.tensor([1, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(1e4)
    assert torch.isfinite(hidden.grad).all()


def test_bf16_autocast_is_near_fp32():
    ours, targets = make(0, 200, 16, 40)
    exact = linear_cross_entropy(*ours, targets).item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(*ours, targets)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact, rel=2e-2)
    assert all(tensor.grad.dtype == torch.float32 for tensor in ours)


def test_model_trains_the_same_without_its_logits(tiny_config):
    """Loss and the gradient of every weight, the tied embedding's two parts among them."""
    torch.manual_seed(0)
    model = BortForMaskedLM(tiny_config).eval()
    ids = torch.randint(5, 300, (3, 20))
    labels = torch.where(torch.rand(3, 20) < 0.3, ids, IGNORED)
    gradients = []
    for loss_only in (False, True):
        model.zero_grad()
        output = model(input_ids=ids, labels=labels, loss_only=loss_only)
        assert (output.logits is None) == loss_only
        output.loss.backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4)


def test_a_batch_without_a_masked_position(tiny_config):
    model = BortForMaskedLM(tiny_config)
    loss = model(input_ids=torch.full((1, 4), 7), labels=torch.full((1, 4), IGNORED), loss_only=True).loss
    loss.backward()
    assert loss.item() == 0.0


def plain_distillation(hidden, weight, bias, targets, soft):
    """The same from full logits."""
    logits = functional.linear(hidden, weight, bias)
    hard = functional.cross_entropy(logits, targets)
    log_q = functional.log_softmax(logits / soft.temperature, -1)
    distance = soft.temperature**2 * (soft.weights * (soft.log_p - log_q.gather(-1, soft.ids))).sum(-1).mean()
    return soft.mlm_weight * hard + soft.kd_weight * distance, hard, distance


@given(
    st.integers(0, 99),
    st.integers(1, 300),
    st.integers(2, 50),
    st.floats(0.5, 4.0),
    st.sampled_from([(0.1, 0.5), (1.0, 0.0), (0.0, 1.0)]),
)
@settings(max_examples=30)
def test_distillation_and_its_gradients_are_those_of_the_plain_computation(seed, positions, vocab, temperature, parts):
    ours, targets = make(seed, positions, 6, vocab)
    plain = [tensor.detach().clone().requires_grad_() for tensor in ours]
    rng = torch.Generator().manual_seed(seed)
    soft = SoftTargets(
        ids=torch.randint(vocab, (positions, 7), generator=rng),  # some twice
        log_p=torch.randn(positions, 7, generator=rng).log_softmax(-1),
        weights=torch.rand(positions, 7, generator=rng).softmax(-1),
        temperature=temperature,
        mlm_weight=parts[0],
        kd_weight=parts[1],
    )
    total, hard, distance = linear_distillation(*ours, targets, soft)
    expected = plain_distillation(*plain, targets, soft)
    torch.testing.assert_close(total, expected[0], atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(distance, expected[2], atol=1e-4, rtol=1e-5)
    if parts[0]:
        torch.testing.assert_close(hard, expected[1], atol=1e-4, rtol=1e-5)
    from_logits = soft_distance(functional.linear(*ours), soft)
    torch.testing.assert_close(from_logits, expected[2], atol=1e-4, rtol=1e-5)
    (3 * total).backward()
    (3 * expected[0]).backward()
    for left, right in zip(ours, plain, strict=True):
        torch.testing.assert_close(left.grad, right.grad, atol=1e-4, rtol=1e-3)
