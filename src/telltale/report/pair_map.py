"""How leaving out two layers differs from the sum of each: a map of all pairs.

Each pair is one cell. The sign is told by a hue and, below 0, by a dash.
"""

from __future__ import annotations

from collections import defaultdict
from statistics import quantiles
from typing import TYPE_CHECKING, NamedTuple

from telltale.report.heat import MOST_TOOLTIPS
from telltale.report.layer_words import subject
from telltale.report.svg import (
    SHADES,
    Drawing,
    Entry,
    Palette,
    legend,
    tag,
    tooltip,
    trimmed,
    width_of,
    words,
)
from telltale.support.words import number, points, typeset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from telltale.evidence.explanation import Explanation

LEFT, RIGHT, TOP, WIDTH = 34.0, 16.0, 8.0, 440.0
BOX, BOXES = 13.0, 8  # of the legend, for each sign


class Cells(NamedTuple):
    """Where the pairs are: a row for each layer but the first, a column for each but the last."""

    layers: Sequence[int]

    @property
    def size(self) -> float:
        """Of a cell, neither a thread nor a door."""
        return min(30.0, (WIDTH - LEFT - RIGHT) / (len(self.layers) - 1))

    def corner(self, row: int, column: int) -> tuple[float, float]:
        """The upper left corner of the cell of two places, the first of which is the later."""
        return LEFT + column * self.size, TOP + (row - 1) * self.size

    @property
    def bottom(self) -> float:
        """Where the last row ends."""
        return self.corner(len(self.layers), 0)[1]


def pair_map(explained: Explanation, palette: Palette, *, by_accuracy: bool) -> Drawing:
    """The map of an explanation's pairs; it has two layers or more."""
    pairs = explained.pairs
    if pairs is None:
        raise ValueError("no pairs were measured")
    matrix = pairs.accuracy if by_accuracy else pairs.likelihood
    cells = Cells(pairs.layers)
    values = {
        (row, column): matrix[row][column]
        for row in range(1, len(pairs.layers))
        for column in range(row)
    }
    limit = limit_of(values.values())
    show = points if by_accuracy else _nats
    by_colour: dict[str, list[str]] = defaultdict(list)
    dashes: dict[str, list[str]] = defaultdict(list)
    for (row, column), value in values.items():
        (x, y), size = cells.corner(row, column), cells.size
        inner = size - min(1.0, size / 8)
        box = f"M{trimmed(x)} {trimmed(y)}h{trimmed(inner)}v{trimmed(inner)}h{trimmed(-inner)}z"
        if len(values) <= MOST_TOOLTIPS:
            both = f"layers {pairs.layers[column]} and {pairs.layers[row]}"
            unit = " points" if by_accuracy else " nats"
            box = tag("path", tooltip(f"{both}: {show(value)}{unit}"), d=box)
        shade = shade_of(value, limit)
        ramp = palette.below if value < 0 else palette.heat
        by_colour[ramp[shade]].append(box)
        if value < 0 and shade > 1:
            dashes[_dash_colour(shade, palette)].append(_dash(x, y, inner))
    parts = [*_labels(cells, palette)]
    for colour, boxes in by_colour.items():
        whole = boxes[0].startswith("M")
        parts.append(
            tag("path", d="".join(boxes), fill=colour) if whole else tag("g", *boxes, fill=colour)
        )
    still: dict[str, str | float] = {"fill": "none", "stroke_width": 1.2, "pointer_events": "none"}
    parts += [
        tag("path", d="".join(shapes), stroke=colour, **still) for colour, shapes in dashes.items()
    ]
    is_beyond = any(abs(value) > limit for value in values.values())
    top = cells.bottom + 60
    parts += _scale(limit, show, top, palette, is_beyond=is_beyond)
    middle = SHADES // 2
    box = tag("rect", x=5, y=-7, width=14, height=14, fill=palette.heat[middle])
    entries = [Entry(box, "more than the sum")]
    if any(value < 0 for value in values.values()):
        box = tag("rect", x=5, y=-7, width=14, height=14, fill=palette.below[middle])
        box += tag("path", d="M8 0h8", stroke=_dash_colour(middle, palette), **still)
        entries.append(Entry(box, "less than the sum"))
    keys, height = legend(entries, LEFT, top + 24, WIDTH - RIGHT, palette.muted)
    unit = "points of accuracy" if by_accuracy else "nats of likelihood"
    return Drawing(
        WIDTH,
        top + 24 + height,
        f"What leaving out two layers costs beyond the sum of each, {unit}: {subject(explained)}",
        [*parts, *keys],
    )


def limit_of(values: Iterable[float]) -> float:
    """How far from 0 shades reach; few values may be far beyond, and share the last one."""
    sizes = sorted(abs(value) for value in values)
    most = sizes[-1]
    if len(sizes) > 3:
        first, _, third = quantiles(sizes, n=4)
        most = min(most, third + 3 * (third - first)) or most
    return most or 1.0


def shade_of(value: float, limit: float) -> int:
    """From 0 to ``SHADES - 1``, by how far from 0 a value is."""
    return min(SHADES - 1, int(abs(value) / limit * SHADES))


def _nats(value: float) -> str:
    return "0" if not value else f"{value:+.3f}" if abs(value) < 1 else number(value)


def _dash(x: float, y: float, side: float) -> str:
    return f"M{trimmed(x + 0.28 * side)} {trimmed(y + side / 2)}h{trimmed(0.44 * side)}"


def _dash_colour(shade: int, palette: Palette) -> str:
    return palette.paper if shade > SHADES // 2 - 1 else palette.ink


def _labels(cells: Cells, palette: Palette) -> list[str]:
    """Layers at the left and below, as many as can be read."""
    every = next(step for step in (1, 2, 5, 10, 20) if step * cells.size >= 17 or step == 20)
    parts, half = [], cells.size / 2
    for place, layer in enumerate(cells.layers):
        x, y = cells.corner(place, place)
        if place and place % every == 0:
            parts.append(
                words(
                    *(str(layer), LEFT - 7, y + half + 4, palette.muted),
                    text_anchor="end",
                    font_size=11,
                )
            )
        if place < len(cells.layers) - 1 and place % every == 0:
            parts.append(
                words(
                    *(str(layer), x + half, cells.bottom + 15, palette.muted),
                    text_anchor="middle",
                    font_size=11,
                )
            )
    middle = LEFT + (len(cells.layers) - 1) * half
    name = words(
        "layers left out",
        max(middle, LEFT + 45),
        cells.bottom + 33,
        palette.muted,
        text_anchor="middle",
    )
    return [*parts, name]


def _scale(
    limit: float, show: Callable[[float], str], top: float, palette: Palette, *, is_beyond: bool
) -> list[str]:
    low, high = typeset(show(-limit)), typeset(show(limit))
    if is_beyond:
        low, high = f"≤ {low}", f"≥ {high}"
    start = LEFT + width_of(low) + 14
    step = SHADES // BOXES
    colours = [*reversed(palette.below[step - 1 :: step]), *palette.heat[step - 1 :: step]]
    boxes = [
        tag("rect", x=start + place * BOX, y=top - 9, width=BOX, height=11, fill=colour)
        for place, colour in enumerate(colours)
    ]
    end = start + len(colours) * BOX
    return [words(low, LEFT, top, palette.muted), *boxes, words(high, end + 6, top, palette.muted)]
