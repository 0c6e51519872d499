"""Timing a path of a model against the whole one, for a study's targets, in fresh processes.

The path is written as a checkpoint into a folder that goes again; it and the whole model are held
by processes of their own, in plain transformers, and do the same request in alternation.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from telltale.checkpoints.config import family_of
from telltale.checkpoints.write import read_config, write_checkpoint
from telltale.errors import InputError
from telltale.evidence.targets import LATENCY, MEMORY, SPEEDUP, Figure
from telltale.models.load import choose_device, hollow_model
from telltale.support.scratch import scratch_folder
from telltale.support.waiting import waiting
from telltale.timing.estimates import Estimate, median_of, ratio_of
from telltale.timing.processes import held
from telltale.timing.settings import TRANSFORMERS
from telltale.timing.worker import PROCESS

if TYPE_CHECKING:
    from pathlib import Path

    from telltale.evidence.targets import Targets
    from telltale.models.source import ModelSource
    from telltale.study.targeting import Asked
    from telltale.timing.processes import Process, Run

# A ratio of short requests varies more than one of long ones, so that they are done more often:
# as often as there is time for, in seconds of both models.
SECONDS = 20.0
REMEDY = "if there is too little memory, both models are held at once: leave out what is timed"
LEAST_REPEATS, MOST_REPEATS = 9, 151


def check_timed(source: ModelSource, device: str, targets: Targets) -> None:
    """Refuse targets that cannot be measured, before anything is.

    Raises:
        InputError: the memory of a process cannot be known here.
        UnsupportedModelError: no smaller model can be written.
    """
    if not targets.timed:
        return
    family_of(read_config(source))
    kind = choose_device(device).type
    counted = os.access(PROCESS / "clear_refs", os.W_OK) if kind == "cpu" else kind == "cuda"
    if MEMORY in targets.asked and not counted:
        raise InputError(
            f"`{MEMORY}` cannot be measured on {kind} here: peak memory is known of a CPU on Linux "
            "and of a CUDA GPU; leave it out, or give `max_parameters`"
        )


def time_against_whole(asked: Asked) -> dict[str, Figure]:
    """How many times as fast a path is as the whole model, how long a request takes, what it holds.

    The speed-up is that of processor time where a CPU works, which other programs take little of,
    else of time; latency is time. Each is a median with its interval, the speed-up that of pairs.

    Raises:
        MeasurementError: a model could not be loaded or timed.
        UnsupportedModelError: the path cannot be written.
    """
    source, path = asked.source, asked.path
    with ExitStack() as stack:
        folders = {"the whole model": source.folder}
        if path.removed:
            made = stack.enter_context(scratch_folder("timing")) / "shallower"
            write_checkpoint(source, path, made)
            folders[f"the model without {len(path.removed)} layers"] = made
        stack.enter_context(waiting("Timing a model for its target", lambda: None))
        vocabulary = int(hollow_model(source).get_input_embeddings().weight.shape[0])
        processes = [
            stack.enter_context(held(name, _given(asked, folder, vocabulary), REMEDY))
            for name, folder in folders.items()
        ]
        runs = _runs(processes, asked)
    return _figures(runs)


def _given(asked: Asked, folder: Path, vocabulary: int) -> dict[str, Any]:
    return {
        "engine": TRANSFORMERS,
        "files": str(folder),
        "vocabulary": vocabulary,
        "device": asked.device,
        "dtype": asked.dtype,
        "threads": None,
        "trust_remote_code": asked.source.trust_remote_code,
        "longest": sum(asked.request),
        "largest": 1,
    }


def _runs(processes: list[Process], asked: Asked) -> list[list[Run]]:
    """The runs of every process, those of a repeat next to each other, now one first, now other."""
    cell = {
        "batch_size": 1,
        "prompt_length": asked.request.prompt_tokens,
        "new_tokens": asked.request.new_tokens,
    }
    for process in processes:  # untimed
        process.run({**cell, "is_first": True})
    runs = [[process.run({**cell, "is_first": False})] for process in processes]
    spent = sum(own[0].first_s + own[0].decode_s for own in runs)
    repeats = int(min(max(SECONDS / max(spent, 1e-9), LEAST_REPEATS), MOST_REPEATS))
    for repeat in range(1, repeats):
        order = range(len(processes)) if repeat % 2 == 0 else reversed(range(len(processes)))
        for place in order:
            runs[place].append(processes[place].run({**cell, "is_first": False}))
    return runs


def _figures(runs: list[list[Run]]) -> dict[str, Figure]:
    """What runs of the whole model, and of another where it is another that is meant, say."""
    whole, own = runs[0], runs[-1]
    peaks = [one.peak_bytes for one in own if one.peak_bytes is not None]
    found = {
        SPEEDUP: ratio_of(
            [_work_seconds(one) for one in whole], [_work_seconds(one) for one in own]
        ),
        LATENCY: median_of([1e3 * (one.first_s + one.decode_s) for one in own]),
        **({MEMORY: median_of([float(one) for one in peaks])} if len(peaks) == len(own) else {}),
    }
    return {name: _figure(one) for name, one in found.items()}


def _work_seconds(run: Run) -> float:
    if run.first_cpu_s is None or run.decode_cpu_s is None:
        return run.first_s + run.decode_s
    return run.first_cpu_s + run.decode_cpu_s


def _figure(found: Estimate) -> Figure:
    return Figure(found.value, found.low, found.high)
