"""The page: what is said of studies, put into the template. Decides words and order, no numbers.

The template escapes all it is given but what is marked as markup, and that is drawings and the
style alone, which are made here of escaped text.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from telltale.report.examples import BUDGET, LONG, MOST_SHOWN, changes
from telltale.report.facts import NAMES, facts_of
from telltale.report.figures import drawings
from telltale.report.repeating import command, settings_tables
from telltale.report.svg import DARK, INLINE, LIGHT
from telltale.report.tables import path_columns
from telltale.support.plain import printable
from telltale.support.words import (
    NOTHING,
    between,
    counted,
    layers_named,
    loss,
    percent,
    points,
    points_between,
    typeset,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.report.facts import Facts, Model, Seen
    from telltale.report.svg import Drawing, Palette
    from telltale.study.reading import StoredStudy

MANY_LAYERS = 8  # to name in a sentence
NARROWEST, WIDEST = 0.78, 1.2  # of a drawing's own size on the page; then it scrolls, or stops


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """A number to see first: what it is, the whole model's where there is one, and what it says."""

    name: str
    value: str
    before: str = ""
    note: str = ""


def page(studies: Sequence[StoredStudy]) -> str:
    """A page on some studies: one after the other, and side by side first where they are several.

    It is complete in itself: nothing in it is loaded from elsewhere.
    """
    sections = [_section(study, BUDGET // len(studies)) for study in studies]
    several = len(studies) > 1
    title = f"{len(studies)} studies" if several else sections[0]["facts"].name
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            sections=sections,
            compared=[_compared(section["facts"]) for section in sections] if several else [],
            style=Markup(_style()),
        )
    )


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
    environment.globals |= {"MOST_SHOWN": MOST_SHOWN, "LONG": LONG}
    return environment


def _style() -> str:
    text = resources.files("telltale.report").joinpath("page.css").read_text(encoding="utf-8")
    dark = f"@media screen and (prefers-color-scheme: dark) {{ {_root(DARK)} }}"
    return f"{_root(LIGHT)}\n{dark}\n{text}"


def _root(palette: Palette) -> str:
    colours = (f"--{name}: {colour};" for name, colour in palette.properties().items())
    return f":root {{ {' '.join(colours)} }}"


def _section(study: StoredStudy, budget: int) -> dict[str, Any]:
    """All that the template says of one study."""
    facts = facts_of(study)
    worth = facts.worth
    return {
        "facts": facts,
        "is_running": study.is_running,
        "worth": worth,
        "worth_name": _worth_name(facts),
        "sizes": _sizes(facts),
        "key_figures": _key_figures(facts),
        "figures": {name: _markup(drawing) for name, drawing in drawings(facts, INLINE).items()},
        "columns": path_columns(facts) if facts.models else [],
        "changes": changes(study, worth, budget) if worth is not None else None,
        "texts": _texts(facts),
        "settings": settings_tables(study, facts),
        "command": command(facts),
    }


def _markup(drawing: Drawing) -> Markup:
    width = drawing.width
    style = f"min-width:{width * NARROWEST:.0f}px;max-width:{width * WIDEST:.0f}px"
    return Markup('<div class="drawing" style="{}">{}</div>').format(
        style,
        Markup(drawing.inline()),
    )


def _sizes(facts: Facts) -> str:
    """How many examples there are, in words."""
    task = facts.task
    if "search_examples" not in task:
        return ""
    final = f", {task['final_examples']:,} sealed" if "final_examples" in task else ""
    return (
        f"{counted(task['search_examples'], 'example')} to search by, "
        f"{task['held_out_examples']:,} held out{final}"
    )


def _worth_name(facts: Facts) -> str:
    """Which model is looked at, and why, in a sentence."""
    model = facts.worth
    if model is None:
        return ""
    many = len(model.removed) > MANY_LAYERS
    lacking = f"without {f'{len(model.removed)} layers' if many else layers_named(model.removed)}"
    if facts.recommended == "confirmed_best":
        return f"The model recommended, BEST, whose gain is shown: {lacking}"
    if facts.recommended is not None:
        return (
            f"The model recommended, the shallowest that is certified to lose at most "
            f"{100 * facts.settings['max_loss']:g} points: {lacking}"
        )
    name = next((short for short in NAMES.values() if short in model.names), None)
    shown = f"{name}, {lacking}" if name else f"the first of the path, {lacking}"
    return f"No shallower model is recommended. Looked at here is {shown}"


def _key_figures(facts: Facts) -> list[KeyFigure]:
    """The few numbers to see first."""
    if not facts.is_finished:
        return []
    whole, model = facts.models[0], facts.worth
    assert whole.held_out is not None
    level = percent(whole.held_out.accuracy)
    if model is None or model.held_out is None:
        interval = f"{between(whole.held_out.interval)} ({facts.confidence})"
        return [
            KeyFigure("layers", str(whole.layers), note="none should go"),
            KeyFigure("held-out accuracy", level, note=interval),
        ]
    seen = model.held_out
    figures = [
        KeyFigure("layers", str(model.layers), before=str(whole.layers)),
        KeyFigure(
            "held-out accuracy",
            percent(seen.accuracy),
            before=level,
            note=f"{between(seen.interval)} ({facts.confidence})",
        ),
        KeyFigure("gain, points", points(seen.gain), note=points_between(seen.gain_interval)),
        KeyFigure("loses at most", loss(seen.loses_at_most), note=_of_loss(facts, seen)),
    ]
    return [*figures, *_speed_figure(whole, model)]


def _of_loss(facts: Facts, seen: Seen) -> str:
    return f"({facts.confidence})" if seen.loses_at_most <= 0 else f"points ({facts.confidence})"


def _speed_figure(whole: Model, model: Model) -> list[KeyFigure]:
    before, now = whole.tokens_per_second, model.tokens_per_second
    if not before or not now:
        return []
    return [KeyFigure("speed", f"×{now / before:.2f}", note="tokens per second")]


def _texts(facts: Facts) -> list[tuple[str, str, str]]:
    """Where a model writes: how many held-out texts had no answer and how many were cut off."""
    total = facts.task.get("held_out_examples", 0)

    def share(model: Model, name: str) -> str:
        count = model.held_out.counts.get(name, 0) if model.held_out else 0
        return f"{count:,} ({percent(count / total)})"

    return [
        (model.words, share(model, "unparsable"), share(model, "cut_off"))
        for model in facts.models
        if model.held_out is not None
        and model.held_out.counts
        and (model.names or not model.removed or model is facts.worth)
    ]


def _compared(facts: Facts) -> list[str]:
    """A study's row where several are side by side."""
    whole = facts.models[0].held_out if facts.models else None
    seen = facts.worth.held_out if facts.worth is not None else None
    return [
        facts.objective if facts.settings else NOTHING,
        percent(whole.accuracy) if whole else NOTHING,
        (", ".join(facts.worth.names) or "first of the path") if facts.worth else NOTHING,
        str(len(facts.worth.removed)) if facts.worth else "0" if facts.is_finished else NOTHING,
        f"{percent(seen.accuracy)} ({between(seen.interval)})" if seen else NOTHING,
        f"{points(seen.gain)} ({points_between(seen.gain_interval)})" if seen else NOTHING,
        loss(seen.loses_at_most) if seen else NOTHING,
        _standing(facts),
    ]


def _standing(facts: Facts) -> str:
    """What came of a study, in two words."""
    if not facts.is_finished:
        return "not finished"
    if facts.recommended == "confirmed_best":
        return "gain shown"
    return "safe" if facts.recommended else "nothing shown"
