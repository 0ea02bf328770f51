"""Settings of a tiny search."""

from __future__ import annotations

from typing import Any

import pytest

from bort.ose.arguments import ExtractArguments

SPACE = "depth: [1, 2]\nheads: [1, 2]\nhidden: [8, 16]\nintermediate: [8, 24]\n"


@pytest.fixture
def extraction(world, tmp_path):
    """Make settings of a search on a space of 16 members."""

    def make(**settings: Any) -> ExtractArguments:
        (tmp_path / "space.yaml").write_text(SPACE, "utf-8")
        return ExtractArguments(
            corpus=[world.corpus],
            out=str(tmp_path / "run"),
            space=str(tmp_path / "space.yaml"),
            teacher=world.encoder,
            **{"precision": "fp32", "learning_rates": [1e-3]} | settings,
        )

    return make
