"""The options by which a search chooses, shared by the commands that search."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from telltale.cli.options import (
    DataDirOption,
    ScoringOption,
    SeedOption,
    scoring_of,
)
from telltale.errors import InputError
from telltale.searches import SEARCHES
from telltale.searches.search import SPEEDS
from telltale.study.request import DEFAULTS
from telltale.support.words import one_of
from telltale.tasks.loading import load_task

if TYPE_CHECKING:
    from telltale.tasks import Task

# What numbers are, and what to give, for a message.
LAYERS = "layers; give indices counted from 0, such as 3,17"
SIZES = "sizes; give some such as 50,100"
NUMBERS = "numbers; give some such as 1,8"
DEPTHS = "depths; give how many layers are removed, such as 2,4"

LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        help="Examples to search by.  [default: 500, at most half]",
        show_default=False,
    ),
]
HeldOutOption = Annotated[
    int | None,
    typer.Option(
        "--held-out",
        metavar="M",
        help="Examples to hold out at most.  [default: what is left, up to 1000]",
        show_default=False,
    ),
]
FinalOption = Annotated[
    int | None,
    typer.Option(
        "--final",
        metavar="M",
        help="Seal M more examples, looked at once, for the model that a target chose, or else the "
        "one recommended.",
    ),
]
GREEDY = DEFAULTS["search"]
RIVALS = [name for name in SEARCHES if name not in (GREEDY, "beam", "swap", "evolve")]
SearchOption = Annotated[
    str,
    typer.Option(
        "--search",
        metavar="NAME",
        help="Which search is run: greedy, the published method; beam:WIDTH, swap or evolve, "
        f"which try more; or a rival: {one_of(RIVALS)}.",
    ),
]
ObjectiveOption = Annotated[
    str | None,
    typer.Option(
        "--objective",
        metavar="accuracy|likelihood|margin",
        help="What candidates are ranked by.  [default: likelihood; accuracy where the model "
        "writes]",
        show_default=False,
    ),
]
GuardOption = Annotated[
    list[str] | None,
    typer.Option(
        "--guard",
        metavar="TASK:SHARE",
        help="Keep no model whose accuracy at another task, by name or a file, is lower than the "
        "whole model's by more than this: arc_easy:0.01 is one point. That is a difference "
        "observed on up to 200 examples, not a bound; what is lost at most, the report says of as "
        "many others. May be given several times.",
        show_default=False,
    ),
]
ToleranceOption = Annotated[
    float,
    typer.Option(
        "--tolerance",
        metavar="SHARE",
        help="How far accuracy may fall below the whole model's: 0.08 is 8 points.",
    ),
]
MaxRemovedOption = Annotated[
    int | None, typer.Option("--max-removed", metavar="K", help="The most layers to remove.")
]
ProtectOption = Annotated[
    str, typer.Option("--protect", metavar="0,1,29", help="Layers that always stay.")
]
MaxLossOption = Annotated[
    float,
    typer.Option(
        "--max-loss",
        metavar="SHARE",
        help="What the fastest safe model may lose on held-out examples: 0.03 is 3 points.",
    ),
]
ConfidenceOption = Annotated[
    float,
    typer.Option(
        "--confidence", metavar="SHARE", help="That of intervals, and of what is certified."
    ),
]
SpeedOption = Annotated[
    str,
    typer.Option(
        "--speed",
        metavar="|".join(SPEEDS),
        help="How candidates are measured: exact, each until it is certain whether it is kept; "
        "full, each on all examples, which keeps the same models and takes longer; fast, each "
        "until it is likely, with what is guaranteed said in the result.",
    ),
]
ShortlistOption = Annotated[
    str | None,
    typer.Option(
        "--shortlist",
        metavar="SCORE:N",
        help="Try only N layers a round, those of the lowest score, such as joint:8: information "
        "and gradient together.  [default: all]",
        show_default=False,
    ),
]
PaperOption = Annotated[
    bool,
    typer.Option("--paper", help="The published method to the letter: by accuracy, unguarded."),
]
TargetSpeedupOption = Annotated[
    float | None,
    typer.Option(
        "--target-speedup",
        metavar="X",
        help="Name as target the most accurate model on the search set that is X times as fast as "
        "the whole one. Timed is a request like the task's, one at a time: its examples' mean "
        "length is read, and as much written as --max-new-tokens, or one token where choices are "
        "compared; in fresh processes, both models in alternation, by processor time on a CPU. It "
        "is met where the whole 95% interval meets it.",
    ),
]
MaxLatencyOption = Annotated[
    float | None,
    typer.Option(
        "--max-latency-ms",
        metavar="X",
        help="The most milliseconds such a request may take on this machine.",
    ),
]
MaxMemoryOption = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="The most memory that a process which does it may hold, such as 2GiB: with weights, "
        "and on a CPU with Python and torch.",
    ),
]
MaxParametersOption = Annotated[
    str | None,
    typer.Option(
        "--max-parameters",
        metavar="N",
        help="The most parameters it may have, such as 100M or 1.5B.",
    ),
]
PriceOption = Annotated[
    str | None,
    typer.Option(
        "--price",
        metavar="accuracy=1,latency=0.2",
        help="Choose target not by accuracy alone: what a point of accuracy gained, and a percent "
        "saved of latency (the time of the task's examples) or of parameters, is worth.",
    ),
]

MemoryOption = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="What kept states may take beside the weights, such as 2GiB or 500MB: more is faster, "
        "and nothing else.  [default: a quarter of a GPU's free memory; an eighth of the "
        "machine's, at most 4GiB]",
        show_default=False,
    ),
]


def search_options(
    limit: LimitOption = None,
    held_out: HeldOutOption = None,
    final: FinalOption = None,
    search: SearchOption = DEFAULTS["search"],
    objective: ObjectiveOption = None,
    guard: GuardOption = None,
    tolerance: ToleranceOption = DEFAULTS["tolerance"],
    max_removed: MaxRemovedOption = None,
    protect: ProtectOption = "",
    max_loss: MaxLossOption = DEFAULTS["max_loss"],
    confidence: ConfidenceOption = DEFAULTS["confidence"],
    speed: SpeedOption = DEFAULTS["speed"],
    scoring: ScoringOption = None,
    shortlist: ShortlistOption = None,
    paper: PaperOption = False,
    target_speedup: TargetSpeedupOption = None,
    max_latency_ms: MaxLatencyOption = None,
    max_memory: MaxMemoryOption = None,
    max_parameters: MaxParametersOption = None,
    price: PriceOption = None,
    memory: MemoryOption = None,
    seed: SeedOption = 0,
    data_dir: DataDirOption = None,
) -> dict[str, Any]:
    """What is searched by, as `telltale.search` takes it."""
    return {
        "limit": limit,
        "held_out": held_out,
        "final": final,
        "search": search,
        "objective": objective,
        "guards": [_guard(one, data_dir) for one in guard or []],
        "tolerance": tolerance,
        "max_removed": max_removed,
        "protect": numbers_of(protect, "--protect"),
        "max_loss": max_loss,
        "confidence": confidence,
        "speed": speed,
        "scoring": scoring_of(scoring)[1],
        "shortlist": shortlist,
        "paper": paper,
        "target_speedup": target_speedup,
        "max_latency_ms": max_latency_ms,
        "max_memory": max_memory,
        "max_parameters": max_parameters,
        "price": price,
        "memory": memory,
        "seed": seed,
    }


def compared_options(
    limit: LimitOption = None,
    held_out: HeldOutOption = None,
    objective: ObjectiveOption = None,
    protect: ProtectOption = "",
    confidence: ConfidenceOption = DEFAULTS["confidence"],
    speed: SpeedOption = DEFAULTS["speed"],
    memory: MemoryOption = None,
    seed: SeedOption = 0,
) -> dict[str, Any]:
    """What methods are compared by, as `telltale.compare` takes it."""
    return {
        "limit": limit,
        "held_out": held_out,
        "objective": objective,
        "protect": numbers_of(protect, "--protect"),
        "confidence": confidence,
        "speed": speed,
        "memory": memory,
        "seed": seed,
    }


SearchSettings = Annotated[functools.partial[dict[str, Any]], search_options]
ComparedSettings = Annotated[functools.partial[dict[str, Any]], compared_options]


def numbers_of(text: str, option: str, wanted: str = LAYERS) -> tuple[int, ...]:
    """The numbers of ``3,17``.

    Args:
        text: what was given.
        option: for what.
        wanted: what they are, and what to give, for a message.

    Raises:
        InputError: it is something else.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isascii() and part.isdecimal() and len(part) < 9 for part in parts):
        raise InputError(f"{option} {text!r} is not a list of {wanted}")
    return tuple(int(part) for part in parts)


def _guard(given: str, data_dir: Path | None) -> tuple[Task, float]:
    """The task and share of ``arc_easy:0.01``."""
    name, colon, share = given.rpartition(":")
    try:
        most_loss = float(share) if colon else math.nan
    except ValueError:
        most_loss = math.nan
    if not (name and math.isfinite(most_loss)):
        raise InputError(
            f"--guard {given!r} names no task with a share of its examples; give it like "
            "arc_easy:0.01"
        )
    is_file = Path(name).is_file()
    task = load_task(data=name) if is_file else load_task(name, data_dir=data_dir)
    return task, most_loss
