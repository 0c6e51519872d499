"""A result as a document, which ``result.json`` holds, and back again.

The one place that knows the document's form; docs/reference/result.md describes it. A document
holds no path and no time outside ``cost``, so equal studies give equal documents. What is written
is what was read, also of studies of earlier versions, which lack some fields.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from telltale.evidence.calibration import Arms, Calibration, Gain, Level
from telltale.evidence.comparison import Comparison
from telltale.evidence.pareto import front_document
from telltale.evidence.parts import NAMED, Cost, FinalLook, PathModel, Text
from telltale.evidence.selection import Asked, Claims
from telltale.evidence.selection import Level as ErrorLevel
from telltale.evidence.stats import Interval
from telltale.evidence.targets import Chosen, Figure, Request, targets_from
from telltale.paths import LayerPath
from telltale.searches import Candidate, Certainty, Kept, Round

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from telltale.evidence.result import Result

VERSION = 2  # rises when the meaning of a field changes
LATER = (
    "claims",
    "naive_passes",
    "slowed_by",
    "pareto",
)  # fields that earlier versions did not write
COUNTS = ("unparsable", "cut_off")  # what `generation_counts` gives


def document_of(result: Result) -> dict[str, Any]:
    """A result as JSON values."""

    def model(one: PathModel | None) -> dict[str, Any] | None:
        return None if one is None else written[one.path]

    written = dict(zip((one.path for one in result.models), _models(result), strict=True))
    document = {
        "version": result.version,
        "model": dict(result.model),
        "task": dict(result.task),
        "fingerprint": result.fingerprint,
        "search": dict(result.settings),
        **({"layer_scores": _lists(result.layer_scores)} if result.layer_scores else {}),
        "baseline": model(result.baseline),
        "best": model(result.best),
        "bsba": model(result.bsba),
        "confirmed_best": model(result.confirmed_best),
        "fastest_safe": model(result.fastest_safe),
        "recommended": result.recommended,
        "path": list(written.values()),
        "claims": None if result.claims is None else _claims(result.claims),
        "final": None if result.final is None else _final(result.final, result.baseline),
        **_calibration(result.calibration),
        **_target(result.target),
        "pareto": front_document(result.models),
        "rounds": list(_rounds(result)),
        "verdict": result.verdict,
        "text": {"name": result.text.name, "sha256": result.text.sha256},
        "cautions": list(result.cautions),
        "cost": _cost(result),
    }
    return {name: value for name, value in document.items() if name not in result.lacks}


def comparison_document(found: Comparison) -> dict[str, Any]:
    """A comparison without what is in it for every model alike."""
    return {
        "accuracy": found.accuracy,
        "interval": list(found.interval),
        "gain": found.gain,
        "gain_interval": list(found.gain_interval),
        **found.counts,
    }


def _lists(scores: Mapping[str, Iterable[float]]) -> dict[str, list[float]]:
    return {name: list(of_layers) for name, of_layers in scores.items()}


def _models(result: Result) -> Iterator[dict[str, Any]]:
    """Every model of the path; its parent is said where it is not the one before."""
    before: LayerPath | None = None
    for one in result.models:
        kept, held_out = one.kept, one.held_out
        assert held_out is not None
        few = kept.examples < result.task["search_examples"]
        yield {
            "removed": list(kept.removed),
            "layers": kept.path.depth,
            "parameters": one.parameters,
            **({} if kept.parent in (None, before) else {"parent": _layers(kept.parent)}),
            "search": {
                "accuracy": kept.accuracy,
                "objective": kept.value,
                **one.search_counts,
                **({"examples": kept.examples} if few else {}),
            },
            "held_out": comparison_document(held_out),
            "loses_at_most": held_out.loses_at_most,
            "text_perplexity": one.perplexity,
            **({"guards": _guards(one.guards)} if one.guards else {}),
        }
        before = kept.path


def _layers(path: LayerPath | None) -> list[int]:
    return [] if path is None else list(path.removed)


def _guards(guards: Mapping[str, Comparison]) -> dict[str, Any]:
    return {
        name: {
            **comparison_document(one),
            "loses_at_most": one.loses_at_most,
            "examples": one.examples,
        }
        for name, one in guards.items()
    }


def _claims(claims: Claims) -> dict[str, Any]:
    """At what levels, and of which models, it was asked whether they are safe."""
    return {
        "looks_before": claims.level.looks,  # None where it is not known
        "gain_level": claims.level.gain,
        "safety_level": claims.level.safety,
        "asked": [
            {
                "removed": list(one.model.removed),
                "p_value": one.p_value,
                "level": one.level,
                "certified": one.certified,
            }
            for one in claims.asked
        ],
    }


def _final(final: FinalLook, whole: PathModel) -> dict[str, Any]:
    return {
        "name": final.name,
        "removed": list(final.removed),
        "layers": whole.layers - len(final.removed),
        "baseline_accuracy": final.baseline_accuracy,
        **comparison_document(final.seen),
        "loses_at_most": final.seen.loses_at_most,
    }


def _calibration(found: Calibration | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {"calibration": {name: _arms(one) for name, one in found.by_name.items()}}


def _target(found: Chosen | None) -> dict[str, Any]:
    if found is None:
        return {}
    document = {
        "asked": found.targets.document(),
        "met": found.is_met,
        # By the name that every model has, only where it is the one to be picked.
        ("removed" if found.is_met else "nearest"): list(found.removed),
        "figures": {name: _figure(one) for name, one in found.figures.items()},
        **({"request": found.request._asdict()} if found.request else {}),
        **({"worth": dict(found.worth)} if found.worth else {}),
    }
    return {"target": document}


def _figure(found: Figure) -> dict[str, Any]:
    ideal = {} if found.ideal is None else {"ideal": found.ideal}
    return {"value": found.value, "interval": [found.low, found.high], **ideal}


def _arms(arms: Arms) -> dict[str, Any]:
    def level(found: Level) -> dict[str, Any]:
        return {"accuracy": found.accuracy, "interval": list(found.interval)}

    def gain(found: Gain) -> dict[str, Any]:
        return {"gain": found.gain, "interval": list(found.interval)}

    return {
        "raw": level(arms.raw),
        "calibrated": level(arms.calibrated),
        "calibrating": gain(arms.calibrating),
        "beyond": gain(arms.beyond),
        "offsets": list(arms.offsets),
    }


def _cost(result: Result) -> dict[str, Any]:
    cost = result.cost
    document = {
        "layer_tokens": cost.layer_tokens,
        "dense_passes": cost.dense_passes,
        "naive_passes": cost.naive_passes,
        "batches_measured": cost.batches_measured,
        "seconds": cost.seconds,
        "search_tokens": cost.search_tokens,
        "tokens_per_second": {
            name: model.tokens_per_second for name, model in result.named.items()
        },
        "path_tokens_per_second": [model.tokens_per_second for model in result.models],
        "slowed_by": list(cost.slowed_by),
        **({} if cost.bfloat16_gain is None else {"bfloat16_gain": cost.bfloat16_gain}),
    }
    return {name: value for name, value in document.items() if name not in result.lacks}


def _rounds(result: Result) -> Iterator[dict[str, Any]]:
    """Every round: by the layer left out of the model kept last, or else by all layers removed."""
    last: LayerPath | None = result.baseline.path
    full = result.task["search_examples"]
    for done in result.rounds:
        steps = len(done.kept) <= 1 and done.parent is not None and done.parent == last
        early = {
            str(one.left_out[0]) if steps else key(path): one
            for path, one in done.tried.items()
            if one.examples < full
        }
        of_early = {
            "examples": {name: one.examples for name, one in early.items()},
            "at_most": {name: _at_most(one, result) for name, one in early.items()},
        }
        yield {**(_steps(done) if steps else _changes(done)), **(of_early if early else {})}
        if done.kept:
            last = done.kept[0] if len(done.kept) == 1 else None


def _steps(done: Round) -> dict[str, Any]:
    by_layer = [(one.left_out[0], one) for one in done.tried.values()]
    by_layer.sort(key=lambda pair: pair[0])
    guarded = [done.tried[path].left_out[0] for path in done.refused]
    return {
        "removed": done.first.left_out[0],
        "accepted": done.accepted,
        "candidates": {str(layer): one.accuracy for layer, one in by_layer},
        "objective": {str(layer): one.value for layer, one in by_layer},
        **({"guarded": guarded} if guarded else {}),
        **_certainty(done),
    }


def _changes(done: Round) -> dict[str, Any]:
    tried = {key(path): one for path, one in done.tried.items()}
    return {
        "accepted": done.accepted,
        "candidates": {name: one.accuracy for name, one in tried.items()},
        "objective": {name: one.value for name, one in tried.items()},
        "parents": {name: key(one.parent) for name, one in tried.items() if one.parent},
        "kept": [key(path) for path in done.kept],
        **({"refused": [key(path) for path in done.refused]} if done.refused else {}),
        **_certainty(done),
    }


def _certainty(done: Round) -> dict[str, Any]:
    said = done.certainty
    return {} if said is None else {"certainty": asdict(said)}


def _at_most(one: Candidate, result: Result) -> dict[str, float | None]:
    """What a candidate that left early may have at most on all examples."""
    accuracy, value = one.at_most(result.task["search_examples"], result.highest)
    return {"accuracy": accuracy, "objective": value}


def key(path: LayerPath) -> str:
    """A path's key in a document: its layers removed, ascending, such as ``3,17``."""
    return ",".join(map(str, path.removed))


# And back again


def parts_from(document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the `Result` that a document was made of, but for ``held_out_looks``.

    ``lacks`` are those of `LATER` that it does not have.
    """
    total, full = document["model"]["layers"], document["task"]["search_examples"]
    models = tuple(_models_from(document))
    by_path = {model.path: model for model in models}
    has = document.keys() | document["cost"].keys()
    final = document["final"]
    return {
        "version": document["version"],
        "model": document["model"],
        "task": document["task"],
        "fingerprint": document["fingerprint"],
        "settings": document["search"],
        "layer_scores": {
            name: tuple(of_layers) for name, of_layers in document.get("layer_scores", {}).items()
        },
        "models": models,
        "rounds": tuple(_rounds_from(document["rounds"], LayerPath.whole(total), full)),
        "claims": _claims_from(document, by_path) if "claims" in document else None,
        "final": None if final is None else _final_from(final, document["task"]),
        "calibration": _calibration_from(document.get("calibration")),
        "target": _target_from(document.get("target")),
        "verdict": document["verdict"],
        "cautions": tuple(document["cautions"]),
        "text": Text(document["text"]["name"], document["text"]["sha256"]),
        "cost": _cost_from(document["cost"]),
        "lacks": frozenset(name for name in LATER if name not in has),
    }


def comparison_from(document: Mapping[str, Any], loses_at_most: float, examples: int) -> Comparison:
    """The comparison that `comparison_document` was given, with what stands beside that."""
    return Comparison(
        accuracy=document["accuracy"],
        interval=Interval(*document["interval"]),
        gain=document["gain"],
        gain_interval=Interval(*document["gain_interval"]),
        loses_at_most=loses_at_most,
        examples=examples,
        counts={name: document[name] for name in COUNTS if name in document},
    )


def _models_from(document: Mapping[str, Any]) -> Iterator[PathModel]:
    total, task = document["model"]["layers"], document["task"]
    before: LayerPath | None = None
    for one, speed in zip(
        document["path"], document["cost"]["path_tokens_per_second"], strict=True
    ):
        path = LayerPath.from_removed(one["removed"], total)
        searched = one["search"]
        kept = Kept(
            path,
            LayerPath.from_removed(one["parent"], total) if "parent" in one else before,
            searched["accuracy"],
            searched["objective"],
            searched.get("examples", task["search_examples"]),
            tuple(one["removed"]),
        )
        yield PathModel(
            kept,
            one["parameters"],
            comparison_from(one["held_out"], one["loses_at_most"], task["held_out_examples"]),
            {name: searched[name] for name in COUNTS if name in searched},
            one["text_perplexity"],
            speed,
            {
                name: comparison_from(found, found["loses_at_most"], found["examples"])
                for name, found in one.get("guards", {}).items()
            },
            tuple(
                name
                for name in NAMED
                if (document.get(name) or {}).get("removed") == one["removed"]
            ),
        )
        before = path


def _claims_from(document: Mapping[str, Any], models: Mapping[LayerPath, PathModel]) -> Claims:
    claims, total = document["claims"], document["model"]["layers"]
    asked = tuple(
        Asked(
            models[LayerPath.from_removed(one["removed"], total)].kept,
            one["p_value"],
            one["level"],
        )
        for one in claims["asked"]
    )
    best = next((one.kept for one in models.values() if "confirmed_best" in one.names), None)
    return Claims(ErrorLevel(claims["safety_level"], claims["looks_before"]), best, asked)


def _final_from(final: Mapping[str, Any], task: Mapping[str, Any]) -> FinalLook:
    return FinalLook(
        final["name"],
        tuple(final["removed"]),
        final["baseline_accuracy"],
        comparison_from(final, final["loses_at_most"], task["final_examples"]),
    )


def _calibration_from(document: Mapping[str, Any] | None) -> Calibration | None:
    if document is None:
        return None
    arms = {name: _arms_from(one) for name, one in document.items()}
    return Calibration(arms.pop("whole"), arms)


def _target_from(document: Mapping[str, Any] | None) -> Chosen | None:
    if document is None:
        return None
    request = document.get("request")
    return Chosen(
        targets_from(document["asked"]),
        document["met"],
        tuple(document["removed" if document["met"] else "nearest"]),
        {
            name: Figure(one["value"], one["interval"][0], one["interval"][1], one.get("ideal"))
            for name, one in document["figures"].items()
        },
        None if request is None else Request(**request),
        document.get("worth", {}),
    )


def _arms_from(document: Mapping[str, Any]) -> Arms:
    def level(name: str) -> Level:
        return Level(document[name]["accuracy"], Interval(*document[name]["interval"]))

    def gain(name: str) -> Gain:
        return Gain(document[name]["gain"], Interval(*document[name]["interval"]))

    return Arms(
        level("raw"),
        level("calibrated"),
        gain("calibrating"),
        gain("beyond"),
        tuple(document["offsets"]),
    )


def _cost_from(cost: Mapping[str, Any]) -> Cost:
    return Cost(
        layer_tokens=cost["layer_tokens"],
        dense_passes=cost["dense_passes"],
        naive_passes=cost.get("naive_passes"),
        batches_measured=cost["batches_measured"],
        seconds=cost["seconds"],
        search_tokens=cost["search_tokens"],
        slowed_by=tuple(cost.get("slowed_by", ())),
        bfloat16_gain=cost.get("bfloat16_gain"),
    )


def _rounds_from(
    rounds: Iterable[Mapping[str, Any]], whole: LayerPath, full: int
) -> Iterator[Round]:
    last = whole
    for document in rounds:
        done = _round_from(document, last, full)
        yield done
        if done.kept:
            last = done.kept[0]


def _round_from(document: Mapping[str, Any], last: LayerPath, full: int) -> Round:
    """A round; where its keys are single layers, they were left out of the model kept ``last``."""
    by_layer = "parents" not in document

    def path(name: str | int) -> LayerPath:
        if by_layer:
            return last.without(int(name))
        removed = [int(layer) for layer in str(name).split(",") if layer]
        return LayerPath.from_removed(removed, last.total)

    values, examples = document["objective"], document.get("examples", {})
    tried = {
        path(name): Candidate(
            path(name),
            last if by_layer else path(document["parents"][name]),
            accuracy,
            values[name],
            examples.get(name, full),
        )
        for name, accuracy in document["candidates"].items()
    }
    if by_layer:
        kept = [document["removed"]] if document["accepted"] else []
        refused = document.get("guarded", ())
    else:
        kept, refused = document["kept"], document.get("refused", ())
    said = document.get("certainty")
    return Round(
        tried,
        tuple(map(path, kept)),
        tuple(map(path, refused)),
        full,
        None if said is None else Certainty(**said),
    )
