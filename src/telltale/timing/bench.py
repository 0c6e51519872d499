"""Timing one model, or two in alternation, cell by cell, and what is said of it.

Both are held by processes of their own (`worker`) all the time, and only one of them works. In
every repeat of a cell each is timed once, one right after the other, now this one first and now
that one: a machine that is slow for a while is slow for both, and their ratio is taken within a
repeat. Before the repeats each does the cell once without being timed.
"""

from __future__ import annotations

from contextlib import ExitStack
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

from telltale.models.load import choose_device, choose_dtype
from telltale.support.waiting import waiting
from telltale.timing.estimates import CONFIDENCE, Estimate, median_of, ratio_of
from telltale.timing.processes import held
from telltale.timing.settings import LLAMA, TRANSFORMERS, VLLM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from telltale.models.work import Work
    from telltale.timing.processes import Process, Run
    from telltale.timing.settings import BenchSettings, Cell
    from telltale.timing.sides import Side

VERSION = 1
SIDES = ("model", "against")
VLLM_SHARE = 0.9  # of a GPU's memory, of all models together


class Figure(NamedTuple):
    """What is told of a cell.

    Attributes:
        of: the number that a run gives, or None where it does not know.
        is_rate: whether more is better; else less is.
        work: what the number should be in proportion to, or of a rate to its inverse; None where
            that is not counted.
    """

    of: Callable[[Run, Cell, int], float | None]
    is_rate: bool
    work: Callable[[Work, Cell, int], int]


def _first(work: Work, cell: Cell, _: int) -> int:
    return work.first_token(cell.prompt_length)


def _decoding(work: Work, cell: Cell, new_tokens: int) -> int:
    return work.decoding(cell.prompt_length, new_tokens)


def _memory(work: Work, cell: Cell, new_tokens: int) -> int:
    # The last token is written and not read.
    return work.numbers_held(cell.batch_size, cell.prompt_length + new_tokens - 1)


def _rate(cell: Cell, new_tokens: int, seconds: float | None) -> float | None:
    # Where two requests are subtracted, so little may be left that nothing is known.
    return cell.batch_size * (new_tokens - 1) / seconds if seconds and seconds > 0 else None


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


MEMORY = "peak_memory_bytes"
FIGURES = {
    "time_to_first_token_ms": Figure(lambda run, *_: _ms(run.first_s), False, _first),
    "time_to_first_token_cpu_ms": Figure(lambda run, *_: _ms(run.first_cpu_s), False, _first),
    "decode_tokens_per_second": Figure(
        lambda run, cell, new: _rate(cell, new, run.decode_s), True, _decoding
    ),
    "decode_tokens_per_cpu_second": Figure(
        lambda run, cell, new: _rate(cell, new, run.decode_cpu_s), True, _decoding
    ),
    MEMORY: Figure(lambda run, *_: run.peak_bytes, False, _memory),
}


def bench_models(
    sides: Sequence[Side], settings: BenchSettings, *, device: str = "auto", dtype: str = "auto"
) -> dict[str, Any]:
    """Time a model, or two in alternation.

    Args:
        sides: one or two.
        settings: what is timed.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: ``float32``, ``bfloat16``, or ``auto`` for float32 on a CPU and bfloat16 on a GPU; of
            a GGUF file its own.

    Returns:
        The document of ``telltale bench``, JSON values.

    Raises:
        InputError: the texts are longer than a model takes, or there is no such device.
        MeasurementError: a model could not be loaded or timed.
    """
    place = choose_device(device)
    precision = str(choose_dtype(dtype, place)).removeprefix("torch.")
    for side in sides:
        settings.check_fits(side.name, side.work.longest)
    common = {
        "engine": settings.engine,
        "device": str(place),
        "dtype": precision,
        "threads": settings.threads,
        "longest": settings.longest,
        "largest": max(settings.batch_sizes),
        "share": VLLM_SHARE / len(sides),
    }
    done = 0
    count = len(settings.cells)
    names = " and ".join(side.name for side in sides[: 1 if sides[-1].removed else 2])
    with ExitStack() as stack:
        stack.enter_context(waiting(f"Timing {names} in {count} cells", lambda: done / count))
        processes = [
            stack.enter_context(held(side.name, {**common, **_given(side)})) for side in sides
        ]
        cells = []
        for cell in settings.cells:
            runs = alternated(processes, cell, settings)
            cells.append(_cell(cell, runs, sides, settings))
            done += 1
        said = processes[0].said
    against = sides[1] if len(sides) > 1 else None
    return {
        "version": VERSION,
        "telltale": version("telltale-llm"),
        "engine": {"name": settings.engine, "version": said["version"]},
        "device": str(place) if settings.engine != VLLM else None,
        "where": said["where"],
        "dtype": precision if settings.engine != LLAMA else None,
        "threads": said["threads"],
        "new_tokens": settings.new_tokens,
        "repeats": settings.repeats,
        "confidence": CONFIDENCE,
        "model": sides[0].said,
        "against": against and against.said,
        "size_on_disk_ratio": against and sides[0].size / against.size,
        "cells": cells,
    }


def _given(side: Side) -> dict[str, Any]:
    return {
        "files": str(side.files),
        "vocabulary": side.vocabulary,
        "letter": side.letter,
        "trust_remote_code": side.trust_remote_code,
    }


def alternated(
    processes: Sequence[Process], cell: Cell, settings: BenchSettings
) -> list[list[Run]]:
    """The runs of every process, so that those of one repeat stand next to each other in time."""
    asked = {**cell._asdict(), "new_tokens": settings.new_tokens}
    runs: list[list[Run]] = [[] for _ in processes]
    for process in processes:
        process.run({**asked, "is_first": True})
    for repeat in range(settings.repeats):
        order = range(len(processes)) if repeat % 2 == 0 else reversed(range(len(processes)))
        for place in order:
            runs[place].append(processes[place].run({**asked, "is_first": False}))
    return runs


def _cell(
    cell: Cell, runs: Sequence[Sequence[Run]], sides: Sequence[Side], settings: BenchSettings
) -> dict[str, Any]:
    """What is said of a cell."""
    found = {
        name: _figure(figure, cell, runs, [side.work for side in sides], settings)
        for name, figure in FIGURES.items()
    }
    memory = found[MEMORY]
    if settings.engine != TRANSFORMERS and memory is not None:
        memory["ideal"] = None  # weights and keys are of precisions of their own
    return {**cell._asdict(), **found}


def _figure(
    figure: Figure,
    cell: Cell,
    runs: Sequence[Sequence[Run]],
    works: Sequence[Work],
    settings: BenchSettings,
) -> dict[str, Any] | None:
    """One figure of a cell; None where it is not known."""
    new = settings.new_tokens
    values = [[figure.of(run, cell, new) for run in own] for own in runs]
    if any(one is None for own in values for one in own):
        return None
    known: list[list[float]] = values  # type: ignore[assignment]
    document: dict[str, Any] = {**dict.fromkeys(SIDES), "ratio": None, "ideal": None}
    for side, own in zip(SIDES, known, strict=False):
        document[side] = _said(median_of(own))
    if len(known) == len(SIDES):
        better = reversed(known) if figure.is_rate else known
        first, second = (figure.work(work, cell, new) for work in works)
        document |= {"ratio": _said(ratio_of(*better)), "ideal": first / second}
    return document


def _said(found: Estimate) -> dict[str, Any]:
    return {"value": found.value, "interval": [found.low, found.high]}
