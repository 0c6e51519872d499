"""Several watchers are told as one, and left whatever happens."""

from __future__ import annotations

import inspect
from typing import Any, Self

import pytest

from telltale.watcher import Watcher, Watchers
from tests.tracking.told import tell

TOLD = [
    name for name, _ in inspect.getmembers(Watcher, inspect.isfunction) if not name.startswith("_")
]


class Noting(Watcher):
    """Writes down what it is told, and when it is entered and left."""

    def __init__(self, name: str, notes: list[tuple[str, str]]) -> None:
        self.name = name
        self.notes = notes

    def __getattribute__(self, called: str) -> Any:
        if called in TOLD:
            return lambda *_, **__: self.notes.append((self.name, called))
        return super().__getattribute__(called)

    def __enter__(self) -> Self:
        self.notes.append((self.name, "enter"))
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self.notes.append((self.name, f"exit {kind.__name__ if kind else ''}".strip()))


def test_a_watcher_ignores_everything() -> None:
    with Watcher() as watcher:
        tell(watcher)


def test_each_is_told_everything_in_order() -> None:
    notes: list[tuple[str, str]] = []
    tell(Watchers([Noting("first", notes), Noting("second", notes)]))
    assert {called for _, called in notes} == set(TOLD)
    for (one, called), (other, also_called) in zip(notes[::2], notes[1::2], strict=True):
        assert (one, other) == ("first", "second")
        assert called == also_called


def test_what_watchers_tell_is_all_that_a_watcher_is_told() -> None:
    for name in TOLD:
        assert name in vars(Watchers)
        own, base = (inspect.signature(getattr(kind, name)) for kind in (Watchers, Watcher))
        assert own == base


def test_all_are_left_in_the_reverse_order_after_an_exception() -> None:
    notes: list[tuple[str, str]] = []
    with (
        pytest.raises(KeyboardInterrupt),
        Watchers([Noting("first", notes), Noting("second", notes)]),
    ):
        raise KeyboardInterrupt
    assert notes == [
        ("first", "enter"),
        ("second", "enter"),
        ("second", "exit KeyboardInterrupt"),
        ("first", "exit KeyboardInterrupt"),
    ]


class Unwilling(Watcher):
    def __enter__(self) -> Self:
        raise RuntimeError("no")


def test_those_entered_are_left_where_another_cannot_be_entered() -> None:
    notes: list[tuple[str, str]] = []
    with pytest.raises(RuntimeError), Watchers([Noting("first", notes), Unwilling()]):
        raise AssertionError("never here")
    assert notes == [("first", "enter"), ("first", "exit RuntimeError")]


class Leaving(Watcher):
    def __exit__(self, *_: object) -> None:
        raise RuntimeError("on leaving")


def test_one_that_fails_on_leaving_does_not_keep_another_from_being_left() -> None:
    notes: list[tuple[str, str]] = []
    with pytest.raises(RuntimeError, match="on leaving"), Watchers([Noting("a", notes), Leaving()]):
        pass
    assert notes[-1] == ("a", "exit RuntimeError")


def test_what_a_watcher_raises_goes_on_to_the_search() -> None:
    class Stop(Watcher):
        def round_done(self, done: Any) -> None:
            raise RuntimeError("enough")

    notes: list[tuple[str, str]] = []
    with pytest.raises(RuntimeError, match="enough"):
        tell(Watchers([Stop(), Noting("after", notes)]))
    assert ("after", "begun") in notes
    assert ("after", "round_done") not in notes
