"""What there is to say of a study, as plain values. No HTML, no drawing, no terminal.

The page, its figures and the terminal all speak from here, so that they say the same. A finished
study speaks from its document alone. Of an unfinished one only the search is told: its held-out
examples say nothing before it has finished choosing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from telltale.searches import Round
from telltale.support.words import (
    between,
    counted,
    duration,
    layers_named,
    loss,
    percent,
    points,
    points_between,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from telltale.study.reading import StoredStudy

# What a name in result.json is called where there is little room.
NAMES = {"best": "BEST", "bsba": "BSBA", "fastest_safe": "safe", "confirmed_best": "gain shown"}
WORTH = ("confirmed_best", "fastest_safe", "best", "bsba")  # the first that removes a layer


@dataclass(frozen=True, slots=True)
class Seen:
    """What a model does on unseen examples, beside the whole model on the same.

    All are shares. ``counts`` are the texts without an answer and those cut off, where a model
    writes.
    """

    accuracy: float
    interval: tuple[float, float]
    gain: float
    gain_interval: tuple[float, float]
    loses_at_most: float
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Model:
    """A model on the path. What is measured after the search is None until it has finished.

    ``removed`` are the layers in their order of removal; ``accuracy`` and ``value``, what it was
    ranked by, are on the search set; ``names`` are those of `NAMES`.
    """

    removed: tuple[int, ...]
    layers: int
    accuracy: float
    value: float
    names: tuple[str, ...] = ()
    parameters: int | None = None
    held_out: Seen | None = None
    perplexity: float | None = None
    perplexity_ratio: float | None = None
    tokens_per_second: float | None = None
    guards: Mapping[str, Seen] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The layer that is removed last; the whole model by that."""
        return str(self.removed[-1]) if self.removed else "whole model"

    @property
    def words(self) -> str:
        """The model in a sentence."""
        if not self.removed:
            return "the whole model"
        return f"the model without {layers_named(self.removed)}"


@dataclass(frozen=True, slots=True)
class Facts:
    """A study in plain values; what it does not know yet is None or empty.

    ``asked`` and ``task`` are the model and the task as the document has them, ``settings`` its
    ``search``. ``minds`` are sentences that a reader should be told beside the verdict. ``worth``
    is the model to look at first, and ``layers`` the whole model's.
    """

    is_finished: bool
    asked: Mapping[str, Any]
    task: Mapping[str, Any]
    settings: Mapping[str, Any]
    layers: int | None = None
    models: tuple[Model, ...] = ()
    rounds: tuple[Round, ...] = ()
    verdict: str | None = None
    minds: tuple[str, ...] = ()
    final: str | None = None
    cost: tuple[str, ...] = ()
    recommended: str | None = None
    worth: Model | None = None
    text_name: str | None = None
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model on the task."""
        if not self.asked:
            return "a study that had not begun"
        return f"{self.asked['name']} on {self.task['name']}"

    @property
    def objective(self) -> str:
        """What candidates were ranked by."""
        return str(self.settings.get("objective", "accuracy"))

    @property
    def confidence(self) -> str:
        """That of the intervals, in percent: ``95%``."""
        return f"{100 * self.settings.get('confidence', 0.95):g}%"

    @property
    def floor(self) -> float | None:
        """The accuracy on the search set below which no model is kept."""
        return self.models[0].accuracy - self.settings["tolerance"] if self.models else None


def facts_of(study: StoredStudy) -> Facts:
    """What there is to say of a study, finished or not."""
    if study.document is None:
        return so_far(study)
    return finished(study.document, study.held_out_looks)


def finished(document: Mapping[str, Any], held_out_looks: int | None) -> Facts:
    """What a finished study's document says."""
    rounds = tuple(map(_round, document["rounds"]))
    models = _models(document)
    worth = next((name for name in WORTH if document[name] and document[name]["removed"]), None)
    depth = len(document[worth]["removed"]) if worth else 1
    return Facts(
        is_finished=True,
        asked=document["model"],
        task=document["task"],
        settings=document["search"],
        layers=document["model"]["layers"],
        models=models,
        rounds=rounds,
        verdict=document["verdict"],
        minds=(
            *(f"{line}." for line in document["cautions"]),
            *_looks(held_out_looks, document["verdict"]),
        ),
        final=final_sentence(document),
        cost=(
            cost_sentence(document, rounds),
            *(
                f"Slower than for other models: {why}."
                for why in document["cost"].get("slowed_by", ())
            ),
        ),
        recommended=document["recommended"],
        worth=models[depth] if len(models) > 1 else None,
        text_name=document["text"]["name"],
        document=document,
    )


def so_far(study: StoredStudy) -> Facts:
    """What there is to say of a study that is not finished: its search, as far as it has come."""
    asked, removal = study.asked or {}, study.removal
    cost = study.cost
    return Facts(
        is_finished=False,
        asked=asked.get("model", {}),
        task=asked.get("task", {}),
        settings=study.settings or {},
        layers=None if removal is None else removal.start.total,
        models=()
        if removal is None
        else tuple(
            Model(one.removed, one.path.depth, one.accuracy, one.value) for one in removal.kept
        ),
        rounds=() if removal is None else removal.rounds,
        cost=(f"So far the search has measured for {duration(cost.seconds)}.",)
        if cost.batches_begun
        else (),
    )


def _round(done: Mapping[str, Any]) -> Round:
    return Round(
        removed=done["removed"],
        accepted=done["accepted"],
        candidates={int(layer): value for layer, value in done["candidates"].items()},
        values={int(layer): value for layer, value in done["objective"].items()},
        guarded=tuple(done.get("guarded", ())),
    )


def _models(document: Mapping[str, Any]) -> tuple[Model, ...]:
    whole, speeds = document["path"][0], document["cost"]["path_tokens_per_second"]
    return tuple(
        Model(
            removed=tuple(one["removed"]),
            layers=one["layers"],
            accuracy=one["search"]["accuracy"],
            value=one["search"]["objective"],
            names=tuple(
                short
                for name, short in NAMES.items()
                if document[name] is not None and document[name]["removed"] == one["removed"]
            ),
            parameters=one["parameters"],
            held_out=_seen(one["held_out"], one["loses_at_most"]),
            perplexity=one["text_perplexity"],
            perplexity_ratio=one["text_perplexity"] / whole["text_perplexity"],
            tokens_per_second=speed,
            guards={
                name: _seen(found, found["loses_at_most"])
                for name, found in one.get("guards", {}).items()
            },
        )
        for one, speed in zip(document["path"], speeds, strict=True)
    )


def _seen(found: Mapping[str, Any], loses_at_most: float) -> Seen:
    return Seen(
        accuracy=found["accuracy"],
        interval=_pair(found["interval"]),
        gain=found["gain"],
        gain_interval=_pair(found["gain_interval"]),
        loses_at_most=loses_at_most,
        counts={name: found[name] for name in ("unparsable", "cut_off") if name in found},
    )


def _pair(interval: Sequence[float]) -> tuple[float, float]:
    low, high = interval
    return low, high


def _looks(held_out_looks: int | None, verdict: str) -> tuple[str, ...]:
    """That other searches have looked at the same examples, unless the verdict says it."""
    if not held_out_looks or "had looked at" in verdict:
        return ()
    return (
        f"{held_out_looks} other search{'es have' if held_out_looks > 1 else ' has'} "
        "looked at these held-out examples before; the more look, the less an interval says.",
    )


def final_sentence(document: Mapping[str, Any]) -> str | None:
    """What the sealed final set said; None where none was asked for."""
    size, found = document["task"].get("final_examples"), document["final"]
    if size is None:
        return None
    if found is None:
        return (
            f"The final set of {counted(size, 'example')} stays sealed: no shallower model is "
            "recommended, and it is looked at for one alone."
        )
    lost = loss(found["loses_at_most"])
    bound = "nothing" if lost == "nothing" else f"at most {lost}"
    name = "BEST" if found["name"] == "confirmed_best" else "the fastest safe model"
    return (
        f"The final set of {counted(size, 'example')} was looked at once, for {name}, without "
        f"{layers_named(found['removed'])}: "
        f"{percent(found['accuracy'])} ({between(found['interval'])}) where the whole model has "
        f"{percent(found['baseline_accuracy'])}, so {points(found['gain'])} points "
        f"({points_between(found['gain_interval'])}); it loses {bound}."
    )


def cost_sentence(document: Mapping[str, Any], rounds: Sequence[Round]) -> str:
    """What the search has cost, beside what the same measurements each by itself would have."""
    cost, guards = document["cost"], document["search"].get("guards")
    naive = cost.get("naive_passes")
    if naive is None and not guards:  # a study begun before it was counted
        naive = naive_passes(rounds, document["model"]["layers"])
    searched = "The search and its guards" if guards else "The search"
    passes = f"{cost['dense_passes']:.1f} passes of the search set through the whole model"
    beside = "" if naive is None else f"; each candidate by itself: {naive:.1f}"
    return f"{searched} cost {passes} ({duration(cost['seconds'])}){beside}."


def naive_passes(rounds: Sequence[Round], layers: int) -> float:
    """The passes through the whole model of a search that shares nothing between candidates."""
    removed, passes = 0, 1.0
    for done in rounds:
        passes += len(done.candidates) * (layers - removed - 1) / layers
        removed += done.accepted
    return passes


def fate(done: Round) -> str:
    """What became of a round's layer, in words."""
    if done.accepted:
        return "left out"
    return "is refused by a guard" if done.removed in done.guarded else "falls below the floor"
