"""The command line: arguments, options and the screen; what is done is `telltale.api`'s."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from telltale.cli.commands import app, main

__all__ = ["app", "main"]

if not TYPE_CHECKING:  # a type checker is to know what this module has and what it has not

    def __getattr__(name: str) -> Any:
        if name in __all__:  # imported when asked for, since the commands import all of typer
            from telltale.cli import commands

            return getattr(commands, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
