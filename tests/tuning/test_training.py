"""Trainings: they go on bit for bit, minds memory, and end for a reason that is named."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import random
import signal
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from telltale.errors import InputError, MeasurementError
from telltale.models.layered import LayeredModel
from telltale.tuning import kept, training
from telltale.tuning.answers import Lesson
from telltale.tuning.course import Course, Progress, Tuned, epoch_order
from telltale.tuning.kept import DONE_FILE, STATE_FILE, kept_in
from telltale.tuning.lora import attach, trained_weights
from telltale.tuning.settings import Loss, TuningSettings
from telltale.tuning.training import gradients, in_parts
from telltale.watcher import Watcher
from tests import planted, tiny
from tests.encoded import example
from tests.tuning.test_answers import MIXED, lessons
from tests.tuning.words import DEVELOPMENT, TRAIN, tuned, weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

STEPS = 16  # of a training of the words, by default


class Stop(Exception):  # noqa: N818 - what a person does
    """Somebody stops the training."""


class Stopping(Watcher):
    """Notes the steps it is told of, and stops after one of them."""

    def __init__(self, after: int = -1) -> None:
        self.after = after
        self.told: list[tuple[int, int]] = []
        self.losses: list[float] = []
        self.checks: dict[int, float] = {}

    def stepped(self, step: int, steps: int, **told: Any) -> None:
        self.told.append((step, steps))
        self.losses.append(told["loss"])
        if told["development_loss"] is not None:
            self.checks[step] = told["development_loss"]
        if step == self.after:
            raise Stop


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def same(one: Tuned, other: Tuned) -> None:
    """All but what it took."""
    told = ("steps", "tokens", "development_loss", "before", "ended", "best_step")
    for name in told:
        assert getattr(one, name) == getattr(other, name), name
    assert [point[:2] + point[3:] for point in one.history] == [
        point[:2] + point[3:] for point in other.history
    ]
    assert_equal(weights(one), weights(other))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "small", num_hidden_layers=2)


@pytest.fixture(scope="module")
def undisturbed(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return tuned(small, tmp_path_factory.mktemp("undisturbed"), dropout=0.2)


# What comes out


def test_a_training_makes_the_development_loss_smaller_and_says_what_it_took(
    undisturbed: Tuned,
) -> None:
    assert undisturbed.development_loss < undisturbed.before - 0.5
    assert undisturbed.development_loss == min(one.development_loss for one in undisturbed.history)
    best = next(one for one in undisturbed.history if one.step == undisturbed.best_step)
    assert best.development_loss == undisturbed.development_loss
    assert (undisturbed.steps, undisturbed.ended) == (STEPS, "epochs")
    assert undisturbed.train_examples == len(TRAIN)
    assert undisturbed.tokens == 2 * sum(one.tokens for one in lessons(Loss.ANSWER, TRAIN))
    assert [one.step for one in undisturbed.history] == list(range(2, STEPS + 1, 2))
    assert undisturbed.history[-1].tokens == undisturbed.tokens
    assert 0 < undisturbed.history[-1].seconds <= undisturbed.seconds


def test_a_watcher_is_told_of_every_step(small: Path, tmp_path: Path) -> None:
    watcher = Stopping()
    found = tuned(small, tmp_path, watcher=watcher, max_steps=5, check_every=2)
    assert watcher.told == [(step, 5) for step in range(1, 6)]
    assert watcher.checks == {one.step: one.development_loss for one in found.history}
    assert [one.step for one in found.history] == [2, 4, 5]
    assert found.history[0].train_loss == pytest.approx(sum(watcher.losses[:2]) / 2)
    assert found.ended == "max_steps"


def test_a_finished_training_is_read_without_its_model(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tuned(small, tmp_path, max_steps=1)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["adapter", DONE_FILE]
    monkeypatch.setattr(training, "load_model", None)
    assert tuned(small, tmp_path, max_steps=1) == found


def test_where_nothing_gets_better_the_adapter_changes_nothing(small: Path, tmp_path: Path) -> None:
    # Trained towards one answer, and asked for the other.
    sides = [tuple(one for one in TRAIN if one.answer == side) for side in (0, 1)]
    asked: dict[str, Any] = {"train": sides[0], "development": sides[1]}
    asked |= {"loss": "choices", "patience": 2}
    with pytest.raises(Stop):  # after the first check: what goes on still knows the best
        tuned(small, tmp_path, watcher=Stopping(after=1), **asked)
    found = tuned(small, tmp_path, **asked)
    assert (found.best_step, found.ended) == (0, "patience")
    assert found.development_loss == found.before < found.history[0].development_loss
    assert found.steps == found.history[-1].step < STEPS
    for name, one in weights(found).items():
        assert "lora_B" not in name or not one.any()


def test_distillation_brings_a_model_nearer_to_its_teacher(
    small: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    from telltale.models.source import resolve_model

    teacher = resolve_model(str(tiny_folder))
    asked = {"teacher": teacher, "loss": "distillation", "max_steps": 4}
    found = tuned(small, tmp_path / "one", **asked)
    assert found.development_loss < 0.9 * found.before
    # Right answers are not looked at.
    others = [replace(one, answer=1 - one.answer) for one in TRAIN]
    assert_equal(weights(found), weights(tuned(small, tmp_path / "b", train=others, **asked)))


# Going on


@pytest.mark.parametrize("after", [1, 2, 7, STEPS])
def test_a_training_that_was_stopped_goes_on_bit_for_bit(
    small: Path, undisturbed: Tuned, tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Kept after each step, and else at checks alone.
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0 if after == 7 else math.inf)
    with pytest.raises(Stop):
        tuned(small, tmp_path, dropout=0.2, watcher=Stopping(after))
    watcher = Stopping()
    same(tuned(small, tmp_path, dropout=0.2, watcher=watcher), undisturbed)
    kept = after if after == 7 else after - after % 2
    assert [step for step, _ in watcher.told] == list(range(kept + 1, STEPS + 1))


def test_seed_and_dropout_decide_what_is_learnt(
    small: Path, undisturbed: Tuned, tmp_path: Path
) -> None:
    for folder, more in (("seed", {"dropout": 0.2, "seed": 1}), ("dropout", {"dropout": 0.0})):
        watcher = Stopping(after=2)
        with pytest.raises(Stop):
            tuned(small, tmp_path / folder, watcher=watcher, **more)
        assert watcher.checks[2] != undisturbed.history[0].development_loss


def test_the_callers_random_numbers_are_left_alone(small: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2).tolist()
    torch.manual_seed(3)
    tuned(small, tmp_path, dropout=0.2, max_steps=1)
    assert torch.rand(2).tolist() == expected


def test_a_full_disk_is_one_error_and_nothing_is_lost(
    small: Path, undisturbed: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = kept.save_tensors, 0

    def filling(tensors: Any, file: Path, *more: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:  # after the beginning and two checks
            file.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(file))
        original(tensors, file, *more)

    monkeypatch.setattr(kept, "save_tensors", filling)
    with pytest.raises(OSError, match="No space left"):
        tuned(small, tmp_path, dropout=0.2)
    assert [one.name for one in tmp_path.iterdir()] == [STATE_FILE]
    watcher = Stopping()
    same(tuned(small, tmp_path, dropout=0.2, watcher=watcher), undisturbed)
    assert watcher.told[0] == (5, STEPS)


def test_a_stop_while_the_adapter_is_written_leaves_no_half_of_it(
    small: Path, undisturbed: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("telltale.tuning.lora.write_json", lambda *_: (_ for _ in ()).throw(Stop()))
        with pytest.raises(Stop):
            tuned(small, tmp_path, dropout=0.2)
    assert [one.name for one in tmp_path.iterdir()] == [STATE_FILE]
    with monkeypatch.context() as patch:
        patch.setattr(training, "write_json", lambda *_: (_ for _ in ()).throw(Stop()))
        with pytest.raises(Stop):
            tuned(small, tmp_path, dropout=0.2)
    same(tuned(small, tmp_path, dropout=0.2), undisturbed)


@pytest.mark.parametrize("finished", [False, True])
def test_another_training_in_the_folder_is_refused_and_says_what_differs(
    small: Path, tmp_path: Path, finished: bool
) -> None:
    def train(watcher: Watcher | None = None, **more: Any) -> Tuned:
        return tuned(small, tmp_path, watcher=watcher, **{"max_steps": 3, **more})

    if finished:
        train()
    else:
        with pytest.raises(Stop):
            train(Stopping(2))
    for name, value in (("max_steps", 4), ("seed", 1), ("dtype", "bfloat16")):
        with pytest.raises(InputError, match=f"another training: {name} differs; give another f"):
            train(**{name: value})
    with pytest.raises(InputError, match="another training: train, development differ"):
        train(train=DEVELOPMENT, development=TRAIN)
    assert train().steps == 3


@pytest.mark.parametrize("name", [STATE_FILE, DONE_FILE])
@pytest.mark.parametrize("data", [b"", b"{}", b"\x10\0\0\0\0\0\0\0{}              "])
def test_a_damaged_file_is_told(small: Path, tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=f"{name} is damaged; move its folder away"):
        tuned(small, tmp_path, max_steps=1)


# Memory


def course(**given: Any) -> Course:
    """A course on mixed examples, of a model whose LoRA already does something."""
    model = LayeredModel(tiny.build("llama", num_hidden_layers=2))
    asked = TuningSettings(rank=2, loss=Loss.CHOICES, **given)
    attach(model, asked)
    torch.manual_seed(1)
    named = trained_weights(model)
    for weight in named.values():
        torch.nn.init.normal_(weight, std=0.1)
    found = lessons(Loss.CHOICES, MIXED)
    optimizer = torch.optim.AdamW(named.values())
    return Course(asked, model, None, found, found, named, {}, optimizer)


def gradient_of(one: Course, at_once: int) -> tuple[float, Tensor, int]:
    loss, left = gradients(one, one.train, 0, at_once)
    return loss, torch.cat([w.grad.flatten() for w in one.weights.values()]), left  # type: ignore[union-attr]


def test_gradients_do_not_depend_on_how_examples_go_through_the_model() -> None:
    loss, whole, _ = gradient_of(course(), 10_000)
    for one, at_once in ((course(), 60), (course(micro_batch=1), 10_000), (course(), 1)):
        other_loss, other, left = gradient_of(one, at_once)
        assert left == at_once
        assert other_loss == pytest.approx(loss, rel=1e-5)
        torch.testing.assert_close(other, whole, rtol=1e-4, atol=1e-6)


def limited(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """Let no more tokens than that be read at once; which were, is noted."""
    original, read = LayeredModel.prepare, list[int]()

    def prepare(self: LayeredModel, tokens: Tensor, **more: Any) -> Any:
        if tokens.numel() > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        read.append(tokens.numel())
        return original(self, tokens, **more)

    monkeypatch.setattr(LayeredModel, "prepare", prepare)
    return read


def test_what_does_not_fit_goes_in_smaller_parts_with_the_same_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loss, whole, _ = gradient_of(course(), 10_000)
    one = course()
    read = limited(monkeypatch, 100)
    other_loss, other, left = gradient_of(one, 10_000)
    assert left <= 100
    assert max(read) <= 100
    assert len(read) > 3
    assert other_loss == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(other, whole, rtol=1e-4, atol=1e-6)


def test_a_training_with_little_memory_learns_the_same(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tuned(small, tmp_path / "whole", max_steps=3)
    limited(monkeypatch, 60)
    with pytest.raises(Stop):
        tuned(small, tmp_path / "parts", max_steps=3, watcher=Stopping(2))
    parts = tuned(small, tmp_path / "parts", max_steps=3)
    assert parts.development_loss == pytest.approx(whole.development_loss, rel=1e-3)


def test_an_example_that_never_fits_ends_the_training(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, 7)  # what loading tries has seven tokens
    with pytest.raises(MeasurementError, match=r"a single example of .* tokens does not fit"):
        tuned(small, tmp_path)


def made(rows: int, length: int) -> Lesson:
    return Lesson(example((length,)), rows, length, rows * length, 1, (1,))


LESSONS = st.lists(st.builds(made, st.integers(1, 3), st.integers(1, 30)), min_size=1, max_size=9)


@given(LESSONS, st.integers(1, 200), st.integers(1, 9), st.integers(0, 40))
def test_parts_hold_all_lessons_within_the_limits_and_cost_least(
    asked: list[Lesson], at_once: int, most: int, part_tokens: int
) -> None:
    def size(part: list[Lesson]) -> int:
        return sum(one.rows for one in part) * max(one.length for one in part)

    def cost(parts: list[list[Lesson]]) -> int:
        return sum(size(part) + part_tokens for part in parts)

    def fits(part: list[Lesson]) -> bool:
        return len(part) <= most and (len(part) == 1 or size(part) <= at_once)

    parts = in_parts(asked, at_once, most, part_tokens)
    ordered = sorted(asked, key=lambda one: one.length)
    key: Callable[[Lesson], tuple[int, int]] = lambda one: (one.length, one.rows)  # noqa: E731
    assert sorted((one for part in parts for one in part), key=key) == sorted(asked, key=key)
    assert all(map(fits, parts))
    ways = []
    for cuts in range(2 ** (len(ordered) - 1)):
        way: list[list[Lesson]] = [[]]
        for number, one in enumerate(ordered):
            way[-1].append(one)
            if cuts >> number & 1:
                way.append([])
        ways.append([part for part in way if part])
    assert cost(parts) <= min(cost(way) for way in ways if all(map(fits, way)))


# The end


@pytest.fixture(scope="module")
def able(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows much of the task, and so has something to lose."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planted, "STEPS", 60)
        patch.setattr(planted, "trained", planted.trained.__wrapped__)
        return planted.save(tmp_path_factory.mktemp("models") / "able", harmful=False)


@pytest.mark.parametrize(("rate", "steps"), [(1e30, 1), (1.0, 8)])
def test_a_learning_rate_that_diverges_is_stopped_and_named_and_the_best_is_kept(
    able: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, rate: float, steps: int
) -> None:
    asked = {"learning_rate": rate, "warmup": 0.0, "epochs": 10, "patience": None}
    with caplog.at_level(logging.WARNING):
        found = tuned(able, tmp_path, **asked)
    assert found.ended == "diverged"
    assert found.steps <= steps
    assert "lower `learning_rate`" in caplog.text
    assert found.development_loss <= found.before
    assert all(bool(one.isfinite().all()) for one in weights(found).values())
    assert tuned(able, tmp_path, **asked) == found
    asked["learning_rate"] = 1e-3
    assert tuned(able, tmp_path / "lower", **{**asked, "max_steps": 2}).ended == "max_steps"


def test_a_loss_that_is_no_number_ends_a_training_before_its_step(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = training.lost
    calls = 0

    def breaking(*given: Any) -> Tensor:
        nonlocal calls
        value = original(*given)
        if value.requires_grad:
            calls += 1
        return value * float("nan") if calls > 5 else value

    monkeypatch.setattr(training, "lost", breaking)
    found = tuned(small, tmp_path, check_every=2, batch_size=2)
    assert found.ended == "diverged"
    assert 0 < found.best_step <= found.steps < 6
    assert all(bool(one.isfinite().all()) for one in weights(found).values())


@pytest.mark.parametrize("sets", [{"train": ()}, {"development": ()}])
def test_a_set_without_examples_is_refused(
    small: Path, tmp_path: Path, sets: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=f"^`{next(iter(sets))}` holds no examples"):
        tuned(small, tmp_path, **sets)
    assert not list(tmp_path.iterdir())


def test_a_teacher_is_for_distillation_and_reads_the_same_tokens(
    small: Path, tmp_path: Path
) -> None:
    from telltale.models.source import resolve_model

    other = tiny.save(tmp_path / "other", vocab_size=tiny.VOCABULARY + 1)
    source = resolve_model(str(other))
    for more in ({"loss": "distillation"}, {"teacher": source}):
        with pytest.raises(InputError, match="a teacher is what `loss` distillation learns from"):
            tuned(small, tmp_path / "out", **more)
    with pytest.raises(InputError, match="the teacher other has another tokenizer than small"):
        tuned(small, tmp_path / "out", loss="distillation", teacher=source)


# Schedules


@given(st.integers(1, 200), st.floats(0, 0.99))
@settings(max_examples=30)
def test_the_rate_rises_in_the_warmup_then_falls_to_nothing(steps: int, warmup: float) -> None:
    asked = TuningSettings(learning_rate=0.1, warmup=warmup, batch_size=1, epochs=1)
    found = Course(asked, None, None, (None,) * steps, (), {}, {}, None)  # type: ignore[arg-type]
    rates = [found.rate(step) for step in range(found.steps)]
    rise = math.ceil(warmup * steps)
    assert found.steps == steps
    assert all(0 < one <= 0.1 + 1e-12 for one in rates)
    assert rates[:rise] == sorted(rates[:rise])
    assert rates[rise:] == sorted(rates[rise:], reverse=True)
    assert max(rates) == pytest.approx(0.1)


def test_each_epoch_takes_every_example_once_in_an_order_of_its_own() -> None:
    asked = TuningSettings(batch_size=8, epochs=3)
    found = Course(asked, None, None, tuple(range(20)), (), {}, {}, None)  # type: ignore[arg-type]
    epochs = [[one for s in range(3) for one in found.lessons_of(3 * e + s)] for e in range(3)]
    assert [sorted(one) for one in epochs] == [list(range(20))] * 3  # type: ignore[type-var]
    assert len({tuple(one) for one in epochs}) == 3
    assert epoch_order(20, 1, 0) != epoch_order(20, 0, 0)


def test_progress_is_kept_whole() -> None:
    """Nothing of it is left out of the file, which reads it back by its fields."""
    assert {one.name for one in fields(Progress)} == set(
        json.loads(json.dumps(asdict(Progress(1, 2.0))))
    )


# Kills


def _train(model: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    training.SAVE_SECONDS = 0.05
    tuned(model, folder, dropout=0.2, epochs=20, patience=None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_ten_kills_at_random_moments_change_nothing(small: Path, tmp_path: Path) -> None:
    import multiprocessing
    import time

    def begun(folder: Path) -> Any:
        process = multiprocessing.get_context("fork").Process(target=_train, args=(small, folder))
        process.start()
        return process

    start = time.monotonic()
    process = begun(tmp_path / "undisturbed")
    process.join()
    assert process.exitcode == 0
    seconds = time.monotonic() - start
    source = random.Random(18)
    kills, rounds, at = 0, 0, list[int]()
    while kills < 10:
        folder = tmp_path / f"killed {rounds}"
        process = begun(folder)
        process.join(timeout=seconds * source.uniform(0.05, 0.6))
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
            known = kept_in(folder, {}) if (folder / STATE_FILE).is_file() else None
            at.append(0 if known is None else known.step)
            continue
        # What was left took less than the time drawn: begin anew and go on killing.
        _equal_files(folder, tmp_path / "undisturbed")
        rounds += 1
    process = begun(folder)
    process.join()
    assert process.exitcode == 0
    _equal_files(folder, tmp_path / "undisturbed")
    assert len(set(at)) > 3, at


def _equal_files(one: Path, other: Path) -> None:
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (one / "adapter" / name).read_bytes() == (other / "adapter" / name).read_bytes()
