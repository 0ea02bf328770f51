"""`bort finetune` without a teacher: plain fine-tuning, and the linear head that it has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from bort.agora.averaging import averaged, plain_training, trained
from bort.agora.cross_validation import out_of_fold
from bort.agora.rounds import AgoraResult, DivergedError
from bort.agora.session import Session, scored
from bort.agora.trial import TrainedWeights
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.finetuning.linear_head import Floats, LinearHead
from bort.finetuning.report import finetune_report
from bort.finetuning.student_head import StudentHead
from bort.progress import console

_WORTH_ADDING = 0.1
"""A last training with the development data is worth its time where they are so many, as a share of the others."""


def fit_plainly(session: Session) -> dict[str, Any]:
    """Fit each combination once, choose by the development data, and fit the chosen one to all labels.

    Where the linear head is better, it is the result: both have learned the same labels when they are compared, on the
    development data or, where a few labels are all there are, out of fold.
    """
    result = session.fit()
    model = session.open(result.best)
    arguments, head, train = session.arguments, session.head, session.data.train
    everything = [*train, *session.data.dev]
    rival = head if arguments.keep_better and head is not None and head.held else None
    beaten, compared = (False, {}) if rival is None else compare(session, rival, result, session.outputs(model)["dev"])
    if rival is not None and beaten:
        fine_tuned = session.scores(model) | compared
        chosen, fitted = (rival.whole, everything) if arguments.refit else (rival.alone, train)
        model, metrics = head_result(session, rival, chosen, rival.says, fitted)
        metrics |= session.told(result) | {"fine_tuned": fine_tuned}
    else:
        fitted, again = train, None
        if arguments.refit and not result.stopped and len(everything) >= (1 + _WORTH_ADDING) * len(train):
            again = refitted(session, result)
        if again is not None:
            model, fitted = again, everything
        metrics = session.metrics(result, model, fitted) | compared
    metrics["labels_used"] = {"selection": len(train), "result": len(fitted)}
    if compared:
        metrics["labels_used"]["out_of_fold"] = len(everything)
    return _finished(session, metrics, model)


def compare(
    session: Session, head: StudentHead, result: AgoraResult[TrainedWeights], dev: NDArray[np.float32]
) -> tuple[bool, dict[str, Any]]:
    """Whether a linear head is better than what was fine-tuned, which is said.

    It is where it is better on the development data, or clearly so out of fold: see `out_of_fold`.

    Args:
        session: The run.
        head: Its own.
        result: Of the loop.
        dev: What the best model says of the development data. *Shape:* (examples, outputs).

    Returns:
        The answer, and for `metrics.json` what was fine-tuned scores out of fold, where this was asked.
    """
    better, where, compared = head.beats(dev), "on the development data", dict[str, Any]()
    # What has grown cannot be cross-validated in time; where nothing has, it is plain fine-tuning.
    if not better and result.best_round == 1 and not result.stopped:
        says = out_of_fold(session, head, result.best)
        if says is not None:
            compared = scored("out_of_fold", session.task.score(says.astype(np.float32), head.targets))
            better, where = head.clearly_beats(says), "in cross-validation"
    if better:
        console().print(f"fine-tuning does not beat the linear head {where}: the head is the result", soft_wrap=True)
    return better, compared


def refitted(session: Session, result: AgoraResult[TrainedWeights]) -> PreTrainedModel | None:
    """Fit the best combination to training and development data, for as many passes as it took to its best step.

    Args:
        session: The run.
        result: Of one round.

    Returns:
        The model; None if its outputs are not finite numbers, which is said.
    """
    data, learner, best = session.data, session.learner, result.best
    training, known = plain_training(session, best), session.points([*data.train, *data.dev])
    again = averaged(learner, trained(session, training, range(session.arguments.averaged)), known)
    try:
        learner.logits(again, data.dev)
    except DivergedError as error:
        console().print(f"the last training on all labels came to nothing: {error}", soft_wrap=True)
        return None
    return session.fitter.open(again.read())


def fit_head(session: Session) -> dict[str, Any]:
    """Fit a linear head to all labels, write it as a plain classifier, and describe it.

    The development figure is that of the folds: each text's answer comes of heads that have not seen it.

    Args:
        session: Of a task without choices.

    Raises:
        BortError: An encoder whose classifiers hold no linear head.
    """
    head = session.head
    assert head is not None, "check_choices was not asked"
    _ = session.inspection  # told before the head is
    if not head.held:
        kind = session.fitter.fresh().config.model_type
        rule = f"needs a classifier of BERT's or RoBERTa's kind, and {kind} has another: give --method plain"
        raise BortError(rule, setting="method", value="head")
    everything = [*session.data.train, *session.data.dev]
    model, metrics = head_result(session, head, head.whole, head.dev_out_of_fold, everything)
    metrics["best_theta"] = head.described
    metrics["labels_used"] = {"selection": len(head.targets), "result": len(head.targets)}
    return _finished(session, metrics, model)


def _finished(session: Session, metrics: dict[str, Any], model: PreTrainedModel) -> dict[str, Any]:
    run = session.run
    session.finish(metrics, model, finetune_report(run.path.name, metrics, [*run.events("trial")]))
    return metrics


def head_result(
    session: Session, head: StudentHead, chosen: LinearHead, dev: Floats, fitted: Sequence[Example]
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A plain classifier with a linear head, and what is to be told of it.

    Args:
        session: The run.
        head: What was fitted.
        chosen: Of it, the head that is the result.
        dev: What is said of the development data, by a head that has not learned from them.
        fitted: What the chosen head has learned from.
    """
    model = head.classifier(chosen)
    outputs = session.outputs(model) | {"dev": dev.astype(np.float32)}
    return model, session.described(model, outputs, fitted) | {"result": "head"}
