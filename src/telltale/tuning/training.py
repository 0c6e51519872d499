"""Tuning a model: a short loop of our own, that can be stopped at any moment and gone on with.

transformers' and trl's trainers keep their place in the data, their generators and their optimiser
in several files, pickles among them, so that a kill between two of them cannot be undone. Here
everything that decides the next step is a function of the settings and the step's number (order,
dropout, learning rate), or is in one file that is replaced as a whole: `STATE_FILE`. So a training
that goes on gives the same weights bit for bit, where the machine adds up in the same order.

The model is driven layer by layer as the engine drives it, in its layout, so that what is learnt is
what is measured, and the head is run only where answers are predicted. Only LoRA's own dropout is
used while training; the model's parts are as they are when it is asked.
"""

from __future__ import annotations

import logging
import math
import time
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from telltale.engine.batches import tokens_at_once
from telltale.engine.store import free_bytes
from telltale.errors import InputError, MeasurementError
from telltale.models.layered import is_out_of_memory
from telltale.models.load import choose_device, choose_dtype, load_model, load_tokenizer
from telltale.support.files import sha256_of, sha256_of_json, write_json
from telltale.tuning.answers import encode_lessons, lay, lost
from telltale.tuning.course import Course, Point, Progress, Tuned, fill
from telltale.tuning.kept import (
    ADAPTER,
    DONE_FILE,
    FORMAT,
    STATE_FILE,
    finished,
    keep,
    kept_in,
    restored,
)
from telltale.tuning.lora import (
    attach,
    check_tools,
    drop,
    load_four_bit,
    trained_weights,
    write_adapter,
)
from telltale.tuning.settings import Loss
from telltale.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from telltale.models.layered import LayeredModel
    from telltale.models.source import ModelSource
    from telltale.tasks import Example, Task
    from telltale.tuning.answers import Lesson
    from telltale.tuning.settings import TuningSettings

LOG = logging.getLogger(__name__)
SAVE_SECONDS = 30.0  # what a kill loses at most, beside a step
# Tokens that go through the model at once, padding counted. A CPU's caches are small. On a GPU an
# estimate; where memory does not hold it, fewer.
TOKENS_AT_ONCE = {"cpu": 512}
GPU_TOKENS_AT_ONCE = 16384
# What reading the weights once more costs, in tokens of padding that it must save. Estimates.
PART_TOKENS = {"cpu": 16}
GPU_PART_TOKENS = 512
# So much above the untuned model's, in nats, is what is lost when a training has diverged: on the
# development set, and by the steps before a check. One of them alone may be noise, or overfitting.
DIVERGED_NATS = 1.0

Found = TypeVar("Found")


def tune_model(
    source: ModelSource,
    task: Task,
    train: Sequence[Example],
    development: Sequence[Example],
    settings: TuningSettings,
    folder: Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    teacher: ModelSource | None = None,
    cuts: bool = False,
    watcher: Watcher | None = None,
) -> Tuned:
    """Tune a model on a task's examples.

    What ``folder`` holds of the same training is gone on with; a finished one is read. One process
    at a time may use it.

    Args:
        source: the model, whole or shallower; its files are not changed.
        task: how the examples are asked.
        train: the examples to learn; their order does not matter but for which come together.
        development: says when to stop and which weights are kept; none of ``train``.
        settings: how it is tuned.
        folder: where the training is kept; made where it does not exist.
        device: see `telltale.models.load.choose_device`.
        dtype: see `telltale.models.load.choose_dtype`. LoRA's own weights are float32.
        teacher: the model whose logits are learnt, where the loss is distillation.
        cuts: whether prompts that are longer than the model takes lose their beginning.
        watcher: is told of every step.

    Raises:
        InputError: there is nothing to learn, a setting does not fit, or the folder holds another
            training.
        DataError: an example has no answer or is too long.
        MeasurementError: a single example does not fit in memory, or the untuned model gives no
            number.
        OSError: the disk is full; what was kept before is there.
    """
    if not train or not development:
        lacking = "development" if train else "train"
        raise InputError(f"`{lacking}` holds no examples; tuning needs at least one of each set")
    if (teacher is None) == (settings.loss == Loss.DISTILLATION):
        raise InputError("a teacher is what `loss` distillation learns from; give both or neither")
    where = choose_device(device)
    precision = choose_dtype(dtype, where)
    asked = _asked(source, task, train, development, settings, teacher)
    asked |= {"dtype": str(precision).removeprefix("torch."), "cuts": cuts}
    if (folder / DONE_FILE).is_file():
        return finished(folder, asked)
    check_tools(settings, where)
    folder.mkdir(parents=True, exist_ok=True)
    kept = kept_in(folder, asked)
    model = (
        load_four_bit(source, where) if settings.four_bit else load_model(source, where, precision)
    )
    tokenizer = load_tokenizer(source)
    sets = [
        encode_lessons(
            task, examples, tokenizer, settings.loss, longest=model.longest_input, cuts=cuts
        )
        for examples in (train, development)
    ]
    taught = None if teacher is None else _teacher(teacher, source, model, precision)
    attach(model, settings)
    weights = trained_weights(model)
    best = {name: one.detach().clone() for name, one in weights.items()}
    optimizer = torch.optim.AdamW(
        weights.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    course = Course(settings, model, taught, sets[0], sets[1], weights, best, optimizer)
    progress = _begun(course) if kept is None else restored(course, folder, kept)
    progress = _run(course, progress, folder, asked, watcher or Watcher())
    fill(weights, best)
    write_adapter(model, source, folder / ADAPTER)
    document = {"format": FORMAT, "asked": asked, "progress": asdict(progress)}
    write_json(folder / DONE_FILE, document)
    (folder / STATE_FILE).unlink(missing_ok=True)
    return finished(folder, asked)


def _asked(
    source: ModelSource,
    task: Task,
    train: Sequence[Example],
    development: Sequence[Example],
    settings: TuningSettings,
    teacher: ModelSource | None,
) -> dict[str, Any]:
    """All that decides what comes out, as JSON values."""

    def of(examples: Sequence[Example]) -> dict[str, Any]:
        texts = [
            [task.turns(one) if task.generation else task.requests(one), one.answer, one.choices]
            for one in examples
        ]
        return {"examples": len(examples), "sha256": sha256_of_json(texts)}

    return {
        "model": sha256_of(source.sha256, source.tokenizer_sha256),
        "teacher": None if teacher is None else teacher.sha256,
        "task": task.settings(),
        "train": of(train),
        "development": of(development),
        **settings.document(),
    }


def _teacher(
    teacher: ModelSource, source: ModelSource, model: LayeredModel, dtype: torch.dtype
) -> LayeredModel:
    """The model that is learnt from.

    Raises:
        InputError: it does not read the same tokens.
    """
    found = load_model(teacher, model.device, dtype)
    if (found.vocabulary, teacher.tokenizer_sha256) != (model.vocabulary, source.tokenizer_sha256):
        raise InputError(
            f"the teacher {teacher.name} has another tokenizer than {source.name}, so that their "
            "logits are of different tokens; give the whole model that this one was made from"
        )
    return found


# The loop


def _begun(course: Course) -> Progress:
    device = course.model.device
    at_once = TOKENS_AT_ONCE.get(device.type, GPU_TOKENS_AT_ONCE)
    if device.type == "cuda":
        token_bytes = course.model.token_bytes * course.model.depth
        at_once = min(at_once, tokens_at_once(free_bytes(device), token_bytes))
    before, at_once = development_loss(course, at_once)
    if not math.isfinite(before):
        raise MeasurementError(
            "the model gives NaN on the development examples before any training; try `dtype` "
            "float32"
        )
    return Progress(at_once, before)


def _run(
    course: Course, progress: Progress, folder: Path, asked: Mapping[str, Any], watcher: Watcher
) -> Progress:
    """Train to the end; what is needed to go on is kept on the way."""
    keep(course, progress, folder, asked)
    kept_at = time.monotonic()
    while not progress.ended:
        progress, loss = _stepped(course, progress)
        is_check = not progress.ended and (
            progress.step % course.check_every == 0 or progress.step == course.steps
        )
        if is_check:
            progress = _checked(course, progress)
        if progress.ended == "diverged":
            LOG.warning(
                "the training diverged after step %d: lower `learning_rate` (now %g); the weights "
                "of step %d are kept, the best on the development set",
                progress.step,
                course.settings.learning_rate,
                progress.best_step,
            )
        if is_check or progress.ended or time.monotonic() - kept_at > SAVE_SECONDS:
            keep(course, progress, folder, asked)
            kept_at = time.monotonic()
        if loss is not None:
            checked = is_check and progress.history and progress.history[-1].step == progress.step
            watcher.stepped(
                progress.step,
                course.steps,
                seconds=progress.seconds,
                tokens=progress.tokens,
                loss=loss,
                development_loss=progress.history[-1].development_loss if checked else None,
            )
    return progress


def _stepped(course: Course, progress: Progress) -> tuple[Progress, float | None]:
    """One step further, with its loss; or ended, with None, where that is no number."""
    started, cpu_started = time.perf_counter(), time.process_time()
    lessons = course.lessons_of(progress.step)
    loss, at_once = gradients(course, lessons, progress.step, progress.at_once)
    norm = torch.nn.utils.clip_grad_norm_(course.weights.values(), course.settings.max_gradient)
    if not (math.isfinite(loss) and math.isfinite(float(norm))):
        return replace(progress, ended="diverged"), None
    for group in course.optimizer.param_groups:
        group["lr"] = course.rate(progress.step)
    course.optimizer.step()
    return replace(
        progress,
        at_once=at_once,
        step=progress.step + 1,
        tokens=progress.tokens + sum(one.tokens for one in lessons),
        seconds=progress.seconds + time.perf_counter() - started,
        cpu_seconds=progress.cpu_seconds + time.process_time() - cpu_started,
        losses=(*progress.losses, loss),
    ), loss


def _checked(course: Course, progress: Progress) -> Progress:
    """With the development loss after this step, and perhaps ended by it."""
    loss, at_once = development_loss(course, progress.at_once)
    train_loss = math.fsum(progress.losses) / len(progress.losses)
    if not min(loss, train_loss) <= progress.before + DIVERGED_NATS:  # NaN is not
        return replace(progress, ended="diverged")
    if loss < progress.least:
        progress = replace(progress, best_step=progress.step)
        fill(course.best, course.weights)
    point = Point(progress.step, progress.tokens, progress.seconds, train_loss, loss)
    progress = replace(progress, at_once=at_once, history=(*progress.history, point), losses=())
    if progress.step == course.steps:
        whole = course.steps == course.settings.epochs * course.epoch_steps
        return replace(progress, ended="epochs" if whole else "max_steps")
    since = sum(one.step > progress.best_step for one in progress.history)
    is_over = course.settings.patience is not None and since >= course.settings.patience
    return replace(progress, ended="patience") if is_over else progress


def gradients(
    course: Course, lessons: Sequence[Lesson], step: int, at_once: int
) -> tuple[float, int]:
    """Give the trained weights the gradient of a step's mean loss.

    Returns:
        The loss, and how many tokens go at once from here on.
    """
    units = sum(one.units for one in lessons)

    def run(parts: Sequence[Sequence[Lesson]]) -> float:
        torch.manual_seed(int(sha256_of(f"{course.settings.seed} step {step}")[:15], 16))
        course.optimizer.zero_grad()
        total = 0.0
        for lessons in parts:
            loss = _loss(course, lessons, trains=True)
            (loss / units).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total / units

    with _dropping(course.model):
        return _fitted(course, lessons, at_once, run)


def development_loss(course: Course, at_once: int) -> tuple[float, int]:
    """The mean loss on the development set, and how many tokens go at once from here on."""
    units = sum(one.units for one in course.development)

    def run(parts: Sequence[Sequence[Lesson]]) -> float:
        return math.fsum(float(_loss(course, part, trains=False)) for part in parts) / units

    return _fitted(course, course.development, at_once, run)


def _loss(course: Course, lessons: Sequence[Lesson], *, trains: bool) -> Tensor:
    """The loss of lessons that go at once, a sum over their units."""
    device = course.model.device
    part = lay(lessons, device)
    tokens = part.layout.token_ids().to(device)
    taught = None
    if course.teacher is not None:
        taught = _logits(course.teacher, tokens, part.reads.positions).clone()
    if trains:
        prepared = course.model.prepare(tokens, differentiable=True)
        logits = course.model.trainable_logits(prepared, part.reads.positions)
        return lost(course.settings.loss, part, logits, taught)
    with torch.inference_mode():
        logits = _logits(course.model, tokens, part.reads.positions)
        return lost(course.settings.loss, part, logits, taught)


def _logits(model: LayeredModel, tokens: Tensor, positions: Tensor) -> Tensor:
    hidden = model.run_path(model.whole, model.prepare(tokens))
    return model.logits(hidden.flatten(0, 1).index_select(0, positions))


@contextmanager
def _dropping(model: LayeredModel) -> Iterator[None]:
    """LoRA's dropout on, with a generator whose use is not seen outside."""
    devices = [model.device] if model.device.type == "cuda" else []
    drop(model, on=True)
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        drop(model, on=False)


def _fitted(
    course: Course,
    lessons: Sequence[Lesson],
    at_once: int,
    run: Callable[[list[list[Lesson]]], Found],
) -> tuple[Found, int]:
    """What is made of lessons in parts, smaller ones where memory does not hold them.

    Raises:
        MeasurementError: it does not hold a single example.
    """
    device = course.model.device
    most = course.settings.micro_batch or len(lessons)
    while True:
        parts = in_parts(lessons, at_once, most, PART_TOKENS.get(device.type, GPU_PART_TOKENS))
        try:
            return run(parts), at_once
        except (RuntimeError, MemoryError) as problem:  # torch's own is a RuntimeError
            if not is_out_of_memory(problem):
                raise
        if device.type == "cuda":
            torch.cuda.empty_cache()
        sizes = [padded(part) for part in parts if len(part) > 1]
        if not sizes:
            raise MeasurementError(
                f"a single example of {max(map(padded, parts)):,} tokens does not fit in the "
                f"memory of {device} while tuning; shorten the examples, lower `rank`, use `dtype` "
                "bfloat16 or another `device`"
            )
        at_once = max(sizes) // 2
        LOG.info("not enough memory: from here on %d tokens at once", at_once)


def in_parts(
    lessons: Sequence[Lesson], at_once: int, most: int, part_tokens: int
) -> list[list[Lesson]]:
    """Lessons in parts of like length, so that padding and parts together cost least.

    Args:
        lessons: in any order.
        at_once: how many tokens a part may have, padding counted, unless it is a single lesson.
        most: how many lessons it may have.
        part_tokens: what a part more costs, in tokens.
    """
    ordered = sorted(lessons, key=lambda one: (one.length, one.example.context))
    # The least cost of the first so many, and where their last part begins.
    best: list[tuple[int, int]] = [(0, 0)]
    for stop in range(1, len(ordered) + 1):
        rows, found = 0, []
        for start in range(stop - 1, max(0, stop - most) - 1, -1):
            rows += ordered[start].rows
            tokens = rows * ordered[stop - 1].length
            if tokens > at_once and start < stop - 1:
                break
            found.append((best[start][0] + tokens + part_tokens, start))
        best.append(min(found))
    parts: list[list[Lesson]] = []
    stop = len(ordered)
    while stop:
        start = best[stop][1]
        parts.append(ordered[start:stop])
        stop = start
    return parts[::-1]


def padded(part: Sequence[Lesson]) -> int:
    """How many tokens a part has, padding counted."""
    return sum(one.rows for one in part) * max(one.length for one in part)
