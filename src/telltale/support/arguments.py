"""What the public functions are given: each argument is checked, and errors name its parameter."""

from __future__ import annotations

import functools
import inspect
import numbers
import operator
import os
import re
import reprlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from telltale.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60


class Check(NamedTuple):
    """What an argument must be, in words, and the function that converts it.

    ``take`` raises TypeError or ValueError where it is something else.
    """

    wanted: str
    take: Callable[[Any], Any]


def checked(checks: Mapping[str, Check]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """For a public function: its arguments are checked.

    A parameter's default is not checked, so that None is taken where it is the default.

    Args:
        checks: by the name of a parameter; each must have one.
    """

    def of(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        own = {name: (one.default, checks[name]) for name, one in signature.parameters.items()}

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError:
                bound = None
            if bound is None:
                return function(*args, **kwargs)  # Python says what it lacks
            for name, value in bound.arguments.items():
                default, check = own[name]
                if value is not default:
                    bound.arguments[name] = taken(name, check, value)
            return function(*bound.args, **bound.kwargs)

        return run

    return of


def taken(name: str, check: Check, value: Any) -> Any:
    """What a check makes of a value.

    Raises:
        InputError: it is something else; the parameter is named.
    """
    try:
        return check.take(value)
    except (TypeError, ValueError):
        raise InputError(f"`{name}` must be {check.wanted}, got {_REPR.repr(value)}") from None


def an(*kinds: type) -> Callable[[Any], Any]:
    """A converter that takes instances of some types."""

    def take(value: Any) -> Any:
        if not isinstance(value, kinds):
            raise TypeError
        return value

    return take


def whole(value: Any) -> int:
    """A whole number, also of numpy; not True or False."""
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def real(value: Any) -> float:
    """A real number, also of numpy; not a text."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError
    return float(value)


def several(take: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    """A converter of an iterable's items; a text is no iterable of letters here."""

    def take_all(value: Any) -> tuple[Any, ...]:
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            raise TypeError
        return tuple(take(one) for one in value)

    return take_all


def texts(value: Any) -> tuple[str, ...]:
    """One text, or several."""
    return (value,) if isinstance(value, str) else several(an(str))(value)


def either(*takes: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A converter that takes what the first fitting of several takes."""

    def take(value: Any) -> Any:
        for one in takes:
            try:
                return one(value)
            except (TypeError, ValueError):
                continue
        raise TypeError

    return take


UNITS = {"": 1, "b": 1, **{f"{one}b": 1000**n for n, one in enumerate("kmgt", 1)}}
UNITS |= {f"{one}ib": 1024**n for n, one in enumerate("kmgt", 1)}

MANY = {"": 1, "k": 1000, "m": 1000**2, "b": 1000**3}  # parameters


def size(value: Any) -> int:
    """A number of bytes, or one with a unit, such as 2GiB or 500 MB."""
    if isinstance(value, str):
        found = re.fullmatch(r"(\d+(?:\.\d+)?) *([a-zA-Z]*)", value.strip(), re.ASCII)
        if found is None or found[2].lower() not in UNITS:
            raise ValueError
        value = int(float(found[1]) * UNITS[found[2].lower()])
    found_bytes = whole(value)
    if found_bytes < 0:
        raise ValueError
    return found_bytes


def parameters(value: Any) -> int:
    """A number of parameters, or one with a suffix, such as 100M or 1.5B."""
    if isinstance(value, str):
        found = re.fullmatch(r"(\d+(?:\.\d+)?) *([kKmMbB]?)", value.strip(), re.ASCII)
        if found is None:
            raise ValueError
        value = int(float(found[1]) * MANY[found[2].lower()])
    return whole(value)


def text_or(wanted: str) -> Check:
    """A check for a text."""
    return Check(wanted, an(str))


PATH = Check("a path", an(str, os.PathLike))
SWITCH = Check("True or False", an(bool))
SEED = Check("a whole number", whole)
PARAMETERS = Check("a number of parameters, such as 100M or 1.5B", parameters)
SIZE = Check("a number of bytes, or a size such as 2GiB or 500MB", size)


def count_of(what: str) -> Check:
    """A check for a number of things."""
    return Check(f"a whole number of {what}", whole)


def share_of(what: str, such_as: str) -> Check:
    """A check for a share."""
    return Check(f"a share of {what}, such as {such_as}", real)


def layers(such_as: str) -> Check:
    """A check for indices of layers."""
    return Check(f"layers counted from 0, such as {such_as}", several(whole))
