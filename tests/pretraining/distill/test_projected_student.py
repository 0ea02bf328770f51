import torch

from bort.model.modelling import BortForMaskedLM
from bort.pretraining.distill.projected_student import Student


def test_it_is_the_masked_lm_with_projections(tiny_config):
    torch.manual_seed(0)
    model = BortForMaskedLM(tiny_config).eval()
    student = Student.around(model, 24, "both", (1, 2)).eval()
    ids = torch.tensor([[0, 50, 51, 52, 2], [0, 60, 2, 1, 1]])
    mask = (ids != 1).long()
    labels = torch.full_like(ids, -100)
    labels[0, 2] = 51
    ordinary = torch.tensor([1, 2, 3, 6])
    output = student(ids, mask, labels, ordinary=ordinary, loss_only=True)
    plain = model(input_ids=ids, attention_mask=mask, labels=labels, output_hidden_states=True)
    torch.testing.assert_close(output.loss, plain.loss)
    assert output.pooled.shape == (2, 2, 24)
    hidden = plain.hidden_states[-1]
    mean = torch.stack([hidden[0].mean(0), hidden[1, :3].mean(0)])  # padding does not count
    torch.testing.assert_close(output.pooled[0], student.projections["pooled"](mean))
    torch.testing.assert_close(output.pooled[1], student.projections["pooled"](hidden[:, 0]))
    for layer in (1, 2):
        tokens = plain.hidden_states[layer].reshape(-1, 16)[ordinary]
        torch.testing.assert_close(output.layers[layer], student.projections[f"layer_{layer}"](tokens))


def test_without_labels_nothing_is_decoded(tiny_config):
    student = Student(tiny_config, 24, "mean", ()).eval()
    output = student(torch.tensor([[0, 50, 51, 2]]))
    assert (output.loss, output.logits, output.layers) == (None, None, {})
    assert output.pooled.shape == (1, 1, 24)


def test_without_projections_a_plain_model_is_left(tiny_config):
    student = Student(tiny_config, 24, "mean", (2,)).eval()
    plain = student.without_projections().eval()
    assert type(plain) is BortForMaskedLM
    expected = {name for name in student.state_dict() if not name.startswith("projections.")}
    assert plain.state_dict().keys() == expected
    assert plain.cls.predictions.decoder.weight is plain.bert.embeddings.word_embeddings.weight
    ids = torch.tensor([[0, 50, 51, 2]])
    torch.testing.assert_close(plain(input_ids=ids).logits, BortForMaskedLM.forward(student, ids).logits)
