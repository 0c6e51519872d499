"""Finding a task of lm-evaluation-harness, by name or in a YAML file, and having it made.

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
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from telltale.errors import InputError, TelltaleError
from telltale.plain import printable
from telltale.tasks.scorer import no_bytecode, reason

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST = (0, 4, 13)
NEXT = (0, 5)
CHOICES = "multiple_choice"
TEXT = "generate_until"
MEMBERS_SHOWN = 5
# What the harness and its data libraries raise where data cannot be had.
_DATA_LIBRARIES = ("datasets", "fsspec", "httpx", "huggingface_hub", "pyarrow", "requests")


@dataclass(frozen=True, slots=True)
class Source:
    """A task of the harness that has not been made yet.

    Attributes:
        label: what a person typed, for messages.
        spec: what the harness knows it by: a name, or a file's path.
        manager: the harness's own TaskManager.
        templates: the Jinja environment that its templates are rendered in.
    """

    label: str
    spec: str
    manager: Any
    templates: Any

    def make(self) -> Any:
        """The harness's task, with its data. Call it within `quietly` and `blaming`."""
        from lm_eval.api.task import ConfigurableTask

        try:
            (task,) = self.manager.load(self.spec)["tasks"].values()
        except (IndexError, StopIteration) as problem:
            # It looks at the first of its documents; of an empty file not even that is left.
            if isinstance(problem, IndexError) and "size 0" not in str(problem):
                raise
            raise InputError(f"{self.label} has no examples; check its splits") from problem
        if not isinstance(task, ConfigurableTask):
            raise InputError(f"{self.label} is written in Python as a whole; give a task in YAML")
        return task


def find(name: str) -> Source:
    """What a user's name of a task stands for.

    Args:
        name: a task's name, or a YAML file's path: one that ends in .yaml or .yml.

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
            # Nothing beside it is indexed: what a task includes, it names.
            manager = TaskManager(include_defaults=False)
            config = _config_of_file(path.resolve())
        else:
            manager = _own_tasks()
            config = _config_of_name(label, name, manager)
        _check(label, config)
    spec = str(path.resolve()) if is_file else name
    return Source(label, spec, manager, _templates())


def check_installed() -> None:
    """Refuse to go on without a harness that behaves as this one is known to.

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
    """For a block that runs the harness: its own seeds, and nothing of it on the screen.

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
    """For a block, have the harness render its templates in another environment."""
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
    """Turn whatever the harness, or a user's Python within it, raises into one line.

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
    if entry.kind.name == "TAG":
        raise _one_of(label, "tag", sorted(entry.tags))
    return dict(entry.cfg or {})


def _config_of_file(path: Path) -> dict[str, Any]:
    """What a file says, its includes merged and its functions not imported yet."""
    from lm_eval.tasks._yaml_loader import load_yaml

    return dict(load_yaml(path, resolve_func=False))


def _check(label: str, config: dict[str, Any]) -> None:
    """Refuse what cannot be asked, as far as a configuration says it before there are data.

    Raises:
        InputError: it cannot be asked.
    """
    members = config.get("task")
    if "group" in config or isinstance(members, list):
        listed = members if isinstance(members, list) else [members]
        names = [
            str(one.get("task", one.get("group"))) if isinstance(one, dict) else str(one)
            for one in listed
        ]
        raise _one_of(label, "group", names)
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


def _one_of(label: str, kind: str, members: list[str]) -> InputError:
    shown = ", ".join(members[:MEMBERS_SHOWN]) + (", ..." if len(members) > MEMBERS_SHOWN else "")
    return InputError(f"{label} is a {kind} of {len(members)} ({printable(shown)}); give one task")
