"""Which model is chosen by targets and prices: rules on made-up numbers."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import pytest

from telltale.errors import InputError
from telltale.evidence.parts import PathModel
from telltale.evidence.targets import (
    KINDS,
    LATENCY,
    MEMORY,
    PARAMETERS,
    SPEEDUP,
    Candidate,
    Figure,
    Request,
    Targets,
    asked_for,
    choose,
    price_from,
    targets_from,
)
from telltale.paths import LayerPath
from telltale.searches import Kept
from telltale.support.arguments import parameters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LAYERS = 10
REQUEST = Request(8, 1)


def model_of(removed: int, accuracy: float, speed: float = 1.0) -> PathModel:
    path = LayerPath(tuple(range(LAYERS - removed)), LAYERS)
    kept = Kept(path, None, accuracy, accuracy, 100, path.removed)
    return PathModel(kept, parameters=100 * path.depth, tokens_per_second=speed)


def exactly(value: float) -> Figure:
    return Figure(value, value, value)


class Timed:
    """Times models by how many layers they lack, and notes which."""

    def __init__(self, speedups: Mapping[int, float], width: float = 0.0) -> None:
        self.speedups, self.width = speedups, width
        self.log: list[int] = []

    def __call__(self, model: PathModel) -> dict[str, Figure]:
        removed = len(model.removed)
        self.log.append(removed)
        value = self.speedups[removed]
        return {
            SPEEDUP: Figure(value, value - self.width, value + self.width),
            PARAMETERS: exactly(model.parameters or 0),
        }


def candidates_of(accuracies: Sequence[float], speeds: Sequence[float] = ()) -> list[Candidate]:
    found = []
    for removed, accuracy in enumerate(accuracies):
        speed = speeds[removed] if speeds else 1.0
        model = model_of(removed, accuracy, speed)
        at_best = {
            SPEEDUP: exactly(LAYERS / (LAYERS - removed)),
            PARAMETERS: exactly(model.parameters or 0),
        }
        found.append(Candidate(model, float(LAYERS - removed), at_best))
    return found


def chosen(
    accuracies: Sequence[float], targets: Targets, timed: Timed, speeds: Sequence[float] = ()
) -> tuple[int, bool]:
    found = choose(candidates_of(accuracies, speeds), targets, REQUEST, timed)
    return len(found.removed), found.is_met


def test_the_most_accurate_of_those_that_meet_it_is_chosen_and_no_other_is_timed() -> None:
    timed = Timed({3: 1.4, 4: 1.6})
    # The whole model, 1 and 2 layers fewer cannot be 1.3 times as fast by any count.
    assert chosen([0.9, 0.8, 0.8, 0.6, 0.7], Targets({SPEEDUP: 1.3}), timed) == (4, True)
    assert timed.log == [4]


def test_of_equals_the_one_with_the_fewest_layers_removed_is_chosen() -> None:
    timed = Timed({3: 1.4, 4: 1.6})
    assert chosen([0.9, 0.8, 0.8, 0.7, 0.7], Targets({SPEEDUP: 1.3}), timed) == (3, True)


def test_the_whole_interval_must_meet_a_target() -> None:
    accuracies = [0.9, 0.8, 0.7, 0.6]
    near = Timed({2: 1.21, 3: 1.4}, width=0.01)
    assert chosen(accuracies, Targets({SPEEDUP: 1.2}), near) == (2, True)
    wide = Timed({2: 1.21, 3: 1.4}, width=0.02)
    assert chosen(accuracies, Targets({SPEEDUP: 1.2}), wide) == (3, True)
    assert wide.log == [2, 3]


def test_none_is_timed_that_costs_no_less_than_one_that_has_failed() -> None:
    timed = Timed({4: 1.2, 5: 1.9})
    accuracies = [0.9, 0.8, 0.7, 0.6, 0.65, 0.5]
    assert chosen(accuracies, Targets({SPEEDUP: 1.3}), timed) == (5, True)
    assert timed.log == [4, 5]  # 3 is less accurate than 4 and has more layers


def test_where_none_meets_it_the_one_of_least_work_is_said() -> None:
    timed = Timed({3: 1.2, 4: 1.25})
    found = choose(
        candidates_of([0.9, 0.8, 0.7, 0.6, 0.5]), Targets({SPEEDUP: 1.3}), REQUEST, timed
    )
    assert not found.is_met
    assert len(found.removed) == 4
    said = found.said(None, "95%")
    assert said == (
        "The target is not met: none of the models kept is shown to be at least 1.30 times as "
        "fast. The best that can be had of them, without layers 6, 7, 8, 9, is 1.25 times as fast "
        "(95% interval 1.25 to 1.25), for one request of 8 tokens read and 1 token written. Ask "
        "for what can be had, or let the search go further, by a larger tolerance above all."
    )


def test_all_targets_must_be_met_by_one_model() -> None:
    timed = Timed({3: 1.4, 4: 1.6})
    both = Targets({SPEEDUP: 1.3, PARAMETERS: 600.0})
    assert chosen([0.9, 0.8, 0.7, 0.6, 0.5], both, timed) == (4, True)
    assert timed.log == [4]  # that 3 has too many parameters is known without timing it


def test_a_whole_model_may_meet_what_is_asked() -> None:
    found = choose(candidates_of([0.9, 0.8]), Targets({PARAMETERS: 1000.0}), None, Timed({0: 1.0}))
    assert (found.removed, found.is_met) == ((), True)
    assert found.said(None, "95%") == (
        "Chosen by what was asked: with all its layers the model has 1,000 parameters."
    )


def test_prices_trade_accuracy_for_time_and_size() -> None:
    accuracies, speeds = [0.70, 0.69, 0.60], [100.0, 125.0, 200.0]
    # A layer fewer: a point lost, 20% of the time saved, 10% of the parameters.
    cases = {
        (1.0, 0.0, 0.0): 0,
        (1.0, 0.04, 0.0): 0,
        (1.0, 0.06, 0.0): 1,
        (1.0, 0.4, 0.0): 2,
        (1.0, 0.0, 0.11): 1,
        (0.0, 0.0, 1.0): 2,
    }
    for (accuracy, latency, size), wanted in cases.items():
        price = {"accuracy": accuracy, "latency": latency, "parameters": size}
        found = chosen(accuracies, Targets({}, price), Timed({}), speeds)
        assert (price, found) == (price, (wanted, True))


def test_a_price_is_said_with_its_parts() -> None:
    targets = Targets({}, {"accuracy": 1.0, "latency": 0.06})
    found = choose(candidates_of([0.70, 0.69], [100.0, 125.0]), targets, None, Timed({}))
    assert found.worth == pytest.approx({"accuracy": -1.0, "latency": 1.2})
    assert found.said(None, "95%") == (
        "Chosen by what was asked: without layer 9 the model is worth most. By the prices it is "
        "worth +0.20 more than the whole model: -1.00 for accuracy, +1.20 for latency."
    )


def test_by_any_numbers_what_is_chosen_is_what_trying_all_would_choose() -> None:
    """Where time goes with layers, nothing that is left untimed would have been chosen."""
    source = random.Random(3)
    for _ in range(300):
        accuracies = [source.randint(0, 20) / 20 for _ in range(source.randint(1, LAYERS))]
        slow = source.uniform(0.5, 1)  # how much of what could be saved is saved
        speedups = {n: 1 / (1 - slow * n / LAYERS) for n in range(len(accuracies))}
        wanted = source.uniform(1.01, 3)
        found = chosen(accuracies, Targets({SPEEDUP: wanted}), Timed(speedups))
        meet = [n for n in range(len(accuracies)) if speedups[n] >= wanted]
        best = min(meet, key=lambda n: (-accuracies[n], n), default=None)
        assert found == ((len(accuracies) - 1, False) if best is None else (best, True))


@pytest.mark.parametrize(
    ("asked", "price", "words"),
    [
        ({SPEEDUP: 1.0}, {}, "`target_speedup` must be more than 1, got 1"),
        ({SPEEDUP: math.inf}, {}, "`target_speedup` must be more than 1, got inf"),
        ({LATENCY: 0.0}, {}, "`max_latency_ms` must be more than 0, got 0"),
        ({LATENCY: math.nan}, {}, "`max_latency_ms` must be more than 0, got nan"),
        ({MEMORY: 0}, {}, "`max_memory` must be more than 0, got 0"),
        ({PARAMETERS: -1}, {}, "`max_parameters` must be more than 0, got -1"),
        ({}, {"speed": 1.0}, "`price` has no speed; give prices of accuracy, latency or param"),
        ({}, {"accuracy": -1.0}, "`price` must be numbers from 0 on, not all 0"),
        ({}, {"accuracy": 0.0}, "`price` must be numbers from 0 on, not all 0"),
        ({}, {"accuracy": math.nan}, "`price` must be numbers from 0 on, not all 0"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(
    asked: dict[str, float], price: dict[str, float], words: str
) -> None:
    Targets({SPEEDUP: 1.01, PARAMETERS: 1}, {"latency": 1.0, "accuracy": 0.0})
    with pytest.raises(InputError) as told:
        Targets(asked, price)
    assert str(told.value).startswith(words)
    assert "\n" not in str(told.value)


def test_prices_are_read_from_a_text_or_a_mapping() -> None:
    assert price_from("accuracy=1, latency=.2") == {"accuracy": 1.0, "latency": 0.2}
    assert price_from({"latency": 1}) == {"latency": 1.0}
    for wrong in ("accuracy", "accuracy=x", "accuracy=1,,", ""):
        with pytest.raises(ValueError, match=r"^$|could not convert"):
            price_from(wrong)


def test_parameters_have_suffixes() -> None:
    given = {"100M": 10**8, "1.5B": 15 * 10**8, "50k": 50_000, " 7 ": 7, 12: 12}
    assert {text: parameters(text) for text in given} == given
    for wrong in ("1T", "-1", "M", "1e6", "1.5.2M"):
        with pytest.raises(ValueError, match=r"^$"):
            parameters(wrong)


def test_a_document_has_what_was_asked_and_no_more() -> None:
    assert Targets().document() == {}
    assert not Targets()
    given = Targets({SPEEDUP: 1.3, PARAMETERS: 10}, {"latency": 0.2})
    assert targets_from({**given.document(), "tolerance": 0.08}) == given


def test_targets_are_told_in_words() -> None:
    values = {SPEEDUP: 1.3, LATENCY: 25, MEMORY: 1.5e9, PARAMETERS: 1.2e8}
    assert [asked_for(name, values[name]) for name in KINDS] == [
        "be at least 1.30 times as fast",
        "take at most 25.0 ms",
        "hold at most 1.50 GB",
        "have at most 120.0M parameters",
    ]
