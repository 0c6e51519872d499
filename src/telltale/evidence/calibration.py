"""Calibration: choices judged less an offset each, learnt without right answers.

A model may prefer a label whatever the question says. Batch calibration (Zhou et al., "Batch
Calibration: Rethinking Calibration for In-Context Learning and Prompt Engineering", arXiv
2309.17249, section 3) takes a choice's mean probability over a batch of questions for its prior,
and its log from the choice's log-likelihood. Here that is repeated until nothing is left to take:
no choice is then preferred on average, and a constant that a model adds to a choice drops out
altogether, which one step does not do where the constant is large.

An offset belongs to the position of a choice in its question: to a label where all questions offer
the same, else to a place alone. No right answer is used. Made of outcomes alone; knows no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from telltale.errors import InputError
from telltale.evidence.comparison import compare
from telltale.evidence.stats import CONFIDENCE, Interval
from telltale.measure import closing
from telltale.support.words import layers_named, one_of, points

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from telltale.evidence.comparison import Comparison
    from telltale.evidence.parts import PathModel
    from telltale.measure import Batch, Measure, Measurement, Outcome
    from telltale.paths import LayerPath
    from telltale.tasks import Scoring, Task

RAW, CALIBRATED = "raw", "calibrated"
JUDGED = (RAW, CALIBRATED)  # how choices are judged: as the task scores them, or less offsets
ENOUGH = 1e-10  # by how much a choice's mean probability may differ from an even share
MOST_STEPS = 1000
USES_OFFSETS = (
    "choices were calibrated (--scoring calibrated): every accuracy is of choices less their "
    "offsets, in result.json under calibration; an exported checkpoint does not hold them, so take "
    "them from its choices' log-likelihoods"
)
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
        character. They add up to 0; one above 0 belongs to a choice that is preferred.
    """
    in_order = sorted(outcomes, key=lambda one: one.example)
    return fitted([scoring.merits(one.choices) for one in in_order])


def fitted(merits: Sequence[Sequence[float]], *, repeated: bool = True) -> tuple[float, ...]:
    """Offsets that take from every choice the preference that it has on average.

    Less its offset, a choice's mean probability over the questions that offer it is its even share
    of them: the mean of one over how many choices each offers. Such offsets are unique, since they
    are where a convex function is least, that Newton's method finds. Questions with one choice, or
    with a merit that is not finite, say nothing of a preference and are passed over.

    Args:
        merits: for each question, those of its choices in nats; they need not be equally many.
        repeated: take from the priors what is left in them until nothing is; otherwise once, which
            is batch calibration as published.
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
    even = np.where(offered, 1 / offered.sum(1, keepdims=True), 0.0).mean(0)
    if repeated:
        offsets = _evened(table, even)
    else:
        prior = np.maximum(_probabilities(table).mean(0), FAINTEST)
        offsets = np.where(even > 0, np.log(prior / np.where(even > 0, even, 1.0)), 0.0)
    middle = offsets[even > 0].mean()
    return tuple(float(one) for one in np.where(even > 0, offsets - middle, 0.0))


def _probabilities(table: NDArray[Any]) -> NDArray[Any]:
    """The softmax of each row, in which what is not offered is minus infinity."""
    import numpy as np

    weights = np.exp(table - table.max(1, keepdims=True))
    found: NDArray[Any] = weights / weights.sum(1, keepdims=True)
    return found


def _evened(table: NDArray[Any], even: NDArray[Any]) -> NDArray[Any]:
    """The offsets less which every column's mean probability is its even share."""
    import numpy as np

    def height(offsets: NDArray[Any]) -> float:
        """A convex function, whose slope is even shares less mean probabilities."""
        moved = table - offsets
        top = moved.max(1)
        logs = top + np.log(np.exp(moved - top[:, None]).sum(1))
        return float(logs.mean() + even @ offsets)

    offsets = np.zeros(table.shape[1])
    for _ in range(MOST_STEPS):
        found = _probabilities(table - offsets)
        slope = even - found.mean(0)
        steep = float(np.abs(slope).max())
        if steep < ENOUGH:
            break
        curved = np.diag(found.mean(0)) - found.T @ found / len(found)
        # Where probabilities are all near 0 or 1 it is flat, and a step is about one nat.
        step = np.linalg.solve(curved + steep * np.eye(len(offsets)), -slope)
        here, fall = height(offsets), float(slope @ step)
        size = 1.0
        while size > ENOUGH and height(offsets + size * step) > here + 1e-4 * size * fall:
            size /= 2
        if size <= ENOUGH:  # no nearer within rounding
            break
        offsets = offsets + size * step
    return offsets


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
            f"{told(arms.beyond)}. The layers may stay: give --scoring calibrated, or take the "
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
