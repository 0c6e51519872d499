r"""Do the claims hold that telltale makes? Thousands of studies whose truth is known.

A study is a table: examples by layers. Example i answers right with the layers S left out when

    level + shift(S) + (g_i + sum over S of s z_il) / sqrt(1 + V(S)) > 0,

with g and z standard normal, z correlated between layers, V(S) the variance of the sum. So a path's
true accuracy is Phi(level + shift(S)) exactly, and candidates differ from each other and from the
whole model on as many examples as ``s`` makes of it, as real ones do. What is chosen and concluded
is telltale's own code (`telltale.selection`, `telltale.stats`); the greedy search, rewritten on
arrays for speed, is compared with telltale's on the first studies of every world.

    python benchmarks/simulation.py --studies 20000 --out simulation.json
    python benchmarks/simulation.py --out simulation.json --table
"""

from __future__ import annotations

import argparse
import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from telltale.evidence import Comparison
from telltale.files import write_json
from telltale.measure import Batch, ChoiceOutcome, Measurement, Outcome
from telltale.paths import LayerPath
from telltale.searches import GreedyRemoval, Removal, Round
from telltale.selection import confirmed_best, fastest_safe
from telltale.stats import Interval, Pairs, gain_interval, loses_at_most, wilson

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

LAYERS = 32
DEPTH = 8
MAX_LOSS = 0.03
TOLERANCE = 0.08
CORRELATION = 0.2  # of what two layers' absence does to the same example
SHARPNESS = 1.0  # nats of log-odds that a margin of one standard deviation is worth
CHECKED = 5  # studies of every world in which telltale's own search is run too


@dataclass(frozen=True)
class World:
    """What is true: how well the whole model does, and what leaving out each layer does.

    ``shifts`` are by layer, in standard deviations of an example's margin. Where ``at_once`` is
    given, any shallower model is shifted by it, and ``shifts`` by nothing more.
    """

    name: str
    level: float
    spread: float
    shifts: tuple[float, ...] = (0.0,) * LAYERS
    at_once: float = 0.0

    def shift(self, removed: Sequence[int]) -> float:
        """What leaving these layers out adds to every margin."""
        return sum(self.shifts[layer] for layer in removed) + (self.at_once if removed else 0.0)

    def accuracy(self, removed: Sequence[int]) -> float:
        """The true accuracy of a path."""
        return normal(self.level + self.shift(removed))

    def variance(self, count: int) -> float:
        """That of what so many layers' absence does to an example."""
        return self.spread**2 * (count * (1 - CORRELATION) + count**2 * CORRELATION)


@dataclass(frozen=True)
class Sample:
    """Some examples: their own margins, (examples,), and the effects of layers, (examples, 32)."""

    own: NDArray[Any]
    effects: NDArray[Any]

    def margins(self, world: World, removed: Sequence[int]) -> NDArray[Any]:
        """Every example's margin on a path, (examples,)."""
        total = self.own + self.effects[:, list(removed)].sum(axis=1)
        scale = math.sqrt(1 + world.variance(len(removed)))
        return np.asarray(
            np.float32(world.level + world.shift(removed)) + total / np.float32(scale)
        )


def normal(value: float) -> float:
    """The standard normal distribution's share below a value."""
    return 0.5 * (1 + math.erf(value / math.sqrt(2)))


def quantile(share: float) -> float:
    """Its inverse."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(share)


def sampled(world: World, size: int, source: np.random.Generator) -> Sample:
    """Draw examples."""
    drawn = source.standard_normal((size, LAYERS + 2), dtype=np.float32)
    together = drawn[:, :1] * np.float32(math.sqrt(CORRELATION))
    apart = drawn[:, 2:] * np.float32(math.sqrt(1 - CORRELATION))
    return Sample(drawn[:, 1].copy(), np.float32(world.spread) * (together + apart))


def values_of(margins: NDArray[Any], objective: str) -> NDArray[Any]:
    """Each example's worth: its score, or the log-probability of the right of two choices."""
    if objective == "accuracy":
        return np.asarray(margins > 0, dtype=np.float64)
    return np.asarray(-np.log1p(np.exp(np.float32(-SHARPNESS) * margins)))


def searched(world: World, sample: Sample, objective: str) -> Removal:
    """Greedy removal, as `telltale.searches.GreedyRemoval` does it, on arrays."""
    whole = sample.margins(world, [])
    baseline = float((whole > 0).mean())
    removed: list[int] = []
    rounds: list[Round] = []
    total = sample.own.copy()
    for _ in range(DEPTH):
        left = [layer for layer in range(LAYERS) if layer not in removed]
        scale = math.sqrt(1 + world.variance(len(removed) + 1))
        shifts = [world.level + world.shift([*removed, layer]) for layer in left]
        margins = (total[:, None] + sample.effects[:, left]) / np.float32(scale)
        margins += np.array(shifts, dtype=np.float32)
        accuracies = (margins > 0).mean(axis=0)
        values = values_of(margins, objective).mean(axis=0, dtype=np.float64)
        may = accuracies >= baseline - TOLERANCE - 1e-9
        best = int(np.argmax(np.where(may, values, -np.inf) if may.any() else values))
        candidates = {left[best]: float(accuracies[best])}
        rounds.append(
            Round(left[best], bool(may.any()), candidates, {left[best]: float(values[best])})
        )
        if not may.any():
            break
        removed.append(left[best])
        total += sample.effects[:, left[best]]
    value = float(values_of(whole, objective).mean())
    return Removal(LayerPath.whole(LAYERS), baseline, value, tuple(rounds))


def by_telltale(world: World, sample: Sample, objective: str) -> Removal:
    """The same by telltale's own search, example by example."""

    def measure(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
        for batch in batches:
            for path in paths:
                margins = sample.margins(world, path.removed)
                outcomes = tuple(
                    Outcome(i, (ChoiceOutcome(float(margins[i]), 1, 1, 1),), 0, float(margin > 0))
                    for i, margin in enumerate(margins)
                )
                yield Measurement(batch, path, outcomes)

    def value(outcome: Outcome) -> float:
        margin = np.array([outcome.choices[0].loglik])
        return float(values_of(margin, objective)[0])

    search = GreedyRemoval(TOLERANCE, DEPTH, value=value)
    everything = Batch(tuple(range(len(sample.own))))
    return search(measure, [everything], LayerPath.whole(LAYERS))


@functools.cache
def bounds(mended: int, broken: int, total: int) -> tuple[Interval, float]:
    """The interval of a gain, and what is lost at most."""
    found = Pairs((mended - broken) / total, total, mended + broken, 1.0, mended, broken)
    return gain_interval(found), loses_at_most(found)


def compared(whole: NDArray[Any], shallower: NDArray[Any]) -> Comparison:
    """A model against the whole one on held-out examples."""
    total, right = len(whole), int(shallower.sum())
    mended = int((shallower & ~whole).sum())
    broken = int((whole & ~shallower).sum())
    interval, most = bounds(mended, broken, total)
    gain = (mended - broken) / total
    return Comparison(
        right / total,
        wilson(right, total),
        gain,
        interval,
        most,
        total,
        {"changed": mended + broken},
    )


def study(
    world: World,
    objective: str,
    sizes: tuple[int, int],
    source: np.random.Generator,
    *,
    check: bool,
) -> dict[str, Any]:
    """One study: what it claims, and what is true."""
    sample = sampled(world, sizes[0], source)
    removal = searched(world, sample, objective)
    if check:
        theirs = by_telltale(world, sample, objective)
        assert [one.removed for one in theirs.kept] == [one.removed for one in removal.kept]
    unseen = sampled(world, sizes[1], source)
    right = {model.path: unseen.margins(world, model.removed) > 0 for model in removal.kept}
    whole = right[removal.start]
    held_out = {path: compared(whole, scores) for path, scores in right.items()}
    best = removal.best
    truth = {model.path: world.accuracy(model.removed) for model in removal.kept}
    gain = truth[best.path] - truth[removal.start]
    comparison = held_out[best.path]
    safe = fastest_safe(removal.kept, held_out, MAX_LOSS)
    lowest = [
        one.gain_interval.low <= truth[path] - truth[removal.start] <= one.gain_interval.high
        for path, one in held_out.items()
        if path != removal.start
    ]
    return {
        "removed": len(best.removed),
        "claimed": best.accuracy - removal.baseline,
        "gain": gain,
        "held_out_gain": comparison.gain if best.removed else 0.0,
        "covered": comparison.gain_interval.low <= gain <= comparison.gain_interval.high,
        "changed": comparison.counts["changed"],
        "path_covered": lowest,
        "confirmed": bool(best.removed) and confirmed_best(removal, held_out) is not None,
        "safe_depth": 0 if safe is None else len(safe.removed),
        "safe_loss": 0.0 if safe is None else truth[removal.start] - truth[safe.path],
    }


def worlds() -> dict[str, World]:
    """What is tried."""
    source = np.random.default_rng(7)
    level = quantile(0.65)
    harmful = np.zeros(LAYERS)
    harmful[[3, 9, 17, 26]] = quantile(0.67) - level
    needed = np.zeros(LAYERS)
    needed[:] = -np.abs(source.normal(0.03, 0.03, LAYERS))
    mixed = -np.abs(source.normal(0.06, 0.05, LAYERS))
    mixed[[3, 9, 17, 26]] = quantile(0.67) - level
    edge = quantile(0.65 - MAX_LOSS - 0.0005) - level
    return {
        one.name: one
        for one in (
            World("no layer matters", level, 0.35),
            World("no layer matters, few answers change", level, 0.05),
            World("four layers harm, the rest do not matter", level, 0.35, tuple(harmful)),
            World("four layers harm, the rest are needed", level, 0.35, tuple(mixed)),
            World("every layer is needed a little", level, 0.35, tuple(needed)),
            World("any shallower model loses 3.05 points", level, 0.35, at_once=edge),
        )
    }


def run(studies: int, out: Path) -> None:
    """Simulate what is missing in the file."""
    known = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    for world in worlds().values():
        for objective in ("accuracy", "likelihood"):
            for size in (150, 500):
                name = f"{world.name}; {objective}; {size}"
                if known.get(name, {}).get("studies", 0) >= studies:
                    continue
                source = np.random.default_rng([size, len(name)])
                found = [
                    study(world, objective, (size, size), source, check=number < CHECKED)
                    for number in range(studies)
                ]
                known[name] = summary(found)
                write_json(out, known)
                print(name, known[name], flush=True)


def summary(found: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What many studies say together; gains and losses in points."""
    searching = [one for one in found if one["removed"]]

    def mean(name: str, of: Sequence[dict[str, Any]] = found) -> float:
        return float(np.mean([one[name] for one in of])) if of else math.nan

    return {
        "studies": len(found),
        "removed": mean("removed"),
        "claimed": 100 * mean("claimed"),
        "gain": 100 * mean("gain"),
        "bias": 100 * float(np.mean([one["held_out_gain"] - one["gain"] for one in found])),
        "covered": mean("covered", searching),
        "path_covered": float(np.mean([hit for one in found for hit in one["path_covered"]])),
        "changed": mean("changed", searching),
        "confirmed": mean("confirmed"),
        "confirmed_wrongly": float(
            np.mean([one["confirmed"] and one["gain"] <= 0 for one in found])
        ),
        "confirmed_gain": 100 * float(np.mean([one["confirmed"] * one["gain"] for one in found])),
        "safe_depth": mean("safe_depth"),
        "safe_wrongly": float(np.mean([one["safe_loss"] > MAX_LOSS for one in found])),
    }


def table(found: dict[str, dict[str, float]]) -> str:
    """Markdown."""
    lines = [
        "| world; objective; examples to search by, and held out | BEST claims | true gain "
        "| bias of the held-out gain | intervals that hold the truth | answers that differ "
        "| gain said to be shown: in all, wrongly | fastest safe: layers, wrongly |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {one['claimed']:+.2f} | {one['gain']:+.2f} | {one['bias']:+.2f} "
        f"| {100 * one['covered']:.1f}% | {one['changed']:.0f} "
        f"| {100 * one['confirmed']:.1f}%, {100 * one['confirmed_wrongly']:.1f}% "
        f"| {one['safe_depth']:.1f}, {100 * one['safe_wrongly']:.1f}% |"
        for name, one in found.items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Simulate, or print what was simulated."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=20000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="Print the file; simulate nothing.")
    given = parser.parse_args()
    if given.table:
        print(table(json.loads(given.out.read_text(encoding="utf-8"))))
    else:
        run(given.studies, given.out)


if __name__ == "__main__":
    main()
