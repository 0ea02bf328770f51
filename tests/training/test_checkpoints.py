"""Which checkpoints pass for complete."""

from __future__ import annotations

import shutil

from bort.training import checkpoints


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
