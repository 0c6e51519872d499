"""Fixtures that several test files use."""

from __future__ import annotations

import importlib.util
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests import tiny

if TYPE_CHECKING:
    from collections.abc import Iterator

# Tiny models gain nothing from threads, and lose much where the cores are busy.
torch.set_num_threads(1)

# A busy machine is no fault of what is tested.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

SHARED_TASKS = Path(__file__).parents[2] / "shared" / "tasks"


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_disks() -> Iterator[None]:
    """SQLite leaves it to the system when what was written reaches the disk.

    Else studies wait for that more than for all else. It matters where the power fails, which no
    test tries; those that kill a process keep what the system holds, and do so in processes of
    their own, where this is not set.
    """
    connect = sqlite3.connect

    def without_waiting(*given: Any, **named: Any) -> sqlite3.Connection:
        connection = connect(*given, **named)
        with suppress(sqlite3.Error):  # of a damaged file, which is told when it is read
            connection.execute("PRAGMA synchronous = OFF")
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", without_waiting)
        yield


@pytest.fixture(autouse=True)
def _own_home(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No test reads or writes the user's ledger or cache, but for the one that fetches a model."""
    if "smollm2" not in request.fixturenames:
        monkeypatch.setenv("TELLTALE_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module", autouse=True)
def _module_home(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """What a module's own fixtures search is noted in no ledger of the user's, nor in another's."""
    with pytest.MonkeyPatch.context() as patch:
        if "model_or_skip" not in vars(request.module):  # which fetches a model once, for good
            patch.setenv("TELLTALE_HOME", str(tmp_path_factory.mktemp("home")))
        yield


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


@pytest.fixture(scope="session")
def own_datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The datasets library, where it is installed, keeps nothing where the user's cache is."""
    if importlib.util.find_spec("datasets") is None:
        yield
        return
    from datasets import config

    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("datasets")
        patch.setattr(config, "HF_DATASETS_CACHE", folder)
        patch.setattr(config, "HF_MODULES_CACHE", str(folder / "modules"))
        patch.setattr(config, "DOWNLOADED_DATASETS_PATH", folder / "downloads")
        yield
