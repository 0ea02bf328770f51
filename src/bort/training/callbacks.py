"""What the Trainer tells a person and the disk while it runs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from bort.files import write_aside
from bort.pretraining.trainer import Clock
from bort.progress import Bar
from bort.runs import Run
from bort.training import distributed
from bort.training.checkpoints import COMPLETE


class RunCallback(TrainerCallback):
    """Keeps the clock, shows progress, logs JSON lines, and asks for a checkpoint every so many seconds.

    Args:
        run: Where events are logged.
        clock: Decides when the run is over.
        bar: Shown progress, of total 1.
        tokens_per_step: For the throughput.
        log_steps: Steps between two journal lines.
        checkpoint_seconds: Time between two checkpoints.
    """

    def __init__(
        self, run: Run, clock: Clock, bar: Bar, *, tokens_per_step: float, log_steps: int, checkpoint_seconds: float
    ) -> None:
        self.run, self.clock, self.bar = run, clock, bar
        self.tokens_per_step, self.log_steps, self.checkpoint_seconds = tokens_per_step, log_steps, checkpoint_seconds
        self._saved = time.monotonic()
        self._since: tuple[int, float] | None = None
        self.note = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        self.clock.start()
        self._since = (state.global_step, time.monotonic())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Decide on saving and stopping; only the time of the first process counts.

        It is asked for at the steps that are logged, where the processes exchange their losses anyway.
        """
        self.bar.update(self.clock.progress(state.global_step), f"step {state.global_step:,} {self.note}")
        if self.clock.progress(state.global_step) >= 1.0:
            control.should_training_stop = True
        asked = distributed.count() == 1 or state.global_step % self.log_steps == 0
        if asked and not control.should_training_stop and distributed.from_first(self._due()):
            control.should_save = True

    def _due(self) -> bool:
        return time.monotonic() - self._saved >= self.checkpoint_seconds

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """One journal line: step, loss, learning rate, tokens a second."""
        if not logs or "loss" not in logs or not state.is_world_process_zero:
            return
        now = time.monotonic()
        step, since = self._since or (0, now)
        speed = (state.global_step - step) * self.tokens_per_step / max(now - since, 1e-9)
        self._since = (state.global_step, now)
        self.note = f"loss {logs['loss']:.3f}, {speed / 1000:.1f} k tokens/s"
        fields = {"step": state.global_step, "loss": round(logs["loss"], 4), "tokens_per_second": round(speed)}
        extra = {name: round(value, 5) for name, value in logs.items() if name.startswith("loss_")}
        rate = logs.get("learning_rate", 0.0)
        self.run.log("step", **fields, **extra, learning_rate=rate, seconds=round(self.clock.seconds(), 1))

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark the checkpoint as whole and remember the time it took to get there."""
        self._saved = time.monotonic()
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        distributed.wait()  # each writes a part of the checkpoint
        if state.is_world_process_zero:
            with write_aside(folder / COMPLETE) as file:
                json.dump({"elapsed": self.clock.seconds(), "processes": distributed.count()}, file)
            self.run.log("checkpoint", step=state.global_step)
