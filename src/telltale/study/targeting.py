"""Targets of a study: how deep a search must go for them, what cannot be had, and what is chosen.

Before a search the work of every layer is counted from the model's configuration; nothing is
loaded. After it the models kept are timed until one meets the targets, by a function that is given:
how a model is timed is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch

from telltale.engine.unloaded import Seconds, UnloadedRunner, request_seconds
from telltale.errors import InputError
from telltale.evidence.targets import (
    KINDS,
    LATENCY,
    MEMORY,
    PARAMETERS,
    SPEEDUP,
    Candidate,
    Chosen,
    Figure,
    Request,
    choose,
)
from telltale.models.load import hollow_model
from telltale.models.work import Work, work_of
from telltale.paths import LayerPath, check_layers
from telltale.study.records import key_of
from telltale.support.words import counted
from telltale.tasks.sets import SEARCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.evidence.parts import PathModel
    from telltale.evidence.targets import Targets
    from telltale.models.source import ModelSource
    from telltale.study.question import Question
    from telltale.study.records import Records
    from telltale.study.settings import Settings
    from telltale.tasks import Task

# Of what a moment's timing says that a request takes, what it may take at best all the same.
LEEWAY = 0.75
TIMED = "timed"  # a fact: what was timed, by how and by path


class Asked(NamedTuple):
    """What is to be timed.

    Attributes:
        source: the whole model's files.
        path: the layers of the model that is timed against it.
        request: the work.
        device: where, as torch names it.
        dtype: in which precision.
    """

    source: ModelSource
    path: LayerPath
    request: Request
    device: str
    dtype: str


# Gives the figures of timed targets that can be had, by their names, without an ideal.
Timer = Callable[[Asked], Mapping[str, Figure]]


def request_of(task: Task, tokens: float, longest: int | None) -> Request:
    """A request like a task's.

    Args:
        task: it; where it compares choices only the first token is written.
        tokens: how many an example of it has on average.
        longest: how many the model takes; None where that is not known.
    """
    new = 1 if task.generation is None else task.generation.max_new_tokens
    prompt = max(1, round(tokens))
    return Request(prompt if longest is None else max(1, min(prompt, longest - new)), new)


@dataclass(frozen=True)
class Costs:
    """What paths of a model cost for a request, as it is counted.

    Attributes:
        work: the whole model's.
        request: what is done.
        number_bytes: how many bytes a number has.
    """

    work: Work
    request: Request
    number_bytes: int

    @property
    def whole(self) -> LayerPath:
        """The path through every layer."""
        return LayerPath.whole(len(self.work.layers))

    def of(self, name: str, path: LayerPath) -> float:
        """What a path costs, by a target: less is better."""
        work = self.work.on(path)
        if name == PARAMETERS:
            return work.parameters
        if name == MEMORY:
            return self.number_bytes * work.numbers_held(1, sum(self.request) - 1)
        return work.request(*self.request)

    def ideal_speedup(self, path: LayerPath) -> float:
        """How many times as fast as the whole model a path is, if time is work."""
        return self.of(SPEEDUP, self.whole) / self.of(SPEEDUP, path)

    def at_best(self, path: LayerPath) -> dict[str, Figure]:
        """What a path may have at best, by target; of latency only a machine can say."""
        # Where calling a layer takes longer than computing it, time goes with their number.
        speedup = max(self.ideal_speedup(path), path.total / path.depth)
        found = {
            SPEEDUP: speedup,
            MEMORY: self.of(MEMORY, path),
            PARAMETERS: self.of(PARAMETERS, path),
        }
        return {name: Figure(value, value, value) for name, value in found.items()}

    def cheapest(self, name: str, free: Sequence[int], count: int) -> LayerPath:
        """The path without so many of some layers that costs least by a target."""
        saved = {layer: -self.of(name, self.whole.without(layer)) for layer in free}
        removed = sorted(free, key=lambda layer: (-saved[layer], layer))[:count]
        return LayerPath.from_removed(sorted(removed), self.whole.total)


class Depths:
    """How deep a search must go for its targets; refuses what no depth can meet."""

    def __init__(self, costs: Costs, settings: Settings, asked: Asked) -> None:
        self.costs, self.settings, self.asked = costs, settings, asked
        self.free = [layer for layer in costs.whole.kept if layer not in settings.protected]
        self.possible = min(len(self.free), costs.whole.total - 1)  # one layer stays
        most = settings.max_removed
        self.most = self.possible if most is None else min(most, self.possible)

    @cached_property
    def _seconds(self) -> Seconds | None:
        """By a moment's timing."""
        of = self.asked
        return request_seconds(of.source, torch.device(of.device), of.dtype, *of.request)

    def best(self, name: str, count: int) -> float | None:
        """What may be had of a target with so many layers removed; None where that is not known."""
        path = self.costs.cheapest(name, self.free, count)
        if name in (MEMORY, PARAMETERS):
            return self.costs.of(name, path)
        seconds, ideal = self._seconds, self.costs.ideal_speedup(path)
        if seconds is None:
            return ideal if name == SPEEDUP else None
        left = seconds.of(path.depth)
        # Where calling a layer takes longer than computing it, time says more than work.
        return max(ideal, seconds.of(path.total) / left) if name == SPEEDUP else 1e3 * left

    def needs(self) -> dict[str, int | None]:
        """By target, how many layers must go at least; None where that is not known.

        Raises:
            InputError: no depth that is allowed meets a target.
        """
        asked = self.settings.targets.asked
        return {name: self._need(name, value) for name, value in asked.items()}

    def _need(self, name: str, wanted: float) -> int | None:
        found = [self.best(name, count) for count in range(self.possible + 1)]
        known = [one for one in found if one is not None]
        if not known:
            return None
        meets = KINDS[name].meets
        enough = (at for at, one in enumerate(known) if meets(wanted, Figure(one, one, one)))
        need = next(enough, None)
        if need is None and name == LATENCY and LEEWAY * known[self.most] <= wanted:
            return self.most  # too near to be refused by a moment's timing
        if need is None or need > self.most:
            raise self._refusal(name, wanted, known[self.most], need)
        return need

    def _refusal(self, name: str, wanted: float, best: float, need: int | None) -> InputError:
        """Why a target cannot be had, and the best that can."""
        kind, total = KINDS[name], self.costs.whole.total
        limit = f"{kind.say(best)} at {'most' if kind.at_least else 'least'}"
        about = "about " if name == LATENCY else ""
        left = (
            f"with {counted(total - self.most, 'layer')} of {total} left the model "
            f"{kind.verbs[0]} {about}{limit}"
        )
        given = f"{wanted:g}" if name in (SPEEDUP, LATENCY) else kind.short(wanted)
        asked, ask = f"`{name}` {given} cannot be had", f"ask for {kind.easier}"
        if need is not None:
            bound = f"`max_removed` {self.settings.max_removed}"
            return InputError(
                f"{asked} with {bound}: {left}, and it takes {need} removed; give `max_removed` "
                f"{need} or {ask}"
            )
        protected = self.possible < total - 1
        return InputError(f"{asked}: {left}; {ask}{' or `protect` fewer' if protected else ''}")


def depths_of(question: Question, settings: Settings) -> Depths | None:
    """What is known of a study's targets before it; None where it has none. Loads no weights.

    Args:
        question: what is measured, in a precision that is known.
        settings: how to choose.
    """
    if not settings.targets.asked:
        return None
    runner = question.runner
    unloaded = UnloadedRunner(question.source, runner.device, runner.dtype)
    bench = replace(question, make_runner=lambda *_: unloaded).workbench()
    own = question.positions[SEARCH]
    tokens = sum(bench.encoded[position].tokens for position in own) / len(own)
    costs, asked = costs_of(question, tokens, str(runner.dtype).removeprefix("torch."))
    check_layers(sorted(settings.protected), costs.whole.total)
    return Depths(costs, settings, asked)


def costs_of(question: Question, tokens: float, dtype: str) -> tuple[Costs, Asked]:
    """What a question's paths cost, and how they are timed; of the whole model first.

    Args:
        question: what is measured.
        tokens: how many an example of its search set has on average.
        dtype: the precision.
    """
    work = work_of(hollow_model(question.source))
    request = request_of(question.task, tokens, work.longest)
    costs = Costs(work, request, getattr(torch, dtype).itemsize)
    return costs, Asked(question.source, costs.whole, request, str(question.runner.device), dtype)


def check_targets(question: Question, settings: Settings) -> None:
    """Refuse targets that no depth can meet.

    Raises:
        InputError: there is one; the best that can be had is said.
    """
    depths = depths_of(question, settings)
    if depths is not None:
        depths.needs()


def chosen_by_targets(
    models: Sequence[PathModel],
    targets: Targets,
    costs: Costs,
    asked: Asked,
    records: Records,
    timer: Timer | None,
) -> Chosen:
    """The model of those kept that meets the targets and is worth most.

    What was timed is kept, so that a study that is finished chooses the same again.

    Args:
        models: those kept, the whole one first.
        targets: what is asked.
        costs: what is counted.
        asked: how a model is timed.
        records: what is known.
        timer: times the rest; None where nothing is to be timed.

    Raises:
        MeasurementError: a model could not be timed.
    """

    def measured(model: PathModel) -> dict[str, Figure]:
        found = {PARAMETERS: costs.at_best(model.path)[PARAMETERS]}
        if targets.timed and timer is not None:
            found |= _remembered(asked._replace(path=model.path), records, timer)
            ideal = costs.ideal_speedup(model.path)
            found[SPEEDUP] = found[SPEEDUP]._replace(ideal=ideal)
        return found

    candidates = [
        Candidate(model, costs.of(SPEEDUP, model.path), costs.at_best(model.path))
        for model in models
    ]
    return choose(candidates, targets, asked.request if targets.timed else None, measured)


def _remembered(asked: Asked, records: Records, timer: Timer) -> Mapping[str, Figure]:
    """What a model takes, timed once and kept."""
    known = records.fact(TIMED) or {}
    how = f"{asked.device} {asked.dtype} {asked.request.prompt_tokens} {asked.request.new_tokens}"
    of_path = known.get(how, {})
    key = key_of(asked.path)
    if key not in of_path:
        of_path = {**of_path, key: {name: list(one) for name, one in timer(asked).items()}}
        records.set_facts({TIMED: {**known, how: of_path}})
    return {name: Figure(*one) for name, one in of_path[key].items()}
