"""How long `bort --help` takes, from the shell and back.

    python -m benchmarks.speed.startup

`bort finetune --help` is timed beside it: what a command costs that loads its arguments.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import Target, interleaved, parser, publish, table
from bort.speed.race import Spread

COMMANDS = {"bort --help": ["--help"], "bort finetune --help": ["finetune", "--help"]}


def runner(arguments: list[str]) -> Callable[[], None]:
    """Run the console script that stands beside this interpreter."""
    script = Path(sys.executable).with_name("bort")

    def run() -> None:
        subprocess.run([script, *arguments], check=True, stdout=subprocess.DEVNULL)

    return run


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=11)
    arguments = made.parse_args()
    seconds = interleaved({name: runner(flags) for name, flags in COMMANDS.items()}, arguments.rounds)
    spreads = {name: Spread.of(values) for name, values in seconds.items()}
    rows = [[f"`{name}`", f"{s.median:.3f}", f"{s.low:.3f}", f"{s.high:.3f}"] for name, s in spreads.items()]
    about = f"""
        Wall time of the whole process, {arguments.rounds} runs each, taken in turn after one untimed run (files are in
        the page cache). `bort finetune --help` is for information; it has no target.
    """
    shown = table(["command", "median s", "min s", "max s"], rows)
    figures = {"seconds": seconds}
    targets = [Target("`bort --help`, median", spreads["bort --help"].median, "<", 0.5, " s")]
    title = "Start of the command line"
    publish("startup", title, about=about, shown=shown, figures=figures, targets=targets, out=arguments.out)


if __name__ == "__main__":
    main()
