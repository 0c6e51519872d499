"""The search set and the held-out set: disjoint by what the model reads, fixed by a seed.

Two examples belong together when their rendered contexts are equal or they share a passage;
together means on the same side, or unused. Order comes from hashes of content, so neither the
order of the file nor a random-number library decides.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from telltale.errors import InputError
from telltale.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from telltale.tasks.task import Example, Task

SMALLEST_SET = 20
FEWEST_DIFFERENT = 10  # of a set; the others may recur
DEFAULT_SEARCH_SIZE = 500
DEFAULT_HELD_OUT_SIZE = 1000


@dataclass(frozen=True, slots=True)
class Split:
    """Indices into a task's examples; ``final`` is empty where no third set was asked for."""

    search: tuple[int, ...]
    held_out: tuple[int, ...]
    final: tuple[int, ...] = ()


def texts_of(example: Example) -> list[tuple[str, str]]:
    """What two examples have in common if they belong together, without regard to white space."""
    texts = {"context": example.context, "passage": example.passage}
    return [(kind, folded(text)) for kind, text in texts.items() if text]


def folded(text: str) -> str:
    """A text without regard to its white space."""
    return " ".join(text.split())


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
    final: int | None = None,
    seed: int = 0,
    shares: Mapping[str, float] | None = None,
) -> Split:
    """Choose the two sets, and a third where one is asked for.

    Args:
        examples: all there are.
        limit: the size of the search set; by default 500, but never more than half.
        held_out: the size of the held-out set at most; by default what is left, up to 1,000.
        final: the size of the set that is looked at once, at the end; by default there is none.
        seed: another seed gives another split.
        shares: where the examples are of several tasks, each task's part of both sets.

    Raises:
        InputError: a size below 20 was asked for, or there are too few examples for all sets.
    """
    for name, size in (("--limit", limit), ("--held-out", held_out), ("--final", final)):
        if size is not None and size < SMALLEST_SET:
            raise InputError(
                f"{name} {size} is too small to choose layers by; give at least {SMALLEST_SET}"
            )
    shares = shares or {"": 1.0}
    search_size = limit
    if search_size is None:
        most = most_of(examples, shares) - (final or 0)
        search_size = max(min(DEFAULT_SEARCH_SIZE, most // 2), 0)
    held_out_size = DEFAULT_HELD_OUT_SIZE if held_out is None else held_out
    groups = _groups(examples, seed)
    search, rest = _fill(groups, examples, counts_of(search_size, shares))
    sealed, rest = _fill(rest, examples, counts_of(final or 0, shares))
    left = [examples[index] for group in rest for index in group]
    held_out_size = min(held_out_size, most_of(left, shares))
    kept_out, _ = _fill(rest, examples, counts_of(held_out_size, shares))
    too_few = len(search) < max(SMALLEST_SET, limit or 0) or len(kept_out) < SMALLEST_SET
    if too_few or len(sealed) < (final or 0):
        raise InputError(_too_few(len(examples), len(groups), search_size, final or 0))
    for indices in (search, kept_out, *([sealed] if final else [])):
        distinct = len({examples[index].digest for index in indices})
        if distinct < FEWEST_DIFFERENT:
            raise InputError(
                f"{len(indices)} examples with {distinct} different ones among them are too few to "
                f"search or judge by; give at least {FEWEST_DIFFERENT} different ones for each set"
            )
    return Split(search=tuple(search), held_out=tuple(kept_out), final=tuple(sealed))


def first_examples(task: Task, limit: int | None) -> tuple[Example, ...]:
    """The first so many; of several tasks together, of each its share."""
    if not task.shares:
        return task.examples[:limit]
    shares = dict(task.shares)
    most = most_of(task.examples, shares)
    room = counts_of(most if limit is None else min(limit, most), shares)
    chosen = []
    for example in task.examples:
        if room[example.part]:
            room[example.part] -= 1
            chosen.append(example)
    return tuple(chosen)


def _groups(examples: Sequence[Example], seed: int) -> list[list[int]]:
    """Examples that must stay together, in an order that the seed shuffles."""
    members: dict[int, list[int]] = {}
    for index, cluster in enumerate(clusters_of(examples)):
        members.setdefault(cluster, []).append(index)

    def shuffled(index: int) -> tuple[str, int]:
        return sha256_of(str(seed), examples[index].digest), index

    groups = [sorted(group, key=shuffled) for group in members.values()]
    return sorted(groups, key=lambda group: shuffled(group[0]))


def clusters_of(examples: Sequence[Example]) -> list[int]:
    """A number for each example, equal for those that belong together."""
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
    return [root(index) for index in range(len(examples))]


def _fill(
    groups: list[list[int]], examples: Sequence[Example], counts: Mapping[str, int]
) -> tuple[list[int], list[list[int]]]:
    """Take groups until each part has its count; what a group has too many stays unused."""
    room = dict(counts)
    taken: list[int] = []
    rest: list[list[int]] = []
    for group in groups:
        if not any(room[examples[index].part] for index in group):
            rest.append(group)
            continue
        for index in group:
            if room[examples[index].part]:
                room[examples[index].part] -= 1
                taken.append(index)
    return taken, rest


def most_of(examples: Sequence[Example], shares: Mapping[str, float]) -> int:
    """How many examples there can be of which each part is its share."""
    there = Counter(example.part for example in examples)
    most = min(int(there[part] / share) for part, share in shares.items())
    # Counts are rounded, so that one more may have too many of some part.
    while any(there[part] < count for part, count in counts_of(most, shares).items()):
        most -= 1
    return most


def counts_of(size: int, shares: Mapping[str, float]) -> dict[str, int]:
    """How many examples of each part there are among so many, by largest remainders."""
    counts = {part: int(size * share) for part, share in shares.items()}
    remainders = sorted(shares, key=lambda part: counts[part] - size * shares[part])
    for part in remainders[: size - sum(counts.values())]:
        counts[part] += 1
    return counts


def _too_few(examples: int, groups: int, search_size: int, final: int) -> str:
    distinct = "" if groups == examples else f" with {groups} different contexts"
    most = max(examples - SMALLEST_SET, 0)
    if final:
        return (
            f"{examples} examples{distinct} leave fewer than {SMALLEST_SET} to hold out beside a "
            f"search set of {search_size} and a final set of {final}; lower --limit or --final, or "
            "give more examples"
        )
    if min(groups, examples) < 2 * SMALLEST_SET or most < SMALLEST_SET:
        return (
            f"{examples} examples{distinct} are too few: a search set and a held-out set of at "
            f"least {SMALLEST_SET} each are needed, so give {2 * SMALLEST_SET} or more"
        )
    return (
        f"{examples} examples{distinct} leave fewer than {SMALLEST_SET} to hold out beside a "
        f"search set of {search_size}; lower --limit or give more examples"
    )
