"""Finding a task or group of lm-evaluation-harness, by name or YAML file, and building it.

The harness makes its own task objects; here they are made quietly, with its own default seeds, and
only after what telltale cannot ask was refused, so that nothing is downloaded in vain. A YAML file
of the harness is code as much as data: naming one runs the Python that it names, as ``lm-eval run``
does. Knows no model.
"""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
import io
import logging
import random
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from telltale.errors import InputError, TelltaleError
from telltale.support.plain import printable
from telltale.tasks.scorer import no_bytecode, reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OLDEST = (0, 4, 13)
NEXT = (0, 5)
CHOICES = "multiple_choice"
TEXT = "generate_until"
# What the harness and its data libraries raise where data cannot be had.
_DATA_LIBRARIES = ("datasets", "fsspec", "httpx", "huggingface_hub", "pyarrow", "requests")


@dataclass(frozen=True, slots=True)
class Source:
    """A task or a group of the harness that has not been made yet.

    Attributes:
        label: what a person typed, for messages.
        spec: what the harness knows it by: a name, or a file's path.
        manager: the harness's own TaskManager.
        templates: the Jinja environment that its templates are rendered in.
        group: the configuration of a group; None for one task. A tag is a group that says nothing
            of scores.
    """

    label: str
    spec: str
    manager: Any
    templates: Any
    group: Mapping[str, Any] | None

    def make(self) -> list[Any]:
        """The harness's task, or all of a group's, with their data.

        Call it within `quietly` and `blaming`.
        """
        from lm_eval.api.task import ConfigurableTask

        try:
            tasks = list(self.manager.load(self.spec)["tasks"].values())
        except (IndexError, StopIteration) as problem:
            # It looks at the first of its documents; of an empty file not even that is left.
            if isinstance(problem, IndexError) and "size 0" not in str(problem):
                raise
            raise InputError(f"{self.label} has no examples; check its splits") from problem
        for task in tasks:
            if not isinstance(task, ConfigurableTask):
                raise InputError(
                    f"{self.label} is written in Python as a whole; give a task in YAML"
                )
        return tasks

    def label_of(self, task: Any) -> str:
        """A task's name in messages."""
        if self.group is None:
            return self.label
        return f"{self.label}, task {printable(str(task.config.task))}"

    def aggregated(self, metric: str | None) -> tuple[str | None, bool]:
        """A group's metric, and whether its tasks are weighted by their numbers of examples.

        Args:
            metric: the one that is asked for; by default the first that the group says.
        """
        from lm_eval.config.group import AggMetricConfig

        listed = (self.group or {}).get("aggregate_metric_list") or []
        found = [
            AggMetricConfig(**one)
            for one in (listed if isinstance(listed, list) else [listed])
            if metric is None or one["metric"] == metric.partition(",")[0]
        ]
        if not found:
            return metric, False
        first = found[0]
        own = ",".join([first.metric, *(first.filter_list or [])[:1]])
        return metric or own, first.weight_by_size


def find(name: str) -> Source:
    """The task or group that a user names.

    Args:
        name: its name, or a YAML file's path: one that ends in .yaml or .yml. A group's file may
            name the tasks of files beside it, and the harness's own.

    Raises:
        InputError: there is no such task, the harness is not installed, or telltale cannot ask it.
    """
    label = f"harness:{printable(name)}"
    check_installed()
    is_file = name.endswith((".yaml", ".yml"))
    with quietly(), blaming(label, reads_data=False):
        from lm_eval.tasks import TaskManager

        if is_file:
            path = Path(name).expanduser()
            if not path.is_file():
                raise InputError(f"{label}: there is no such file; give the path of a task's YAML")
            # Nothing else is indexed: what a task includes, it names.
            manager = TaskManager(include_defaults=False)
            config = _config_of_file(path.resolve())
            if _is_group(config):
                _index_for_group(label, path.resolve(), config, manager.task_index)
        else:
            manager = _own_tasks()
            config = _config_of_name(label, name, manager)
        for own_label, own in _leaves(label, config, manager.task_index):
            _check(own_label, own)
    group = config if _is_group(config) else None
    # By its path the harness finds a task, and no group.
    spec = str(path.resolve()) if is_file and group is None else str(config.get("group", name))
    return Source(label, spec, manager, _templates(), group)


def check_installed() -> None:
    """Check that a supported release of the harness is installed.

    Raises:
        InputError: there is none, or its version is another.
    """
    remedy = "pip install 'telltale-llm[harness]'"
    try:
        version = importlib.metadata.version("lm-eval")
    except importlib.metadata.PackageNotFoundError:
        raise InputError(f"a harness: task needs lm-evaluation-harness; {remedy}") from None
    numbers = tuple(int(part) for part in version.split(".")[:3] if part.isdecimal())
    if not OLDEST <= numbers < NEXT:
        raise InputError(
            f"lm-eval {version} is installed, and telltale knows 0.4.13 up to below 0.5; {remedy}"
        )


@contextmanager
def quietly(templates: Any = None) -> Iterator[None]:
    """Run a block with the harness's seeds and without its output.

    Afterwards logging, warnings and the state of random numbers are as they were.

    Args:
        templates: a Jinja environment to render in, instead of the harness's own.
    """
    import numpy as np
    from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED

    disabled = logging.root.manager.disable
    states = random.getstate(), np.random.get_state()
    nowhere = io.StringIO()
    try:
        logging.disable(logging.CRITICAL)
        # As its command does before it makes a task: some shuffle choices while they are made.
        random.seed(DEFAULT_RANDOM_SEED)
        np.random.seed(DEFAULT_OTHER_SEED)
        with (
            warnings.catch_warnings(),
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
            no_bytecode(),
            rendering(templates),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        random.setstate(states[0])
        np.random.set_state(states[1])


@contextmanager
def rendering(templates: Any) -> Iterator[None]:
    """Have the harness render templates in another Jinja environment within a block."""
    if templates is None:
        yield
        return
    from lm_eval import utils

    own = utils.env
    utils.env = templates
    try:
        yield
    finally:
        utils.env = own


@contextmanager
def blaming(label: str, *, reads_data: bool) -> Iterator[None]:
    """Turn exceptions of the harness, or of a user's Python in it, into InputError.

    Args:
        label: what a person typed.
        reads_data: whether it may fail because data cannot be had.

    Raises:
        InputError: something was raised.
    """
    try:
        yield
    except TelltaleError:
        raise
    except (Exception, SystemExit) as problem:
        told: BaseException = problem
        # The harness's data library says only that something failed, and keeps what it was.
        if type(problem).__name__.startswith("DatasetGeneration") and problem.__cause__:
            told = problem.__cause__
        modules = {kind.__module__.partition(".")[0] for kind in type(problem).__mro__}
        of_data = isinstance(problem, OSError) or not modules.isdisjoint(_DATA_LIBRARIES)
        if reads_data and of_data:
            remedy = "check its dataset_path and data_files, and the network"
        else:
            remedy = "mend the task, or see what `lm-eval run` says of it"
        raise InputError(f"{label} cannot be used ({reason(told)}); {remedy}") from problem


@functools.cache
def _own_tasks() -> Any:
    """The index of the harness's own tasks, which takes some ten seconds to make."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _templates() -> Any:
    """An environment that renders as the harness's own does, and compiles each template once."""
    from lm_eval import utils

    templates: Any = utils.env.overlay()
    templates.from_string = functools.cache(templates.from_string)
    return templates


def _config_of_name(label: str, name: str, manager: Any) -> dict[str, Any]:
    """What the harness's index knows of a task of its own."""
    entry = manager.task_index.get(name)
    if entry is None:
        close = difflib.get_close_matches(name, manager.all_tasks, n=3)
        meant = f"did you mean {' or '.join(close)}? " if close else ""
        raise InputError(
            f"{label}: the harness has no such task; {meant}`lm-eval ls tasks` lists them"
        )
    return _config_of(entry)


def _config_of(entry: Any) -> dict[str, Any]:
    """What an entry of the index says; a tag is told as a group of its tasks."""
    if entry.kind.name == "TAG":
        return {"group": entry.name, "task": sorted(entry.tags)}
    return dict(entry.cfg or {})


def _config_of_file(path: Path) -> dict[str, Any]:
    """What a file says, its includes merged and its functions not imported yet."""
    from lm_eval.tasks._yaml_loader import load_yaml

    return dict(load_yaml(path, resolve_func=False))


def _is_group(config: Mapping[str, Any]) -> bool:
    return "group" in config or isinstance(config.get("task"), list)


def _index_for_group(
    label: str, path: Path, config: Mapping[str, Any], index: dict[str, Any]
) -> None:
    """Index a group's file, those beside it, and the harness's own tasks where it names others.

    Raises:
        InputError: the group has no name.
    """
    from lm_eval.tasks._index import TaskIndex

    if not isinstance(config.get("group"), str):
        raise InputError(f"{label} lists tasks and has no name of its own; add group: NAME")
    TaskIndex.process_cfg(dict(config), path, index)
    for file in sorted(path.parent.iterdir()):
        if file.suffix in (".yaml", ".yml") and file != path:
            with suppress(Exception):  # whatever else lies there
                TaskIndex.process_cfg(_config_of_file(file), file, index)
    try:
        list(_leaves("", config, index))
    except InputError:
        index |= {name: one for name, one in _own_tasks().task_index.items() if name not in index}


def _leaves(
    label: str,
    config: Mapping[str, Any],
    index: Mapping[str, Any],
    around: frozenset[str] = frozenset(),
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every task of a group, and of the groups within it, as far as configurations say.

    Args:
        label: what it is called in messages.
        config: what it says.
        index: what its members' names stand for.
        around: the names that led to it; a group among them would have no end.

    Raises:
        InputError: a group names itself, what there is not, or nothing.
    """
    if not _is_group(config):
        yield label, dict(config)
        return
    listed = config.get("task")
    listed = listed if isinstance(listed, list) else [listed] if listed else []
    if not listed:
        raise InputError(f"{label} is a group without tasks; name some under its task:")
    for member in listed:
        given = dict(member) if isinstance(member, dict) else {"task": member}
        name = given.get("group", given.get("task"))
        own_label = f"{label}, task {printable(str(name))}"
        if isinstance(name, str) and (entry := index.get(name)) is not None:
            known = _config_of(entry)
            if _is_group(known) and name in around:
                raise InputError(
                    f"{own_label}: the group is within itself; take it out of its task: list"
                )
            changes = {} if _is_group(known) else given
            yield from _leaves(own_label, known | changes, index, around | {name})
        elif len(given) > 1:
            yield from _leaves(own_label, given, index, around)
        else:
            raise InputError(
                f"{own_label}: there is no such task; put its YAML file beside the group's, or "
                "name one of the harness's own (`lm-eval ls tasks`)"
            )


def _check(label: str, config: dict[str, Any]) -> None:
    """Refuse what cannot be asked, as far as a configuration says it before there are data.

    Raises:
        InputError: it cannot be asked.
    """
    kind = config.get("output_type", TEXT)
    if "class" not in config and kind not in (CHOICES, TEXT):
        raise InputError(
            f"{label} is of output_type {printable(str(kind))}, which has no right answer to "
            f"choose or write; give a task of {CHOICES} or {TEXT}"
        )
    if config.get("doc_to_image") or config.get("doc_to_audio"):
        raise InputError(f"{label} shows pictures or sounds; give a task of text alone")
    if config.get("unsafe_code"):
        raise InputError(
            f"{label} runs the code that a model writes, which telltale does not do; give another "
            "task"
        )
    if (metric := _unknown_metric(config)) is not None:
        raise InputError(
            f"{label}: the harness has no metric {printable(metric)!r}; mend its metric_list"
        )


def _unknown_metric(config: dict[str, Any]) -> str | None:
    """The first metric that the harness would look for in vain, or on the hub without saying so."""
    from lm_eval.api import metrics  # noqa: F401 - fills the registry
    from lm_eval.api.registry import metric_registry

    if config.get("process_results") is not None:
        return None
    listed = config.get("metric_list")
    for entry in listed if isinstance(listed, list) else []:
        own = entry.get("metric") if isinstance(entry, dict) else None
        if not isinstance(own, str) or own in metric_registry or entry.get("hf_evaluate"):
            continue
        # A function that is not imported yet is the path of its file and its name.
        if not Path(f"{own.rpartition('.')[0]}.py").is_file():
            return own
    return None
