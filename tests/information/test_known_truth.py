"""Estimates where the true information is known: the benchmark, small."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import integrate
from scipy.stats import norm

if TYPE_CHECKING:
    from types import ModuleType

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "information.py"
SEES = {
    "4 Gaussian classes, few directions": ("probe", "neighbours"),
    "XOR, few directions": ("neighbours",),
}


@pytest.fixture(scope="module")
def known() -> ModuleType:
    spec = importlib.util.spec_from_file_location("known_information", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["known_information"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    module.DRAWS = 100_000
    return module


def test_the_true_bits_are_those_of_an_integral(known: ModuleType) -> None:
    def at(x: float) -> float:
        one, other = norm.pdf(x, 0.8), norm.pdf(x, -0.8)
        return float(one * np.log2(2 * one / (one + other)))

    expected, _ = integrate.quad(at, -12, 12)
    assert known.worlds()["2 Gaussian classes"].bits() == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize(
    "name", ["4 Gaussian classes, few directions", "XOR, few directions", "noise"]
)
def test_estimates_are_not_above_the_truth_and_near_it_where_they_see_it(
    known: ModuleType, name: str
) -> None:
    world = known.worlds()[name]
    truth = world.bits()
    (found,) = known.repeated(world, 100, 200, 1)
    for estimator in known.ESTIMATORS:
        assert found.low[estimator] <= truth + 1e-9
        assert -0.06 < found.null[estimator] < 0.06
        if name == "noise":
            assert found.low[estimator] <= 0 <= found.high[estimator]
        if estimator in SEES.get(name, ()):
            assert found.high[estimator] > 0.9 * truth
    if name == "noise":
        assert found.in_sample > 0.3  # where nothing is to be known
    if name == "XOR, few directions":
        assert found.high["probe"] < 0.1  # a linear probe cannot see it
