"""What a model can do beyond the plain way, found by trying it.

Each capability is tried on made-up examples as long as the longest that will be measured, so that a
sliding window or a positional bias that only shows on long inputs shows here. One that raises, or
whose log-likelihoods differ from the plain way's by more than rounding, is not used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from telltale.engine.encode import EncodedExample
from telltale.engine.shared import Capabilities, SharedEngine
from telltale.engine.store import StateStore
from telltale.errors import UnsupportedModelError
from telltale.measure import Batch, BatchTooLargeError
from telltale.paths import LayerPath
from telltale.tasks import Scoring

if TYPE_CHECKING:
    from telltale.models.layered import LayeredModel

PLAIN = Capabilities(keeps_prefix=False, shares_context=False)
# Another order of the same sums differs by more than the precision's own step; how much more grows
# with the depth, so it is measured on the model: this many times what padding alone changes.
NOISE_FACTOR = 8.0
# ... and never less than this many steps of the precision, relative to the log-likelihood.
STEPS = 32.0


def find_capabilities(model: LayeredModel, *, longest: int, branch: int = 4) -> Capabilities:
    """Try each capability on the whole model.

    Args:
        model: the model to try.
        longest: the longest context that will be measured, in tokens.
        branch: the longest choice, in tokens.

    Raises:
        UnsupportedModelError: leaving a layer out changes nothing, so there is nothing to search.
    """
    return _Trial(model, max(longest, 4), max(branch, 2)).capabilities()


class _Trial:
    """Two made-up examples of different lengths, and what the plain way gives for them."""

    def __init__(self, model: LayeredModel, longest: int, branch: int) -> None:
        self.model = model
        self.whole = LayerPath.whole(model.depth)
        self.prefix = self._tokens(0, max(1, longest // 2))
        long = self._example(longest - len(self.prefix), branch)
        self.examples = [long, self._example(max(1, (longest - len(self.prefix)) // 2), branch)]

    def capabilities(self) -> Capabilities:
        plain = self._logliks(PLAIN, self.whole)
        alone = [self._logliks(PLAIN, self.whole, only=i)[0] for i in range(len(self.examples))]
        self._check_that_layers_matter(plain)
        noise = _difference(plain, alone)

        def holds(tried: Capabilities) -> bool:
            try:
                found = self._logliks(tried, self.whole)
            except BatchTooLargeError:
                raise
            except Exception:  # whatever a model raises, it cannot do this
                return False
            steps = STEPS * torch.finfo(self.model.dtype).eps
            allowed = max(NOISE_FACTOR * noise, steps * max(abs(x) for row in plain for x in row))
            return _difference(plain, found) <= allowed

        keeps_prefix = holds(PLAIN._replace(keeps_prefix=True))
        shares_context = holds(Capabilities(keeps_prefix, shares_context=True))
        return Capabilities(keeps_prefix, shares_context)

    def _check_that_layers_matter(self, plain: list[list[float]]) -> None:
        if self.model.depth < 2:
            raise UnsupportedModelError("the model has a single layer, so none can be left out")
        if self._logliks(PLAIN, self.whole.without(self.model.depth // 2)) == plain:
            raise UnsupportedModelError(
                f"leaving layer {self.model.depth // 2} out of {type(self.model.model).__name__} "
                "changes nothing, so its layers are not where telltale looks for them; this "
                "architecture is not supported"
            )

    def _logliks(
        self, capabilities: Capabilities, path: LayerPath, only: int | None = None
    ) -> list[list[float]]:
        positions = tuple(range(len(self.examples))) if only is None else (only,)
        engine = SharedEngine(
            self.model,
            self.examples,
            Scoring.LOGLIK,
            capabilities=capabilities,
            token_prefix=self.prefix,
            store=StateStore(0),
        )
        (measurement,) = engine([path], [Batch(positions)])
        return [[choice.loglik for choice in one.choices] for one in measurement.outcomes]

    def _example(self, length: int, branch: int) -> EncodedExample:
        choices = tuple(self._tokens(100 * (i + 1), branch - i % 2) for i in range(3))
        context = self.prefix + self._tokens(7, length)
        return EncodedExample(context, choices, tuple(map(len, choices)), answer=0)

    def _tokens(self, start: int, length: int) -> tuple[int, ...]:
        """Tokens spread over the vocabulary, the same on every machine."""
        return tuple((start + 7919 * (i + 1)) % self.model.vocabulary for i in range(length))


def _difference(one: list[list[float]], other: list[list[float]]) -> float:
    return max(
        abs(a - b)
        for row_one, row_other in zip(one, other, strict=True)
        for a, b in zip(row_one, row_other, strict=True)
    )
