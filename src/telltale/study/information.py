"""What the states of a path tell of the answers: which states, of which classes, and how many bits.

Where all questions offer the same choices, the state is that after a question's context, where the
answer is predicted, and the classes are the choices. Else it is that after each choice, and the
classes are whether it is the right one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from telltale.engine.batches import canonical_batches
from telltale.engine.encode import ChoiceSize
from telltale.evidence.explanation import CANNOT_TELL, Bits, Read
from telltale.information import Change, Estimate, changes, estimate
from telltale.information.estimating import check_examples
from telltale.support.waiting import waiting
from telltale.tasks.split import clusters_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from telltale.engine.encode import EncodedExample, Tokens
    from telltale.engine.workbench import Workbench
    from telltale.measure import Batch
    from telltale.tasks import Example

ESTIMATORS = ("probe", "neighbours")
A_CHOICE = ("a wrong choice", "the right choice")  # the classes where choices are read one by one


@dataclass(frozen=True, slots=True)
class Items:
    """What states are taken of, each with the class that is to be told from it.

    ``encoded`` end where the state is taken. Items of one of the ``clusters`` stay together.
    """

    encoded: tuple[EncodedExample, ...]
    answers: tuple[int, ...]
    clusters: tuple[int, ...]
    classes: tuple[str, ...]

    def check(self) -> None:
        """Check that information can be estimated from these.

        Raises:
            InputError: it cannot; what is lacking is said.
        """
        check_examples(np.array(self.answers), np.array(self.clusters))

    def batches(self, bench: Workbench) -> tuple[Batch, ...]:
        """The items in batches."""
        sizes = {place: (1, len(one.context)) for place, one in enumerate(self.encoded)}
        return canonical_batches(sizes, **bench.batch_settings)


def items_of(examples: Sequence[Example], encoded: Sequence[EncodedExample]) -> Items:
    """What states are taken of."""
    clusters = clusters_of(examples)
    classes = sorted(set(examples[0].choices))
    are_alike = all(sorted(one.choices) == classes and not one.requests for one in examples)
    if are_alike and all(one.context for one in encoded):
        ends = tuple(_ending(one.context, one) for one in encoded)
        answers = tuple(classes.index(one.choices[one.answer]) for one in examples)
        return Items(ends, answers, tuple(clusters), tuple(classes))
    read = [
        (_ending(one.context + choice, one), int(index == one.answer), cluster)
        for one, cluster in zip(encoded, clusters, strict=True)
        for index, choice in enumerate(one.choices)
    ]
    choices, answers, together = zip(*read, strict=True)
    return Items(choices, answers, together, A_CHOICE)


def _ending(tokens: Tokens, one: EncodedExample) -> EncodedExample:
    """An example that ends with some tokens; what comes after them is never read."""
    last = (tokens[-1:],)
    return replace(one, context=tokens, choices=last, sizes=(ChoiceSize(1, 1, 1),), answer=0)


class Told(NamedTuple):
    """What the state after a layer tells, by both estimators, and what the layer does to it."""

    probe: Read
    neighbours: Read
    verdict: str | None


def estimated(
    states: Sequence[NDArray[Any]], items: Items, seed: int, estimator: str
) -> dict[str, Any]:
    """What states before each layer and after the last tell by one estimator, as JSON values.

    Args:
        states: each (items, width).
        items: what they were taken of.
        seed: of the folds.
        estimator: one of `ESTIMATORS`.
    """
    answers, clusters = np.array(items.answers), np.array(items.clusters)
    found: list[Estimate] = []
    with waiting(f"Estimating information ({estimator})", lambda: len(found) / max(1, len(states))):
        for one in states:
            found.append(estimate(one, answers, clusters, seed=seed, estimator=estimator))
    steps = changes(found, clusters)
    return {
        "information": [_document(one) for one in found],
        "changes": [_document(one) for one in steps],
        "verdicts": [one.verdict for one in steps],
    }


def _document(one: Estimate | Change) -> list[Any]:
    return [one.bits, list(one.interval), one.null]


def told_by(found: dict[str, dict[str, Any]]) -> list[Told]:
    """What both estimators found, state by state; that before the first layer has no change.

    A verdict is the probe's, and stands only where the neighbours' change has the same sign, so
    that none hangs on one estimator.
    """
    probe, neighbours = (_reads(found[name]) for name in ESTIMATORS)
    verdicts = [None, *found[ESTIMATORS[0]]["verdicts"]]
    return [
        Told(one, other, _agreed(verdict, one, other))
        for one, other, verdict in zip(probe, neighbours, verdicts, strict=True)
    ]


def _reads(found: dict[str, Any]) -> list[Read]:
    steps = [None, *map(_bits, found["changes"])]
    return [Read(_bits(one), step) for one, step in zip(found["information"], steps, strict=True)]


def _bits(document: Sequence[Any]) -> Bits:
    bits, (low, high), null = document
    return Bits(bits, (low, high), null)


def _agreed(verdict: str | None, one: Read, other: Read) -> str | None:
    if verdict is None or one.change is None or other.change is None:
        return verdict
    return verdict if one.change.bits * other.change.bits > 0 else CANNOT_TELL
