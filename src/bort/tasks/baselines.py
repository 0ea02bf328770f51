"""Baselines for a model of few labels: the majority answer, and TF-IDF with logistic regression.

scikit-learn is imported inside the functions, as everywhere in the package.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.examples import Example

INVERSE_REGULARISATIONS = (1.0, 10.0, 100.0)


def labels_of(examples: Sequence[Example]) -> NDArray[np.str_]:
    """*Shape:* (examples,)."""
    return np.array([str(example.label) for example in examples])


def majority(train: Sequence[Example], dev: Sequence[Example], test: Sequence[Example]) -> dict[str, float]:
    """Accuracy of the training set's most frequent label."""
    counts = Counter(labels_of(train).tolist())
    answer = max(sorted(counts), key=lambda label: counts[label])
    return {part: float((labels_of(rows) == answer).mean()) for part, rows in (("dev", dev), ("test", test))}


def tfidf(
    train: Sequence[Example],
    dev: Sequence[Example],
    test: Sequence[Example],
    *,
    inverse_regularisations: Sequence[float] = INVERSE_REGULARISATIONS,
) -> dict[str, float]:
    """Accuracy of logistic regression on TF-IDF of words and word pairs; C is chosen on `dev`, the smallest on a tie.

    If the training texts have no word of two letters or more, this is the accuracy of the majority answer.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    try:
        vectorizer.fit([text for example in train for text in (example.text, example.text_b) if text is not None])
    except ValueError:
        return majority(train, dev, test)
    features = {name: _features(vectorizer, rows) for name, rows in (("train", train), ("dev", dev), ("test", test))}
    best: dict[str, float] = {}
    for c in inverse_regularisations:
        model = LogisticRegression(C=c, max_iter=5000).fit(features["train"], labels_of(train))
        on_dev = float(model.score(features["dev"], labels_of(dev)))
        if not best or on_dev > best["dev"]:
            best = {"dev": on_dev, "test": float(model.score(features["test"], labels_of(test))), "C": c}
    return best


def _features(vectorizer: Any, examples: Sequence[Example]) -> Any:
    """Sparse features: a, or for pairs a, b, |a - b|, a * b side by side. *Shape:* (examples, features)."""
    from scipy.sparse import csr_matrix, hstack

    a = vectorizer.transform([example.text for example in examples])
    if examples[0].text_b is None:
        return a
    b = vectorizer.transform([example.text_b or "" for example in examples])
    return csr_matrix(hstack([a, b, abs(a - b), a.multiply(b)]))
