"""Encoded examples for tests of the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telltale.engine.encode import ChoiceSize, EncodedExample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.engine.encode import Tokens


def example(
    context: Tokens,
    choices: Sequence[Tokens] = (),
    answer: int = 0,
    *,
    scored: Sequence[int] | None = None,
) -> EncodedExample:
    """An example; by default all of its choices' tokens are scored, each a character."""
    counts = list(map(len, choices)) if scored is None else scored
    sizes = tuple(ChoiceSize(count, count, count) for count in counts)
    return EncodedExample(context, tuple(choices), sizes, answer)
