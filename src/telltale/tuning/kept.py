"""A training on disk: one file while it goes on, replaced as a whole, another once it is done.

What is kept is all that decides the next step, so that a training that goes on gives the same
weights bit for bit. No pickles.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from telltale.errors import InputError
from telltale.models.tensors import save_tensors
from telltale.support.files import read_text
from telltale.tuning.course import Point, Progress, Tuned, fill

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from telltale.tuning.course import Course

FORMAT = 1  # of the two files
STATE_FILE = "training.safetensors"  # while it goes on
DONE_FILE = "training.json"
ADAPTER = "adapter"
MOMENTS = ("exp_avg", "exp_avg_sq")  # of a weight, as AdamW names them


def keep(course: Course, progress: Progress, folder: Path, asked: Mapping[str, Any]) -> None:
    """Write all that is needed to go on, in one file, whole or not at all."""
    tensors: dict[str, Tensor] = {}
    for name, weight in course.weights.items():
        tensors |= {f"now {name}": weight.detach(), f"best {name}": course.best[name]}
        if progress.step:
            state = course.optimizer.state[weight]
            tensors |= {f"{moment} {name}": state[moment] for moment in MOMENTS}
    document = {"format": FORMAT, "asked": asked, "progress": asdict(progress)}
    fresh = folder / f".{STATE_FILE}"
    try:
        save_tensors(
            {name: one.cpu() for name, one in tensors.items()},
            fresh,
            {"training": json.dumps(document, allow_nan=False)},
        )
        with fresh.open("rb+") as file:
            os.fsync(file.fileno())
        fresh.replace(folder / STATE_FILE)
    finally:
        fresh.unlink(missing_ok=True)


def kept_in(folder: Path, asked: Mapping[str, Any]) -> Progress | None:
    """How far the training of a folder is; None where it has none.

    Raises:
        InputError: it is another training, or its file is damaged.
    """
    file = folder / STATE_FILE
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as tensors:
            document = json.loads(tensors.metadata()["training"])
    except (SafetensorError, ValueError, KeyError, TypeError) as problem:
        raise _damaged(file) from problem
    return _read(file, document, asked)


def restored(course: Course, folder: Path, progress: Progress) -> Progress:
    """Weights and moments as they were at this progress."""
    file = folder / STATE_FILE
    try:
        with safe_open(file, framework="pt", device=str(course.model.device)) as tensors:
            for name, weight in course.weights.items():
                fill(
                    {"now": weight, "best": course.best[name]},
                    {kind: tensors.get_tensor(f"{kind} {name}") for kind in ("now", "best")},
                )
                if progress.step:
                    # A copy, so that it lies in memory as one that was never written.
                    moments = {one: tensors.get_tensor(f"{one} {name}").clone() for one in MOMENTS}
                    step = torch.tensor(float(progress.step))
                    course.optimizer.state[weight] = {"step": step, **moments}
    except (SafetensorError, RuntimeError) as problem:
        raise _damaged(file) from problem
    return progress


def finished(folder: Path, asked: Mapping[str, Any]) -> Tuned:
    """The finished training of a folder."""
    file = folder / DONE_FILE
    try:
        document = json.loads(read_text(file))
    except ValueError as problem:
        raise _damaged(file) from problem
    done = _read(file, document, asked)
    return Tuned(
        adapter=folder / ADAPTER,
        steps=done.step,
        train_examples=asked["train"]["examples"],
        seconds=done.seconds,
        cpu_seconds=done.cpu_seconds,
        tokens=done.tokens,
        development_loss=done.least,
        before=done.before,
        history=done.history,
        ended=done.ended,
        best_step=done.best_step,
    )


def _read(file: Path, document: Mapping[str, Any], asked: Mapping[str, Any]) -> Progress:
    """How far the training of a file is.

    Raises:
        InputError: it is another training; says what differs.
    """
    try:
        if document["format"] != FORMAT:
            raise InputError(
                f"{file} was written by another version of telltale; finish it with that one, or "
                "give another folder"
            )
        had, progress = document["asked"], dict(document["progress"])
        progress["history"] = tuple(Point(*one) for one in progress["history"])
        progress["losses"] = tuple(progress["losses"])
        found = Progress(**progress)
    except (KeyError, TypeError) as problem:
        raise _damaged(file) from problem
    wanted = json.loads(json.dumps(asked))
    differing = [name for name in wanted if had.get(name) != wanted[name]]
    if differing:
        raise InputError(
            f"{file.parent} holds another training: {', '.join(differing)} "
            f"{'differs' if len(differing) == 1 else 'differ'}; give another folder, or the same "
            "arguments to go on"
        )
    return found


def _damaged(file: Path) -> InputError:
    return InputError(f"{file} is damaged; move its folder away to begin anew")
