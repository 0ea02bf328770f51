"""How long `bort finetune` takes with a hundred labels, a teacher and the default grid, as a user runs it.

    python -m benchmarks.speed.agora_run --teacher runs/all-mpnet-base-v2 --data ../shared/data/scarce/sst2

Each run is a fresh process: imports, the teacher's answers, all rounds, figures and report are in its time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import Target, parser, publish, table

MINUTES = 10.0
"""At most, on two cores."""


def finetune(data: Path, teacher: str, *flags: str) -> dict[str, Any]:
    """What a run says of itself, and its minutes."""
    given = [argument for part in ("train", "dev", "test") for argument in (f"--{part}", str(data / f"{part}.jsonl"))]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "bort", "finetune", *given, "--teacher", teacher, "--out", str(out), *flags]
        began = time.monotonic()
        subprocess.run(command, check=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
        minutes = (time.monotonic() - began) / 60
        metrics = json.loads((out / "metrics.json").read_text("utf-8"))
    return {
        "minutes": minutes,
        "rounds": [[len(done["trials"]), done["train_size"]] for done in metrics["rounds"]],
        "test": metrics["test"]["accuracy"],
        "plain": metrics["plain"]["test"]["accuracy"],
        "teacher": metrics["teacher"]["test"]["accuracy"],
        "texts": metrics["rows"]["train"],
    }


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--teacher", required=True, help="folder of the encoder that becomes the teacher")
    made.add_argument("--data", type=Path, default=Path("../shared/data/scarce/sst2"), help="folder of a task")
    arguments = made.parse_args()
    pool = str(arguments.data / "unlabelled.jsonl")
    run = finetune(arguments.data, arguments.teacher, "--unlabelled", pool)
    row = [
        f"{run['minutes']:.1f}",
        ", ".join(f"{fits} on {texts}" for fits, texts in run["rounds"]),
        *(f"{100 * run[part]:.1f}" for part in ("plain", "test", "teacher")),
    ]
    pooled = len(Path(pool).read_text("utf-8").splitlines())
    about = f"""
        `bort finetune` of bort-nano with the default settings on {run["texts"]} labelled texts of
        {arguments.data.name}, and with {pooled} texts without labels; the teacher is
        {Path(arguments.teacher).name} with logistic regression. Wall minutes of a fresh process, one
        run, all in. Test accuracy in %.
    """
    head = ["minutes", "combinations fitted, and to how many texts", "plain", "Agora", "the teacher"]
    publish(
        "agora_run",
        "A whole run of Agora",
        about=about,
        shown=table(head, [row]),
        figures=run,
        targets=[Target("wall minutes", run["minutes"], "<=", MINUTES)],
        out=arguments.out,
    )


if __name__ == "__main__":
    main()
