"""Making text from outside printable, without terminal controls or invisible characters.

File names, data and models hold any characters. Escape sequences can rewrite a terminal,
right-to-left marks can make a line read as another, line breaks can forge a second message.
"""

from __future__ import annotations

import functools
import logging
import re
import unicodedata

SPACES = "Zs"  # no-break and wide spaces: not printable to Python, harmless to a terminal
_ODD = re.compile(r"[^ -~]")


def printable(text: str) -> str:
    r"""``text`` with characters not printable escaped: ``\x1b``, ``\u202e``, ``\U000e0001``.

    Letters of all scripts stay as they are; controls, line breaks, marks of direction, format
    characters, lone surrogates and characters without a meaning do not.
    """
    return _ODD.sub(lambda odd: _shown(odd[0]), text)


def is_harmless(character: str) -> bool:
    """Whether a character is printable and has no effect on a terminal."""
    return character.isprintable() or unicodedata.category(character) == SPACES


@functools.lru_cache(maxsize=4096)  # long texts repeat their characters
def _shown(character: str) -> str:
    if is_harmless(character):
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class PlainFormatter(logging.Formatter):
    """Formats a record as one printable line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        return printable(" ".join(super().format(record).split()))
