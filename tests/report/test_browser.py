"""The page in a real browser: it asks for nothing, complains of nothing, and fits a phone."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from telltale.report.page import page
from tests.report.browser import Browser
from tests.report.test_explained import MADE
from tests.report.test_explained import page_of as explanation_page_of
from tests.report.test_page import STUDIES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow
OPENED = "document.querySelectorAll('details').forEach(one => { one.open = true })"
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
PAPER = "getComputedStyle(document.body).backgroundColor"
SHEET = 688  # pixels of the width of A4 between its margins
LOOKS = [("light", 1200), ("dark", 1200), ("light", 375), ("dark", 375)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine")
    with Browser(program, tmp_path_factory.mktemp("profile")) as found:
        yield found


PAGES = {
    **{name: lambda study=study: page([study]) for name, study in STUDIES.items()},
    **{f"explained: {name}": lambda name=name: explanation_page_of(name) for name in MADE},
}


@pytest.mark.parametrize("name", [*PAGES, "all"])
def test_a_page_asks_for_nothing_complains_of_nothing_and_fits(
    browser: Browser, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "page.html"
    text = page(list(STUDIES.values())) if name == "all" else PAGES[name]()
    file.write_text(text, encoding="utf-8")
    for scheme, width in LOOKS:
        browser.open(file.as_uri(), width=width, scheme=scheme)
        assert browser.evaluate(WIDER) == 0
        browser.evaluate(OPENED)
        assert browser.evaluate(WIDER) == 0
        assert browser.requests == [file.as_uri()]
        assert browser.complaints == []
        dark = sum(map(int, browser.evaluate(PAPER)[4:-1].split(","))) < 3 * 128
        assert dark == (scheme == "dark")


@pytest.mark.parametrize("name", PAGES)
def test_a_printed_page_is_light_and_cuts_nothing_off(
    browser: Browser, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "page.html"
    file.write_text(PAGES[name](), encoding="utf-8")
    browser.open(file.as_uri(), width=SHEET, scheme="dark", media="print")
    assert browser.evaluate(WIDER) == 0
    assert browser.evaluate(PAPER) == "rgb(255, 255, 255)"


def test_what_a_bad_page_does_is_seen(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "bad.html"
    file.write_text(
        "<!DOCTYPE html><meta charset=utf-8><title>bad</title><script>x()</script>"
        '<img src="http://127.0.0.1:9/x.png"><div style="width:5000px">wide</div>'
    )
    browser.open(file.as_uri(), width=375)
    assert browser.evaluate(WIDER) > 0
    assert "http://127.0.0.1:9/x.png" in browser.requests
    assert any("ReferenceError" in one for one in browser.complaints)
