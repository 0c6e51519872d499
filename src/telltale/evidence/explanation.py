"""Why layers go: what an explanation says of every layer, as a value and as ``explain.json``.

Made of numbers alone; `telltale.study.explaining` measures them. The one place that knows the
document's form; docs/reference/explain.md describes it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from telltale.errors import InputError
from telltale.support.files import read_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FILE = "explain.json"
VERSION = 1  # rises when the meaning of a field changes
ADDS, SUPPRESSES, CANNOT_TELL = "adds", "suppresses", "cannot tell"
# The measures of a layer that are told beside its information, as fields of a document.
MEASURES = (
    "taylor",
    "taylor_absolute",
    "taylor_squared",
    "block_influence",
    "angular_distance",
    "magnitude",
    "joint",
)


@dataclass(frozen=True, slots=True)
class Bits:
    """An amount of information in bits, its 95% interval, and what shuffled answers give."""

    bits: float
    interval: tuple[float, float]
    null: float


@dataclass(frozen=True, slots=True)
class Read:
    """What one estimator finds in the state after a layer: how much, and how much more than before.

    Both are None where the examples have no classes to tell apart.
    """

    information: Bits | None = None
    change: Bits | None = None


@dataclass(frozen=True, slots=True)
class LayerExplained:
    """What is known of one layer: on a path, unless that leaves it out, and in the whole model.

    Attributes:
        layer: its index in the whole model.
        probe: by a linear probe, fitted out of fold.
        neighbours: by nearest neighbours.
        verdict: whether the layer ``adds`` information on the answer or ``suppresses`` it, or
            ``cannot tell``; None where it is left out.
        lens_accuracy: that of the model's own final norm and head on the state after the layer.
        lens_bits: what they tell of the answer there, in bits; below 0 where they mislead.
        measures: by the names of `MEASURES`; the higher, the more the layer is needed.
        single_removal: the whole model's accuracy without it; None where it was not measured.
        single_likelihood: the mean log-likelihood of right answers without it, in nats.
    """

    layer: int
    probe: Read = Read()
    neighbours: Read = Read()
    verdict: str | None = None
    lens_accuracy: float | None = None
    lens_bits: float | None = None
    measures: Mapping[str, float] = field(default_factory=dict)
    single_removal: float | None = None
    single_likelihood: float | None = None


@dataclass(frozen=True, slots=True)
class Predicted:
    """How the order of layers by a measure agrees with that by what is lost without each.

    ``rank_correlation`` is Spearman's; ``p_value`` is of a permutation test, two-sided, and
    ``corrected`` minds that several measures are asked (Holm). ``chosen`` is how many of the
    layers removed are among as many that the measure ranks lowest; None where none is removed.
    """

    rank_correlation: float
    p_value: float
    corrected: float
    chosen: int | None = None


@dataclass(frozen=True, slots=True)
class PairMap:
    """How leaving out two layers differs from the sum of leaving out each.

    ``likelihood`` and ``accuracy`` are matrices over ``layers``, symmetric, 0 on the diagonal: the
    loss without both, less both losses; above 0 where two layers stand in for each other.
    """

    layers: tuple[int, ...]
    likelihood: tuple[tuple[float, ...], ...]
    accuracy: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why layers of a model may go for a task.

    Attributes:
        model: its name, revision, hash, layers and precision.
        task: its name, how it is asked, and ``examples``, how many are looked at.
        removed: the layers that the path leaves out.
        classes: what the answers are, as they are told apart; empty where they have no classes.
        entropy: that of the answers, in bits: the most that a state can tell.
        accuracy: the path's, on these examples.
        before: what the state before the first layer tells.
        layers: the path's, by index, all of the model.
        whole: the same of the whole model; as ``layers`` where nothing is removed.
        whole_accuracy: the whole model's.
        predictions: by the names of `MEASURES` and ``information``.
        pairs: None where it was not measured.
        conclusions: what follows, in sentences.
        cautions: sentences that a reader should be told, without a full stop.
        cost: ``seconds`` and ``layer_tokens``.
    """

    model: Mapping[str, Any]
    task: Mapping[str, Any]
    removed: tuple[int, ...]
    classes: tuple[str, ...]
    entropy: float | None
    accuracy: float
    before: Read
    layers: tuple[LayerExplained, ...]
    whole: tuple[LayerExplained, ...]
    whole_accuracy: float
    predictions: Mapping[str, Predicted]
    pairs: PairMap | None
    conclusions: tuple[str, ...]
    cautions: tuple[str, ...]
    cost: Mapping[str, Any]

    @property
    def kept(self) -> tuple[LayerExplained, ...]:
        """The layers of the path."""
        gone = set(self.removed)
        return tuple(one for one in self.layers if one.layer not in gone)

    @property
    def document(self) -> dict[str, Any]:
        """What ``explain.json`` holds."""
        return {
            "version": VERSION,
            "model": dict(self.model),
            "task": dict(self.task),
            "removed": list(self.removed),
            "classes": list(self.classes),
            "entropy": self.entropy,
            "accuracy": self.accuracy,
            "whole_accuracy": self.whole_accuracy,
            "before": _read(self.before),
            "layers": [_layer(one) for one in self.layers],
            "whole": [_layer(one) for one in self.whole],
            "predictions": {
                name: {
                    "rank_correlation": one.rank_correlation,
                    "p_value": one.p_value,
                    "corrected_p_value": one.corrected,
                    "chosen": one.chosen,
                }
                for name, one in self.predictions.items()
            },
            "pairs": None if self.pairs is None else asdict(self.pairs),
            "conclusions": list(self.conclusions),
            "cautions": list(self.cautions),
            "cost": dict(self.cost),
        }


def _bits(found: Bits | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"bits": found.bits, "interval": list(found.interval), "null": found.null}


def _read(found: Read) -> dict[str, Any]:
    return {"information": _bits(found.information), "change": _bits(found.change)}


def _layer(one: LayerExplained) -> dict[str, Any]:
    """A layer as JSON values: what the probe finds is the layer's own, the other's is beside it."""
    return {
        "layer": one.layer,
        **_read(one.probe),
        "neighbours": _read(one.neighbours),
        "verdict": one.verdict,
        "lens_accuracy": one.lens_accuracy,
        "lens_bits": one.lens_bits,
        **{name: one.measures.get(name) for name in MEASURES},
        "single_removal": one.single_removal,
        "single_likelihood": one.single_likelihood,
    }


def read_explanation(folder: Path) -> Explanation:
    """Read a folder's explanation.

    Raises:
        InputError: it cannot be read, is of a version that is not known, or is damaged.
    """
    file = folder / FILE
    try:
        document = json.loads(read_text(file))
    except ValueError as problem:
        raise InputError(f"{file} is no JSON: {problem}; explain it again") from None
    try:
        return explanation_from(document)
    except InputError as problem:
        raise InputError(f"{file}: {problem}") from None


def explanation_from(document: Any) -> Explanation:
    """The explanation that a document was made of.

    Args:
        document: what ``explain.json`` holds.

    Raises:
        InputError: it is of a version that is not known, or no such document.
    """
    version = document.get("version") if isinstance(document, dict) else None
    if version != VERSION:
        raise InputError(
            f"an explanation of version {version!r} cannot be read, only one of version {VERSION}; "
            "explain it again with this release"
        )
    try:
        return _explanation_from(document)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise InputError(
            f"the explanation is damaged ({type(problem).__name__}: {problem}); explain it again"
        ) from None


def _explanation_from(document: Mapping[str, Any]) -> Explanation:
    pairs = document["pairs"]
    return Explanation(
        model=dict(document["model"]),
        task=dict(document["task"]),
        removed=tuple(document["removed"]),
        classes=tuple(document["classes"]),
        entropy=document["entropy"],
        accuracy=document["accuracy"],
        before=_read_from(document["before"]),
        layers=tuple(_layer_from(one) for one in document["layers"]),
        whole=tuple(_layer_from(one) for one in document["whole"]),
        whole_accuracy=document["whole_accuracy"],
        predictions={
            name: Predicted(
                one["rank_correlation"], one["p_value"], one["corrected_p_value"], one["chosen"]
            )
            for name, one in document["predictions"].items()
        },
        pairs=None
        if pairs is None
        else PairMap(
            tuple(pairs["layers"]),
            tuple(tuple(row) for row in pairs["likelihood"]),
            tuple(tuple(row) for row in pairs["accuracy"]),
        ),
        conclusions=tuple(document["conclusions"]),
        cautions=tuple(document["cautions"]),
        cost=dict(document["cost"]),
    )


def _bits_from(found: Mapping[str, Any] | None) -> Bits | None:
    if found is None:
        return None
    low, high = found["interval"]
    return Bits(found["bits"], (low, high), found["null"])


def _read_from(found: Mapping[str, Any]) -> Read:
    return Read(_bits_from(found["information"]), _bits_from(found["change"]))


def _layer_from(one: Mapping[str, Any]) -> LayerExplained:
    return LayerExplained(
        one["layer"],
        _read_from(one),
        _read_from(one["neighbours"]),
        one["verdict"],
        one["lens_accuracy"],
        one["lens_bits"],
        {name: one[name] for name in MEASURES if one[name] is not None},
        one["single_removal"],
        one["single_likelihood"],
    )


def layers_of(found: Sequence[LayerExplained], verdict: str) -> list[int]:
    """The layers of a verdict."""
    return [one.layer for one in found if one.verdict == verdict]
