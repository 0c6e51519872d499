"""A joint score of layers: what each adds to the information on the answer, and its gradient.

It is a `telltale.engine.layer_scores.LayerScore`, and reads the states it is shown to disk, since
information is estimated layer by layer of all examples together. Where examples share a passage,
that is not known here, and their states may be on both sides of a fold.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch

from telltale.engine.importance import Gradient, mean_of
from telltale.errors import InputError
from telltale.information import changes, check_installed, estimate, joint_score

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from telltale.engine.importance import Terms
    from telltale.engine.layer_scores import Observation

SEED = 0  # of the folds


@dataclass(frozen=True, slots=True)
class Joint:
    """The mean of two ranks: the change of information by a probe, and the first-order loss.

    Where all examples have the same choices, the state is that which predicts the answer, and the
    information is on which of them is right; else it is the state at each choice's end, and the
    information is on whether the choice is right. See `telltale.information.joint`.
    """

    name: str = "joint"
    needs_gradients: bool = True

    def __call__(self, observations: Iterable[Observation]) -> Sequence[float]:
        """See `LayerScore`."""
        check_installed()
        terms: list[Terms] = []
        choices: list[tuple[Any, int]] = []  # of each example, and which is right
        shape: tuple[int, int] | None = None
        with tempfile.TemporaryFile() as file:
            for one in observations:
                terms.append(Gradient().terms(one))
                choices += [(example.choices, example.answer) for example in one.examples]
                states = _states(one)
                shape = states.shape[1:]
                file.write(states.tobytes())
            changed = _changed(file, shape, choices)
        return joint_score(changed, mean_of(terms))


def _states(one: Observation) -> NDArray[np.float32]:
    """(choices, layers and 1, 2, width): where a choice is predicted, and where it ends."""
    spans = [span for example in one.layout.spans for span in example]
    ends = torch.tensor([[span.positions[0], span.positions[-1]] for span in spans])
    where = ends.to(one.real.device)
    found = [state.flatten(0, 1)[where].float().cpu() for state in one.states]
    return torch.stack(found, 1).flatten(2).numpy().astype(np.float32)


def _changed(
    file: IO[bytes], shape: tuple[int, int] | None, choices: Sequence[tuple[Any, int]]
) -> list[float]:
    """What each layer adds to the information, in bits."""
    assert shape is not None
    file.flush()
    layers, width = shape[0], shape[1] // 2
    firsts = np.cumsum([0, *(len(offered) for offered, _ in choices)])
    states = np.memmap(file, np.float32, "r", shape=(int(firsts[-1]), layers, 2, width))
    classes = sorted(choices[0][0])
    if all(sorted(offered) == classes for offered, _ in choices):
        rows, place = firsts[:-1], 0
        answers = np.array([classes.index(offered[right]) for offered, right in choices])
        clusters = np.arange(len(choices))
    else:
        rows, place = np.arange(firsts[-1]), 1
        answers = np.array([n == right for offered, right in choices for n in range(len(offered))])
        clusters = np.repeat(np.arange(len(choices)), np.diff(firsts))
    try:
        found = [
            estimate(states[rows, layer, place], answers.astype(int), clusters, seed=SEED)
            for layer in range(layers)
        ]
    except InputError as problem:
        raise InputError(
            f"the joint score of layers cannot be made: {problem}; give another score"
        ) from None
    return [one.bits for one in changes(found, clusters)]
