"""Search, held-out and final sets: drawn by a seed, with no text in common.

Two examples belong together when their rendered contexts are equal or they share a passage;
together means on the same side, or unused. Order comes from hashes of content, so neither the
order of the file nor a random-number library decides.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from telltale.errors import InputError
from telltale.support.files import sha256_of
from telltale.tasks.sets import Part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from telltale.tasks.task import Example, Task

SMALLEST_SET = 20
FEWEST_DIFFERENT = 10  # of a set; the others may recur
DEFAULT_SEARCH_SIZE = 500
DEFAULT_HELD_OUT_SIZE = 1000
JUDGE = (Part.HELD_OUT, Part.FINAL)  # parts whose examples say something of others


@dataclass(frozen=True, slots=True)
class Split:
    """Disjoint sets of a task's examples, by what they are for: indices into the examples."""

    sets: Mapping[Part, tuple[int, ...]]

    def __getitem__(self, part: Part) -> tuple[int, ...]:
        """The indices of a set; none where it was not asked for."""
        return self.sets.get(part, ())

    @property
    def search(self) -> tuple[int, ...]:
        """The examples that choose."""
        return self[Part.SEARCH]

    @property
    def held_out(self) -> tuple[int, ...]:
        """The examples that judge."""
        return self[Part.HELD_OUT]

    @property
    def final(self) -> tuple[int, ...]:
        """The examples that are looked at once."""
        return self[Part.FINAL]


def texts_of(example: Example) -> list[tuple[str, str]]:
    """The texts by which examples belong together, without regard to white space."""
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
    train: int | None = None,
    development: int | None = None,
    seed: int = 0,
    shares: Mapping[str, float] | None = None,
    default_limit: int = DEFAULT_SEARCH_SIZE,
) -> Split:
    """Choose the search set and the held-out set, and others where they are asked for.

    The search set begins the order that the seed gives, the held-out set follows, and the final set
    is its end: with the same seed, a search without a final set comes to those examples last. What
    is between the held-out set and the final set is for training and development.

    Args:
        examples: all there are.
        limit: the size of the search set; by default ``default_limit``, but at most half.
        held_out: the size of the held-out set at most; by default what is left, up to 1,000.
        final: the size of the set that is looked at once, at the end; by default there is none.
        train: the size of the set that a model may be trained on; by default there is none.
        development: the size of the set that says when training stops; by default there is none.
        seed: another seed gives another split.
        shares: where the examples are of several tasks, each task's part of each set.
        default_limit: the size of the search set where none is given.

    Raises:
        InputError: a size below 20 was asked for, there are too few examples for all sets, a task's
            share of a set is no example, or all examples of the held-out or final set share a
            passage.
    """
    sizes = {
        "limit": limit,
        "held_out": held_out,
        "final": final,
        "train": train,
        "development": development,
    }
    for name, size in sizes.items():
        if size is not None and size < SMALLEST_SET:
            raise InputError(f"`{name}` must be at least {SMALLEST_SET}, got {size}")
    shares = shares or {"": 1.0}
    asked = {Part.FINAL: final or 0, Part.TRAIN: train or 0, Part.DEVELOPMENT: development or 0}
    search_size = limit
    if search_size is None:
        most = most_of(examples, shares) - sum(asked.values())
        search_size = max(min(default_limit, most // 2), 0)
    held_out_size = DEFAULT_HELD_OUT_SIZE if held_out is None else held_out
    groups = _groups(examples, seed)
    search, rest = _fill(groups, examples, counts_of(search_size, shares))
    sealed, rest = _fill(rest[::-1], examples, counts_of(asked[Part.FINAL], shares))
    rest.reverse()
    left = most_of([examples[index] for group in rest for index in group], shares)
    left -= asked[Part.TRAIN] + asked[Part.DEVELOPMENT]
    kept_out, rest = _fill(rest, examples, counts_of(max(0, min(held_out_size, left)), shares))
    trained, rest = _fill(rest, examples, counts_of(asked[Part.TRAIN], shares))
    developed, _ = _fill(rest, examples, counts_of(asked[Part.DEVELOPMENT], shares))
    sets = {
        Part.SEARCH: search,
        Part.HELD_OUT: kept_out,
        Part.FINAL: sealed,
        Part.TRAIN: trained,
        Part.DEVELOPMENT: developed,
    }
    too_few = len(search) < max(SMALLEST_SET, limit or 0) or len(kept_out) < SMALLEST_SET
    if too_few or any(len(sets[part]) < size for part, size in asked.items()):
        raise InputError(
            _too_few(examples, groups, shares, limit=limit, search_size=search_size, asked=asked)
        )
    wanted = {part: tuple(found) for part, found in sets.items() if asked.get(part, 1)}
    for part, indices in wanted.items():
        _check_set(part, [examples[index] for index in indices], shares)
    return Split(wanted)


def _check_set(part: Part, examples: Sequence[Example], shares: Mapping[str, float]) -> None:
    """Refuse a set by which nothing can be chosen or judged.

    Raises:
        InputError: too few of it differ, a task has no part in it, or what judges is one passage.
    """
    distinct = len({example.digest for example in examples})
    if distinct < FEWEST_DIFFERENT:
        raise InputError(
            f"{len(examples)} examples with {distinct} different ones among them are too few to "
            f"search or judge by; give at least {FEWEST_DIFFERENT} different ones for each set"
        )
    counts = counts_of(len(examples), shares)
    absent = next((name for name, count in counts.items() if not count), None)
    if absent is not None:
        raise InputError(
            f"{absent} has a share of {100 * shares[absent]:.2g}%, which is no example of the "
            f"{len(examples)} in the {part} set; give it more weight, leave it out, or ask for a "
            f"larger set: {math.ceil(1 / shares[absent])} examples or more"
        )
    if part in JUDGE and len(set(clusters_of(examples))) == 1:
        raise InputError(
            f"all {len(examples)} examples of the {part} set share one passage, and one passage is "
            "one observation, however many questions it has; give examples on more passages"
        )


def first_examples(task: Task, limit: int | None) -> tuple[Example, ...]:
    """The first ``size`` examples; of several tasks, each task's share of them."""
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


def first_drawn(task: Task, limit: int, seed: int) -> tuple[Example, ...]:
    """At most so many examples, those that a search with this limit and seed would search by."""
    examples, shares = task.examples, dict(task.shares) or {"": 1.0}
    most = min(limit, most_of(examples, shares))
    drawn, _ = _fill(_groups(examples, seed), examples, counts_of(most, shares))
    return tuple(examples[index] for index in drawn)


def _groups(examples: Sequence[Example], seed: int) -> list[list[int]]:
    """Examples that must stay together, in an order that the seed shuffles.

    A group's place comes from one hash of all that it holds. The least of its members' hashes would
    be the smaller the more it has, and large groups would come first.
    """
    members: dict[int, list[int]] = {}
    for index, cluster in enumerate(clusters_of(examples)):
        members.setdefault(cluster, []).append(index)

    def place(*indices: int) -> str:
        return sha256_of(str(seed), *sorted(examples[index].digest for index in indices))

    groups = [sorted(group, key=lambda one: (place(one), one)) for group in members.values()]
    return sorted(groups, key=lambda group: (place(*group), group))


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
    """Take groups until each part has its count; what a group has too many stays unused.

    Only the last group of each part is cut, so that a share in what is taken is that of all to
    within a fraction of one group.
    """
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
    """The largest number of examples in which each part has its share."""
    there = Counter(example.part for example in examples)
    most = min(int(there[part] / share) for part, share in shares.items())
    # Counts are rounded, so that one more may have too many of some part.
    while any(there[part] < count for part, count in counts_of(most, shares).items()):
        most -= 1
    return most


def counts_of(size: int, shares: Mapping[str, float]) -> dict[str, int]:
    """The number of examples of each part in a set, by largest remainders."""
    counts = {part: int(size * share) for part, share in shares.items()}
    remainders = sorted(shares, key=lambda part: counts[part] - size * shares[part])
    for part in remainders[: size - sum(counts.values())]:
        counts[part] += 1
    return counts


def _too_few(
    examples: Sequence[Example],
    groups: Sequence[Sequence[int]],
    shares: Mapping[str, float],
    *,
    limit: int | None,
    search_size: int,
    asked: Mapping[Part, int],
) -> str:
    """Why there are not enough, and what to do: names what is too large of what was given."""
    of_all = f"{len(examples)} examples"
    if len(groups) < len(examples):
        of_all += f" with {len(groups)} different contexts"
    needed = 2 * SMALLEST_SET
    if len(examples) < needed or len(groups) == 1:
        return (
            f"{of_all} are too few: a search set and a held-out set of at least {SMALLEST_SET} "
            f"each are needed, so give {needed} or more that share no prompt and no passage"
        )
    there = Counter(example.part for example in examples)
    scarce = min(shares, key=lambda part: there[part] / shares[part])
    if len(shares) > 1:
        of_all += (
            f", {there[scarce]} of them of {scarce} with a share of {100 * shares[scarce]:.2g}%,"
        )
    others = {part: size for part, size in asked.items() if size}
    beside = [f"a search set of {search_size}"] if limit or not others else []
    beside += [f"a {part} set of {size}" for part, size in others.items()]
    given = [*(["`limit`"] if limit else []), *(f"`{part}`" for part in others)]
    remedies = [
        f"lower {' or '.join(given)}" if given else "ask for a smaller search set",
        *([f"give {scarce} less weight"] if len(shares) > 1 else []),
        "give more examples",
    ]
    return (
        f"{of_all} leave fewer than {SMALLEST_SET} to hold out beside {' and '.join(beside)}; "
        f"{', '.join(remedies[:-1])}{' or ' if len(remedies) > 1 else ''}{remedies[-1]}"
    )
