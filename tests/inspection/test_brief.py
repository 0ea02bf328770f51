"""What a training run says of its data."""

import json

import pytest

import bort
from bort.data.tables.examples import read_examples
from bort.model.checkpoints import example_data


@pytest.fixture
def run(tmp_path):
    """The linear head of bort-nano on some messages; one of the test's is almost one to train on."""
    read = read_examples(example_data("support") / "dev.jsonl")
    rows = [{"text": one.text, "label": one.label} for one in read[::2]]
    train = [*rows[:40], {"text": "I would like to send back the boots that I bought.", "label": "returns"}]
    train.append({"text": "Wo ist mein Paket? Ich habe es letzte Woche bestellt.", "label": "delivery"})
    train.append({"text": "I never got the parcel, where is my delivery?", "label": "payment"})
    test = [*rows[40:50], {"text": "I'd like to send back the boots which I bought.", "label": "returns"}]

    def of(**settings):
        arguments = bort.FinetuneArguments(method="head", out=str(tmp_path / "run"), **settings)
        return bort.finetune(arguments, train=train, dev=rows[50:], test=test).metrics

    return of


def test_findings_stand_in_the_figures_and_the_report(run, tmp_path):
    metrics = run()
    found = metrics["inspection"]
    assert found["near_count"] == 1
    assert (found["near"][0]["part"], found["near"][0]["near_part"]) == ("test", "train")
    assert found["compared"] == sum(metrics["rows"].values())
    assert found["languages"]["others"] == {"German": 1}
    assert found["judged"] == metrics["rows"]["train"] + metrics["rows"]["dev"]
    assert found["doubts_count"] == len(found["doubts"]) > 0
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    for words in (
        "almost the same as texts of another part",
        "German 1",
        "labels are perhaps wrong",
        "Labels to look at",
    ):
        assert any(words in finding for finding in metrics["findings"]) or words == "Labels to look at"
        assert words in page
    assert json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))["inspection"] == found


def test_of_another_model_languages_and_nearness_are_not_known(run, tmp_path):
    from bort.model.checkpoints import locate

    found = run(model=str(locate("bort-nano")))["inspection"]
    assert (found["languages"], found["near_count"], found["compared"]) == (None, None, 0)
    assert found["doubts_count"] > 0
