"""The protocol of an objective, and objectives by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from telltale.errors import InputError
from telltale.objectives.accuracy import Accuracy
from telltale.objectives.likelihood import Likelihood
from telltale.objectives.margin import Margin
from telltale.support.words import one_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from telltale.measure import Outcome
    from telltale.tasks import Scoring, Task

LARGEST = 1e9  # of any objective's value: what is infinite must not make a mean infinite


class Objective(Protocol):
    """The value of one example's outcome; higher is better.

    ``fewest_choices`` is how many scored texts an outcome must hold: 0 where its score is enough,
    1 where a right answer's log-likelihood is, 2 where it is compared with another's.

    One that has ``highest``, the most that it gives any example, lets candidates leave that cannot
    reach the best any more; without it each is measured on all examples.
    """

    @property
    def name(self) -> str:
        """Its name on the command line and in results."""
        ...

    @property
    def fewest_choices(self) -> int:
        """The least number of scored choices that an outcome must hold."""
        ...

    def __call__(self, outcome: Outcome, right: int, scoring: Scoring) -> float:
        """The outcome's value.

        Args:
            outcome: what one example gave on one path.
            right: which of its choices is the right one.
            scoring: how the task weighs choices against each other.
        """
        ...


OBJECTIVES: Mapping[str, Objective] = {
    one.name: one for one in (Accuracy(), Likelihood(), Margin())
}


def objective_named(name: str) -> Objective:
    """The objective of that name.

    Raises:
        InputError: there is none.
    """
    if name not in OBJECTIVES:
        raise InputError(
            f"`objective` must be {one_of(OBJECTIVES)}, got {name!r}: an objective must be a mean "
            "over examples, which scores of a whole set, such as F1 or perplexity, are not"
        )
    return OBJECTIVES[name]


def default_objective(task: Task) -> Objective:
    """The default objective for a task.

    By likelihood where choices are compared: on real tasks the models it finds cannot be told apart
    from accuracy's, and where the truth is known, it finds more of the gain with as many examples
    (docs, "What was found on real tasks"). Where text is generated, reading reference answers is
    other work than writing answers, so it is accuracy, as published.
    """
    return OBJECTIVES["accuracy" if task.generation else "likelihood"]


def check_objective(objective: Objective, task: Task) -> None:
    """Refuse an objective that cannot be computed from a task's outcomes.

    Raises:
        InputError: they do not.
    """
    offered = 1 if task.generation else min(len(example.choices) for example in task.examples)
    if offered < objective.fewest_choices:
        raise InputError(
            f"`objective` {objective.name} compares the right answer with wrong ones, and "
            f"{task.name} offers none; give likelihood or accuracy"
        )


def highest_of(objective: Objective) -> float:
    """The most that an objective gives any example."""
    return min(LARGEST, getattr(objective, "highest", LARGEST))


def values_by(
    objective: Objective, scoring: Scoring, right: Mapping[int, int]
) -> Callable[[Outcome], float]:
    """The objective as a function of outcomes, with the right answers filled in.

    Args:
        objective: gives each outcome its value.
        scoring: how the task weighs choices.
        right: for each example, by position, which of its choices is right.
    """
    highest = highest_of(objective)

    def value(outcome: Outcome) -> float:
        found = objective(outcome, right[outcome.example], scoring)
        if not isinstance(found, float | int) or found != found:
            raise InputError(
                f"the objective {objective.name} gave {found!r} for an example; it must give each "
                "example a number"
            )
        if highest < LARGEST and found > highest:
            raise InputError(
                f"the objective {objective.name} gave {found!r} for an example, above its highest, "
                f"{highest:g}; raise that or leave it out"
            )
        return max(-LARGEST, min(LARGEST, found))

    return value
