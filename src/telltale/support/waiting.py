"""Steps that may take minutes before measuring: logged in one line, or shown with progress.

Whoever has a terminal says so by `shown_by`; everywhere else a step is a line of the log. Knows no
terminal.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

LOG = logging.getLogger(__name__)


class Shows(Protocol):
    """A function that shows a step while its context lasts, or returns None.

    ``share`` gives how much of it is done, in [0, 1], or None where that is not known.
    """

    def __call__(
        self, text: str, share: Callable[[], float | None]
    ) -> AbstractContextManager[object] | None:
        """See the class."""
        ...


_shows: ContextVar[Shows | None] = ContextVar("shows", default=None)


@contextmanager
def shown_by(shows: Shows) -> Iterator[None]:
    """Show steps within a block by ``shows``."""
    before = _shows.set(shows)
    try:
        yield
    finally:
        _shows.reset(before)


@contextmanager
def waiting(text: str, share: Callable[[], float | None] = lambda: None) -> Iterator[bool]:
    """Show or log a step that takes as long as the block.

    Args:
        text: what is done, such as ``Converting a.gguf to safetensors, once``.
        share: how much of it is done; may be called from another thread, and must not raise.

    Yields:
        Whether it is shown; else the line is in the log.
    """
    shows = _shows.get()
    shown = None if shows is None else shows(text, share)
    if shown is None:
        LOG.info("%s", text)
        yield False
    else:
        with shown:
            yield True


def share_of_bytes(folder: Path, megabytes: int) -> float:
    """The size of a folder as a share, at most 1, of a number of megabytes."""
    size = 0
    for place, _, files in os.walk(folder):  # which passes over folders that have gone meanwhile
        for file in files:
            with suppress(OSError):
                size += os.path.getsize(os.path.join(place, file))
    return min(1.0, size / (megabytes * 1e6))
