"""Messages name parameters of the public functions in backticks; the command names its options.

`held_out` becomes --held-out. All else in backticks stays as it is.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

from telltale import api
from telltale.support.plain import PlainFormatter

if TYPE_CHECKING:
    import logging

NAMED = re.compile(r"`([a-z_]+(?:\.[a-z_]+)?)`")
PARAMETERS = {
    name
    for function in api.__all__
    for name, parameter in inspect.signature(getattr(api, function)).parameters.items()
    if parameter.kind is not parameter.VAR_KEYWORD
}
# Parameters that are not called as their option is; the names in capitals are arguments.
SPELLED = {
    "model": "MODEL",
    "task": "TASK",
    "study": "STUDY",
    "studies": "STUDY",
    "guards": "--guard",
    "count": "--show",
    **{
        f"fields.{part}": f"--{part}-field" for part in ("question", "choices", "answer", "passage")
    },
    "fields.answer_form": "--answer-form",
    "figures": "--figures",  # of the command alone, as `telltale report` is
}
WITHOUT_OPTION = {"fields", "runner", "watcher"}


def with_options(message: str) -> str:
    """A message with the command's options in place of the functions' parameters."""
    return NAMED.sub(_option, message)


def _option(match: re.Match[str]) -> str:
    name = match[1]
    if name in SPELLED:
        return SPELLED[name]
    is_option = name in PARAMETERS and name not in WITHOUT_OPTION
    return f"--{name.replace('_', '-')}" if is_option else match[0]


class OptionsFormatter(PlainFormatter):
    """Formats a record as one printable line, in which telltale's own name options."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line."""
        line = super().format(record)
        return with_options(line) if record.name.startswith("telltale") else line
