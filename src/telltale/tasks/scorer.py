"""A Python function as the scorer of generated text. Knows no model.

The function is given the text that was written and the right answer, and after them the question
where it takes a third argument; it gives a number from 0 to 1, or True or False::

    def close_enough(text: str, right: str) -> float:
        return 1.0 if right.casefold() in text.casefold() else 0.0

It must depend on nothing but what it is given, since what it said of a text is remembered. Naming a
file or a module runs it.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from telltale.errors import InputError, MeasurementError
from telltale.support.files import sha256_of_file
from telltale.support.plain import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from telltale.measure import Outcome
    from telltale.tasks.task import Example

LONGEST_REASON = 200  # characters of someone else's message in ours
ONLY_FOR_TEXT = (
    "a scorer judges generated text, and this task is scored by log-likelihood; leave `scorer` "
    "out, or give `protocol` chat or text"
)


@dataclass(frozen=True, slots=True)
class PythonScorer:
    """A function as `telltale.tasks.task.Scorer`.

    ``name`` is what a person knows it by, ``digest`` the SHA-256 of its source.
    """

    function: Callable[..., Any]
    name: str
    digest: str
    takes_question: bool

    @property
    def identity(self) -> dict[str, Any]:
        """The function's name and the hash of its source, whatever its file."""
        own = self.name.rpartition(":")[2]
        return {"function": own, "source": self.digest, "question": self.takes_question}

    def __call__(self, example: Example, outcome: Outcome) -> Outcome:
        """The outcome with the function's score.

        Raises:
            InputError: no text was generated.
            MeasurementError: the function failed, or gave something else than a score.
        """
        if outcome.generated is None:
            raise InputError(ONLY_FOR_TEXT)
        given = [outcome.generated.text, example.choices[example.answer]]
        if self.takes_question:
            given.append(example.context)
        try:
            said = self.function(*given)
        except (Exception, SystemExit) as problem:
            raise MeasurementError(
                f"the scorer {printable(self.name)} failed on example {printable(example.id)!r} "
                f"({reason(problem)}); mend it and run the same command again"
            ) from problem
        score = as_score(said)
        if score is None:
            raise MeasurementError(
                f"the scorer {printable(self.name)} gave {shown(said)} for example "
                f"{printable(example.id)!r}; it must give a number from 0 to 1, True or False"
            )
        return replace(outcome, score=score)


def python_scorer(given: str | Callable[..., Any]) -> PythonScorer:
    """A scorer from a function or its location, ``FILE.py:NAME`` or ``MODULE:NAME``.

    Args:
        given: ``FILE.py:NAME``, ``MODULE:NAME``, or the function itself, whose source must be in a
            file. What a function takes from outside, values it was made with and other modules,
            is not part of its identity.

    Raises:
        InputError: there is no such function, its file fails, or it cannot be called with a text
            and the right answer.
    """
    if not isinstance(given, str):
        name = getattr(given, "__qualname__", type(given).__name__)
        return _scorer(given, name, _digest_of(given, name))
    place, separator, name = given.rpartition(":")
    if not (place and separator and name):
        raise InputError(
            f"`scorer` {printable(given)} names no function; give FILE.py:NAME or MODULE:NAME"
        )
    is_file = place.endswith(".py") or Path(place).is_file()
    module, digest = _from_file(Path(place)) if is_file else _from_module(place)
    function = getattr(module, name, None)
    if not callable(function):
        found = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise InputError(
            f"{printable(place)} has no function {printable(name)!r}; it has "
            f"{', '.join(found) or 'none'}"
        )
    return _scorer(function, given, digest)


def as_score(value: object) -> float | None:
    """A value as a score in [0, 1], also of numpy or torch; None if it is none."""
    if not isinstance(value, bool | int | float) and hasattr(value, "item"):
        try:
            value = value.item()
        except (TypeError, ValueError, RuntimeError):
            return None
    # NaN compares false with everything.
    good = isinstance(value, bool | int | float) and 0 <= value <= 1
    return float(value) if good else None  # type: ignore[arg-type]


def reason(problem: BaseException) -> str:
    """An error of another library or of a user's code, in one short line."""
    # A missing key's text is put in quotes as if it were code.
    said = problem.args[0] if isinstance(problem, KeyError) and problem.args else problem
    text = " ".join(str(said).split())
    # What says little by itself: a bare key, a number, nothing.
    if len(text.split()) < 3:
        text = f"{type(problem).__name__}: {text}" if text else type(problem).__name__
    return _short(text.rstrip("."))


def shown(value: object) -> str:
    """Any value in one short line."""
    try:
        return _short(repr(value))
    except Exception:  # a repr may raise whatever it likes
        return f"a {type(value).__name__}"


def _short(text: str) -> str:
    plain = printable(" ".join(text.split()))
    return plain if len(plain) <= LONGEST_REASON else plain[: LONGEST_REASON - 3] + "..."


@contextmanager
def no_bytecode() -> Iterator[None]:
    """Write no ``__pycache__`` beside modules that a block imports."""
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _scorer(function: Callable[..., Any], name: str, digest: str) -> PythonScorer:
    return PythonScorer(function, name, digest, _takes_question(function, name))


def _takes_question(function: Callable[..., Any], name: str) -> bool:
    """Whether it can be called with three arguments.

    Raises:
        InputError: not with two either.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return False  # a built-in that does not say
    for count in (3, 2):
        try:
            signature.bind(*[""] * count)
        except TypeError:
            continue
        return count == 3
    raise InputError(
        f"the scorer {printable(name)} takes {shown(signature)}; it must take a text and the right "
        "answer, and may take the question as a third"
    )


def _from_file(path: Path) -> tuple[ModuleType, str]:
    """A file's module, and the hash of what was read."""
    try:
        source = path.read_bytes()
    except (OSError, ValueError) as problem:
        said = getattr(problem, "strerror", None) or reason(problem)
        raise InputError(f"cannot read the scorer's file {printable(str(path))}: {said}") from None
    digest = hashlib.sha256(source).hexdigest()
    module = ModuleType(f"telltale_scorer_{digest[:16]}")
    module.__file__ = str(path.resolve())
    # Where dataclasses and pickle look for what a class was defined in.
    sys.modules[module.__name__] = module
    try:
        with no_bytecode():
            exec(compile(source, str(path), "exec"), vars(module))
    except (Exception, SystemExit) as problem:
        del sys.modules[module.__name__]
        raise InputError(
            f"the scorer's file {printable(str(path))} fails ({reason(problem)}); mend it"
        ) from problem
    return module, digest


def _from_module(name: str) -> tuple[ModuleType, str]:
    try:
        with no_bytecode():
            module = importlib.import_module(name)
        file = inspect.getsourcefile(module)
    except (Exception, SystemExit) as problem:
        raise InputError(
            f"the scorer's module {printable(name)} cannot be imported ({reason(problem)}); name "
            "one that is installed, or give FILE.py:NAME"
        ) from problem
    if file is None:
        raise InputError(
            f"the scorer's module {printable(name)} has no source to know it by; give FILE.py:NAME"
        )
    return module, sha256_of_file(Path(file))


def _digest_of(function: Callable[..., Any], name: str) -> str:
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        raise InputError(
            f"the scorer {printable(name)} has no source to know it by; write it into a file and "
            "give FILE.py:NAME"
        ) from None
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
