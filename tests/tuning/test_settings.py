"""Settings of a training: what is refused, with the parameter's name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from telltale.errors import InputError
from telltale.tuning.settings import CHECKS, RANGES, TuningSettings


def test_every_setting_has_a_check() -> None:
    names = {one.name for one in fields(TuningSettings)}
    assert set(CHECKS) == names
    assert set(RANGES) <= names
    assert set(TuningSettings().document()) == names


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("rank", 1, 0),
        ("rank", 4, 1.5),
        ("alpha", 0.5, 0.0),
        ("dropout", 0.0, 1.0),
        ("targets", "q_proj", 3),
        ("learning_rate", 1, float("nan")),
        ("learning_rate", 1, "fast"),
        ("epochs", 1, 0),
        ("max_steps", 1, 0),
        ("batch_size", 1, True),
        ("micro_batch", 1, -1),
        ("warmup", 0.5, 1.0),
        ("loss", "choices", "mse"),
        ("patience", 1, 0),
        ("check_every", 1, 0),
        ("weight_decay", 0, -0.1),
        ("max_gradient", 0.1, float("inf")),
        ("four_bit", True, "yes"),
        ("seed", -1, 0.5),
    ],
)
def test_a_setting_out_of_its_range_is_refused_by_name(name: str, good: Any, bad: Any) -> None:
    assert getattr(TuningSettings(**{name: good}), name) in (good, (good,))
    with pytest.raises(InputError, match=f"^`{name}` must be .*, got "):
        TuningSettings(**{name: bad})


def test_alpha_is_twice_the_rank_unless_it_is_given() -> None:
    assert TuningSettings(rank=8).lora_alpha == 16
    assert TuningSettings(rank=8, alpha=4).lora_alpha == 4
