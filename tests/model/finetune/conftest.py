"""Tiny checkpoints to train, quickly."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from tiny_checkpoints import FAMILIES, write_tiny

from model.finetune import loss_curve


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of every family, named after it; do not change them."""
    folder = tmp_path_factory.mktemp("tiny")
    return {family: write_tiny(family, folder / f"{family}-tiny") for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session", autouse=True)
def quick_garbage_collection() -> Iterator[None]:
    """The Trainer collects garbage when it starts: among the imported modules' objects that takes longer than a run."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the curve's picture empty: drawing it takes as long as a short run."""

    def touch(losses: pd.DataFrame, path: Path) -> None:
        path.touch()

    monkeypatch.setattr(loss_curve, "draw", touch)
