"""Hidden states at the scored position, before and after each layer of a path, kept on disk.

The scored position is the last token of an example's context: there the first token of every choice
is predicted, or of the text that is written. Contexts are read once, in the plain layout, and no
more is held in memory than a batch at one layer. What is done is written down batch by batch, so
that a collection that was stopped goes on where it was. Knows no tasks and no studies.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from telltale.engine.layer_scores import MOST_TOKENS
from telltale.errors import InputError, MeasurementError
from telltale.measure import BatchTooLargeError
from telltale.models.layered import is_out_of_memory
from telltale.paths import LayerPath
from telltale.support.files import read_text, sha256_of_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from telltale.engine.encode import EncodedExample
    from telltale.measure import Batch
    from telltale.models.layered import LayeredModel

LOG = logging.getLogger(__name__)
ARRAY, RECORD = "states.npy", "states.json"
# Float16 overflows at 65,504, which the states of some models pass.
NUMBER = np.dtype("<f4")
VERSION = 1


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """What `collect_states` has collected.

    ``values``, (path's layers and 1, examples, width), float32, stay on disk and are read where
    they are used: before the path's first layer, then after each of its layers, the last before the
    model's own norm. ``examples`` are the positions of the examples, ascending.
    """

    path: LayerPath
    examples: tuple[int, ...]
    values: NDArray[np.float32]


def collect_states(
    model: LayeredModel,
    examples: Sequence[EncodedExample],
    batches: Sequence[Batch],
    path: LayerPath,
    folder: Path,
    model_id: str = "",
) -> None:
    """Have the states of a path in a folder, for `read_states`.

    What the folder holds of the same collection, undamaged, is not read again.

    Args:
        model: is not changed.
        examples: whose contexts are read.
        batches: which of them, and which together; in halves where they are too large.
        path: whose layers are run.
        folder: of this collection alone; made if it is not there.
        model_id: what tells this model from others, such as the hash of its files.

    Raises:
        InputError: an example has no single scored position, or the folder holds other states.
        MeasurementError: a state is not finite.
        BatchTooLargeError: a single example does not fit in memory.
        OSError: the folder cannot be written.
    """
    wanted = tuple(sorted({position for batch in batches for position in batch.examples}))
    check_scored_positions(examples, wanted)
    asked = {
        "version": VERSION,
        "model": model_id,
        "dtype": str(model.dtype).removeprefix("torch."),
        "layers": list(path.kept),
        "of": path.total,
        "examples": list(wanted),
        "contexts": sha256_of_json([examples[position].context for position in wanted]),
        "width": model.width,
    }
    done = _begin(folder, asked)
    missing = set(wanted).difference(*(part["examples"] for part in done))
    row_of = {position: row for row, position in enumerate(wanted)}
    for batch in _parts(examples, batches, missing):
        for part, states in _read_in_halves(model, examples, batch, path):
            _write(folder / ARRAY, [row_of[position] for position in part.examples], states)
            # Only now that it is on the disk is it said to be there.
            done.append({"examples": list(part.examples), "crc32": _checksum(states)})
            write_json(folder / RECORD, {"asked": asked, "done": done})


def read_states(folder: Path) -> States:
    """The states in a folder.

    Raises:
        InputError: there are none.
        MeasurementError: they are not all there, or damaged.
    """
    record = _record(folder)
    if record is None:
        raise InputError(f"{folder} holds no hidden states; collect them first")
    asked = record["asked"]
    there = {position for part in _undamaged(folder, record) for position in part["examples"]}
    if there != set(asked["examples"]):
        raise MeasurementError(
            f"the hidden states in {folder} are damaged, or not all there; collect them again"
        )
    path = LayerPath(tuple(asked["layers"]), asked["of"])
    return States(path, tuple(asked["examples"]), np.load(folder / ARRAY, mmap_mode="r"))


def check_scored_positions(examples: Sequence[EncodedExample], wanted: Sequence[int]) -> None:
    """Refuse examples without a context that all their choices follow.

    Raises:
        InputError: names the first of them by its position; or there are none.
    """
    if not wanted:
        raise InputError("hidden states are read of examples; give at least one example")
    for position in wanted:
        example = examples[position]
        unread = any(
            size.tokens < len(choice)
            for choice, size in zip(example.choices, example.sizes, strict=True)
        )
        if unread or not example.context:
            raise InputError(
                f"example {position} has no single position at which its answer is predicted, "
                "since its choices stand within the text and what follows is scored; ask it so "
                "that the choices follow one text, with a `prompt` of your own"
            )


# What is read


def _parts(
    examples: Sequence[EncodedExample], batches: Sequence[Batch], missing: set[int]
) -> Iterator[Batch]:
    """What is missing of each batch, in halves where it has too many tokens."""
    for batch in batches:
        waiting = [batch.only(missing)]
        while waiting:
            part = waiting.pop(0)
            lengths = [len(examples[position].context) for position in part.examples]
            if len(lengths) > 1 and len(lengths) * max(lengths) > MOST_TOKENS:
                waiting[:0] = part.halves()
            elif lengths:
                missing -= set(part.examples)  # an example may be in several batches
                yield part


def _read_in_halves(
    model: LayeredModel, examples: Sequence[EncodedExample], batch: Batch, path: LayerPath
) -> Iterator[tuple[Batch, NDArray[np.float32]]]:
    """The states of a batch, or of its halves where it does not fit in memory."""
    try:
        states = _read(model, [examples[position] for position in batch.examples], path)
    except (RuntimeError, MemoryError) as problem:  # torch's own is a RuntimeError
        if not is_out_of_memory(problem):
            raise
        if len(batch.examples) == 1:
            raise BatchTooLargeError(batch, str(model.device)) from problem
    else:
        yield batch, states
        return
    for half in batch.halves():
        yield from _read_in_halves(model, examples, half, path)


def _read(
    model: LayeredModel, examples: Sequence[EncodedExample], path: LayerPath
) -> NDArray[np.float32]:
    """(path's layers and 1, examples, width)."""
    lengths = [len(example.context) for example in examples]
    ids = torch.zeros((len(examples), max(lengths)), dtype=torch.long)
    for row, example in enumerate(examples):
        ids[row, : lengths[row]] = torch.tensor(example.context)
    prepared = model.prepare(ids.to(model.device))
    rows = torch.arange(len(lengths), device=model.device)
    lasts = torch.tensor(lengths, device=model.device) - 1
    hidden = prepared.hidden
    found = [hidden[rows, lasts].float().cpu()]
    for layer in path.kept:
        hidden = model.run_layer(layer, hidden, prepared)
        found.append(hidden[rows, lasts].float().cpu())
    for number, state in enumerate(found):
        if not bool(state.isfinite().all()):
            place = f"after layer {path.kept[number - 1]}" if number else "before the first layer"
            raise MeasurementError(
                f"the model's states {place} are not finite; try `dtype` float32, since float16 "
                "and bfloat16 can overflow"
            )
    return torch.stack(found).numpy().astype(NUMBER, copy=False)


# What is on disk


def _begin(folder: Path, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Make a folder ready, and say which parts of what is asked it holds."""
    folder.mkdir(parents=True, exist_ok=True)
    record = _record(folder)
    if record is not None and record["asked"] != asked:
        raise InputError(
            f"{folder} holds the hidden states of another model, path or set of examples; give "
            "another folder"
        )
    done = [] if record is None else _undamaged(folder, record)
    if record is not None and len(done) < len(record["done"]):
        LOG.warning("some of the hidden states in %s are damaged; they are read again", folder)
    if not done:
        (folder / RECORD).unlink(missing_ok=True)
        np.lib.format.open_memmap(folder / ARRAY, "w+", NUMBER, _shape(asked)).flush()
    write_json(folder / RECORD, {"asked": asked, "done": done})
    return done


def _write(path: Path, rows: Sequence[int], states: NDArray[np.float32]) -> None:
    """Write a batch's states, (layers and 1, rows, width), to their rows of the array."""
    layers, examples, width = np.load(path, mmap_mode="r").shape
    try:
        # No map of the file: a full disk is an error of a write, and kills who writes to a map.
        with path.open("r+b") as file:
            start = path.stat().st_size - NUMBER.itemsize * layers * examples * width
            for layer in range(layers):
                for index, row in enumerate(rows):
                    file.seek(start + NUMBER.itemsize * width * (layer * examples + row))
                    file.write(states[layer, index].tobytes())
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:  # a full disk names no file
        raise OSError(problem.errno, problem.strerror, str(path)) from problem


def _record(folder: Path) -> dict[str, Any] | None:
    """What a folder says that it holds, or None."""
    if not (folder / RECORD).exists():
        return None
    try:
        found = json.loads(read_text(folder / RECORD))
        return {"asked": dict(found["asked"]), "done": list(found["done"])}
    except (ValueError, TypeError, KeyError) as problem:
        raise InputError(
            f"{folder / RECORD} is damaged ({problem}); delete the folder, or give another"
        ) from None


def _shape(asked: Mapping[str, Any]) -> tuple[int, int, int]:
    return len(asked["layers"]) + 1, len(asked["examples"]), asked["width"]


def _undamaged(folder: Path, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of the parts that are recorded, those that the array holds as they were written."""
    row_of = {position: row for row, position in enumerate(record["asked"]["examples"])}

    def is_whole(part: Mapping[str, Any]) -> bool:
        # Opened for each part, so that what was read of others is held no longer.
        values = np.load(folder / ARRAY, mmap_mode="r")
        if values.shape != _shape(record["asked"]) or values.dtype != NUMBER:
            return False
        own = values[:, [row_of[one] for one in part["examples"]]]
        return bool(_checksum(own) == part["crc32"])

    try:
        return [part for part in record["done"] if is_whole(part)]
    except (OSError, ValueError, EOFError):  # there is no array, or less than all of it
        return []


def _checksum(states: NDArray[np.float32]) -> int:
    return zlib.crc32(states.tobytes())
