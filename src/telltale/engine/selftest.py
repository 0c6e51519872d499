"""What a model can do beyond the plain way, found by trying it.

Each capability is tried on made-up examples as long as the longest that will be measured, so that a
sliding window or a positional bias that only shows on long inputs shows here. One that raises, or
whose log-likelihoods differ from the plain way's by more than rounding, is not used.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from telltale.engine.choosing import Choosing
from telltale.engine.encode import ChoiceSize, EncodedExample
from telltale.engine.generating import continuation, last_logits
from telltale.engine.shared import Capabilities, SharedEngine
from telltale.engine.store import StateStore
from telltale.errors import UnsupportedModelError
from telltale.measure import Batch, BatchTooLargeError
from telltale.paths import LayerPath
from telltale.tasks import Scoring

if TYPE_CHECKING:
    from collections.abc import Callable

    from telltale.engine.encode import Tokens
    from telltale.engine.shared import Reader, Walked
    from telltale.measure import Outcome
    from telltale.models.layered import LayeredModel

PLAIN = Capabilities(keeps_prefix=False, shares_context=False)
# Another order of the same sums differs by more than the precision's own step; how much more grows
# with the depth, so it is measured on the model: this many times what padding alone changes.
NOISE_FACTOR = 8.0
# ... and never less than this many steps of the precision, relative to the log-likelihood.
STEPS = 32.0


def find_capabilities(
    model: LayeredModel, *, longest: int, branch: int = 4, generates: bool = False
) -> Capabilities:
    """Try each capability on the whole model.

    Args:
        model: the model to try.
        longest: the longest context that will be measured, in tokens, with what is generated.
        branch: the longest choice, in tokens.
        generates: whether text is generated, and not choices compared.

    Raises:
        UnsupportedModelError: leaving a layer out changes nothing, so there is nothing to search.
    """
    # A prompt has nothing after it to share its tokens with: one choice is enough to compare.
    choices, branch = 1 if generates else 3, max(branch, 2)
    if model.longest_input is not None:  # the longest context and choice may be of two examples
        longest = min(longest, model.longest_input - branch)
    return _Trial(model, max(longest, 4), branch, choices).capabilities(generates=generates)


class _Trial:
    """Two made-up examples of different lengths, and what the plain way gives for them."""

    def __init__(self, model: LayeredModel, longest: int, branch: int, choices: int) -> None:
        self.model = model
        self.choices = choices
        self.whole = LayerPath.whole(model.depth)
        self.prefix = self._tokens(0, max(1, longest // 2))
        long = self._example(longest - len(self.prefix), branch)
        self.examples = [long, self._example(max(1, (longest - len(self.prefix)) // 2), branch)]

    def capabilities(self, *, generates: bool) -> Capabilities:
        plain = self._logliks(PLAIN, self.whole)
        alone = [self._logliks(PLAIN, self.whole, only=i)[0] for i in range(len(self.examples))]
        self._check_that_layers_matter(plain)
        noise = _difference(plain, alone)

        def same(expected: list[list[float]], found: Callable[[], list[list[float]]]) -> bool:
            steps = STEPS * torch.finfo(self.model.dtype).eps
            largest = max(abs(x) for row in expected for x in row)
            try:
                return _difference(expected, found()) <= max(NOISE_FACTOR * noise, steps * largest)
            except BatchTooLargeError:
                raise
            except Exception:  # whatever a model raises, it cannot do this
                return False

        tried = PLAIN._replace(keeps_prefix=True)
        keeps_prefix = same(plain, lambda: self._logliks(tried, self.whole))
        if generates:
            # A prompt is one row, whatever it is that may follow.
            tried = Capabilities(keeps_prefix, shares_context=True, continues=True)
            continues = same(self._recomputed_logits(), lambda: self._continued_logits(tried))
            return tried._replace(continues=continues)
        tried = Capabilities(keeps_prefix, shares_context=True)
        return tried._replace(shares_context=same(plain, lambda: self._logliks(tried, self.whole)))

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
        engine = self._engine(self.examples, Choosing(Scoring.LOGLIK), capabilities)
        (measurement,) = engine([path], [Batch(positions)])
        return [[choice.loglik for choice in one.choices] for one in measurement.outcomes]

    def _continued_logits(self, capabilities: Capabilities) -> list[list[float]]:
        """The logits after each of a few given tokens, going on from keys and values."""
        dictation = _Dictation([example.choices[0] for example in self.examples])
        prompts = [replace(example, choices=(), sizes=()) for example in self.examples]
        engine = self._engine(prompts, dictation, capabilities)
        list(engine([self.whole], [Batch(tuple(range(len(prompts))))]))
        return dictation.logits

    def _recomputed_logits(self) -> list[list[float]]:
        """The same, each text alone and from its beginning."""
        found: list[list[float]] = []
        for example in self.examples:
            text = torch.tensor([[*example.context, *example.choices[0]]], device=self.model.device)
            hidden = self.model.run_path(self.whole, self.model.prepare(text))[0]
            logits = self.model.logits(hidden[len(example.context) - 1 :])
            found.append(logits.float().flatten().tolist())
        return found

    def _engine(
        self, examples: list[EncodedExample], reader: Reader, capabilities: Capabilities
    ) -> SharedEngine:
        """An engine that keeps nothing from one call to the next."""
        return SharedEngine(
            self.model,
            examples,
            reader,
            capabilities=capabilities,
            token_prefix=self.prefix,
            store=StateStore(0),
        )

    def _example(self, length: int, branch: int) -> EncodedExample:
        choices = tuple(self._tokens(100 * (i + 1), branch - i % 2) for i in range(self.choices))
        context = self.prefix + self._tokens(7, length)
        sizes = tuple(ChoiceSize(len(choice), 0, 0) for choice in choices)
        return EncodedExample(context, choices, sizes, answer=0)

    def _tokens(self, start: int, length: int) -> tuple[int, ...]:
        """Tokens spread over the vocabulary, the same on every machine."""
        return tuple((start + 7919 * (i + 1)) % self.model.vocabulary for i in range(length))


class _Dictation:
    """A reader that has the model go on with given tokens, and keeps the logits after each."""

    needs_key_values = True

    def __init__(self, texts: list[Tokens]) -> None:
        self._texts = texts
        self.logits: list[list[float]] = []

    def __call__(
        self,
        model: LayeredModel,
        batch: Batch,  # noqa: ARG002 - a reader is given it
        walked: Walked,
    ) -> tuple[tuple[Outcome, ...], int]:
        """Read one batch; there are no outcomes."""
        of_rows = [[row] for row in last_logits(model, walked)]
        rows = continuation(model, walked)
        for tokens in zip(*self._texts, strict=True):
            found = rows.step(torch.tensor(tokens, device=model.device))
            for logits, row in zip(of_rows, found, strict=True):
                logits.append(row)
        self.logits = [torch.stack(logits).float().flatten().tolist() for logits in of_rows]
        return (), 0

    def for_timing(self) -> _Dictation:
        """Itself."""
        return self


def _difference(one: list[list[float]], other: list[list[float]]) -> float:
    return max(
        abs(a - b)
        for row_one, row_other in zip(one, other, strict=True)
        for a, b in zip(row_one, row_other, strict=True)
    )
