"""What the pages share: the templates' environment, the style, drawings as markup, key figures.

A template escapes all it is given but what is marked as markup, and that is drawings and the style
alone, which are made here of escaped text.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from telltale.report.svg import DARK, LIGHT
from telltale.support.plain import printable
from telltale.support.words import counted, percent, typeset

if TYPE_CHECKING:
    from telltale.report.svg import Drawing, Palette

NARROWEST, WIDEST = 0.78, 1.2  # of a drawing's own size on the page; then it scrolls, or stops


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """A number to see first: what it is, the whole model's where there is one, and what it says."""

    name: str
    value: str
    before: str = ""
    note: str = ""


def rendered(template: str, **given: Any) -> str:
    """A page made by one of the templates; the style is given to all of them."""
    return _environment().get_template(template).render(style=Markup(_style()), **given)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("telltale.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "typeset": typeset,
        "percent": percent,
        "plain": printable,
        "counted": counted,
    }
    return environment


def _style() -> str:
    text = resources.files("telltale.report").joinpath("page.css").read_text(encoding="utf-8")
    dark = f"@media screen and (prefers-color-scheme: dark) {{ {_root(DARK)} }}"
    return f"{_root(LIGHT)}\n{dark}\n{text}"


def _root(palette: Palette) -> str:
    colours = (f"--{name}: {colour};" for name, colour in palette.properties().items())
    return f":root {{ {' '.join(colours)} }}"


def markup(drawing: Drawing) -> Markup:
    """A drawing as it stands in a page, as wide as it can be read and no wider."""
    width = drawing.width
    style = f"min-width:{width * NARROWEST:.0f}px;max-width:{width * WIDEST:.0f}px"
    return Markup('<div class="drawing" style="{}">{}</div>').format(
        style,
        Markup(drawing.inline()),
    )
