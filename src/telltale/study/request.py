"""The request for a search: a frozen value; its fields have their defaults and checks here.

`telltale.search` and `telltale.stability` take its fields as arguments, the command as options.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from telltale.errors import InputError
from telltale.evidence.calibration import CALIBRATED, RAW, check_calibrates
from telltale.evidence.targets import KINDS, Targets, price_from
from telltale.searches import SEARCHES, Search, check_search, search_named
from telltale.searches.search import shortlist_from
from telltale.study.records import check_study_folder, check_writable, only_writer
from telltale.study.settings import MAX_LOSS, Settings
from telltale.support.arguments import (
    PARAMETERS,
    PATH,
    SEED,
    SIZE,
    SWITCH,
    Check,
    an,
    count_of,
    either,
    layers,
    real,
    several,
    share_of,
    taken,
    text_or,
)
from telltale.tasks.loading import load_task, names_apart
from telltale.tasks.shots import without_shown
from telltale.tasks.split import check_answers_differ, split_examples
from telltale.tasks.task import Task
from telltale.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from telltale.engine.perplexity import Page
    from telltale.engine.runner import ModelRunner
    from telltale.models.source import ModelSource
    from telltale.objectives import Objective
    from telltale.study.question import Question

Function = TypeVar("Function", bound=Callable[..., Any])


def _objective(value: Any) -> Any:
    if not (callable(value) and hasattr(value, "name") and hasattr(value, "fewest_choices")):
        raise TypeError
    return value


def _callable(value: Any) -> Any:
    if not callable(value):
        raise TypeError
    return value


def _guards(value: Any) -> tuple[tuple[Task | str, float], ...]:
    pairs = value.items() if isinstance(value, Mapping) else several(tuple)(value)
    return tuple((an(Task, str)(task), real(share)) for task, share in pairs)


# What each field must be. A default is not checked, so that None is taken where it is the default.
CHECKS = {
    "model": text_or("a hub id, a folder, a .gguf file or a pypi: name"),
    "task": Check("a task's name, or what telltale.load_task gives", an(Task, str)),
    "out": PATH,
    "limit": count_of("examples"),
    "held_out": count_of("examples"),
    "final": count_of("examples"),
    "search": Check("a search's name, or a telltale.searches.Search", an(str, Search)),
    "objective": Check(
        "accuracy, likelihood, margin or a telltale.objectives.Objective",
        either(an(str), _objective),
    ),
    "guards": Check('shares by task, such as {"arc_easy": 0.01}', _guards),
    "tolerance": share_of("the examples", "0.08"),
    "max_removed": count_of("layers"),
    "protect": layers("[0, 1, 29]"),
    "max_loss": share_of("the examples", "0.03"),
    "confidence": Check("a number, such as 0.95", real),
    "speed": text_or("full, exact or fast"),
    "scoring": text_or("raw or calibrated"),
    "shortlist": text_or("a score and a number, such as joint:8"),
    "paper": SWITCH,
    "target_speedup": Check("a number of times, such as 1.3", real),
    "max_latency_ms": Check("a number of milliseconds, such as 25", real),
    "max_memory": SIZE,
    "max_parameters": PARAMETERS,
    "price": Check("prices such as accuracy=1,latency=0.2", price_from),
    "truncate": text_or("left or no"),
    "device": text_or("auto, cpu, cuda, cuda:N or mps"),
    "dtype": text_or("a precision's name, such as float32"),
    "memory": SIZE,
    "adapter": Check("the path of an adapter's folder", PATH.take),
    "revision": text_or("a hub branch, tag or commit"),
    "trust_remote_code": SWITCH,
    "seed": SEED,
    "text": Check("the path of a file", PATH.take),
    "resume_anyway": SWITCH,
    "watcher": Check("a telltale.watcher.Watcher", an(Watcher)),
    "runner": Check("what makes a telltale.engine.runner.ModelRunner", _callable),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What `telltale.search` is asked for; see there for the fields.

    Raises:
        InputError: a field is of another kind.
    """

    model: str
    task: Task | str
    out: str | Path
    limit: int | None = None
    held_out: int | None = None
    final: int | None = None
    search: str | Search = "greedy"
    objective: str | Objective | None = None
    guards: Mapping[str, float] | Iterable[tuple[Task | str, float]] = ()
    tolerance: float = 0.08
    max_removed: int | None = None
    protect: Iterable[int] = ()
    max_loss: float = MAX_LOSS
    confidence: float = 0.95
    speed: str = "exact"
    scoring: str = RAW
    shortlist: str | None = None
    paper: bool = False
    target_speedup: float | None = None
    max_latency_ms: float | None = None
    max_memory: int | str | None = None
    max_parameters: int | str | None = None
    price: str | Mapping[str, float] | None = None
    truncate: str = "no"
    device: str = "auto"
    dtype: str = "auto"
    memory: int | str | None = None
    adapter: str | Path | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    seed: int = 0
    text: str | Path | None = None
    resume_anyway: bool = False
    watcher: Watcher | None = None
    runner: Callable[[ModelSource, str, str], ModelRunner] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not field.default:
                object.__setattr__(self, field.name, taken(field.name, CHECKS[field.name], value))


class Asked(TypedDict, total=False):
    """The fields that have a default, as keyword arguments."""

    limit: int | None
    held_out: int | None
    final: int | None
    search: str | Search
    objective: str | Objective | None
    guards: Mapping[str, float] | Iterable[tuple[Task | str, float]]
    tolerance: float
    max_removed: int | None
    protect: Iterable[int]
    max_loss: float
    confidence: float
    speed: str
    scoring: str
    shortlist: str | None
    paper: bool
    target_speedup: float | None
    max_latency_ms: float | None
    max_memory: int | str | None
    max_parameters: int | str | None
    price: str | Mapping[str, float] | None
    truncate: str
    device: str
    dtype: str
    memory: int | str | None
    adapter: str | Path | None
    revision: str | None
    trust_remote_code: bool
    seed: int
    text: str | Path | None
    resume_anyway: bool
    watcher: Watcher | None
    runner: Callable[[ModelSource, str, str], ModelRunner] | None


DEFAULTS: dict[str, Any] = {
    one.name: one.default for one in fields(SearchRequest) if one.default is not MISSING
}


def takes_request(function: Function, without: Collection[str] = ()) -> Function:
    """For a function whose ``**asked`` are the fields: its signature names each of them.

    Args:
        function: it.
        without: fields that it does not take.
    """
    own = inspect.signature(function)
    explicit = {
        name: one for name, one in own.parameters.items() if one.kind is not one.VAR_KEYWORD
    }
    more = [
        inspect.Parameter(
            one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type
        )
        for one in fields(SearchRequest)
        if one.name not in explicit and one.name not in without
    ]
    signature = own.replace(parameters=[*explicit.values(), *more])
    function.__signature__ = signature  # type: ignore[attr-defined]
    return function


def request_for(function: Callable[..., Any], **given: Any) -> SearchRequest:
    """The request that a function was given the fields of.

    Raises:
        TypeError: an argument is no field's, said as Python does.
        InputError: a field is of another kind.
    """
    known = {one.name for one in fields(SearchRequest)}
    for name in given:
        if name not in known:
            said = f"{function.__name__}() got an unexpected keyword argument {name!r}"
            raise TypeError(said)
    return SearchRequest(**given)


@contextmanager
def opened(
    request: SearchRequest, *, writes: bool = True
) -> Iterator[tuple[Question, Settings, Page | None]]:
    """What is to be searched, how, and the text on which perplexity is measured.

    The study's folder is taken before the model is fetched or converted, which may take long. Where
    nothing is to be written, it is only checked that it could be.

    Raises:
        InputError: something of it cannot be used.
    """
    cuts = cuts_by(request.truncate)
    task = without_shown(_task(request.task))
    check_answers_differ(task.examples)
    split = split_examples(
        task.examples,
        limit=request.limit,
        held_out=request.held_out,
        final=request.final,
        seed=request.seed,
        shares=dict(task.shares),
    )
    settings = _settings(request, task)
    guarded = _guarded(request, task)
    check_study_folder(Path(request.out))

    from telltale.engine.perplexity import page_from
    from telltale.engine.runner import LocalRunner
    from telltale.models.load import choose_device, choose_dtype
    from telltale.models.source import resolve_model
    from telltale.study.measuring import needed_scores
    from telltale.study.question import Question, guard_by

    needed_scores(settings)  # refused where there is no such score

    page = None if request.text is None else page_from(Path(request.text))
    if request.runner is None:  # another machine may have other devices
        choose_dtype(request.dtype, choose_device(request.device))
    guards = tuple(guard_by(other, most_loss, task, request.seed) for other, most_loss in guarded)
    if not writes:
        check_writable(Path(request.out))
    with only_writer(Path(request.out)) if writes else nullcontext():
        source = resolve_model(
            request.model,
            revision=request.revision,
            trust_remote_code=request.trust_remote_code,
            adapter=request.adapter,
        )
        question = Question(
            source,
            task,
            split,
            seed=request.seed,
            device=request.device,
            dtype=request.dtype,
            cuts=cuts,
            guards=guards,
            reads_references=task.generation is not None and settings.objective.fewest_choices > 0,
            make_runner=request.runner or LocalRunner,
            memory=request.memory,  # type: ignore[arg-type]  # a number since it was checked
        )
        yield question, settings, page


def _task(given: Task | str) -> Task:
    return load_task(given) if isinstance(given, str) else given


def _settings(request: SearchRequest, task: Task) -> Settings:
    """How the search chooses.

    Raises:
        InputError: there is no such search or objective, or it does not fit the task.
    """
    from telltale.objectives import check_objective, default_objective, objective_named

    objective = request.objective
    is_greedy = request.search in (DEFAULTS["search"], SEARCHES[DEFAULTS["search"]])
    is_other = objective not in (None, "accuracy") or not is_greedy
    is_other |= request.scoring == CALIBRATED or request.shortlist is not None
    if request.paper and (request.guards or is_other):
        raise InputError(
            "`paper` is the published method: it searches greedily, ranks by accuracy, guards "
            "nothing, calibrates nothing and tries all; leave out `search`, `objective`, "
            "`guards`, `scoring` and `shortlist`"
        )
    objective = "accuracy" if request.paper else objective
    if objective is None:
        ranks = default_objective(task)
    else:
        ranks = objective_named(objective) if isinstance(objective, str) else objective
    check_objective(ranks, task)
    if request.scoring == CALIBRATED:
        check_calibrates(task)
    search = request.search
    if isinstance(search, Search):
        check_search(search)
    return Settings(
        ranks,
        request.tolerance,
        request.max_removed,
        frozenset(request.protect),
        request.max_loss,
        request.confidence,
        search_named(search) if isinstance(search, str) else search,
        request.speed,
        request.scoring,
        None if request.shortlist is None else shortlist_from(request.shortlist),
        _targets(request),
    )


def _targets(request: SearchRequest) -> Targets:
    """What the model that is chosen may cost.

    Raises:
        InputError: a target or a price cannot be.
    """
    asked = {name: value for name in KINDS if (value := getattr(request, name)) is not None}
    return Targets(asked, request.price or {})  # type: ignore[arg-type]  # as it was checked


def _guarded(request: SearchRequest, task: Task) -> list[tuple[Task, float]]:
    """The tasks that are guarded, each by a name of its own, and what may be lost there.

    Raises:
        InputError: a task is named twice, or cannot be had.
    """
    given = request.guards.items() if isinstance(request.guards, Mapping) else request.guards
    loaded = [(_task(one), share) for one, share in given]
    names = names_apart([task, *(one for one, _ in loaded)])[1:]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise InputError(f"`guards` names {repeated[0]} twice; give it one share")
    return [
        (replace(one, name=name), share) for (one, share), name in zip(loaded, names, strict=True)
    ]


def cuts_by(truncate: str) -> bool:
    """Whether prompts that are too long lose their beginning.

    Raises:
        InputError: it is not said by ``left`` or ``no``.
    """
    if truncate not in ("no", "left"):
        raise InputError(f"`truncate` must be left or no, got {truncate!r}")
    return truncate == "left"
