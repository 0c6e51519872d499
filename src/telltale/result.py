"""What a finished search says: the numbers of ``result.json``, and its verdict in plain words.

Made of outcomes alone. The document holds no path and no time outside ``cost``, so equal studies
give equal documents. ``VERSION`` rises when the meaning of a field changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from telltale.words import layers_named, points

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from telltale.evidence import Comparison
    from telltale.searches import Kept, Round

VERSION = 1
# The models that a result names beside the whole one.
NAMED = ("best", "bsba", "confirmed_best", "fastest_safe")


@dataclass(frozen=True, slots=True)
class PathModel:
    """A model on the search's path, with its evidence.

    ``search_counts`` is what `generation_counts` gives on the search set. ``perplexity`` is a
    token's, on text that has nothing to do with the task. ``guards`` are its comparisons on each
    guard's own held-out examples.
    """

    kept: Kept
    parameters: int
    held_out: Comparison
    search_counts: Mapping[str, int]
    perplexity: float
    tokens_per_second: float
    guards: Mapping[str, Comparison]

    def document(self) -> dict[str, Any]:
        """Its part of ``result.json``."""
        return {
            "removed": list(self.kept.removed),
            "layers": self.kept.path.depth,
            "parameters": self.parameters,
            "search": {
                "accuracy": self.kept.accuracy,
                "objective": self.kept.value,
                **self.search_counts,
            },
            "held_out": self.held_out.document(),
            "loses_at_most": self.held_out.loses_at_most,
            "text_perplexity": self.perplexity,
            **({"guards": self._guards()} if self.guards else {}),
        }

    def _guards(self) -> dict[str, Any]:
        return {
            name: {**one.document(), "loses_at_most": one.loses_at_most, "examples": one.examples}
            for name, one in self.guards.items()
        }


@dataclass(frozen=True, slots=True)
class Findings:
    """The models of a finished search, by the names that it gives them.

    ``path`` has every model kept, the whole one first, each a layer shallower. ``confirmed_best``
    and ``fastest_safe`` are None where nothing is shown.
    """

    path: Sequence[PathModel]
    best: PathModel
    bsba: PathModel
    confirmed_best: PathModel | None
    fastest_safe: PathModel | None

    @property
    def baseline(self) -> PathModel:
        """The whole model."""
        return self.path[0]

    @property
    def recommended(self) -> str | None:
        """By what name the model to take is known; None where it is the whole one."""
        if self.confirmed_best is not None:
            return "confirmed_best"
        return "fastest_safe" if self.fastest_safe is not None else None

    @property
    def named(self) -> dict[str, PathModel]:
        """The models that have a name, the whole one first."""
        names = {
            "baseline": self.baseline,
            "best": self.best,
            "bsba": self.bsba,
            "fastest_safe": self.fastest_safe,
        }
        return {name: model for name, model in names.items() if model is not None}

    def documents(self) -> dict[str, Any]:
        """Their part of ``result.json``."""
        confirmed, safe = self.confirmed_best, self.fastest_safe
        return {
            "baseline": self.baseline.document(),
            "best": self.best.document(),
            "bsba": self.bsba.document(),
            "confirmed_best": None if confirmed is None else confirmed.document(),
            "fastest_safe": None if safe is None else safe.document(),
            "recommended": self.recommended,
            "path": [model.document() for model in self.path],
        }


def verdict(found: Findings, max_loss: float, confidence: float) -> str:
    """Whether BEST's gain is shown, and how shallow the model may safely be."""
    if len(found.path) == 1:
        return (
            "No layer should go: without any one of those that were tried the model falls below "
            "what the search may keep."
        )
    return f"{_of_gain(found, confidence)} {_of_safety(found, max_loss, confidence)}"


def _of_gain(found: Findings, confidence: float) -> str:
    best = found.best
    if not best.kept.removed:
        return (
            "No gain is to be had: every shallower model that was tried is less accurate on the "
            "search set than the whole model."
        )
    held_out = best.held_out
    low, high = held_out.gain_interval
    where = f"on {held_out.examples} examples that the search never saw"
    interval = f"{100 * confidence:g}% interval {points(low)} to {points(high)}"
    layers = f"without {layers_named(best.kept.removed)}"
    if found.confirmed_best is not None:
        return (
            f"The gain is shown: {layers} the model is {points(held_out.gain)} points more "
            f"accurate {where} ({interval})."
        )
    if high < 0:
        return (
            f"A loss is shown: {layers} the model is {points(held_out.gain)} points less "
            f"accurate {where} ({interval})."
        )
    return (
        f"No gain is shown: {layers} the model's accuracy changes by {points(held_out.gain)} "
        f"points {where}, and the {interval} holds zero."
    )


def _of_safety(found: Findings, max_loss: float, confidence: float) -> str:
    safe, allowed = found.fastest_safe, f"{100 * max_loss:g}"
    certainty = f"with {100 * confidence:g}% confidence"
    if safe is None:
        return (
            f"No shallower model is certified to lose at most {allowed} points {certainty}: keep "
            "the whole model, or hold out more examples."
        )
    return (
        f"The shallowest model that is certified, {certainty}, to lose no more than {allowed} "
        f"points lacks {layers_named(safe.kept.removed)}: it loses at most "
        f"{100 * max(safe.held_out.loses_at_most, 0):.1f}."
    )


def round_document(done: Round) -> dict[str, Any]:
    """A round's part of ``result.json``."""
    order = sorted(done.candidates)
    document: dict[str, Any] = {
        "removed": done.removed,
        "accepted": done.accepted,
        "candidates": {str(layer): done.candidates[layer] for layer in order},
        "objective": {str(layer): done.values[layer] for layer in order},
    }
    return {**document, "guarded": list(done.guarded)} if done.guarded else document
