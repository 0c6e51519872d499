"""Fixtures that several test files use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests import tiny

# Tiny models gain nothing from threads, and lose much where the cores are busy.
torch.set_num_threads(1)

SHARED_TASKS = Path(__file__).parents[2] / "shared" / "tasks"


@pytest.fixture(autouse=True)
def _own_home(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No test reads or writes the user's ledger or cache, but for the one that fetches a model."""
    if "smollm2" not in request.fixturenames:
        monkeypatch.setenv("TELLTALE_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama on disk. Tests that change it copy it first."""
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def shared_tasks() -> Path:
    """The folder of real task data, where the checkout has one beside it."""
    if not SHARED_TASKS.is_dir():
        pytest.skip(f"no task data at {SHARED_TASKS}")
    return SHARED_TASKS
