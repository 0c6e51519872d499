"""Self-test: which ways of sharing work an architecture supports, found by trying.

A capability is tried where it would be used, first on short made-up examples through the whole
model. What passes is tried at the length of the longest example that will be measured, so that a
sliding window or a positional bias that only shows there shows here: through the whole model where
its configuration says that length matters, else through one layer of each kind, which costs little.
One that raises, or whose log-likelihoods differ from the plain way's by more than rounding, is not
used, and the reason is kept.
"""

from __future__ import annotations

import math
import sys
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch

from telltale.engine.choosing import Choosing
from telltale.engine.continuing import continuation, last_states
from telltale.engine.encode import ChoiceSize, EncodedExample
from telltale.engine.shared import Capabilities, SharedEngine
from telltale.engine.store import StateStore
from telltale.errors import UnsupportedModelError
from telltale.measure import Batch, BatchTooLargeError
from telltale.models.row_masks import OtherAttentionError
from telltale.paths import LayerPath
from telltale.tasks import Scoring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from telltale.engine.encode import Tokens
    from telltale.engine.shared import Reader, Walked
    from telltale.measure import Outcome
    from telltale.models.layered import LayeredModel

PLAIN = Capabilities(keeps_prefix=False, shares_context=False)
EVERYTHING = Capabilities(*(True for _ in Capabilities._fields))
# Another order of the same sums differs by more than the precision's own step; how much more grows
# with the depth, so it is measured on the model: this many times what padding alone changes.
NOISE_FACTOR = 8.0
# ... and never less than this many steps of the precision, relative to the log-likelihood.
STEPS = 32.0
# Tokens of a context and of a choice that are enough where length does not matter.
SHORT_CONTEXT, SHORT_BRANCH = 32, 8
# What a trial of all capabilities reads at full length, in times the longest example; and of packed
# rows, for which there are two examples.
FULL_LENGTH_READS, PACKED_READS = 6, 8
LONGEST_REASON = 200  # characters of an exception
RAISED, DIFFERS, NOT_TRIED = "raised", "differs", "not tried"
# What a model cannot do, and what follows.
WITHOUT = {
    "keeps_prefix": ("keep a token prefix", "every prompt is read whole, which is slower"),
    "shares_context": (
        "read several choices after one context",
        "the context is read again for each choice, which is slower",
    ),
    "packs": (
        "read several examples in one row",
        "rows are padded, and what some prompts begin with is read again for each, which is slower",
    ),
    "padding_free": (
        "read a batch as one row",
        "rows are padded to the longest, which is a little slower",
    ),
    "continues": (
        "go on from keys and values",
        "the whole text is read again for every token that is written, which is much slower",
    ),
}


class Absence(NamedTuple):
    """A capability that a model is measured without, and why.

    ``capability`` is a name of `Capabilities`; ``kind`` is ``raised``, ``differs`` or
    ``not tried``; ``reason`` says with which exception, by how much or why not.
    """

    capability: str
    kind: str
    reason: str

    @property
    def words(self) -> str:
        """The absence in a sentence, without its end."""
        what, follows = WITHOUT[self.capability]
        said = f"the model cannot {what} ({self.reason}): {follows}"
        return f"{said}; please report it" if self.kind == RAISED else said


def told(absences: Iterable[Absence]) -> list[str]:
    """What a user should know before measuring begins: what was tried and is missing, once each."""
    missing = {one.capability: one for one in absences if one.kind != NOT_TRIED}
    return [
        f"Warning: {one.words}" if one.kind == RAISED else f"{one.words[0].upper()}{one.words[1:]}"
        for one in missing.values()
    ]


def unable(absences: Iterable[Absence]) -> list[str]:
    """Cautions: what is missing because the model raised, which may be a defect, once each."""
    return list({one.capability: one.words for one in absences if one.kind == RAISED}.values())


def slowed(absences: Iterable[Absence]) -> list[str]:
    """What makes measuring slower because the model works otherwise, once each."""
    return list({one.capability: one.words for one in absences if one.kind == DIFFERS}.values())


def find_capabilities(
    model: LayeredModel,
    *,
    longest: int,
    branch: int = 4,
    generates: bool = False,
    wanted: Capabilities = EVERYTHING,
    prefix: int | None = None,
    saves: float = math.inf,
    absences: list[Absence] | None = None,
) -> Capabilities:
    """Try each capability that is wanted.

    Args:
        model: the model to try.
        longest: the longest context that will be measured, in tokens, with what is generated.
        branch: the longest choice, in tokens.
        generates: whether text is generated, and not choices compared.
        wanted: the capabilities that would save anything; others are not tried.
        prefix: the tokens that all contexts begin with; half of ``longest`` where not given.
        saves: tokens times layers that will not be read if all that is wanted is found; a trial at
            full length that costs more is not made.
        absences: is given the reason of every capability that is not found.

    Raises:
        UnsupportedModelError: leaving a layer out changes nothing, so there is nothing to search.
    """
    # A prompt has nothing after it to share its tokens with: one choice is enough to compare.
    choices, branch = 1 if generates else 2, max(branch, 2)
    if model.longest_input is not None:  # the longest context and choice may be of two examples
        longest = min(longest, model.longest_input - branch)
    longest = max(longest, 4)
    absences = [] if absences is None else absences
    prefix = longest // 2 if prefix is None else prefix
    whole = LayerPath.whole(model.depth)
    short = _Trial(
        model,
        whole,
        (min(longest, SHORT_CONTEXT), min(branch, SHORT_BRANCH)),
        prefix=prefix,
        examples=2,
        choices=choices,
    )
    short.check_that_layers_matter()
    trials, paid = [short], math.inf
    if (longest, branch) != short.size and any(wanted):
        tokens = short.tokens(0, longest)
        path = whole if model.minds_length(longest + branch) else model.one_of_each_kind(tokens)
        paid = saves / (longest * path.depth)
        full = _Trial(
            model,
            path,
            (longest, branch),
            prefix=prefix,
            examples=1,
            choices=choices,
            least_noise=lambda: short.noise,
        )
        trials.append(full)

    untried = _untried(wanted, paid, f"trying it with {longest} tokens")

    def lacks(name: str, tried: Capabilities) -> bool:
        if name in untried:
            found = iter([Absence(name, NOT_TRIED, untried[name])])
        else:
            found = filter(None, (trial.absence(name, tried) for trial in trials))
        first = next(found, None)
        absences.extend([first] if first else [])
        return first is not None

    found = PLAIN
    if not lacks("keeps_prefix", tried := found._replace(keeps_prefix=True)):
        found = tried
    if generates:
        # A prompt is one row, whatever it is that may follow.
        tried = found._replace(shares_context=True, continues=True)
        return tried._replace(continues=not lacks("continues", tried))
    if lacks("shares_context", tried := found._replace(shares_context=True)):
        return found
    found = tried
    if len(trials) > 1:  # one example is nothing to pack, two of different lengths go in one row
        trials[1] = trials[1].with_examples(2)
    if lacks("packs", tried := found._replace(packs=True)):
        return found
    found = tried
    return found if lacks("padding_free", tried := found._replace(padding_free=True)) else tried


def _untried(wanted: Capabilities, paid: float, trying: str) -> dict[str, str]:
    """The capabilities that are not tried, and why.

    Args:
        wanted: those that would save anything.
        paid: how often a trial may read the longest example before it costs more than is saved.
        trying: what a trial is, for the reason.
    """
    dear = f"{trying} would take longer than it saves"
    reads = dict.fromkeys(Capabilities._fields, FULL_LENGTH_READS)
    reads["packs"] += PACKED_READS
    reads["padding_free"] += PACKED_READS
    found = {name: dear for name, count in reads.items() if paid < count}
    return found | {
        name: "there is too little to share"
        for name, is_wanted in wanted._asdict().items()
        if not is_wanted
    }


class _Trial:
    """Made-up examples of different lengths on a path, and what the plain way gives for them.

    ``size`` is the longest context and the longest choice, in tokens; ``least_noise`` what padding
    is known to change already.
    """

    def __init__(
        self,
        model: LayeredModel,
        path: LayerPath,
        size: tuple[int, int],
        *,
        prefix: int,
        examples: int,
        choices: int,
        least_noise: Callable[[], float] = float,
    ) -> None:
        self.model = model
        self.path = path
        self.size = size
        self.choices = choices
        self._least_noise = least_noise
        longest, _ = size
        self.prefix = self.tokens(0, min(prefix, longest // 2 if examples > 1 else longest - 1))
        self.examples = self._examples(examples)

    def with_examples(self, count: int) -> _Trial:
        """The same trial with another number of examples."""
        other = copy(self)
        other.__dict__.pop("plain", None)  # what was found for these examples
        other.__dict__.pop("noise", None)
        other.examples = self._examples(count)
        return other

    def _examples(self, count: int) -> list[EncodedExample]:
        longest, branch = self.size
        own = longest - len(self.prefix)
        return [self._example(i, max(1, own // (i + 1)), branch) for i in range(count)]

    @cached_property
    def plain(self) -> list[list[float]]:
        """The log-likelihoods that the plain way gives."""
        return self._logliks(PLAIN, self.path)

    @cached_property
    def noise(self) -> float:
        """What it changes to read each example, or the last choice of a single one, alone."""
        if len(self.examples) > 1:
            alone = [self._logliks(PLAIN, self.path, [one])[0] for one in self.examples]
            return max(self._least_noise(), _difference(self.plain, alone))
        alone = self._logliks(PLAIN, self.path, [_last_choice_of(self.examples[0])])
        return max(self._least_noise(), _difference([self.plain[0][-1:]], alone))

    def absence(self, name: str, tried: Capabilities) -> Absence | None:
        """Why the model lacks one of the capabilities that are tried; None where it has it."""
        continues = name == "continues"
        expected = self._recomputed_logits() if continues else self.plain
        try:
            found = self._continued_logits(tried) if continues else self._logliks(tried, self.path)
        except BatchTooLargeError:
            raise
        except OtherAttentionError as problem:
            return Absence(name, DIFFERS, str(problem))
        except Exception as problem:  # whatever a model raises, it cannot do this
            return Absence(name, RAISED, line_of(problem))
        largest = max(abs(x) for row in expected for x in row)
        steps = STEPS * torch.finfo(self.model.dtype).eps
        allowed = max(NOISE_FACTOR * self.noise, steps * largest)
        difference = _difference(expected, found)
        if difference <= allowed:
            return None
        what = "logits" if continues else "log-likelihoods"
        reason = (
            f"with {self.size[0]} tokens its {what} differ by {difference:.1e}, where rounding "
            f"explains {allowed:.1e}"
        )
        return Absence(name, DIFFERS, reason)

    def check_that_layers_matter(self) -> None:
        """See `find_capabilities`."""
        depth = self.model.depth
        if depth < 2:
            raise UnsupportedModelError("the model has a single layer, so none can be left out")
        last = [_last_choice_of(self.examples[-1])]
        without = self.path.without(depth // 2)
        if self._logliks(PLAIN, without, last) == self._logliks(PLAIN, self.path, last):
            raise UnsupportedModelError(
                f"leaving layer {depth // 2} out of {type(self.model.model).__name__} changes "
                "nothing, so its layers are not where telltale looks for them; this architecture "
                "is not supported"
            )

    def _logliks(
        self,
        capabilities: Capabilities,
        path: LayerPath,
        examples: list[EncodedExample] | None = None,
    ) -> list[list[float]]:
        examples = examples or self.examples
        engine = self._engine(examples, Choosing(Scoring.LOGLIK), capabilities)
        (measurement,) = engine([path], [Batch(tuple(range(len(examples))))])
        return [[choice.loglik for choice in one.choices] for one in measurement.outcomes]

    def _continued_logits(self, capabilities: Capabilities) -> list[list[float]]:
        """The logits after each of a few given tokens, going on from keys and values."""
        dictation = _Dictation([example.choices[0] for example in self.examples])
        prompts = [replace(example, choices=(), sizes=()) for example in self.examples]
        engine = self._engine(prompts, dictation, capabilities)
        list(engine([self.path], [Batch(tuple(range(len(prompts))))]))
        return dictation.logits

    def _recomputed_logits(self) -> list[list[float]]:
        """The same, each text alone and from its beginning."""
        found: list[list[float]] = []
        for example in self.examples:
            text = torch.tensor([[*example.context, *example.choices[0]]], device=self.model.device)
            hidden = self.model.run_path(self.path, self.model.prepare(text))[0]
            logits = self.model.logits(hidden[len(example.context) - 1 :])
            found.append(logits.float().flatten().tolist())
        return found

    def _engine(
        self, examples: list[EncodedExample], reader: Reader, capabilities: Capabilities
    ) -> SharedEngine:
        """An engine that is called once, with room for a token prefix whatever its length."""
        return SharedEngine(
            self.model,
            examples,
            reader,
            capabilities=capabilities,
            token_prefix=self.prefix,
            store=StateStore(sys.maxsize),
        )

    def _example(self, number: int, length: int, branch: int) -> EncodedExample:
        choices = tuple(self.tokens(100 * (i + 1), branch - i % 2) for i in range(self.choices))
        context = self.prefix + self.tokens(7 + number, length)
        sizes = tuple(ChoiceSize(len(choice), 0, 0) for choice in choices)
        return EncodedExample(context, choices, sizes, answer=0)

    def tokens(self, start: int, length: int) -> tuple[int, ...]:
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
    ) -> Callable[[], tuple[Outcome, ...]]:
        """Read one batch; there are no outcomes."""
        of_rows = [[row] for row in model.logits(last_states(walked))]
        rows = continuation(model, walked, len(self._texts[0]))
        for tokens in zip(*self._texts, strict=True):
            found = rows.step(torch.tensor(tokens, device=model.device))
            for logits, row in zip(of_rows, found, strict=True):
                logits.append(row)
        self.logits = [torch.stack(logits).float().flatten().tolist() for logits in of_rows]
        return tuple


def _last_choice_of(example: EncodedExample) -> EncodedExample:
    return replace(example, choices=example.choices[-1:], sizes=example.sizes[-1:])


def line_of(problem: Exception) -> str:
    """An exception's type and the beginning of its message, on one line."""
    text = " ".join(f"{type(problem).__name__}: {problem}".split()).rstrip(":")
    return text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + "..."


def _difference(one: list[list[float]], other: list[list[float]]) -> float:
    return max(
        abs(a - b)
        for row_one, row_other in zip(one, other, strict=True)
        for a, b in zip(row_one, row_other, strict=True)
    )
