"""A study: one search from start to end, on disk."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from telltale.moved import moved_name

if TYPE_CHECKING:
    from telltale.evidence.result import Result
    from telltale.study.reading import StoredStudy, read_study
    from telltale.study.run import run_study

__all__ = ["Result", "StoredStudy", "read_study", "run_study"]

# Imported when asked for, since running a study imports torch and reading one does not.
_HOMES = {
    "Result": "telltale.evidence.result",
    "StoredStudy": "telltale.study.reading",
    "read_study": "telltale.study.reading",
    "run_study": "telltale.study.run",
}

if not TYPE_CHECKING:  # a type checker is to know what this module has and what it has not

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        return moved_name(__name__, name)
