"""The page: what is said of studies, put into the template. Decides words and order, no numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from telltale.evidence.calibration import CALIBRATED
from telltale.evidence.pareto import front
from telltale.report.examples import BUDGET, LONG, MOST_SHOWN, changes
from telltale.report.figures import drawings
from telltale.report.repeating import command, settings_tables
from telltale.report.sentences import (
    cost_of,
    final_sentence,
    minds,
    names_of,
    other_changes,
)
from telltale.report.svg import INLINE
from telltale.report.tables import arms_table, front_columns, path_columns
from telltale.report.template import KeyFigure, markup, rendered
from telltale.searches import GreedyRemoval
from telltale.support.words import (
    NOTHING,
    between,
    counted,
    layers_named,
    loss,
    percent,
    points,
    points_between,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.evidence.comparison import Comparison
    from telltale.evidence.result import PathModel, Searched
    from telltale.study.reading import StoredStudy

GREEDY = GreedyRemoval.method
MANY_LAYERS = 8  # to name in a sentence


def page(studies: Sequence[StoredStudy]) -> str:
    """A page on some studies: one after the other, and side by side first where they are several.

    It is complete in itself: nothing in it is loaded from elsewhere.
    """
    sections = [_section(study, BUDGET // len(studies)) for study in studies]
    several = len(studies) > 1
    title = f"{len(studies)} studies" if several else sections[0]["searched"].name
    return rendered(
        "page.html.j2",
        title=title,
        is_greedy=all(
            section["searched"].settings.get("method", GREEDY) == GREEDY for section in sections
        ),
        sections=sections,
        compared=[_compared(section["searched"]) for section in sections] if several else [],
        MOST_SHOWN=MOST_SHOWN,
        LONG=LONG,
        names_of=names_of,
    )


def _section(study: StoredStudy, budget: int) -> dict[str, Any]:
    """All that the template says of one study."""
    searched = study.searched
    worth, result = searched.shown_first, study.result
    return {
        "searched": searched,
        "verdict": None if result is None else result.verdict,
        "target": None if result is None else result.target_said,
        "minds": () if result is None else minds(result),
        "final": None if result is None else final_sentence(result),
        "cost": cost_of(study),
        "has_parents": any(done.parent is None for done in searched.rounds),
        "other_changes": other_changes(searched.rounds),
        "is_running": study.is_running,
        "worth": worth,
        "worth_name": _worth_name(searched),
        "sizes": _sizes(searched),
        "key_figures": _key_figures(searched),
        "figures": {name: markup(drawing) for name, drawing in drawings(searched, INLINE).items()},
        "columns": path_columns(searched) if searched.models else [],
        "front": front(searched.models) if len(searched.models) > 1 else (),
        "front_columns": front_columns(searched) if searched.models else [],
        "changes": changes(study, worth, budget) if worth is not None else None,
        "arms": ([], []) if result is None else arms_table(result),
        "is_calibrated": searched.settings.get("scoring") == CALIBRATED,
        "texts": _texts(searched),
        "settings": settings_tables(study, searched),
        "command": command(searched),
    }


def _sizes(searched: Searched) -> str:
    """How many examples there are, in words."""
    task = searched.task
    if "search_examples" not in task:
        return ""
    final = f", {task['final_examples']:,} sealed" if "final_examples" in task else ""
    return (
        f"{counted(task['search_examples'], 'example')} to search by, "
        f"{task['held_out_examples']:,} held out{final}"
    )


def _worth_name(searched: Searched) -> str:
    """Which model is looked at, and why, in a sentence."""
    model = searched.shown_first
    if model is None:
        return ""
    many = len(model.removed) > MANY_LAYERS
    lacking = f"without {f'{len(model.removed)} layers' if many else layers_named(model.removed)}"
    if "target" in model.names:
        return f"The model chosen by what was asked of it: {lacking}"
    if searched.recommended == "confirmed_best":
        return f"The model recommended, BEST, whose gain is shown: {lacking}"
    if searched.recommended is not None:
        return (
            f"The model recommended, the shallowest that is certified to lose at most "
            f"{100 * searched.settings['max_loss']:g} points: {lacking}"
        )
    name = next(iter(names_of(model)), None)
    shown = f"{name}, {lacking}" if name else f"the first of the path, {lacking}"
    return f"No shallower model is recommended. Looked at here is {shown}"


def _key_figures(searched: Searched) -> list[KeyFigure]:
    """The few numbers to see first."""
    if not searched.is_finished:
        return []
    whole, model = searched.models[0], searched.shown_first
    assert whole.held_out is not None
    level = percent(whole.held_out.accuracy)
    if model is None or model.held_out is None:
        interval = f"{between(whole.held_out.interval)} ({searched.confidence})"
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
            note=f"{between(seen.interval)} ({searched.confidence})",
        ),
        KeyFigure("gain, points", points(seen.gain), note=points_between(seen.gain_interval)),
        KeyFigure("loses at most", loss(seen.loses_at_most), note=_of_loss(searched, seen)),
    ]
    return [*figures, *_speed_figure(whole, model)]


def _of_loss(searched: Searched, seen: Comparison) -> str:
    return (
        f"({searched.confidence})" if seen.loses_at_most <= 0 else f"points ({searched.confidence})"
    )


def _speed_figure(whole: PathModel, model: PathModel) -> list[KeyFigure]:
    before, now = whole.tokens_per_second, model.tokens_per_second
    if not before or not now:
        return []
    return [KeyFigure("speed", f"×{now / before:.2f}", note="tokens per second")]


def _texts(searched: Searched) -> list[tuple[str, str, str]]:
    """Where a model writes: how many held-out texts had no answer and how many were cut off."""
    total = searched.task.get("held_out_examples", 0)

    def share(model: PathModel, name: str) -> str:
        count = model.held_out.counts.get(name, 0) if model.held_out else 0
        return f"{count:,} ({percent(count / total)})"

    return [
        (model.words, share(model, "unparsable"), share(model, "cut_off"))
        for model in searched.models
        if model.held_out is not None
        and model.held_out.counts
        and (model.names or not model.removed or model is searched.shown_first)
    ]


def _compared(searched: Searched) -> list[str]:
    """A study's row where several are side by side."""
    whole = searched.models[0].held_out if searched.models else None
    seen = searched.shown_first.held_out if searched.shown_first is not None else None
    return [
        searched.objective if searched.settings else NOTHING,
        percent(whole.accuracy) if whole else NOTHING,
        (", ".join(names_of(searched.shown_first)) or "first of the path")
        if searched.shown_first
        else NOTHING,
        str(len(searched.shown_first.removed))
        if searched.shown_first
        else "0"
        if searched.is_finished
        else NOTHING,
        f"{percent(seen.accuracy)} ({between(seen.interval)})" if seen else NOTHING,
        f"{points(seen.gain)} ({points_between(seen.gain_interval)})" if seen else NOTHING,
        loss(seen.loses_at_most) if seen else NOTHING,
        _standing(searched),
    ]


def _standing(searched: Searched) -> str:
    """What came of a study, in two words."""
    if not searched.is_finished:
        return "not finished"
    if searched.recommended == "confirmed_best":
        return "gain shown"
    return "safe" if searched.recommended else "nothing shown"
