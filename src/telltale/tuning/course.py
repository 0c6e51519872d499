"""A training as values: what is the same in every step, how far it is, and what it ends with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch

from telltale.support.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from telltale.models.layered import LayeredModel
    from telltale.tuning.answers import Lesson
    from telltale.tuning.settings import TuningSettings

CHECKS_PER_EPOCH = 4


class Point(NamedTuple):
    """A check on the development set after so many steps.

    ``tokens`` and ``seconds`` are what these steps took, the checks not counted. ``train_loss`` is
    the mean of the steps' since the check before, ``development_loss`` that of the development set,
    both as the settings' loss has it, in nats.
    """

    step: int
    tokens: int
    seconds: float
    train_loss: float
    development_loss: float


@dataclass(frozen=True, slots=True)
class Tuned:
    """A finished training.

    ``adapter`` is a folder in peft's format with the weights after ``best_step`` steps, when the
    development loss was least: ``development_loss``, where it was ``before`` without training. If
    it was never smaller, ``best_step`` is 0, and the adapter changes nothing. ``ended`` says why
    the training did: ``epochs``, ``max_steps``, ``patience`` or ``diverged``.

    ``seconds`` and ``cpu_seconds`` (of all threads) are those of its ``steps`` alone, without
    loading and checks. ``tokens`` is how many were read in them, padding and checks not counted.
    """

    adapter: Path
    steps: int
    train_examples: int
    seconds: float
    cpu_seconds: float
    tokens: int
    development_loss: float
    before: float
    history: tuple[Point, ...]
    ended: str
    best_step: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is.

    ``losses`` are those of the steps since the last check; ``at_once`` is how many tokens go
    through the model at once.
    """

    at_once: int
    before: float
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    best_step: int = 0
    history: tuple[Point, ...] = ()
    losses: tuple[float, ...] = ()
    ended: str = ""

    @property
    def least(self) -> float:
        """The least development loss so far."""
        return min([self.before, *(one.development_loss for one in self.history)])


@dataclass(frozen=True, slots=True)
class Course:
    """What is the same in every step: models, examples and how they are learnt.

    ``weights`` are those that are trained, by name; ``best`` holds a copy of them when the
    development loss was least.
    """

    settings: TuningSettings
    model: LayeredModel
    teacher: LayeredModel | None
    train: tuple[Lesson, ...]
    development: tuple[Lesson, ...]
    weights: Mapping[str, nn.Parameter]
    best: Mapping[str, Tensor]
    optimizer: torch.optim.AdamW

    @property
    def epoch_steps(self) -> int:
        """How many steps an epoch has."""
        return math.ceil(len(self.train) / self.settings.batch_size)

    @property
    def steps(self) -> int:
        """How many steps the training has at most."""
        most = self.settings.epochs * self.epoch_steps
        return most if self.settings.max_steps is None else min(most, self.settings.max_steps)

    @property
    def check_every(self) -> int:
        """After how many steps the development loss is taken."""
        chosen = math.ceil(min(self.epoch_steps, self.steps) / CHECKS_PER_EPOCH)
        return self.settings.check_every or chosen

    def rate(self, step: int) -> float:
        """The learning rate of a step, from 0: a linear rise, then half a cosine."""
        rise = math.ceil(self.settings.warmup * self.steps)
        if step < rise:
            return self.settings.learning_rate * (step + 1) / rise
        share = (step - rise) / max(1, self.steps - rise)
        return self.settings.learning_rate * (1 + math.cos(math.pi * share)) / 2

    def lessons_of(self, step: int) -> list[Lesson]:
        """The examples of a step, from 0."""
        epoch, number = divmod(step, self.epoch_steps)
        order = epoch_order(len(self.train), self.settings.seed, epoch)
        size = self.settings.batch_size
        return [self.train[i] for i in order[number * size : (number + 1) * size]]


@lru_cache(maxsize=2)
def epoch_order(count: int, seed: int, epoch: int) -> tuple[int, ...]:
    """The order in which an epoch takes its examples: random, and of these numbers alone."""
    return tuple(sorted(range(count), key=lambda i: sha256_of(f"{seed} epoch {epoch} {i}")))


def fill(to: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Give tensors the values of others of the same names, in place."""
    with torch.no_grad():
        for name, one in to.items():
            one.copy_(values[name])
