"""The search set and the held-out set: disjoint by what the model reads, fixed by a seed.

Two examples belong together when their rendered contexts are equal or they share a passage;
together means on the same side, or unused. Order comes from hashes of content, so neither the
order of the file nor a random-number library decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from telltale.errors import InputError
from telltale.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.tasks.task import Example

SMALLEST_SET = 20
FEWEST_DIFFERENT = 10  # of a set; the others may recur
DEFAULT_SEARCH_SIZE = 500
DEFAULT_HELD_OUT_SIZE = 1000


@dataclass(frozen=True, slots=True)
class Split:
    """Indices into a task's examples."""

    search: tuple[int, ...]
    held_out: tuple[int, ...]


def texts_of(example: Example) -> list[tuple[str, str]]:
    """What two examples have in common if they belong together, without regard to white space."""
    texts = {"context": example.context, "passage": example.passage}
    return [(kind, " ".join(text.split())) for kind, text in texts.items() if text]


def check_answers_differ(examples: Sequence[Example]) -> None:
    """Refuse examples that all have the same answer.

    A search by them would choose whatever model says it every time.

    Raises:
        InputError: they do.
    """
    answers = {example.choices[example.answer] for example in examples}
    if len(answers) == 1 and len(examples) > 1:
        raise InputError(
            f"the right answer of all {len(examples)} examples is {answers.pop()!r}, so any model "
            "that says nothing else would be the best; give examples of at least two answers"
        )


def split_examples(
    examples: Sequence[Example],
    *,
    limit: int | None = None,
    held_out: int | None = None,
    seed: int = 0,
) -> Split:
    """Choose the two sets.

    Args:
        examples: all there are.
        limit: the size of the search set; by default 500, but never more than half.
        held_out: the size of the held-out set at most; by default what is left, up to 1,000.
        seed: another seed gives another split.

    Raises:
        InputError: a size below 20 was asked for, or there are too few examples for both sets.
    """
    for name, size in (("--limit", limit), ("--held-out", held_out)):
        if size is not None and size < SMALLEST_SET:
            raise InputError(
                f"{name} {size} is too small to choose layers by; give at least {SMALLEST_SET}"
            )
    search_size = min(DEFAULT_SEARCH_SIZE, len(examples) // 2) if limit is None else limit
    held_out_size = DEFAULT_HELD_OUT_SIZE if held_out is None else held_out
    groups = _groups(examples, seed)
    search, rest = _fill(groups, search_size)
    kept_out, _ = _fill(rest, held_out_size)
    if len(search) < max(SMALLEST_SET, limit or 0) or len(kept_out) < SMALLEST_SET:
        raise InputError(_too_few(len(examples), len(groups), search_size))
    for indices in (search, kept_out):
        distinct = len({examples[index].digest for index in indices})
        if distinct < FEWEST_DIFFERENT:
            raise InputError(
                f"{len(indices)} examples with {distinct} different ones among them are too few to "
                f"search or judge by; give at least {FEWEST_DIFFERENT} different ones for each set"
            )
    return Split(search=tuple(search), held_out=tuple(kept_out))


def _groups(examples: Sequence[Example], seed: int) -> list[list[int]]:
    """Examples that must stay together, in an order that the seed shuffles."""
    parents = list(range(len(examples)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    first_with: dict[tuple[str, str], int] = {}
    for index, example in enumerate(examples):
        for key in texts_of(example):
            parents[root(index)] = root(first_with.setdefault(key, index))
    members: dict[int, list[int]] = {}
    for index in range(len(examples)):
        members.setdefault(root(index), []).append(index)

    def shuffled(index: int) -> tuple[str, int]:
        return sha256_of(str(seed), examples[index].digest), index

    groups = [sorted(group, key=shuffled) for group in members.values()]
    return sorted(groups, key=lambda group: shuffled(group[0]))


def _fill(groups: list[list[int]], size: int) -> tuple[list[int], list[list[int]]]:
    """Take whole groups until ``size`` is reached; what the last one has too many stays unused."""
    taken: list[int] = []
    for position, group in enumerate(groups):
        if len(taken) >= size:
            return taken, groups[position:]
        taken.extend(group[: size - len(taken)])
    return taken, []


def _too_few(examples: int, groups: int, search_size: int) -> str:
    distinct = "" if groups == examples else f" with {groups} different contexts"
    most = max(examples - SMALLEST_SET, 0)
    if min(groups, examples) < 2 * SMALLEST_SET or most < SMALLEST_SET:
        return (
            f"{examples} examples{distinct} are too few: a search set and a held-out set of at "
            f"least {SMALLEST_SET} each are needed, so give {2 * SMALLEST_SET} or more"
        )
    return (
        f"{examples} examples{distinct} leave fewer than {SMALLEST_SET} to hold out beside a "
        f"search set of {search_size}; lower --limit or give more examples"
    )
