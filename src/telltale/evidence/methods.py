"""Methods compared at equal depth: `Compared`, and ``compare.json``.

Made of numbers alone; `telltale.study.comparing` measures them. The one place that knows the
document's form; docs/reference/compare.md describes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from telltale.evidence.document import comparison_document, comparison_from
from telltale.evidence.stats import Interval
from telltale.support.files import read_versioned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from telltale.evidence.comparison import Comparison

FILE = "compare.json"
VERSION = 1  # rises when the meaning of a field changes
REFERENCE = "greedy"  # what every other method is compared with at equal depth


@dataclass(frozen=True, slots=True)
class ModelAtDepth:
    """A method's model of so many layers removed; or the whole one.

    Attributes:
        removed: the layers that it lacks, in order of removal.
        layers: how many it has.
        parameters: how many it has, embeddings included.
        accuracy: on the search set.
        objective: on the search set, the mean of what candidates are ranked by.
        held_out: it beside the whole model on the held-out set.
        over_greedy: its gain over `REFERENCE`'s model of the same depth, on the same held-out
            examples, and the interval of that; None where there is none.
    """

    removed: tuple[int, ...]
    layers: int
    parameters: int
    accuracy: float
    objective: float
    held_out: Comparison
    over_greedy: tuple[float, Interval] | None = None


@dataclass(frozen=True, slots=True)
class MethodCost:
    """What a method's search takes by itself, as the engine would run it, and nothing remembered.

    Attributes:
        layer_tokens: tokens times the layers that they go through, of the search set, of the text
            if it goes by one, and of the scores of layers it goes by (a pass with gradients counts
            as three).
        dense_passes: that in passes of the search set through the whole model.
        candidates: how many shallower models it has measured on the search set, or begun to.
        seconds: at the mean speed of all that the comparison has measured of its search sets.
    """

    layer_tokens: int
    dense_passes: float
    candidates: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Method:
    """A method: where it is from, its own settings, its cost, and its models by depth.

    A depth has None where the method has no model of it.
    """

    name: str
    source: str
    settings: Mapping[str, Any]
    cost: MethodCost
    depths: Mapping[int, ModelAtDepth | None]


@dataclass(frozen=True, slots=True)
class OtherModel:
    """A model that may be used instead of a shallower one, on the same held-out examples.

    Attributes:
        name: the model's.
        sha256: of its bytes.
        layers: how many it has.
        parameters: how many it has, embeddings included.
        held_out: it beside the whole model.
        over_greedy: by depth, its gain over `REFERENCE`'s model, and the interval of that; None
            where there is none.
        speed: how many times as fast as the whole model it does the task.
        speeds: by depth, the same of a model without so many layers.
    """

    name: str
    sha256: str
    layers: int
    parameters: int
    held_out: Comparison
    over_greedy: Mapping[int, tuple[float, Interval] | None]
    speed: float
    speeds: Mapping[int, float]

    @property
    def nearest(self) -> int | None:
        """The depth whose models are nearest to it in speed; None where none was timed."""

        def apart(depth: int) -> float:
            return abs(math.log(self.speeds[depth] / self.speed))

        return min(self.speeds, key=apart, default=None)


@dataclass(frozen=True, slots=True)
class Compared:
    """Methods at equal depth, on the same examples.

    Attributes:
        model: the whole model's name, revision, hash, layers, parameters and precision.
        task: what was asked, and how; the sizes of the sets.
        settings: what all methods are given.
        fingerprint: all that decides what was measured, as one hash.
        depths: how many layers are removed, ascending.
        baseline: the whole model.
        methods: in the order in which they were given.
        other: what may be used instead, where a model was given.
        cautions: sentences that a reader should be told, without a full stop.
        seconds: what measuring the search set and the text took for all methods together.
    """

    model: Mapping[str, Any]
    task: Mapping[str, Any]
    settings: Mapping[str, Any]
    fingerprint: str
    depths: tuple[int, ...]
    baseline: ModelAtDepth
    methods: tuple[Method, ...]
    other: OtherModel | None = None
    cautions: tuple[str, ...] = field(default=())
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """The model and the task, in words."""
        return f"{self.model['name']} on {self.task['name']}"

    @property
    def document(self) -> dict[str, Any]:
        """What ``compare.json`` holds."""
        return {
            "version": VERSION,
            "model": dict(self.model),
            "task": dict(self.task),
            "fingerprint": self.fingerprint,
            "search": dict(self.settings),
            "depths": list(self.depths),
            "baseline": _model_document(self.baseline),
            "methods": {one.name: _method_document(one) for one in self.methods},
            "against": None if self.other is None else _other_document(self.other),
            "cautions": list(self.cautions),
            "cost": {"seconds": self.seconds},
        }


def _model_document(one: ModelAtDepth | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "removed": list(one.removed),
        "layers": one.layers,
        "parameters": one.parameters,
        "search": {"accuracy": one.accuracy, "objective": one.objective},
        "held_out": comparison_document(one.held_out),
        "loses_at_most": one.held_out.loses_at_most,
        "over_greedy": _over_document(one.over_greedy),
    }


def _over_document(over: tuple[float, Interval] | None) -> dict[str, Any] | None:
    return None if over is None else {"gain": over[0], "interval": list(over[1])}


def _over_from(document: Mapping[str, Any] | None) -> tuple[float, Interval] | None:
    return None if document is None else (document["gain"], Interval(*document["interval"]))


def _other_document(one: OtherModel) -> dict[str, Any]:
    return {
        "name": one.name,
        "sha256": one.sha256,
        "layers": one.layers,
        "parameters": one.parameters,
        "held_out": comparison_document(one.held_out),
        "loses_at_most": one.held_out.loses_at_most,
        "over_greedy": {str(depth): _over_document(it) for depth, it in one.over_greedy.items()},
        "speed": one.speed,
        "speeds": {str(depth): speed for depth, speed in one.speeds.items()},
    }


def _other_from(document: Mapping[str, Any], examples: int) -> OtherModel:
    return OtherModel(
        name=document["name"],
        sha256=document["sha256"],
        layers=document["layers"],
        parameters=document["parameters"],
        held_out=comparison_from(document["held_out"], document["loses_at_most"], examples),
        over_greedy={int(n): _over_from(one) for n, one in document["over_greedy"].items()},
        speed=document["speed"],
        speeds={int(depth): speed for depth, speed in document["speeds"].items()},
    )


def _method_document(one: Method) -> dict[str, Any]:
    cost = one.cost
    return {
        "source": one.source,
        "settings": dict(one.settings),
        "cost": {
            "layer_tokens": cost.layer_tokens,
            "dense_passes": cost.dense_passes,
            "candidates": cost.candidates,
            "seconds": cost.seconds,
        },
        "depths": {str(depth): _model_document(model) for depth, model in one.depths.items()},
    }


def read_compared(folder: Path) -> Compared:
    """The comparison that a folder holds.

    Raises:
        InputError: it holds none, or one of another version.
    """
    document = read_versioned(folder / FILE, VERSION, "comparison", "telltale compare")
    examples = document["task"]["held_out_examples"]
    whole = _model_from(document["baseline"], examples)
    assert whole is not None
    return Compared(
        model=document["model"],
        task=document["task"],
        settings=document["search"],
        fingerprint=document["fingerprint"],
        depths=tuple(document["depths"]),
        baseline=whole,
        methods=tuple(
            _method_from(name, one, examples) for name, one in document["methods"].items()
        ),
        other=_other_from(other, examples) if (other := document.get("against")) else None,
        cautions=tuple(document["cautions"]),
        seconds=document["cost"]["seconds"],
    )


def _model_from(document: Mapping[str, Any] | None, examples: int) -> ModelAtDepth | None:
    if document is None:
        return None
    return ModelAtDepth(
        removed=tuple(document["removed"]),
        layers=document["layers"],
        parameters=document["parameters"],
        accuracy=document["search"]["accuracy"],
        objective=document["search"]["objective"],
        held_out=comparison_from(document["held_out"], document["loses_at_most"], examples),
        over_greedy=_over_from(document["over_greedy"]),
    )


def _method_from(name: str, document: Mapping[str, Any], examples: int) -> Method:
    return Method(
        name,
        document["source"],
        document["settings"],
        MethodCost(**document["cost"]),
        {int(depth): _model_from(one, examples) for depth, one in document["depths"].items()},
    )


def best_at(compared: Compared, depth: int) -> Sequence[Method]:
    """The methods of the highest held-out accuracy at a depth; several where they are equal."""
    there = [
        (model.held_out.accuracy, one)
        for one in compared.methods
        if (model := one.depths[depth]) is not None
    ]
    most = max((accuracy for accuracy, _ in there), default=0.0)
    return [one for accuracy, one in there if accuracy == most]
