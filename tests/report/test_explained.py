"""The page and the figures of an explanation: true to its numbers, whatever is in it."""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import pytest

import telltale.report.figures as figures_module
from telltale.cli.commands import main
from telltale.errors import InputError
from telltale.evidence.explanation import (
    ADDS,
    SUPPRESSES,
    Explanation,
    PairMap,
    Predicted,
    read_explanation,
)
from telltale.report import write_explanation, write_report
from telltale.report.explained import explanation_page
from telltale.report.figures import layer_drawings, layer_tables, write_explanation_figures
from telltale.report.heat import MOST_TOOLTIPS
from telltale.report.layer_words import predictions_sentence, predicts
from telltale.report.pair_map import limit_of, pair_map, shade_of
from telltale.report.svg import DARK, INLINE, LIGHT, SHADES
from telltale.support.files import write_json
from telltale.support.plain import printable
from telltale.support.words import bits, bits_between, percent, typeset
from tests.report.explained import MadeExplanation
from tests.report.markup import Markup
from tests.report.test_charts import contrast
from tests.report.test_page import HOSTILE

if TYPE_CHECKING:
    from pathlib import Path

    from telltale.report.svg import Palette

REMOVED = (3, 11, 25, 26)
MADE = {
    "whole": MadeExplanation(),
    "removed": MadeExplanation(removed=REMOVED, pairs=30),
    "first and last removed": MadeExplanation(layers=12, removed=(0, 1, 11), drops=(5,)),
    "all but one removed": MadeExplanation(layers=4, removed=(0, 1, 3), drops=(), pairs=2),
    "without classes": MadeExplanation(classes=(), removed=(5,), pairs=3),
    "not measured singly": MadeExplanation(measured=False),
    "one layer": MadeExplanation(layers=1, drops=(), pairs=1),
    "64 layers": MadeExplanation(layers=64, removed=(20, 45), drops=(20,)),
    "little to tell": MadeExplanation(layers=12, most=0.01, drops=(), classes=tuple("ABCDEFGHIJK")),
    "hostile": MadeExplanation(
        layers=6,
        removed=(2,),
        drops=(),
        classes=(HOSTILE, "b"),
        model=f"model {HOSTILE}",
        task=f"task {HOSTILE}",
        conclusions=(HOSTILE, HOSTILE),
        cautions=(HOSTILE,),
    ),
}
PALETTES = {"light": LIGHT, "dark": DARK}


@cache
def made(name: str) -> Explanation:
    return MADE[name].made()


@cache
def page_of(name: str) -> str:
    return explanation_page(made(name))


@pytest.fixture(params=MADE)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def columns_of(drawing: str) -> list[str]:
    """What a chart says of each layer where a pointer rests, from left to right."""
    root = ET.fromstring(drawing)
    over = [
        (float(node.get("x", 0)), title.text or "")
        for node in root.iter("rect")
        if node.get("fill-opacity") == "0" and (title := node.find("title")) is not None
    ]
    assert [x for x, _ in over] == sorted({x for x, _ in over})
    return [text for _, text in over]


# The page.


def test_a_page_is_well_formed_and_loads_nothing(name: str) -> None:
    text = page_of(name)
    found = Markup(text)
    assert found.unbalanced == []
    assert not found.all("script")
    for _, attributes in found.tags:
        assert not any(key.startswith("on") or key in ("src", "href") for key in attributes) or (
            attributes.get("href") == "data:,"
        )
    assert "url(" not in text
    (policy,) = found.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", text)
    assert "nan" not in found.text
    assert "None" not in found.text


def test_hostile_text_stays_text() -> None:
    found = Markup(page_of("hostile")).text
    for part in ("<script>alert(1)</script>", "{{ 7*7 }} {% if %}", "]]> --> </details></main>"):
        assert found.count(part) > 4  # model, task, classes, conclusions, cautions


def test_a_page_says_what_it_is_of_and_what_follows() -> None:
    explained = made("removed")
    found = Markup(page_of("removed"))
    for said in (*explained.conclusions, *(f"Mind {one}." for one in explained.cautions)):
        assert said in found.text
    assert "tiny-llama on sst2" in found.text
    assert "200 examples; 30 layers, numbered from 0; without layers 3, 11, 25, 26" in found.text
    assert "58.0% → 66.5%" in found.text
    order = ["Information by layer", "What each layer adds", "own head reads", "Does it predict"]
    places = [found.text.index(heading) for heading in [*order, "Pairs of layers", "All layers"]]
    assert places == sorted(places)
    assert "none left out" in Markup(page_of("whole")).text
    assert "→" not in Markup(page_of("whole")).text


def test_every_drawing_and_scrolled_table_has_a_label(name: str) -> None:
    found = Markup(page_of(name))
    drawn = found.all("svg")
    assert len(drawn) == len(layer_drawings(made(name), INLINE))
    regions = found.all("div", role="region")
    assert len(regions) == len(drawn) + (2 if made(name).removed else 1)
    for attributes in (*drawn, *regions):
        assert attributes["aria-label"]
    labels = [attributes["aria-label"] for attributes in drawn]
    assert len(labels) == len(set(labels))


def rows_of(text: str) -> list[list[str]]:
    """The cells of the first table of a page."""
    table = re.findall(r"<table class=\"layers\">.*?</table>", text, re.DOTALL)[0]
    return [
        [
            " ".join(Markup(cell).text.split())
            for cell in re.findall(r"<t[hd][^>]*>.*?</t[hd]>", row)
        ]
        for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)
    ]


def test_the_table_has_the_numbers_and_a_dash_for_what_is_not_known(name: str) -> None:
    explained = made(name)
    heading, before, *rows = rows_of(page_of(name))
    assert before[0] == "before"
    assert [row[0] for row in rows] == [str(one.layer) for one in explained.layers]
    for row, one in zip(rows, explained.layers, strict=True):
        shown = dict(zip(heading, row, strict=True))
        if one.layer in explained.removed:
            assert row[1] == "left out"
            assert set(row[2:]) == {"–"}
            continue
        assert shown["verdict"] == (one.verdict or "–")
        found = one.probe.information
        expected = "–"
        if found is not None:
            expected = typeset(f"{bits(found.bits)} ({bits_between(found.interval)})")
            assert shown["shuffled"] == bits(found.null)
        assert shown["bits"] == expected
        assert one.lens_accuracy is not None
        assert shown["lens accuracy"] == percent(one.lens_accuracy)
        assert shown["joint score"] == typeset(f"{one.measures['joint']:.3g}")
        single = one.single_removal
        assert shown["accuracy without"] == ("–" if single is None else percent(single))


def test_where_there_are_no_classes_the_page_says_so_and_draws_no_information() -> None:
    found = Markup(page_of("without classes")).text
    assert "The answers have no classes to tell apart" in found
    drawn = layer_drawings(made("without classes"), INLINE)
    assert set(drawn) == {"lens-accuracy", "predictions", "pairs-likelihood", "pairs-accuracy"}
    assert "was not measured here" in Markup(page_of("not measured singly")).text


# What predicts.


def with_predictions(**found: Predicted) -> Explanation:
    return replace(made("whole"), predictions=found)


YES, NO = Predicted(0.7, 0.001, 0.008), Predicted(0.2, 0.3, 1.0)
REVERSED = Predicted(-0.7, 0.001, 0.008)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"taylor": NO, "joint": NO}, "No. Of 2 measures none orders layers"),
        ({"taylor": YES, "joint": NO}, "Yes, signed Taylor, of 2 measures. The other cannot be"),
        ({"taylor": YES, "joint": YES}, "Yes, joint score and signed Taylor, of 2 measures."),
        (
            {"magnitude": REVERSED, "joint": YES},
            "The other way round orders them weight magnitude.",
        ),
    ],
)
def test_what_predicts_is_said_and_what_does_not_as_plainly(
    found: dict[str, Predicted], said: str
) -> None:
    explained = with_predictions(**found)
    assert said in predictions_sentence(explained)
    drawing = layer_drawings(explained, LIGHT)["predictions"].inline()
    texts = [node.text for node in ET.fromstring(drawing).iter("text")]
    for answer in ("yes", "no", "reversed"):
        assert texts.count(answer) == [predicts(one) for one in found.values()].count(answer)


def test_a_dot_is_where_its_correlation_is_highest_first() -> None:
    explained = made("whole")
    root = ET.fromstring(layer_drawings(explained, LIGHT)["predictions"].inline())
    rows = [node for node in root.iter("g") if node.find("title") is not None]
    found = sorted((one.rank_correlation for one in explained.predictions.values()), reverse=True)
    places = [float(row.find("circle").get("cx")) for row in rows]  # type: ignore[union-attr,arg-type]
    assert len(places) == len(found)
    zero = 0.5 * sum(
        float(one.get("x", 0)) for one in root.iter("text") if one.text in ("−1", "+1")
    )
    one_wide = float(next(n.get("x", 0) for n in root.iter("text") if n.text == "+1")) - zero
    assert [(at - zero) / one_wide for at in places] == pytest.approx(found, abs=1e-3)
    for row, rank in zip(rows, found, strict=True):
        title = row.find("title")
        assert title is not None
        assert f"rank correlation {rank:+.2f}" in (title.text or "")


# The drawings.


def test_every_drawing_is_xml_inside_itself_and_says_what_it_shows(name: str) -> None:
    for drawing in layer_drawings(made(name), INLINE).values():
        for text in (drawing.inline(), drawing.standalone(LIGHT), drawing.standalone(DARK)):
            root = ET.fromstring(text)
            assert root.get("role") == "img"
            assert root.get("aria-label") == printable(drawing.title)
            assert not re.search(r'"-?(nan|inf)"', text)
        for node in ET.fromstring(drawing.inline()).iter():
            for key, most in (("x", drawing.width), ("cx", drawing.width), ("cy", drawing.height)):
                assert -10 <= float(node.get(key, 0)) <= most
            for pair in (node.get("points") or "").split():
                x, y = map(float, pair.split(","))
                assert -10 <= x <= drawing.width  # those of the legend are moved by their group
                assert -10 <= y <= drawing.height
    for drawing in layer_drawings(made(name), LIGHT).values():
        assert "var(" not in drawing.standalone(LIGHT)


def test_no_layer_is_drawn_twice_and_each_tells_its_numbers(name: str) -> None:
    explained = made(name)
    drawn = layer_drawings(explained, LIGHT)
    for chart in ("information", "change", "lens-accuracy", "lens-bits"):
        if chart not in drawn:
            continue
        said = columns_of(drawn[chart].inline())
        if chart == "information":
            assert said.pop(0).startswith("before the first layer: 0.020 bits")
        assert len(said) == len(explained.layers)
        for text, path, whole in zip(said, explained.layers, explained.whole, strict=True):
            assert text.startswith(f"layer {path.layer}")
            is_gone = path.layer in explained.removed
            assert ("left out" in text) == is_gone
            for one in (whole,) if is_gone else (path, whole):
                if one.probe.information is not None:
                    assert f"{bits(one.probe.information.bits)} bits" in text
                assert one.lens_accuracy is not None
                assert percent(one.lens_accuracy) in text


def marks(drawing: str, palette: Palette = LIGHT) -> dict[str, int]:
    """How many triangles there are above the axis, by verdict and whether they are hollow."""
    root = ET.fromstring(drawing)
    legend = {node for group in root.iter("g") for node in group.iter()}
    found: dict[str, int] = {}
    for node in set(root.iter("polygon")) - legend:
        points = [tuple(map(float, one.split(","))) for one in node.get("points", "").split()]
        colours = {node.get("fill"), node.get("stroke")}
        if len(points) != 3:
            continue
        verdict = ADDS if points[0][1] < points[1][1] else SUPPRESSES
        # The shape and the colour say the same.
        assert {ADDS: palette.held_out, SUPPRESSES: palette.search}[verdict] in colours
        key = f"{verdict}{' hollow' if node.get('fill') == palette.paper else ''}"
        found[key] = found.get(key, 0) + 1
    return found


@pytest.mark.parametrize("chart", ["information", "change"])
def test_what_adds_and_suppresses_is_marked_and_hollow_where_left_out(
    name: str, chart: str
) -> None:
    explained = made(name)
    drawn = layer_drawings(explained, LIGHT)
    if chart not in drawn:
        assert not explained.classes
        return
    expected: dict[str, int] = {}
    for path, whole in zip(explained.layers, explained.whole, strict=True):
        is_gone = path.layer in explained.removed
        verdict = whole.verdict if is_gone else path.verdict
        if verdict in (ADDS, SUPPRESSES):
            key = f"{verdict}{' hollow' if is_gone else ''}"
            expected[key] = expected.get(key, 0) + 1
    assert marks(drawn[chart].inline()) == expected


def test_a_line_has_a_gap_where_a_layer_is_left_out() -> None:
    explained = made("removed")
    root = ET.fromstring(layer_drawings(explained, LIGHT)["information"].inline())
    thick = [node for node in root.iter("polyline") if node.get("stroke-width") == "2"]
    assert [len(node.get("points", "").split()) for node in thick] == [
        *(4, 7, 13, 3)  # before and 0 to 2, 4 to 10, 12 to 24, 27 to 29
    ]
    stripes = [node for node in root.iter("rect") if node.get("fill-opacity") == "0.7"]
    assert len(stripes) == len(REMOVED) + 1  # and one in the legend


def test_a_ceiling_that_is_near_is_drawn_and_one_far_above_is_told() -> None:
    near = layer_drawings(made("whole"), LIGHT)["information"].inline()
    assert "entropy of the answers, 1.00 bits<" in near
    far = layer_drawings(made("little to tell"), LIGHT)["information"].inline()
    assert "entropy of the answers, 3.46 bits: far above this" in far


# Pairs.


def test_each_pair_is_one_cell_with_its_value() -> None:
    explained = made("removed")
    pairs = explained.pairs
    assert pairs is not None
    for by_accuracy, matrix in ((False, pairs.likelihood), (True, pairs.accuracy)):
        root = ET.fromstring(pair_map(explained, LIGHT, by_accuracy=by_accuracy).inline())
        cells = [
            (group.get("fill"), cell.find("title").text or "")  # type: ignore[union-attr]
            for group in root.iter("g")
            for cell in group.findall("path")
            if cell.find("title") is not None
        ]
        assert len(cells) == 30 * 29 / 2 == len({text for _, text in cells})
        for colour, text in cells:
            one, other = map(int, re.findall(r"\d+", text)[:2])
            value = matrix[one][other]
            assert colour in (LIGHT.below if value < 0 else LIGHT.heat)
            scale = 100 if by_accuracy else 1
            said = float(text.split(": ")[1].split()[0])
            assert said == pytest.approx(scale * value, abs=0.051 if by_accuracy else 0.00051)


def test_below_zero_is_told_by_a_dash_too() -> None:
    pairs = PairMap((0, 4, 7), ((0, -0.2, 0.3), (-0.2, 0, 0), (0.3, 0, 0)), ((0,) * 3,) * 3)
    explained = replace(made("whole"), pairs=pairs)
    by_likelihood = pair_map(explained, LIGHT, by_accuracy=False).inline()
    assert len(re.findall(r"stroke-width=\"1.2\"", by_likelihood)) == 2  # and in the legend
    assert "less than the sum" in by_likelihood
    assert "layers 0 and 4: -0.200 nats" in by_likelihood
    alike = pair_map(explained, LIGHT, by_accuracy=True).inline()  # all of them 0
    assert "less than the sum" not in alike


def test_many_pairs_stay_small() -> None:
    many = MadeExplanation(layers=126, pairs=126).made()
    assert MOST_TOOLTIPS < 126 * 125 / 2
    assert len(pair_map(many, LIGHT, by_accuracy=False).inline()) < 400_000


def test_shades_reach_as_far_below_zero_as_above() -> None:
    values = [-0.3, -0.1, 0.0, 0.1, 0.2, 0.3]
    limit = limit_of(values)
    assert [shade_of(value, limit) for value in (-limit, 0, limit)] == [SHADES - 1, 0, SHADES - 1]
    assert limit_of([*values * 5, -9.0]) < 1  # one that is far off does not make the others alike
    assert limit_of([0.0]) == 1


@pytest.mark.parametrize("palette", PALETTES.values(), ids=PALETTES)
def test_shades_of_both_signs_are_told_by_lightness(palette: Palette) -> None:
    away = [contrast(shade, palette.paper) for shade in palette.below]
    assert away == sorted(away)
    assert away[-1] > 10
    for above, below in zip(palette.heat[4:], palette.below[4:], strict=True):
        assert contrast(above, below) < 1.8  # as much of either sign is as far from the paper


# Files.


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_tables_have_the_numbers_to_the_last_digit() -> None:
    explained = made("removed")
    tables = {key: read(text) for key, text in layer_tables(explained).items()}
    assert set(tables) == {"layers", "layers-of-whole-model", "predictions", "pairs"}
    for key, layers in (("layers", explained.layers), ("layers-of-whole-model", explained.whole)):
        before, *rows = tables[key]
        assert before["layer"] == "before"
        for row, one in zip(rows, layers, strict=True):
            found = one.probe.change
            assert row["layer"] == str(one.layer)
            if found is None:
                assert row["verdict"] == "left out"
                assert row["change"] == row["joint"] == row["single_removal"] == "–"
                continue
            expected = {
                "change": found.bits,
                "change_low": found.interval[0],
                "change_high": found.interval[1],
                "change_null": found.null,
                "lens_bits": one.lens_bits,
                "single_likelihood": one.single_likelihood,
                **one.measures,
            }
            assert {field: float(row[field]) for field in expected} == expected
    for row in tables["predictions"]:
        one_of = explained.predictions[row["measure"]]
        assert float(row["corrected_p_value"]) == one_of.corrected
    assert len(tables["pairs"]) == 30 * 29 / 2
    assert set(layer_tables(made("not measured singly"))) == {"layers"}


def test_figures_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures_module, "png_writer", lambda: lambda text: text[:4].encode())
    explained = made("removed")
    written = write_explanation_figures(explained, tmp_path / "figures")
    assert {file.stem for file in written if file.suffix == ".svg"} == set(
        layer_drawings(explained, LIGHT)
    )
    assert {file.stem for file in written if file.suffix == ".csv"} == set(layer_tables(explained))
    for file in written:
        if file.suffix == ".svg":
            ET.fromstring(file.read_text(encoding="utf-8"))


def test_the_report_is_made_again_of_the_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures_module, "png_writer", lambda: lambda text: text[:4].encode())
    explained, folder, to = made("removed"), tmp_path / "why", tmp_path / "page.html"
    folder.mkdir()
    write_json(folder / "explain.json", explained.document)
    assert read_explanation(folder) == explained
    with pytest.raises(SystemExit) as ended:
        main(["report", str(folder), "--to", str(to), "--figures", str(tmp_path / "figures")])
    assert ended.value.code == 0
    assert to.read_text(encoding="utf-8") == page_of("removed")
    assert (tmp_path / "figures" / "information.svg").is_file()
    write_explanation(explained, tmp_path / "other.html")
    assert (tmp_path / "other.html").read_bytes() == to.read_bytes()


def test_what_cannot_be_reported_is_refused_in_a_line(tmp_path: Path) -> None:
    folder, to = tmp_path / "why", tmp_path / "page.html"
    folder.mkdir()
    write_json(folder / "explain.json", made("one layer").document)
    with pytest.raises(InputError, match="holds an explanation, which has a page of its own"):
        write_report([tmp_path / "study", folder], to)
    with pytest.raises(InputError, match="it is a folder"):
        write_explanation(made("one layer"), folder)
    (folder / "explain.json").write_text("{")
    with pytest.raises(InputError, match=r"explain\.json is no JSON: .*; explain it again"):
        write_report([folder], to)
    write_json(folder / "explain.json", {"version": 99})
    with pytest.raises(InputError, match=r"explain\.json: an explanation of version 99 cannot be"):
        write_report([folder], to)
    assert not to.exists()
