"""The libraries themselves, offline, where they are installed; one process each."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from telltale.errors import InputError
from telltale.tracking import tracker_named
from telltale.tracking.records import config_of, path_records, summary_of
from tests.tracking.told import ASKED, result

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def read_back(name: str, folder: Path) -> list[dict[str, Any]]:
    """What the library has of a finished run and of an interrupted one."""
    try:
        tracker_named(name)
    except InputError as missing:
        pytest.skip(str(missing))
    done = subprocess.run(
        [sys.executable, "-m", "tests.tracking.real_run", name, str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "has failed" not in done.stderr
    found = json.loads(done.stdout)  # so nothing else was printed there
    assert found["strangers"] == []
    runs: list[dict[str, Any]] = found["runs"]
    return runs


def test_trackio_has_what_it_was_told(tmp_path: Path) -> None:
    finished, interrupted = read_back("trackio", tmp_path)
    own = {key: value for key, value in finished["config"].items() if not key.startswith("_")}
    assert own == config_of(ASKED)
    numbers = [
        {key: value for key, value in line.items() if key not in ("timestamp", "step")}
        for line in finished["log"]
    ]
    assert [line["step"] for line in finished["log"]] == [0, 1, 2, 3, 0, 1, 2, 2]
    assert numbers[4:7] == [dict(record.numbers) for record in path_records(result())]
    assert result().verdict in numbers[7]["summary"]["_value"]
    assert finished["files"] == ["<p>found"]
    assert [line["step"] for line in interrupted["log"]] == [0, 1, 2, 3]


def test_mlflow_has_what_it_was_told(tmp_path: Path) -> None:
    finished, interrupted = read_back("mlflow", tmp_path)
    assert finished["name"] == "small on capitals"
    assert finished["config"] == {key: str(value) for key, value in config_of(ASKED).items()}
    for record in path_records(result()):
        for name, value in record.numbers.items():
            assert [record.layers_removed, value] in finished["history"][name]
    for name, value in summary_of(result()).items():
        if isinstance(value, str):
            assert finished["tags"][name] == value
        else:
            assert finished["history"][name] == [[0, value]]
    assert finished["files"] == ["report.html"]
    assert (finished["status"], interrupted["status"]) == ("FINISHED", "KILLED")
    assert interrupted["history"]["search/accuracy"] == [[0, 0.5], [1, 0.75], [2, 0.5]]


def test_wandb_has_what_it_was_told(tmp_path: Path) -> None:
    read_back("wandb", tmp_path)
    # Their form is wandb's own; the names and texts in them are plain, and the names have dates.
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"), key=lambda file: file.parent.name)
    finished, interrupted = (file.read_text(encoding="latin-1") for file in files)
    for record in path_records(result()):
        for name in record.numbers:
            assert name in finished
            assert name not in interrupted
    for name in [*config_of(ASKED), "small on capitals", "made-up"]:
        assert name in finished
        assert name in interrupted
    assert result().verdict in finished
    assert "report.html" in finished
    assert "report.html" not in interrupted
