"""Methods compared at equal depth: each one's search on one study's records, and then its models.

What one method has measured, the next one remembers; what each takes by itself is counted
(`telltale.study.work`). Nothing is claimed of a model: it is measured on held-out examples beside
the whole one, and beside that of greedy removal of the same depth.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from telltale.engine.importance import WeightScore
from telltale.engine.perplexity import built_in_page, windows_of
from telltale.engine.runner import LocalRunner
from telltale.engine.unloaded import UnloadedRunner
from telltale.errors import InputError
from telltale.evidence.comparison import compare
from telltale.evidence.methods import (
    REFERENCE,
    Compared,
    Method,
    MethodCost,
    ModelAtDepth,
    OtherModel,
)
from telltale.information import check_installed
from telltale.searches import Evolution, search_named, source_of
from telltale.study.beside import measured_beside, times_as_fast
from telltale.study.measuring import needed_scores
from telltale.study.opening import open_study, search_name
from telltale.study.records import has_begun
from telltale.study.run import Run
from telltale.study.work import Work
from telltale.support.files import sha256_of_json
from telltale.tasks.sets import HELD_OUT, SEARCH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from telltale.engine.perplexity import Page
    from telltale.engine.runner import ModelRunner
    from telltale.evidence.stats import Interval
    from telltale.measure import Outcome
    from telltale.models.source import ModelSource
    from telltale.paths import LayerPath
    from telltale.searches import Kept, Search
    from telltale.study.beside import Beside
    from telltale.study.opening import OpenStudy
    from telltale.study.question import Question
    from telltale.study.settings import Settings
    from telltale.watcher import Watcher

SEARCHED = "searched"  # in a comparison's folder, the study that all methods share
BESIDE = "beside"  # in that folder, what another model gives
GRADIENT_PASSES = 3  # that a pass forth and back is worth, of which back takes twice as much
FLATTERS = (
    "each interval is for its method and depth alone; the held-out accuracy of a method that is "
    "picked because it is the highest of this table flatters"
)
UNQUANTISED = (
    "{name} is timed with its weights in {dtype}, and not in the quantised form of its file"
)
CHOSE_BY = "chosen by the perplexity of {page}, and not by the task's examples: {names}"


def check_comparison_folder(folder: Path) -> None:
    """Refuse a folder that holds something else than a comparison.

    Raises:
        InputError: it is a file, or holds other files.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the comparison")
    if has_begun(folder):
        raise InputError(f"{folder} holds a search; give another `out`")
    if folder.is_dir() and not (folder / SEARCHED).is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty and no comparison; give another `out`")


def check_depths(depths: Sequence[int]) -> tuple[int, ...]:
    """Depths in ascending order.

    Raises:
        InputError: there is none, or one of them is no number of layers to remove.
    """
    if not depths:
        raise InputError("`depths` names none; give how many layers are removed, such as 2,4")
    if min(depths) < 1:
        raise InputError(f"`depths` must be at least 1 layer removed, got {min(depths)}")
    return tuple(sorted(set(depths)))


def check_methods(methods: Sequence[str]) -> dict[str, Search]:
    """The searches of some names.

    Raises:
        InputError: there is no such method, it is given twice, or it lacks a library.
    """
    if not methods:
        raise InputError("`methods` names none; give some, such as greedy,block-influence")
    found: dict[str, Search] = {}
    for name in methods:
        if name in found:
            raise InputError(f"`methods` names {name} twice; give it once")
        found[name] = search_named(name, "methods")
        if name == "joint":
            check_installed()
    return found


def settings_of(
    searches: Mapping[str, Search], depths: Sequence[int], settings: Settings
) -> dict[str, Settings]:
    """How each method searches, by its name.

    Args:
        searches: the methods.
        depths: how many layers are removed.
        settings: what all of them are given.
    """
    return {
        name: replace(
            settings,
            # Each depth is evolved apart, so that no others are.
            search=replace(one, counts=tuple(depths)) if isinstance(one, Evolution) else one,
        )
        for name, one in searches.items()
    }


def compare_methods(
    question: Question,
    methods: Mapping[str, Settings],
    depths: Sequence[int],
    folder: Path,
    page: Page | None,
    watcher: Watcher,
    *,
    other: ModelSource | None = None,
    resume_anyway: bool,
) -> Compared:
    """Search by every method, and measure what each has found at every depth.

    Args:
        question: what to measure.
        methods: how each searches, by its name; see `settings_of`.
        depths: how many layers are removed, ascending.
        folder: that of the study that they share, which is taken already
            (`telltale.study.records.only_writer`); what it holds is not measured again.
        page: the text of those that go by one.
        watcher: is told how it goes on.
        other: a model that may be used instead, measured on the same held-out examples and timed.
        resume_anyway: see `telltale.study.run.run_study`.

    Raises:
        InputError: a depth is beyond the model, or as of a study; or ``other`` is the model itself
            or cannot be asked.
        MeasurementError: measuring failed; what was measured is kept.
    """
    page, first = page or built_in_page(), next(iter(methods.values()))
    if question.make_runner is LocalRunner:  # refused before weights are loaded
        there = question.runner
        _check_reached(depths, UnloadedRunner(question.source, there.device, there.dtype), first)
    begun = open_study(
        question, first, folder, page, watcher, resume_anyway=resume_anyway, is_taken=True
    )
    with begun as study:
        _check_reached(depths, study.question.runner, first)
        beside = None
        if other is not None:  # before any search, so that what cannot be asked is told soon
            dtype = str(study.measuring.bench.dtype).removeprefix("torch.")
            beside = measured_beside(study.question, other, dtype, folder / BESIDE, watcher)
        return _Comparing(study, methods, tuple(depths), page, watcher, beside).compared()


def _check_reached(depths: Sequence[int], runner: ModelRunner, settings: Settings) -> None:
    """Refuse a depth beyond the model.

    Raises:
        InputError: so many layers cannot be removed.
    """
    layers, protected = runner.facts.depth, len(settings.protected)
    most = min(layers - 1, layers - protected)
    if depths[-1] > most:
        stay = f", {protected} of them protected" if protected else ""
        raise InputError(
            f"`depths` {depths[-1]} is beyond this model, which has {layers} layers{stay}; at most "
            f"{most} can be removed"
        )


class _Comparing:
    """One run of a comparison, with what its parts share."""

    def __init__(
        self,
        study: OpenStudy,
        methods: Mapping[str, Settings],
        depths: tuple[int, ...],
        page: Page,
        watcher: Watcher,
        beside: Beside | None,
    ) -> None:
        self.study, self.methods, self.depths = study, methods, depths
        self.page, self.watcher, self.beside = page, watcher, beside
        self.first = next(iter(methods.values()))
        # The order of examples is found by the whole model before; each method's cost has it.
        self.plan = study.measuring.dealt(study.plan, self.first, watcher)
        self.text_tokens = (
            # The last of a window is predicted and not read.
            sum(one.tokens - 1 for one in windows_of(study.measuring.bench, page))
            if any(one.search.reads_text for one in methods.values())
            else 0
        )

    def compared(self) -> Compared:
        """The methods' searches, their models, and what all of it says."""
        study, watcher = self.study, self.watcher
        question, settings = study.question, self.first
        identity = study.records.fact("identity")
        runs = {
            name: Run(
                replace(study, settings=own, name=search_name(identity, question, own, self.page)),
                watcher,
                self.page,
            )
            for name, own in self.methods.items()
        }
        asked = next(iter(runs.values())).asked()
        watcher.begun(asked)
        found, works = {}, {}
        for number, (name, run) in enumerate(runs.items(), start=1):
            watcher.advised(f"{name}, {number} of {len(runs)}: {source_of(name)}")
            bench = study.measuring.bench
            works[name] = Work(bench.tokens_in, len(bench.token_prefix), self.text_tokens)
            found[name] = run.searched(works[name])
        for run in runs.values():
            run.note_look(HELD_OUT)
        whole = next(iter(found.values())).kept[0]
        kept = {
            name: {depth: _of_depth(one.kept, depth) for depth in self.depths}
            for name, one in found.items()
        }
        models = [model for of_method in kept.values() for model in of_method.values() if model]
        paths = [*dict.fromkeys(model.path for model in (whole, *models))]
        watcher.phase(HELD_OUT)
        batches = self.plan.batches_of(HELD_OUT)
        held_out = study.measuring.outcomes(HELD_OUT, paths, batches, watcher)
        spent = study.records.cost()
        named = ("name", "revision", "sha256", "layers", "parameters", "dtype")
        reference = kept.get(REFERENCE, {})

        def seen(name: str, depth: int) -> ModelAtDepth | None:
            model = kept[name][depth]
            beside = None if name == REFERENCE else reference.get(depth)
            return None if model is None else self._model(model, whole, beside, held_out)

        return Compared(
            model={name: asked["model"][name] for name in named},
            task=asked["task"],
            settings={
                "objective": settings.objective.name,
                "protected": sorted(settings.protected),
                "confidence": settings.confidence,
                "speed": settings.speed,
                "text": {"name": self.page.name, "sha256": self.page.sha256},
            },
            fingerprint=study.fingerprint,
            depths=self.depths,
            baseline=self._model(whole, whole, None, held_out),
            methods=tuple(
                Method(
                    name,
                    source_of(name),
                    {"method": own.search.method, **own.search.own_settings},
                    self._cost(own, works[name], spent.seconds / max(1, spent.layer_tokens)),
                    {depth: seen(name, depth) for depth in self.depths},
                )
                for name, own in self.methods.items()
            ),
            other=None if self.beside is None else self._other(self.beside, kept, held_out, whole),
            cautions=tuple(self._cautions()),
            seconds=spent.seconds,
        )

    def _other(
        self,
        other: Beside,
        kept: Mapping[str, Mapping[int, Kept | None]],
        held_out: Mapping[LayerPath, Mapping[int, Outcome]],
        whole: Kept,
    ) -> OtherModel:
        clusters, confidence = self.study.question.clusters, self.first.confidence
        reference = kept.get(REFERENCE, {})

        def over(depth: int) -> tuple[float, Interval] | None:
            model = reference.get(depth)
            if model is None:
                return None
            found = compare(held_out[model.path], other.outcomes, clusters, confidence)
            return found.gain, found.gain_interval

        # Of each depth one model stands for all: layers of a kind take as long.
        timed = {
            depth: next((model for one in kept.values() if (model := one[depth])), None)
            for depth in self.depths
        }
        paths = {depth: model.path for depth, model in timed.items() if model is not None}
        *speeds, speed = self._speeds([whole.path, *paths.values()], other)
        return OtherModel(
            name=other.source.name,
            sha256=other.source.sha256,
            layers=other.facts.depth,
            parameters=other.facts.parameters,
            held_out=compare(held_out[whole.path], other.outcomes, clusters, confidence),
            over_greedy={depth: over(depth) for depth in self.depths},
            speed=speed,
            speeds=dict(zip(paths, speeds, strict=True)),
        )

    def _speeds(self, paths: Sequence[LayerPath], other: Beside) -> list[float]:
        """See `times_as_fast`; what was timed once is kept."""
        records = self.study.records
        name = sha256_of_json([other.fingerprint, *([*path.removed] for path in paths)])
        known = records.fact("beside") or {}
        if name not in known:
            self.watcher.phase("speed")
            bench = self.study.measuring.bench
            known |= {name: times_as_fast(self.study.question, bench, paths, other)}
            records.set_facts({"beside": known})
        found: list[float] = known[name]
        return found

    def _model(
        self,
        model: Kept,
        whole: Kept,
        reference: Kept | None,
        held_out: Mapping[LayerPath, Mapping[int, Outcome]],
    ) -> ModelAtDepth:
        clusters, confidence = self.study.question.clusters, self.first.confidence
        own = held_out[model.path]
        over = None
        if reference is not None:
            beside = compare(held_out[reference.path], own, clusters, confidence)
            over = beside.gain, beside.gain_interval
        return ModelAtDepth(
            removed=model.removed,
            layers=model.path.depth,
            parameters=self.plan.parameters_of(model.path),
            accuracy=model.accuracy,
            objective=model.value,
            held_out=compare(held_out[whole.path], own, clusters, confidence),
            over_greedy=over,
        )

    def _cost(self, settings: Settings, work: Work, seconds_per_token: float) -> MethodCost:
        """What a method takes by itself, with the order of examples and the scores of layers."""
        dense_pass = self.plan.layers * self.plan.search_tokens
        scores = needed_scores(settings).values()
        passes = max(
            (
                0 if isinstance(one, WeightScore) else GRADIENT_PASSES if one.needs_gradients else 1
                for one in scores
            ),
            default=0,
        )
        layer_tokens = work.layer_tokens + passes * dense_pass
        if self.plan.dealt:  # on other batches the whole model has said in which order they come
            first = set(self.plan.batches[SEARCH]).difference(self.plan.dealt)
            tokens_in = self.study.measuring.bench.tokens_in
            layer_tokens += self.plan.layers * sum(map(tokens_in, first))
        return MethodCost(
            layer_tokens=layer_tokens,
            dense_passes=layer_tokens / dense_pass,
            candidates=len(work.paths - {self.plan.whole}),
            seconds=layer_tokens * seconds_per_token,
        )

    def _cautions(self) -> list[str]:
        by_text = [name for name, one in self.methods.items() if one.search.reads_text]
        said = [FLATTERS]
        if by_text:
            said.append(CHOSE_BY.format(names=", ".join(by_text), page=self.page.name))
        if self.beside is not None and self.beside.source.from_gguf:
            said.append(UNQUANTISED.format(name=self.beside.source.name, dtype=self.beside.dtype))
        return said


def _of_depth(kept: Sequence[Kept], depth: int) -> Kept | None:
    """The model that lacks so many layers, where there is one."""
    return next((model for model in kept if len(model.removed) == depth), None)
