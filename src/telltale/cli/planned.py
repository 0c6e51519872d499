"""What a search would do and cost, for a terminal or a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telltale.cli.columns import Column, print_table
from telltale.evidence.targets import asked_for
from telltale.support.words import duration, millions
from telltale.tasks.sets import FINAL, HELD_OUT, SEARCH, Part, Role

if TYPE_CHECKING:
    from rich.console import Console

    from telltale.study.ahead import SearchPlan, Work

SHOWN_ROUNDS = 4  # each of the first; then those of twice as many, and the last
MILLION = 1e6
UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def planned(plan: SearchPlan, out: Console) -> None:
    """Print it: what is asked, what each round costs, the memory, and what to mind."""
    model, task = plan.model, plan.task
    out.print(
        f"{model['name']} ({model['layers']} layers, {millions(model['parameters'])} parameters, "
        f"{model['dtype']} on {plan.device}) on {task['name']}"
    )
    out.print(
        f"{_sets(plan)}; of an example {plan.tokens['mean']:,.0f} tokens are read, "
        f"{plan.tokens['longest']:,.0f} at most"
    )
    out.print()
    _costs(plan, out)
    memory = plan.memory
    out.print(
        f"Memory: weights {size(memory['weights'])}, kept states up to {size(memory['states'])}, "
        f"a batch about {size(memory['batch'])}."
    )
    for line in _minded(plan):
        out.print(line)
    out.print(f"{plan.advice}.")


def _sets(plan: SearchPlan) -> str:
    """How many examples every set has."""
    called = {SEARCH: "to search by", HELD_OUT: "held out", FINAL: "in the final set"}
    sizes = {role: len(ids) for role, ids in plan.sets.items()}
    own = [f"{sizes[role]:,} {called.get(role, role)}" for role in sizes if not role.guard]
    guards = [
        f"{count:,} and {sizes[Role(Part.HELD_OUT, role.guard)]:,} of the guard {role.guard}"
        for role, count in sizes.items()
        if role.guard and role.part == Part.SEARCH
    ]
    return f"Examples: {', '.join([*own, *guards])}"


def _costs(plan: SearchPlan, out: Console) -> None:
    """A table of what the search costs up to some of its rounds, and the other sets."""
    if plan.rounds is None:
        out.print(
            "How many candidates this search tries cannot be said before; the whole model alone "
            f"takes {tokens(plan.begin)} layer tokens."
        )
        return
    numbers = shown_rounds(len(plan.rounds))
    works = [plan.searched(plan.speed, number) for number in numbers]
    tried = [sum(one.candidates for one in plan.rounds[:number]) for number in numbers]
    after = [*plan.after.items()]
    names = [f"up to round {number}" if number else "whole model" for number in numbers]
    called = {HELD_OUT: "held-out set", FINAL: "final set"}
    names += [f"+ {called.get(role, f'guard {role.guard}')}" for role, _ in after]
    works += [work for _, work in after]
    columns = [
        Column("work", names, " ", is_text=True),
        Column("candidates", [*map(str, tried), *[""] * len(after)]),
        Column("layer tokens", [tokens(work) for work in works]),
    ]
    if plan.begin.seconds is not None:
        columns.append(Column("time", [seconds(work) for work in works]))
    print_table(columns, out, where="--plan FILE.json has them")


def shown_rounds(rounds: int) -> list[int]:
    """Up to which rounds the cost is shown."""
    doubled = [SHOWN_ROUNDS * 2**n for n in range(1, 8)]
    return [n for n in [*range(1, SHOWN_ROUNDS + 1), *doubled] if n < rounds] + [rounds]


def _minded(plan: SearchPlan) -> list[str]:
    """What the figures rest on, and what they leave out."""
    found = [_needed(plan, name, count) for name, count in plan.needs.items()]
    if plan.rounds:
        last = "" if plan.settings["max_removed"] else f", after {len(plan.rounds)} rounds at most"
        found.append(f"The search ends where no candidate stays above the floor{last}.")
    if plan.rounds and plan.speed != "full":
        full = tokens(plan.searched("full"))
        found.append(f"With every candidate measured in full it would take {full} layer tokens.")
    if plan.begin.seconds is None:
        found.append(
            "How long it takes is not said: that is done only where choices are compared, by a "
            "model in this process whose layers can be built alone."
        )
    else:
        found.append(
            "A layer token is a token that goes through a layer. How long one takes, a moment's "
            "timing of a layer of random weights says; loading, perplexity and timing the models "
            "found are left out."
        )
    found.append(
        "Nothing was measured and no weights were read: the model is taken to share work as "
        "ordinary decoders do."
    )
    if plan.is_begun:
        found.append("This study has begun, and what it has measured is not measured again.")
    return found


def _needed(plan: SearchPlan, name: str, count: int | None) -> str:
    """How deep the search must go for a target."""
    asked = asked_for(name, plan.settings[name])
    if count is None:
        return f"To {asked}: how many layers must go for it is known only when models are timed."
    return (
        f"To {asked}, the model must lack at least {count} of {plan.model['layers']} layers, as "
        "is counted from its shape; whether it does so is timed after the search."
    )


def tokens(work: Work) -> str:
    """Layer tokens: ``26k``, ``1.4M``, ``12M to 21M``."""
    low, high = map(_tokens, work.layer_tokens)
    return low if low == high else f"{low} to {high}"


def _tokens(count: float) -> str:
    if count < MILLION:
        return f"{count / 1e3:,.0f}k"
    return f"{count / MILLION:,.{1 if count < 10 * MILLION else 0}f}M"


def seconds(work: Work) -> str:
    """How long work takes, to two digits: ``1 min 40 s to 3 min``."""
    if work.seconds is None:
        return ""
    low, high = map(_duration, work.seconds)
    return high if low == high else f"{low} to {high}"


def _duration(seconds: float) -> str:
    rounded = float(f"{seconds:.2g}")
    rounded = round(rounded / 60) * 60 if rounded >= 10 * 60 else rounded
    said = duration(rounded).removesuffix(" 00 s")
    return "under 1 s" if said == "0 s" else said


def size(count: int) -> str:
    """A number of bytes: ``540 MB``."""
    unit, name = next((one for one in UNITS if count >= one[0]), UNITS[-1])
    return f"{count / unit:,.{1 if count < 10 * unit else 0}f} {name}"
