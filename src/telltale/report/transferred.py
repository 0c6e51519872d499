"""The page of recipes on several tasks: a matrix as a picture, and as a table.

Each cell has its gain in words, and as a colour: the sign by hue, the size by shade.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from telltale.report.pair_map import limit_of, shade_of
from telltale.report.svg import (
    BOLD,
    INLINE,
    SHADES,
    SIZE,
    Drawing,
    Entry,
    Palette,
    legend,
    tag,
    tooltip,
    width_of,
    words,
)
from telltale.report.template import markup, rendered
from telltale.support.words import (
    between,
    counted,
    listed,
    loss,
    percent,
    points,
    points_between,
    typeset,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from telltale.evidence.transfers import Cell, MeasuredTask, Recipe, Transferred

WHOLE = "whole model"
TOP, ROW, NARROWEST, GAP = 40.0, 46.0, 96.0, 3.0
LEAST_LIMIT = 0.1  # gains that small are never of the darkest shade


class Row(NamedTuple):
    """A recipe's row of a task's table, in words."""

    name: str
    held_out: str
    gain: str
    loses: str
    note: str


class Table(NamedTuple):
    """A task's table: its name, what was asked of it, and a row for the whole model and each."""

    name: str
    asked: str
    rows: Sequence[Row]
    minds: Sequence[str]


def transfer_page(transferred: Transferred) -> str:
    """A page on recipes and tasks, complete in itself: nothing is loaded from elsewhere."""
    return rendered(
        "transferred.html.j2",
        title=f"{transferred.model['name']}: recipes on other tasks",
        transferred=transferred,
        sizes=(
            f"{counted(len(transferred.recipes), 'recipe')} ({transferred.pick} of each search) on "
            f"{counted(len(transferred.tasks), 'task')}"
        ),
        sure=sure(transferred),
        figure_of_matrix=markup(transfer_matrix(transferred, INLINE)),
        tables=[_table(one, transferred.recipes) for one in transferred.tasks],
        recipes=[
            (one.name, one.task, listed(one.removed), str(one.layers))
            for one in transferred.recipes
        ],
    )


def sure(transferred: Transferred) -> str:
    """How sure intervals are: ``95%``."""
    return f"{100 * transferred.confidence:g}%"


def examples_of(task: MeasuredTask) -> str:
    """How many examples a task has, and where they are from, in words."""
    count = counted(task.baseline.examples, "example")
    return count if task.held_out_of is None else f"{count} that {task.held_out_of} held out"


def _table(task: MeasuredTask, recipes: Sequence[Recipe]) -> Table:
    whole = task.baseline
    first = Row(WHOLE, f"{percent(whole.accuracy)} ({between(whole.interval)})", "", "", "")
    others = (_row(one.name, one.results[task.name]) for one in recipes)
    return Table(task.name, examples_of(task), [first, *others], task.cautions)


def _row(name: str, cell: Cell) -> Row:
    found = cell.found
    return Row(
        name,
        f"{percent(found.accuracy)} ({between(found.interval)})",
        f"{points(found.gain)} ({points_between(found.gain_interval)})",
        loss(found.loses_at_most),
        note_of(cell),
    )


def note_of(cell: Cell) -> str:
    """What is to be said of a cell: that its search was by the task, that it breaks it."""
    return ", ".join(
        [*(["its own task"] if cell.searched else []), *(["breaks it"] if cell.breaks else [])]
    )


def transfer_values(transferred: Transferred) -> list[dict[str, Any]]:
    """Every cell of the matrix, a row each, with exact values."""
    return [
        {
            "recipe": one.name,
            "removed": " ".join(map(str, one.removed)),
            "task": task,
            "examples": cell.found.examples,
            "accuracy": cell.found.accuracy,
            "gain": cell.found.gain,
            "gain_low": cell.found.gain_interval.low,
            "gain_high": cell.found.gain_interval.high,
            "loses_at_most": cell.found.loses_at_most,
            "searched": cell.searched,
            "breaks": cell.breaks,
        }
        for one in transferred.recipes
        for task, cell in one.results.items()
    ]


def transfer_matrix(transferred: Transferred, palette: Palette) -> Drawing:
    """The gain of every recipe over the whole model, a column a task."""
    tasks, recipes = transferred.tasks, transferred.recipes
    names = [WHOLE, *(one.name for one in recipes)]
    left = max(map(width_of, names)) * 1.1 + 18
    column = max(NARROWEST, *(width_of(one.name) * 1.1 + 12 for one in tasks))
    gains = [abs(cell.found.gain) for one in recipes for cell in one.results.values()]
    limit = max(LEAST_LIMIT, limit_of(gains))
    parts: list[str] = []
    for row, name in enumerate(names):
        weight: dict[str, Any] = {} if row else BOLD
        parts.append(words(name, 0, TOP + ROW * (row + 0.5) + 4, palette.ink, **weight))
    for number, task in enumerate(tasks):
        x = left + number * column
        middle = x + (column - GAP) / 2
        parts += _heading(task, middle, palette)
        parts += [_box(x, TOP, column, palette.paper, palette.faint, 1)]
        parts += _said(percent(task.baseline.accuracy), "", middle, TOP, palette.ink)
        for row, one in enumerate(recipes, start=1):
            y = TOP + ROW * row
            parts.append(_cell(one, task, (x, y), column, limit, palette))
    bottom, width = TOP + ROW * len(names) + 22, left + len(tasks) * column
    entries, height = legend([*_legend(palette)], 0, bottom, width, palette.muted)
    title = f"Gain of recipes over the whole model by task: {transferred.model['name']}"
    return Drawing(max(width, 330.0), bottom + height, title, [*parts, *entries])


def _heading(task: MeasuredTask, middle: float, palette: Palette) -> Iterator[str]:
    yield words(task.name, middle, 12, palette.ink, text_anchor="middle", **BOLD)
    count = counted(task.baseline.examples, "example")
    small = {"font_size": SIZE - 1}
    yield words(count, middle, 28, palette.muted, text_anchor="middle", **small)


def _box(x: float, y: float, column: float, fill: str, stroke: str, weight: float) -> str:
    return tag(
        "rect",
        x=x,
        y=y,
        width=column - GAP,
        height=ROW - GAP,
        fill=fill,
        stroke=stroke,
        stroke_width=weight,
    )


def _said(first: str, second: str, middle: float, y: float, ink: str) -> Iterator[str]:
    """What stands in a cell, on one line or two."""
    base = y + (18 if second else 26)
    yield words(first, middle, base, ink, text_anchor="middle", **BOLD)
    if second:
        small = {"font_size": SIZE - 1}
        yield words(second, middle, base + 16, ink, text_anchor="middle", **small)


def _cell(
    one: Recipe,
    task: MeasuredTask,
    corner: tuple[float, float],
    column: float,
    limit: float,
    palette: Palette,
) -> str:
    x, y = corner
    cell = one.results[task.name]
    found, middle = cell.found, x + (column - GAP) / 2
    shade = shade_of(found.gain, limit)
    ramp = palette.below if found.gain < 0 else palette.heat
    ink = palette.paper if shade > SHADES // 2 - 1 else palette.ink
    is_told = not found.gain_interval.low <= 0 <= found.gain_interval.high
    note = note_of(cell)
    said = (
        f"{one.name} without {listed(one.removed)} on {task.name}: {percent(found.accuracy)}, "
        f"{points(found.gain)} points ({points_between(found.gain_interval)})"
        + (f"; {note}" if note else "")
    )
    stroke, weight = (palette.ink, 2.0) if is_told else (palette.faint, 1.0)
    return tag(
        "g",
        tooltip(said),
        _box(x, y, column, ramp[shade], stroke, weight),
        *_said(typeset(points(found.gain)), percent(found.accuracy), middle, y, ink),
        *([tag("circle", cx=x + 9, cy=y + 9, r=3, fill=ink)] if cell.searched else []),
    )


def _legend(palette: Palette) -> Iterator[Entry]:
    middle = SHADES // 2

    def box(fill: str, stroke: str, weight: float) -> str:
        small: dict[str, Any] = {"width": 14, "height": 14}
        return tag("rect", x=5, y=-7, fill=fill, stroke=stroke, stroke_width=weight, **small)

    yield Entry(box(palette.heat[middle], palette.faint, 1), "gains")
    yield Entry(box(palette.below[middle], palette.faint, 1), "loses")
    yield Entry(box(palette.paper, palette.ink, 2), "told from the whole model")
    yield Entry(tag("circle", cx=12, cy=0, r=3, fill=palette.ink), "its search was by this task")
