"""An error is the same after it has crossed from one process to another."""

from __future__ import annotations

import copy
import importlib
import inspect
import multiprocessing
import pickle
import pkgutil
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, NoReturn, get_type_hints

import pytest

import telltale
from telltale.errors import DataError, InputError, MeasurementError, TelltaleError
from telltale.measure import Batch, BatchTooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterator

# What an error may be made of, by its type.
GIVEN = {str: "words with a \n and {braces}", int: 7, Batch: Batch((4, 1, 3))}


def error_classes() -> list[type[BaseException]]:
    """Every exception that a module of telltale defines."""
    found: list[type[BaseException]] = []
    for module in pkgutil.walk_packages(telltale.__path__, "telltale."):
        if not module.name.endswith("__main__"):
            found += errors_in(vars(importlib.import_module(module.name)), module.name)
    return sorted(found, key=lambda one: f"{one.__module__}.{one.__qualname__}")


def errors_in(names: dict[str, object], module: str) -> Iterator[type[BaseException]]:
    for one in names.values():
        if inspect.isclass(one) and issubclass(one, BaseException) and one.__module__ == module:
            yield one


def made(error: type[BaseException]) -> BaseException:
    """One of them, made as its signature says."""
    if "__init__" not in vars(error):
        return error(GIVEN[str])
    hints = get_type_hints(vars(error)["__init__"], {**globals(), "Batch": Batch})
    return error(*(GIVEN[kind] for name, kind in hints.items() if name != "return"))


ERRORS = [made(error) for error in error_classes()]


def what_it_says(problem: BaseException) -> tuple[object, ...]:
    status = getattr(problem, "exit_status", None)
    return type(problem), str(problem), problem.args, vars(problem), status


def test_every_error_is_found() -> None:
    found = {type(problem) for problem in ERRORS}
    assert {TelltaleError, InputError, DataError, MeasurementError, BatchTooLargeError} <= found
    below = [TelltaleError]
    for error in below:
        below += error.__subclasses__()
    ours = {error for error in below if error.__module__.startswith("telltale.")}
    assert ours <= found


@pytest.mark.parametrize("problem", ERRORS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_unpickles_as_it_was(problem: BaseException, protocol: int) -> None:
    assert what_it_says(pickle.loads(pickle.dumps(problem, protocol))) == what_it_says(problem)
    assert what_it_says(copy.copy(problem)) == what_it_says(problem)


def raised(problem: BaseException) -> NoReturn:
    raise problem


def test_an_error_of_another_process_is_raised_here_as_it_was() -> None:
    here = [problem for problem in ERRORS if isinstance(problem, Exception)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        crossed = [pool.submit(raised, problem).exception(timeout=120) for problem in here]
    assert [what_it_says(one) for one in crossed if one] == [what_it_says(one) for one in here]


def test_a_batch_that_did_not_fit_can_still_be_halved_after_it_has_crossed() -> None:
    found = pickle.loads(pickle.dumps(BatchTooLargeError(Batch((1, 2)), "cuda:1")))
    assert found.batch.halves() == (Batch((1,)), Batch((2,)))
    assert (found.device, found.exit_status) == ("cuda:1", 1)
    assert "a batch of 2 examples did not fit in the memory of cuda:1" in str(found)


def test_where_a_data_error_is_stands_first_after_it_has_crossed() -> None:
    found = pickle.loads(pickle.dumps(DataError("data.csv, line 3", "no answer")))
    assert (str(found), found.exit_status) == ("data.csv, line 3: no answer", 2)
