"""The heat map of a search: every candidate of every round.

Made for models of 2 to some 126 layers: where there are many cells, those of one shade are one
shape, so that the drawing stays small.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import quantiles
from typing import TYPE_CHECKING

from telltale.paths import LayerPath
from telltale.report.sentences import is_step
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
from telltale.searches.found import removal_orders
from telltale.support.words import layers_named, number, percent, typeset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from telltale.evidence.result import Searched
    from telltale.searches import Candidate, Round

LEFT, RIGHT, TOP = 50.0, 16.0, 34.0
LEFT_EARLY = 4.5  # how far the cell of a candidate that left early is inset
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


def heat_map(searched: Searched, palette: Palette, *, by_objective: bool) -> Drawing:
    """Rounds by layers, coloured by accuracy or by what candidates were ranked by.

    The study has finished at least one round.
    """
    rounds, layers = searched.rounds, searched.layers or 1
    shown = searched.objective if by_objective else "accuracy"
    grid = Grid(layers, len(rounds))
    rows = [_row(done) for done in rounds]

    raced = _left_a_race(searched)

    def value(one: Candidate) -> float:
        """What it has; of one that left early, the most that it may have, if it left for that."""
        if one.path in raced:
            return one.value if by_objective else one.accuracy
        of_accuracy, of_value = one.at_most(examples_of(searched, one), searched.highest)
        if by_objective:
            return one.value if of_value is None else of_value
        return of_accuracy

    # Where a search never leaves out a layer by itself, there are marks and no cells.
    seen = [value(one) for row in rows for one in row.values()] or [0.0]
    shading = shading_of(seen)
    parts = [
        *_labels(grid, palette),
        *_cells(grid, searched, rows, value, shading, palette, shown),
        *_marks(searched, rows, grid, palette),
    ]
    right = max(grid.right, LEFT + 400)
    scale, after = _scale(shading, shown, grid.bottom + 26, palette)
    keys, height = legend(_legend(searched, palette), LEFT, after + 22, right, palette.muted)
    return Drawing(
        right + RIGHT,
        after + 22 + height,
        f"{shown.capitalize()} of every candidate, by round and layer: {searched.name}",
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


def _row(done: Round) -> dict[int, Candidate]:
    """For each layer the best candidate that is its parent without it; the lowest layer first."""
    best: dict[int, Candidate] = {}
    for one in filter(is_step, done.tried.values()):
        there = best.setdefault(one.left_out[0], one)
        if (one.examples, one.value) > (there.examples, there.value):
            best[one.left_out[0]] = one
    return dict(sorted(best.items()))


def _cells(
    grid: Grid,
    searched: Searched,
    rows: Sequence[Mapping[int, Candidate]],
    value: Callable[[Candidate], float],
    shading: Shading,
    palette: Palette,
    shown: str,
) -> list[str]:
    by_shade: dict[int, list[str]] = defaultdict(list)
    speaks = sum(map(len, rows)) <= MOST_TOOLTIPS
    raced = _left_a_race(searched)
    for index, row in enumerate(rows):
        several = len({one.parent for one in row.values()}) > 1
        for layer, one in row.items():
            every = examples_of(searched, one)
            box = grid.box(layer, index, 0.5 if one.examples == every else LEFT_EARLY)
            if speaks:
                says = _says(index, one, shown, of_several=several)
                if one.examples < every:
                    says = _says_early(index, one, value(one), shown, every)
                if one.path in raced:
                    several_of = f", on {one.examples} of {every} examples, drawn at random"
                    says = _says(index, one, shown, of_several=several) + several_of
                box = tag("path", tooltip(says), d=box)
            by_shade[shading.shade(value(one))].append(box)
    return [
        tag("g", *boxes, fill=palette.heat[shade])
        if speaks
        else tag("path", d="".join(boxes), fill=palette.heat[shade])
        for shade, boxes in sorted(by_shade.items())
    ]


def _says(index: int, one: Candidate, shown: str, *, of_several: bool) -> str:
    lacks = one.path.removed if of_several else one.left_out
    text = f"round {index + 1}, without {layers_named(lacks)}: accuracy {percent(one.accuracy)}"
    if one.value != one.accuracy:
        name = shown if shown != "accuracy" else "ranked by"
        text += f", {name} {number(one.value)}"
    return text


def _says_early(index: int, one: Candidate, most: float, shown: str, every: int) -> str:
    said = percent(most) if shown == "accuracy" else number(most)
    return (
        f"round {index + 1}, without {layers_named(one.left_out)}: {shown} at most {said}, so it "
        f"left after {one.examples} of {every} examples"
    )


def examples_of(searched: Searched, one: Candidate) -> int:
    """How many examples a candidate would stand on, had it not left early."""
    return int(max(one.examples, searched.task.get("search_examples", 0)))


def _left_a_race(searched: Searched) -> set[LayerPath]:
    """The candidates that left early for what a random part of the examples said."""
    rounds = (done for done in searched.rounds if done.certainty is not None)
    return {path for done in rounds for path in done.left_early}


def _marks(
    searched: Searched, rows: Sequence[Mapping[int, Candidate]], grid: Grid, palette: Palette
) -> list[str]:
    """What became of layers, told by shapes and not by colour."""
    gone: list[str] = []
    kept: list[str] = []
    refused: list[str] = []
    frames: list[str] = []
    orders = removal_orders(LayerPath.whole(grid.layers), searched.rounds)
    for index, (done, row) in enumerate(zip(searched.rounds, rows, strict=True)):
        removed = _gone(done, orders)
        gone += [grid.stroke(layer, index) for layer in removed]
        kept += [
            _dot(grid, layer, index, palette)
            for layer in searched.settings.get("protected", ())
            if layer not in removed
        ]
        refused += [
            grid.stroke(layer, index) + grid.stroke(layer, index, rising=False)
            for layer in _layers_of(done.refused, done, row)
        ]
        framed = _layers_of(done.kept or (done.first.path,), done, row)
        frames += [
            _frame(grid.box(layer, index, 0.2), palette, accepted=done.accepted) for layer in framed
        ]
    strokes = {"fill": "none", "stroke_linecap": "round"}
    return [
        tag("path", d="".join(gone), stroke=palette.muted, stroke_width=0.9, **strokes),
        tag("path", d="".join(refused), stroke=palette.search, stroke_width=1.6, **strokes),
        *kept,
        *frames,
    ]


def _gone(done: Round, orders: Mapping[LayerPath, tuple[int, ...]]) -> tuple[int, ...]:
    """The layers that none of a round's candidates could leave out, in order of removal."""
    parents = [parent for one in done.tried.values() if (parent := one.parent) is not None]
    gone = set.intersection(*(set(parent.removed) for parent in parents))
    return tuple(layer for layer in orders[parents[0]] if layer in gone)


def _layers_of(paths: Iterable[LayerPath], done: Round, row: Mapping[int, Candidate]) -> list[int]:
    """The layers in whose cells some of a round's candidates are shown."""
    found = [done.tried[path] for path in paths]
    return [one.left_out[0] for one in found if is_step(one) and row[one.left_out[0]] is one]


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


def _legend(searched: Searched, palette: Palette) -> list[Entry]:
    """Only the marks that the map has."""
    frame = "M4 -7h16v14h-16z"
    last = searched.rounds[-1]
    entries = []
    if any(done.accepted for done in searched.rounds):
        entries.append(Entry(_frame(frame, palette, accepted=True), "left out in this round"))
    if any(done.accepted for done in searched.rounds[:-1]):
        before = line(5, 6, 19, -6, palette.muted, stroke_width=0.9)
        entries.append(Entry(before, "left out before"))
    if not last.accepted:
        entries.append(Entry(_frame(frame, palette, accepted=False), "best, but not kept"))
    if any(done.left_early for done in searched.rounds):
        small = tag("path", d="M7 -4h10v8h-10z", fill=palette.heat[-3])
        said = "what it has on a part" if _left_a_race(searched) else "what it may have at most"
        entries.append(Entry(small, f"left early; shaded by {said}"))
    if searched.settings.get("protected"):
        entries.append(Entry(tag("circle", cx=12, r=1.8, fill=palette.muted), "protected"))
    if any(done.refused for done in searched.rounds):
        cross = tag("path", d="M6 5l12 -10M6 -5l12 10", stroke=palette.search, stroke_width=1.6)
        entries.append(Entry(cross, "refused by a guard"))
    return entries
