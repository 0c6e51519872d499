"""The claims hold where the truth is known: the benchmark's simulation, small."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from types import ModuleType

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "simulation.py"
STUDIES = 120


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulation", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["simulation"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def simulated(
    simulation: ModuleType, world: str, objective: str, studies: int = STUDIES, **row: Any
) -> dict[str, float]:
    source = np.random.default_rng(11)
    of = simulation.Row(simulation.worlds()[world], objective, (150, 150), **row)
    found = [
        simulation.study(of, source, check=number < 1, covers=True) for number in range(studies)
    ]
    summary: dict[str, float] = simulation.summary(found)
    return summary


def test_where_no_layer_matters_best_overstates_and_the_held_out_set_does_not(
    simulation: ModuleType,
) -> None:
    found = simulated(simulation, "no layer matters", "accuracy")
    assert found["claimed"] > 5  # points that are not there
    assert found["gain"] == pytest.approx(0, abs=1e-9)
    # Some 4.5 points of spread a study: five standard errors.
    assert abs(found["bias"]) < 5 * 4.5 / STUDIES**0.5
    assert found["covered"] > 0.88
    assert found["confirmed_wrongly"] < 0.09


def test_where_any_shallower_model_loses_too_much_it_is_rarely_called_safe(
    simulation: ModuleType,
) -> None:
    found = simulated(simulation, "any shallower model loses 3.05 points", "likelihood")
    assert found["safe_wrongly"] < 0.13
    assert found["safe_depth"] < 0.8


@pytest.mark.slow
def test_intervals_hold_with_few_passages_and_with_marks(simulation: ModuleType) -> None:
    world = "any shallower model loses 3.05 points"
    passages = simulated(simulation, world, "likelihood", 60, clusters=(30,) * 5)
    marks = simulated(simulation, world, "accuracy", 40, scored=simulation.GRADED)
    for found in (passages, marks):
        assert found["covered"] >= 0.85
        assert found["bounded"] >= 0.85
        assert found["safe_wrongly"] < 0.15


@pytest.mark.slow
def test_ten_searches_of_one_held_out_set_claim_less_wrongly_than_if_none_minded_the_others(
    simulation: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    minded = simulated(simulation, "no layer matters", "accuracy", 80, reruns=10)
    monkeypatch.setattr(simulation.Level, "after", lambda _, alpha: simulation.Level(alpha))
    not_minded = simulated(simulation, "no layer matters", "accuracy", 80, reruns=10)
    assert not_minded["confirmed_wrongly"] > 0.06 > minded["confirmed_wrongly"]


@pytest.mark.slow
def test_where_layers_harm_the_default_gains_as_much_as_the_published_way(
    simulation: ModuleType,
) -> None:
    world = "four layers harm, the rest are needed"
    ours, published = (
        simulated(simulation, world, objective) for objective in ("likelihood", "accuracy")
    )
    assert ours["gain"] > 0.9 * published["gain"] > 2
