"""Which checkpoints pass for complete."""

from __future__ import annotations

import os
import shutil

from bort.training import checkpoints
from bort.training.settings import trainer_settings


def test_of_checkpoints_that_are_half_deleted_none_passes_for_complete(tmp_path, monkeypatch):
    for step in (2, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        checkpoints.complete(tmp_path / f"checkpoint-{step}", {})
        (tmp_path / f"checkpoint-{step}" / "weights").touch()
    assert checkpoints.latest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    with monkeypatch.context() as killed:
        killed.setattr(shutil, "rmtree", lambda *_, **__: None)
        checkpoints.discard(tmp_path)
    assert (tmp_path / "checkpoint-10" / "weights").exists()
    assert checkpoints.latest_checkpoint(tmp_path) is None
    checkpoints.discard(tmp_path)
    assert not tmp_path.exists()


def test_the_newest_checkpoints_are_kept_though_the_clock_was_set_back(tmp_path):
    assert trainer_settings(tmp_path).save_total_limit is None, "the trainer deletes by dates"
    for step in (2, 9, 10, 11):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        checkpoints.complete(folder, {})
        os.utime(folder, (2e9 - step, 2e9 - step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-11"]
