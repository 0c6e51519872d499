"""The page: complete in itself, whatever is in it, and however far the study has come."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import pytest

from telltale.report.page import page
from telltale.support.words import typeset
from tests.report.made import Made, not_begun
from tests.report.markup import Markup

if TYPE_CHECKING:
    from collections.abc import Callable

HOSTILE = (
    "<script>alert(1)</script> <img src=http://example.org/x onerror=alert(2)> {{ 7*7 }} {% if %} "
    "]]> --> </details></main> \u202egpj.exe \x1b[31mred \x00 \u2028 שלום עולم <!-- "
)
STUDIES = {
    "finished": Made().finished(),
    "guarded": Made(guards=("arc_easy",), protected=(0, 7), gain=0.1).finished(),
    "by accuracy": Made(objective="accuracy").finished(),
    "written": Made(writes=True).finished(),
    "two layers": Made(layers=2, rounds=2).finished(),
    "nothing removed": Made(rounds=1).finished(),
    "no rounds": Made(rounds=0).finished(),
    "hostile": Made(
        context=lambda i: HOSTILE + "x" * 20_000 if i % 2 else HOSTILE,
        choices=(HOSTILE, "b", "c"),
        model=f"model {HOSTILE}",
        task=f"task {HOSTILE}.jsonl",
        guards=(f"guard {HOSTILE}",),
        cautions=(HOSTILE,),
    ).finished(),
    "hostile texts": Made(writes=True, written=HOSTILE + "ANSWER" + "y" * 20_000).finished(),
    "interrupted": Made(rounds=6).interrupted(3),
    "whole model only": Made().interrupted(0),
    "asked only": Made().interrupted(None),
    "not begun": not_begun(),
}


def long_text(letter: str) -> Callable[[int], str]:
    return lambda position: f"{position} {letter * 20_000}"


@cache
def page_of(name: str) -> str:
    return page([STUDIES[name]])


@pytest.fixture(params=STUDIES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_nothing_is_loaded_from_elsewhere(name: str) -> None:
    text = page_of(name)
    found = Markup(text)
    assert not found.all("script")
    assert not found.all("iframe")
    for _, attributes in found.tags:
        assert not any(name.startswith("on") or name == "src" for name in attributes)
        assert attributes.get("href", "#")[:1] == "#" or attributes["href"] == "data:,"
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = found.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'")


def test_every_tag_is_closed_where_it_was_opened(name: str) -> None:
    assert Markup(page_of(name)).unbalanced == []


def test_no_control_or_direction_mark_reaches_the_page(name: str) -> None:
    text = page_of(name)
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", text
    )


def test_equal_studies_have_equal_pages(name: str) -> None:
    assert page_of(name) == page([replace(STUDIES[name])])


def test_a_folder_of_the_machine_is_not_told(name: str) -> None:
    assert "/home/me" not in page_of(name)


def test_a_page_says_the_verdict_and_what_to_mind() -> None:
    cautions = ("BEST never answers '2020-21'",)  # a choice, which stays as it is
    study = Made(cautions=cautions).finished()
    assert study.result is not None
    study = replace(study, result=replace(study.result, held_out_looks=2))
    text = Markup(page([study])).text
    assert typeset(study.result.verdict) in text
    assert "Mind BEST never answers '2020-21'." in text
    assert "2 other searches have looked at these held-out examples" in text


def test_hostile_text_stays_text() -> None:
    found = Markup(page_of("hostile"))
    for part in ("<script>alert(1)</script>", "{{ 7*7 }} {% if %}", "]]> --> </details></main>"):
        assert part in found.text
    assert r"\u202egpj.exe \x1b[31mred \x00 \u2028" in found.text
    assert "שלום עולم" in found.text
    texts = Markup(page_of("hostile texts")).text
    assert "<script>alert(1)</script>" in texts


def test_text_from_data_has_its_own_direction() -> None:
    found = Markup(page_of("hostile"))
    texts = [
        attributes
        for _, attributes in found.tags
        if attributes.get("class", "").split()[:1] in (["text"], ["glance"], ["id"])
    ]
    assert texts
    assert all(attributes.get("dir") == "auto" for attributes in texts)


def test_a_long_text_is_cut_in_the_middle_and_whole_in_a_box() -> None:
    made = Made(context=lambda i: f"begin{i} {'x' * 5000} end{i}")
    text = page([made.finished()])
    (whole, *_) = re.findall(r'<div class="text box"[^>]*>(.*?)</div>', text)
    assert re.fullmatch(r"begin(\d+) x{5000} end\1", whole)
    (short, *_) = re.findall(r'<div class="text" dir="auto">(begin.*?)</div>', text)
    assert re.fullmatch(r"begin(\d+) x+ \[…\] x+ end\1", short)
    assert len(short) < 650


def test_a_page_of_many_long_examples_is_below_two_megabytes_and_says_what_it_lacks() -> None:
    for text in ("<", "\x00"):
        made = Made(held_out=1000, context=long_text(text), gain=0.1)
        found = page([made.finished()])
        assert 100_000 < len(found.encode()) < 2_000_000
        assert "left out" in Markup(found).text


def test_several_studies_share_one_page_and_its_size() -> None:
    made = Made(held_out=1000, context=long_text("<"), gain=0.1)
    studies = [replace(made, model=f"model-{i}").finished() for i in range(4)]
    text = page([*studies, STUDIES["interrupted"]])
    found = Markup(text)
    assert len(text.encode()) < 2_000_000
    targets = {attributes["id"] for _, attributes in found.tags if "id" in attributes}
    links = [attributes["href"][1:] for attributes in found.all("a")]
    assert len(links) == 5
    assert set(links) <= targets
    assert "5 studies" in found.text
    assert "not finished" in found.text


def test_an_unfinished_study_says_so_and_shows_the_search_alone() -> None:
    found = Markup(page_of("interrupted")).text
    assert "This study is not finished. The search has finished 3 rounds; " in found
    assert "unseen examples. To go on, give its command again" in found
    assert "Every candidate, round by round" in found
    assert "Examples mended" not in found
    assert "Size and speed" not in found


@pytest.mark.parametrize(
    ("stopped", "words"),
    [
        ("whole model only", "Only the whole model is measured by now."),
        ("asked only", "It was stopped before the whole model was measured."),
        ("not begun", "It was stopped before anything was measured."),
    ],
)
def test_a_study_stopped_early_says_how_early(stopped: str, words: str) -> None:
    assert words in Markup(page_of(stopped)).text


def test_a_study_that_removes_nothing_has_no_examples_to_show() -> None:
    found = Markup(page_of("nothing removed")).text
    assert "none should go" in found
    assert "Examples mended" not in found
    assert "The search ended in round 1" in found


def test_written_texts_are_shown_with_what_was_read_from_them() -> None:
    study = STUDIES["written"]
    assert study.document is not None
    found = Markup(page([study])).text
    assert "the whole model wrote" in found
    assert "The answer is" in found
    counts = study.document["baseline"]["held_out"]
    shares = [
        f"{counts[name]} ({100 * counts[name] / 60:.1f}%)" for name in ("unparsable", "cut_off")
    ]
    assert f"the whole model {' '.join(shares)}" in found


GUARDED = (
    "no model is kept whose accuracy on 200 examples is more than 5 points below the whole model's"
    ", which is observed and no bound; 200 others say what is lost at most"
)


def test_the_settings_are_there_to_repeat_a_study() -> None:
    found = Markup(page_of("guarded")).text
    for words in ("a" * 64, "f" * 64, "b" * 64, "torch 2.13.0", GUARDED):
        assert words in found
    assert "telltale search tiny-llama capitals --prompt" in found
    assert "--guard arc_easy:0.05" in found
    assert "--protect 0,7" in found


def test_marks_in_the_table_are_those_of_the_result() -> None:
    study = STUDIES["finished"]
    assert study.document is not None
    text = page([study])
    named = re.findall(r'<tr class="named">.*?</tr>', text, re.DOTALL)
    names = ("best", "bsba", "confirmed_best", "fastest_safe")
    expected = [name for name in names if study.document[name] is not None]
    assert sum(row.count('class="tag"') for row in named) == len(expected)
