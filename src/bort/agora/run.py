"""`bort finetune`: the loop on texts, with encoders and a teacher, in a run's folder."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from bort.agora.checks import MAY_CHANGE, check_agora, check_choices, check_one_task, read_pool
from bort.agora.general_pool import check_general_pool
from bort.agora.growing_run import fit_growing
from bort.agora.journal import RunClock, remove_leftovers
from bort.agora.labellers import Function
from bort.agora.nearby import Embedding
from bort.agora.plain_run import fit_head, fit_plainly
from bort.agora.session import Session
from bort.bounds import validate
from bort.data.index.layout import NAME
from bort.errors import flag
from bort.finetuning.arguments import AS_PUBLISHED, FinetuneArguments
from bort.finetuning.fingerprint import digest
from bort.finetuning.splits import Splits, read_splits
from bort.model.checkpoints import locate
from bort.predict.fingerprint import fingerprints_of_models
from bort.runs import Run
from bort.training.randomness import own_randomness
from bort.workers import Needs, Workers, check_workers, open_workers


@own_randomness()
def finetune(
    arguments: FinetuneArguments,
    *,
    teacher: Function | None = None,
    embedding: Embedding | None = None,
    workers: Workers | None = None,
    data: Splits | None = None,
) -> dict[str, Any]:
    """Fine-tune with the chosen method, write the model to `arguments.out`, and return the metrics.

    With `resume`, an interrupted run with the same settings continues: finished trials and labelled texts are read from
    the journal, and an unfinished trial starts at its last checkpoint.

    Args:
        arguments: Settings.
        teacher: A function that labels texts, instead of the teacher that the settings name.
        embedding: Measures how near texts are, instead of the teacher's or the student's encoder; it is also used for
            a teacher with the same model.
        workers: Where trials run; by default according to the settings.
        data: What the settings' files hold, if it is read already.

    Raises:
        BortError: Invalid settings, data, model or teacher.
    """
    validate(arguments)
    if arguments.as_published:
        arguments = replace(arguments, **AS_PUBLISHED)
    check_one_task(arguments)
    agora = arguments.method == "agora"
    check_choices(arguments)
    if agora:
        check_agora(arguments, teacher)
    needs = Needs.of(arguments)
    check_workers(arguments.workers, needs)
    data = read_splits(arguments, hold_out=agora) if data is None else data
    pool = read_pool(arguments.unlabelled, arguments, data) if agora and arguments.unlabelled else []
    general = check_general_pool(arguments, data.train) if agora else {}
    locate(arguments.model)
    run = Run(arguments.out, "finetune", arguments, resume=arguments.resume, may_change=MAY_CHANGE)
    if (metrics := run.finished()) is not None:
        remove_leftovers(run)
        return metrics
    read = {"training": data.train, "development": data.dev, "test": data.test or [], "unlabelled": pool}
    run.same_data({part: digest(examples) for part, examples in read.items()} | general | _digests_of_files(arguments))
    with open_workers(arguments.workers, needs) if workers is None else contextlib.nullcontext(workers) as opened:
        session = Session(arguments, run, data, opened, RunClock(run, arguments.budget_minutes))
        if agora:
            return fit_growing(session, pool, teacher, embedding)
        return fit_head(session) if arguments.method == "head" else fit_plainly(session)


def _digests_of_files(arguments: FinetuneArguments) -> dict[str, str]:
    """Digests of the models and the instructions that a run depends on, by flag; of a model of the hub, its name."""
    if arguments.method != "agora":
        return fingerprints_of_models(model=arguments.model)
    indexed = arguments.pool is not None and not (Path(arguments.pool) / NAME).is_file()
    found = fingerprints_of_models(
        model=arguments.model,
        teacher=arguments.teacher,
        transform_model=arguments.transform_model if arguments.made_per_mistake else None,
        pool_model=arguments.pool_model if indexed else None,
    )
    if arguments.instructions is not None:
        found[flag("instructions")] = hashlib.sha256(Path(arguments.instructions).read_bytes()).hexdigest()
    return found
