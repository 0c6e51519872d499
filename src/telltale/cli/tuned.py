"""What tuning gave, for a terminal or a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telltale.cli.columns import Column, print_table
from telltale.evidence.tuned import COMPARED_FILE, FILE, RegimesCompared
from telltale.report.tuned_tables import compared_columns, steps_columns, steps_of
from telltale.report.tuned_words import conclusions, sizes, subject

if TYPE_CHECKING:
    from rich.console import Console

    from telltale.evidence.tuned import TuneResult

# What the tables leave out where there is little room, the least important first.
LEAST = ("tokens", "training tokens", "tokens to loss", "search", "training", "tokens/s", "seeds")
THEN = ("time", "time to loss", "beside ft", "development loss")


def tuned(found: TuneResult | RegimesCompared, out: Console) -> None:
    """Print every step of a run, or all regimes beside each other, and what follows."""
    out.print(f"{subject(found)}: {sizes(found)}")
    if isinstance(found, RegimesCompared):
        shown = [
            Column(one.heading, [one.show(row) for row in found.rows], is_text=one.is_text)
            for one in compared_columns(found)
        ]
        where = f"{COMPARED_FILE} and the report have them"
    else:
        shown = [
            Column(one.heading, [one.show(row) for row in steps_of(found)], is_text=one.is_text)
            for one in steps_columns()
        ]
        where = f"{FILE} and the report have them"
    print_table(shown, out, where=where, first=LEAST, then=THEN)
    out.print()
    for line in conclusions(found):
        out.print(line)
    for line in found.cautions:
        out.print(f"Mind: {line}.")
