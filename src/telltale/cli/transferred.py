"""Recipes on several tasks, on the screen: the matrix as a table, and what follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from telltale.cli.columns import Column, print_table
from telltale.report.transferred import WHOLE, examples_of, note_of, sure
from telltale.support.plain import printable
from telltale.support.words import between, listed, percent, points, points_between

if TYPE_CHECKING:
    from rich.console import Console

    from telltale.evidence.transfers import MeasuredTask, Transferred


def transfer(found: Transferred, out: Console) -> None:
    """Print how every recipe does on every task, and what follows."""
    for one in found.recipes:
        out.print(f"{one.name}: {one.layers} layers, without {listed(one.removed)}, for {one.task}")
    for task in found.tasks:
        out.print()
        out.print(f"{task.name}, {examples_of(task)}:")
        print_table(_columns(found, task), out, where="transfer.json and the report have them")
        for line in task.cautions:
            out.print(f"Mind: {line}.")
    out.print()
    out.print(Text(printable(found.conclusion), style="bold"))
    for line in found.warnings:
        # Left to the terminal to fold, so that the command can be copied as one line.
        out.print(Text(printable(line)), soft_wrap=True)
    for line in found.cautions:
        out.print(f"Mind: {line}.")


def _columns(found: Transferred, task: MeasuredTask) -> list[Column]:
    cells = [one.results[task.name] for one in found.recipes]
    models = [task.baseline, *(cell.found for cell in cells)]
    return [
        Column("recipe", [WHOLE, *(one.name for one in found.recipes)], is_text=True),
        Column(
            f"accuracy ({sure(found)})",
            [f"{percent(one.accuracy)} ({between(one.interval)})" for one in models],
        ),
        Column(
            f"gain ({sure(found)})",
            [
                "",
                *(
                    f"{points(one.gain)} ({points_between(one.gain_interval)})"
                    for one in models[1:]
                ),
            ],
        ),
        Column("", ["", *map(note_of, cells)], is_text=True),
    ]
