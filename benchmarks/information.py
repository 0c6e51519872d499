r"""Are the estimates of information right where the truth is known?

States are made whose information of the answer is computed beforehand. Of each world and size: the
true bits, the probe and the neighbours with their 95% intervals (means over repeats), how often
one exceeds the truth by more than its interval, the null, and what the same probe claims with C = 1
where it is scored on the examples that it was fitted to.

    OMP_NUM_THREADS=1 python benchmarks/information.py
    OMP_NUM_THREADS=1 python benchmarks/information.py changes
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from telltale.information import change, estimate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

DRAWS = 400_000  # for the true bits; their standard error is below 0.002
AMBIENT = 0.1  # standard deviation of what lies around states that fill few directions


@dataclass(frozen=True)
class World:
    """Answers, and latent states with unit Gaussian noise around one of several centres.

    ``centres`` is (answers, centres of each, latent dimensions); all are equally frequent.
    ``fills`` says whether the other dimensions have as much noise as the latent ones. Otherwise the
    states lie along few directions. Without noise, the latent state is the centre.
    """

    name: str
    centres: NDArray[Any]
    fills: bool = True
    noise: float = 1.0

    def drawn(self, examples: int, source: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Latent states, (examples, latent dimensions), and answers."""
        answers = source.integers(len(self.centres), size=examples)
        which = source.integers(self.centres.shape[1], size=examples)
        latent = self.centres[answers, which]
        return latent + self.noise * source.standard_normal(latent.shape), answers

    def states(
        self, examples: int, width: int, source: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """States, (examples, width), turned at random, and answers."""
        latent, answers = self.drawn(examples, source)
        dimensions = latent.shape[1]
        turn, _ = np.linalg.qr(source.standard_normal((width, dimensions)))
        around = source.standard_normal((examples, width)) * (1.0 if self.fills else AMBIENT)
        if self.fills:  # noise in all directions alike, but for the latent ones, which have theirs
            around -= (around @ turn) @ turn.T
        return latent @ turn.T + around, answers

    def bits(self) -> float:
        """The true information, by drawing from the world itself."""
        if not self.noise:
            return float(np.log2(len(self.centres)))
        noise = self.noise**2 + (0.0 if self.fills else AMBIENT**2)
        source = np.random.default_rng(0)
        latent, answers = World("", self.centres, noise=noise**0.5).drawn(DRAWS, source)
        squares = ((latent[:, None, None] - self.centres) ** 2).sum(axis=-1)
        likelihoods = np.exp(-squares / (2 * noise)).sum(axis=-1)
        posterior = likelihoods[np.arange(DRAWS), answers] / likelihoods.sum(axis=1)
        return float(np.log2(posterior * len(self.centres)).mean())


def worlds() -> Mapping[str, World]:
    """By name."""
    source = np.random.default_rng(3)
    corners = np.array([[[1, 1], [-1, -1]], [[1, -1], [-1, 1]]])
    found = (
        World("2 Gaussian classes", np.array([[[-0.8]], [[0.8]]])),
        World("4 Gaussian classes", 1.2 * source.standard_normal((4, 1, 6))),
        World("4 Gaussian classes, few directions", 1.2 * source.standard_normal((4, 1, 6)), False),
        World("XOR, few directions", 2.0 * corners, False),
        World("noise", np.zeros((2, 1, 1))),
        World("the answer itself, one-hot", np.eye(4)[:, None], False, 0.0),
    )
    return {one.name: one for one in found}


def claimed_in_sample(states: NDArray[Any], answers: NDArray[Any]) -> float:
    """The bits of a probe with C = 1 on the examples that it was fitted to."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler().fit_transform(states)
    numbers = np.arange(len(answers))
    right = LogisticRegression(max_iter=2000).fit(scaled, answers).predict_proba(scaled)
    shares = np.bincount(answers) / len(answers)
    return float(np.log2(right[numbers, answers] / shares[answers]).mean())


class Repeat(NamedTuple):
    """One set of examples: estimates, and whether they exceed the truth by more than is said."""

    bits: Mapping[str, float]
    low: Mapping[str, float]
    high: Mapping[str, float]
    null: Mapping[str, float]
    in_sample: float


ESTIMATORS = ("probe", "neighbours")


def repeated(world: World, width: int, examples: int, repeats: int) -> Iterator[Repeat]:
    """Estimates of sets of examples, each drawn anew."""
    for repeat in range(repeats):
        source = np.random.default_rng([width, examples, repeat, len(world.name)])
        states, answers = world.states(examples, width, source)
        found = {
            name: estimate(states, answers, np.arange(examples), estimator=name, seed=repeat)
            for name in ESTIMATORS
        }
        yield Repeat(
            {name: one.bits for name, one in found.items()},
            {name: one.interval[0] for name, one in found.items()},
            {name: one.interval[1] for name, one in found.items()},
            {name: one.null for name, one in found.items()},
            claimed_in_sample(states, answers),
        )


# Width, examples, repeats.
SIZES = ((100, 200, 12), (100, 2000, 2), (576, 400, 10), (4000, 200, 10), (4000, 2000, 1))


def row(world: World, truth: float, size: tuple[int, int], repeats: list[Repeat]) -> str:
    """A line of the table."""
    cells = [world.name, f"{size[0]:,}", f"{size[1]:,}", str(len(repeats)), f"{truth:.3f}"]
    for name in ESTIMATORS:
        bits, low, high = (
            float(np.mean([getattr(one, of)[name] for one in repeats]))
            for of in ("bits", "low", "high")
        )
        above = sum(one.low[name] > truth for one in repeats)
        within = sum(one.low[name] <= truth <= one.high[name] for one in repeats)
        null = np.mean([one.null[name] for one in repeats])
        cells += [f"{bits:+.3f} ({low:+.3f} to {high:+.3f})", str(within), str(above)]
        cells += [f"{null:+.3f}"]
    cells.append(f"{np.mean([one.in_sample for one in repeats]):+.3f}")
    return f"| {' | '.join(cells)} |"


def known_truth(of: list[str]) -> None:
    """Print the table of estimates, of some worlds."""
    heads = ["states", "width", "examples", "repeats", "true bits"]
    for name in ESTIMATORS:
        heads += [f"{name} (95%)", "holds the truth", "above it", "null"]
    heads.append("in-sample, C = 1")
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}", flush=True)
    for world in (worlds()[name] for name in of):
        truth = world.bits()
        for width, examples, repeats in SIZES:
            found = list(repeated(world, width, examples, repeats))
            print(row(world, truth, (width, examples), found), flush=True)


def of_changes(repeats: int) -> None:
    """Print what is said of two states, whose true difference is known."""
    cases = {
        "the same information, new noise": (0.8, 0.8),
        "a tenth more": (0.8, 0.84),
        "half of it lost": (0.8, 0.55),
        "all of it lost": (0.8, 0.0),
    }
    print("| after the layer | estimator | true change | estimated | adds | suppresses |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, sizes in cases.items():
        before, after = (World("", np.array([[[-one]], [[one]]]), False) for one in sizes)
        truth = after.bits() - before.bits()
        for estimator in ESTIMATORS:
            found = [told(before, after, repeat, estimator) for repeat in range(repeats)]
            verdicts = Counter(one.verdict for one in found)
            bits = np.mean([one.bits for one in found])
            print(
                f"| {name} | {estimator} | {truth:+.3f} | {bits:+.3f} | "
                f"{verdicts['adds']} | {verdicts['suppresses']} of {repeats} |",
                flush=True,
            )


def told(before: World, after: World, repeat: int, estimator: str) -> Any:
    """The change between states of the same 400 answers, 100 wide."""
    examples, width = 400, 100
    clusters = np.arange(examples)
    estimates = []
    for number, world in enumerate((before, after)):
        source = np.random.default_rng([repeat, 7])  # the same answers for both
        answers = source.integers(2, size=examples)
        source = np.random.default_rng([repeat, number])
        latent = world.centres[answers, 0] + source.standard_normal((examples, 1))
        turn, _ = np.linalg.qr(source.standard_normal((width, 1)))
        states = latent @ turn.T + AMBIENT * source.standard_normal((examples, width))
        estimates.append(estimate(states, answers, clusters, estimator=estimator, seed=repeat))
    of_before, of_after = estimates
    return change(of_before, of_after, clusters)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("truth", "changes"), default="truth")
    parser.add_argument("--worlds", nargs="+", choices=list(worlds()), default=list(worlds()))
    parser.add_argument("--repeats", type=int, default=30, help="of changes")
    given = parser.parse_args()
    began = time.process_time()
    if given.what == "truth":
        known_truth(given.worlds)
    else:
        of_changes(given.repeats)
    print(f"\n{time.process_time() - began:.0f} s of CPU")


if __name__ == "__main__":
    main()
