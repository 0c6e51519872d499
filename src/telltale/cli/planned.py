"""What a search would do and cost, for a terminal or a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telltale.cli.columns import Column, print_table
from telltale.support.words import counted, duration, millions
from telltale.tasks.sets import FINAL, HELD_OUT, SEARCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from telltale.study.ahead import SearchPlan, Work

SHOWN_ROUNDS = 4  # each of the first; then those of twice as many, and the last
FEW_TOKENS = 100_000  # are counted one by one
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
    first, *others = [
        (len(ids), called.get(role, f"of the {role} set")) for role, ids in plan.sets.items()
    ]
    return ", ".join(
        [f"{counted(first[0], 'example')} {first[1]}", *(f"{n:,} {s}" for n, s in others)]
    )


def _costs(plan: SearchPlan, out: Console) -> None:
    """A table of what the search costs up to some of its rounds, and the other sets."""
    if plan.rounds is None:
        out.print(
            "How many candidates this search tries cannot be said before; the whole model's "
            f"measuring takes {tokens(plan.begin.layer_tokens)} layer tokens{_time(plan.begin)}."
        )
        return
    numbers = shown_rounds(len(plan.rounds))
    works = [{speed: plan.searched(speed, number) for speed in plan.speeds} for number in numbers]
    tried = [sum(one.candidates for one in plan.rounds[:number]) for number in numbers]
    after = [*plan.after.items()]
    blank = [""] * len(after)
    columns = [
        Column(
            "up to",
            [*(f"round {number}" if number else "whole model" for number in numbers)]
            + [f"+ {role} set" for role, _ in after],
            is_text=True,
        ),
        Column("candidates", [*map(str, tried), *blank]),
    ]
    columns += [
        Column(
            f"layer tokens,\n{speed}",
            [tokens(work[speed].layer_tokens) for work in works]
            + [tokens(work.layer_tokens) if speed == plan.speed else "" for _, work in after],
        )
        for speed in plan.speeds
    ]
    timed = [*(work[plan.speed] for work in works), *(work for _, work in after)]
    if plan.begin.seconds is not None:
        columns.append(Column(f"time,\n{plan.speed}", [seconds(work) for work in timed]))
    print_table(columns, out, where="--plan FILE.json has them", first=())


def shown_rounds(rounds: int) -> list[int]:
    """Up to which rounds the cost is shown."""
    doubled = [SHOWN_ROUNDS * 2**n for n in range(1, 8)]
    return [n for n in [*range(1, SHOWN_ROUNDS + 1), *doubled] if n < rounds] + [rounds]


def _minded(plan: SearchPlan) -> list[str]:
    """What the figures rest on, and what they leave out."""
    found = []
    if plan.rounds and plan.settings["max_removed"] is None:
        found.append(
            f"The search ends where no candidate stays above the floor, after {len(plan.rounds)} "
            "rounds at most."
        )
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


def _time(work: Work) -> str:
    return "" if work.seconds is None else f", {seconds(work)}"


def tokens(work: Sequence[float]) -> str:
    """Layer tokens: ``26,100``, ``1.4M``, ``12M to 21M``."""
    low, high = map(_tokens, work)
    return low if low == high else f"{low} to {high}"


def _tokens(count: float) -> str:
    if count < FEW_TOKENS:
        return f"{count:,.0f}"
    return f"{count / 1e6:,.{1 if count < 1e7 else 0}f}M"


def seconds(work: Work) -> str:
    """How long work takes, to two digits: ``1 min 40 s to 3 min``."""
    if work.seconds is None:
        return ""
    low, high = map(_duration, work.seconds)
    return high if low == high else f"{low} to {high}"


def _duration(seconds: float) -> str:
    said = duration(float(f"{seconds:.2g}")).removesuffix(" 00 s")
    return "under 1 s" if said == "0 s" else said


def size(count: int) -> str:
    """A number of bytes: ``540 MB``."""
    unit, name = next((one for one in UNITS if count >= one[0]), UNITS[-1])
    return f"{count / unit:,.{1 if count < 10 * unit else 0}f} {name}"
