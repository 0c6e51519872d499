"""The figures of an explanation that have layers along an axis, and how well measures predict.

What layers do is told by shapes, and by colours beside: a triangle that points up adds information,
one that points down suppresses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from telltale.evidence.explanation import ADDS, SUPPRESSES
from telltale.report.layer_words import (
    NO,
    YES,
    measure_name,
    p_words,
    predicts,
    says_of_layer,
    says_of_prediction,
    sorted_predictions,
    subject,
)
from telltale.report.svg import (
    BOLD,
    SIZE,
    Drawing,
    Entry,
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
    width_of,
    words,
)
from telltale.support.words import typeset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from telltale.evidence.explanation import Explanation, LayerExplained, Predicted

LEFT, RIGHT = 50.0, 16.0
WIDE, NARROW = 660.0, 440.0
BEFORE = -1  # where the state before the first layer stands
DASHED, DOTTED = "5 4", "1.5 3"
BAND = 0.15  # opacity of an interval's band
FARTHEST = 2.5  # times the highest value at which a ceiling is still drawn
WHOLE = 0.6  # opacity of the whole model's line, where it is not the one explained


@dataclass(frozen=True, slots=True)
class Plot:
    """Layers from left to right, from ``first`` on, and values upwards."""

    first: int
    layers: int
    y: Scale
    width: float

    @property
    def x(self) -> Scale:
        """Where layers are."""
        return Scale(self.first - 0.5, self.layers - 0.5, LEFT, self.width - RIGHT)

    @property
    def pitch(self) -> float:
        """From a layer to the next."""
        return (self.width - RIGHT - LEFT) / (self.layers - self.first)

    @property
    def mark(self) -> float:
        """Half the width of a mark."""
        return min(5.0, max(2.2, 0.28 * self.pitch))

    @property
    def top(self) -> float:
        """The upper edge."""
        return self.y.end

    @property
    def bottom(self) -> float:
        """The lower edge."""
        return self.y.start


def information_chart(explained: Explanation, palette: Palette) -> Drawing:
    """What the state tells of the answer after every layer; there are classes to tell apart."""
    before, path = explained.before, explained.layers
    reads = [before, *(one.probe for one in path)]
    found = [read.information for read in reads]
    beside = [one.neighbours.information for one in path]
    whole = [before.information, *(one.probe.information for one in explained.whole)]
    ends = [end for one in [*found, *whole] if one is not None for end in one.interval]
    ends += [one.bits for one in beside if one is not None]
    ends += [one.null for one in found if one is not None]
    high, low = max([*ends, 0.02]), min([*ends, 0.0])
    ceiling = explained.entropy
    is_near = ceiling is not None and ceiling <= FARTHEST * high
    high = max(high * 1.06, ceiling or 0.0) if is_near else high * 1.06
    plot = Plot(BEFORE, len(path), Scale(low - 0.04 * (high - low), high, 270.0, 22.0), WIDE)
    levels = [None if one is None else one.bits for one in found]
    parts = [
        *_left_out(plot, explained.removed, palette),
        *_value_axis(plot, "bits", palette),
        *_layer_axis(plot, "after layer (in: before the first)", palette),
        *_ceiling(plot, ceiling, palette, is_near=is_near),
        *_line(
            plot,
            [None if one is None else one.null for one in found],
            palette.muted,
            stroke_dasharray=DOTTED,
        ),
        *_band(plot, [None if one is None else one.interval for one in found], palette.held_out),
    ]
    if explained.removed:
        of_whole = [None if one is None else one.bits for one in whole]
        parts += _line(plot, of_whole, palette.ink, opacity=WHOLE)
        parts += [
            _mark(
                one.verdict, plot.x.at(one.layer), plot.y.at(value), plot.mark, palette, hollow=True
            )
            for one, value in zip(explained.whole, of_whole[1:], strict=True)
            if one.layer in explained.removed and value is not None
        ]
    parts += _line(
        plot,
        [None, *(None if one is None else one.bits for one in beside)],
        palette.held_out,
        stroke_dasharray=DASHED,
    )
    parts += _line(plot, levels, palette.held_out, stroke_width=2, stroke_linejoin="round")
    parts += _marks(plot, levels, [None, *_verdicts(path)], palette)
    parts += _columns(plot, explained)
    return _with_legend(
        plot,
        f"Information by layer, in bits: {subject(explained)}",
        parts,
        _information_legend(explained, palette),
        palette,
    )


def _information_legend(explained: Explanation, palette: Palette) -> list[Entry]:
    of_path = "shallower model" if explained.removed else "probe"
    entries = [
        Entry(
            tag("rect", y=-6, width=24, height=12, fill=palette.held_out, fill_opacity=BAND)
            + line(0, 0, 24, 0, palette.held_out, stroke_width=2),
            f"{of_path}, 95% interval",
        ),
        Entry(
            line(0, 0, 24, 0, palette.held_out, stroke_dasharray=DASHED),
            "the same by nearest neighbours",
        ),
    ]
    if explained.removed:
        entries.append(Entry(line(0, 0, 24, 0, palette.ink, opacity=WHOLE), "whole model"))
    entries.append(
        Entry(line(0, 0, 24, 0, palette.muted, stroke_dasharray=DOTTED), "answers shuffled")
    )
    return [*entries, *_verdict_legend(explained, palette)]


def lens_accuracy_chart(explained: Explanation, palette: Palette) -> Drawing:
    """The accuracy of the model's own head on the state after every layer."""
    return _lens_chart(
        explained, palette, lambda one: one.lens_accuracy, "accuracy", lambda at: f"{100 * at:g}%"
    )


def lens_bits_chart(explained: Explanation, palette: Palette) -> Drawing:
    """What the model's own head tells of the answer from the state after every layer."""
    return _lens_chart(explained, palette, lambda one: one.lens_bits, "bits", None)


def _lens_chart(
    explained: Explanation,
    palette: Palette,
    of: Callable[[LayerExplained], float | None],
    name: str,
    show: Callable[[float], str] | None,
) -> Drawing:
    path, whole = ([of(one) for one in side] for side in (explained.layers, explained.whole))
    seen = [value for value in (*path, *whole) if value is not None]
    plot = Plot(0, len(path), scale_for(seen, 190.0, 18.0), NARROW)
    parts = [
        *_left_out(plot, explained.removed, palette),
        *_value_axis(plot, name, palette, show),
        *_layer_axis(plot, "after layer", palette),
    ]
    entries = []
    if name == "bits" and plot.y.low < 0 < plot.y.high:
        at = plot.y.at(0)
        parts.append(line(LEFT, at, plot.x.end, at, palette.ink, stroke_width=1, opacity=0.55))
    if explained.removed:
        parts += _line(plot, whole, palette.ink, opacity=WHOLE)
        parts += _dots(plot, whole, palette.ink, opacity=WHOLE)
        entries = [
            Entry(line(0, 0, 24, 0, palette.held_out, stroke_width=2), "shallower model"),
            Entry(line(0, 0, 24, 0, palette.ink, opacity=WHOLE), "whole model"),
            _left_out_entry(palette),
        ]
    parts += _line(plot, path, palette.held_out, stroke_width=2, stroke_linejoin="round")
    parts += _dots(plot, path, palette.held_out)
    parts += _columns(plot, explained)
    title = f"What the model's own head reads after each layer, {name}: {subject(explained)}"
    return _with_legend(plot, title, parts, entries, palette)


def change_chart(explained: Explanation, palette: Palette) -> Drawing:
    """How much information each layer adds; of a layer left out, in the whole model."""
    shown = [
        whole if path.layer in explained.removed else path
        for path, whole in zip(explained.layers, explained.whole, strict=True)
    ]
    found = [(one, one.probe.change) for one in shown]
    ends = [0.0]
    ends += [end for _, one in found if one is not None for end in one.interval]
    beside = [one.neighbours.change for one in shown]
    ends += [one.bits for one in beside if one is not None]
    plot = Plot(0, len(shown), scale_for(ends, 210.0, 22.0), WIDE)
    zero = plot.y.at(0)
    parts = [
        *_left_out(plot, explained.removed, palette),
        *_value_axis(plot, "bits more", palette, lambda at: f"{at:+g}" if at else "0"),
        *_layer_axis(plot, "layer", palette),
        line(LEFT, zero, plot.x.end, zero, palette.ink, stroke_width=1, opacity=0.55),
    ]
    for (one, change), other in zip(found, beside, strict=True):
        if change is None:
            continue
        at, (low, high) = plot.x.at(one.layer), change.interval
        colour = _colour(one.verdict, palette)
        thick = min(2.0, 0.16 * plot.pitch)
        parts.append(
            line(
                *(at, plot.y.at(low), at, plot.y.at(high), colour),
                stroke_width=thick,
                stroke_opacity=0.5,
            )
        )
        if other is not None:
            beside_it = at + 0.3 * plot.pitch
            parts.append(_diamond(beside_it, plot.y.at(other.bits), 0.6 * plot.mark, palette))
        hollow = one.layer in explained.removed
        parts.append(
            _mark(one.verdict, at, plot.y.at(change.bits), plot.mark, palette, hollow=hollow)
        )
    parts += _columns(plot, explained)
    entries = [
        *_verdict_legend(explained, palette, with_cannot_tell=True),
        Entry(_diamond(12, 0, 3.5, palette), "by nearest neighbours"),
    ]
    title = f"Change of information by each layer, in bits: {subject(explained)}"
    return _with_legend(plot, title, parts, entries, palette)


def predictions_chart(explained: Explanation, palette: Palette) -> Drawing:
    """How well each measure orders layers by what leaving them out costs; some are asked."""
    found = sorted_predictions(explained)
    names = [measure_name(name) for name, _ in found]
    left = max(map(width_of, names)) + 18
    removed = len(explained.removed)
    ends = (490.0, 565.0, WIDE)  # of the columns of words
    x = Scale(-1.05, 1.05, left, 400.0)
    row, top = 26.0, 48.0
    bottom = top + row * len(found)
    small = {"font_size": SIZE - 1}
    parts = [words("rank correlation", (left + x.end) / 2, 12, palette.muted, text_anchor="middle")]
    for value in (-1, -0.5, 0, 0.5, 1):
        at = x.at(value)
        is_zero = value == 0
        colour = palette.muted if is_zero else palette.faint
        parts.append(line(at, top - 8, at, bottom, colour, stroke_width=1 if is_zero else 0.8))
        said = typeset(f"{value:+g}") if value else "0"
        parts.append(words(said, at, 32, palette.muted, text_anchor="middle", **small))
    headings = ["p, corrected", "predicts?", *([f"of {removed} left out"] if removed else [])]
    for heading, end in zip(headings, ends, strict=False):
        parts.append(words(heading, end, 32, palette.muted, text_anchor="end", **small))
    for index, (name, one) in enumerate(found):
        middle = top + row * (index + 0.5)
        parts.append(
            tag(
                "g",
                tooltip(says_of_prediction(name, one, removed)),
                tag("rect", y=middle - row / 2, width=WIDE, height=row, x=0, fill_opacity=0),
                *_prediction(name, one, x, middle, ends, palette),
            )
        )
        below = middle + row / 2
        parts.append(line(0, below, WIDE, below, palette.faint, stroke_width=0.8))
    entries, height = legend(
        [
            Entry(_prediction_dot(YES, 12, 0, palette), "predicts"),
            Entry(_prediction_dot(NO, 12, 0, palette), "cannot be told from chance"),
        ],
        left,
        bottom + 24,
        WIDE,
        palette.muted,
    )
    title = f"What predicts the cost of leaving out a layer: {subject(explained)}"
    return Drawing(WIDE, bottom + 24 + height, title, [*parts, *entries])


def _prediction(
    name: str,
    one: Predicted,
    x: Scale,
    middle: float,
    ends: Sequence[float],
    palette: Palette,
) -> Iterable[str]:
    """A row: the measure, its dot, and in words how sure that is."""
    answer, at, base = predicts(one), x.at(one.rank_correlation), middle + 4
    right = {"text_anchor": "end"}
    yield words(measure_name(name), 0, base, palette.ink)
    yield line(x.at(0), middle, at, middle, palette.held_out, stroke_width=1.6, stroke_opacity=0.5)
    yield _prediction_dot(answer, at, middle, palette)
    yield words(p_words(one.corrected), ends[0], base, palette.ink, **right)
    yield words(answer, ends[1], base, palette.ink, **right, **BOLD)
    if one.chosen is not None:
        yield words(str(one.chosen), ends[2], base, palette.ink, **right)


def _prediction_dot(answer: str, x: float, y: float, palette: Palette) -> str:
    fill = palette.paper if answer == NO else palette.held_out
    return tag("circle", cx=x, cy=y, r=5, fill=fill, stroke=palette.held_out, stroke_width=1.8)


# What the charts over layers share.


def _verdicts(layers: Iterable[LayerExplained]) -> list[str | None]:
    return [one.verdict for one in layers]


def _with_legend(
    plot: Plot, title: str, parts: Sequence[str], entries: Sequence[Entry], palette: Palette
) -> Drawing:
    top = plot.bottom + 58
    if not entries:
        return Drawing(plot.width, plot.bottom + 44, title, parts)
    drawn, height = legend(entries, LEFT, top, plot.width - RIGHT, palette.muted)
    return Drawing(plot.width, top + height, title, [*parts, *drawn])


def _value_axis(
    plot: Plot, name: str, palette: Palette, show: Callable[[float], str] | None = None
) -> list[str]:
    """A line across for each tick, with its value."""
    parts = [words(name, 0, plot.top - 10, palette.muted, font_size=SIZE - 1)]
    for value in ticks(plot.y.low, plot.y.high, 5):
        at = plot.y.at(value)
        said = typeset(show(value) if show else f"{value:g}")
        parts += [
            line(LEFT, at, plot.x.end, at, palette.faint, stroke_width=0.8),
            words(said, LEFT - 8, at + 4, palette.muted, text_anchor="end"),
        ]
    return parts


def _layer_axis(plot: Plot, name: str, palette: Palette) -> list[str]:
    """Layers by their index, as many as there is room for."""
    room = width_of(str(plot.layers - 1)) + 8
    every = next(step for step in (1, 2, 5, 10, 20, 50) if step * plot.pitch >= room or step == 50)
    bottom = plot.bottom
    parts = [line(LEFT, bottom, plot.x.end, bottom, palette.muted, stroke_width=0.8)]
    named = [(layer, str(layer)) for layer in range(0, plot.layers, every)]
    if plot.first == BEFORE:
        named = [(BEFORE, "in"), *(one for one in named if (one[0] + 1) * plot.pitch >= 16)]
    for layer, said in named:
        at = plot.x.at(layer)
        parts += [
            line(at, bottom, at, bottom + 4, palette.muted, stroke_width=0.8),
            words(said, at, bottom + 18, palette.muted, text_anchor="middle", font_size=SIZE - 1),
        ]
    middle = (LEFT + plot.x.end) / 2
    return [*parts, words(name, middle, bottom + 37, palette.muted, text_anchor="middle")]


def _left_out(plot: Plot, removed: Sequence[int], palette: Palette) -> list[str]:
    """A stripe over each layer that is left out."""
    wide = plot.pitch * 0.86
    return [
        tag(
            "rect",
            x=plot.x.at(layer) - wide / 2,
            y=plot.top,
            width=wide,
            height=plot.bottom - plot.top,
            fill=palette.faint,
            fill_opacity=0.7,
        )
        for layer in removed
    ]


def _left_out_entry(palette: Palette) -> Entry:
    return Entry(
        tag("rect", x=5, y=-7, width=14, height=14, fill=palette.faint, fill_opacity=0.7),
        "left out",
    )


def _ceiling(plot: Plot, entropy: float | None, palette: Palette, *, is_near: bool) -> list[str]:
    """The most that there is to tell; in words alone where it is far above all else."""
    if entropy is None:
        return []
    said = f"entropy of the answers, {entropy:.2f} bits"
    right: dict[str, str | float] = {"text_anchor": "end", "font_size": SIZE - 1}
    if not is_near:
        return [words(f"{said}: far above this", plot.x.end, 12, palette.muted, **right)]
    at = plot.y.at(entropy)
    return [
        line(LEFT, at, plot.x.end, at, palette.ink, stroke_width=1, opacity=0.55),
        words(said, plot.x.end, at - 5, palette.muted, **right),
    ]


def _runs(values: Sequence[object | None]) -> list[range]:
    """Where values follow one another."""
    ends = [index for index, value in enumerate([*values, None]) if value is None]
    starts = [0, *(end + 1 for end in ends[:-1])]
    return [range(start, end) for start, end in zip(starts, ends, strict=True) if end > start]


def _line(
    plot: Plot, values: Sequence[float | None], colour: str, **more: str | float
) -> list[str]:
    """A line through values by place, thin and dotted over places that have none."""
    points = {
        index: (plot.x.at(index + plot.first), plot.y.at(value))
        for index, value in enumerate(values)
        if value is not None
    }
    runs = _runs(values)
    parts = []
    for run in runs:
        shown = [points[index] for index in run]
        if len(shown) == 1:
            ((x, y),) = shown
            shown = [(x - plot.mark, y), (x + plot.mark, y)]
        parts.append(polyline(shown, colour, **more))
    parts += [
        polyline(
            (points[one[-1]], points[other[0]]),
            colour,
            stroke_width=1,
            stroke_dasharray="1 3",
            stroke_opacity=0.7,
        )
        for one, other in pairwise(runs)
    ]
    return parts


def _band(plot: Plot, intervals: Sequence[tuple[float, float] | None], colour: str) -> list[str]:
    parts = []
    for run in _runs(intervals):
        ends = [(plot.x.at(index + plot.first), *(intervals[index] or (0.0, 0.0))) for index in run]
        if len(ends) == 1:
            ((at, low, high),) = ends
            half = min(4.0, plot.pitch / 4)
            ends = [(at - half, low, high), (at + half, low, high)]
        edge = [(at, plot.y.at(high)) for at, _, high in ends]
        edge += [(at, plot.y.at(low)) for at, low, _ in reversed(ends)]
        shape = " ".join(f"{trimmed(x)},{trimmed(y)}" for x, y in edge)
        parts.append(tag("polygon", points=shape, fill=colour, fill_opacity=BAND))
    return parts


def _dots(
    plot: Plot, values: Sequence[float | None], colour: str, **more: str | float
) -> list[str]:
    return [
        tag(
            "circle",
            cx=plot.x.at(index + plot.first),
            cy=plot.y.at(value),
            r=0.5 * plot.mark,
            fill=colour,
            **more,
        )
        for index, value in enumerate(values)
        if value is not None
    ]


def _marks(
    plot: Plot,
    values: Sequence[float | None],
    verdicts: Sequence[str | None],
    palette: Palette,
) -> list[str]:
    """A triangle where a layer adds or suppresses, a dot elsewhere."""
    parts = []
    for index, (value, verdict) in enumerate(zip(values, verdicts, strict=True)):
        if value is None:
            continue
        x, y = plot.x.at(index + plot.first), plot.y.at(value)
        if verdict in (ADDS, SUPPRESSES):
            parts.append(_mark(verdict, x, y, plot.mark, palette, hollow=False))
        else:
            parts.append(tag("circle", cx=x, cy=y, r=0.5 * plot.mark, fill=palette.held_out))
    return parts


def _colour(verdict: str | None, palette: Palette) -> str:
    return {ADDS: palette.held_out, SUPPRESSES: palette.search}.get(verdict or "", palette.muted)


def _mark(
    verdict: str | None, x: float, y: float, half: float, palette: Palette, *, hollow: bool
) -> str:
    """A triangle, up or down, for what adds or suppresses; else a small circle."""
    colour = _colour(verdict, palette)
    look: dict[str, str | float] = {
        "fill": palette.paper if hollow else colour,
        "stroke": colour if hollow else palette.paper,
        "stroke_width": 1.4 if hollow else min(0.8, 0.16 * half),
    }
    if verdict not in (ADDS, SUPPRESSES):
        return tag("circle", cx=x, cy=y, r=0.6 * half, **look)
    up = 1 if verdict == ADDS else -1
    corners = ((x, y - up * half), (x + half, y + 0.8 * up * half), (x - half, y + 0.8 * up * half))
    shape = " ".join(f"{trimmed(a)},{trimmed(b)}" for a, b in corners)
    return tag("polygon", points=shape, **look)


def _diamond(x: float, y: float, half: float, palette: Palette) -> str:
    corners = ((x, y - half), (x + half, y), (x, y + half), (x - half, y))
    shape = " ".join(f"{trimmed(a)},{trimmed(b)}" for a, b in corners)
    return tag("polygon", points=shape, fill="none", stroke=palette.muted, stroke_width=1)


def _verdict_legend(
    explained: Explanation, palette: Palette, *, with_cannot_tell: bool = False
) -> list[Entry]:
    """Only the marks that there are."""

    def mark(verdict: str | None, *, hollow: bool = False) -> str:
        return _mark(verdict, 12, 0, 5, palette, hollow=hollow)

    seen = {*_verdicts(explained.layers), *_verdicts(explained.whole)}
    entries = [Entry(mark(one), f"the layer {one}") for one in (ADDS, SUPPRESSES) if one in seen]
    if with_cannot_tell:
        entries.append(Entry(mark(None), "cannot tell"))
    if explained.removed:
        gone = {explained.whole[layer].verdict for layer in explained.removed}
        shape = next((one for one in (SUPPRESSES, ADDS) if one in gone), None)
        entries += [Entry(mark(shape, hollow=True), "in the whole model"), _left_out_entry(palette)]
    return entries


def _columns(plot: Plot, explained: Explanation) -> list[str]:
    """Over each layer what is known of it, shown where a pointer rests."""
    return [
        tag(
            "rect",
            tooltip(said),
            x=plot.x.at(place) - plot.pitch / 2,
            y=plot.top,
            width=plot.pitch,
            height=plot.bottom - plot.top,
            fill_opacity=0,
        )
        for place in range(plot.first, plot.layers)
        for said in [says_of_layer(explained, place)]
    ]
