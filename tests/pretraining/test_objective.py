import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from bort.model.config import IGNORED
from bort.model.modelling import BortForMaskedLM
from bort.predict.sentence_encoder import EmbeddingTeacher
from bort.pretraining.arguments import PretrainArguments
from bort.pretraining.distill.mlm_teacher import MaskedLMTeacher
from bort.pretraining.distill.projected_student import Student
from bort.pretraining.distill.shared_vocabulary import SharedVocabulary, TeacherBeside
from bort.pretraining.objective import Objective, distillation, embedding_distance, token_distance


def logits(seed: int, rows: int = 5, vocab: int = 40, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_kl_by_hand():
    # Teacher (3/4, 1/4), student (1/2, 1/2), T = 1: 3/4 ln(3/2) + 1/4 ln(1/2).
    teacher, student = torch.tensor([[math.log(3.0), 0.0]]), torch.zeros(1, 2)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert distillation(student, teacher, temperature=1.0).item() == pytest.approx(expected, abs=1e-6)


def test_temperature_divides_the_logits_and_scales_by_its_square():
    student, teacher = logits(0), logits(1)
    halved = distillation(student / 2, teacher / 2, temperature=1.0)
    assert distillation(student, teacher, temperature=2.0).item() == pytest.approx(4 * halved.item(), rel=1e-5)


@given(st.integers(0, 1000), st.floats(0.5, 8.0))
def test_kl_is_zero_only_at_the_teacher(seed, temperature):
    teacher = logits(seed)
    assert distillation(teacher + 7.0, teacher, temperature=temperature).item() == pytest.approx(0.0, abs=1e-5)
    assert distillation(logits(seed + 1), teacher, temperature=temperature).item() > 1e-4


def test_gradient_is_the_difference_of_the_distributions():
    student, teacher = logits(0).float().requires_grad_(), logits(1).float()
    distillation(student, teacher, temperature=2.0).backward()
    difference = functional.softmax(student.detach() / 2, -1) - functional.softmax(teacher / 2, -1)
    torch.testing.assert_close(student.grad, 2 * difference / len(student), atol=1e-6, rtol=1e-4)


def test_as_released_applies_softmax_twice_and_averages_over_the_vocabulary():
    student, teacher = logits(0).float(), logits(1).float()
    p = functional.softmax(teacher / 2, -1)
    twice = functional.softmax(functional.softmax(student / 2, -1), -1)
    expected = 4 * (p * (torch.log(p + 1e-12) - torch.log(twice))).mean()
    assert distillation(student, teacher, kind="as-released").item() == pytest.approx(expected.item(), rel=1e-5)


def test_as_released_all_but_switches_distillation_off():
    """With a vocabulary like RoBERTa's, its gradient is thousands of times smaller than that of the true KL."""
    gradients = {}
    for kind in ("kl", "as-released"):
        student = logits(0, rows=4, vocab=50_265).float().requires_grad_()
        distillation(student, logits(1, rows=4, vocab=50_265).float(), kind=kind).backward()
        gradients[kind] = student.grad.norm().item()
    assert gradients["as-released"] < gradients["kl"] / 1000


def test_as_released_hardly_tells_a_good_student_from_a_bad_one():
    teacher = logits(1, vocab=5000).float()
    good, bad = teacher, logits(2, vocab=5000).float()
    gap = {
        k: (distillation(bad, teacher, kind=k) - distillation(good, teacher, kind=k)).item()
        for k in ("kl", "as-released")
    }
    assert 0 < gap["as-released"] < gap["kl"] / 1000


def test_no_gradient_reaches_the_teacher():
    student, teacher = logits(0).requires_grad_(), logits(1).requires_grad_()
    distillation(student, teacher).backward()
    assert teacher.grad is None


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_teachers_at_each_step_compute_in_the_runs_precision(
    world, tiny_config, tiny_tokenizer, teacher_folder, precision
):
    """Their loss is in single precision all the same."""
    cpu, computed = torch.device("cpu"), set()
    masked_lm = MaskedLMTeacher(world.encoder, tiny_tokenizer.get_vocab(), cpu)
    encoder = EmbeddingTeacher(teacher_folder, cpu)
    beside = TeacherBeside(encoder, SharedVocabulary(torch.arange(len(tiny_tokenizer)) % 200), (1,))
    for model in (masked_lm.model, encoder.model):
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.register_forward_hook(lambda module, inputs, output: computed.add(output.dtype))
    settings = PretrainArguments(precision=precision, teacher="t", embedding_teacher="e", token_weight=1.0)
    ids = torch.randint(5, 200, (2, 8), generator=torch.Generator().manual_seed(0))
    labels = torch.full_like(ids, IGNORED)
    labels[:, 3] = 9
    student = Student.around(BortForMaskedLM(tiny_config), 12, "mean", (1,))
    total, parts = Objective(settings, masked_lm, {1: 1}, beside)(student, {"input_ids": ids, "labels": labels})
    assert computed == {torch.bfloat16 if precision == "bf16" else torch.float32}
    assert parts.keys() == {"mlm", "kd", "embedding", "similarity", "tokens"}
    assert {part.dtype for part in (total, *parts.values())} == {torch.float32}


def test_embedding_distance_by_hand():
    student, teacher = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    cosine, among = embedding_distance(student, teacher)
    # Cosines to the teacher 1 and 0; among each other 0 where the teacher has 1, twice of four.
    assert (cosine.item(), among.item()) == (pytest.approx(0.5), pytest.approx(0.5))


@given(st.integers(0, 1000), st.floats(0.1, 10.0))
def test_embedding_distance_sees_directions_only(seed, scale):
    student, teacher = logits(seed), logits(seed + 1)
    for left, right in zip(
        embedding_distance(scale * student, teacher), embedding_distance(student, teacher), strict=True
    ):
        torch.testing.assert_close(left, right)
    cosine, among = embedding_distance(teacher * scale, teacher)
    assert (cosine.item(), among.item()) == (pytest.approx(0.0, abs=1e-6), pytest.approx(0.0, abs=1e-6))


def test_tokens_that_the_teacher_does_not_know_are_left_out():
    student, teacher = torch.tensor([[1.0, 0.0], [5.0, 5.0]]), torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    assert token_distance(student, teacher).item() == pytest.approx(1.0)
    assert token_distance(student, torch.zeros(2, 2)).item() == 0.0
