"""How a model is tuned: what decides which weights come out, beside model and examples.

Knows no torch, so that a command can name the defaults without loading it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from telltale.errors import InputError
from telltale.support.arguments import (
    SEED,
    SWITCH,
    Check,
    an,
    count_of,
    either,
    real,
    taken,
    text_or,
    texts,
    whole,
)
from telltale.support.words import one_of

if TYPE_CHECKING:
    from collections.abc import Callable


class Loss(StrEnum):
    """What a training makes small.

    ``answer``: minus the log-likelihood of the right answer, the mean over its tokens. ``choices``:
    the cross-entropy of the right choice among the choices, as the task compares them; the mean
    over examples. ``distillation``: the Kullback-Leibler divergence of the model's next token from
    a teacher's, the mean over the choices' tokens; right answers are not looked at.
    """

    ANSWER = "answer"
    CHOICES = "choices"
    DISTILLATION = "distillation"


CHECKS = {
    "rank": Check("a whole number", whole),
    "alpha": Check("a number, such as 32", real),
    "dropout": Check("a share, such as 0.05", real),
    "targets": Check("names of linear projections, such as q_proj", texts),
    "learning_rate": Check("a number, such as 2e-4", real),
    "epochs": count_of("passes over the training examples"),
    "max_steps": count_of("optimiser steps"),
    "batch_size": count_of("examples"),
    "micro_batch": count_of("examples"),
    "warmup": Check("a share of the steps, such as 0.05", real),
    "loss": text_or(one_of(Loss)),
    "patience": Check(
        "a whole number of checks on the development set, or None",
        either(an(type(None)), whole),
    ),
    "check_every": count_of("optimiser steps"),
    "weight_decay": Check("a number, such as 0.01", real),
    "max_gradient": Check("a number, such as 1", real),
    "four_bit": SWITCH,
    "seed": SEED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningSettings:
    """The settings of one training; the defaults are those of `telltale.tune`.

    ``rank``, ``alpha`` (by default twice the rank) and ``dropout`` are LoRA's (Hu et al. 2021,
    arXiv:2106.09685, section 4.1). ``targets`` are the last names of the linear projections that
    are tuned, such as ``q_proj``; by default all of the decoder layers.

    One optimiser step (AdamW, Loshchilov and Hutter, arXiv:1711.05101) takes ``batch_size``
    examples, of which ``micro_batch`` at most go through the model at once; by default as many as
    are fast. How they go changes gradients by rounding alone. The training ends after ``epochs``
    passes over its examples, or ``max_steps`` steps, or where the development loss has not become
    smaller in ``patience`` checks (None: never). It is taken every ``check_every`` steps, by
    default four times an epoch. ``learning_rate`` rises linearly over the share ``warmup`` of the
    steps and falls to 0 by half a cosine. A gradient longer than ``max_gradient`` is shortened to
    it. ``four_bit`` keeps the frozen weights in 4 bits (QLoRA, Dettmers et al. 2023,
    arXiv:2305.14314), which needs bitsandbytes and a CUDA GPU.

    Raises:
        InputError: a setting is out of its range; the parameter is named.
    """

    rank: int = 16
    alpha: float | None = None
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    learning_rate: float = 2e-4
    epochs: int = 3
    max_steps: int | None = None
    batch_size: int = 16
    micro_batch: int | None = None
    warmup: float = 0.05
    loss: str = Loss.ANSWER
    patience: int | None = 4
    check_every: int | None = None
    weight_decay: float = 0.0
    max_gradient: float = 1.0
    four_bit: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is field.default:
                continue
            value = taken(field.name, CHECKS[field.name], value)
            wanted, is_right = RANGES.get(field.name, ("", lambda _: True))
            if not is_right(value):
                given = f"{value:g}" if isinstance(value, float) else repr(value)
                raise InputError(f"`{field.name}` must be {wanted}, got {given}")
            object.__setattr__(self, field.name, value)

    @property
    def lora_alpha(self) -> float:
        """LoRA's alpha: what the product of the two matrices is multiplied by, times the rank."""
        return 2 * self.rank if self.alpha is None else self.alpha

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "targets": list(self.targets), "loss": str(self.loss)}


_COUNT: tuple[str, Callable[[Any], bool]] = (
    "at least 1",
    lambda value: value is None or value >= 1,
)
_POSITIVE: tuple[str, Callable[[Any], bool]] = (
    "a number above 0",
    lambda value: 0 < value < math.inf,
)
_SHARE: tuple[str, Callable[[Any], bool]] = ("in [0, 1)", lambda value: 0 <= value < 1)
# What a value must be beside its type, in words, and whether it is.
RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(
        ("rank", "epochs", "max_steps", "batch_size", "micro_batch", "patience", "check_every"),
        _COUNT,
    ),
    **dict.fromkeys(("alpha", "learning_rate", "max_gradient"), _POSITIVE),
    **dict.fromkeys(("dropout", "warmup"), _SHARE),
    "weight_decay": ("a number of at least 0", lambda value: 0 <= value < math.inf),
    "loss": (one_of(Loss), lambda value: value in list(Loss)),
}
