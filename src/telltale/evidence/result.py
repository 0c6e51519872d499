"""What a finished search says: the numbers of ``result.json``, and its verdict in plain words.

Made of outcomes, and of how many searches had looked at the held-out examples before. The document
holds no path and no time outside ``cost``, so equal studies give equal documents. ``VERSION`` rises
when the meaning of a field changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from telltale.support.words import layers_named, points

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from telltale.evidence.comparison import Comparison
    from telltale.evidence.selection import Claims, Level
    from telltale.paths import LayerPath
    from telltale.searches import Kept, Removal, Round

VERSION = 2
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
    and ``fastest_safe`` are None where nothing is shown; ``claims`` says why.
    """

    path: Sequence[PathModel]
    best: PathModel
    bsba: PathModel
    confirmed_best: PathModel | None
    fastest_safe: PathModel | None
    claims: Claims

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
            "claims": self._claims(),
        }

    def _claims(self) -> dict[str, Any]:
        """At what levels, and of which models, it was asked whether they are safe."""
        return {
            "looks_before": self.claims.level.looks,  # None where it is not known
            "gain_level": self.claims.level.gain,
            "safety_level": self.claims.level.safety,
            "asked": [
                {
                    "removed": list(one.model.removed),
                    "p_value": one.p_value,
                    "level": one.level,
                    "certified": one.certified,
                }
                for one in self.claims.asked
            ],
        }


def findings(removal: Removal, models: Mapping[LayerPath, PathModel], claims: Claims) -> Findings:
    """The models of a search by the names that it and the held-out set give them."""

    def evidence(model: Kept | None) -> PathModel | None:
        return None if model is None else models[model.path]

    return Findings(
        path=[models[model.path] for model in removal.kept],
        best=models[removal.best.path],
        bsba=models[removal.bsba.path],
        confirmed_best=evidence(claims.confirmed_best),
        fastest_safe=evidence(claims.fastest_safe),
        claims=claims,
    )


def verdict(found: Findings, max_loss: float, confidence: float) -> str:
    """Whether a gain is shown, and what is certified, in plain words.

    Args:
        found: the models, with their evidence.
        max_loss: what the model that is called safe may lose.
        confidence: of the intervals, and of what is certified.
    """
    if len(found.path) == 1:
        return (
            "No layer should go: without any one of those that were tried the model falls below "
            "what the search may keep."
        )
    said = [_of_gain(found, confidence), *_of_safety(found, max_loss, confidence)]
    if found.claims.level.looks:
        said.append(_of_looks(found.claims.level, confidence))
    return " ".join(said)


def _of_gain(found: Findings, confidence: float) -> str:
    best = found.best
    if not best.kept.removed:
        return (
            "No gain is shown: on the search set no shallower model that was kept is more accurate "
            "than the whole model."
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
    seen = f"No gain is shown: {layers} the model's accuracy changes by {points(held_out.gain)} "
    if low <= 0:
        return f"{seen}points {where}, and the {interval} holds zero."
    wanted, got = _percent(found.claims.level.gain), _percent(held_out.risk(0.0))
    return (
        f"{seen}points {where} ({interval}); the chance of as much without a gain is {got}, and "
        f"{wanted} is wanted{' after the looks before' if found.claims.level.looks else ''}."
    )


def _of_safety(found: Findings, max_loss: float, confidence: float) -> list[str]:
    """Which model is certified, or why none is; and of one that seems to be, why it is not."""
    safe, asked = found.fastest_safe, found.claims.asked
    bounds = {one.kept.path: one.held_out.loses_at_most for one in found.path}
    allowed, certainty = f"{100 * max_loss:g} points", f"with {100 * confidence:g}% confidence"

    def at_most(model: Kept) -> str:
        return f"{100 * max(bounds[model.path], 0):.1f}"

    if safe is not None:
        said = [
            f"The shallowest model that is certified, {certainty}, to lose no more than {allowed} "
            f"lacks {layers_named(safe.kept.removed)}: it loses at most {at_most(safe.kept)}."
        ]
    else:
        nearest = min((one.model for one in asked), key=lambda model: bounds[model.path])
        said = [
            f"No shallower model is certified to lose at most {allowed} {certainty}: keep the "
            f"whole model, or hold out more examples. Without {layers_named(nearest.removed)}, "
            f"which comes closest, it loses at most {at_most(nearest)} points."
        ]
    alpha, deepest = 1 - confidence, 0 if safe is None else len(safe.kept.removed)
    missed = [
        one
        for one in asked
        if one.p_value <= alpha and not one.certified and len(one.model.removed) > deepest
    ]
    if missed:
        one = max(missed, key=lambda asked: len(asked.model.removed))
        reasons = [f"{len(asked)} models are asked about together"] if len(asked) > 1 else []
        reasons += ["other searches have looked"] if found.claims.level.looks else []
        said.append(
            f"Taken by itself, the model without {layers_named(one.model.removed)} loses at most "
            f"{at_most(one.model)} points. It is not certified, since {' and '.join(reasons)}: its "
            f"part of the chance of error of {_percent(alpha)} is {_percent(one.level)}, and it "
            f"would take {_percent(one.p_value)}."
        )
    return said


def _of_looks(level: Level, confidence: float) -> str:
    others = "1 other search" if level.looks == 1 else f"{level.looks} other searches"
    return (
        f"Since {others} of this model had looked at some of these held-out examples, what is said "
        f"to be shown or certified is allowed a chance of error of {_percent(level.safety)} "
        f"instead of {_percent(1 - confidence)}; hold out examples that no search has looked at to "
        "get the full one."
    )


def _percent(share: float) -> str:
    """A chance of error, small ones too."""
    return f"{100 * share:.2g}%"


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
