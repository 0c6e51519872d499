"""Which figures a study or an explanation has, and writing them: SVG, PNG and, for tables, CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telltale.errors import InputError
from telltale.evidence.result import Result
from telltale.report.charts import accuracy_chart, arms_chart, front_chart, size_chart, speed_chart
from telltale.report.compared import method_values, methods_chart
from telltale.report.examples import as_rows, differences
from telltale.report.heat import heat_map
from telltale.report.layer_charts import (
    change_chart,
    information_chart,
    lens_accuracy_chart,
    lens_bits_chart,
    predictions_chart,
)
from telltale.report.layer_tables import layer_values, pair_values, prediction_values
from telltale.report.pair_map import pair_map
from telltale.report.sentences import arms_rows
from telltale.report.svg import LIGHT
from telltale.report.tables import calibration_rows, csv_text, front_rows, path_rows, round_rows
from telltale.report.transferred import transfer_matrix, transfer_values
from telltale.support.files import make_readable, write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from telltale.evidence.explanation import Explanation
    from telltale.evidence.methods import Compared
    from telltale.evidence.result import Searched
    from telltale.evidence.transfers import Transferred
    from telltale.report.svg import Drawing, Palette
    from telltale.study.reading import StoredStudy

ZOOM = 2  # of PNG files over the drawing's own units
EXTRA = "pip install 'telltale-llm[report]'"


def drawings(searched: Searched, palette: Palette) -> dict[str, Drawing]:
    """Every figure that a study has by now, by its name."""
    found: dict[str, Drawing] = {}
    if searched.models:
        found["accuracy"] = accuracy_chart(searched, palette)
    if searched.rounds:
        if searched.objective != "accuracy":
            found[f"rounds-{_word(searched.objective)}"] = heat_map(
                searched, palette, by_objective=True
            )
        found["rounds-accuracy"] = heat_map(searched, palette, by_objective=False)
    if len(searched.models) > 1 and searched.is_finished:
        found["size"] = size_chart(searched, palette)
        found["speed"] = speed_chart(searched, palette)
        found["pareto"] = front_chart(searched, palette)
    if isinstance(searched, Result) and arms_rows(searched):
        found["calibration"] = arms_chart(searched, palette)
    return found


def _word(name: str) -> str:
    """An objective's name, which may be a user's, as part of a file's name."""
    return "".join(letter if letter.isalnum() else "-" for letter in name)[:40]


def tables(study: StoredStudy, searched: Searched) -> dict[str, str]:
    """Every table that a study has by now, as CSV, by its name."""
    seen = differences(study, searched.shown_first) if searched.shown_first is not None else []
    found = {
        "path": csv_text(path_rows(searched)),
        "rounds": csv_text(round_rows(searched)),
        "pareto": csv_text(front_rows(searched)),
        "calibration": csv_text(calibration_rows(study.result)) if study.result else "",
        "examples": csv_text(as_rows(seen)),
    }
    return {name: text for name, text in found.items() if text}


def layer_drawings(explained: Explanation, palette: Palette) -> dict[str, Drawing]:
    """Every figure that an explanation has, by its name."""
    both = (*explained.layers, *explained.whole)
    found: dict[str, Drawing] = {}
    if any(one.probe.information is not None for one in both):
        found["information"] = information_chart(explained, palette)
    if any(one.probe.change is not None for one in both):
        found["change"] = change_chart(explained, palette)
    if any(one.lens_accuracy is not None for one in both):
        found["lens-accuracy"] = lens_accuracy_chart(explained, palette)
    if any(one.lens_bits is not None for one in both):
        found["lens-bits"] = lens_bits_chart(explained, palette)
    if explained.predictions:
        found["predictions"] = predictions_chart(explained, palette)
    if explained.pairs is not None and len(explained.pairs.layers) > 1:
        found["pairs-likelihood"] = pair_map(explained, palette, by_accuracy=False)
        found["pairs-accuracy"] = pair_map(explained, palette, by_accuracy=True)
    return found


def layer_tables(explained: Explanation) -> dict[str, str]:
    """Every table that an explanation has, as CSV, by its name."""
    found = {
        "layers": csv_text(layer_values(explained, explained.layers)),
        "predictions": csv_text(prediction_values(explained)),
        "pairs": csv_text(pair_values(explained)),
    }
    if explained.removed:
        found["layers-of-whole-model"] = csv_text(layer_values(explained, explained.whole))
    return {name: text for name, text in found.items() if text}


def write_study_figures(study: StoredStudy, folder: Path) -> list[Path]:
    """Write a study's figures and tables into a folder, which is made where it is not there.

    Raises:
        InputError: what makes PNG of SVG is not installed, or the folder cannot be made.
        OSError: a file cannot be written.
    """
    searched = study.searched
    return _write(folder, drawings(searched, LIGHT), tables(study, searched))


def write_explanation_figures(explained: Explanation, folder: Path) -> list[Path]:
    """The same of an explanation."""
    return _write(folder, layer_drawings(explained, LIGHT), layer_tables(explained))


def write_comparison_figures(compared: Compared, folder: Path) -> list[Path]:
    """The same of methods that were compared."""
    drawn = {"methods": methods_chart(compared, LIGHT)}
    return _write(folder, drawn, {"methods": csv_text(method_values(compared))})


def write_transfer_figures(transferred: Transferred, folder: Path) -> list[Path]:
    """The same of recipes on several tasks."""
    drawn = {"transfer": transfer_matrix(transferred, LIGHT)}
    return _write(folder, drawn, {"transfer": csv_text(transfer_values(transferred))})


def _write(folder: Path, drawn: Mapping[str, Drawing], listed: Mapping[str, str]) -> list[Path]:
    to_png = png_writer()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InputError(
            f"cannot make the folder {folder}: {problem.strerror}; give another `figures`"
        ) from None
    written = []
    for name, drawing in drawn.items():
        text, file = drawing.standalone(LIGHT), folder / f"{name}.svg"
        write_text(file, text + "\n")
        image = file.with_suffix(".png")
        image.write_bytes(to_png(text))
        make_readable(image)
        written += [file, image]
    for name, text in listed.items():
        write_text(folder / f"{name}.csv", text)
        written.append(folder / f"{name}.csv")
    return written


def png_writer() -> Callable[[str], bytes]:
    """What makes a PNG of an SVG.

    Raises:
        InputError: it is not installed.
    """
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        raise InputError(f"figures need resvg-py; install it: {EXTRA}") from None

    def to_png(text: str) -> bytes:
        return bytes(svg_to_bytes(svg_string=text, zoom=ZOOM))

    return to_png
