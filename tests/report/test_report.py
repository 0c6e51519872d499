"""Reports of real searches on a tiny model, finished and stopped, by command and by function."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import telltale
from telltale.cli.main import main
from telltale.errors import InputError
from telltale.evidence.result import result_from
from telltale.report import figure_folders, write_report
from telltale.report.examples import differences
from telltale.study.reading import read_study
from telltale.support.words import typeset
from telltale.watcher import Watcher
from tests.report.markup import Markup
from tests.studies import search_arguments

if TYPE_CHECKING:
    from pathlib import Path

    from telltale.searches import Round


class StopError(Exception):
    """What stops a search."""


class Stopping(Watcher):
    """Stops after so many rounds."""

    def __init__(self, rounds: int) -> None:
        self.left = rounds

    def phase(self, name: str) -> None:
        if not self.left:
            raise StopError

    def round_done(self, done: Round) -> None:
        self.left -= 1
        if not self.left:
            raise StopError


@pytest.fixture(scope="module")
def study(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "study"
    with pytest.raises(SystemExit) as ended:
        main(search_arguments(tiny_folder, folder, "--max-removed", "2", "--tolerance", "1"))
    assert ended.value.code == 0
    return folder


def stopped(tiny_folder: Path, folder: Path, rounds: int) -> Path:
    with pytest.raises(StopError):
        telltale.search(
            str(tiny_folder),
            "capitals",
            out=folder,
            limit=40,
            held_out=30,
            tolerance=1,
            max_removed=2,
            watcher=Stopping(rounds),
        )
    return folder


def test_the_command_writes_a_page_and_nothing_else(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.read_bytes() for file in study.iterdir()}
    with pytest.raises(SystemExit) as ended:
        main(["report", str(study), "--to", str(tmp_path / "page.html")])
    assert ended.value.code == 0
    assert f"Written to {tmp_path / 'page.html'}" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    assert {file: file.read_bytes() for file in study.iterdir()} == before


def test_a_real_study_is_told_with_its_own_numbers(study: Path, tmp_path: Path) -> None:
    write_report([study], tmp_path / "page.html")
    found = Markup((tmp_path / "page.html").read_text(encoding="utf-8"))
    document = json.loads((study / "result.json").read_text(encoding="utf-8"))
    assert typeset(document["verdict"]) in found.text
    for model in document["path"]:
        assert f"{100 * model['held_out']['accuracy']:.1f}%" in found.text
    assert document["fingerprint"] in found.text
    assert found.unbalanced == []


def test_the_file_and_the_result_say_the_same(study: Path) -> None:
    stored = read_study(study)
    document = json.loads((study / "result.json").read_text(encoding="utf-8"))
    result = stored.result
    assert result is not None
    assert result_from(document, stored.held_out_looks) == result
    assert result.document == document
    assert [model.removed for model in result.models[1:]] == [
        tuple(one["removed"]) for one in document["path"][1:]
    ]
    model = result.models[-1]
    assert model.held_out is not None
    seen = differences(stored, model)
    assert len(seen) == document["task"]["held_out_examples"]
    assert sum(one.by for one in seen) / len(seen) == pytest.approx(model.held_out.gain)


def test_a_stopped_search_has_a_page_of_what_it_has(tiny_folder: Path, tmp_path: Path) -> None:
    folder = stopped(tiny_folder, tmp_path / "s", rounds=1)
    write_report([folder], tmp_path / "page.html")
    text = Markup((tmp_path / "page.html").read_text(encoding="utf-8")).text
    assert "This study is not finished. The search has finished 1 round;" in text
    models = read_study(folder).searched.models
    assert len(models) == 2
    assert f"{100 * models[1].accuracy:.1f}%" in text


def test_a_search_stopped_before_its_first_measurement_has_a_page(
    tiny_folder: Path, tmp_path: Path
) -> None:
    folder = stopped(tiny_folder, tmp_path / "s", rounds=0)
    write_report([folder], tmp_path / "page.html")
    text = Markup((tmp_path / "page.html").read_text(encoding="utf-8")).text
    assert "This study is not finished." in text
    assert "give its command again" in text


def test_several_studies_are_compared_and_have_folders_of_their_own(
    study: Path, tmp_path: Path
) -> None:
    write_report([study, study], tmp_path / "page.html")
    assert "2 studies" in Markup((tmp_path / "page.html").read_text(encoding="utf-8")).text
    folders = figure_folders([study, tmp_path / "other" / "study"], tmp_path / "f")
    assert len(set(folders.values())) == 2
    assert figure_folders([study], tmp_path / "f") == {study: tmp_path / "f"}


def test_figures_are_written_by_the_command(study: Path, tmp_path: Path) -> None:
    pytest.importorskip("resvg_py", reason="resvg-py is not installed")
    with pytest.raises(SystemExit) as ended:
        main(
            [
                *("report", str(study), "--to", str(tmp_path / "page.html")),
                *("--figures", str(tmp_path / "f")),
            ]
        )
    assert ended.value.code == 0
    kinds = {file.suffix for file in (tmp_path / "f").iterdir()}
    assert kinds == {".svg", ".png", ".csv"}


def test_what_is_no_study_or_no_place_is_refused_in_a_line(study: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a study"):
        write_report([tmp_path], tmp_path / "page.html")
    with pytest.raises(InputError, match="it is a folder; give a file's name"):
        write_report([study], tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        write_report([study], tmp_path / "no" / "page.html")
    with pytest.raises(InputError, match="no study to report on"):
        write_report([], tmp_path / "page.html")
    assert not list(tmp_path.iterdir())
