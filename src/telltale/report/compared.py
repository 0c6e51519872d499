"""The page of methods compared at equal depth: one picture, one table, and what was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from telltale.evidence.methods import REFERENCE, Method, ModelAtDepth, best_at
from telltale.report.svg import (
    BOLD,
    INLINE,
    SIZE,
    Drawing,
    Entry,
    Palette,
    Scale,
    legend,
    line,
    scale_for,
    tag,
    ticks,
    tooltip,
    width_of,
    words,
)
from telltale.report.template import markup, rendered
from telltale.support.words import (
    NOTHING,
    counted,
    duration,
    listed,
    millions,
    one_of,
    percent,
    points,
    points_between,
    typeset,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from telltale.evidence.methods import Compared, OtherModel

ROW, TOP, PANEL, GAP = 24.0, 52.0, 190.0, 26.0
SURE = "%"


class Row(NamedTuple):
    """A method's cells of the page's table: its cost, and a pair for each depth."""

    name: str
    source: str
    passes: str
    time: str
    cells: tuple[tuple[str, str, str, str], ...]


class Choice(NamedTuple):
    """What may be used, a row of the table of models and their speeds."""

    name: str
    layers: str
    parameters: str
    held_out: str
    gain: str
    speed: str


def comparison_page(compared: Compared) -> str:
    """A page on methods at equal depth, complete in itself: nothing is loaded from elsewhere."""
    task = compared.task
    return rendered(
        "compared.html.j2",
        title=compared.name,
        compared=compared,
        sizes=(
            f"{counted(task['search_examples'], 'example')} to search by, "
            f"{task['held_out_examples']:,} held out; candidates are ranked by "
            f"{compared.settings['objective']}"
        ),
        conclusions=conclusions(compared),
        whole=percent(compared.baseline.held_out.accuracy),
        sure=sure(compared),
        figure_of_methods=markup(methods_chart(compared, INLINE)),
        rows=[_row(one) for one in compared.methods],
        choices=choices(compared),
        cost=f"All methods together took {duration(compared.seconds)} to search: what one has "
        "measured, the next remembers. The cost of each is what it takes by itself.",
    )


def sure(compared: Compared) -> str:
    """How sure intervals are: ``95%``."""
    return f"{100 * compared.settings['confidence']:g}{SURE}"


def conclusions(compared: Compared) -> list[str]:
    """What each depth shows, in sentences: the highest, and who can be told from greedy removal."""
    said = [_conclusion(compared, depth) for depth in compared.depths]
    return said if compared.other is None else [*said, _of_other(compared.other)]


def _of_other(other: OtherModel) -> str:
    """What a model that may be used instead is, beside the shallower ones of its speed."""
    said = (
        f"{other.name}: {percent(other.held_out.accuracy)} on held-out examples, "
        f"{times(other.speed)} as fast as the whole model"
    )
    depth = other.nearest
    if depth is None:
        return f"{said}."
    said += f"; nearest in speed is the one without {counted(depth, 'layer')} "
    said += f"({times(other.speeds[depth])})"
    over = other.over_greedy[depth]
    if over is None:
        return f"{said}."
    gain, interval = over
    told = (
        f"shown to be better than {REFERENCE} removal's"
        if interval.low > 0
        else f"shown to be worse than {REFERENCE} removal's"
        if interval.high < 0
        else f"not to be told from {REFERENCE} removal's"
    )
    return f"{said}, and it is {told} of that depth: {points(gain)} ({points_between(interval)})."


def times(ratio: float) -> str:
    """A ratio of speeds: ``1.22 times``."""
    return f"{ratio:.2f} times"


def choices(compared: Compared) -> list[Choice]:
    """The whole model, one of every depth that was timed, and what may be used instead.

    Of a depth it is greedy removal's model, or that of the first method that has one.
    """
    other = compared.other
    if other is None:
        return []
    methods = sorted(compared.methods, key=lambda one: one.name != REFERENCE)

    def row(name: str, model: ModelAtDepth | OtherModel, speed: float) -> Choice:
        seen = model.held_out
        return Choice(
            name,
            str(model.layers),
            millions(model.parameters),
            percent(seen.accuracy),
            f"{points(seen.gain)} ({points_between(seen.gain_interval)})",
            times(speed),
        )

    rows = [row("whole model", compared.baseline, 1.0)]
    for depth, speed in other.speeds.items():
        named, model = next((one.name, it) for one in methods if (it := one.depths[depth]))
        rows.append(row(f"without {counted(depth, 'layer')}, {named}", model, speed))
    return [*rows, row(other.name, other, other.speed)]


def _conclusion(compared: Compared, depth: int) -> str:
    best = best_at(compared, depth)
    layers = counted(depth, "layer")
    if not best:
        return f"Without {layers}: no method has a model."
    model = best[0].depths[depth]
    assert model is not None
    names = _listed([one.name for one in best])
    said = (
        f"Without {layers}: {names} {'is' if len(best) == 1 else 'are'} highest on held-out "
        f"examples, {percent(model.held_out.accuracy)}"
    )
    told = [
        (one.name, found.over_greedy[1])
        for one in compared.methods
        if (found := one.depths[depth]) is not None and found.over_greedy is not None
    ]
    if not told:
        return f"{said}."
    better = [name for name, interval in told if interval.low > 0]
    worse = [name for name, interval in told if interval.high < 0]
    parts = [f"{_listed(better)} shown to be better"] if better else []
    parts += [f"{_listed(worse)} shown to be worse"] if worse else []
    beside = "; ".join(parts) or "none can be told from it"
    return f"{said}; beside {REFERENCE}: {beside}."


def _listed(names: Sequence[str]) -> str:
    return one_of(names).replace(" or ", " and ")


def _row(one: Method) -> Row:
    cells = tuple(_cell(model) for model in one.depths.values())
    cost = one.cost
    return Row(one.name, one.source, f"{cost.dense_passes:,.1f}", duration(cost.seconds), cells)


def _cell(model: ModelAtDepth | None) -> tuple[str, str, str, str]:
    """Held-out accuracy, the gain over the whole model, over greedy removal, and the layers."""
    if model is None:
        return NOTHING, NOTHING, NOTHING, NOTHING
    return (
        percent(model.held_out.accuracy),
        f"{points(model.held_out.gain)} ({points_between(model.held_out.gain_interval)})",
        over_greedy(model),
        listed(model.removed),
    )


def over_greedy(model: ModelAtDepth) -> str:
    """The gain over greedy removal's model of the same depth, with its interval."""
    if model.over_greedy is None:
        return NOTHING
    gain, interval = model.over_greedy
    return f"{points(gain)} ({points_between(interval)})"


def method_values(compared: Compared) -> list[dict[str, Any]]:
    """Every method's model of every depth, a row each, with exact values."""
    found = []
    for one in compared.methods:
        for depth, model in one.depths.items():
            held_out = None if model is None else model.held_out
            over = None if model is None else model.over_greedy
            found.append(
                {
                    "method": one.name,
                    "layers_removed": depth,
                    "removed": "" if model is None else " ".join(map(str, model.removed)),
                    "search_accuracy": "" if model is None else model.accuracy,
                    "held_out_accuracy": "" if held_out is None else held_out.accuracy,
                    "gain": "" if held_out is None else held_out.gain,
                    "gain_low": "" if held_out is None else held_out.gain_interval.low,
                    "gain_high": "" if held_out is None else held_out.gain_interval.high,
                    "over_greedy": "" if over is None else over[0],
                    "over_greedy_low": "" if over is None else over[1].low,
                    "over_greedy_high": "" if over is None else over[1].high,
                    "layer_tokens": one.cost.layer_tokens,
                    "dense_passes": one.cost.dense_passes,
                }
            )
    return found


def methods_chart(compared: Compared, palette: Palette) -> Drawing:
    """The gain over the whole model of every method, a column a depth, with intervals."""
    methods, depths = compared.methods, compared.depths
    left = max(width_of(one.name) for one in methods) * 1.1 + 18
    models = [model for one in methods for model in one.depths.values() if model is not None]
    ends = [100 * end for one in models for end in one.held_out.gain_interval]
    bottom = TOP + ROW * len(methods)
    width = left + len(depths) * (PANEL + GAP)
    parts: list[str] = []
    for number, depth in enumerate(depths):
        start = left + number * (PANEL + GAP)
        x = scale_for([*ends, 0.0], start, start + PANEL)
        parts += _panel(depth, x, bottom, palette)
        for row, one in enumerate(methods):
            middle = TOP + ROW * (row + 0.5)
            model = one.depths[depth]
            if model is not None:
                parts.append(_mark(one, model, x, middle, palette))
    for row, one in enumerate(methods):
        base = TOP + ROW * (row + 0.5) + 4
        weight: dict[str, Any] = BOLD if one.name == REFERENCE else {}
        parts.append(words(one.name, 0, base, palette.ink, **weight))
        below = TOP + ROW * (row + 1)
        parts.append(line(0, below, width - GAP, below, palette.faint, stroke_width=0.8))
    entries, height = legend(
        [
            Entry(_dot(12, 0, palette, is_told=True), "told from the whole model"),
            Entry(_dot(12, 0, palette, is_told=False), "cannot be told from it"),
        ],
        0,
        bottom + 30,
        width,
        palette.muted,
    )
    title = f"Held-out gain over the whole model by method and depth: {compared.name}"
    return Drawing(width - GAP, bottom + 30 + height, title, [*parts, *entries])


def _panel(depth: int, x: Scale, bottom: float, palette: Palette) -> Iterator[str]:
    """A depth's heading and its axis, in points."""
    heading = f"without {counted(depth, 'layer')}"
    yield words(heading, (x.start + x.end) / 2, 12, palette.ink, text_anchor="middle", **BOLD)
    for value in ticks(x.low, x.high, 4):
        at, is_zero = x.at(value), value == 0
        colour = palette.muted if is_zero else palette.faint
        yield line(at, TOP - 8, at, bottom, colour, stroke_width=1 if is_zero else 0.8)
        said = typeset(f"{value:+g}") if value else "0"
        small = {"font_size": SIZE - 1}
        yield words(said, at, 34, palette.muted, text_anchor="middle", **small)


def _mark(one: Method, model: ModelAtDepth, x: Scale, middle: float, palette: Palette) -> str:
    seen = model.held_out
    low, high = (x.at(100 * end) for end in seen.gain_interval)
    is_told = not seen.gain_interval.low <= 0 <= seen.gain_interval.high
    said = (
        f"{one.name} without {listed(model.removed)}: {percent(seen.accuracy)}, "
        f"{points(seen.gain)} points ({points_between(seen.gain_interval)})"
    )
    return tag(
        "g",
        tooltip(said),
        tag("rect", x=x.start, y=middle - ROW / 2, width=PANEL, height=ROW, fill_opacity=0),
        line(low, middle, high, middle, palette.held_out, stroke_width=1.6),
        _dot(x.at(100 * seen.gain), middle, palette, is_told=is_told),
    )


def _dot(x: float, y: float, palette: Palette, *, is_told: bool) -> str:
    fill = palette.held_out if is_told else palette.paper
    return tag("circle", cx=x, cy=y, r=4.5, fill=fill, stroke=palette.held_out, stroke_width=1.8)
