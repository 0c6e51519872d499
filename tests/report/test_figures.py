"""Figures and tables as files: the numbers of result.json, in forms that others read."""

from __future__ import annotations

import csv
import io
import struct
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest

from telltale.errors import InputError
from telltale.report.figures import tables, write_study_figures
from telltale.report.tables import csv_text, path_columns
from tests.report.made import Made

if TYPE_CHECKING:
    from pathlib import Path

    from telltale.study.reading import StoredStudy


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def table(study: StoredStudy, name: str) -> list[dict[str, str]]:
    return read(tables(study, study.searched)[name])


def document(study: StoredStudy) -> dict[str, Any]:
    assert study.document is not None
    return study.document


def test_the_path_has_the_numbers_of_the_result_to_the_last_digit() -> None:
    study = Made(guards=("arc_easy",), gain=0.1).finished()
    rows, models = table(study, "path"), document(study)["path"]
    assert len(rows) == len(models)
    for row, model in zip(rows, models, strict=True):
        seen, guard = model["held_out"], model["guards"]["arc_easy"]
        expected = {
            "parameters": model["parameters"],
            "search_accuracy": model["search"]["accuracy"],
            "search_objective": model["search"]["objective"],
            "held_out_accuracy": seen["accuracy"],
            "held_out_low": seen["interval"][0],
            "held_out_high": seen["interval"][1],
            "gain": seen["gain"],
            "gain_low": seen["gain_interval"][0],
            "gain_high": seen["gain_interval"][1],
            "loses_at_most": model["loses_at_most"],
            "text_perplexity": model["text_perplexity"],
            "guard arc_easy gain": guard["gain"],
            "guard arc_easy loses_at_most": guard["loses_at_most"],
        }
        assert {name: float(row[name]) for name in expected} == expected
        assert row["removed_layer"] == (str(model["removed"][-1]) if model["removed"] else "")


def test_the_rounds_have_every_candidate() -> None:
    study = Made().finished()
    rows = table(study, "rounds")
    for number, done in enumerate(document(study)["rounds"], start=1):
        of_round = [row for row in rows if row["round"] == str(number)]
        assert {row["layer"]: float(row["accuracy"]) for row in of_round} == done["candidates"]
        assert {row["layer"]: float(row["objective"]) for row in of_round} == done["objective"]
        left_out = [int(row["layer"]) for row in of_round if row["left_out"] == "1"]
        assert left_out == ([done["removed"]] if done["accepted"] else [])


def test_the_examples_have_their_scores_and_no_text() -> None:
    study = Made(context=lambda i: f"a secret {i}").finished()
    text = tables(study, study.searched)["examples"]
    assert "secret" not in text
    rows = read(text)
    assert len(rows) == 60
    for row in rows:
        change = float(row["score"]) - float(row["whole_model_score"])
        assert row["change"] == {1: "mended", -1: "broken", 0: ""}[round(change)]


def test_an_unfinished_study_has_the_tables_of_its_search() -> None:
    study = Made().interrupted(2)
    assert set(tables(study, study.searched)) == {"path", "rounds"}
    assert "held_out_accuracy" not in table(study, "path")[0]


def test_no_name_is_a_formula_or_a_control() -> None:
    rows = read(csv_text([{"=name": "=1+1", "other": "a\x1bb\u202e", "number": -1.5}]))
    assert rows == [{"'=name": "'=1+1", "other": r"a\x1bb\u202e", "number": "-1.5"}]


def test_every_column_of_the_page_is_in_the_csv_file() -> None:
    searched = Made(guards=("arc_easy",)).finished().searched
    assert all(column.values for column in path_columns(searched))


def test_figures_are_svg_and_png_and_tables_csv(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py", reason="resvg-py is not installed")
    written = write_study_figures(Made().finished(), tmp_path / "figures")
    names = {file.name for file in written}
    assert names == {file.name for file in (tmp_path / "figures").iterdir()}
    drawn = {"accuracy", "rounds-likelihood", "rounds-accuracy", "size", "speed", "pareto"}
    assert {name.split(".")[0] for name in names if name.endswith(".svg")} == drawn
    for name in drawn:
        root = ET.fromstring((tmp_path / "figures" / f"{name}.svg").read_text(encoding="utf-8"))
        data = (tmp_path / "figures" / f"{name}.png").read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        (wide,) = struct.unpack(">I", data[16:20])
        assert wide == pytest.approx(2 * float(root.get("width", 0)), abs=2)


def test_an_objective_of_ones_own_names_no_other_folder(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py", reason="resvg-py is not installed")
    study = Made(objective="../../mine <b>").finished()
    written = write_study_figures(study, tmp_path / "figures")
    assert {file.parent for file in written} == {tmp_path / "figures"}
    assert (tmp_path / "figures" / "rounds-------mine--b-.svg").is_file()


def test_without_resvg_nothing_is_written_and_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(InputError, match=r"pip install 'telltale-llm\[report\]'"):
        write_study_figures(Made().finished(), tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py", reason="resvg-py is not installed")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="give another `figures`"):
        write_study_figures(Made().finished(), tmp_path / "file")
