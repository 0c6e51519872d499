"""Recipes on other tasks: finished studies' models, measured on each of some tasks, and kept.

All recipes and the whole model are measured together on one task after the other, on the same
examples. What is measured is kept in a folder for each task, named by all that decides an outcome,
so that a call that was stopped goes on, and one with more studies or tasks measures only these.
What the numbers are called, and what follows from them, is said in `telltale.evidence`.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from telltale.engine.workbench import Workbench
from telltale.errors import InputError
from telltale.evidence.calibration import CALIBRATED
from telltale.evidence.cautions import evaluation_cautions, remedies_for
from telltale.evidence.comparison import compare
from telltale.evidence.stats import CONFIDENCE
from telltale.evidence.transfers import (
    MANY_CELLS,
    Cell,
    MeasuredTask,
    Recipe,
    Transferred,
    warning_of,
)
from telltale.paths import LayerPath
from telltale.study.keeping import MeasuredOnce, measured_once
from telltale.study.ledger import note_look
from telltale.study.picking import finished, picked_from, searched_source
from telltale.study.question import digest_of
from telltale.study.records import has_begun, open_records
from telltale.support.files import sha256_of
from telltale.tasks.loading import HARNESS, HUB, load_task, names_apart
from telltale.tasks.sets import HELD_OUT, Part
from telltale.tasks.shots import without_shown
from telltale.tasks.split import clusters_of, first_drawn, folded
from telltale.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from telltale.evidence.result import PathModel, Result
    from telltale.measure import Outcome
    from telltale.study.records import StoredExample
    from telltale.tasks import Example
    from telltale.watcher import Watcher

EXAMPLES = 200  # of a task that is no study's own, where it is not said how many
AUTO = "auto"
MEASURED = "measured"  # in a transfer's folder, what it has measured
# How a task is asked, as a study keeps it and as `load_task` takes it.
ASKED = ("prompt", "protocol", "shots", "scoring", "extract", "stop", "max_new_tokens")
JUDGED_BY_HELD_OUT = ("confirmed_best", "fastest_safe")
KNOWN_BY_ITS_OWN = (
    "{pick} is a name that the held-out set gives, so that on a study's own task its gain flatters"
)
OTHER_PRECISION = (
    "{study} was measured in {then} and here it is in {now}, which can change single answers"
)
JUDGED_RAW = "{study} judged choices calibrated, and here they are judged as they are"


class Load(Protocol):
    """Loads a task by its own defaults, or with what `load_task` takes beside them."""

    def __call__(self, **changes: Any) -> Task:
        """The task."""
        ...


@dataclass(frozen=True, slots=True)
class Given:
    """A task as it was asked for: what loads it, and how a command names it, by name or file."""

    load: Load
    named: str | None = None


@dataclass(frozen=True)
class Finished:
    """A finished study, with the model that was picked of it.

    ``search`` is how the ledger knows its search.
    """

    name: str
    result: Result
    asked: Mapping[str, Any]
    examples: Sequence[StoredExample]
    picked: PathModel
    search: str

    @property
    def task(self) -> str:
        """The task that it was searched by."""
        return str(self.asked["task"]["name"])

    @property
    def parts(self) -> set[str]:
        """That task, and where it is several, each of them."""
        return {self.task, *self.asked["task"].get("shares", {})}

    @property
    def tasks(self) -> set[str]:
        """Every task of which it has examples: also those it was guarded by."""
        return self.parts | {one["task"] for one in self.asked["guards"]}

    @cached_property
    def seen(self) -> frozenset[str]:
        """The questions, without regard to white space, that it chose by or that are sealed."""
        found = (one for one in self.examples if one.role.part != Part.HELD_OUT)
        return frozenset(folded(one.context) for one in found)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A task with the examples that are measured; ``held_out_of`` is the study that held them out.

    ``searched`` has the names of the studies that were searched by it.
    """

    task: Task
    named: str
    cuts: bool
    held_out_of: str | None
    searched: frozenset[str]


def tasks_from(
    tasks: Iterable[Task | str], data: Iterable[str | Path], data_dir: str | Path | None
) -> list[Given]:
    """What loads each of some tasks: by its name or its file, or it is there.

    Raises:
        InputError: none is given.
    """
    found = [*(_given(one, data_dir) for one in tasks)]
    for file in data:
        path = Path(file)
        found.append(Given(lambda path=path, **changes: load_task(data=path, **changes), str(path)))
    if not found:
        raise InputError(
            "`tasks` names none; give those to measure on, such as capitals,boolq, or `data`"
        )
    return found


def _given(task: Task | str, data_dir: str | Path | None) -> Given:
    if isinstance(task, Task):
        return Given(lambda **_: task)
    place = None if task.startswith((HARNESS, HUB)) else data_dir
    return Given(lambda **changes: load_task(task, data_dir=place, **changes), task)


def check_transfer_folder(folder: Path) -> None:
    """Refuse a folder that holds something else than a transfer.

    Raises:
        InputError: it is a file, or holds other files.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the transfer")
    if has_begun(folder):
        raise InputError(f"{folder} holds a search; give another `out`")
    if folder.is_dir() and not (folder / MEASURED).is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty and no transfer; give another `out`")


def studies_from(folders: Sequence[Path], pick: str) -> list[Finished]:
    """The finished studies of some folders, each with its picked model.

    Raises:
        InputError: there is none, one is given twice or is not finished, has no such model, or was
            searched on another model than the others.
    """
    if not folders:
        raise InputError("`studies` names none; give finished searches' folders")
    places = [folder.resolve() for folder in folders]
    for place, folder in zip(places, folders, strict=True):
        if places.count(place) > 1:
            raise InputError(f"the study {folder} is given twice; give it once")
    short = Counter(place.name for place in places)
    names = [
        place.name if short[place.name] == 1 else str(folder)
        for place, folder in zip(places, folders, strict=True)
    ]
    found = [_study(*one, pick) for one in zip(folders, names, strict=True)]
    first = found[0].asked["model"]
    for one in found[1:]:
        model = one.asked["model"]
        if model["sha256"] != first["sha256"]:
            raise InputError(
                f"{found[0].name} and {one.name} are searches of different models, "
                f"{first['name']} (SHA-256 {first['sha256'][:12]}) and {model['name']} "
                f"({model['sha256'][:12]}); give studies of one model"
            )
    return found


def _study(folder: Path, name: str, pick: str) -> Finished:
    result, asked = finished(folder)
    try:
        picked = picked_from(result, pick)
    except InputError as problem:
        raise InputError(f"{folder}: {problem}") from None
    with open_records(folder, write=False) as records:
        looks = (records.fact("looks") or {}).get(HELD_OUT, {})
        examples = records.examples()
    search = next(reversed(looks), result.fingerprint)
    return Finished(name, result, asked, examples, picked, search)


def choose_tasks(
    given: Sequence[Given], studies: Sequence[Finished], limit: int | None, *, cuts: bool
) -> list[Chosen]:
    """Every task with the examples to measure, none of which a study's search has seen.

    A task that a study was searched by is asked as there, on the examples that it held out; of
    others the first ones that a search would draw are taken.

    Raises:
        InputError: two tasks have one name, one cannot be asked as its study asked it, studies
            asked it otherwise than each other, or no example is left.
    """
    loaded = [_as_searched(one, studies) for one in given]
    names = names_apart(loaded)
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise InputError(f"`tasks` names {repeated[0]} twice; give it once")
    return [
        _chosen(replace(task, name=name), one.named or name, studies, limit, cuts=cuts)
        for task, name, one in zip(loaded, names, given, strict=True)
    ]


def _as_searched(given: Given, studies: Sequence[Finished]) -> Task:
    """A task as the studies that were searched by it asked it; by its own defaults where none was.

    Raises:
        InputError: they asked it otherwise than each other, or than it can be asked here.
    """
    task = given.load()
    own = [one for one in studies if one.task == task.name]
    if not own:
        return without_shown(task)
    wanted, first = own[0].asked["task"], own[0]
    for other in own[1:]:
        if _asking(other.asked["task"]) != _asking(wanted):
            raise InputError(
                f"{first.name} and {other.name} ask {task.name} in different ways; give each with "
                "another `out`"
            )
    changes = _changes(task, wanted)
    if wanted["shots"] or task.shots:
        changes |= {"shots": wanted["shots"], "seed": wanted["seed"]}
    task = without_shown(given.load(**changes) if changes else task)
    if _asking({**task.settings(), "prompt": task.template}) != _asking(wanted):
        raise InputError(
            f"{task.name} cannot be asked by its name as {first.name} asked it; from Python, give "
            "telltale.transfer the task that the search was given"
        )
    return task


def _asking(settings: Mapping[str, Any]) -> Any:
    names = (*ASKED, "delimiter", "scorer", "shares")
    return json.loads(json.dumps({name: settings.get(name) for name in names}))


def _changes(task: Task, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What `load_task` is to be given beside the name, so that a task is asked as is wanted."""
    now = {**task.settings(), "prompt": task.template}
    names = () if HARNESS in task.name else ASKED  # it says itself how it is asked
    changes = {
        name: wanted[name] for name in names if name in wanted and wanted[name] != now.get(name)
    }
    metrics = [(one.get("scorer") or {}).get("metric") for one in (now, wanted)]
    return changes if metrics[0] == metrics[1] else {**changes, "metric": metrics[1]}


def _chosen(
    task: Task, named: str, studies: Sequence[Finished], limit: int | None, *, cuts: bool
) -> Chosen:
    examples = _unseen(task, studies)
    own = next((one for one in studies if one.task == task.name), None)
    if own is not None:
        held_out = [_digest(one) for one in own.examples if one.role == HELD_OUT]
        examples = _held_out(task, examples, held_out, own)[:limit]
        cuts = own.asked["task"]["truncate"] == "left"
    if not examples:
        raise InputError(
            f"{task.name} has no example that no search has seen; leave it out, or give data with "
            "more"
        )
    asked = replace(task, examples=tuple(examples))
    if own is None:
        asked = replace(task, examples=first_drawn(asked, limit or EXAMPLES, seed=0))
    searched = frozenset(one.name for one in studies if task.name in one.parts)
    return Chosen(asked, named, cuts, None if own is None else own.name, searched)


def _unseen(task: Task, studies: Sequence[Finished]) -> list[Example]:
    """The examples that share nothing with one that a search has seen or that is sealed.

    Raises:
        InputError: a study has examples of this task, which are none of these.
    """
    asked = [folded(example.context) for example in task.examples]
    for one in studies:
        known = {folded(example.context) for example in one.examples}
        if task.name in one.tasks and known.isdisjoint(asked):
            raise InputError(
                f"none of the examples that {one.name} has of {task.name} is among these, so that "
                "it cannot be said which its search has seen; give the data that it had, asked as "
                "it was there"
            )
    seen = frozenset[str]().union(*(one.seen for one in studies))
    clusters = clusters_of(task.examples)
    gone = {cluster for cluster, one in zip(clusters, asked, strict=True) if one in seen}
    return [
        example
        for example, cluster in zip(task.examples, clusters, strict=True)
        if cluster not in gone
    ]


def _held_out(
    task: Task, unseen: Sequence[Example], held_out: Sequence[str], study: Finished
) -> list[Example]:
    """The examples that a study held out, in its order, but those that another's search has seen.

    Raises:
        InputError: some of them are not among the task's.
    """
    lacks = Counter(held_out) - Counter(one.digest for one in task.examples)
    if lacks:
        raise InputError(
            f"{lacks.total()} of the {len(held_out)} held-out examples of {study.name} are not "
            f"among those of {task.name} as it is now; give the data that the search had"
        )
    by_digest: dict[str, list[Example]] = defaultdict(list)
    for example in unseen:
        by_digest[example.digest].append(example)
    return [by_digest[one].pop(0) for one in held_out if by_digest[one]]


def _digest(one: StoredExample) -> str:
    """See `telltale.tasks.Example.digest`."""
    return sha256_of(one.context, str(one.answer), *one.choices)


def transfer_recipes(
    studies: Sequence[Finished],
    tasks: Sequence[Chosen],
    folder: Path,
    *,
    pick: str,
    data_dir: str | None,
    device: str,
    dtype: str,
    watcher: Watcher,
) -> Transferred:
    """Measure the studies' models and the whole one on every task; see `telltale.transfer`.

    ``folder`` keeps what is measured.
    """
    source = searched_source(studies[0].asked)
    precisions = {one.result.model["dtype"] for one in studies}
    if dtype == AUTO and len(precisions) == 1:
        (dtype,) = precisions
    bench = Workbench(source, tasks[0].task, tasks[0].task.examples, device, dtype)
    precision = str(bench.dtype).removeprefix("torch.")
    whole = LayerPath.whole(studies[0].result.model["layers"])
    paths = [*dict.fromkeys([whole, *(one.picked.path for one in studies)])]
    measured = []
    for one in tasks:
        # One model for all of them, which is loaded once.
        own = replace(bench, task=one.task, examples=one.task.examples, cuts=one.cuts)
        for study in studies:
            names = [sha256_of(source.sha256, name) for e in own.examples for name in e.names]
            note_look(study.search, names)
        measured.append(measured_once(own, paths, folder / MEASURED, watcher, one.task.name))
    found = [
        (one, _task_of(one, of_task, whole), of_task.outcomes)
        for one, of_task in zip(tasks, measured, strict=True)
    ]
    recipes = tuple(
        Recipe(
            study.name,
            study.task,
            study.picked.removed,
            study.picked.layers,
            study.result.fingerprint,
            {one.name: _cell(study, chosen, outcomes, whole) for chosen, one, outcomes in found},
        )
        for study in studies
    )
    of_tasks = tuple(one for _, one, _ in found)
    warnings = (
        warning_of(recipe, of_tasks, study.asked, data_dir)
        for recipe, study in zip(recipes, studies, strict=True)
    )
    return Transferred(
        {
            "name": source.name,
            "revision": source.revision,
            "sha256": source.sha256,
            "layers": whole.depth,
            "dtype": precision,
        },
        pick,
        CONFIDENCE,
        of_tasks,
        recipes,
        tuple(one for one in warnings if one is not None),
        tuple(_cautions(studies, tasks, pick, precision)),
    )


def _task_of(chosen: Chosen, measured: MeasuredOnce, whole: LayerPath) -> MeasuredTask:
    task = chosen.task
    of_whole = measured.outcomes[whole]
    return MeasuredTask(
        task.name,
        {
            "prompt": task.template,
            **task.settings(),
            "truncate": "left" if chosen.cuts else "no",
        },
        chosen.named,
        chosen.held_out_of,
        digest_of(task.examples),
        measured.fingerprint,
        compare(of_whole, of_whole, _clusters(task)),
        (
            *evaluation_cautions(
                [of_whole[place] for place in range(len(task.examples))],
                task.examples,
                truncated=measured.truncated,
                remedies=remedies_for(task),
            ),
            *measured.unable,
        ),
    )


def _cell(
    study: Finished,
    chosen: Chosen,
    outcomes: Mapping[LayerPath, Mapping[int, Outcome]],
    whole: LayerPath,
) -> Cell:
    return Cell(
        compare(outcomes[whole], outcomes[study.picked.path], _clusters(chosen.task)),
        study.name in chosen.searched,
        sum(folded(one.context) in study.seen for one in chosen.task.examples),
    )


def _clusters(task: Task) -> dict[int, int]:
    return dict(enumerate(clusters_of(task.examples)))


def _cautions(
    studies: Sequence[Finished], tasks: Sequence[Chosen], pick: str, now: str
) -> Iterator[str]:
    cells = len(studies) * len(tasks)
    if cells > 1:
        missed = cells * (1 - CONFIDENCE)
        yield MANY_CELLS.format(cells=cells, sure=100 * CONFIDENCE, missed=missed)
    if pick in JUDGED_BY_HELD_OUT:
        yield KNOWN_BY_ITS_OWN.format(pick=pick)
    for one in studies:
        if one.result.settings.get("scoring") == CALIBRATED:
            yield JUDGED_RAW.format(study=one.name)
        if (then := one.result.model["dtype"]) != now:
            yield OTHER_PRECISION.format(study=one.name, then=then, now=now)
