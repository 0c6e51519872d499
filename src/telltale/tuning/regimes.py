"""Regimes: searching and tuning one after the other, each step in a folder of its own.

After every step there is one model: the whole one with what was learnt, and a path through it. So
an adapter of a shallower model is lifted onto the whole one, and the next search may put a layer
back. A step that is finished is not done again; one that was stopped goes on. The steps that
regimes begin with alike are done once.
"""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from telltale.checkpoints.carry import carry_adapter, lift_adapter
from telltale.checkpoints.verify import verify_checkpoint
from telltale.checkpoints.write import precision_of, write_checkpoint
from telltale.engine.speed import tokens_per_second
from telltale.engine.workbench import Workbench
from telltale.errors import InputError
from telltale.evidence.comparison import compare
from telltale.evidence.stats import mean_of
from telltale.evidence.tuned import (
    REGIMES,
    SEARCH,
    TUNE,
    Moment,
    Step,
    Training,
    step_document,
    step_from,
)
from telltale.measure import in_halves, outcomes_by_path, pack_outcomes, unpack_outcomes
from telltale.models.adapter import merge_adapter
from telltale.models.load import choose_device
from telltale.models.source import resolve_model
from telltale.objectives import OBJECTIVES, values_by
from telltale.paths import LayerPath
from telltale.report import write_report
from telltale.study.picking import picked_from
from telltale.study.question import Question, digest_of
from telltale.study.reading import read_study
from telltale.study.run import run_study
from telltale.support.files import sha256_of_json, write_json
from telltale.tasks.sets import HELD_OUT, Part
from telltale.tasks.split import Split, clusters_of
from telltale.tuning.settings import Loss
from telltale.tuning.training import tune_model
from telltale.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from telltale.engine.perplexity import Page
    from telltale.evidence.result import PathModel, Result
    from telltale.measure import Measurement, Outcome
    from telltale.models.source import ModelSource
    from telltale.study.settings import Settings
    from telltale.tasks import Example, Task
    from telltale.tuning.sets import TuningSets
    from telltale.tuning.settings import TuningSettings

STEP_FILE, BACK_FILE, SPEED_FILE = "step.json", "put-back.json", "speed.json"
REPORT = "report.html"
ADAPTER = "adapter"
WORDS = {SEARCH: "tale", TUNE: "ft"}  # a step in the name of its folder
DOING = {SEARCH: "a search for layers to remove", TUNE: "tuning"}
WHOLE, START = "whole", "start"  # the folders of models that nothing was done to
SEARCH_PICKS = ("best", "bsba")  # models that the search set alone chooses


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What is searched and tuned: all that decides what comes out.

    Attributes:
        source: the whole model.
        task: how examples are asked.
        sets: the examples.
        settings: of tuning; a run has its own seed.
        search: of every search; ``max_removed`` counts all layers that the model lacks.
        pick: which model of a search's path is gone on with: ``best``, ``bsba``, or how many layers
            it lacks in all.
        removed: the layers that the model lacks from the beginning, in order of removal.
        seed: by which the sets were drawn.
        device: where everything runs.
        dtype: the precision's name.
        cuts: whether prompts that are too long lose their beginning.
    """

    source: ModelSource
    task: Task
    sets: TuningSets
    settings: TuningSettings
    search: Settings
    pick: str = "best"
    removed: tuple[int, ...] = ()
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    cuts: bool = False

    def asked(self) -> dict[str, Any]:
        """What decides how any model does on the held-out set, by names for a person."""
        return {
            "the model's bytes": [self.source.sha256, self.source.tokenizer_sha256],
            "how the task is asked": {"prompt": self.task.template, **self.task.settings()},
            "the held-out set": digest_of(self.sets.held_out),
            "`truncate`": "left" if self.cuts else "no",
            "`dtype`": self.dtype,
            "the kind of device": choose_device(self.device).type,
        }

    def asked_of(self, kind: str) -> dict[str, Any]:
        """What decides a step of a kind beside the model that it begins with."""
        sets = self.sets
        if kind == SEARCH:
            return {
                "the search set": digest_of(sets.search),
                "how is searched": self.search.document(),
                "`pick`": self.pick,
                "`seed`": self.seed,
            }
        if kind == TUNE:
            return {
                "the examples to train on": digest_of(sets.train),
                "the development set": digest_of(sets.development),
                "how is tuned": self.settings.document(),
            }
        return {}


@dataclass(frozen=True, slots=True)
class State:
    """A model after some steps: the whole one with what was learnt, and the path through it.

    Attributes:
        name: of the folder of the last step.
        step: what that was, and how the model does.
        outcomes: on the held-out set, by position there.
        identity: a hash of all that decided the model.
        learnt: the folder with the whole model and what was learnt, merged; None where nothing was.
        adapter: what was learnt, as an adapter of the whole model.
    """

    name: str
    step: Step
    outcomes: Mapping[int, Outcome]
    identity: str
    learnt: Path | None = None
    adapter: Path | None = None

    @property
    def scores(self) -> list[float]:
        """Each held-out example's score, in order."""
        return [self.outcomes[position].score for position in sorted(self.outcomes)]


class Regimes:
    """Runs regimes in a folder.

    What steps of several regimes have in common is done once: the folder of a step is named by the
    steps up to it, and by the seed where one of them is tuning.
    """

    def __init__(
        self,
        tuning: Tuning,
        folder: Path,
        watcher: Watcher | None = None,
        page: Page | None = None,
    ) -> None:
        self.tuning, self.folder, self.page = tuning, folder, page
        self.watcher = watcher or Watcher()
        self._states: dict[str, State] = {}
        self._sources: dict[Path | None, ModelSource] = {None: tuning.source}

    def baseline(self) -> State:
        """The whole model, with nothing done to it."""
        return self._untouched(WHOLE, ())

    def start(self) -> State:
        """The model that every regime begins with."""
        removed = self.tuning.removed
        return self._untouched(START, removed) if removed else self.baseline()

    def run(self, regime: str, seed: int = 0) -> list[State]:
        """The models after each step of a regime whose training has this seed.

        Raises:
            InputError: the folder holds steps that something else has decided.
            MeasurementError: measuring or training failed; the same call goes on.
        """
        self.baseline()
        kinds, states = REGIMES[regime], [self.start()]
        for count, kind in enumerate(kinds, start=1):
            name = folder_of(kinds[:count], seed)
            if name not in self._states:
                words = f"step {count} of {len(kinds)} of {regime}: {DOING[kind]}"
                self._states[name] = self._stepped(name, kind, states[-1], seed, words)
            states.append(self._states[name])
        return states[1:]

    def speeds(self, states: Sequence[State]) -> list[float]:
        """Tokens per second of models, reading; timed in turn and kept.

        Where another is asked for, those that are known are timed again with it.
        """
        file = self.folder / SPEED_FILE
        keys = [",".join(map(str, self._path(one).removed)) for one in states]
        known = _read(file) or {}
        if not set(keys) <= known.keys():
            total = self.baseline().step.layers
            paths = {
                key: LayerPath.from_removed([int(one) for one in key.split(",") if one], total)
                for key in {**known, **dict.fromkeys(keys)}
            }
            self.watcher.phase("speed")
            bench = self._bench(self.tuning.source, self.tuning.sets.held_out, once=False)
            batches = bench.batches(range(len(bench.examples)))
            batch = bench.timed_part(batches[len(batches) // 2])
            found = tokens_per_second(bench, list(paths.values()), batch)
            known = {key: found[path] for key, path in paths.items()}
            write_json(file, known)
        return [known[key] for key in keys]

    def checkpoint(self, state: State, *, merged: bool) -> tuple[Path, Path | None]:
        """The model as a checkpoint, verified by reloading it, and the adapter that goes with it.

        Args:
            state: the model.
            merged: whether what was learnt is in the checkpoint's weights; else an adapter beside
                it has it.

        Raises:
            InputError: nothing was learnt, so that there is no adapter.
            TelltaleError: it did not verify; nothing is left behind.
        """
        path, place = self._path(state), self.folder / state.name
        if merged:
            source = self._source(state)
            to = made_once(place / "checkpoint", lambda to: self._write(source, path, to))
            return to, None
        adapter = state.adapter
        if adapter is None:
            raise InputError("`output` adapter: nothing was trained; give merged")
        whole = self.tuning.source
        to = made_once(place / "base", lambda to: self._write(whole, path, to, adapter))
        return to, to / ADAPTER

    def _write(
        self, source: ModelSource, path: LayerPath, to: Path, adapter: Path | None = None
    ) -> None:
        """Write a checkpoint, with an adapter of the whole model carried onto it, and reload it."""
        write_checkpoint(source, path, to)
        adapters = None
        if adapter is not None:
            without = self._named(to, f"without {', '.join(map(str, path.removed))}")
            carry_adapter(adapter, path, to / ADAPTER, model=without)
            adapters = adapter, to / ADAPTER
        device = choose_device(self.tuning.device)
        verify_checkpoint(to, source, path, precision_of(source), device, adapters)

    # What every step has

    def _untouched(self, name: str, removed: tuple[int, ...]) -> State:
        """A model that nothing was done to, measured."""
        if name not in self._states:
            place, asked = self.folder / name, {**self.tuning.asked(), "`remove`": list(removed)}
            if _begun(place, asked):
                path, outcomes = self._measured(self.tuning.source, removed)
                step = self._step("", removed, path, outcomes)
                _finish(place, asked, step, outcomes)
            self._states[name] = _state(place, asked)
        return self._states[name]

    def _stepped(self, name: str, kind: str, before: State, seed: int, words: str) -> State:
        """The model after a step that begins with another."""
        place = self.folder / name
        settings = replace(self.tuning, settings=replace(self.tuning.settings, seed=seed))
        asked = {**settings.asked_of(kind), "the steps before": before.identity}
        if _begun(place, asked):
            self.watcher.advised(words[0].upper() + words[1:])
            if kind == SEARCH:
                step, outcomes = self._searched(place, before)
            else:
                step, outcomes = self._tuned(place, before, settings.settings)
            _finish(place, asked, step, outcomes)
        state = _state(place, asked)
        if kind == SEARCH:
            return replace(state, learnt=before.learnt, adapter=before.adapter)
        return replace(state, learnt=place / "whole", adapter=place / ADAPTER)

    def _step(
        self,
        kind: str,
        removed: tuple[int, ...],
        path: LayerPath,
        outcomes: Mapping[int, Outcome],
        **more: Any,
    ) -> Step:
        known = self._states.get(WHOLE)
        return Step(
            kind=kind,
            removed=removed,
            layers=path.depth,
            held_out=compare(
                outcomes if known is None else known.outcomes,
                outcomes,
                dict(enumerate(clusters_of(self.tuning.sets.held_out))),
                self.tuning.search.confidence,
            ),
            **more,
        )

    # Searching

    def _searched(self, place: Path, before: State) -> tuple[Step, dict[int, Outcome]]:
        """Put layers back that are missed now, search on from there, and pick a model."""
        began = time.monotonic()
        back = self._put_back(place, before) if before.step.removed else ()
        seconds = time.monotonic() - began
        removed = tuple(layer for layer in before.step.removed if layer not in back)
        path = self._path(before, back)
        result = self._study(place, before, path)
        if result is None:  # as few layers as may be are left
            _, outcomes = self._measured(self._source(before), path.removed)
            more: dict[str, Any] = {"seconds": seconds}
        else:
            found = self._picked(result, len(removed))
            removed += tuple(path.kept[layer] for layer in found.removed)
            path = LayerPath(tuple(path.kept[layer] for layer in found.path.kept), path.total)
            measured = read_study(place / "study").outcomes[HELD_OUT, found.path]
            first = min(measured)
            outcomes = {
                one - first: replace(measured[one], example=one - first) for one in measured
            }
            cost = result.cost
            more = {"seconds": seconds + cost.seconds, "layer_tokens": cost.layer_tokens}
        return self._step(SEARCH, removed, path, outcomes, put_back=back, **more), outcomes

    def _study(self, place: Path, before: State, path: LayerPath) -> Result | None:
        """A search that begins with a path; None where no more layers may be removed."""
        tuning, sets = self.tuning, self.tuning.sets
        most = tuning.search.max_removed
        if path.depth == 1 or (most is not None and most <= len(path.removed)):
            return None
        source = self._at(before, path, place / "start")
        examples = (*sets.search, *sets.held_out)
        size = len(sets.search)
        question = Question(
            source,
            replace(tuning.task, examples=examples),
            Split(
                {
                    Part.SEARCH: tuple(range(size)),
                    Part.HELD_OUT: tuple(range(size, len(examples))),
                }
            ),
            seed=tuning.seed,
            device=tuning.device,
            dtype=tuning.dtype,
            cuts=tuning.cuts,
            reads_references=tuning.task.generation is not None
            and tuning.search.objective.fewest_choices > 0,
        )
        limit = None if most is None else most - len(path.removed)
        study = place / "study"
        result = run_study(
            question,
            replace(tuning.search, max_removed=limit),
            study,
            watcher=self.watcher,
            page=self.page,
        )
        write_report([study], study / REPORT)
        return result

    def _picked(self, result: Result, missing: int) -> PathModel:
        """The model to go on with; ``missing`` layers are gone before the search."""
        pick = self.tuning.pick
        if pick in SEARCH_PICKS:
            return result.best if pick == "best" else result.bsba
        wanted = int(pick) - missing
        return result.baseline if wanted <= 0 else picked_from(result, str(wanted))

    def _put_back(self, place: Path, before: State) -> tuple[int, ...]:
        """The layers that are missed, each found beside those put back already, most missed first.

        A layer is missed if with it the right answers of the search set are likelier, in the mean,
        by more than one standard error of the difference.
        """
        known = _read(place / BACK_FILE)
        if known is not None:
            return tuple(known["put_back"])
        task, examples = self.tuning.task, self.tuning.sets.search
        right = {
            position: 0 if task.generation else example.answer
            for position, example in enumerate(examples)
        }
        value = values_by(OBJECTIVES["likelihood"], task.scoring, right)
        clusters = clusters_of(examples)
        bench = self._bench(
            self._source(before), examples, once=False, references=task.generation is not None
        )
        self.watcher.phase("put-back")
        values: dict[LayerPath, list[float]] = {}

        def measure(paths: Sequence[LayerPath]) -> None:
            for path, outcomes in self._outcomes(bench, paths).items():
                values[path] = [value(outcomes[one]) for one in range(len(examples))]

        back: tuple[int, ...] = ()
        path = self._path(before)
        measure([path])
        while path.removed:
            tried = {layer: _with(path, layer) for layer in path.removed}
            measure(list(tried.values()))
            gains = {
                layer: mean_of(
                    [a - b for a, b in zip(values[one], values[path], strict=True)], clusters
                )
                for layer, one in tried.items()
            }
            missed = [layer for layer, gain in gains.items() if gain.value > gain.error]
            if not missed:
                break
            layer = max(missed, key=lambda one: gains[one].value)
            back, path = (*back, layer), tried[layer]
        write_json(place / BACK_FILE, {"put_back": list(back)})
        return back

    # Tuning

    def _tuned(
        self, place: Path, before: State, settings: TuningSettings
    ) -> tuple[Step, dict[int, Outcome]]:
        """Train an adapter of the shallower model, and lift it onto the whole one."""
        tuning, sets = self.tuning, self.tuning.sets
        path = self._path(before)
        at = self.folder / before.name / "model"
        self.watcher.phase("tune")
        tuned = tune_model(
            self._at(before, path, at),
            tuning.task,
            sets.train,
            sets.development,
            settings,
            place / "training",
            device=tuning.device,
            dtype=tuning.dtype,
            teacher=tuning.source if settings.loss == Loss.DISTILLATION else None,
            cuts=tuning.cuts,
            watcher=self.watcher,
        )
        source = self._source(before)
        adapter = made_once(
            place / ADAPTER, lambda to: lift_adapter(tuned.adapter, path, to, model=source)
        )
        learnt = made_once(place / "whole", lambda to: merge_adapter(source, adapter, to))
        _, outcomes = self._measured(self._resolved(learnt), path.removed)
        training = Training(
            examples=tuned.train_examples,
            steps=tuned.steps,
            best_step=tuned.best_step,
            tokens=tuned.tokens,
            cpu_seconds=tuned.cpu_seconds,
            before=tuned.before,
            loss=tuned.development_loss,
            ended=tuned.ended,
            history=tuple(Moment(*one) for one in tuned.history),
        )
        step = self._step(
            TUNE, before.step.removed, path, outcomes, seconds=tuned.seconds, training=training
        )
        return step, outcomes

    # Models

    def _path(self, state: State, back: tuple[int, ...] = ()) -> LayerPath:
        removed = [layer for layer in state.step.removed if layer not in back]
        return LayerPath.from_removed(removed, self.baseline().step.layers)

    def _source(self, state: State) -> ModelSource:
        """The whole model with what was learnt."""
        return self._resolved(state.learnt)

    def _resolved(self, learnt: Path | None) -> ModelSource:
        if learnt not in self._sources:
            self._sources[learnt] = self._named(learnt, "tuned")
        return self._sources[learnt]

    def _named(self, folder: Path | None, what: str) -> ModelSource:
        """The model in a folder of this run, by a name that says what it was made of."""
        whole = self.tuning.source
        found = resolve_model(str(folder), trust_remote_code=whole.trust_remote_code)
        return replace(found, name=f"{whole.name}, {what}")

    def _at(self, state: State, path: LayerPath, folder: Path) -> ModelSource:
        """A model of a path's layers alone: the whole one, or one that is written into a folder."""
        source = self._source(state)
        if not path.removed:
            return source
        made_once(folder, lambda to: write_checkpoint(source, path, to))
        tuned = "" if state.learnt is None else "tuned, "
        return self._named(folder, f"{tuned}without {', '.join(map(str, path.removed))}")

    # Measuring

    def _bench(
        self,
        source: ModelSource,
        examples: Sequence[Example],
        *,
        once: bool = True,
        references: bool = False,
    ) -> Workbench:
        tuning = self.tuning
        return Workbench(
            source,
            tuning.task,
            examples,
            tuning.device,
            tuning.dtype,
            cuts=tuning.cuts,
            once=once,
            reads_references=references,
        )

    def _measured(
        self, source: ModelSource, removed: Sequence[int]
    ) -> tuple[LayerPath, dict[int, Outcome]]:
        """The path without some layers, and its outcomes on the held-out set."""
        bench = self._bench(source, self.tuning.sets.held_out)
        path = LayerPath.from_removed(removed, bench.depth)
        self.watcher.phase(HELD_OUT)
        return path, self._outcomes(bench, [path])[path]

    def _outcomes(
        self, bench: Workbench, paths: Sequence[LayerPath]
    ) -> dict[LayerPath, dict[int, Outcome]]:
        batches = list(bench.batches(range(len(bench.examples))))
        self.watcher.expect(len(batches) * len(paths))

        def watched() -> Iterator[Measurement]:
            for measurement in in_halves(bench.measure, paths, batches, bench.tokens_in):
                self.watcher.measured(measurement, remembered=False)
                yield measurement

        return {path: dict(own) for path, own in outcomes_by_path(watched()).items()}


def folder_of(kinds: Sequence[str], seed: int) -> str:
    """The name of the folder of the last of some steps: ``tale``, ``tale-ft-0``."""
    name = "-".join(WORDS[kind] for kind in kinds)
    return f"{name}-{seed}" if TUNE in kinds else name


def made_once(place: Path, make: Callable[[Path], object]) -> Path:
    """A folder that is there whole or not at all; ``make`` is given where to write it."""
    if not place.exists():
        for left in place.parent.glob(f".{place.name}-*"):  # by a run that was killed
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as parent:
            fresh = Path(parent) / place.name
            make(fresh)
            fresh.rename(place)
    return place


def _with(path: LayerPath, layer: int) -> LayerPath:
    return LayerPath(tuple(sorted((*path.kept, layer))), path.total)


# What is kept of a step


def _begun(place: Path, asked: Mapping[str, Any]) -> bool:
    """Note in its folder what a step asks; says whether it is still to be done.

    Raises:
        InputError: the folder holds a step that something else has decided.
    """
    known = _read(place / STEP_FILE)
    if known is None:
        place.mkdir(parents=True, exist_ok=True)
        write_json(place / STEP_FILE, {"asked": asked, "step": None})
        return True
    before, now = known["asked"], json.loads(json.dumps(asked))
    differ = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if differ:
        raise InputError(
            f"{place} holds another step, which differs in {', '.join(differ)}; give another `out`"
        )
    return known["step"] is None


def _finish(
    place: Path, asked: Mapping[str, Any], step: Step, outcomes: Mapping[int, Outcome]
) -> None:
    packed = pack_outcomes(outcomes[position] for position in sorted(outcomes))
    write_json(
        place / STEP_FILE,
        {
            "asked": asked,
            "step": step_document(step),
            "outcomes": base64.b64encode(packed).decode("ascii"),
        },
    )


def _state(place: Path, asked: Mapping[str, Any]) -> State:
    """What the folder of a finished step says."""
    known = _read(place / STEP_FILE)
    assert known is not None
    outcomes = {one.example: one for one in unpack_outcomes(base64.b64decode(known["outcomes"]))}
    return State(
        place.name, step_from(known["step"], len(outcomes)), outcomes, sha256_of_json(asked)
    )


def _read(file: Path) -> dict[str, Any] | None:
    """What a file of this run holds; None where it is not there.

    Raises:
        InputError: it is damaged.
    """
    if not file.exists():
        return None
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise InputError(
            f"{file} is damaged ({problem}); remove its folder, and the step is done again"
        ) from None
    return found
