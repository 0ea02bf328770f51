"""`bort evaluate`: the right figures, in JSON that is JSON, and what is wrong with the data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scipy import stats
from sklearn import metrics

from bort.predict.predictor import Predictor


def jsonl(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture(scope="module")
def labelled(sentences, classifier, tmp_path_factory):
    """60 sentences: two thirds labelled as the model does, the rest with the label after."""
    names = Predictor(classifier).task.names
    rows = []
    for number, answer in enumerate(Predictor(classifier).predict(sentences[:60])):
        shift = number % 3 == 0
        rows.append({"text": sentences[number], "label": names[(names.index(answer.label) + shift) % 3]})
    return jsonl(tmp_path_factory.mktemp("labelled") / "data.jsonl", rows)


def test_json_is_one_object_with_the_figures_of_sklearn(bort, classifier, labelled):
    done = bort("evaluate", "--model", classifier, "--data", labelled, "--json", "--resamples", 100)
    assert (done.status, done.err) == (0, "")
    assert done.out.count("\n") == 1
    result = json.loads(done.out)
    rows = [json.loads(line) for line in labelled.read_text("utf-8").splitlines()]
    truth = [row["label"] for row in rows]
    guess = [answer.label for answer in Predictor(classifier).predict([row["text"] for row in rows])]
    assert result["rows"] == 60
    assert result["accuracy"] == pytest.approx(metrics.accuracy_score(truth, guess)) == pytest.approx(2 / 3)
    assert result["f1"] == pytest.approx(metrics.f1_score(truth, guess, average="macro"))
    assert result["matthews"] == pytest.approx(metrics.matthews_corrcoef(truth, guess))
    for name, (low, high) in result["confidence"].items():
        assert low <= result[name] <= high
        assert low < high


def test_table_for_people(bort, classifier, labelled):
    done = bort("evaluate", "--model", classifier, "--data", labelled, "--resamples", 100)
    assert (done.status, done.err) == (0, "")
    assert "0.6667" in done.out
    assert "95 % interval" in done.out
    done = bort("evaluate", "--model", classifier, "--data", labelled, "--resamples", 0)
    assert "0.6667" in done.out
    assert "95 %" not in done.out
    assert (
        "confidence" not in bort("evaluate", "--model", classifier, "--data", labelled, "--resamples", 0, "--json").out
    )


def test_names_with_brackets_are_no_markup(bort, classifier, labelled, tmp_path, monkeypatch):
    """Such as a slice of a hub data set, or a folder that ends like a tag of the library that draws tables."""
    monkeypatch.chdir(tmp_path)
    data = Path("[bold]x[/red]:cat:.jsonl")
    data.parent.mkdir()
    data.write_bytes(labelled.read_bytes())
    done = bort("evaluate", "--model", classifier, "--data", data, "--resamples", 0)
    assert done.status == 0
    assert "[bold]x[/red]:cat:.jsonl" in "".join(done.out.split("\n"))


def test_regression(bort, regressor, world, sentences, tmp_path):
    done = bort("evaluate", "--model", regressor, "--data", world.regression, "--json", "--resamples", 0)
    rows = [json.loads(line) for line in Path(world.regression).read_text("utf-8").splitlines()]
    truth = [row["label"] for row in rows]
    guess = [answer.label for answer in Predictor(regressor).predict([row["text"] for row in rows])]
    result = json.loads(done.out)
    assert result["pearson"] == pytest.approx(stats.pearsonr(truth, guess).statistic, abs=1e-5)
    assert result["spearman"] == pytest.approx(stats.spearmanr(truth, guess).statistic, abs=1e-5)
    assert result["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, guess), rel=1e-5)
    bad = jsonl(tmp_path / "bad.jsonl", [{"text": "a", "label": 1.5}, {"text": "b", "label": "high"}])
    bort("evaluate", "--model", regressor, "--data", bad).refused("bad.jsonl:2", "'high'", "finite number")
    bad = jsonl(tmp_path / "bad.jsonl", [{"text": "a", "label": 1.5}, {"text": "b", "label": 1e300}])
    bort("evaluate", "--model", regressor, "--data", bad).refused("bad.jsonl:2", "1e+300", "3.4e+38")


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ([{"text": "a", "label": "cat"}, {"text": "b", "label": "cta"}], [":2:", "'cta'", "did you mean 'cat'?"]),
        ([{"text": "a", "label": "cat"}, {"text": "b", "label": None}], [":2:", "'label'", "missing"]),
        ([{"text": "a", "label": "cat"}, {"text": " ", "label": "cat"}], [":2:", "'text'", "blank"]),
        ([{"text": "a"}], [":1:", "'label'", "must exist"]),
        ([{"text": "a", "label": ["cat"]}], [":1:", "'label'", "['cat']"]),
        ([], ["at least one row"]),
    ],
)
def test_bad_rows(bort, classifier, tmp_path, rows, parts):
    data = jsonl(tmp_path / "data.jsonl", rows)
    bort("evaluate", "--model", classifier, "--data", data, "--json").refused(data, *parts)


def test_bad_settings(bort, classifier, world, labelled, tmp_path):
    words = ["evaluate", "--model", classifier, "--data"]
    bort(*words, labelled, "--resamples", "-1").refused("--resamples", "-1", "at least 0")
    bort(*words, tmp_path / "none.csv").refused("none.csv: no such file")
    bort(*words, labelled, "--label", "klass").refused("data.jsonl:1", "'klass'")
    (tmp_path / "plain.txt").write_text("a\n")
    bort(*words, tmp_path / "plain.txt").refused("plain.txt", "no labels")
    bort("evaluate", "--model", world.encoder, "--data", labelled).refused("fine-tune it first", "BertForMaskedLM")


def test_other_columns_and_long_texts(bort, classifier, tmp_path):
    data = jsonl(
        tmp_path / "data.jsonl", [{"a": "word " * 100, "b": "x", "y": "cat"}, {"a": "c", "b": "d", "y": "cat"}]
    )
    words = ["--text", "a", "--text_b", "b", "--label", "y", "--json", "--resamples", "0"]
    done = bort("evaluate", "--model", classifier, "--data", data, *words)
    assert done.err == "texts longer than 32 tokens, which were cut: 1\n"
    assert json.loads(done.out)["rows"] == 2
