"""The linear probe: multinomial logistic regression with an L2 penalty, chosen inside the fold."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from telltale.information.folds import dealt
from telltale.information.mixing import best_weight

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from telltale.information.mixing import Fold

INNER = 3  # folds of a training fold, by which the penalty is chosen
# Inverse penalties for states of length 1, the strongest first: from where a probe says next to
# nothing to where it follows every example. For 576 standardised dimensions, C = 0.01 is 5.8 here.
STRENGTHS = tuple(10 ** (half / 2) for half in range(-2, 7))
WORSE = 2  # so many strengths in turn below the best, and no weaker penalty is tried
STEPS = 300
NEAR = 3e-4  # the gradient at which a fit ends; one that ends sooner says no less of other examples


def predicted(
    fold: Fold, states: NDArray[Any], source: np.random.Generator
) -> tuple[NDArray[Any], float]:
    """Probabilities of every answer for other states, (others, classes), and their weight.

    The penalty and the weight against the prior are those that say the most of examples left out
    of a fit within the fold.
    """
    if fold.states.shape[1] == 0:
        return np.tile(fold.prior, (len(states), 1)), 0.0
    classes = len(fold.prior)
    inner = dealt(fold.answers, fold.clusters, INNER, source)
    parts = [inner == part for part in range(INNER)]
    models = [_model() for _ in parts]
    right = np.empty(len(inner))
    best, weight, chosen, worse = 0.0, 0.0, STRENGTHS[0], 0
    for strength in STRENGTHS:
        for model, part in zip(models, parts, strict=True):
            fitted = _fit(model, strength, fold.states[~part], fold.answers[~part])
            of_part = _probabilities(fitted, fold.states[part], classes)
            right[part] = of_part[np.arange(part.sum()), fold.answers[part]]
        its_weight, mean = best_weight(right, fold.prior[fold.answers])
        if mean > best:
            best, weight, chosen, worse = mean, its_weight, strength, 0
        else:
            worse += 1
        if worse == WORSE:
            break
    if not weight:
        return np.tile(fold.prior, (len(states), 1)), 0.0
    fitted = _fit(_model(), chosen, fold.states, fold.answers)
    return _probabilities(fitted, states, classes), weight


def _model() -> Any:
    """One that goes on from its last fit, since penalties are tried in turn."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(warm_start=True, max_iter=STEPS, tol=NEAR)


def _fit(model: Any, strength: float, states: NDArray[Any], answers: NDArray[Any]) -> Any:
    """A fitted model; None where there is one answer only."""
    from sklearn.exceptions import ConvergenceWarning

    if (answers == answers[0]).all():
        return None
    model.set_params(C=strength)
    with warnings.catch_warnings():
        # What stops early is judged on examples that it has not seen, as all are.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(states, answers)


def _probabilities(model: Any, states: NDArray[Any], classes: int) -> NDArray[Any]:
    """The predicted probabilities, 0 for an answer that the model has not seen."""
    found = np.zeros((len(states), classes))
    if model is not None:
        found[:, model.classes_] = model.predict_proba(states)
    return found
