r"""Do intervals hold what they say on real outcomes? A study's held-out set, drawn from again.

The held-out examples of a finished study are taken for all there is, so that each of its models has
a gain that is known. From them sets of a smaller size are drawn, with repeats, and for each set
telltale's intervals are made: how many hold the known gain?

    telltale search MODEL TASK --limit 150 --held-out 1000 --out study
    python benchmarks/coverage.py study --sizes 150 400
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from telltale.evidence.stats import Pairs, gain_interval, loses_at_most, wilson
from telltale.study import read_study

if TYPE_CHECKING:
    from collections.abc import Iterable


def main() -> None:
    """Print a table: a row for each model of the path and each size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[150, 400])
    parser.add_argument("--draws", type=int, default=20000)
    given = parser.parse_args()
    study = read_study(given.study)
    outcomes = {
        path.removed: of for (role, path), of in study.outcomes.items() if role == "held-out"
    }
    source = np.random.default_rng(0)
    print(
        "| layers removed | set | answers that differ | gain | its 95% interval holds it "
        "| 'loses at most' is no less | Wilson's holds the accuracy |\n" + "| --- " * 7 + "|"
    )
    whole = outcomes[()]
    for removed, shallower in outcomes.items():
        if not removed:
            continue
        pairs = [(whole[one].score > 0.5, shallower[one].score > 0.5) for one in whole]
        shares = np.array(
            [np.mean([pair == kind for pair in pairs]) for kind in KINDS], dtype=np.float64
        )
        gain, accuracy = shares[0] - shares[1], shares[0] + shares[2]
        for size in given.sizes:
            drawn = source.multinomial(size, shares, given.draws).tolist()
            found = [bounds(mended, broken, size) for mended, broken, _, _ in drawn]
            alone = [right(mended + kept, size) for mended, _, kept, _ in drawn]
            print(
                f"| {len(removed)} | {size} of {len(pairs)} | {size * (shares[0] + shares[1]):.1f} "
                f"| {100 * gain:+.1f} "
                f"| {share(low <= gain <= high for (low, high), _ in found)} "
                f"| {share(-most <= gain for _, most in found)} "
                f"| {share(low <= accuracy <= high for low, high in alone)} |"
            )


KINDS = ((False, True), (True, False), (True, True), (False, False))


@functools.cache
def bounds(mended: int, broken: int, size: int) -> tuple[tuple[float, float], float]:
    """The interval of a gain, and what is lost at most."""
    found = Pairs((mended - broken) / size, size, mended, broken)
    return gain_interval(found), loses_at_most(found)


@functools.cache
def right(count: int, size: int) -> tuple[float, float]:
    """Wilson's interval."""
    return wilson(count, size)


def share(hits: Iterable[bool]) -> str:
    """How many hits, in percent."""
    return f"{100 * np.mean(list(hits)):.1f}%"


if __name__ == "__main__":
    main()
