"""Capitals of countries: made by telltale, so that it needs no data."""

from __future__ import annotations

from telltale.tasks.capitals import rows
from telltale.tasks.known import NamedTask

TASK = NamedTask(
    name="capitals",
    summary="every country's capital, among four of its part of the world",
    licence="Apache-2.0",
    home="made by telltale",
    sizes={"test": 195},
    split="test",
    folder="capitals",
    built_in=rows,
    shots_split=None,
)
