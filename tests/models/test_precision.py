"""What `dtype` auto is: timed on the CPU where a search begins, and kept by its study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoConfig

import telltale
from telltale.engine.runner import LocalRunner
from telltale.errors import InputError
from telltale.models import precision
from telltale.models.precision import (
    LEAST_GAIN,
    LEAST_TURNS,
    SECONDS,
    Precision,
    choose_precision,
    layers_of,
    one_of_each_kind,
    times_as_fast,
)
from telltale.models.source import resolve_model
from telltale.study import opening
from telltale.watcher import Watcher
from tests import tiny
from tests.studies import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from telltale.models.source import ModelSource

SMALL: dict[str, Any] = {"limit": 20, "held_out": 20, "max_removed": 1, "text": PAGE}


class FakeClock:
    """A clock that work moves on, by whoever does the work."""

    def __init__(self) -> None:
        self.now = 0.0
        self.done: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, *seconds: float) -> Callable[[], None]:
        """Work that takes so long, by turns; the last time goes on."""
        times = list(seconds)

        def run() -> None:
            self.done.append(name)
            self.now += times.pop(0) if len(times) > 1 else times[0]

        return run


# How two pieces of work are timed


def test_work_is_timed_by_turns_for_a_moment_and_the_first_turn_does_not_count() -> None:
    clock = FakeClock()
    low, plain = clock.work("low", 9.0, 0.01), clock.work("plain", 0.1, 0.02)
    assert times_as_fast(low, plain, clock) == pytest.approx(2)
    assert clock.done == ["low", "plain"] * LEAST_TURNS  # the first turn has taken all the time
    clock = FakeClock()
    times_as_fast(clock.work("low", 0.01), clock.work("plain", 0.02), clock)
    assert clock.done[:4] == ["low", "plain"] * 2
    assert clock.now == pytest.approx(SECONDS, abs=0.03)


def test_one_disturbed_turn_decides_nothing() -> None:
    clock = FakeClock()
    low, plain = clock.work("low", 0.1), clock.work("plain", 0.11, 0.11, 0.9, 0.11)
    assert times_as_fast(low, plain, clock) == pytest.approx(1.1)


def test_what_takes_no_time_on_a_coarse_clock_is_no_error() -> None:
    clock = FakeClock()
    clock.now = 1.0
    ticks = clock.work("plain", 1.0)
    assert times_as_fast(lambda: None, ticks, clock) > LEAST_GAIN


# What is chosen


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer is wide enough to be timed."""
    monkeypatch.setattr(precision, "LEAST_PARAMETERS", 1)


@pytest.mark.parametrize(
    ("gain", "dtype", "said"),
    [
        (LEAST_GAIN, "bfloat16", "bfloat16: on this machine it runs the model's layers 1.2 times"),
        (1.93, "bfloat16", "bfloat16: on this machine it runs the model's layers 1.9 times as"),
        (1.24, "float32", "float32: on this machine bfloat16 runs the model's layers 1.24 times"),
        (0.31, "float32", "float32: on this machine bfloat16 runs the model's layers 0.31 times"),
    ],
)
@pytest.mark.usefixtures("wide")
def test_bfloat16_is_taken_where_it_is_faster_by_more_than_its_digits_are_worth(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, gain: float, dtype: str, said: str
) -> None:
    monkeypatch.setattr(precision, "times_as_fast", lambda *_: gain)
    found = choose_precision(resolve_model(str(tiny_folder)))
    assert (found.dtype, found.gain) == (dtype, gain)
    assert found.reason.startswith(f"`dtype` auto is {said}")


def test_layers_that_take_longer_to_call_than_to_compute_are_not_timed(tiny_folder: Path) -> None:
    assert choose_precision(resolve_model(str(tiny_folder))) == Precision("float32", "", None)


@pytest.mark.usefixtures("wide")
def test_a_model_that_does_not_run_in_bfloat16_is_run_in_float32(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silu = torch.nn.functional.silu

    def without_kernel(given: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
        if given.dtype is torch.bfloat16:
            raise RuntimeError("\"silu_cpu\" not implemented for 'BFloat16'")
        return silu(given, *more, **named)

    monkeypatch.setattr(torch.nn.functional, "silu", without_kernel)
    found = choose_precision(resolve_model(str(tiny_folder)))
    assert (found.dtype, found.gain) == ("float32", None)
    assert found.reason == (
        "`dtype` auto is float32: the model's layers could not be run in bfloat16 "
        "(UnsupportedModelError)"
    )


# What is timed


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.usefixtures("wide")
def test_layers_of_the_model_s_own_shape_are_timed_one_of_each_kind(
    tmp_path: Path, family: str
) -> None:
    source = resolve_model(str(tiny.save(tmp_path / "model", family)))
    layers = layers_of(source)
    kinds = set(getattr(AutoConfig.from_pretrained(source.folder), "layer_types", None) or [None])
    assert layers.depth == len(kinds)
    assert layers.dtype is torch.float32
    assert {*layers.layer_parameters} == {*tiny.layered(family).layer_parameters}
    gain = choose_precision(source).gain
    assert gain is not None
    assert gain > 0


def test_the_configuration_that_was_read_is_not_changed() -> None:
    kind, settings = tiny.FAMILIES["gemma3"]
    config = AutoConfig.for_model(kind, **settings)
    before = config.to_dict()
    changed = one_of_each_kind(config)
    assert config.to_dict() == before
    assert changed.layer_types == ["sliding_attention", "full_attention"]


def test_what_is_wrong_with_a_model_is_left_to_its_loading(tmp_path: Path) -> None:
    source = resolve_model(str(tiny.save(tmp_path / "model")))
    (source.folder / "config.json").write_text('{"model_type": "no such"}', encoding="utf-8")
    assert choose_precision(source) == Precision("float32", "", None)


@pytest.mark.usefixtures("wide")
def test_random_numbers_of_others_are_left_as_they_were(tiny_folder: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    assert choose_precision(resolve_model(str(tiny_folder))).gain
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.usefixtures("wide")
def test_one_core_is_timed_and_all_are_used_again(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(
        precision, "times_as_fast", lambda *_: seen.append(torch.get_num_threads()) or 2.0
    )
    torch.set_num_threads(2)
    try:
        choose_precision(resolve_model(str(tiny_folder)))
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(1)


# What a search does with it


class Heard(Watcher):
    """Keeps advice on the precision."""

    def __init__(self) -> None:
        self.advice: list[str] = []

    def advised(self, advice: str) -> None:
        if "dtype" in advice:
            self.advice.append(advice)


class Timing:
    """Stands for the timing: says what is faster, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.gain = 2.0

    def __call__(self, _: ModelSource) -> Precision:
        self.asked += 1
        fast = self.gain >= LEAST_GAIN
        return Precision("bfloat16" if fast else "float32", "`dtype` auto is timed", self.gain)


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Timing]:
    one = Timing()
    monkeypatch.setattr(opening, "choose_precision", one)
    return one


def searched(folder: Path, out: Path, **more: Any) -> tuple[Any, list[str]]:
    heard = Heard()
    found = telltale.search(
        str(folder), "capitals", out=out, device="cpu", watcher=heard, **{**SMALL, **more}
    )
    return found, heard.advice


@pytest.mark.parametrize(("gain", "dtype"), [(2.0, "bfloat16"), (0.5, "float32")])
def test_a_new_search_takes_what_pays_and_says_so(
    tiny_folder: Path, tmp_path: Path, timing: Timing, gain: float, dtype: str
) -> None:
    timing.gain = gain
    result, advice = searched(tiny_folder, tmp_path / "study")
    assert (result.model["dtype"], timing.asked) == (dtype, 1)
    assert advice == ["`dtype` auto is timed"]
    assert result.document["cost"]["bfloat16_gain"] == gain
    named, _ = searched(tiny_folder, tmp_path / "named", dtype=dtype)
    assert named.rounds == result.rounds
    assert named.fingerprint == result.fingerprint
    assert "bfloat16_gain" not in named.document["cost"]
    assert timing.asked == 1


@pytest.mark.parametrize("begun", ["auto", "bfloat16", "float32"])
def test_a_study_that_goes_on_keeps_the_precision_it_began_with_and_loads_no_model(
    tiny_folder: Path,
    tmp_path: Path,
    timing: Timing,
    monkeypatch: pytest.MonkeyPatch,
    begun: str,
) -> None:
    first, _ = searched(tiny_folder, tmp_path / "study", dtype=begun)
    timing.gain = 0.5  # as on another machine, or at another moment
    monkeypatch.setattr(LocalRunner, "model", property(lambda _: pytest.fail("loaded")))
    asked = timing.asked
    again, advice = searched(tiny_folder, tmp_path / "study")
    assert again.document == first.document
    assert (timing.asked, advice) == (asked, [])


def test_another_precision_than_the_study_s_own_is_refused(
    tiny_folder: Path, tmp_path: Path, timing: Timing
) -> None:
    searched(tiny_folder, tmp_path / "study")
    with pytest.raises(InputError, match="holds another study, which differs in: dtype; give"):
        searched(tiny_folder, tmp_path / "study", dtype="float32")
    searched(tiny_folder, tmp_path / "study", dtype="bfloat16")
    assert timing.asked == 1


def test_a_runner_of_one_s_own_says_itself_what_auto_is(
    tiny_folder: Path, tmp_path: Path, timing: Timing
) -> None:
    asked: list[str] = []

    def runner(source: ModelSource, device: str, dtype: str) -> LocalRunner:
        asked.append(dtype)
        return LocalRunner(source, device, "bfloat16" if dtype == "auto" else dtype)

    for _ in range(2):
        result, _ = searched(tiny_folder, tmp_path / "study", runner=runner)
        assert result.model["dtype"] == "bfloat16"
    assert asked == ["auto", "bfloat16"]
    assert timing.asked == 0


def test_an_evaluation_times_nothing_and_gives_the_same_numbers_again(
    tiny_folder: Path, timing: Timing
) -> None:
    asked: dict[str, Any] = {"limit": 12, "device": "cpu"}
    found = telltale.evaluate(str(tiny_folder), "capitals", **asked)
    assert found["task"]["dtype"] == "float32"
    assert found == telltale.evaluate(str(tiny_folder), "capitals", dtype="float32", **asked)
    assert timing.asked == 0
