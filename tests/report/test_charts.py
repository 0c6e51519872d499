"""Drawings: XML whatever is in them, every number where it belongs."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from telltale.report.figures import drawings
from telltale.report.heat import MOST_TOOLTIPS, heat_map, shading_of
from telltale.report.svg import DARK, INLINE, LIGHT, SHADES, Flag, Flags, Scale, ticks
from tests.report.made import Made

if TYPE_CHECKING:
    from telltale.report.svg import Palette
    from telltale.study.reading import StoredStudy

SVG = "{http://www.w3.org/2000/svg}"
STUDIES = {
    "finished": Made(guards=("arc_easy",), protected=(0,)).finished(),
    "hostile": Made(model="<b>&'\" ]]> \x00 {{ }}").finished(),
    "two layers": Made(layers=2, rounds=2).finished(),
    "126 layers": Made(layers=126, rounds=60).finished(),
    "nothing removed": Made(rounds=1).finished(),
    "no rounds": Made(rounds=0).finished(),
    "all right": Made(layers=4, rounds=2, gain=0.46).finished(),
    "interrupted": Made().interrupted(2),
    "whole model only": Made().interrupted(0),
}


@pytest.fixture(params=STUDIES)
def study(request: pytest.FixtureRequest) -> StoredStudy:
    return STUDIES[request.param]


def test_every_drawing_is_xml_and_says_what_it_shows(study: StoredStudy) -> None:
    found = drawings(study.searched, INLINE)
    assert "accuracy" in found
    for drawing in found.values():
        for text in (drawing.inline(), drawing.standalone(LIGHT), drawing.standalone(DARK)):
            root = ET.fromstring(text)
            assert root.get("role") == "img"
            assert root.get("aria-label")
            assert "nan" not in text
            assert "inf" not in text.replace("info", "")


def test_a_file_of_its_own_needs_no_style_of_a_page(study: StoredStudy) -> None:
    for drawing in drawings(study.searched, LIGHT).values():
        assert "var(" not in drawing.standalone(LIGHT)


def test_everything_is_drawn_inside_the_drawing(study: StoredStudy) -> None:
    for drawing in drawings(study.searched, LIGHT).values():
        for node in ET.fromstring(drawing.inline()).iter():
            for name, most in (("x", drawing.width), ("cx", drawing.width), ("x2", drawing.width)):
                assert -10 <= float(node.get(name, 0)) <= most
            for name in ("y", "cy", "y2"):
                assert -10 <= float(node.get(name, 0)) <= drawing.height


def _boxes(study: StoredStudy, palette: Palette = LIGHT, *, by_objective: bool = True) -> int:
    """How many cells are filled in the heat map."""
    root = ET.fromstring(heat_map(study.searched, palette, by_objective=by_objective).inline())
    found = 0
    for node in root.iter():
        if node.tag == "path" and node.get("fill") in palette.heat:
            found += node.get("d", "").count("M")
        elif node.tag == "g" and node.get("fill") in palette.heat:
            found += len(node.findall("path"))
    return found


@pytest.mark.parametrize("name", ["finished", "two layers", "126 layers"])
def test_a_heat_map_has_a_cell_for_every_candidate(name: str) -> None:
    study = STUDIES[name]
    candidates = sum(len(done.tried) for done in study.searched.rounds)
    assert _boxes(study) == _boxes(study, by_objective=False) == candidates


def test_a_cell_tells_both_numbers_and_many_cells_stay_small() -> None:
    study = STUDIES["finished"]
    text = heat_map(study.searched, LIGHT, by_objective=True).inline()
    one = next(iter(study.searched.rounds[0].tried.values()))
    said = (
        f"round 1, without layer {one.left_out[0]}: accuracy {100 * one.accuracy:.1f}%, likelihood "
    )
    assert said in text
    many = STUDIES["126 layers"]
    assert sum(len(done.tried) for done in many.searched.rounds) > MOST_TOOLTIPS
    assert len(heat_map(many.searched, LIGHT, by_objective=True).inline()) < 300_000


def test_a_better_candidate_is_never_of_a_lower_shade() -> None:
    values = [0.1, 0.5, 0.55, 0.6, 0.61, 0.62, 0.7]
    shading = shading_of(values)
    shades = [shading.shade(value) for value in values]
    assert shades == sorted(shades)
    assert (shades[0], shades[-1]) == (0, SHADES - 1)
    assert shading.low > 0.1  # one that is far below does not make the others alike
    assert shading_of([0.5]).shade(0.5) == SHADES - 1
    assert shading_of([-1e9, -2.0, -2.0, -2.0, -2.0]).shade(-1e9) in range(SHADES)


def test_points_are_where_their_accuracy_is() -> None:
    study = STUDIES["finished"]
    assert study.document is not None
    root = ET.fromstring(drawings(study.searched, LIGHT)["accuracy"].inline())
    dots = [node for node in root.iter("circle") if node.get("r") == "4.2"]
    levels = [model["held_out"]["accuracy"] for model in study.document["path"]]
    assert len(dots) == len(levels)
    heights = [float(node.get("cy", 0)) for node in dots]
    for (a, at_a), (b, at_b) in pairwise(zip(levels, heights, strict=True)):
        assert (a < b) == (at_a > at_b) or a == b
    xs = [float(node.get("cx", 0)) for node in dots]
    assert xs == sorted(xs)


def test_names_of_neighbours_stand_in_different_rows() -> None:
    y = Scale(0, 1, 100, 0)
    near = Flags([Flag(50, 0.5, "BEST"), Flag(60, 0.5, "BSBA")], 0, 400)
    far = Flags([Flag(50, 0.5, "BEST"), Flag(200, 0.5, "BSBA")], 0, 400)
    assert near.height == 2 * far.height
    for flags in (near, far):
        texts = [ET.fromstring(part) for part in flags.drawn(50, y, "black") if "<text" in part]
        assert [node.text for node in texts] == ["BEST", "BSBA"]
        assert (texts[0].get("y") == texts[1].get("y")) == (flags is far)


def test_a_name_at_the_edge_stays_inside() -> None:
    (text,) = [
        ET.fromstring(part)
        for part in Flags([Flag(399, 0.5, "BEST gain shown")], 0, 400).drawn(
            50, Scale(0, 1, 100, 0), "black"
        )
        if "<text" in part
    ]
    assert 340 < float(text.get("x", 0)) < 360


@pytest.mark.parametrize(("low", "high"), [(0, 1), (53.2, 81.9), (1e-4, 3e-4), (1000, 1400)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high, 6)
    assert 2 <= len(found) <= 7
    assert all(low <= value <= high for value in found)
    assert len({round(b - a, 9) for a, b in pairwise(found)}) == 1


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_letters_can_be_read_on_the_paper_and_shades_told_by_lightness(palette: Palette) -> None:
    for colour in (palette.ink, palette.muted, palette.held_out, palette.search):
        assert contrast(colour, palette.paper) > 4.5
    away = [contrast(shade, palette.paper) for shade in palette.heat]
    assert away == sorted(away)
    assert away[-1] > 10
