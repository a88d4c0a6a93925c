"""The three families in turn, each with its checkpoint before training (random weights, trained vocabulary)."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path

import pytest

from model.demo.family import FAMILIES, DemoFamily, write_initial_checkpoint


@pytest.fixture(scope="session", params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> DemoFamily:
    return FAMILIES[request.param]


@pytest.fixture(scope="session")
def initial_checkpoints() -> dict[str, Path]:
    """Folders already written, by name."""
    return {}


@pytest.fixture(scope="session")
def initial_checkpoint(
    family: DemoFamily, initial_checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The family's folder of seed 0, named as the shipped one."""
    if family.name not in initial_checkpoints:
        folder = tmp_path_factory.mktemp("initial") / family.name
        write_initial_checkpoint(family, folder, 0)
        initial_checkpoints[family.name] = folder
    return initial_checkpoints[family.name]
