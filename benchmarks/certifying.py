r"""Which procedure certifies the deepest models, at a false rate of at most 5%?

Every procedure is given the same p-values, one for each model of a path, of its losing three points
or more. They differ in which model is asked about first and in what is done with the chance of
error of 5%. Two kinds of studies, whose truth is known:

- *simulated*: those of `simulation.py`;
- *recorded*: the eight pairs of `objectives.py`. The 400 held-out examples are taken for all there
  is, and held-out sets of 400 are drawn from them, with repeats; the search set's outcomes, which
  `recorded.py` measured again, set the order.

    python benchmarks/certifying.py simulated --studies 2000
    python benchmarks/certifying.py recorded --figures benchmarks/figures/objectives.json \
        --outcomes benchmarks/figures/recorded --draws 4000
"""

from __future__ import annotations

import argparse
import functools
import gzip
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import simulation
from scipy.special import gammaln, xlogy

from telltale.evidence import exact
from telltale.evidence.selection import passed_on, shares
from telltale.evidence.stats import loses_at_most, pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

ALPHA = 0.05
MAX_LOSS = 0.03


@functools.cache
def p_values(total: int) -> NDArray[Any]:
    """`exact.p_value` of losing three points, for all counts of mended and broken."""
    mended, broken = (
        one.ravel() for one in np.meshgrid(*[np.arange(total + 1)] * 2, indexing="ij")
    )
    possible = mended + broken <= total
    mended, broken = mended[possible], broken[possible]
    seen = exact.statistic(mended, broken, total, -MAX_LOSS)
    order = np.argsort(-seen, kind="stable")
    mended, broken, seen = mended[order], broken[order], seen[order]
    last = np.searchsorted(-seen, -(seen - exact.TIE), side="right") - 1  # of those as good
    ways = gammaln(total + 1) - gammaln(mended + 1) - gammaln(broken + 1)
    ways = ways - gammaln(total - mended - broken + 1)
    found = np.zeros(len(seen))
    for step in np.linspace(0, np.pi, 300):
        share = MAX_LOSS + ((1 + MAX_LOSS) / 2 - MAX_LOSS) * (1 - np.cos(step)) / 2
        of_mended, rest = share - MAX_LOSS, max(1 - 2 * share + MAX_LOSS, 0.0)
        chances = xlogy(mended, of_mended) + xlogy(broken, share)
        chances = chances + xlogy(total - mended - broken, rest)
        found = np.maximum(found, np.cumsum(np.exp(ways + chances))[last])
    table = np.ones((total + 1, total + 1))
    table[mended, broken] = found
    return table


def until_one_fails(p_values: Sequence[float]) -> list[float]:
    """Fixed-sequence testing: each at the whole level, until the first that fails."""
    failed = next((i for i, p in enumerate(p_values) if p > ALPHA), len(p_values))
    return [ALPHA] * failed + [0.0] * (len(p_values) - failed)


def in_parts(first: float | None = None, ratio: float = 1.0) -> Callable[..., list[float]]:
    """The level in parts, passed on by those certified: the first's, or a geometric series."""

    def levels(p_values: Sequence[float]) -> list[float]:
        count = len(p_values)
        parts = [ratio**i for i in range(count)]
        if first is not None and count > 1:
            parts = [first * (count - 1) / (1 - first)] + [1.0] * (count - 1)
        return passed_on(p_values, [part / sum(parts) for part in parts], ALPHA)

    return levels


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down test, which knows no order."""
    levels = [0.0] * len(p_values)
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        levels[index] = ALPHA / (len(p_values) - rank)
        if p_values[index] > levels[index]:
            break
    return levels


def chosen(p_values: Sequence[float]) -> list[float]:
    """What telltale does."""
    return passed_on(p_values, shares(len(p_values)), ALPHA)


PROCEDURES: Mapping[str, Callable[[Sequence[float]], list[float]]] = {
    "until one fails": until_one_fails,
    "Holm": holm,
    "equal parts": in_parts(),
    "halves": in_parts(ratio=0.5),
    "first 50%": in_parts(first=0.5),
    "first 80%": in_parts(first=0.8),
    "first 90%": in_parts(first=0.9),
    "telltale": chosen,
}
# What is known of each model: by what to order them, in this order.
ORDERS = ("objective", "search bound", "depth")


@dataclass(frozen=True)
class Case:
    """A study's shallower models, by depth: how to order them, their p-values, what they lose."""

    orders: Mapping[str, Sequence[float]]
    p_values: Sequence[float]
    losses: Sequence[float]


def told(kind: str, cases: Iterator[Case]) -> dict[tuple[str, str], NDArray[Any]]:
    """For each order and procedure: the mean depth, how often wrong, how often any; of one kind."""
    found: dict[tuple[str, str], list[tuple[int, bool, bool]]] = defaultdict(list)
    for case in cases:
        depths = range(len(case.p_values))
        for order in ORDERS:
            asked = sorted(depths, key=lambda i, by=case.orders[order]: (by[i], -i))  # type: ignore[misc]
            p_values = [case.p_values[i] for i in asked]
            for name, procedure in PROCEDURES.items():
                levels = procedure(p_values)
                safe = [
                    i for i, p, level in zip(asked, p_values, levels, strict=True) if p <= level
                ]
                wrong = any(case.losses[i] >= MAX_LOSS for i in safe)
                found[order, name].append((max(safe, default=-1) + 1, wrong, bool(safe)))
    means = {key: np.mean(rows, axis=0) for key, rows in found.items()}
    for (order, name), (depth, wrong, some) in means.items():
        if name == "telltale":
            print(
                f"  {kind}, {order}: depth {depth:.2f}, wrong {wrong:.1%}, any {some:.1%}",
                flush=True,
            )
    return means


def table(kinds: Mapping[str, Mapping[tuple[str, str], NDArray[Any]]]) -> str:
    """Markdown: a row for each order and procedure, over all kinds of studies."""
    lines = [
        "| first asked about | level | layers certified, mean | a study that certifies any "
        "| one that certifies wrongly: mean, worst kind |",
        "| --- | --- | --- | --- | --- |",
    ]
    keys = next(iter(kinds.values()))
    for order, name in keys:
        rows = np.array([of[order, name] for of in kinds.values()])
        depth, wrong, some = rows.mean(axis=0)
        lines.append(
            f"| by {order} | {name} | {depth:.2f} | {some:.1%} | {wrong:.1%}, "
            f"{rows[:, 1].max():.1%} |"
        )
    return "\n".join(lines)


def simulated(studies: int) -> dict[str, dict[tuple[str, str], NDArray[Any]]]:
    """Every world, both objectives, three pairs of sizes."""
    kinds = {}
    usual = [world for world in simulation.worlds().values() if not world.lost]
    for world in usual:
        for objective in ("accuracy", "likelihood"):
            for sizes in ((150, 150), (150, 400), (500, 500)):
                kind = f"{world.name}; {objective}; {sizes[0]}, {sizes[1]}"
                source = np.random.default_rng([*sizes, len(kind)])
                cases = (simulated_case(world, objective, sizes, source) for _ in range(studies))
                kinds[kind] = told(kind, cases)
    return kinds


def simulated_case(
    world: simulation.World,
    objective: str,
    sizes: tuple[int, int],
    source: np.random.Generator,
) -> Case:
    """One study."""
    scored = simulation.RIGHT_OR_WRONG
    sample = simulation.sampled(world, sizes[0], source)
    removal = simulation.searched(world, sample, objective, scored)
    kept = [model for model in removal.kept if model.removed]
    unseen = simulation.sampled(world, sizes[1], source)
    seen, held_out = (
        [changes(of.margins(world, []) > 0, of.margins(world, model.removed) > 0) for model in kept]
        for of in (sample, unseen)
    )
    truth = world.truth([], scored)
    return Case(
        {
            "objective": [-model.value for model in kept],
            "search bound": [float(simulation.scores_bounds(sizes[0])[one]) for one in seen],
            "depth": [len(model.removed) for model in kept],
        },
        [float(p_values(sizes[1])[one]) for one in held_out],
        [truth - world.truth(model.removed, scored) for model in kept],
    )


def changes(whole: NDArray[Any], shallower: NDArray[Any]) -> tuple[int, int]:
    """How many answers are mended, and how many broken."""
    return int((shallower & ~whole).sum()), int((whole & ~shallower).sum())


def recorded(
    figures: Path, outcomes: Path, draws: int
) -> dict[str, dict[tuple[str, str], NDArray[Any]]]:
    """Every pair whose search set was measured again, by each objective."""
    kinds = {}
    for key, pair in json.loads(figures.read_text(encoding="utf-8"))["pairs"].items():
        file = outcomes / f"{key.replace(':', '-').replace(' ', '.')}.search.json.gz"
        if not file.exists():
            print(f"{key}: the search set's outcomes are not there", flush=True)
            continue
        search = json.loads(gzip.decompress(file.read_bytes()))
        for objective, found in pair["objectives"].items():
            kind = f"{key}; {objective}"
            kinds[kind] = told(kind, recorded_cases(search, found, objective, draws))
    return kinds


def recorded_cases(
    search: Mapping[str, Any], found: Mapping[str, Any], objective: str, draws: int
) -> Iterator[Case]:
    """Held-out sets drawn from a pair's 400 examples, for the path by one objective."""
    models = {tuple(model["removed"]): model for model in search["models"]}
    paths = [tuple(sorted(found["removed"][:depth])) for depth in range(len(found["removed"]) + 1)]
    right = search["right"]
    scores = [
        [float(a == r) for a, r in zip(models[path]["answers"], right, strict=True)]
        for path in paths
    ]
    accuracies = [sum(of) / len(of) for of in scores]
    # As a search does: what falls below the tolerance ends the path.
    kept = next(
        (i for i, one in enumerate(accuracies) if one < accuracies[0] - 0.08 - 1e-9), len(paths)
    )
    values = [
        sum(value(objective, *one) for one in zip(models[path]["logliks"], right, strict=True))
        for path in paths
    ]
    orders: dict[str, Sequence[float]] = {
        "objective": [-one for one in values[1:kept]],
        "search bound": [
            loses_at_most(pairs(scores[0], of, search["clusters"])) for of in scores[1:kept]
        ],
        "depth": list(range(1, kept)),
    }
    held_out = np.array([[int(c) for c in of] for of in found["held_out_scores"]], dtype=np.int8)
    gains = held_out[1:kept] - held_out[0]
    source = np.random.default_rng(len(found["held_out_scores"][0]))
    total = held_out.shape[1]
    for _ in range(draws):
        drawn = gains[:, source.integers(0, total, total)]
        mended, broken = (drawn > 0).sum(axis=1), (drawn < 0).sum(axis=1)
        yield Case(
            orders,
            p_values(total)[mended, broken].tolist(),
            list(-gains.mean(axis=1)),
        )


def value(objective: str, logliks: Sequence[float], right: int) -> float:
    """An example's worth."""
    top = max(logliks)
    if objective == "accuracy":
        return float(logliks.index(top) == right)
    if objective == "margin":
        return logliks[right] - max(one for i, one in enumerate(logliks) if i != right)
    return float(logliks[right] - top - np.log(np.exp(np.array(logliks) - top).sum()))


def main() -> None:
    """Print a line for each kind of study, and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("simulated")
    made.add_argument("--studies", type=int, default=2000)
    real = commands.add_parser("recorded")
    real.add_argument("--figures", type=Path, required=True)
    real.add_argument("--outcomes", type=Path, required=True)
    real.add_argument("--draws", type=int, default=4000)
    given = parser.parse_args()
    if given.command == "simulated":
        kinds = simulated(given.studies)
    else:
        kinds = recorded(given.figures, given.outcomes, given.draws)
    print(table({kind: of for kind, of in kinds.items() if of}))


if __name__ == "__main__":
    main()
