"""What was found and how far it is shown: statistics, claims, the result. Made of outcomes."""

from typing import TYPE_CHECKING, Any

from telltale.evidence.comparison import Comparison, compare
from telltale.evidence.result import PathModel, Result
from telltale.moved import moved_name

__all__ = ["Comparison", "PathModel", "Result", "compare"]

if not TYPE_CHECKING:  # a type checker is to know what this module has and what it has not

    def __getattr__(name: str) -> Any:
        return moved_name(__name__, name)
