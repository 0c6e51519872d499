"""Perplexity on general text, of the whole model and of shallower ones.

A task says nothing of what a model can no longer do. The perplexity of a page of plain prose does,
roughly: it is the text of a user's choice, or a page that comes with telltale.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from telltale.engine.encode import encode_text
from telltale.engine.runner import Job
from telltale.errors import InputError
from telltale.measure import Batch, in_halves, outcomes_by_path
from telltale.support.files import read_text, sha256_of
from telltale.tasks import Scoring

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from telltale.engine.encode import EncodedExample
    from telltale.engine.workbench import Workbench
    from telltale.paths import LayerPath

LOG = logging.getLogger(__name__)
WINDOW = 512  # tokens read together, each predicted from those before it in its window
FEWEST_TOKENS = 32  # fewer say nothing
MOST_TOKENS = 16384  # more would only take longer


@dataclass(frozen=True, slots=True)
class Page:
    """A text, and a name for it that holds no path."""

    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Identity by content."""
        return sha256_of(self.text)


def built_in_page() -> Page:
    """The page that comes with telltale: prose, a letter, a recipe, some Python."""
    text = resources.files("telltale.engine").joinpath("page.txt").read_text(encoding="utf-8")
    return Page("built-in page", text)


def page_from(file: Path) -> Page:
    """A user's text.

    Raises:
        InputError: it cannot be read, or is empty.
    """
    text = read_text(file)
    if not text.strip():
        raise InputError(f"`text` {file.name} is empty; give a page of plain text")
    return Page(file.name, text)


def windows_of(bench: Workbench, page: Page) -> list[EncodedExample]:
    """The first tokens of a page in windows, each to be predicted from its first token on.

    Raises:
        InputError: they are too few to say anything.
    """
    window = min(WINDOW, bench.facts.longest_input or WINDOW)
    windows = encode_text(page.text, bench.tokenizer, window=window, most=MOST_TOKENS)
    tokens = sum(len(one.choices[0]) for one in windows)
    if tokens < FEWEST_TOKENS:
        raise InputError(
            f"the text {page.name} has {tokens} tokens, too few to say anything; give a page of it"
        )
    return windows


def perplexities(
    bench: Workbench, page: Page, paths: Sequence[LayerPath]
) -> dict[LayerPath, float]:
    """Each path's perplexity a token, on the first tokens of a page.

    Raises:
        InputError: the page has too few tokens to say anything.
        BatchTooLargeError: a window of it does not fit in memory.
    """
    windows = windows_of(bench, page)
    tokens = sum(len(one.choices[0]) for one in windows)
    engine = bench.runner.engine(Job(tuple(windows), Scoring.LOGLIK, memory_bytes=bench.memory))
    batches = [Batch((position,)) for position in range(len(windows))]
    found = outcomes_by_path(in_halves(engine, paths, batches, lambda batch: len(batch.examples)))
    return {
        path: math.exp(-sum(one.choices[0].loglik for one in found[path].values()) / tokens)
        for path in paths
    }
