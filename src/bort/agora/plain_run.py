"""`bort finetune` without a teacher: plain fine-tuning, and the linear head that it has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np
from transformers import PreTrainedModel

from bort.agora.session import Session
from bort.errors import BortError
from bort.finetuning.hyper_parameters import HyperParameters
from bort.finetuning.linear_head import Floats
from bort.finetuning.report import finetune_report
from bort.finetuning.student_head import StudentHead
from bort.progress import console


def fit_plainly(session: Session) -> dict[str, Any]:
    """Fit each combination once to the data as they are, keep the best, and describe it.

    Where the linear head is better on the development data, it is the result: both have learned from the training data
    alone when they are compared.
    """
    result = session.fit()
    model = session.open(result.best)
    head, data = session.head, session.data
    if session.arguments.keep_better and head is not None and head.held and head.beats(session.outputs(model)["dev"]):
        console().print(
            "no fine-tuned model beats the linear head on the development data: the head is the result", soft_wrap=True
        )
        fine_tuned = session.scores(model)
        model, metrics = head_result(session, head, head.says)
        metrics |= session.told(result) | {"fine_tuned": fine_tuned}
        metrics["labels_used"] = {"selection": len(data.train), "result": len(head.targets)}
    else:
        metrics = session.metrics(result, model, data.train)
        metrics["labels_used"] = {"selection": len(data.train), "result": len(data.train)}
    trials = [
        {"theta": str(HyperParameters(**trial.theta)), "score": trial.score, **trial.model.about}
        for trial in result.rounds[0].trials
    ]
    finetune_report(session.run, metrics, trials, metrics["confusion"])
    session.finish(metrics, model)
    return metrics


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
    if not head.held:
        kind = session.fitter.fresh().config.model_type
        rule = f"needs a classifier of BERT's or RoBERTa's kind, and {kind} has another: give --method plain"
        raise BortError(rule, setting="method", value="head")
    model, metrics = head_result(session, head, head.dev_out_of_fold)
    metrics["best_theta"] = head.described
    metrics["labels_used"] = {"selection": len(head.targets), "result": len(head.targets)}
    finetune_report(session.run, metrics, [], metrics["confusion"])
    session.finish(metrics, model)
    return metrics


def head_result(session: Session, head: StudentHead, dev: Floats) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A plain classifier with the head that has learned all labels, and what is to be told of it.

    Args:
        session: The run.
        head: What was fitted.
        dev: What is said of the development data, by a head that has not learned from them.
    """
    model = head.classifier()
    outputs = session.outputs(model) | {"dev": dev.astype(np.float32)}
    metrics = session.described(model, outputs, [*session.data.train, *session.data.dev])
    return model, metrics | {"result": "head"}
