"""What measuring gives: outcomes, by batch and path, as they are ready.

A `Measure` is anything that gives them: an engine, a wrapper that remembers, a table in a test.
An outcome depends on the model, the path and the example, never on its companions. Knows no torch.
"""

from __future__ import annotations

import math
import struct
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from telltale.errors import MeasurementError, TelltaleError
from telltale.support.files import sha256_of_json

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence

    from telltale.paths import LayerPath


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples that go through the layers together, by their position among the study's.

    ``block`` is the random block that they were dealt into (`telltale.engine.batches`), so that a
    caller may measure few blocks first; it is no part of a batch's identity.
    """

    examples: tuple[int, ...]
    block: int = field(default=0, compare=False)

    @property
    def id(self) -> str:
        """Identity by content."""
        return sha256_of_json(self.examples)[:16]

    def shifted(self, by: int) -> Batch:
        """The batch of the examples that are so many positions further on."""
        return replace(self, examples=tuple(position + by for position in self.examples))

    def only(self, examples: Container[int]) -> Batch:
        """The batch of those of its examples that are among others, perhaps of none."""
        return replace(self, examples=tuple(one for one in self.examples if one in examples))

    def halves(self) -> tuple[Batch, Batch]:
        """The two batches that replace this one where it does not fit in memory."""
        middle = len(self.examples) // 2
        first, second = self.examples[:middle], self.examples[middle:]
        return replace(self, examples=first), replace(self, examples=second)


@dataclass(frozen=True, slots=True)
class ChoiceOutcome:
    """One choice's total log-likelihood in nats, and its size.

    ``tokens`` are those that were scored; ``characters`` and UTF-8 ``bytes`` are of the choice's
    own text.
    """

    loglik: float
    tokens: int
    characters: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Generated:
    """What a model wrote: the text up to where it ended, the tokens it took, and why it ended.

    ``cut_off`` says that the token limit ended it, not the model and not a stop string.
    """

    text: str
    tokens: int
    cut_off: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one example gave on one path, with its score in [0, 1].

    Where choices were compared, ``choices`` holds each of them and ``answer`` is the index of the
    one taken. Where text was generated, ``generated`` holds it and ``answer`` is what was read from
    it, None where nothing could be; ``choices`` then holds the reference answer, if it was read.
    """

    example: int
    choices: tuple[ChoiceOutcome, ...]
    answer: int | str | None
    score: float
    generated: Generated | None = None


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
            "close other programs, use `dtype` bfloat16 or shorten the examples"
        )
        self.batch = batch
        self.device = device


class Measure(Protocol):
    """Measures paths on batches.

    Yields each pair of batch and path once, in any order, as soon as it is ready. A caller may
    leave at any time, by closing what it was given, and ask again with other paths and batches.

    Raises:
        BatchTooLargeError: a batch does not fit in memory.
    """

    def __call__(
        self, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> Iterator[Measurement]:
        """Measure every path on every batch."""
        ...


@contextmanager
def closing(measurements: Iterator[Measurement]) -> Iterator[Iterator[Measurement]]:
    """Close, at the block's end, what gives measurements, so that it holds and does no more."""
    try:
        yield measurements
    finally:
        close = getattr(measurements, "close", None)  # only generators need to be closed
        if close is not None:
            close()


@dataclass(frozen=True, slots=True)
class Shifted:
    """Measures as another measure does, which counts its examples from a later position on."""

    measure: Measure
    by: int

    def __call__(
        self, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> Iterator[Measurement]:
        """See `Measure`."""
        try:
            own = [batch.shifted(-self.by) for batch in batches]
            with closing(self.measure(paths, own)) as measurements:
                for found in measurements:
                    outcomes = tuple(
                        replace(outcome, example=outcome.example + self.by)
                        for outcome in found.outcomes
                    )
                    yield replace(found, batch=found.batch.shifted(self.by), outcomes=outcomes)
        except BatchTooLargeError as problem:
            raise BatchTooLargeError(problem.batch.shifted(self.by), problem.device) from problem


def in_halves(
    measure: Measure,
    paths: Sequence[LayerPath],
    batches: Sequence[Batch],
    tokens_in: Callable[[Batch], int],
) -> Iterator[Measurement]:
    """Measure batch by batch, halving those that do not fit in memory.

    After one of so many tokens, as ``tokens_in`` counts them, none with as many is tried whole.

    Raises:
        BatchTooLargeError: a single example does not fit.
    """
    waiting = list(batches)
    too_many = math.inf
    while waiting:
        batch = waiting.pop(0)
        is_one, tokens = len(batch.examples) == 1, tokens_in(batch)
        if tokens >= too_many and not is_one:
            waiting[:0] = batch.halves()
            continue
        try:
            yield from measure(paths, [batch])
        except BatchTooLargeError:
            if is_one:
                raise
            too_many = tokens
            waiting[:0] = batch.halves()


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
    return math.fsum(scores) / len(scores)  # in whatever order they come


# One measurement's outcomes as bytes, little-endian. For each example: its position, score, number
# of choices and whether text was generated; the choices; then either the answer's index, or the
# text's tokens, why it ended, whether it has an answer, and text and answer with their lengths.
_OUTCOME = struct.Struct("<IdI?")
_ANSWER = struct.Struct("<I")
_CHOICE = struct.Struct("<dIII")
_GENERATED = struct.Struct("<I??II")


def pack_outcomes(outcomes: Iterable[Outcome]) -> bytes:
    """Outcomes as bytes, exactly."""
    parts: list[bytes] = []
    for outcome in outcomes:
        generated = outcome.generated
        head = (outcome.example, outcome.score, len(outcome.choices), generated is not None)
        parts.append(_OUTCOME.pack(*head))
        parts += [_CHOICE.pack(c.loglik, c.tokens, c.characters, c.bytes) for c in outcome.choices]
        if generated is None:
            parts.append(_ANSWER.pack(outcome.answer))
        else:
            text = generated.text.encode()
            answer = b"" if outcome.answer is None else str(outcome.answer).encode()
            has_answer = outcome.answer is not None
            sizes = (len(text), len(answer))
            parts.append(_GENERATED.pack(generated.tokens, generated.cut_off, has_answer, *sizes))
            parts += [text, answer]
    return b"".join(parts)


def unpack_outcomes(data: bytes) -> tuple[Outcome, ...]:
    """The outcomes that `pack_outcomes` was given.

    Raises:
        TelltaleError: these are not such bytes.
    """
    outcomes: list[Outcome] = []
    rest = data
    try:
        while rest:
            outcome, rest = _unpack_one(rest)
            outcomes.append(outcome)
    except (struct.error, UnicodeDecodeError) as problem:
        raise TelltaleError(
            f"a measurement in the study's file is damaged ({problem}); move the study's folder "
            "away and start anew"
        ) from None
    return tuple(outcomes)


def _unpack_one(data: bytes) -> tuple[Outcome, bytes]:
    """The first outcome, and the bytes after it."""
    (example, score, count, is_generated), rest = _take(_OUTCOME, data)
    choices = []
    for _ in range(count):
        choice, rest = _take(_CHOICE, rest)
        choices.append(ChoiceOutcome(*choice))
    if not is_generated:
        (answer,), rest = _take(_ANSWER, rest)
        return Outcome(example, tuple(choices), answer, score), rest
    (tokens, cut_off, has_answer, text_size, answer_size), rest = _take(_GENERATED, rest)
    if len(rest) < text_size + answer_size:
        raise struct.error("cut off")
    text, answer_text = rest[:text_size].decode(), rest[text_size:][:answer_size].decode()
    generated = Generated(text, tokens, cut_off)
    answer = answer_text if has_answer else None
    outcome = Outcome(example, tuple(choices), answer, score, generated)
    return outcome, rest[text_size + answer_size :]


def _take(form: struct.Struct, data: bytes) -> tuple[tuple[Any, ...], bytes]:
    return form.unpack_from(data), data[form.size :]
