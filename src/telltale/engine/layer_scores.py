"""What scores of layers look at: hidden states and gradients of the whole model on some examples.

A `LayerScore` gives one number a layer, without trying paths. It is cheap, and only an estimate:
whether a layer may be left out is for measuring to say. Those known by name are in
`telltale.engine.importance`. Batches are read in the plain layout, one row a branch and no prefix
kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from telltale.engine.choosing import LOGITS_AT_ONCE, token_logliks
from telltale.engine.importance import (
    AbsoluteGradient,
    AngularDistance,
    BlockInfluence,
    Gradient,
    MeanScore,
    SquaredGradient,
    Terms,
    WeightMagnitude,
    WeightScore,
    mean_of,
)
from telltale.engine.joint import Joint
from telltale.engine.layout import lay_out
from telltale.errors import InputError, MeasurementError
from telltale.measure import BatchTooLargeError
from telltale.models.layered import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from telltale.engine.encode import EncodedExample
    from telltale.engine.layout import Layout
    from telltale.measure import Batch
    from telltale.models.layered import LayeredModel, Prepared


# Of all layers a state, and perhaps a gradient, is held for each token: 2 GiB, each, of 31 of width
# 4,096.
MOST_TOKENS = 4096
MOST_LAYERS = 1000  # in a block; no model has as many


@dataclass(frozen=True, slots=True)
class Observation:
    """The whole model on one batch, as a score of layers sees it.

    ``states`` are depth and 1 tensors, (rows, length, width): before each layer, and after the
    last, before the model's own norm. ``real``, (rows, length), is False where a token is padding.
    ``layout`` says which tokens the rows hold, and in its ``spans`` where each example's choices
    are read. ``gradients`` have the shapes of ``states``: those of the right answers' mean
    log-likelihood over the batch's examples, with respect to each state. ``layers`` are the
    model's, not to be changed.
    """

    examples: tuple[EncodedExample, ...]
    layout: Layout
    states: tuple[Tensor, ...]
    real: Tensor
    gradients: tuple[Tensor, ...] | None = None
    layers: Sequence[nn.Module] = ()


class LayerScore(Protocol):
    """Scores every layer of a whole model.

    A call is given observations one by one, each made when it is asked for, and gives one number a
    layer, in order; the higher, the more the layer is needed. What it keeps of an observation is
    held, so it had better be numbers. ``needs_gradients`` says whether observations have gradients.
    One that derives from `telltale.engine.importance.MeanScore` shares its pass over the data.
    """

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def needs_gradients(self) -> bool:
        """Whether it looks at gradients."""
        ...

    def __call__(self, observations: Iterable[Observation]) -> Sequence[float]:
        """One number a layer."""
        ...


LAYER_SCORES: Mapping[str, LayerScore] = {
    score.name: score
    for score in (
        BlockInfluence(),
        Gradient(),
        AbsoluteGradient(),
        SquaredGradient(),
        AngularDistance(),
        WeightMagnitude(),
        Joint(),
    )
}


def score_named(name: str) -> LayerScore | None:
    """The score of that name, if there is one.

    ``angular-distance:3`` is the angular distance over three layers, from each on.
    """
    kind, _, size = name.partition(":")
    if kind == AngularDistance.of_one and size.isdecimal() and 1 < int(size) < MOST_LAYERS:
        return AngularDistance(name, size=int(size))
    return LAYER_SCORES.get(name)


def layer_scores(
    model: LayeredModel,
    examples: Sequence[EncodedExample],
    batches: Sequence[Batch],
    scores: Sequence[LayerScore],
) -> dict[str, tuple[float, ...]]:
    """Each score's numbers, one a layer, by its name.

    Args:
        model: the whole model; it is not changed.
        examples: with choices, of which one is right.
        batches: which of the examples to look at together; halved where they do not fit.
        scores: those that are means share one pass over the batches, with gradients if any needs
            them; those of weights alone need none; of others each has one of its own.

    Raises:
        InputError: there is nothing to look at, or a score gives not one number a layer.
        MeasurementError: a score gives a number that is not finite.
        BatchTooLargeError: a single example does not fit in memory.
    """
    if not batches or not all(examples[i].choices for batch in batches for i in batch.examples):
        raise InputError("layers are scored on examples with a right answer; give at least one")
    found: dict[str, tuple[float, ...]] = {}
    means = _means(model, examples, batches, [one for one in scores if isinstance(one, MeanScore)])
    for score in scores:
        values: Sequence[float]
        if isinstance(score, MeanScore):
            values = next(means)
        elif isinstance(score, WeightScore):
            values = [score.of_layer(layer) for layer in model.layers]
        else:
            seen = observations(model, examples, batches, with_gradients=score.needs_gradients)
            values = [float(value) for value in score(seen)]
        if len(values) != model.depth:
            raise InputError(
                f"the layer score {score.name} gave {len(values)} numbers for {model.depth} "
                "layers; a score gives one a layer"
            )
        if not all(map(math.isfinite, values)):
            raise MeasurementError(
                f"the layer score {score.name} gave a number that is not finite; try `dtype` "
                "float32, since float16 and bfloat16 can overflow"
            )
        found[score.name] = tuple(values)
    return found


def _means(
    model: LayeredModel,
    examples: Sequence[EncodedExample],
    batches: Sequence[Batch],
    scores: Sequence[MeanScore],
) -> Iterator[list[float]]:
    """Each score's numbers, in order, all of one pass."""
    if scores:
        with_gradients = any(score.needs_gradients for score in scores)
        seen = observations(model, examples, batches, with_gradients=with_gradients)

        def terms(one: Observation) -> list[Terms]:
            return [score.terms(one) for score in scores]

        # `map` holds no observation while the next is made.
        yield from map(mean_of, zip(*map(terms, seen), strict=True))


def observations(
    model: LayeredModel,
    examples: Sequence[EncodedExample],
    batches: Sequence[Batch],
    *,
    with_gradients: bool,
) -> Iterator[Observation]:
    """The whole model on each batch, when it is asked for.

    Raises:
        BatchTooLargeError: a single example does not fit in memory.
    """
    waiting = list(batches)
    # So many tokens are not read at once: batches are made for layouts that share more. From where
    # one did not fit, no more than it had.
    too_many = MOST_TOKENS + 1
    while waiting:
        batch = waiting.pop(0)
        own = tuple(examples[i] for i in batch.examples)
        layout = lay_out(own, prefix_length=0, shares_context=False)
        tokens = len(layout.rows) * layout.length
        if tokens >= too_many and len(own) > 1:
            waiting[:0] = batch.halves()
            continue
        try:
            one = _observe(model, own, layout, with_gradients)
        except (RuntimeError, MemoryError) as problem:  # torch's own is a RuntimeError
            if not is_out_of_memory(problem):
                raise
            if len(own) == 1:
                raise BatchTooLargeError(batch, str(model.device)) from problem
            too_many = tokens
            waiting[:0] = batch.halves()
            continue
        yield one
        del one  # so that it does not stand beside the next


def _observe(
    model: LayeredModel,
    examples: tuple[EncodedExample, ...],
    layout: Layout,
    with_gradients: bool,
) -> Observation:
    device = model.device
    prepared = model.prepare(layout.token_ids().to(device), differentiable=with_gradients)
    states = [prepared.hidden]
    for layer in range(model.depth):
        states.append(model.run_layer(layer, states[-1], prepared))
    lengths = torch.tensor([len(row.tokens) for row in layout.rows], device=device)
    real = torch.arange(layout.length, device=device) < lengths[:, None]
    gradients = _gradients(model, examples, layout, prepared, states) if with_gradients else None
    return Observation(examples, layout, tuple(states), real, gradients, model.layers)


def _gradients(
    model: LayeredModel,
    examples: Sequence[EncodedExample],
    layout: Layout,
    prepared: Prepared,
    states: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """See `Observation`. Layer by layer from the last, so that one layer's graph is held."""
    last = states[-1]
    right = [spans[one.answer] for one, spans in zip(examples, layout.spans, strict=True)]
    positions = torch.tensor([i for span in right for i in span.positions], device=last.device)
    targets = torch.tensor([i for span in right for i in span.targets], device=last.device)
    flat = last.reshape(-1, last.shape[-1])
    gradient = torch.zeros_like(flat)
    at_once = max(1, LOGITS_AT_ONCE // model.vocabulary)
    for start in range(0, len(positions), at_once):
        here, wanted = positions[start : start + at_once], targets[start : start + at_once]

        def loglik(logits: Tensor, wanted: Tensor = wanted) -> Tensor:
            rows = torch.arange(len(wanted), device=wanted.device)
            return token_logliks(logits, rows, wanted).sum() / len(examples)

        gradient[here] = model.gradient_before_end(flat[here], loglik)
    found = [gradient.reshape(last.shape)]
    for layer in reversed(range(model.depth)):
        found.append(model.gradient_before(layer, states[layer], found[-1], prepared))
    return tuple(reversed(found))


def _sums(totals: Sequence[float], more: Sequence[float]) -> list[float]:
    return [a + b for a, b in zip(totals or [0.0] * len(more), more, strict=True)]
