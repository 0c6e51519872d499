"""What is timed: which prompts, how many at once, how often and by which program."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from telltale.errors import InputError
from telltale.support.words import counted, one_of
from telltale.timing.estimates import LEAST_REPEATS

TRANSFORMERS, LLAMA, VLLM = "transformers", "llama.cpp", "vllm"
# By the name of an engine: the package that it is here, and the command that installs it.
ENGINES = {
    TRANSFORMERS: ("transformers", "pip install transformers"),
    LLAMA: ("xllamacpp", "pip install xllamacpp"),
    VLLM: ("vllm", "pip install vllm, on a machine that it supports"),
}


class Cell(NamedTuple):
    """So many prompts at once, of so many tokens each."""

    batch_size: int
    prompt_length: int


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """What is timed, and how.

    Attributes:
        prompt_lengths: in tokens.
        batch_sizes: how many prompts are read and continued at once.
        new_tokens: how many tokens each prompt is continued by; the first of them ends the reading.
        repeats: how often each model is timed in each cell.
        engine: ``transformers``, ``llama.cpp`` or ``vllm``.
        threads: of a CPU; None for as many as the engine takes by itself.

    Raises:
        InputError: one of these cannot be.
    """

    prompt_lengths: tuple[int, ...] = (32, 128, 512)
    batch_sizes: tuple[int, ...] = (1, 4)
    new_tokens: int = 32
    repeats: int = 9
    engine: str = TRANSFORMERS
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("prompt_lengths", "batch_sizes"):
            given = getattr(self, name)
            if not given or min(given) < 1 or len(set(given)) < len(given):
                raise InputError(
                    f"`{name}` must be one or several different numbers of at least 1, "
                    f"got {list(given)}"
                )
        if self.new_tokens < 2:
            raise InputError(
                f"`new_tokens` must be at least 2, got {self.new_tokens}: the first is the "
                "prompt's, and only those after it are decoded"
            )
        if self.repeats < LEAST_REPEATS:
            raise InputError(
                f"`repeats` must be at least {LEAST_REPEATS}, got {self.repeats}: of fewer a "
                "median has no interval"
            )
        if self.threads is not None and self.threads < 1:
            raise InputError(f"`threads` must be at least 1, got {self.threads}")
        if self.engine not in ENGINES:
            raise InputError(f"`engine` must be {one_of(ENGINES)}, got {self.engine!r}")

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All of them, the least work first."""
        found = (Cell(*one) for one in product(self.batch_sizes, self.prompt_lengths))
        return tuple(sorted(found, key=lambda one: (one.batch_size * one.prompt_length, one)))

    @property
    def longest(self) -> int:
        """The most tokens of a text, prompt and continuation."""
        return max(self.prompt_lengths) + self.new_tokens

    def check_fits(self, name: str, takes: int | None) -> None:
        """Refuse texts that are longer than a model takes.

        Raises:
            InputError: they are.
        """
        if takes is not None and self.longest > takes:
            raise InputError(
                f"`prompt_lengths` {max(self.prompt_lengths)} and `new_tokens` {self.new_tokens} "
                f"are {counted(self.longest, 'token')}, and {name} takes {takes:,}; give fewer"
            )


def check_engine(engine: str, device: str, dtype: str) -> None:
    """Refuse an engine that is not here, or what it cannot be told.

    Raises:
        InputError: its package is not installed, it takes no ``dtype`` or no ``device``.
    """
    package, command = ENGINES[engine]
    if importlib.util.find_spec(package) is None:
        raise InputError(
            f"`engine` {engine} needs the package {package}, which is not installed; install it "
            f"({command}) or time with `engine` {TRANSFORMERS}"
        )
    for name, given, free in (("dtype", dtype, LLAMA), ("device", device, VLLM)):
        if given != "auto" and engine == free:
            raise InputError(
                f"`{name}` {given} cannot be had with `engine` {engine}, which goes by "
                + ("the GGUF file" if free == LLAMA else "what it was made for")
                + "; leave it out"
            )
