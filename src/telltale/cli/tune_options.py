"""The options by which a model is tuned."""

from __future__ import annotations

import functools
import inspect
from typing import Annotated, Any

import typer

from telltale import api
from telltale.cli.options import SeedOption  # noqa: TC001 - typer reads the annotations
from telltale.cli.search_options import (
    HeldOutOption,
    LimitOption,
    MaxRemovedOption,
    ObjectiveOption,
    ToleranceOption,
    numbers_of,
)
from telltale.evidence.tuned import REGIMES

DEFAULTS = {name: one.default for name, one in inspect.signature(api.tune).parameters.items()}

RegimeOption = Annotated[
    str | None,
    typer.Option(
        "--regime",
        metavar="|".join(REGIMES),
        help="Tune (ft), search for layers to remove (tale), or both in this order.  [default: ft]",
        show_default=False,
    ),
]
CompareOption = Annotated[
    bool, typer.Option("--compare", help="Run all regimes, and put them beside each other.")
]
SeedsOption = Annotated[
    int,
    typer.Option(
        "--seeds", metavar="N", help="With --compare: how many trainings of every regime."
    ),
]
OutputOption = Annotated[
    str,
    typer.Option(
        "--output",
        metavar="merged|adapter",
        help="Write a checkpoint with what was learnt, or the model's own weights and an adapter "
        "in peft's format.",
    ),
]
RemoveOption = Annotated[
    str,
    typer.Option(
        "--remove", metavar="3,17", help="Layers that the model lacks from the beginning."
    ),
]
PickOption = Annotated[
    str,
    typer.Option(
        "--pick",
        metavar="best|bsba|N",
        help="Which model of a search is gone on with; N: the one that lacks so many layers.",
    ),
]
RankOption = Annotated[int, typer.Option("--rank", metavar="R", help="Of LoRA's matrices.")]
AlphaOption = Annotated[
    float | None,
    typer.Option(
        "--alpha", metavar="X", help="LoRA's alpha.  [default: 2 x rank]", show_default=False
    ),
]
DropoutOption = Annotated[
    float,
    typer.Option(
        "--dropout", metavar="SHARE", help="Of LoRA's inputs that are left out in training."
    ),
]
TargetsOption = Annotated[
    str,
    typer.Option(
        "--targets",
        metavar="q_proj,v_proj",
        help="The linear projections that are tuned.  [default: all of the decoder layers]",
        show_default=False,
    ),
]
LearningRateOption = Annotated[
    float, typer.Option("--learning-rate", metavar="X", help="At its highest.")
]
EpochsOption = Annotated[
    int,
    typer.Option("--epochs", metavar="E", help="Passes over the training examples at most."),
]
MaxStepsOption = Annotated[
    int | None, typer.Option("--max-steps", metavar="N", help="Optimiser steps at most.")
]
BatchSizeOption = Annotated[
    int, typer.Option("--batch-size", metavar="N", help="The examples of an optimiser step.")
]
MicroBatchOption = Annotated[
    int | None,
    typer.Option(
        "--micro-batch",
        metavar="N",
        help="How many of them go through the model at once at most.  [default: as many as are "
        "fast]",
        show_default=False,
    ),
]
LossOption = Annotated[
    str,
    typer.Option(
        "--loss",
        metavar="answer|choices|distillation",
        help="What is learnt: the right answer's text, the right one of the choices, or what the "
        "whole model says, without right answers.",
    ),
]
PatienceOption = Annotated[
    int,
    typer.Option(
        "--patience",
        metavar="N",
        help="Stop where the development loss has not fallen in N checks.",
    ),
]
FourBitOption = Annotated[
    bool,
    typer.Option(
        "--four-bit", help="Keep frozen weights in 4 bits (QLoRA): bitsandbytes and a CUDA GPU."
    ),
]


def tune_options(
    regime: RegimeOption = None,
    compare: CompareOption = False,
    seeds: SeedsOption = DEFAULTS["seeds"],
    output: OutputOption = DEFAULTS["output"],
    remove: RemoveOption = "",
    pick: PickOption = DEFAULTS["pick"],
    limit: LimitOption = None,
    held_out: HeldOutOption = None,
    objective: ObjectiveOption = None,
    tolerance: ToleranceOption = DEFAULTS["tolerance"],
    max_removed: MaxRemovedOption = None,
    rank: RankOption = DEFAULTS["rank"],
    alpha: AlphaOption = None,
    dropout: DropoutOption = DEFAULTS["dropout"],
    targets: TargetsOption = "",
    learning_rate: LearningRateOption = DEFAULTS["learning_rate"],
    epochs: EpochsOption = DEFAULTS["epochs"],
    max_steps: MaxStepsOption = None,
    batch_size: BatchSizeOption = DEFAULTS["batch_size"],
    micro_batch: MicroBatchOption = None,
    loss: LossOption = DEFAULTS["loss"],
    patience: PatienceOption = DEFAULTS["patience"],
    four_bit: FourBitOption = False,
    seed: SeedOption = 0,
) -> dict[str, Any]:
    """How a model is tuned and searched, as `telltale.tune` takes it."""
    return {
        "regime": regime,
        "compare": compare,
        "seeds": seeds,
        "output": output,
        "remove": numbers_of(remove, "--remove"),
        "pick": pick,
        "limit": limit,
        "held_out": held_out,
        "objective": objective,
        "tolerance": tolerance,
        "max_removed": max_removed,
        "rank": rank,
        "alpha": alpha,
        "dropout": dropout,
        "targets": tuple(one.strip() for one in targets.split(",") if one.strip()),
        "learning_rate": learning_rate,
        "epochs": epochs,
        "max_steps": max_steps,
        "batch_size": batch_size,
        "micro_batch": micro_batch,
        "loss": loss,
        "patience": patience,
        "four_bit": four_bit,
        "seed": seed,
    }


TuneSettings = Annotated[functools.partial[dict[str, Any]], tune_options]
