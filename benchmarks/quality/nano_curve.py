"""What more training brings bort-nano: runs of one recipe and shape, of other lengths.

    python -m benchmarks.quality.nano_curve --runs runs/short runs/second runs/third

Each is the folder of a `bort pretrain`; one that went on from another (`init`) counts that one's time too. The
measure is that of `benchmarks.quality.nano_choices`, beside the test accuracy, which chose nothing.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.common import parser, publish, table
from benchmarks.quality.probe import TASKS, probe_all


def measured(folder: Path) -> dict[str, float]:
    """Minutes and tokens of a run and of those that it went on from, and its held-out figures."""
    import yaml

    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    init = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))["init"]
    before = measured(Path(init)) if init else {"minutes": 0.0, "tokens": 0.0}
    return {
        "minutes": before["minutes"] + metrics["seconds"] / 60,
        "tokens": before["tokens"] + metrics["tokens"],
        "cosine": 1 - metrics["validation_distance"],
        "loss": metrics["validation_loss"],
    }


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--runs", nargs="+", type=Path, required=True)
    made.add_argument("--data", type=Path, default=Path("../shared/data/scarce"))
    arguments = made.parse_args()
    found: list[dict[str, Any]] = []
    for folder in arguments.runs:
        probed = probe_all(str(folder), arguments.data)
        means = {part: statistics.mean(task[part] for task in probed.values()) for part in ("dev", "test")}
        found.append({"run": folder.name, **measured(folder), **means, "tasks": probed})
    rows = [
        [
            f"{run['minutes']:.0f}",
            f"{run['tokens'] / 1e6:.1f} M",
            f"{run['cosine']:.3f}",
            f"{run['loss']:.3f}",
            *(f"{100 * run['tasks'][task]['test']:.1f}" for task in TASKS),
            f"{100 * run['test']:.1f}",
            f"{100 * run['dev']:.1f}",
        ]
        for run in sorted(found, key=lambda run: run["minutes"])
    ]
    head = ["minutes on one core", "tokens", "cosine", "masked loss", *TASKS, "test mean", "development mean"]
    about = """
        One recipe (the last of "bort-nano: shapes and recipes") and the shape 4 x 256 x 768, trained for longer and
        longer: cosine to the teacher and masked-LM loss on held-out sentences, accuracy in % of logistic regression on
        frozen features.
    """
    publish(
        "nano_curve",
        "bort-nano: what more training brings",
        about=about,
        shown=table(head, rows),
        figures={"runs": found},
        out=arguments.out,
    )


if __name__ == "__main__":
    main()
