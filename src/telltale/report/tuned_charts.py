"""The figures of tuning: held-out accuracy with its interval, and loss against training time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from telltale.evidence.tuned import RegimesCompared
from telltale.report.svg import (
    BOLD,
    SIZE,
    Drawing,
    Entry,
    Palette,
    legend,
    line,
    polyline,
    scale_for,
    tag,
    ticks,
    tooltip,
    width_of,
    words,
)
from telltale.report.tuned_tables import steps_of
from telltale.report.tuned_words import step_words, subject
from telltale.support.words import between, duration, percent

if TYPE_CHECKING:
    from telltale.evidence.comparison import Comparison
    from telltale.evidence.tuned import Training, TuneResult

WIDTH, RIGHT, STEP = 660.0, 16.0, 34.0
DASHES = ("", "6 4", "2 3", "8 3 2 3")  # of the lines of several seeds


class Level(NamedTuple):
    """A row of the figure of accuracies; ``runs`` are those of single trainings."""

    name: str
    held_out: Comparison
    runs: tuple[float, ...] = ()


def levels_of(found: TuneResult | RegimesCompared) -> list[Level]:
    """What the figure of accuracies shows, from above."""
    if not isinstance(found, RegimesCompared):
        return [Level(step_words(one), one.held_out) for one in steps_of(found)]
    untouched = [found.baseline, *([found.start] if found.start else [])]
    return [
        *(Level(step_words(one), one.held_out) for one in untouched),
        *(
            Level(
                row.regime,
                row.held_out,
                tuple(
                    one.final.held_out.accuracy
                    for one in found.runs
                    if one.regime == row.regime and row.runs > 1
                ),
            )
            for row in found.rows
        ),
    ]


def accuracy_chart(found: TuneResult | RegimesCompared, palette: Palette) -> Drawing:
    """Held-out accuracy, each model with its interval; hollow, single trainings."""
    levels = levels_of(found)
    left = 24 + max(width_of(level.name) for level in levels)
    bottom = 10 + STEP * len(levels)
    ends = [100 * end for level in levels for end in (*level.held_out.interval, *level.runs)]
    x = scale_for(ends, left, WIDTH - RIGHT, 0.04)
    parts = []
    for value in ticks(x.low, x.high, 6):
        at = x.at(value)
        parts += [
            line(at, 6, at, bottom, palette.faint, stroke_width=0.8),
            words(f"{value:g}%", at, bottom + 18, palette.muted, text_anchor="middle"),
        ]
    whole = x.at(100 * levels[0].held_out.accuracy)
    parts.append(line(whole, 6, whole, bottom, palette.ink, stroke_width=1, opacity=0.55))
    for index, level in enumerate(levels):
        height, seen = 10 + STEP * (index + 0.5), level.held_out
        low, high = (x.at(100 * end) for end in seen.interval)
        says = f"{level.name}: {percent(seen.accuracy)} ({between(seen.interval)})"
        colour = palette.held_out
        dots = [
            tag(
                "circle",
                cx=x.at(100 * one),
                cy=height,
                r=3.2,
                fill=palette.paper,
                stroke=palette.search,
                stroke_width=1.4,
            )
            for one in level.runs
        ]
        parts += [
            words(level.name, left - 12, height + 4, palette.ink, text_anchor="end"),
            tag(
                "g",
                tooltip(says),
                line(low, height, high, height, colour, stroke_width=1.6, stroke_opacity=0.5),
                tag("circle", cx=x.at(100 * seen.accuracy), cy=height, r=4.6, fill=colour),
            ),
            *dots,
        ]
    full = tag("circle", cx=12, r=4.6, fill=palette.held_out)
    hollow = tag(
        "circle", cx=12, r=3.2, fill=palette.paper, stroke=palette.search, stroke_width=1.4
    )
    named = [
        Entry(full, "held out, 95% interval"),
        Entry(line(12, -7, 12, 7, palette.ink, opacity=0.55), "the untuned whole model"),
    ]
    if any(level.runs for level in levels):
        named.insert(1, Entry(hollow, "single trainings"))
    entries, height = legend(named, left, bottom + 40, WIDTH - RIGHT, palette.muted)
    return Drawing(
        WIDTH, bottom + 40 + height, f"Held-out accuracy: {subject(found)}", [*parts, *entries]
    )


def trainings_of(found: TuneResult | RegimesCompared) -> list[tuple[str, bool, Training]]:
    """Every training once: what it was of, whether layers were removed before it, and itself."""
    if not isinstance(found, RegimesCompared):
        steps = {found.regime: (found.steps, found.seed)}
    else:
        # Regimes that begin alike share their training.
        steps = {
            f"{one.regime} {one.seed}": (one.steps, one.seed or 0)
            for one in found.runs
            if one.regime in ("ft", "tale-ft")
        }
    several = len({seed for _, seed in steps.values()}) > 1
    trainings = []
    for of_run, seed in steps.values():
        for one in of_run:
            if one.training is not None:
                name = f"{one.layers} layers" + (f", seed {seed}" if several else "")
                trainings.append((name, bool(one.removed), one.training))
    return trainings


def loss_chart(found: TuneResult | RegimesCompared, palette: Palette) -> Drawing | None:
    """Development loss against the time of optimiser steps; None where nothing was trained."""
    trainings = trainings_of(found)
    if not trainings:
        return None
    left, plot, top = 58.0, 230.0, 26.0
    curves = [
        (
            name,
            shallow,
            [(0.0, one.before), *((m.seconds, m.development_loss) for m in one.history)],
        )
        for name, shallow, one in trainings
    ]
    every = [point for *_, points in curves for point in points]
    x = scale_for([seconds for seconds, _ in every], left, WIDTH - RIGHT, 0.02)
    y = scale_for([loss for _, loss in every], top + plot, top)
    bottom = top + plot
    parts = [words("development loss, nats", 0, top - 10, palette.muted, font_size=SIZE - 1)]
    for value in ticks(y.low, y.high, 6):
        at = y.at(value)
        parts += [
            line(left, at, WIDTH - RIGHT, at, palette.faint, stroke_width=0.8),
            words(f"{value:g}", left - 8, at + 4, palette.muted, text_anchor="end"),
        ]
    parts.append(line(left, bottom, x.end, bottom, palette.muted, stroke_width=0.8))
    for value in ticks(max(0.0, x.low), x.high, 6):
        at = x.at(value)
        parts.append(words(duration(value), at, bottom + 18, palette.muted, text_anchor="middle"))
    middle = (left + x.end) / 2
    parts.append(
        words("time in optimiser steps", middle, bottom + 37, palette.muted, text_anchor="middle")
    )
    target = found.reached_loss if isinstance(found, RegimesCompared) else None
    if target is not None and y.low <= target <= y.high:
        at = y.at(target)
        parts += [
            line(left, at, WIDTH - RIGHT, at, palette.ink, stroke_width=1, stroke_dasharray="1 3"),
            words("reached by all", x.end, at - 5, palette.ink, text_anchor="end", **BOLD),
        ]
    named, counts = list[Entry](), {True: 0, False: 0}
    for name, shallow, points in curves:
        colour = palette.held_out if shallow else palette.search
        dash = DASHES[counts[shallow] % len(DASHES)]
        counts[shallow] += 1
        more = {"stroke_dasharray": dash} if dash else {}
        parts += [
            polyline([(x.at(a), y.at(b)) for a, b in points], colour, stroke_width=2, **more),
            *(
                tag(
                    "circle",
                    tooltip(f"{name}: {b:.3f} after {duration(a)}"),
                    cx=x.at(a),
                    cy=y.at(b),
                    r=2.6,
                    fill=colour,
                )
                for a, b in points
            ),
        ]
        named.append(Entry(line(0, 0, 24, 0, colour, stroke_width=2, **more), name))
    entries, height = legend(named, left, bottom + 58, WIDTH - RIGHT, palette.muted)
    return Drawing(
        WIDTH,
        bottom + 58 + height,
        f"Development loss against training time: {subject(found)}",
        [*parts, *entries],
    )


def tuned_drawings(found: TuneResult | RegimesCompared, palette: Palette) -> dict[str, Drawing]:
    """Every figure that there is something to show in, by its name."""
    loss = loss_chart(found, palette)
    return {
        "accuracy": accuracy_chart(found, palette),
        **({} if loss is None else {"loss": loss}),
    }
