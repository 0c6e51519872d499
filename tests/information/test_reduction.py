"""All components hold all that products of standardised states do."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from telltale.information.reduction import reduced


def sets(examples: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    source = np.random.default_rng([examples, width])
    scales = np.exp(source.normal(0, 2, width))
    return (
        source.normal(3, 1, (examples, width)) * scales,
        source.normal(3, 1, (11, width)) * scales,
    )


@pytest.mark.parametrize(("examples", "width"), [(30, 200), (30, 30), (200, 7), (31, 30)])
def test_products_are_those_of_standardised_states(examples: int, width: int) -> None:
    own, others = sets(examples, width)
    scaler = StandardScaler().fit(own)
    plain, other = (scaler.transform(one) / np.sqrt(width) for one in (own, others))
    found, found_other = reduced(own, others)
    assert found.shape[1] == min(examples - 1, width)
    assert found @ found.T == pytest.approx(plain @ plain.T, abs=1e-9)
    assert found_other @ found.T == pytest.approx(other @ plain.T, abs=1e-7)
    assert (found**2).sum(axis=1).mean() == pytest.approx(1)
    assert (np.diff((found**2).sum(axis=0)) <= 1e-9).all()  # the widest first


def test_a_probe_predicts_from_components_what_it_does_from_the_states() -> None:
    own, others = sets(40, 150)
    answers = np.random.default_rng(5).integers(3, size=40)
    scaler = StandardScaler().fit(own)
    plain, other = (scaler.transform(one) / np.sqrt(150) for one in (own, others))
    found, found_other = reduced(own, others)
    probe = LogisticRegression(C=3.0, tol=1e-10, max_iter=1000)
    expected = probe.fit(plain, answers).predict_proba(other)
    assert probe.fit(found, answers).predict_proba(found_other) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.1, -3e30])
def test_a_dimension_that_is_constant_up_to_rounding_has_no_component(value: float) -> None:
    own, others = sets(20, 3)
    constant = np.full((20, 2), value, dtype=np.float32) * (1 + 1e-8 * np.arange(20)[:, None])
    joined = np.hstack([own, constant])
    found, _ = reduced(joined, np.hstack([others, np.zeros((11, 2))]))
    assert found.shape == (20, 3)
    assert reduced(constant, constant)[0].shape == (20, 0)
