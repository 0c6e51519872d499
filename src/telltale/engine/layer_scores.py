"""Importance scores of layers, from hidden states or gradients.

A `LayerScore` looks at the whole model on some examples and gives one number a layer, without
trying paths. It is cheap, and only an estimate: whether a layer may be left out is for measuring to
say. Batches are read in the plain layout, one row a branch and no prefix kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import torch

from telltale.engine.choosing import LOGITS_AT_ONCE, token_logliks
from telltale.engine.layout import lay_out
from telltale.errors import InputError, MeasurementError
from telltale.measure import BatchTooLargeError
from telltale.models.layered import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from telltale.engine.encode import EncodedExample
    from telltale.engine.layout import Layout
    from telltale.measure import Batch
    from telltale.models.layered import LayeredModel, Prepared


@dataclass(frozen=True, slots=True)
class Observation:
    """The whole model on one batch, as a score of layers sees it.

    ``states`` are depth and 1 tensors, (rows, length, width): before each layer, and after the
    last, before the model's own norm. ``real``, (rows, length), is False where a token is padding.
    ``layout`` says which tokens the rows hold, and in its ``spans`` where each example's choices
    are read. ``gradients`` have the shapes of ``states``: those of the right answers' mean
    log-likelihood over the batch's examples, with respect to each state.
    """

    examples: tuple[EncodedExample, ...]
    layout: Layout
    states: tuple[Tensor, ...]
    real: Tensor
    gradients: tuple[Tensor, ...] | None = None


class LayerScore(Protocol):
    """Scores every layer of a whole model.

    A call is given observations one by one, each made when it is asked for, and gives one number a
    layer, in order; the higher, the more the layer is needed. What it keeps of an observation is
    held, so it had better be numbers. ``needs_gradients`` says whether observations have gradients.
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


@dataclass(frozen=True, slots=True)
class BlockInfluence:
    """How little a layer's output is like its input: 1 less their mean cosine over real tokens.

    ShortGPT (arXiv 2403.03853), section 3.2.
    """

    name: str = "block-influence"
    needs_gradients: bool = False

    def __call__(self, observations: Iterable[Observation]) -> Sequence[float]:
        """See `LayerScore`."""
        tokens = 0
        totals: list[float] = []
        for one in observations:
            cosines = [
                float(
                    torch.cosine_similarity(before.float(), after.float(), dim=-1)[one.real]
                    .double()
                    .sum()
                )
                for before, after in pairwise(one.states)
            ]
            totals = _sums(totals, cosines)
            tokens += int(one.real.sum())
        return [1 - total / tokens for total in totals]


@dataclass(frozen=True, slots=True)
class Gradient:
    """By how many nats the right answer's log-likelihood falls without a layer, to first order.

    A layer takes a step from its input to its output. Leaving it out takes the step back, which
    changes the log-likelihood by -<gradient at the output, step>; the score is the fall, so the
    product itself, summed over tokens, as a mean over examples.
    """

    name: str = "gradient"
    needs_gradients: bool = True

    def __call__(self, observations: Iterable[Observation]) -> Sequence[float]:
        """See `LayerScore`."""
        examples = 0
        totals: list[float] = []
        for one in observations:
            assert one.gradients is not None
            falls = [
                len(one.examples)
                * float(
                    (gradient.float() * (after.float() - before.float()))[one.real].double().sum()
                )
                for (before, after), gradient in zip(
                    pairwise(one.states), one.gradients[1:], strict=True
                )
            ]
            totals = _sums(totals, falls)
            examples += len(one.examples)
        return [total / examples for total in totals]


LAYER_SCORES: Mapping[str, LayerScore] = {
    score.name: score for score in (BlockInfluence(), Gradient())
}


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
        scores: each looks at all batches by itself.

    Raises:
        InputError: there is nothing to look at, or a score gives not one number a layer.
        MeasurementError: a score gives a number that is not finite.
        BatchTooLargeError: a single example does not fit in memory.
    """
    if not batches or not all(examples[i].choices for batch in batches for i in batch.examples):
        raise InputError("layers are scored on examples with a right answer; give at least one")
    found: dict[str, tuple[float, ...]] = {}
    for score in scores:
        seen = observations(model, examples, batches, with_gradients=score.needs_gradients)
        values = tuple(float(value) for value in score(seen))
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
        found[score.name] = values
    return found


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
    too_many = math.inf  # tokens, since a batch that had them did not fit
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
    return Observation(examples, layout, tuple(states), real, gradients)


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
