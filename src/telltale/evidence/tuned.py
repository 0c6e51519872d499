"""What tuning and search together gave: a run of steps, and regimes beside each other.

`TuneResult` is what ``tune.json`` holds, `RegimesCompared` what ``comparison.json`` does; both are
written here and read back. Plain numbers: knows no training and no torch.
"""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from telltale.errors import InputError
from telltale.evidence.calibration import Gain
from telltale.evidence.comparison import Comparison
from telltale.evidence.document import comparison_document, comparison_from
from telltale.evidence.stats import (
    CONFIDENCE,
    Interval,
    clustering,
    gain_interval,
    loses_at_most,
    pairs,
    wilson,
)
from telltale.support.files import read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

FILE, COMPARED_FILE = "tune.json", "comparison.json"
VERSION = 1  # rises when the meaning of a field changes
SEARCH, TUNE = "search", "tune"  # the kinds of a step
# What every regime does, step by step, by its name.
REGIMES: dict[str, tuple[str, ...]] = {
    "ft": (TUNE,),
    "tale": (SEARCH,),
    "tale-ft": (SEARCH, TUNE),
    "ft-tale": (TUNE, SEARCH),
    "tale-ft-tale": (SEARCH, TUNE, SEARCH),
}


class Moment(NamedTuple):
    """A check on the development set, after so many optimiser steps.

    ``tokens`` were read and ``seconds`` taken in these steps. Losses are in nats.
    """

    step: int
    tokens: int
    seconds: float
    train_loss: float
    development_loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a step of tuning was.

    Attributes:
        examples: how many were trained on.
        steps: of the optimiser.
        best_step: after which the development loss was least, and whose weights are kept; 0 where
            it never fell.
        tokens: read in training, padding not counted.
        cpu_seconds: of all threads, in the steps alone.
        before: the development loss before the first step, in nats.
        loss: the least development loss.
        ended: why: ``epochs``, ``max_steps``, ``patience`` or ``diverged``.
        history: every check.
    """

    examples: int
    steps: int
    best_step: int
    tokens: int
    cpu_seconds: float
    before: float
    loss: float
    ended: str
    history: tuple[Moment, ...]

    def reached(self, loss: float) -> tuple[float, int] | None:
        """The seconds and tokens after which the development loss was first as low; or None."""
        if self.before <= loss:
            return 0.0, 0
        first = next((one for one in self.history if one.development_loss <= loss), None)
        return None if first is None else (first.seconds, first.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A model after a step, and what the step was.

    Attributes:
        kind: `SEARCH`, `TUNE`, or "" for a model that nothing was done to.
        removed: the layers that the model lacks, in order of removal.
        layers: how many it has.
        held_out: on the held-out set, beside the whole model that nothing was done to.
        seconds: what the step took; of tuning, its optimiser steps alone.
        put_back: the layers that a search put back first.
        layer_tokens: what a search ran: layers times tokens.
        training: what tuning was; None of a search.
    """

    kind: str
    removed: tuple[int, ...]
    layers: int
    held_out: Comparison
    seconds: float = 0.0
    put_back: tuple[int, ...] = ()
    layer_tokens: int = 0
    training: Training | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What one run and several beside each other have in common.

    Attributes:
        model: the whole model: ``name``, ``revision``, ``sha256``, ``layers``.
        task: what was asked, and how.
        sets: how many examples each set has, and where those trained on come from.
        settings: of tuning and of search, and the rest that decides what comes out.
        baseline: the whole model, with nothing done to it.
        start: the model that was begun with, where it lacked layers already.
        cautions: sentences that a reader should be told, without a full stop.
    """

    model: Mapping[str, Any]
    task: Mapping[str, Any]
    sets: Mapping[str, Any]
    settings: Mapping[str, Any]
    baseline: Step
    start: Step | None
    cautions: tuple[str, ...] = ()

    @property
    def basis(self) -> dict[str, Any]:
        """What every document begins with."""
        return {
            "version": VERSION,
            "model": dict(self.model),
            "task": dict(self.task),
            "sets": dict(self.sets),
            "settings": dict(self.settings),
            "baseline": _model(self.baseline),
            "start": None if self.start is None else _model(self.start),
            "cautions": list(self.cautions),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneResult(Basis):
    """What one run of a regime gave.

    Attributes:
        regime: its name in `REGIMES`.
        seed: of the training.
        steps: in order.
        tokens_per_second: reading, of the whole model and of the final one, timed in turn.
        checkpoint: the folder of the final model, relative to the run's.
        adapter: the folder of the adapter that goes with it; None where it is merged.
    """

    regime: str
    seed: int
    steps: tuple[Step, ...]
    tokens_per_second: tuple[float, float]
    checkpoint: str
    adapter: str | None

    @property
    def final(self) -> Step:
        """The model after the last step."""
        return self.steps[-1]

    @property
    def document(self) -> dict[str, Any]:
        """What ``tune.json`` holds."""
        return {
            **self.basis,
            "regime": self.regime,
            "seed": self.seed,
            "steps": [step_document(one) for one in self.steps],
            "final": _model(self.final),
            "tokens_per_second": dict(
                zip(("baseline", "final"), self.tokens_per_second, strict=True)
            ),
            "checkpoint": self.checkpoint,
            "adapter": self.adapter,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A regime run once; ``seed`` is None where nothing in it depends on one."""

    regime: str
    seed: int | None
    steps: tuple[Step, ...]
    tokens_per_second: float

    @property
    def final(self) -> Step:
        """The model after the last step."""
        return self.steps[-1]

    @property
    def training(self) -> Training | None:
        """Its tuning; None where it has none."""
        return next((one.training for one in self.steps if one.training is not None), None)

    def seconds(self, kind: str) -> float:
        """What its steps of a kind took."""
        return math.fsum(one.seconds for one in self.steps if one.kind == kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A regime over its runs; what differs from seed to seed is given as a mean.

    Attributes:
        regime: its name.
        runs: how many there are.
        accuracies: the lowest and the highest held-out accuracy of a run.
        held_out: the mean over runs of each example's score, beside the whole model that nothing
            was done to. Its intervals are of other examples with these runs, not of other seeds.
        against: the gain of that mean over the mean of ``ft``; None where there is no such run,
            and of ``ft`` itself.
        layers: the fewest and the most that a run ends with.
        search_seconds: what searching took.
        seconds: what the optimiser's steps took, up to the last; None where nothing was trained.
        tokens: read in them; None where nothing was trained.
        reached_seconds: what it took of them to the development loss that all runs reach.
        reached_tokens: the same in tokens.
        tokens_per_second: reading, at the end.
    """

    regime: str
    runs: int
    accuracies: tuple[float, float]
    held_out: Comparison
    against: Gain | None
    layers: tuple[int, int]
    search_seconds: float
    seconds: float | None
    tokens: float | None
    reached_seconds: float | None
    reached_tokens: float | None
    tokens_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimesCompared(Basis):
    """Regimes beside each other, on the same examples.

    Attributes:
        baseline_speed: tokens per second of the whole model, reading.
        runs: every run.
        rows: every regime over its runs.
        reached_loss: the development loss that all trainings reach, in nats; None where there is
            no training.
    """

    baseline_speed: float
    runs: tuple[Run, ...]
    rows: tuple[Row, ...]
    reached_loss: float | None

    @property
    def document(self) -> dict[str, Any]:
        """What ``comparison.json`` holds."""
        return {
            **(basis := self.basis),
            "baseline": {**basis["baseline"], "tokens_per_second": self.baseline_speed},
            "regimes": [_row(one) for one in self.rows],
            "reached_loss": self.reached_loss,
            "runs": [
                {
                    "regime": one.regime,
                    "seed": one.seed,
                    "steps": [step_document(step) for step in one.steps],
                    "tokens_per_second": one.tokens_per_second,
                }
                for one in self.runs
            ],
        }


def rows_of(
    runs: Sequence[Run],
    scores: Mapping[tuple[str, int | None], Sequence[float]],
    whole: Sequence[float],
    clusters: Sequence[int],
    confidence: float = CONFIDENCE,
) -> tuple[tuple[Row, ...], float | None]:
    """Every regime over its runs, and the development loss that all trainings reach.

    Args:
        runs: every run; those of a regime are of different seeds.
        scores: by regime and seed, each held-out example's score in [0, 1].
        whole: the same of the whole model that nothing was done to.
        clusters: a number for each example, equal for those that share a passage.
        confidence: of intervals.
    """
    trainings = [one.training for one in runs if one.training is not None]
    target = max((one.loss for one in trainings), default=None)
    by_regime: dict[str, list[Run]] = {}
    for run in runs:
        by_regime.setdefault(run.regime, []).append(run)

    def means(regime: str) -> list[float]:
        of_runs = [scores[regime, one.seed] for one in by_regime[regime]]
        return [math.fsum(own) / len(own) for own in zip(*of_runs, strict=True)]

    tuned = means("ft") if "ft" in by_regime else None
    rows = []
    for regime, own in by_regime.items():
        accuracies = [one.final.held_out.accuracy for one in own]
        depths = [one.final.layers for one in own]
        trained = [one.training for one in own if one.training is not None]
        reached = [found for one in trained if (found := one.reached(target or 0.0)) is not None]
        after = means(regime)
        beside = None if tuned is None or regime == "ft" else pairs(tuned, after, clusters)
        rows.append(
            Row(
                regime=regime,
                runs=len(own),
                accuracies=(min(accuracies), max(accuracies)),
                held_out=compare_scores(whole, after, clusters, confidence),
                against=None
                if beside is None
                else Gain(beside.gain, gain_interval(beside, confidence)),
                layers=(min(depths), max(depths)),
                search_seconds=_mean(one.seconds(SEARCH) for one in own) or 0.0,
                seconds=_mean(one.seconds(TUNE) for one in own) if trained else None,
                tokens=_mean(one.tokens for one in trained),
                reached_seconds=_mean(seconds for seconds, _ in reached),
                reached_tokens=_mean(tokens for _, tokens in reached),
                tokens_per_second=statistics.mean(one.tokens_per_second for one in own),
            )
        )
    return tuple(rows), target


def compare_scores(
    before: Sequence[float],
    after: Sequence[float],
    clusters: Sequence[int],
    confidence: float = CONFIDENCE,
) -> Comparison:
    """Compare two models by their scores in [0, 1] on the same examples, in the same order.

    Args:
        before: the scores of the one compared with.
        after: those of the other, or means over several.
        clusters: a number for each example, equal for those that share a passage.
        confidence: of the intervals, and of the bound.
    """
    found = pairs(before, after, clusters)
    total = math.fsum(after)
    return Comparison(
        accuracy=total / len(after),
        interval=wilson(total, len(after), confidence, clustering(after, clusters)),
        gain=found.gain,
        gain_interval=gain_interval(found, confidence),
        loses_at_most=loses_at_most(found, confidence),
        examples=len(after),
        pairs=found,
    )


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return statistics.mean(found) if found else None


def _model(one: Step) -> dict[str, Any]:
    return {
        "layers": one.layers,
        "removed": list(one.removed),
        "held_out": comparison_document(one.held_out),
        "loses_at_most": one.held_out.loses_at_most,
    }


def step_document(one: Step) -> dict[str, Any]:
    """A step in the one form that both kinds have; what it has none of is None or nothing."""
    training = one.training
    return {
        "kind": one.kind,
        **_model(one),
        "put_back": list(one.put_back),
        "train_examples": 0 if training is None else training.examples,
        "seconds": one.seconds,
        "cpu_seconds": None if training is None else training.cpu_seconds,
        "tokens": 0 if training is None else training.tokens,
        "layer_tokens": one.layer_tokens,
        "development_loss": None if training is None else training.loss,
        "untrained_loss": None if training is None else training.before,
        "optimiser_steps": 0 if training is None else training.steps,
        "best_step": None if training is None else training.best_step,
        "ended": None if training is None else training.ended,
        "history": [] if training is None else [one._asdict() for one in training.history],
    }


def _row(one: Row) -> dict[str, Any]:
    return {
        "regime": one.regime,
        "runs": one.runs,
        "accuracies": list(one.accuracies),
        "held_out": comparison_document(one.held_out),
        "loses_at_most": one.held_out.loses_at_most,
        "against_ft": None
        if one.against is None
        else {"gain": one.against.gain, "gain_interval": list(one.against.interval)},
        "layers": list(one.layers),
        "search_seconds": one.search_seconds,
        "seconds": one.seconds,
        "tokens": one.tokens,
        "reached_seconds": one.reached_seconds,
        "reached_tokens": one.reached_tokens,
        "tokens_per_second": one.tokens_per_second,
    }


# And back again


def is_tuned(folder: Path) -> bool:
    """Whether a folder holds what tuning gave."""
    return any((folder / name).is_file() for name in (FILE, COMPARED_FILE))


def read_tuned(folder: Path) -> TuneResult | RegimesCompared:
    """What a folder of tuning holds: a comparison where there is one, else a run.

    Raises:
        InputError: it holds neither, or one that is damaged or of a version that is not known.
    """
    readers: tuple[tuple[str, Callable[[Mapping[str, Any]], TuneResult | RegimesCompared]], ...] = (
        (COMPARED_FILE, compared_from),
        (FILE, result_from),
    )
    for name, read in readers:
        if (file := folder / name).is_file():
            return _read(file, read)
    raise InputError(f"{folder} holds no {FILE} and no {COMPARED_FILE}; give `out` of a tuning")


def _read(
    file: Path, read: Callable[[Mapping[str, Any]], TuneResult | RegimesCompared]
) -> TuneResult | RegimesCompared:
    try:
        document = json.loads(read_text(file))
        version = document["version"]
        if version == VERSION:
            return read(document)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise InputError(
            f"{file} is damaged ({type(problem).__name__}: {problem}); tune again"
        ) from None
    raise InputError(f"{file} is of version {version!r}, and only {VERSION} can be read")


def _basis_from(document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Basis`, by name."""
    examples, start = document["sets"]["held_out"], document["start"]
    return {
        **{name: document[name] for name in ("model", "task", "sets", "settings")},
        "baseline": step_from({"kind": "", **document["baseline"]}, examples),
        "start": None if start is None else step_from({"kind": "", **start}, examples),
        "cautions": tuple(document["cautions"]),
    }


def result_from(document: Mapping[str, Any]) -> TuneResult:
    """The run that a document of ``tune.json`` was made of."""
    sizes = document["sets"]["held_out"]
    speeds = document["tokens_per_second"]
    return TuneResult(
        **_basis_from(document),
        regime=document["regime"],
        seed=document["seed"],
        steps=tuple(step_from(one, sizes) for one in document["steps"]),
        tokens_per_second=(speeds["baseline"], speeds["final"]),
        checkpoint=document["checkpoint"],
        adapter=document["adapter"],
    )


def compared_from(document: Mapping[str, Any]) -> RegimesCompared:
    """The comparison that a document of ``comparison.json`` was made of."""
    sizes = document["sets"]["held_out"]
    return RegimesCompared(
        **_basis_from(document),
        baseline_speed=document["baseline"]["tokens_per_second"],
        runs=tuple(
            Run(
                regime=one["regime"],
                seed=one["seed"],
                steps=tuple(step_from(step, sizes) for step in one["steps"]),
                tokens_per_second=one["tokens_per_second"],
            )
            for one in document["runs"]
        ),
        rows=tuple(_row_from(one, sizes) for one in document["regimes"]),
        reached_loss=document["reached_loss"],
    )


def step_from(document: Mapping[str, Any], examples: int) -> Step:
    """The step that a document describes, measured on so many held-out examples."""
    training = None
    if document["kind"] == TUNE:
        training = Training(
            examples=document["train_examples"],
            steps=document["optimiser_steps"],
            best_step=document["best_step"],
            tokens=document["tokens"],
            cpu_seconds=document["cpu_seconds"],
            before=document["untrained_loss"],
            loss=document["development_loss"],
            ended=document["ended"],
            history=tuple(Moment(**one) for one in document["history"]),
        )
    return Step(
        kind=document["kind"],
        removed=tuple(document["removed"]),
        layers=document["layers"],
        held_out=comparison_from(document["held_out"], document["loses_at_most"], examples),
        seconds=document.get("seconds", 0.0),
        put_back=tuple(document.get("put_back", ())),
        layer_tokens=document.get("layer_tokens", 0),
        training=training,
    )


def _row_from(document: Mapping[str, Any], examples: int) -> Row:
    against = document["against_ft"]
    return Row(
        regime=document["regime"],
        runs=document["runs"],
        accuracies=(document["accuracies"][0], document["accuracies"][1]),
        held_out=comparison_from(document["held_out"], document["loses_at_most"], examples),
        against=None
        if against is None
        else Gain(against["gain"], Interval(*against["gain_interval"])),
        layers=(document["layers"][0], document["layers"][1]),
        search_seconds=document["search_seconds"],
        seconds=document["seconds"],
        tokens=document["tokens"],
        reached_seconds=document["reached_seconds"],
        reached_tokens=document["reached_tokens"],
        tokens_per_second=document["tokens_per_second"],
    )
