"""`bort submit`: leaderboard files for several tasks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bort.bounds import validate
from bort.cli.results import FolderResult


@dataclass
class SubmitArguments:
    """Arguments of `bort submit`.

    Example:
        >>> SubmitArguments("runs/glue", "glue", "answers").task
        ['glue']
    """

    models: str
    """folder with one model per task, as bort finetune --task glue --out FOLDER writes it"""
    data: str
    """folder with the suite's official files, or hub"""
    out: str
    """folder for the answers and their zip"""
    task: list[str] = field(default_factory=lambda: ["glue"])
    """tasks by name, or glue, superglue or race for a whole suite"""
    cast: Literal["auto", "improved", "released"] = "auto"
    """how rows become model inputs (see bort finetune); auto: as in fine-tuning"""


def submit(arguments: SubmitArguments) -> FolderResult:
    """Answer the test data of several tasks, and zip the files for gluebenchmark.com and super.gluebenchmark.com.

    Tasks without a model or test data are reported and left out of the zip, and so are answers whose number differs
    from the official one. If a task fails, the others are still answered, and the exit status is 2. The MNLI model
    answers AX, and SuperGLUE's RTE model answers AX-b and AX-g.

    Example:
        >>> import bort
        >>> arguments = bort.FinetuneArguments("runs/glue/rte", task=["rte"], data="official", method="head")
        >>> bort.finetune(arguments).method
        'head'
        >>> sorted(bort.submit(bort.SubmitArguments("runs/glue", "official", "answers", task=["rte"])).metrics["files"])
        ['rte']
    """
    validate(arguments)
    from bort.errors import BortError
    from bort.predict.suite_task import SuitePredictor, model_of
    from bort.progress import out, say
    from bort.tasks.suites.reading import FROM_HUB, has_part
    from bort.tasks.suites.table import find

    tasks = find(arguments.task)
    for folder in (arguments.models, *([] if arguments.data == FROM_HUB else [arguments.data])):
        if not Path(folder).is_dir():
            raise BortError("no such folder", file=folder)
    files, failed = {}, {}
    for task in tasks:
        model = model_of(arguments.models, task)
        if model is None or not has_part(task, arguments.data, "test"):
            lacks = f"{arguments.models} has no model" if model is None else f"{arguments.data} has no test data"
            say(f"{task.title}: {lacks} of it")
            continue
        try:
            files[task.name] = str(SuitePredictor(model, task, arguments.data, arguments.cast).submit(arguments.out))
        except BortError as error:
            failed[task.name] = str(error)
            say(f"{task.title} failed: {error}")
            continue
        out().print(files[task.name], soft_wrap=True)
    if not files and not failed:
        raise BortError("there is no task with a model and test data", setting="task", value=arguments.task)
    suites = [task.suite for task in tasks if task.name in files]
    packed = pack_and_say(arguments.out, suites, out(), [task.name for task in tasks if task.name not in files])
    if failed:
        raise BortError("failed; the other tasks are answered", setting="task", value=", ".join(failed))
    return FolderResult({"files": files, **packed}, Path(arguments.out))


def pack_and_say(folder: str, suites: list[Any], say: Any, unanswered: Collection[str] = ()) -> dict[str, Any]:
    """Zip each suite's files, and print on a console what the zip lacks."""
    from bort.tasks.suites.submission import pack

    zips, lacking = {}, {}
    for suite in dict.fromkeys(suites):
        path, missing = pack(suite, folder, unanswered)
        zips[suite], lacking[suite] = str(path), missing
        say.print(f"{path}" + (", which lacks:" if missing else ", with all tasks"), soft_wrap=True)
        for title, why in missing.items():
            say.print(f"  {title}: {why}", soft_wrap=True)
    return {"zips": zips, "lacking": lacking}


__all__ = ["SubmitArguments", "submit"]
