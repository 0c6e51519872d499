"""Calibration: choices judged less an offset each, learnt without right answers.

A model may prefer a label whatever the question says. Batch calibration (Zhou et al., "Batch
Calibration: Rethinking Calibration for In-Context Learning and Prompt Engineering", arXiv
2309.17249) takes a choice's mean probability over a batch of questions for its prior, and its log
from the choice's log-likelihood. A large bias that undoes only in part: it is the mean of
probabilities, nearly all of which are then 0 or 1. So here the step is repeated while it leaves
choices far from evenly likely; else it is the published method.

An offset belongs to the position of a choice in its question: to a label where all questions offer
the same, else to a place alone. No right answer is used. Made of outcomes alone; knows no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from telltale.errors import InputError
from telltale.evidence.comparison import compare
from telltale.evidence.stats import CONFIDENCE, Interval
from telltale.measure import closing
from telltale.support.words import layers_named, one_of, points

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from telltale.evidence.comparison import Comparison
    from telltale.evidence.parts import PathModel
    from telltale.measure import Batch, Measure, Measurement, Outcome
    from telltale.paths import LayerPath
    from telltale.tasks import Scoring, Task

RAW, CALIBRATED = "raw", "calibrated"
JUDGED = (RAW, CALIBRATED)  # how choices are judged: as the task scores them, or less offsets
# The share of all probability that may be with other choices than if it were even, past which the
# step is taken again. Of the 185 models recorded in benchmarks/figures one step is all for 155, the
# whole ones among them; more is for a strong preference.
UNEVEN = 1 / 16
MOST_STEPS = 200
FEWEST = 10  # questions that offer a choice, for an offset of its own, unless all do
FITTED_HERE = (
    "choices were calibrated (--scoring calibrated) by offsets that were learnt on these very "
    "examples, without their right answers; of other examples they may be less right"
)
USES_OFFSETS = (
    "choices were calibrated (--scoring calibrated): every accuracy is of choices less their "
    "offsets, in result.json under calibration; an exported checkpoint does not hold them, and "
    "its recipe.json does if the model has a name; take them from its choices' log-likelihoods"
)
PLACES = 4  # of offsets: what is written judges, and a batch's rounding does not show
MUCH = 0.5  # of a gain, from which on a bias is said to be what may be mended
FAINTEST = 1e-300  # of a prior, so that a choice that is never likely has a finite offset


def check_scoring(scoring: str) -> None:
    """Refuse what is no way to judge choices.

    Raises:
        InputError: it is none of `JUDGED`.
    """
    if scoring not in JUDGED:
        raise InputError(
            f"`scoring` must be {one_of(JUDGED)}, got {scoring!r}; how log-likelihoods are compared"
            " is a task's own, given to telltale.load_task"
        )


def check_calibrates(task: Task) -> None:
    """Refuse a task whose choices cannot be calibrated.

    Raises:
        InputError: it has none, they are of several tasks, or another program judges them.
    """
    why = None
    if task.generation is not None:
        why = "is answered by text, which has no choices; ask it by `protocol` loglik"
    elif task.shares:
        why = "is several tasks, whose choices have no offset in common; give one of them"
    elif task.scorer is not None:
        why = (
            "is judged by a scorer of its own, which knows no offsets; give the same questions by "
            "a task's own name, or in a file"
        )
    if why is not None:
        raise InputError(f"`scoring` calibrated is of compared choices, and {task.name} {why}")


# Offsets


def offsets_of(outcomes: Iterable[Outcome], scoring: Scoring) -> tuple[float, ...]:
    """The offsets of a path's choices, from its outcomes on some questions.

    Args:
        outcomes: the path's, in any order, with the log-likelihoods as they were measured.
        scoring: how the task compares choices.

    Returns:
        Nats for each position of a choice, as the task compares them: in total, per token or per
        character. Their mean is 0, each weighed by its even share; one above 0 belongs to a choice
        that is preferred. Rounded to `PLACES`.
    """
    in_order = sorted(outcomes, key=lambda one: one.example)
    return fitted([scoring.merits(one.choices) for one in in_order])


def fitted(merits: Sequence[Sequence[float]], *, most_steps: int = MOST_STEPS) -> tuple[float, ...]:
    """Offsets that take from choices the preference that they have on average.

    A choice's prior is its mean probability over the questions that offer it, beside its even share
    of them: the mean of one over how many each offers, which where all offer as many is one
    constant. Its log is the offset. The step is repeated while choices less their offsets are still
    far from even. Questions with one choice, or with a merit that is not finite, say nothing of a
    preference; of a choice that only few offer nothing is known, and its offset is 0.

    Args:
        merits: for each question, those of its choices in nats; they need not be equally many.
        most_steps: with 1 it is batch calibration as published, whatever it leaves.
    """
    width = max((len(one) for one in merits), default=0)
    told = [one for one in merits if len(one) > 1 and all(map(math.isfinite, one))]
    if not told:
        return (0.0,) * width
    import numpy as np

    table = np.full((len(told), width), -np.inf)
    for row, one in enumerate(told):
        table[row, : len(one)] = one
    offered = np.isfinite(table)
    known = offered.sum(0) >= min(FEWEST, len(told))
    even = np.where(offered, 1 / offered.sum(1, keepdims=True), 0.0).mean(0)[known]
    offsets = np.zeros(width)
    for step in range(most_steps):
        moved = table - offsets
        weights = np.exp(moved - moved.max(1, keepdims=True))
        found = (weights / weights.sum(1, keepdims=True)).mean(0)[known]
        if step and np.abs(found - even).sum() / 2 <= UNEVEN:
            break
        offsets[known] += np.log(np.maximum(found, FAINTEST) / even)
    offsets[known] -= even @ offsets[known] / even.sum()
    return tuple(round(float(one), PLACES) + 0.0 for one in offsets)


def judged(
    outcomes: Mapping[int, Outcome],
    offsets: Sequence[float],
    right: Mapping[int, int],
    scoring: Scoring,
) -> dict[int, Outcome]:
    """Outcomes judged less offsets, by example.

    Args:
        outcomes: as they were measured.
        offsets: nats by position of a choice, as `offsets_of` gives them; 0 past the last.
        right: for each example, which of its choices is right.
        scoring: how the task compares choices.
    """
    return {
        example: calibrated(one, offsets, right[example], scoring)
        for example, one in outcomes.items()
    }


def calibrated(outcome: Outcome, offsets: Sequence[float], right: int, scoring: Scoring) -> Outcome:
    """An outcome judged less offsets: its choices' log-likelihoods, its answer and its score.

    The log-likelihoods are those by which `Scoring.merits` gives the calibrated values, so that
    every objective is of these. A choice alone has nothing to be preferred to, and stays.
    """
    if len(outcome.choices) < 2:
        return outcome
    sizes = scoring.sizes(outcome.choices)
    choices = tuple(
        replace(choice, loglik=choice.loglik - size * offset)
        for choice, size, offset in zip(
            outcome.choices, sizes, [*offsets, *[0.0] * len(sizes)], strict=False
        )
    )
    answer = scoring.choose(choices)
    return replace(outcome, choices=choices, answer=answer, score=float(answer == right))


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Measures as another measure does, and judges each path's outcomes less its own offsets.

    They are known when the whole search set is: whatever part of it is asked for, all of it is
    measured for that path, and told then.

    Attributes:
        measure: gives outcomes as they are measured.
        batches: the search set.
        right: for each example, which of its choices is right.
        scoring: how the task compares choices.
        learns_from: the examples that offsets are learnt on; None for all.
    """

    measure: Measure
    batches: tuple[Batch, ...]
    right: Mapping[int, int]
    scoring: Scoring
    learns_from: frozenset[int] | None = None

    def __call__(
        self, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> Iterator[Measurement]:
        """See `telltale.measure.Measure`."""
        wanted = {example for batch in batches for example in batch.examples}
        size = sum(len(batch.examples) for batch in self.batches)
        measured: dict[LayerPath, list[Measurement]] = {}
        with closing(self.measure(paths, self.batches)) as measurements:
            for found in measurements:
                own = measured.setdefault(found.path, [])
                own.append(found)
                if sum(len(one.batch.examples) for one in own) == size:
                    yield from self._judged(measured.pop(found.path), wanted)

    def _judged(self, own: Sequence[Measurement], wanted: set[int]) -> Iterator[Measurement]:
        every = (one for found in own for one in found.outcomes)
        among = self.learns_from
        learnt = every if among is None else (one for one in every if one.example in among)
        offsets = offsets_of(learnt, self.scoring)
        for found in own:
            if wanted.issuperset(found.batch.examples):
                outcomes = {one.example: one for one in found.outcomes}
                again = judged(outcomes, offsets, self.right, self.scoring)
                yield replace(found, outcomes=tuple(again.values()))


# What calibration does to the models of a study


class Level(NamedTuple):
    """An accuracy with its interval."""

    accuracy: float
    interval: Interval


class Gain(NamedTuple):
    """A gain in accuracy on the same examples, with its interval."""

    gain: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Arms:
    """One model on the held-out set, as it is and calibrated.

    Attributes:
        raw: as the task scores it.
        calibrated: less its offsets, which are of the search set.
        calibrating: what its offsets alone give it: calibrated over raw.
        beyond: what its lacking layers gives beyond that: calibrated over the whole model,
            calibrated too; 0 of the whole model itself.
        offsets: nats by position of a choice.
    """

    raw: Level
    calibrated: Level
    calibrating: Gain
    beyond: Gain
    offsets: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Calibration:
    """The whole model and those with a name that lack layers, each as it is and calibrated."""

    whole: Arms
    named: Mapping[str, Arms] = field(default_factory=dict)

    @property
    def by_name(self) -> dict[str, Arms]:
        """All of them, the whole model first."""
        return {"whole": self.whole, **self.named}


@dataclass(frozen=True, slots=True)
class Judging:
    """What judges a study's choices: how they are compared, which are right, what is together."""

    scoring: Scoring
    right: Mapping[int, int]
    clusters: Mapping[int, int] | None = None
    confidence: float = CONFIDENCE

    def told(
        self,
        models: Sequence[PathModel],
        searched: Mapping[LayerPath, Mapping[int, Outcome]],
        held_out: Mapping[LayerPath, Mapping[int, Outcome]],
    ) -> Calibration | None:
        """The arms of the whole model and of those that have a name.

        Args:
            models: every model kept, the whole one first, with their names.
            searched: their outcomes on the search set, as they were measured.
            held_out: the same on the held-out set.

        Returns:
            None where no question has choices to compare, or something other than their
            log-likelihoods has judged them.
        """
        whole, *others = models
        if not self._is_ours(searched[whole.path]) or not self._is_ours(held_out[whole.path]):
            return None
        shown = [whole, *(one for one in others if one.names)]
        offsets = {one.path: offsets_of(searched[one.path].values(), self.scoring) for one in shown}
        less = {path: self._less(held_out[path], own) for path, own in offsets.items()}
        start = whole.path

        def arms(path: LayerPath) -> Arms:
            raw = self._compared(held_out[start], held_out[path])
            beyond = self._compared(less[start], less[path])
            own = self._compared(held_out[path], less[path])
            return Arms(
                Level(raw.accuracy, raw.interval),
                Level(beyond.accuracy, beyond.interval),
                Gain(own.gain, own.gain_interval),
                Gain(beyond.gain, beyond.gain_interval),
                offsets[path],
            )

        by_path = {one.path: arms(one.path) for one in shown}
        named = {name: by_path[one.path] for one in shown if one.removed for name in one.names}
        return Calibration(by_path[start], named)

    def less_offsets(
        self,
        outcomes: Mapping[LayerPath, Mapping[int, Outcome]],
        searched: Mapping[LayerPath, Mapping[int, Outcome]],
    ) -> dict[LayerPath, dict[int, Outcome]]:
        """Each path's outcomes on any set, judged less the path's offsets of the search set."""
        return {
            path: self._less(own, offsets_of(searched[path].values(), self.scoring))
            for path, own in outcomes.items()
        }

    def _is_ours(self, outcomes: Mapping[int, Outcome]) -> bool:
        """Whether choices were judged as here they are where nothing is taken from them."""
        compares = any(len(one.choices) > 1 for one in outcomes.values())
        return compares and self._less(outcomes, ()) == outcomes

    def _less(
        self, outcomes: Mapping[int, Outcome], offsets: Sequence[float]
    ) -> dict[int, Outcome]:
        return judged(outcomes, offsets, self.right, self.scoring)

    def _compared(self, before: Mapping[int, Outcome], after: Mapping[int, Outcome]) -> Comparison:
        return compare(before, after, self.clusters, self.confidence)


def sentences(
    calibration: Calibration,
    best: Sequence[int],
    scoring: str,
    confidence: float,
    *,
    is_shown: bool,
) -> list[str]:
    """What calibration says of a verdict: whether a label's bias may be all that layers mend.

    Args:
        calibration: the arms.
        best: the layers that BEST lacks.
        scoring: how the study itself judged choices.
        confidence: of the intervals.
        is_shown: whether BEST's gain is shown.
    """
    sure = f"{100 * confidence:g}% interval"

    def told(found: Gain) -> str:
        low, high = found.interval
        return f"{points(found.gain)} points ({sure} {points(low)} to {points(high)})"

    whole, arms = calibration.whole.calibrating, calibration.named.get("best")
    if scoring == CALIBRATED:
        return [
            "All choices are judged less offsets, learnt on the search set without right answers, "
            f"which alone change the whole model's accuracy by {told(whole)}."
        ]
    alone = (
        "calibrated, by an offset for each choice that is learnt without right answers, the whole "
        f"model's accuracy changes by {told(whole)}"
    )
    helps = whole.interval.low > 0
    raw_gain = arms.raw.accuracy - calibration.whole.raw.accuracy if arms else 0.0
    if arms is None or raw_gain <= 0:
        if not helps:
            return []
        return [
            f"The whole model is biased towards some choices: {alone}, with all of its layers. "
            "Give --scoring calibrated before any layer goes."
        ]
    lacking = f"the model without {layers_named(best)}"
    if arms.beyond.interval.low > 0 and whole.interval.high >= 0:
        return [
            f"More than a bias towards some choices is mended: {alone}, and {lacking}, calibrated "
            f"too, is beyond that by {told(arms.beyond)}."
        ]
    if whole.gain >= raw_gain or (helps and whole.gain >= MUCH * raw_gain):
        return [
            f"A bias towards some choices may be all that is mended: {alone}, with all of its "
            f"layers. What {lacking}, calibrated too, has beyond that is not shown: "
            f"{told(arms.beyond)}. If so, no layer need go: give --scoring calibrated, or take the "
            "offsets in result.json from the choices' log-likelihoods."
        ]
    if not is_shown:
        return []
    if whole.interval.high < 0:
        return [f"No bias towards some choices explains it: {alone}."]
    return [
        f"How much of it is a bias towards some choices is not known: {alone}; {lacking}, "
        f"calibrated too, differs from that by {told(arms.beyond)}."
    ]
