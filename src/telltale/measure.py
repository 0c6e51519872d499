"""What measuring gives: outcomes, by batch and path, as they are ready.

A `Measure` is anything that gives them: an engine, a wrapper that remembers, a table in a test.
An outcome depends on the model, the path and the example, never on its companions. Knows no torch.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from telltale.errors import MeasurementError, TelltaleError
from telltale.files import sha256_of_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from telltale.paths import LayerPath


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples that go through the layers together, by their position among the study's."""

    examples: tuple[int, ...]

    @property
    def id(self) -> str:
        """Identity by content."""
        return sha256_of_json(self.examples)[:16]

    def halves(self) -> tuple[Batch, Batch]:
        """The two batches that replace this one where it does not fit in memory."""
        middle = len(self.examples) // 2
        return Batch(self.examples[:middle]), Batch(self.examples[middle:])


@dataclass(frozen=True, slots=True)
class ChoiceOutcome:
    """One choice's total log-likelihood in nats, with its size in tokens and in UTF-8 bytes."""

    loglik: float
    tokens: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one example gave on one path: every choice, the answer taken, its score in [0, 1]."""

    example: int
    choices: tuple[ChoiceOutcome, ...]
    answer: int
    score: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """The outcomes of one batch on one path.

    ``layer_tokens`` is the work it took: tokens times the layers they went through, padding
    counted. Layers shared with another path are counted with the path that ran them.
    """

    batch: Batch
    path: LayerPath
    outcomes: tuple[Outcome, ...]
    layer_tokens: int = 0


class BatchTooLargeError(MeasurementError):
    """A batch did not fit in the device's memory; its halves may."""

    def __init__(self, batch: Batch, device: str) -> None:
        super().__init__(
            f"a batch of {len(batch.examples)} examples did not fit in the memory of {device}; "
            "close other programs, use --dtype bfloat16 or shorten the examples"
        )
        self.batch = batch


class Measure(Protocol):
    """Measures paths on batches.

    Yields each pair of batch and path once, in any order, as soon as it is ready. A caller may
    stop at any time and ask again with fewer paths.

    Raises:
        BatchTooLargeError: a batch does not fit in memory.
    """

    def __call__(
        self, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> Iterator[Measurement]:
        """Measure every path on every batch."""
        ...


def outcomes_by_path(
    measurements: Iterable[Measurement],
) -> dict[LayerPath, dict[int, Outcome]]:
    """Every path's outcomes by example."""
    found: dict[LayerPath, dict[int, Outcome]] = {}
    for measurement in measurements:
        outcomes = found.setdefault(measurement.path, {})
        outcomes.update((outcome.example, outcome) for outcome in measurement.outcomes)
    return found


def accuracy(outcomes: Iterable[Outcome]) -> float:
    """The mean score."""
    scores = [outcome.score for outcome in outcomes]
    return sum(scores) / len(scores)


def accuracies(
    measure: Measure, paths: Sequence[LayerPath], batches: Sequence[Batch]
) -> dict[LayerPath, float]:
    """Every path's accuracy over all the examples of ``batches``."""
    found = outcomes_by_path(measure(paths, batches))
    return {path: accuracy(found[path].values()) for path in paths}


# One measurement's outcomes as bytes: little-endian, for each example its position, answer, score
# and number of choices, then the choices.
_OUTCOME = struct.Struct("<IIdI")
_CHOICE = struct.Struct("<dII")


def pack_outcomes(outcomes: Iterable[Outcome]) -> bytes:
    """Outcomes as bytes, exactly."""
    parts: list[bytes] = []
    for outcome in outcomes:
        parts.append(
            _OUTCOME.pack(outcome.example, outcome.answer, outcome.score, len(outcome.choices))
        )
        parts += [_CHOICE.pack(c.loglik, c.tokens, c.bytes) for c in outcome.choices]
    return b"".join(parts)


def unpack_outcomes(data: bytes) -> tuple[Outcome, ...]:
    """The outcomes that `pack_outcomes` was given.

    Raises:
        TelltaleError: these are not such bytes.
    """
    outcomes: list[Outcome] = []
    position = 0
    try:
        while position < len(data):
            example, answer, score, count = _OUTCOME.unpack_from(data, position)
            position += _OUTCOME.size
            end = position + count * _CHOICE.size
            choices = tuple(ChoiceOutcome(*c) for c in _CHOICE.iter_unpack(data[position:end]))
            if len(choices) != count:
                raise struct.error("cut off")
            position = end
            outcomes.append(Outcome(example, choices, answer, score))
    except struct.error as problem:
        raise TelltaleError(
            f"a measurement in the study's file is damaged ({problem}); move the study's folder "
            "away and start anew"
        ) from None
    return tuple(outcomes)
