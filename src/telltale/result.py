"""What a finished search says: the numbers of ``result.json``, and one plain sentence.

Made of outcomes alone. The document holds no path and no time outside ``cost``, so equal studies
give equal documents. ``VERSION`` rises when the meaning of a field changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from telltale.measure import accuracy
from telltale.stats import Interval, paired_gain, wilson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from telltale.measure import Outcome
    from telltale.paths import LayerPath
    from telltale.searches import Kept, Removal, Round

VERSION = 1


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A model on examples that the search never saw, and against the whole model on the same.

    ``counts`` is what `generation_counts` gives.
    """

    accuracy: float
    interval: Interval
    gain: float
    gain_interval: Interval
    examples: int
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class NamedModel:
    """BEST, BSBA or the whole model, with its evidence.

    ``search_counts`` is what `generation_counts` gives on the search set. ``perplexity`` is a
    token's, on text that has nothing to do with the task.
    """

    kept: Kept
    parameters: int
    held_out: HeldOut
    search_counts: Mapping[str, int]
    perplexity: float

    def document(self) -> dict[str, Any]:
        """Its part of ``result.json``."""
        return {
            "removed": list(self.kept.removed),
            "layers": self.kept.path.depth,
            "parameters": self.parameters,
            "search": {"accuracy": self.kept.accuracy, **self.search_counts},
            "held_out": {
                "accuracy": self.held_out.accuracy,
                "interval": list(self.held_out.interval),
                "gain": self.held_out.gain,
                "gain_interval": list(self.held_out.gain_interval),
                **self.held_out.counts,
            },
            "text_perplexity": self.perplexity,
        }


def held_out_evidence(whole: Mapping[int, Outcome], shallower: Mapping[int, Outcome]) -> HeldOut:
    """Compare two models on the same examples."""
    order = sorted(whole)
    before = [whole[example].score for example in order]
    after = [shallower[example].score for example in order]
    gain, gain_interval = paired_gain(before, after)
    # The whole model against itself has no gain for certain, whatever the number of examples.
    certain = whole is shallower
    return HeldOut(
        accuracy=accuracy(shallower.values()),
        interval=wilson(sum(after), len(after)),
        gain=gain,
        gain_interval=Interval(0.0, 0.0) if certain else gain_interval,
        examples=len(order),
        counts=generation_counts(shallower.values()),
    )


def generation_counts(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """How many texts held no answer, and how many the token limit cut off; nothing for choices."""
    texts = [outcome for outcome in outcomes if outcome.generated is not None]
    if not texts:
        return {}
    return {
        "unparsable": sum(outcome.answer is None for outcome in texts),
        "cut_off": sum(one.generated.cut_off for one in texts if one.generated is not None),
    }


def verdict(removal: Removal, best: HeldOut) -> str:
    """Whether BEST's gain is shown, in one sentence."""
    removed = sorted(removal.best.removed)
    if not removed:
        return (
            "Nothing is worth removing: every shallower model that was tried is less accurate on "
            "the search set than the whole model."
        )
    layers = f"layer{'s' if len(removed) > 1 else ''} {', '.join(map(str, removed))}"
    where = f"on {best.examples} examples that the search never saw"
    interval = f"95% interval {points(best.gain_interval.low)} to {points(best.gain_interval.high)}"
    if best.gain_interval.low > 0:
        return (
            f"The gain is shown: without {layers} the model is {points(best.gain)} points more "
            f"accurate {where} ({interval})."
        )
    if best.gain_interval.high < 0:
        return (
            f"A loss is shown: without {layers} the model is {points(best.gain)} points less "
            f"accurate {where} ({interval})."
        )
    return (
        f"No gain is shown: without {layers} the model's accuracy changes by {points(best.gain)} "
        f"points {where}, and the {interval} holds zero."
    )


def points(share: float) -> str:
    """A difference of shares as signed percentage points: ``+4.1``."""
    return f"{100 * share:+.1f}"


def round_document(done: Round) -> dict[str, Any]:
    """A round's part of ``result.json``."""
    return {
        "removed": done.removed,
        "accepted": done.accepted,
        "candidates": {str(layer): done.candidates[layer] for layer in sorted(done.candidates)},
    }


def named_models(
    removal: Removal,
    searched: Mapping[LayerPath, Mapping[int, Outcome]],
    held_out: Mapping[LayerPath, Mapping[int, Outcome]],
    parameters: Mapping[LayerPath, int],
    perplexities: Mapping[LayerPath, float],
) -> dict[str, NamedModel]:
    """The three models a search names, each with its evidence, all by path."""
    whole = held_out[removal.start]
    kept = {"baseline": removal.kept[0], "best": removal.best, "bsba": removal.bsba}
    return {
        name: NamedModel(
            model,
            parameters[model.path],
            held_out_evidence(whole, held_out[model.path]),
            generation_counts(searched[model.path].values()),
            perplexities[model.path],
        )
        for name, model in kept.items()
    }
