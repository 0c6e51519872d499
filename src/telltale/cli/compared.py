"""Methods that were compared, on the screen: what follows, and a table a depth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from telltale.cli.columns import Column, print_table
from telltale.report.compared import choices, conclusions, over_greedy, sure
from telltale.support.plain import printable
from telltale.support.words import (
    NOTHING,
    counted,
    duration,
    listed,
    percent,
    points,
    points_between,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from telltale.evidence.methods import Compared, ModelAtDepth
    from telltale.report.compared import Choice

FIRST_LEFT_OUT = ("time", "search")
THEN_LEFT_OUT = ("removed", "passes")


def comparison(found: Compared, out: Console) -> None:
    """Print every method's model of every depth, and what follows."""
    task, whole = found.task, found.baseline
    out.print(
        f"{found.name}: {counted(task['search_examples'], 'example')} to search by, "
        f"{task['held_out_examples']:,} held out; whole model "
        f"{percent(whole.held_out.accuracy)} held out"
    )
    for depth in found.depths:
        out.print()
        out.print(f"Without {counted(depth, 'layer')}:")
        print_table(
            _columns(found, depth),
            out,
            where="compare.json and the report have them",
            first=FIRST_LEFT_OUT,
            then=THEN_LEFT_OUT,
        )
    rows = choices(found)
    if rows:
        out.print()
        out.print("What may be used instead:")
        print_table(_of_choices(rows, found), out, where="compare.json and the report have them")
    out.print()
    for line in conclusions(found):
        out.print(Text(printable(line), style="bold"))
    for line in found.cautions:
        out.print(f"Mind: {line}.")
    out.print(
        f"All searches together took {duration(found.seconds)}; passes and time are what each "
        "takes by itself, to all depths, in passes of the search set through the whole model."
    )


def _of_choices(rows: Sequence[Choice], found: Compared) -> list[Column]:
    def column(heading: str, name: str, *, is_text: bool = False) -> Column:
        return Column(heading, [getattr(row, name) for row in rows], is_text=is_text)

    return [
        column("model", "name", is_text=True),
        column("layers", "layers"),
        column("parameters", "parameters"),
        column("held out", "held_out"),
        column(f"gain ({sure(found)})", "gain"),
        column("speed", "speed"),
    ]


def _columns(found: Compared, depth: int) -> list[Column]:
    def column(heading: str, text: Callable[[ModelAtDepth], str]) -> Column:
        models = (one.depths[depth] for one in found.methods)
        return Column(heading, [NOTHING if one is None else text(one) for one in models])

    costs = [one.cost for one in found.methods]
    removed = column("removed", lambda one: listed(one.removed))
    return [
        Column("method", [one.name for one in found.methods], is_text=True),
        column("search", lambda one: percent(one.accuracy)),
        column("held out", lambda one: percent(one.held_out.accuracy)),
        column(
            f"gain ({sure(found)})",
            lambda one: (
                f"{points(one.held_out.gain)} ({points_between(one.held_out.gain_interval)})"
            ),
        ),
        column(f"over greedy ({sure(found)})", over_greedy),
        Column("passes", [f"{one.dense_passes:,.1f}" for one in costs]),
        Column("time", [duration(one.seconds) for one in costs]),
        Column(removed.heading, removed.cells, ", ", is_text=True),
    ]
