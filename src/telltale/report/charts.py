"""The figures with axes: accuracy along the path, and against size and speed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telltale.evidence.pareto import front
from telltale.report.sentences import arms_rows, names_of
from telltale.report.svg import (
    SIZE,
    Drawing,
    Entry,
    Flag,
    Flags,
    Palette,
    Scale,
    legend,
    line,
    polyline,
    scale_for,
    tag,
    ticks,
    tooltip,
    trimmed,
    words,
)
from telltale.support.words import between, counted, number, percent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from telltale.evidence.result import PathModel, Result, Searched

LEFT, RIGHT = 58.0, 16.0
MANY = 30  # points on a line, past which they are small
DASHED = "5 4"


def accuracy_chart(searched: Searched, palette: Palette) -> Drawing:
    """Accuracy against how many layers are removed: on the search set and, once seen, held out."""
    models = searched.models
    width, plot = 660.0, 250.0
    x = _steps(len(models[-1].removed), width)
    levels = _levels(searched)
    flags = Flags(
        [
            Flag(x.at(len(model.removed)), _highest(model), _names(model))
            for model in models
            if model.names
        ],
        LEFT,
        width - RIGHT,
    )
    top = 14 + flags.height
    y = scale_for(levels, top + plot, top)
    parts = [
        *_share_axis(y, width, palette),
        *_count_axis(x, len(models[-1].removed), top + plot, palette),
        *_reference_lines(searched, y, width, palette),
        *_held_out_line(models, x, y, palette, searched.confidence),
        *_search_line(models, x, y, palette),
        *flags.drawn(top, y, palette.ink),
    ]
    entries, height = legend(
        _accuracy_legend(searched, palette), LEFT, top + plot + 58, width - RIGHT, palette.muted
    )
    return Drawing(
        width,
        top + plot + 58 + height,
        f"Accuracy against number of layers removed: {searched.name}",
        [*parts, *entries],
    )


def _steps(most: int, width: float) -> Scale:
    """Where models are that lack up to so many layers."""
    return Scale(-0.35, max(most, 1) + 0.35, LEFT, width - RIGHT)


def _levels(searched: Searched) -> list[float]:
    found = [model.accuracy for model in searched.models]
    for model in searched.models:
        if model.held_out is not None:
            found += [*model.held_out.interval]
    return found + [level for level in [searched.floor] if level is not None]


def _names(model: PathModel) -> str:
    return " ".join(names_of(model))


def _highest(model: PathModel) -> float:
    return max(model.accuracy, model.held_out.accuracy if model.held_out else model.accuracy)


def _share_axis(y: Scale, width: float, palette: Palette) -> list[str]:
    """Accuracy in percent, with a line across for each tick."""
    parts = [words("accuracy", 0, min(y.start, y.end) - 2, palette.muted, font_size=SIZE - 1)]
    for value in ticks(100 * y.low, 100 * y.high, 6):
        at = y.at(value / 100)
        if at < min(y.start, y.end) + 10:
            continue  # the axis's name stands there
        parts += [
            line(LEFT, at, width - RIGHT, at, palette.faint, stroke_width=0.8),
            words(f"{value:g}%", LEFT - 8, at + 4, palette.muted, text_anchor="end"),
        ]
    return parts


def _count_axis(x: Scale, most: int, bottom: float, palette: Palette) -> list[str]:
    """Numbers of layers removed, as many as there is room for."""
    every = max(1, -(-(most + 1) // 16))
    parts = [line(LEFT, bottom, x.end, bottom, palette.muted, stroke_width=0.8)]
    parts += [
        words(str(index), x.at(index), bottom + 18, palette.muted, text_anchor="middle")
        for index in range(0, most + 1, every)
    ]
    middle = (LEFT + x.end) / 2
    parts.append(words("layers removed", middle, bottom + 37, palette.muted, text_anchor="middle"))
    return parts


def _reference_lines(searched: Searched, y: Scale, width: float, palette: Palette) -> list[str]:
    """The whole model's level, and the floor below which no model is kept."""
    parts, whole = [], searched.models[0]
    level = whole.held_out.accuracy if whole.held_out else whole.accuracy
    at = y.at(level)
    parts.append(line(LEFT, at, width - RIGHT, at, palette.ink, stroke_width=1, opacity=0.55))
    if searched.floor is not None:
        at = y.at(searched.floor)
        parts.append(line(LEFT, at, width - RIGHT, at, palette.muted, stroke_dasharray="2 3"))
    return parts


def _held_out_line(
    models: Sequence[PathModel], x: Scale, y: Scale, palette: Palette, confidence: str
) -> list[str]:
    seen = [(len(model.removed), model.held_out) for model in models if model.held_out is not None]
    if not seen:
        return []
    high = [(x.at(count), y.at(found.interval[1])) for count, found in seen]
    low = [(x.at(count), y.at(found.interval[0])) for count, found in seen]
    colour = palette.held_out
    edge = " ".join(f"{trimmed(a)},{trimmed(b)}" for a, b in [*high, *reversed(low)])
    band = tag("polygon", points=edge, fill=colour, fill_opacity=0.14)
    if len(seen) == 1:
        ((at, top), (_, bottom)) = high[0], low[0]
        band = line(at, top, at, bottom, colour, stroke_width=8, stroke_opacity=0.14)
    middle = [(x.at(count), y.at(found.accuracy)) for count, found in seen]
    dots = [
        tag(
            "circle",
            tooltip(
                f"{counted(count, 'layer')} removed, held out: {percent(found.accuracy)} "
                f"({confidence} interval {between(found.interval)})"
            ),
            cx=at,
            cy=height,
            r=2.8 if len(seen) > MANY else 4.2,
            fill=colour,
        )
        for (at, height), (count, found) in zip(middle, seen, strict=True)
    ]
    return [band, polyline(middle, colour, stroke_width=2, stroke_linejoin="round"), *dots]


def _search_line(models: Sequence[PathModel], x: Scale, y: Scale, palette: Palette) -> list[str]:
    points = [(x.at(len(model.removed)), y.at(model.accuracy)) for model in models]
    side = 4.4 if len(models) > MANY else 6.6
    squares = [
        tag(
            "rect",
            tooltip(
                f"{counted(len(model.removed), 'layer')} removed, search set: "
                f"{percent(model.accuracy)}"
            ),
            x=at - side / 2,
            y=height - side / 2,
            width=side,
            height=side,
            fill=palette.paper,
            stroke=palette.search,
            stroke_width=1.6,
        )
        for (at, height), model in zip(points, models, strict=True)
    ]
    dashes = polyline(points, palette.search, stroke_width=1.6, stroke_dasharray=DASHED)
    return [dashes, *squares]


def _accuracy_legend(searched: Searched, palette: Palette) -> list[Entry]:
    colour = palette.held_out
    square = tag("rect", x=9, y=-3, width=6, height=6, fill=palette.paper, stroke=palette.search)
    dashed = line(0, 0, 24, 0, palette.search, stroke_width=1.6, stroke_dasharray=DASHED)
    whole = line(0, 0, 24, 0, palette.ink, opacity=0.55)
    floor = line(0, 0, 24, 0, palette.muted, stroke_dasharray="2 3")
    held_out = tag("rect", y=-6, width=24, height=12, fill=colour, fill_opacity=0.14)
    held_out += line(0, 0, 24, 0, colour, stroke_width=2) + tag("circle", cx=12, r=4, fill=colour)
    where = "held out" if searched.is_finished else "search set"
    entries = [
        Entry(dashed + square, "search set"),
        Entry(whole, f"whole model, {where}"),
        Entry(floor, "floor of the search"),
    ]
    if searched.is_finished:
        entries.insert(0, Entry(held_out, f"held out, {searched.confidence} interval"))
    return entries


def arms_chart(result: Result, palette: Palette) -> Drawing:
    """Held-out accuracy of models as they are and calibrated: a line each, with its interval."""
    width, step, left = 660.0, 46.0, 132.0
    rows = arms_rows(result)
    levels = [(arms.raw, arms.calibrated) for _, arms in rows]
    bottom = 10 + step * len(rows)
    ends = (end for pair in levels for level in pair for end in level.interval)
    x = scale_for((100 * end for end in ends), left, width - RIGHT, 0.04)
    parts = []
    for value in ticks(x.low, x.high, 6):
        at = x.at(value)
        parts += [
            line(at, 6, at, bottom, palette.faint, stroke_width=0.8),
            words(f"{value:g}%", at, bottom + 18, palette.muted, text_anchor="middle"),
        ]
    for index, ((model, _), pair) in enumerate(zip(rows, levels, strict=True)):
        middle = 10 + step * (index + 0.5)
        label = _names(model) if model.removed else "whole model"
        parts.append(words(label, left - 12, middle + 4, palette.ink, text_anchor="end"))
        for level, kind, above in zip(pair, ("as it is", "calibrated"), (-8, 8), strict=True):
            at, height = x.at(100 * level.accuracy), middle + above
            low, high = (x.at(100 * end) for end in level.interval)
            says = f"{model.words}, {kind}: {percent(level.accuracy)} ({between(level.interval)})"
            colour = palette.held_out
            dot = tag(
                "circle",
                cx=at,
                cy=height,
                r=4.6,
                fill=palette.paper if kind == "as it is" else colour,
                stroke=colour,
                stroke_width=1.8,
            )
            whisker = line(low, height, high, height, colour, stroke_width=1.4, stroke_opacity=0.5)
            parts.append(tag("g", tooltip(says), whisker, dot))
    hollow = tag(
        "circle", cx=12, r=4.6, fill=palette.paper, stroke=palette.held_out, stroke_width=1.8
    )
    full = tag("circle", cx=12, r=4.6, fill=palette.held_out)
    named = [
        Entry(hollow, f"as it is, held out, {result.confidence} interval"),
        Entry(full, "calibrated"),
    ]
    entries, height = legend(named, left, bottom + 40, width - RIGHT, palette.muted)
    return Drawing(
        width,
        bottom + 40 + height,
        f"Held-out accuracy as it is and calibrated: {result.name}",
        [*parts, *entries],
    )


def size_chart(searched: Searched, palette: Palette) -> Drawing:
    """Held-out accuracy against parameters."""

    def in_millions(model: PathModel) -> float:
        return (model.parameters or 0) / 1e6

    return _scatter(searched, palette, in_millions, "parameters, millions", "size")


def front_chart(searched: Searched, palette: Palette) -> Drawing:
    """Held-out accuracy against parameters, with the Pareto front as a line."""

    def in_millions(model: PathModel) -> float:
        return (model.parameters or 0) / 1e6

    on_it = front(searched.models)
    return _scatter(searched, palette, in_millions, "parameters, millions", "size, Pareto", on_it)


def speed_chart(searched: Searched, palette: Palette) -> Drawing:
    """Held-out accuracy against tokens per second."""

    def speed(model: PathModel) -> float:
        return model.tokens_per_second or 0

    return _scatter(searched, palette, speed, "tokens per second", "speed")


def _scatter(
    searched: Searched,
    palette: Palette,
    of: Callable[[PathModel], float],
    axis: str,
    kind: str,
    on_line: Sequence[PathModel] | None = None,
) -> Drawing:
    """A point for each model of the path, in order, with its interval.

    A line goes through all, and the whole model is hollow; or through some, and all others are.
    """
    width, plot = 440.0, 230.0
    seen = [(model, model.held_out) for model in searched.models if model.held_out is not None]
    x = scale_for((of(model) for model, _ in seen), LEFT, width - RIGHT, 0.1)
    flags = Flags(
        [
            Flag(x.at(of(model)), found.accuracy, _names(model) if model.names else "whole")
            for model, found in seen
            if model.names or not model.removed
        ],
        LEFT,
        width - RIGHT,
    )
    top = 14 + flags.height
    y = scale_for((end for _, found in seen for end in found.interval), top + plot, top)
    bottom = top + plot
    parts = [*_share_axis(y, width, palette), *_number_axis(x, bottom, axis, palette)]
    parts.append(
        polyline(
            (
                (x.at(of(model)), y.at(found.accuracy))
                for model, found in seen
                if on_line is None or model in on_line
            ),
            palette.held_out,
            stroke_width=1 if on_line is None else 2,
            stroke_opacity=0.4 if on_line is None else 0.8,
        )
    )
    for model, found in seen:
        at, low, high = x.at(of(model)), *(y.at(end) for end in found.interval)
        says = f"{model.words}: {number(of(model))} {axis}, {percent(found.accuracy)} held out"
        hollow = not model.removed if on_line is None else model not in on_line
        dot = tag(
            "circle",
            cx=at,
            cy=y.at(found.accuracy),
            r=4.6,
            fill=palette.paper if hollow else palette.held_out,
            stroke=palette.held_out,
            stroke_width=1.8,
        )
        whisker = line(at, low, at, high, palette.held_out, stroke_width=1.4, stroke_opacity=0.45)
        parts.append(tag("g", tooltip(says), whisker, dot))
    parts += flags.drawn(top, y, palette.ink)
    return Drawing(width, bottom + 46, f"Held-out accuracy against {kind}: {searched.name}", parts)


def _number_axis(x: Scale, bottom: float, axis: str, palette: Palette) -> list[str]:
    parts = [line(LEFT, bottom, x.end, bottom, palette.muted, stroke_width=0.8)]
    for value in ticks(x.low, x.high, 5):
        at = x.at(value)
        parts += [
            line(at, bottom, at, bottom + 4, palette.muted, stroke_width=0.8),
            words(f"{value:,g}", at, bottom + 18, palette.muted, text_anchor="middle"),
        ]
    middle = (LEFT + x.end) / 2
    return [*parts, words(axis, middle, bottom + 37, palette.muted, text_anchor="middle")]
