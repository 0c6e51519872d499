"""Data sets of the Hugging Face hub, by the ``datasets`` library, which is imported where used.

A hub that cannot be reached is found out by one request before the library is called, which would
try again and again; what it keeps in its cache is read all the same.
"""

from __future__ import annotations

import logging
import re
import warnings
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from telltale.support.files import is_full_disk
from telltale.support.waiting import waiting
from telltale.tasks.sources.reading import Found, UnavailableError, records_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from telltale.tasks.known import NamedTask

LOG = logging.getLogger(__name__)
NAME = "the hub"
PROBE_S = 10.0  # for the first sign of the hub
LIBRARIES = ("datasets", "huggingface_hub", "httpx", "httpx2", "urllib3", "fsspec")
LONGEST_REASON = 300  # characters of a library's own words
_CONFIGS = re.compile(r"[Cc]onfig.*?\[(.+?)\]")


def find(task: NamedTask, split: str) -> Found:
    """The records of a split.

    Raises:
        UnavailableError: the hub does not have it, or cannot be reached.
        DataError: it is not laid out as is known.
    """
    assert task.hub is not None
    hub = task.hub
    if split not in hub.splits:
        raise UnavailableError(f"{hub.dataset} has no answers for the split {split}")
    data = read(hub.dataset, hub.config, lambda _: hub.splits[split])
    rows = ((f"{hub.dataset} {split}, row {n}", row) for n, row in enumerate(data.table))
    return Found(records_of(rows, hub.record), f"{hub.dataset} of the hub")


class Data(NamedTuple):
    """One split of a data set: the library's table of it, whose rows are dictionaries."""

    table: Any
    split: str


def read(dataset: str, config: str | None, choose: Callable[[list[str]], str]) -> Data:
    """A split of a data set, fetched where it is not in the hub's cache.

    Args:
        dataset: its id on the hub.
        config: the configuration; None where there is only one.
        choose: takes one of the splits there are.

    Raises:
        UnavailableError: it cannot be had.
    """
    try:
        import datasets
    except ImportError as problem:
        raise UnavailableError(
            f"the datasets library cannot be imported ({problem}); "
            "pip install 'telltale-llm[tasks]'"
        ) from None
    # Without this a folder of the same name would be taken for the data set.
    place = f"hf://datasets/{dataset}"
    with ExitStack() as stack:
        stack.enter_context(waiting(f"Getting {dataset} from the hub, or from its cache"))
        stack.enter_context(_quiet())
        obstacle = _obstacle()
        if obstacle is not None:
            stack.enter_context(_offline())
        try:
            builder = datasets.load_dataset_builder(place, config)
            builder.download_and_prepare()
            splits = list(builder.info.splits)
        except Exception as problem:  # the library's, the hub's client's, the files' and more
            if (full := _full_disk(problem)) is not None:
                raise full from None
            LOG.debug("reading %s failed", dataset, exc_info=True)
            raise UnavailableError(_reason(problem, dataset, config, obstacle)) from None
        split = choose(splits)
        if split not in splits:
            raise UnavailableError(f"{dataset} has no split {split!r}, only {', '.join(splits)}")
        return Data(builder.as_dataset(split=split), split)


def _reason(problem: Exception, dataset: str, config: str | None, obstacle: str | None) -> str:
    """Why a data set cannot be had, and what to do."""
    text = " ".join(str(problem).split())
    if obstacle is not None:
        asked = dataset if config is None else f"{dataset}:{config}"
        return f"{obstacle}, and the hub's cache has no {asked}"
    if "scripts are no longer supported" in text:
        return (
            f"{dataset} is read by Python code of its own, which the datasets library does not run"
        )
    if "gated" in text:
        return (
            f"the owner of {dataset} asks you to accept terms first; do so on its page, then "
            "`hf auth login`"
        )
    if type(problem).__name__ == "DatasetNotFoundError":
        return (
            f"there is no data set {dataset}, or it is private; check the name or `hf auth login`"
        )
    if isinstance(problem, ValueError) and (names := _CONFIGS.search(text)):
        named = "needs a configuration" if config is None else f"has no configuration {config!r}"
        return f"{dataset} {named}; it has {names[1].replace(chr(39), '')[:LONGEST_REASON]}"
    return f"{type(problem).__name__}: {text[:LONGEST_REASON]}"


def _full_disk(problem: BaseException) -> OSError | None:
    """The error of a full disk, if that is what the library met."""
    cause: BaseException | None = problem
    while cause is not None:
        if isinstance(cause, OSError) and is_full_disk(cause):
            return cause
        cause = cause.__cause__
    return None


def _obstacle() -> str | None:
    """What is between here and the hub."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=PROBE_S)
    except Exception as problem:  # of one HTTP client or another
        return f"the hub cannot be reached ({' '.join(str(problem).split())[:LONGEST_REASON]})"
    return None


@contextmanager
def _offline() -> Iterator[None]:
    """As if HF_HUB_OFFLINE were set, which the libraries read once and keep here."""
    from datasets import config
    from huggingface_hub import constants

    before = config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' own progress bars and notices."""
    from datasets.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    loggers = [logging.getLogger(name) for name in LIBRARIES]
    levels = [logger.level for logger in loggers]
    has_bars = not are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        disable_progress_bars()
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            if has_bars:
                enable_progress_bars()
