"""The tables of tuning: the steps of a run, and regimes beside each other; for page and screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telltale.report.tables import Column
from telltale.report.tuned_words import step_words
from telltale.support.words import (
    NOTHING,
    between,
    duration,
    listed,
    number,
    percent,
    points,
    points_between,
)

if TYPE_CHECKING:
    from telltale.evidence.calibration import Gain
    from telltale.evidence.comparison import Comparison
    from telltale.evidence.tuned import RegimesCompared, Row, Step, TuneResult


def steps_of(found: TuneResult) -> list[Step]:
    """The rows of a run's table: the models that nothing was done to, then every step."""
    return [found.baseline, *([found.start] if found.start else []), *found.steps]


def steps_columns() -> list[Column[Step]]:
    """The columns of a run's table."""
    return [
        Column("step", step_words, is_text=True),
        Column("layers", lambda one: str(one.layers)),
        Column("removed", lambda one: listed(one.removed), is_text=True),
        Column("held out", lambda one: _accuracy(one.held_out)),
        Column(
            "gain",
            lambda one: _gain(one.held_out) if one.kind or one.removed else NOTHING,
            note="points over the untuned whole model, on the same examples",
        ),
        Column(
            "development loss",
            lambda one: NOTHING if one.training is None else f"{one.training.loss:.3f}",
            note="nats, the least; by it is stopped and kept",
        ),
        Column(
            "time",
            lambda one: duration(one.seconds) if one.kind else NOTHING,
            note="of a search, all that it measured; of tuning, its optimiser steps alone",
        ),
        Column(
            "tokens",
            lambda one: NOTHING if one.training is None else f"{one.training.tokens:,}",
            note="read in training, padding not counted",
        ),
    ]


def compared_columns(found: RegimesCompared) -> list[Column[Row]]:
    """The columns of the table of regimes."""
    target = "" if found.reached_loss is None else f"{found.reached_loss:.3f}"
    several = max((row.runs for row in found.rows), default=1) > 1
    columns: list[Column[Row]] = [
        Column("regime", lambda row: row.regime, is_text=True),
        Column("layers", lambda row: _range(row.layers)),
        Column("held out", lambda row: _accuracy(row.held_out)),
    ]
    if several:
        columns.append(
            Column(
                "seeds",
                lambda row: NOTHING if row.runs == 1 else between(row.accuracies),
                note="the lowest and the highest of the trainings; other columns are means",
            )
        )
    return [
        *columns,
        Column(
            "gain",
            lambda row: _gain(row.held_out),
            note="points over the untuned whole model, on the same examples",
        ),
        Column(
            "beside ft",
            lambda row: _beside(row.against),
            note="points over the whole model tuned, on the same examples",
        ),
        Column("search", lambda row: _time(row.search_seconds or None)),
        Column("training", lambda row: _time(row.seconds), note="optimiser steps alone"),
        Column("training tokens", lambda row: _count(row.tokens)),
        Column(
            "time to loss",
            lambda row: _time(row.reached_seconds),
            note=f"of training, until the development loss is {target}, which all reach",
        ),
        Column("tokens to loss", lambda row: _count(row.reached_tokens)),
        Column(
            "tokens/s",
            lambda row: number(row.tokens_per_second),
            note=f"reading; the whole model {number(found.baseline_speed)}",
        ),
    ]


def _accuracy(held_out: Comparison) -> str:
    return f"{percent(held_out.accuracy)} ({between(held_out.interval)})"


def _gain(held_out: Comparison) -> str:
    return f"{points(held_out.gain)} ({points_between(held_out.gain_interval)})"


def _beside(against: Gain | None) -> str:
    if against is None:
        return NOTHING
    return f"{points(against.gain)} ({points_between(against.interval)})"


def _range(ends: tuple[int, int]) -> str:
    low, high = ends
    return str(low) if low == high else f"{low}-{high}"


def _time(seconds: float | None) -> str:
    return NOTHING if seconds is None else duration(seconds)


def _count(count: float | None) -> str:
    return NOTHING if count is None else f"{count:,.0f}"
