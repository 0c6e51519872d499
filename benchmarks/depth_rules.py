r"""Which depth of a greedy path truly gains most? Rules that see the search set alone, compared.

A path is removed layer by layer to a fixed depth. A rule sees every model's scores and values on
the search set and says which one to take. What that model truly gains over the whole one is known
in two ways: on the held-out sets of the recorded pairs (`objectives.py`, `recorded.py`), and in
simulated studies whose truth is known (`simulation.py`). Nothing is measured on a model here. What
takes more searches than one (a depth that is cross-fitted, swaps that a second half judges) is
simulated alone, since no recorded pair has them.

    python benchmarks/depth_rules.py --figures benchmarks/figures --studies 2000 --out rules.json
    python benchmarks/depth_rules.py --out rules.json --table

The recorded pairs choose a rule and so cannot confirm it.
"""

from __future__ import annotations

import argparse
import gzip
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from simulation import (
    DEPTH,
    LAYERS,
    RIGHT_OR_WRONG,
    Sample,
    World,
    sampled,
    searched,
    values_of,
    worlds,
)

from telltale.support.files import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

OBJECTIVES = ("accuracy", "likelihood")
SIZES = (150, 600)
LEAST = 1e-6  # of a right choice's probability, as the objective likelihood has it
CLIPPED = 0.1


class Seen(NamedTuple):
    """What a rule sees: (models of the path, examples) each, the whole model first."""

    scores: NDArray[Any]
    likelihood: NDArray[Any]

    @property
    def clipped(self) -> NDArray[Any]:
        """The log-likelihood, no example of which is worth less than a tenth's."""
        return np.asarray(np.maximum(self.likelihood, np.log(CLIPPED)))

    @property
    def probability(self) -> NDArray[Any]:
        """Of the right choice."""
        return np.asarray(np.exp(self.likelihood))


def highest(values: NDArray[Any]) -> int:
    """The highest mean, of equals the fewest layers removed."""
    return int(np.argmax(np.round(values.mean(axis=1), 12)))


def paired_error(differences: NDArray[Any]) -> float:
    """The standard error of a mean difference of the same examples."""
    return float(differences.std(ddof=1) / np.sqrt(len(differences)))


def within_errors(values: NDArray[Any], errors: float) -> int:
    """The fewest layers removed, of those within so many paired standard errors of the highest."""
    best = highest(values)
    for depth in range(best):
        behind = values[best] - values[depth]
        if behind.mean() <= errors * paired_error(behind) + 1e-12:
            return depth
    return best


def less_errors(values: NDArray[Any], errors: float) -> int:
    """The highest gain over the whole model less so many of its paired standard errors."""
    gains = [one - values[0] for one in values[1:]]
    bounds = [0.0, *(gain.mean() - errors * paired_error(gain) for gain in gains)]
    return int(np.argmax(np.round(bounds, 12)))


RULES: dict[str, Callable[[Seen], int]] = {
    "BEST: highest accuracy": lambda seen: highest(seen.scores),
    "fewest removed within 0.5 errors of BEST": lambda seen: within_errors(seen.scores, 0.5),
    "fewest removed within 1 error of BEST": lambda seen: within_errors(seen.scores, 1.0),
    "accuracy gained less 1 error": lambda seen: less_errors(seen.scores, 1.0),
    "highest likelihood": lambda seen: highest(seen.likelihood),
    "fewest removed within 1 error, likelihood": lambda seen: within_errors(seen.likelihood, 1.0),
    "likelihood gained less 1 error": lambda seen: less_errors(seen.likelihood, 1.0),
    "highest likelihood, clipped": lambda seen: highest(seen.clipped),
    "fewest removed within 1 error, clipped": lambda seen: within_errors(seen.clipped, 1.0),
    "highest probability": lambda seen: highest(seen.probability),
}


def cross_fitted(world: World, sample: Sample, objective: str, folds: int) -> tuple[int, ...]:
    """The depth at which searches by all folds but one gain most on that one, of the whole path.

    A path that ends before a depth stays at its last model there.
    """
    count = len(sample.own)
    fold_of = np.arange(count) % folds  # examples are in no order
    gains = np.zeros(DEPTH + 1)
    for fold in range(folds):
        kept = searched(world, part_of(sample, fold_of != fold), objective, RIGHT_OR_WRONG).kept
        judge = part_of(sample, fold_of == fold)
        scores = [RIGHT_OR_WRONG(judge.margins(world, one.removed)).sum() for one in kept]
        scores += scores[-1:] * (DEPTH + 1 - len(scores))
        gains += np.array(scores) / count
    kept = searched(world, sample, objective, RIGHT_OR_WRONG).kept
    return kept[min(int(np.argmax(np.round(gains, 12))), len(kept) - 1)].removed


def swapped(world: World, sample: Sample, objective: str) -> tuple[int, ...]:
    """BEST, with layers swapped as long as the best swap by one half gains on the other half too.

    The halves take turns.
    """
    kept = searched(world, sample, objective, RIGHT_OR_WRONG).kept
    scores = np.array([RIGHT_OR_WRONG(sample.margins(world, one.removed)) for one in kept])
    removed = kept[highest(scores)].removed
    first = np.arange(len(sample.own)) % 2 == 0
    halves = [part_of(sample, first), part_of(sample, ~first)]

    def value(half: Sample, layers: tuple[int, ...]) -> float:
        found = values_of(half.margins(world, layers), objective, RIGHT_OR_WRONG)
        return float(found.mean(dtype=np.float64))

    refused = 0
    while removed and refused < len(halves):
        proposes, judges = halves
        swaps = [
            tuple(sorted({*removed, come} - {back}))
            for back in removed
            for come in set(range(LAYERS)).difference(removed)
        ]
        best = max(swaps, key=lambda layers: value(proposes, layers))
        gains = all(value(half, best) > value(half, removed) for half in halves)
        removed, refused = (best, 0) if gains else (removed, refused + 1)
        halves = [judges, proposes]
    return removed


def part_of(sample: Sample, which: NDArray[Any]) -> Sample:
    """Some of the examples, which are in no clusters."""
    return Sample(
        sample.own[which], sample.labels[which], sample.effects[which], sample.lost[which], None
    )


# What takes more searches than one: from what is true and a sample to the layers removed.
PROCEDURES: dict[str, Callable[[World, Sample, str], tuple[int, ...]]] = {
    "depth cross-fitted in 2": partial(cross_fitted, folds=2),
    "depth cross-fitted in 5": partial(cross_fitted, folds=5),
    "BEST, swaps judged by a second half": swapped,
}


def main() -> None:
    """Compare the rules, or print what is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="Print the figures; compute nothing.")
    parser.add_argument("--figures", type=Path, help="Where objectives.json and recorded/ are.")
    parser.add_argument("--studies", type=int, default=2000)
    given = parser.parse_args()
    if not given.table:
        found = {
            "recorded": list(on_recorded(given.figures)),
            "simulated": list(on_simulated(given.studies)),
        }
        write_json(given.out, found)
    print("\n".join(tables(json.loads(given.out.read_text(encoding="utf-8")))))


def on_recorded(figures: Path) -> Iterator[dict[str, Any]]:
    """What each rule takes of each recorded path, and gains on the held-out set."""
    pairs = json.loads((figures / "objectives.json").read_text(encoding="utf-8"))["pairs"]
    for key, pair in pairs.items():
        name = key.replace(":", "-").replace(" ", ".")
        with gzip.open(figures / "recorded" / f"{name}.search.json.gz", "rt") as file:
            record = json.load(file)
        models = {tuple(sorted(one["removed"])): one for one in record["models"]}
        for objective in OBJECTIVES:
            path = pair["objectives"][objective]
            along = [
                models[tuple(sorted(path["removed"][:depth]))]
                for depth in range(len(path["removed"]) + 1)
            ]
            seen = seen_of(along, record["right"])
            held_out = path["held_out_accuracy"]
            depths = {rule: choose(seen) for rule, choose in RULES.items()}
            yield {
                "pair": key,
                "objective": objective,
                "depths": depths,
                "gains": {rule: held_out[depth] - held_out[0] for rule, depth in depths.items()},
                "best_in_hindsight": max(held_out) - held_out[0],
            }


def seen_of(models: list[dict[str, Any]], right: list[int]) -> Seen:
    """What a recorded path's models scored, and what the right choice's likelihood was."""
    likelihood = [
        [
            one[index] - np.logaddexp.reduce(one)
            for one, index in zip(model["logliks"], right, strict=True)
        ]
        for model in models
    ]
    scores = [
        [float(a == b) for a, b in zip(model["answers"], right, strict=True)] for model in models
    ]
    return Seen(np.array(scores), np.maximum(np.array(likelihood), np.log(LEAST)))


def on_simulated(studies: int) -> Iterator[dict[str, Any]]:
    """What each rule truly gains, in the mean of many studies."""
    for world in worlds().values():
        for objective in OBJECTIVES:
            for size in SIZES:
                source = np.random.default_rng([size, len(world.name), len(objective)])
                ways = (*RULES, *PROCEDURES)
                depths: dict[str, list[int]] = {way: [] for way in ways}
                gains: dict[str, list[float]] = {way: [] for way in ways}
                for _ in range(studies):
                    sample = sampled(world, size, source)
                    kept = searched(world, sample, objective, RIGHT_OR_WRONG).kept
                    margins = [sample.margins(world, model.removed) for model in kept]
                    seen = Seen(
                        np.array([RIGHT_OR_WRONG(one) for one in margins]),
                        np.array([values_of(one, "likelihood", RIGHT_OR_WRONG) for one in margins]),
                    )
                    taken = {rule: kept[choose(seen)].removed for rule, choose in RULES.items()}
                    taken |= {
                        name: find(world, sample, objective) for name, find in PROCEDURES.items()
                    }
                    for way, removed in taken.items():
                        depths[way].append(len(removed))
                        gains[way].append(
                            world.truth(removed, RIGHT_OR_WRONG) - world.truth((), RIGHT_OR_WRONG)
                        )
                yield {
                    "world": world.name,
                    "objective": objective,
                    "examples": size,
                    "studies": studies,
                    "depths": {way: float(np.mean(all_)) for way, all_ in depths.items()},
                    "gains": {way: float(np.mean(all_)) for way, all_ in gains.items()},
                }


def tables(found: dict[str, Any]) -> Iterator[str]:
    """The figures, in points and layers, as Markdown."""
    for objective in OBJECTIVES:
        paths = [one for one in found["recorded"] if one["objective"] == objective]
        hindsight = 100 * np.mean([one["best_in_hindsight"] for one in paths])
        yield f"\n{len(paths)} recorded paths by {objective}; the best depths: {hindsight:+.1f}\n"
        yield "| rule | gains, points | against BEST (pairs better, worse) | layers removed |"
        yield "| --- | --- | --- | --- |"
        first = next(iter(RULES))
        for rule in RULES:
            beside = np.array([100 * (one["gains"][rule] - one["gains"][first]) for one in paths])
            yield (
                f"| {rule} | {100 * np.mean([one['gains'][rule] for one in paths]):+.1f} | "
                f"{beside.mean():+.1f} ({(beside > 0).sum()}, {(beside < 0).sum()}) | "
                f"{np.mean([one['depths'][rule] for one in paths]):.1f} |"
            )
    for size in SIZES:
        rows = [one for one in found["simulated"] if one["examples"] == size]
        yield f"\nSimulated, {size} examples; true gain in points (layers removed)\n"
        ways = list(rows[0]["gains"])
        yield "| world, objective | " + " | ".join(ways) + " |"
        yield "| --- |" + " --- |" * len(ways)
        for one in rows:
            cells = (f"{100 * one['gains'][r]:+.1f} ({one['depths'][r]:.1f})" for r in ways)
            yield f"| {one['world']}, {one['objective']} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
