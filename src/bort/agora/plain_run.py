"""`bort finetune` without a teacher: plain fine-tuning, and the linear head that it has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from bort.agora.averaging import averaged
from bort.agora.cross_validation import out_of_fold
from bort.agora.last_trainings import plain_models, without_last_training
from bort.agora.rounds import AgoraResult, DivergedError, NoModelError
from bort.agora.session import Session, scored
from bort.agora.trial import TrainedWeights
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.finetuning.linear_head import Floats, LinearHead
from bort.finetuning.report import finetune_report
from bort.finetuning.student_head import StudentHead, learned_from
from bort.progress import say

_WORTH_ADDING = 0.1
"""Minimum ratio of development to training data for which a last training on both is worth its time."""


def fit_plainly(session: Session) -> dict[str, Any]:
    """Fit each combination once, choose one on the development data, and fit it to all labels.

    If the linear head is better, it is the result. The two are compared after learning the same labels: on the
    development data or, with few labels, out of fold.
    """
    result = session.fit()
    model = session.open(result.best)
    arguments, head, train = session.arguments, session.head, session.data.train
    everything = [*train, *session.data.dev]
    rival = head if arguments.keep_better and head is not None and head.held else None
    beaten, compared = (False, {}) if rival is None else compare(session, rival, result, session.outputs(model)["dev"])
    if rival is not None and beaten:
        fine_tuned = session.scores(model) | compared
        chosen = rival.whole if arguments.refit else rival.alone
        model, metrics = head_result(session, rival, chosen, rival.says)
        metrics |= session.told(result) | {"fine_tuned": fine_tuned}
        labels = len(chosen.folds)
    else:
        fitted = train
        if arguments.refit and not result.stopped and len(everything) >= (1 + _WORTH_ADDING) * len(train):
            try:
                model, fitted = refitted(session, result), everything
            except (DivergedError, NoModelError) as error:
                result = without_last_training(result, error)
        metrics = session.metrics(result, model, fitted) | compared
        labels = len(fitted)
    metrics["labels_used"] = {"selection": len(train), "result": labels}
    if compared:
        metrics["labels_used"]["out_of_fold"] = len(everything)
    return _finished(session, metrics, model)


def compare(
    session: Session, head: StudentHead, result: AgoraResult[TrainedWeights], dev: NDArray[np.float32]
) -> tuple[bool, dict[str, Any]]:
    """Decide whether a linear head is better than the fine-tuned model, and print it if so.

    It is if it scores better on the development data, or clearly better out of fold: see `out_of_fold`.

    Args:
        session: The run.
        head: Its linear head.
        result: Result of the loop.
        dev: Predictions of the best model on the development data. *Shape:* (examples, outputs).

    Returns:
        Whether the head is better, and the out-of-fold scores of fine-tuning for `metrics.json`, if computed.
    """
    better, where, compared = head.beats(dev), "on the development data", dict[str, Any]()
    # Cross-validation on grown data would take too long; the best model of round 1 is plain fine-tuning.
    if not better and result.best_round == 1 and not result.stopped:
        says = out_of_fold(session, head, result.best)
        if says is not None:
            compared = scored("out_of_fold", session.task.score(says.astype(np.float32), head.targets))
            better, where = head.clearly_beats(says), "in cross-validation"
    if better:
        say(f"fine-tuning does not beat the linear head {where}: the head is the result")
    return better, compared


def refitted(session: Session, result: AgoraResult[TrainedWeights]) -> PreTrainedModel:
    """Fit the best combination to training and development data, for as many epochs as it took to its best step.

    Args:
        session: The run.
        result: Result of one round.

    Raises:
        DivergedError: It failed to learn.
        NoModelError: All trainings failed, or time was up before the first.
    """
    data, learner = session.data, session.learner
    again = averaged(learner, plain_models(session, result.best), session.points([*data.train, *data.dev]))
    return session.fitter.open(again.read())


def fit_head(session: Session) -> dict[str, Any]:
    """Fit a linear head to all labels, write it as a plain classifier, and return the metrics.

    The development score is out of fold: each text is predicted by a head that was fitted without it.

    Args:
        session: A run of a task without choices.

    Raises:
        BortError: The encoder's classifiers cannot hold a linear head.
    """
    head = session.head
    assert head is not None, "check_choices was not asked"
    _ = session.inspection  # printed first
    if not head.held:
        kind = session.fitter.fresh().config.model_type
        rule = f"needs a classifier of BERT's or RoBERTa's kind, and {kind} has another: give --method plain"
        raise BortError(rule, setting="method", value="head")
    model, metrics = head_result(session, head, head.whole, head.dev_out_of_fold)
    metrics["best_theta"] = head.described
    metrics["labels_used"] = {"selection": head.labels_used, "result": head.labels_used}
    return _finished(session, metrics, model)


def _finished(session: Session, metrics: dict[str, Any], model: PreTrainedModel) -> dict[str, Any]:
    run = session.run
    session.finish(metrics, model, finetune_report(run.path.name, metrics, [*run.events("trial")]))
    return metrics


def head_result(
    session: Session, head: StudentHead, chosen: LinearHead, dev: Floats
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Return a plain classifier with a linear head, and its metrics.

    Args:
        session: The run.
        head: Its linear heads.
        chosen: The one that is the result.
        dev: Predictions on the development data, by a head that has not learned them.
    """
    model, fitted = head.classifier(chosen), learned_by(session, head, chosen)
    outputs = session.outputs(model) | {"dev": dev.astype(np.float32)}
    task = session.task_of_whole(head) if chosen is head.whole else None
    return model, session.described(model, outputs, fitted, task) | {"result": "head"}


def learned_by(session: Session, head: StudentHead, chosen: LinearHead) -> list[Example]:
    """Return the examples that a linear head has learned.

    Args:
        session: The run.
        head: Its linear heads.
        chosen: One of them.
    """
    fitted = learned_from(session.data.train)
    return learned_from([*fitted, *session.data.dev]) if chosen is head.whole else fitted
