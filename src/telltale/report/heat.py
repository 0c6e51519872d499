"""The heat map of a search: every candidate of every round.

Made for models of 2 to some 126 layers: where there are many cells, those of one shade are one
shape, so that the drawing stays small.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import quantiles
from typing import TYPE_CHECKING

from telltale.report.svg import (
    SHADES,
    Drawing,
    Entry,
    Palette,
    legend,
    line,
    tag,
    tooltip,
    trimmed,
    words,
)
from telltale.support.words import number, percent, typeset

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from telltale.report.facts import Facts
    from telltale.searches import Round

LEFT, RIGHT, TOP = 50.0, 16.0, 34.0
MOST_TOOLTIPS = 2000  # cells; past that they would be most of a page


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the cells are."""

    layers: int
    rounds: int

    @property
    def cell_width(self) -> float:
        """As wide as fits a page, but neither a thread nor a door."""
        return min(34.0, max(9.0, round(594 / self.layers, 1)))

    @property
    def cell_height(self) -> float:
        """Lower where there are many rounds."""
        return 20.0 if self.rounds <= 20 else 13.0

    def corner(self, layer: int, index: int) -> tuple[float, float]:
        """The upper left corner of a cell."""
        return LEFT + layer * self.cell_width, TOP + index * self.cell_height

    @property
    def right(self) -> float:
        """Where the last column ends."""
        return LEFT + self.layers * self.cell_width

    @property
    def bottom(self) -> float:
        """Where the last row ends."""
        return TOP + self.rounds * self.cell_height

    def box(self, layer: int, index: int, inset: float = 0.5) -> str:
        """A cell as part of a path's shape."""
        x, y = self.corner(layer, index)
        wide, high = self.cell_width - 2 * inset, self.cell_height - 2 * inset
        return (
            f"M{trimmed(x + inset)} {trimmed(y + inset)}h{trimmed(wide)}v{trimmed(high)}"
            f"h{trimmed(-wide)}z"
        )

    def stroke(self, layer: int, index: int, *, rising: bool = True) -> str:
        """A diagonal of a cell as part of a path's shape."""
        x, y = self.corner(layer, index)
        wide, high = self.cell_width - 5, self.cell_height - 5
        if rising:
            return f"M{trimmed(x + 2.5)} {trimmed(y + 2.5 + high)}l{trimmed(wide)} {trimmed(-high)}"
        return f"M{trimmed(x + 2.5)} {trimmed(y + 2.5)}l{trimmed(wide)} {trimmed(high)}"


@dataclass(frozen=True, slots=True)
class Shading:
    """Which shade a value has. Values below ``low`` share the first, however far below they are."""

    low: float
    high: float
    lowest: float

    def shade(self, value: float) -> int:
        """From 0 to ``SHADES - 1``."""
        if self.high <= self.low:
            return SHADES - 1
        place = (value - self.low) / (self.high - self.low)
        return min(SHADES - 1, max(0, int(place * SHADES)))


def shading_of(values: Iterable[float]) -> Shading:
    """Shades for some values, few of which may be far below the others.

    Without its first layers a model is lost altogether; were shades to reach that far down, the
    candidates that are chosen between would all look alike. So they end where a box plot's whisker
    does.
    """
    seen = sorted(values)
    low, high = seen[0], seen[-1]
    if len(seen) > 3:
        first, _, third = quantiles(seen, n=4)
        low = max(low, min(first - 1.5 * (third - first), high))
    return Shading(low, high, seen[0])


def heat_map(facts: Facts, palette: Palette, *, by_objective: bool) -> Drawing:
    """Rounds by layers, coloured by accuracy or by what candidates were ranked by.

    The study has finished at least one round.
    """
    rounds, layers = facts.rounds, facts.layers or 1
    shown = facts.objective if by_objective else "accuracy"
    grid = Grid(layers, len(rounds))
    values = [done.values if by_objective else done.candidates for done in rounds]
    shading = shading_of(value for of_round in values for value in of_round.values())
    parts = [
        *_labels(grid, palette),
        *_cells(grid, rounds, values, shading, palette, shown),
        *_marks(facts, grid, palette),
    ]
    right = max(grid.right, LEFT + 400)
    scale, after = _scale(shading, shown, grid.bottom + 26, palette)
    keys, height = legend(_legend(facts, palette), LEFT, after + 22, right, palette.muted)
    return Drawing(
        right + RIGHT,
        after + 22 + height,
        f"{shown.capitalize()} of every candidate, by round and layer: {facts.name}",
        [*parts, *scale, *keys],
    )


def _labels(grid: Grid, palette: Palette) -> list[str]:
    """Rounds at the left, layers above, as many as can be read."""
    every = next(step for step in (1, 2, 5, 10) if step * grid.cell_width >= 19 or step == 10)
    each = 1 if grid.cell_height > 14 else 2
    parts = [
        words("round", 0, TOP - 10, palette.muted),
        words("layer left out", LEFT, 12, palette.muted),
    ]
    parts += [
        words(
            str(layer),
            grid.corner(layer, 0)[0] + grid.cell_width / 2,
            TOP - 5,
            palette.muted,
            text_anchor="middle",
            font_size=10,
        )
        for layer in range(0, grid.layers, every)
    ]
    parts += [
        words(
            str(index + 1),
            LEFT - 8,
            grid.corner(0, index)[1] + grid.cell_height / 2 + 4,
            palette.muted,
            text_anchor="end",
            font_size=11,
        )
        for index in range(0, grid.rounds, each)
    ]
    return parts


def _cells(
    grid: Grid,
    rounds: tuple[Round, ...],
    values: list[Mapping[int, float]],
    shading: Shading,
    palette: Palette,
    shown: str,
) -> list[str]:
    by_shade: dict[int, list[str]] = defaultdict(list)
    speaks = sum(map(len, values)) <= MOST_TOOLTIPS
    for index, (done, of_round) in enumerate(zip(rounds, values, strict=True)):
        for layer, value in of_round.items():
            box = grid.box(layer, index)
            if speaks:
                box = tag("path", tooltip(_says(index, layer, done, shown)), d=box)
            by_shade[shading.shade(value)].append(box)
    return [
        tag("g", *boxes, fill=palette.heat[shade])
        if speaks
        else tag("path", d="".join(boxes), fill=palette.heat[shade])
        for shade, boxes in sorted(by_shade.items())
    ]


def _says(index: int, layer: int, done: Round, shown: str) -> str:
    text = f"round {index + 1}, without layer {layer}: accuracy {percent(done.candidates[layer])}"
    if done.values[layer] != done.candidates[layer]:
        name = shown if shown != "accuracy" else "ranked by"
        text += f", {name} {number(done.values[layer])}"
    return text


def _marks(facts: Facts, grid: Grid, palette: Palette) -> list[str]:
    """What became of layers, told by shapes and not by colour."""
    gone: list[str] = []
    kept: list[str] = []
    refused: list[str] = []
    removed: list[int] = []
    frames: list[str] = []
    for index, done in enumerate(facts.rounds):
        gone += [grid.stroke(layer, index) for layer in removed]
        kept += [
            _dot(grid, layer, index, palette)
            for layer in facts.settings.get("protected", ())
            if layer not in removed
        ]
        refused += [
            grid.stroke(layer, index) + grid.stroke(layer, index, rising=False)
            for layer in done.guarded
        ]
        frames.append(_frame(grid.box(done.removed, index, 0.2), palette, accepted=done.accepted))
        if done.accepted:
            removed.append(done.removed)
    strokes = {"fill": "none", "stroke_linecap": "round"}
    return [
        tag("path", d="".join(gone), stroke=palette.muted, stroke_width=0.9, **strokes),
        tag("path", d="".join(refused), stroke=palette.search, stroke_width=1.6, **strokes),
        *kept,
        *frames,
    ]


def _dot(grid: Grid, layer: int, index: int, palette: Palette) -> str:
    x, y = grid.corner(layer, index)
    return tag(
        "circle",
        cx=x + grid.cell_width / 2,
        cy=y + grid.cell_height / 2,
        r=1.8,
        fill=palette.muted,
    )


def _frame(shape: str, palette: Palette, *, accepted: bool) -> str:
    """A frame that is seen on every shade: a line in the paper's colour with one inside it."""
    dashes = {} if accepted else {"stroke_dasharray": "3 2"}
    return tag("path", d=shape, fill="none", stroke=palette.paper, stroke_width=4) + tag(
        "path", d=shape, fill="none", stroke=palette.search, stroke_width=2.2, **dashes
    )


def _scale(shading: Shading, shown: str, top: float, palette: Palette) -> tuple[list[str], float]:
    """The shades with their values, and where that ends."""
    wide, show = 11.0, percent if shown == "accuracy" else number
    below = "≤ " if shading.lowest < shading.low else ""
    low, high = typeset(f"{shown} {below}{show(shading.low)}"), typeset(show(shading.high))
    start = LEFT + 6.6 * len(low) + 6
    boxes = [
        tag("rect", x=start + shade * wide, y=top - 9, width=wide, height=11, fill=colour)
        for shade, colour in enumerate(palette.heat)
    ]
    end = start + SHADES * wide
    return [
        words(low, LEFT, top, palette.muted),
        *boxes,
        words(high, end + 6, top, palette.muted),
    ], top


def _legend(facts: Facts, palette: Palette) -> list[Entry]:
    """Only the marks that the map has."""
    frame = "M4 -7h16v14h-16z"
    last = facts.rounds[-1]
    entries = []
    if any(done.accepted for done in facts.rounds):
        entries.append(Entry(_frame(frame, palette, accepted=True), "left out in this round"))
    if any(done.accepted for done in facts.rounds[:-1]):
        before = line(5, 6, 19, -6, palette.muted, stroke_width=0.9)
        entries.append(Entry(before, "left out before"))
    if not last.accepted:
        entries.append(Entry(_frame(frame, palette, accepted=False), "best, but not kept"))
    if facts.settings.get("protected"):
        entries.append(Entry(tag("circle", cx=12, r=1.8, fill=palette.muted), "protected"))
    if any(done.guarded for done in facts.rounds):
        cross = tag("path", d="M6 5l12 -10M6 -5l12 10", stroke=palette.search, stroke_width=1.6)
        entries.append(Entry(cross, "refused by a guard"))
    return entries
