"""What is said of tuning, for the page and the screen; plain sentences of what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telltale.evidence.tuned import SEARCH, RegimesCompared
from telltale.support.words import (
    counted,
    layers_named,
    listed,
    percent,
    points,
    points_between,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from telltale.evidence.comparison import Comparison
    from telltale.evidence.stats import Interval
    from telltale.evidence.tuned import Row, Step, TuneResult

# What a regime does, in words.
REGIME_WORDS = {
    "ft": "tuned",
    "tale": "searched",
    "tale-ft": "searched, then tuned",
    "ft-tale": "tuned, then searched",
    "tale-ft-tale": "searched, tuned, searched again",
}


def subject(found: TuneResult | RegimesCompared) -> str:
    """Which model and task."""
    return f"{found.model['name']} on {found.task['name']}"


def sizes(found: TuneResult | RegimesCompared) -> str:
    """How many examples each set has."""
    sets = found.sets
    return (
        f"{counted(sets['train'], 'example')} to train on ({sets['origin']}), "
        f"{sets['development']:,} for development, {sets['search']:,} to search by, "
        f"{sets['held_out']:,} held out"
    )


def step_words(one: Step) -> str:
    """What a step did."""
    if not one.kind:
        return f"without {layers_named(one.removed)}" if one.removed else "whole model"
    if one.kind != SEARCH:
        return "tuned"
    back = f"; put back {listed(one.put_back)}" if one.put_back else ""
    return f"searched{back}"


def conclusions(found: TuneResult | RegimesCompared) -> list[str]:
    """What follows, sentence by sentence."""
    return list(_compared(found) if isinstance(found, RegimesCompared) else _once(found))


def _once(found: TuneResult) -> Iterator[str]:
    final = found.final
    removed = f"without {layers_named(final.removed)}" if final.removed else "with all its layers"
    yield (
        f"{found.regime}: {removed} the model is right on {percent(final.held_out.accuracy)} of "
        f"{final.held_out.examples:,} held-out examples, the untuned whole model on "
        f"{percent(found.baseline.held_out.accuracy)}: {_gain(final.held_out)}."
    )
    whole, after = found.tokens_per_second
    if final.removed:
        yield f"It reads {after / whole:.2f} times as many tokens per second as the whole model."


def _compared(found: RegimesCompared) -> Iterator[str]:
    best = max(found.rows, key=lambda row: row.held_out.accuracy)
    whole = percent(found.baseline.held_out.accuracy)
    yield (
        f"Highest on the held-out examples is {best.regime} with "
        f"{percent(best.held_out.accuracy)}, the untuned whole model has {whole}: "
        f"{_gain(best.held_out)}. It is the highest of {len(found.rows)} on these examples, and "
        "so may look better than it is."
    )
    for row in found.rows:
        if row.against is not None and row.seconds is not None:
            yield f"{row.regime} beside ft: {_beside(row)}."


def _beside(row: Row) -> str:
    assert row.against is not None
    return f"{points(row.against.gain)} points ({points_between(row.against.interval)}), " + (
        _shown(row.against.interval, "better", "worse")
    )


def _gain(held_out: Comparison) -> str:
    interval = held_out.gain_interval
    said = f"{points(held_out.gain)} points ({points_between(interval)})"
    return f"{said}, {_shown(interval, 'a gain is shown', 'a loss is shown')}"


def _shown(interval: Interval, gain: str, loss: str) -> str:
    if interval.low > 0:
        return gain
    return loss if interval.high < 0 else "and the interval holds zero"
