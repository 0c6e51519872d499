"""What a finished study says: one value, from the study to report, export, tracking and screen.

Made of outcomes, and of how many searches had looked at the held-out examples before. Knows no
file; `telltale.evidence.document` says how it is written.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from telltale.evidence.calibration import RAW, sentences
from telltale.evidence.document import VERSION, document_of, parts_from
from telltale.evidence.parts import NAMED, Cost, FinalLook, PathModel, Searched, Text
from telltale.moved import GONE_IN
from telltale.support.words import layers_named, points

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from telltale.evidence.calibration import Calibration
    from telltale.evidence.comparison import Comparison
    from telltale.evidence.selection import Claims, Level
    from telltale.evidence.targets import Chosen
    from telltale.paths import LayerPath
    from telltale.searches import Found, Kept

__all__ = [
    "NAMED",
    "SHOWN_FIRST",
    "Cost",
    "FinalLook",
    "PathModel",
    "Result",
    "Searched",
    "Text",
    "result_from",
    "verdict",
    "with_names",
    "with_target",
]

SHOWN_FIRST = (
    "target",
    "confirmed_best",
    "fastest_safe",
    "best",
    "bsba",
)  # the first that removes a layer


@dataclass(frozen=True, kw_only=True)
class Result(Searched):
    """A finished study, whole: what was searched, what was found, and how far it is shown.

    The models that have a name are found by it; ``confirmed_best`` and ``fastest_safe`` are None
    where nothing is shown, and ``claims`` says why.

    Attributes:
        fingerprint: a hash of all that decides the outcomes.
        layer_scores: the scores of layers that the search went by, by their names.
        claims: at what level claims are made, and of which models; None in a study of an earlier
            version.
        final: what the final set said; None where it was not looked at.
        verdict: whether a gain is shown and what is certified, in plain words.
        cautions: sentences that a reader should be told, without a full stop.
        text: the page on which perplexity was measured.
        cost: work and time.
        held_out_looks: how many other searches had looked at the held-out examples; kept beside
            the document.
        calibration: the whole model and those with a name, each as it is and calibrated; None
            where no choices are compared, and in a study of an earlier version.
        target: the model that was chosen by targets and prices; None where none were given.
        version: of the document.
        lacks: fields that the version that wrote the document did not write.
    """

    fingerprint: str
    layer_scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    claims: Claims | None
    final: FinalLook | None
    verdict: str
    cautions: tuple[str, ...]
    text: Text
    cost: Cost
    held_out_looks: int | None = None
    calibration: Calibration | None = None
    target: Chosen | None = None
    version: int = VERSION
    lacks: frozenset[str] = frozenset()

    @property
    def is_finished(self) -> bool:
        """Whether more than the search set is known."""
        return True

    @property
    def document(self) -> dict[str, Any]:
        """What ``result.json`` holds."""
        return document_of(self)

    @property
    def baseline(self) -> PathModel:
        """The whole model."""
        return self.models[0]

    @property
    def best(self) -> PathModel:
        """BEST: the highest accuracy on the search set."""
        return self._the("best")

    @property
    def bsba(self) -> PathModel:
        """BSBA: the shallowest at least as accurate as the whole model on the search set."""
        return self._the("bsba")

    @property
    def confirmed_best(self) -> PathModel | None:
        """BEST where its gain is shown."""
        return self.by_name("confirmed_best")

    @property
    def fastest_safe(self) -> PathModel | None:
        """The shallowest model that is certified."""
        return self.by_name("fastest_safe")

    def by_name(self, name: str) -> PathModel | None:
        """The model of a name of `NAMED`; None where none has it."""
        return next((one for one in self.models if name in one.names), None)

    def _the(self, name: str) -> PathModel:
        found = self.by_name(name)
        assert found is not None
        return found

    @property
    def recommended(self) -> str | None:
        """By what name the model to take is known; None where it is the whole one."""
        names = ("confirmed_best", "fastest_safe")
        return next((name for name in names if self.by_name(name) is not None), None)

    @property
    def target_said(self) -> str | None:
        """What came of the targets, in sentences; None where none were given."""
        if self.target is None:
            return None
        model = next(one for one in self.models if one.removed == self.target.removed)
        return self.target.said(model.held_out, self.confidence)

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

    @property
    def shown_first(self) -> PathModel | None:
        """The model to look at first; None where no layer is removed.

        That is the one chosen by targets, where they are met; else the one recommended, BEST or
        BSBA, else the one that lacks fewest layers.
        """
        named = [model for name in SHOWN_FIRST if (model := self.by_name(name)) is not None]
        shallower = [model for model in (*named, *self.models) if model.removed]
        return shallower[0] if shallower else None

    # What a result had before it was one value; for a release.

    @property
    def findings(self) -> Result:
        """The result itself. Deprecated."""
        _deprecated("Result.findings", "the Result itself")
        return self

    @property
    def path(self) -> tuple[PathModel, ...]:
        """Every model kept. Deprecated: `models`."""
        _deprecated("Result.path", "Result.models")
        return self.models

    def get(self, name: str, default: Any = None) -> Any:
        """A field of the document. Deprecated: `document`."""
        _deprecated("a result as a document", "Result.document")
        return self.document.get(name, default)

    def keys(self) -> Iterable[str]:
        """The fields of the document. Deprecated: `document`."""
        _deprecated("a result as a document", "Result.document")
        return self.document.keys()

    def __iter__(self) -> Iterator[str]:
        _deprecated("a result as a document", "Result.document")
        return iter(self.document)

    def __contains__(self, name: str) -> bool:
        _deprecated("a result as a document", "Result.document")
        return name in self.document

    def __getitem__(self, name: str) -> Any:
        """A field of the document, for watchers that were told it. Deprecated: `document`."""
        said = f"a watcher is told a Result, which is no mapping from release {GONE_IN} on; use "
        warnings.warn(f"{said}Result.document[{name!r}]", DeprecationWarning, stacklevel=2)
        return self.document[name]


def _deprecated(old: str, new: str) -> None:
    said = f"{old} goes in release {GONE_IN}; use {new}"
    warnings.warn(said, DeprecationWarning, stacklevel=3)


if not TYPE_CHECKING:  # a type checker is to know what this module has and what it has not

    def __getattr__(name: str) -> Any:
        if name != "Findings":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        _deprecated("telltale.evidence.result.Findings", "telltale.study.Result")
        return Result


def result_from(document: Mapping[str, Any], held_out_looks: int | None) -> Result:
    """The result that a document was made of.

    Args:
        document: what ``result.json`` holds.
        held_out_looks: how many other searches had looked at the held-out examples.
    """
    return Result(**parts_from(document), held_out_looks=held_out_looks)


def with_names(
    found: Found, models: Mapping[LayerPath, PathModel], claims: Claims
) -> tuple[PathModel, ...]:
    """The models that a search has kept, each with the names that it and the claims give it."""
    named: dict[str, Kept | None] = {
        "best": found.best,
        "bsba": found.bsba,
        "confirmed_best": claims.confirmed_best,
        "fastest_safe": claims.fastest_safe,
    }
    return tuple(
        replace(
            models[kept.path],
            names=tuple(name for name, one in named.items() if one and one.path == kept.path),
        )
        for kept in found.kept
    )


def with_target(result: Result, target: Chosen) -> Result:
    """A result that says which model was chosen by targets, where one meets them, by its name."""

    def named(model: PathModel) -> PathModel:
        is_it = target.is_met and model.removed == target.removed
        return replace(model, names=(*model.names, "target")) if is_it else model

    return replace(result, target=target, models=tuple(map(named, result.models)))


def verdict(
    found: Found,
    held_out: Mapping[LayerPath, Comparison],
    claims: Claims,
    max_loss: float,
    confidence: float,
    *,
    calibration: Calibration | None = None,
    scoring: str = RAW,
) -> str:
    """Whether a gain is shown, and what is certified, in plain words.

    Args:
        found: the search.
        held_out: each model that it kept beside the whole one on the held-out set.
        claims: what that set shows.
        max_loss: what the model that is called safe may lose.
        confidence: of the intervals, and of what is certified.
        calibration: what calibration does to the models; None where no choices are compared.
        scoring: how choices are judged here.
    """
    of_bias = (
        []
        if calibration is None
        else sentences(
            calibration,
            found.best.removed,
            scoring,
            confidence,
            is_shown=claims.confirmed_best is not None,
        )
    )
    if len(found.kept) == 1:
        nothing = (
            "No layer should go: without any one of those that were tried the model falls below "
            "what the search may keep."
        )
        return " ".join([nothing, *of_bias])
    said = [
        _of_gain(found.best, held_out[found.best.path], claims, confidence),
        *of_bias,
        *_of_safety(held_out, claims, max_loss, confidence),
    ]
    if claims.level.looks:
        said.append(_of_looks(claims.level, confidence))
    return " ".join(said)


def _of_gain(best: Kept, held_out: Comparison, claims: Claims, confidence: float) -> str:
    if not best.removed:
        return (
            "No gain is shown: on the search set no shallower model that was kept is more accurate "
            "than the whole model."
        )
    low, high = held_out.gain_interval
    where = f"on {held_out.examples} examples that the search never saw"
    interval = f"{100 * confidence:g}% interval {points(low)} to {points(high)}"
    layers = f"without {layers_named(best.removed)}"
    if claims.confirmed_best is not None:
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
    wanted, got = _percent(claims.level.gain), _percent(held_out.risk(0.0))
    return (
        f"{seen}points {where} ({interval}); the chance of as much without a gain is {got}, and "
        f"{wanted} is wanted{' after the looks before' if claims.level.looks else ''}."
    )


def _of_safety(
    held_out: Mapping[LayerPath, Comparison], claims: Claims, max_loss: float, confidence: float
) -> list[str]:
    """Which model is certified, or why none is; and of one that seems to be, why it is not."""
    safe, asked = claims.fastest_safe, claims.asked
    bounds = {path: one.loses_at_most for path, one in held_out.items()}
    allowed, certainty = f"{100 * max_loss:g} points", f"with {100 * confidence:g}% confidence"

    def at_most(model: Kept) -> str:
        return f"{100 * max(bounds[model.path], 0):.1f}"

    if safe is not None:
        said = [
            f"The shallowest model that is certified, {certainty}, to lose no more than {allowed} "
            f"lacks {layers_named(safe.removed)}: it loses at most {at_most(safe)}."
        ]
    else:
        nearest = min((one.model for one in asked), key=lambda model: bounds[model.path])
        said = [
            f"No shallower model is certified to lose at most {allowed} {certainty}: keep the "
            f"whole model, or hold out more examples. Without {layers_named(nearest.removed)}, "
            f"which comes closest, it loses at most {at_most(nearest)} points."
        ]
    alpha, deepest = 1 - confidence, 0 if safe is None else len(safe.removed)
    missed = [
        one
        for one in asked
        if one.p_value <= alpha and not one.certified and len(one.model.removed) > deepest
    ]
    if missed:
        one = max(missed, key=lambda asked: len(asked.model.removed))
        reasons = [f"{len(asked)} models are asked about together"] if len(asked) > 1 else []
        reasons += ["other searches have looked"] if claims.level.looks else []
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
