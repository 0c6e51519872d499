"""Scores of layers: how much each is needed, estimated without leaving any out.

Each is a `telltale.engine.layer_scores.LayerScore`, of which a higher number is of a layer that is
needed more. Those that are means share one pass over the data, whoever wants how many of them;
those of weights alone need none. Does not know how observations are made.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor, nn

    from telltale.engine.layer_scores import Observation


class Terms(NamedTuple):
    """What an observation adds to a mean: a sum for each layer, over so many tokens or examples."""

    sums: Sequence[float]
    over: int


class MeanScore(ABC):
    """A `LayerScore` that is a mean over tokens or examples.

    All that are wanted together are given the same observations, so that the data go through the
    model once.
    """

    name: str
    needs_gradients: bool

    @abstractmethod
    def terms(self, one: Observation) -> Terms:
        """What an observation adds."""

    def __call__(self, observations: Iterable[Observation]) -> Sequence[float]:
        """See `telltale.engine.layer_scores.LayerScore`."""
        return mean_of(map(self.terms, observations))


def mean_of(terms: Iterable[Terms]) -> list[float]:
    """The means, one a layer, of what observations have added."""
    sums, counts = zip(*terms, strict=True)
    total = sum(counts)
    return [math.fsum(of_layer) / total for of_layer in zip(*sums, strict=True)]


class WeightScore(ABC):
    """A `LayerScore` made of a layer's weights alone, without data."""

    name: str
    needs_gradients: bool

    @abstractmethod
    def of_layer(self, layer: nn.Module) -> float:
        """One layer's."""

    def __call__(self, observations: Iterable[Observation]) -> Sequence[float]:
        """See `telltale.engine.layer_scores.LayerScore`."""
        return [self.of_layer(layer) for layer in next(iter(observations)).layers]


@dataclass(frozen=True, slots=True)
class BlockInfluence(MeanScore):
    """How little a layer's output is like its input: 1 less their mean cosine over real tokens.

    ShortGPT (arXiv 2403.03853), section 3.2.
    """

    name: str = "block-influence"
    needs_gradients: bool = False

    def terms(self, one: Observation) -> Terms:
        """See `MeanScore`."""
        unlike = [
            _total(1 - torch.cosine_similarity(_wide(before), _wide(after), dim=-1)[one.real])
            for before, after in pairwise(one.states)
        ]
        return Terms(unlike, int(one.real.sum()))


@dataclass(frozen=True, slots=True)
class AngularDistance(MeanScore):
    """The angle between a layer's input and output where the answer's first token is predicted.

    arccos(cosine) / pi, so from 0 to 1, as a mean over examples. Gromov et al. (arXiv 2403.17887),
    equation 7: there the last token of a text is looked at, here the last one that is read before
    the right answer. Of a ``size`` above 1 it is the angle between a layer's input and the output
    of the last of so many layers from it on; 1, the most there is, where the model ends before.
    """

    name: str = "angular-distance"
    needs_gradients: bool = False
    size: int = 1

    of_one: ClassVar[str] = "angular-distance"

    def terms(self, one: Observation) -> Terms:
        """See `MeanScore`."""
        firsts = [
            spans[example.answer].positions[0]
            for example, spans in zip(one.examples, one.layout.spans, strict=True)
        ]
        where = torch.tensor(firsts, device=one.real.device)
        # In float64: near a cosine of 1 an angle is the root of what is rounded.
        read = [state.flatten(0, 1)[where].cpu().double() for state in one.states]
        angles = [
            _total(torch.cosine_similarity(before, after, dim=-1).clamp(-1, 1).arccos() / math.pi)
            for before, after in zip(read, read[self.size :], strict=False)
        ]
        angles += [float(len(firsts))] * (len(read) - 1 - len(angles))
        return Terms(angles, len(firsts))


@dataclass(frozen=True, slots=True)
class Gradient(MeanScore):
    """By how many nats the right answer's log-likelihood falls without a layer, to first order.

    A layer takes a step from its input to its output. Leaving it out takes the step back, which
    changes the log-likelihood by -<gradient at the output, step>; the score is the fall, so the
    product itself, summed over tokens, as a mean over examples. The first-order Taylor criterion of
    Molchanov et al. (arXiv 1611.06440, section 2.2), with its sign, of a layer's step in place of a
    feature map.
    """

    name: str = "gradient"
    needs_gradients: bool = True

    def terms(self, one: Observation) -> Terms:
        """See `MeanScore`."""
        return _mean_fall(falls(one))


@dataclass(frozen=True, slots=True)
class AbsoluteGradient(MeanScore):
    """The mean of `Gradient`'s fall over examples, each without its sign, in nats.

    What a layer does for some examples and against others does not cancel.
    """

    name: str = "gradient-absolute"
    needs_gradients: bool = True

    def terms(self, one: Observation) -> Terms:
        """See `MeanScore`."""
        return _mean_fall(falls(one).abs())


@dataclass(frozen=True, slots=True)
class SquaredGradient(MeanScore):
    """The mean of `Gradient`'s fall over examples, each squared, in nats squared.

    Molchanov et al. (arXiv 1906.10771), equation 8, squares a batch's fall; this squares each
    example's, so that it does not depend on batches.
    """

    name: str = "gradient-squared"
    needs_gradients: bool = True

    def terms(self, one: Observation) -> Terms:
        """See `MeanScore`."""
        return _mean_fall(falls(one).square())


@dataclass(frozen=True, slots=True)
class WeightMagnitude(WeightScore):
    """The mean absolute value of a layer's weight matrices; norms and biases are left out.

    Shortened LLaMA (arXiv 2402.02834), section 3.1, has the sum, which orders layers of equal sizes
    alike.
    """

    name: str = "magnitude"
    needs_gradients: bool = False

    def of_layer(self, layer: nn.Module) -> float:
        """See `WeightScore`."""
        matrices = [weight.detach() for weight in layer.parameters() if weight.dim() > 1]
        total = math.fsum(
            float(torch.linalg.vector_norm(one, 1, dtype=_wide_dtype(one))) for one in matrices
        )
        return total / sum(one.numel() for one in matrices)


def falls(one: Observation) -> Tensor:
    """By how many nats each example's right answer falls without each layer, to first order.

    (layers, examples), float64. An example's log-likelihood depends on its own rows alone, so that
    its gradient is what that of the mean, times the number of examples, is there.
    """
    assert one.gradients is not None
    of_rows = torch.stack(
        [
            (_wide(gradient) * (_wide(after) - _wide(before)))
            .masked_fill(~one.real[..., None], 0.0)
            .sum((1, 2))
            for (before, after), gradient in zip(
                pairwise(one.states), one.gradients[1:], strict=True
            )
        ]
    )
    counts = torch.tensor([len(example.branches) for example in one.examples])
    owners = torch.arange(len(counts)).repeat_interleave(counts)  # one row a branch
    found = torch.zeros(len(of_rows), len(counts), dtype=torch.float64)
    return len(counts) * found.index_add(1, owners, of_rows.cpu().double())


def _mean_fall(of_examples: Tensor) -> Terms:
    return Terms(of_examples.sum(1).tolist(), of_examples.shape[1])


def _wide_dtype(one: Tensor) -> torch.dtype:
    return torch.promote_types(one.dtype, torch.float32)


def _wide(one: Tensor) -> Tensor:
    """In float32, unless it is in float64."""
    return one.to(_wide_dtype(one))


def _total(values: Tensor) -> float:
    return float(values.cpu().double().sum())
