"""Objectives: what a search maximizes, computed from outcomes. One file each.

An objective gives each example's outcome a value, and a path's value is the mean over its examples.
So whatever holds of a mean over examples holds of it, and nothing that is not such a mean, like an
F1 score of the whole set, can be one. What BEST, BSBA and the tolerance mean is not an objective's
to say: they are about accuracy, always.
"""

from telltale.objectives.accuracy import Accuracy
from telltale.objectives.likelihood import Likelihood
from telltale.objectives.margin import Margin
from telltale.objectives.objective import (
    OBJECTIVES,
    Objective,
    check_objective,
    default_objective,
    highest_of,
    objective_named,
    values_by,
)

__all__ = [
    "OBJECTIVES",
    "Accuracy",
    "Likelihood",
    "Margin",
    "Objective",
    "check_objective",
    "default_objective",
    "highest_of",
    "objective_named",
    "values_by",
]
