"""A linear head on frozen features: the baseline of every run, and the head of an encoder that serves as teacher.

scikit-learn fits it (logistic regression, one per label for multi-label data; ridge for numbers) in one thread, so that
the same data always give the same head. It is imported inside the functions, as everywhere in the package.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bort.data.tables.labels import Kind
from bort.finetuning.class_weights import class_weights
from bort.finetuning.folds import assign_folds
from bort.progress import AFTER, Bar, bar
from bort.tasks.task import Task

Floats = NDArray[np.float64]
_CERTAIN = 30.0
"""Finite logit of a label that all examples have; its negative for a label that none has."""
Features = Mapping[str, NDArray[Any]]
"""Features by name of the pooling. *Shape:* (examples, D) each, where D depends on the pooling."""
INVERSE_REGULARISATIONS = (0.1, 1.0, 10.0, 100.0, 1000.0)
MOST_FITTED = 15_000
"""Most examples that a head is fitted to; more do not improve it."""
_MOST_TO_CHOOSE_BY = 5000
"""Most examples by which the pooling and C are chosen; more would take minutes and change nothing."""
_SOLVER_BYTES = 40 << 20
"""Memory that a solver may need on top of its data: OpenBLAS maps a buffer of 32 MiB at its first factorisation."""


@dataclass(frozen=True)
class LinearHead:
    """Weights on the features of one pooling.

    Attributes:
        task: The task.
        pooling: Name of the pooling.
        inverse_regularisation: C of the logistic regression, 1 / alpha of the ridge regression.
        weight: *Shape:* (outputs, D).
        bias: -inf for a label that no example has; in multi-label data inf for one that all have. *Shape:* (outputs,).
        folds: Fold of each example that the head was fitted to. *Shape:* (examples,).
        out_of_fold: Predictions for all given examples, in the form of `says`: out of fold for those that the head was
            fitted to.
        score: The task's metric on the out-of-fold predictions.
        loss: Log-loss, or mean squared error, of these.
    """

    task: Task
    pooling: str
    inverse_regularisation: float
    weight: Floats
    bias: Floats
    folds: NDArray[np.int64]
    out_of_fold: Floats
    score: float
    loss: float

    def says(self, features: Features) -> Floats:
        """Predictions in the form of `Task.says`. *Shape:* (examples, outputs)."""
        return self.task.says(features[self.pooling].astype(np.float64) @ self.weight.T + self.bias)

    def unlearned(self, features: Features, names: Sequence[Hashable], learned: Sequence[Hashable]) -> Floats:
        """Like `says`, but with the out-of-fold prediction for each text that the head was fitted to.

        Args:
            features: Features of any examples.
            names: Names of their texts.
            learned: Names of the texts that the head was fitted to, in the order of `out_of_fold`.
        """
        says, own = self.says(features), dict(zip(learned, self.out_of_fold, strict=True))
        for row, name in zip(says, names, strict=True):
            row[:] = own.get(name, row)
        return says


def fitted_places(count: int) -> NDArray[np.int64]:
    """Places of the examples that a head is fitted to: all, or a fixed random sample of very many."""
    return np.sort(np.random.default_rng(0).permutation(count)[:MOST_FITTED])


def fit_linear_head(
    features: Features,
    targets: NDArray[Any],
    task: Task,
    *,
    groups: Sequence[Hashable] | None = None,
    balance: bool = False,
    seed: int = 0,
) -> LinearHead:
    """Choose the pooling and the regularisation by cross-validation, then fit the head to all examples.

    If there are very many, this uses a random sample (see `fitted_places`).
    The best out-of-fold score wins; ties go to the lower loss, then to the pooling named first, then to the stronger
    regularisation. Features are centred and scaled by one number; the weights are converted back to unscaled features.

    Args:
        features: Features of the same examples for each pooling.
        targets: As returned by `Task.targets`.
        task: The task, with the metric that decides.
        groups: As in `assign_folds`.
        balance: Whether rare labels count as much as frequent ones in each fit, as in fine-tuning; scores and losses
            are not weighted. A ridge regression ignores it.
        seed: Random seed.

    Raises:
        ValueError: There are fewer than two examples.
        MemoryError: There is not enough memory for a solver.
    """
    places = fitted_places(len(targets))
    if len(places) < len(targets):
        names = groups or range(len(targets))
        learned, some = [names[place] for place in places], {name: x[places] for name, x in features.items()}
        head = fit_linear_head(some, targets[places], task, groups=learned, balance=balance, seed=seed)
        return replace(head, out_of_fold=head.unlearned(features, names, learned))
    folds = assign_folds(targets, groups, seed=seed)
    few = np.sort(np.random.default_rng(seed).permutation(len(targets))[:_MOST_TO_CHOOSE_BY])
    by_fold = len(features) * len(INVERSE_REGULARISATIONS) + (len(few) < len(targets))
    fits = len(np.unique(folds)) * by_fold + 1
    with threadpool_limits(1, user_api="blas"), bar("fitting a linear head", fits, after=AFTER) as shown:
        scaled = {name: _Scaled.of(values) for name, values in features.items()}
        tried = []
        for name, x in scaled.items():
            found = _out_of_fold(x.values[few], targets[few], folds[few], task, INVERSE_REGULARISATIONS, balance, shown)
            for c, says in found.items():
                tried.append((-score_of(task, says, targets[few]), loss_of(task, says, targets[few]), name, c, says))
        _, _, pooling, c, out_of_fold = min(tried, key=lambda found: found[:2])
        x = scaled[pooling]
        if len(few) < len(targets):
            out_of_fold = _out_of_fold(x.values, targets, folds, task, (c,), balance, shown)[c]
        weight, bias = x.unscaled(*_fitted(x.values, targets, task, c, balance))
        shown.update(fits)
    score, loss = score_of(task, out_of_fold, targets), loss_of(task, out_of_fold, targets)
    return LinearHead(task, pooling, c, weight, bias, folds, out_of_fold, score, loss)


def finite(bias: Floats) -> Floats:
    """Replace the infinite logits of labels that all examples have, or none has. *Shape:* unchanged."""
    found: Floats = np.nan_to_num(bias, posinf=_CERTAIN, neginf=-_CERTAIN)
    return found


def fit_weights(features: NDArray[Any], targets: NDArray[Any], task: Task, c: float) -> tuple[Floats, Floats]:
    """Fit a head with a given regularisation. Returns weights, *shape* (outputs, D), and biases, *shape* (outputs,).

    Args:
        features: *Shape:* (examples, D).
        targets: As returned by `Task.targets`.
        task: The task.
        c: C of the logistic regression, 1 / alpha of the ridge regression.
    """
    x = _Scaled.of(features)
    with threadpool_limits(1, user_api="blas"):
        return x.unscaled(*_fitted(x.values, targets, task, c, balance=False))


def score_of(task: Task, says: NDArray[Any], targets: NDArray[Any]) -> float:
    """The task's metric. *Shape:* says (examples, outputs)."""
    return task.score(says.astype(np.float32), targets, resamples=0)[task.metric].value


def loss_of(task: Task, says: NDArray[Any], targets: NDArray[Any]) -> float:
    """The log-loss, or the mean squared error. *Shape:* says (examples, outputs)."""
    return float(task.losses(says, targets).mean())


@dataclass(frozen=True)
class _Scaled:
    """Features centred at 0 with a mean squared length of 1, so that one grid of regularisations suits all encoders."""

    values: Floats
    centre: Floats
    length: float

    @classmethod
    def of(cls, features: NDArray[Any]) -> _Scaled:
        centre: Floats = features.mean(0, dtype=np.float64)
        values = features - centre
        length = float(np.sqrt((values**2).sum(1).mean())) or 1.0
        return cls(values / length, centre, length)

    def unscaled(self, weight: Floats, bias: Floats) -> tuple[Floats, Floats]:
        """Convert a head to the original features."""
        weight = weight / self.length
        return weight, bias - weight @ self.centre


def _out_of_fold(
    x: Floats,
    targets: NDArray[Any],
    folds: NDArray[np.int64],
    task: Task,
    grid: Sequence[float],
    balance: bool,
    shown: Bar,
) -> dict[float, Floats]:
    """Out-of-fold predictions for each example, by regularisation; the bar counts the fits."""
    found = {c: np.zeros((len(x), task.outputs)) for c in grid}
    for fold in np.unique(folds):
        held_out = folds == fold
        for c in grid:
            weight, bias = _fitted(x[~held_out], targets[~held_out], task, c, balance)
            logits = x[held_out] @ weight.T + bias
            found[c][held_out] = task.says(logits)
            shown.update(shown.done + 1)
    return found


def _fitted(x: Floats, targets: NDArray[Any], task: Task, c: float, balance: bool) -> tuple[Floats, Floats]:
    """Weights, *shape* (outputs, D), and biases, *shape* (outputs,)."""
    try:  # OpenBLAS retries forever if it cannot allocate its buffer
        mmap.mmap(-1, _SOLVER_BYTES).close()
    except OSError as error:
        raise MemoryError from error
    weighted = balance and task.kind != "regression"
    weights = class_weights(targets, task.outputs) if weighted else np.ones(task.outputs)
    return _FITS[task.kind](x, targets, weights, c)


def _ridge(x: Floats, targets: NDArray[Any], weights: Floats, c: float) -> tuple[Floats, Floats]:
    from sklearn.linear_model import Ridge

    ridge = Ridge(alpha=1 / c).fit(x, targets.astype(np.float64))
    return ridge.coef_.reshape(1, -1), np.array([float(ridge.intercept_)])


def _multinomial(x: Floats, targets: NDArray[Any], weights: Floats, c: float) -> tuple[Floats, Floats]:
    from sklearn.linear_model import LogisticRegression

    outputs = len(weights)
    weight, bias = np.zeros((outputs, x.shape[1])), np.full(outputs, -np.inf)
    known = np.unique(targets)
    bias[known] = 0.0
    if len(known) < 2:
        return weight, bias
    by_class = {label: weights[label] for label in known.tolist()}
    head = LogisticRegression(C=c, max_iter=5000, class_weight=by_class).fit(x, targets)
    if len(known) == 2:  # scikit-learn gives one row for both classes
        weight[known] = np.vstack([-head.coef_, head.coef_]) / 2
        bias[known] = np.concatenate([-head.intercept_, head.intercept_]) / 2
    else:
        weight[known], bias[known] = head.coef_, head.intercept_
    return weight, bias


def _one_vs_rest(x: Floats, targets: NDArray[Any], weights: Floats, c: float) -> tuple[Floats, Floats]:
    from sklearn.linear_model import LogisticRegression

    weight, bias = np.zeros((len(weights), x.shape[1])), np.zeros(len(weights))
    for label, has in enumerate(targets.T > 0):
        if has.all() or not has.any():
            bias[label] = np.inf if has.all() else -np.inf
            continue
        by_class = {False: 1.0, True: weights[label]}
        head = LogisticRegression(C=c, max_iter=5000, class_weight=by_class).fit(x, has)
        weight[label], bias[label] = head.coef_[0], head.intercept_[0]
    return weight, bias


_FITS: Mapping[Kind, Callable[[Floats, NDArray[Any], Floats, float], tuple[Floats, Floats]]] = {
    "classification": _multinomial,
    "regression": _ridge,
    "multilabel": _one_vs_rest,
}
