r"""Do the claims hold that telltale makes? Thousands of studies whose truth is known.

A study is a table: examples by layers. Example i answers right with the layers S left out when

    level + shift(S) + bias(S) y_i + (g_i + sum over S of s z_il) / sqrt(1 + V(S)) > 0,

with g and z standard normal, z correlated between layers, V(S) the variance of the sum, and y_i its
label, 1 or -1. So a path's true accuracy is the mean of Phi(level + shift(S) + bias(S)) and
Phi(level + shift(S) - bias(S)) exactly, and candidates differ from each other and from the whole
model on as many examples as ``s`` makes of it, as real ones do. Examples may come in clusters,
which have a part of g and z in common; a scorer may give marks between 0 and 1. What is chosen and
concluded is telltale's own code (`telltale.evidence.selection`, `telltale.evidence.stats`); the
greedy search, rewritten on arrays for speed, is compared with telltale's on the first studies of
every row.

    python benchmarks/simulation.py --studies 10000 --out simulation.json
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

from telltale.evidence import Comparison, exact
from telltale.evidence.selection import Level, claims
from telltale.evidence.stats import Interval, Pairs, loses_at_most, one_sided, pairs, risk
from telltale.measure import Batch, ChoiceOutcome, Measurement, Outcome
from telltale.paths import LayerPath
from telltale.searches import Candidate, Found, GreedyRemoval, Round
from telltale.support.files import write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

LAYERS = 32
DEPTH = 8
MAX_LOSS = 0.03
TOLERANCE = 0.08
CORRELATION = 0.2  # of what two layers' absence does to the same example
SHARPNESS = 1.0  # nats of log-odds that a margin of one standard deviation is worth
TOGETHER = 0.3  # of an example's margin and of what layers do to it, what its cluster shares
MARKS = (-0.6, -0.2, 0.2, 0.6)  # a scorer gives a quarter for each that the margin is above
ALPHA = 0.05
RERUNS = 10  # searches that look at one held-out set
KINDS = ("even", "uneven")  # clusters of one size, or of sizes as 1, 1/2, 1/3 and so on
CHECKED = 5  # studies of every row in which telltale's own search is run too
COVERED = 2000  # studies of every row in which it is asked whether intervals hold the truth


@dataclass(frozen=True)
class World:
    """What is true: how well the whole model does, and what leaving out each layer does.

    ``shifts`` are by layer, in standard deviations of an example's margin, and so are ``biases``,
    which favour one label; the whole model's is ``bias``. Any shallower model is shifted by
    ``at_once``, and gives nonsense for the share ``lost`` of the examples, or of the clusters.
    """

    name: str
    level: float
    spread: float
    shifts: tuple[float, ...] = (0.0,) * LAYERS
    bias: float = 0.0
    biases: tuple[float, ...] = (0.0,) * LAYERS
    at_once: float = 0.0
    lost: float = 0.0

    def shift(self, removed: Sequence[int]) -> float:
        """What leaving these layers out adds to every margin."""
        return sum(self.shifts[layer] for layer in removed) + (self.at_once if removed else 0.0)

    def bias_of(self, removed: Sequence[int]) -> float:
        """By how much a path favours one label."""
        return self.bias + sum(self.biases[layer] for layer in removed)

    def truth(self, removed: Sequence[int], scored: Scored) -> float:
        """The true mean score of a path."""
        level, bias = self.level + self.shift(removed), self.bias_of(removed)
        means = [normal(level + sign * bias - mark) for sign in (1, -1) for mark in scored.marks]
        return (1 - (self.lost if removed else 0.0)) * sum(means) / len(means)

    def variance(self, count: int) -> float:
        """That of what so many layers' absence does to an example."""
        return self.spread**2 * (count * (1 - CORRELATION) + count**2 * CORRELATION)


@dataclass(frozen=True)
class Scored:
    """What a margin above each of these marks is worth a part of."""

    marks: tuple[float, ...] = (0.0,)

    def __call__(self, margins: NDArray[Any]) -> NDArray[Any]:
        """Every margin's score, in [0, 1]."""
        return np.asarray(np.mean([margins > mark for mark in self.marks], axis=0))


RIGHT_OR_WRONG, GRADED = Scored(), Scored(MARKS)


@dataclass(frozen=True)
class Sample:
    """Some examples.

    Their own margins and labels, (examples,), and the effects of layers, (examples, 32); which are
    lost to any shallower model; the cluster that each is of.
    """

    own: NDArray[Any]
    labels: NDArray[Any]
    effects: NDArray[Any]
    lost: NDArray[Any]
    clusters: tuple[int, ...] | None

    def margins(self, world: World, removed: Sequence[int]) -> NDArray[Any]:
        """Every example's margin on a path, (examples,)."""
        total = self.own + self.effects[:, list(removed)].sum(axis=1)
        scale = math.sqrt(1 + world.variance(len(removed)))
        unbiased = np.float32(world.level + world.shift(removed))
        level = unbiased + np.float32(world.bias_of(removed)) * self.labels
        margins = np.asarray(level + total / np.float32(scale))
        return np.where(self.lost, np.float32(-9), margins) if len(removed) else margins


def normal(value: float) -> float:
    """The standard normal distribution's share below a value."""
    return 0.5 * (1 + math.erf(value / math.sqrt(2)))


def quantile(share: float) -> float:
    """Its inverse."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(share)


def sampled(
    world: World, size: int, source: np.random.Generator, clusters: Sequence[int] | None = None
) -> Sample:
    """Draw examples; where ``clusters`` are given, so many of each."""
    drawn = source.standard_normal((size, LAYERS + 2), dtype=np.float32)
    of, lost = None, source.random(size)
    if clusters is not None:
        of = np.repeat(np.arange(len(clusters)), clusters)
        lost = source.random(len(clusters))[of]
        shared = source.standard_normal((len(clusters), LAYERS + 2), dtype=np.float32)[of]
        drawn = (
            np.float32(math.sqrt(TOGETHER)) * shared + np.float32(math.sqrt(1 - TOGETHER)) * drawn
        )
    together = drawn[:, :1] * np.float32(math.sqrt(CORRELATION))
    apart = drawn[:, 2:] * np.float32(math.sqrt(1 - CORRELATION))
    return Sample(
        drawn[:, 1].copy(),
        np.where(source.random(size) < 0.5, np.float32(1), np.float32(-1)),
        np.float32(world.spread) * (together + apart),
        lost < world.lost,
        None if of is None else tuple(of.tolist()),
    )


def values_of(margins: NDArray[Any], objective: str, scored: Scored) -> NDArray[Any]:
    """Each example's worth: its score, or the log-probability of the right of two choices."""
    if objective == "accuracy":
        return scored(margins)
    return np.asarray(-np.log1p(np.exp(np.float32(-SHARPNESS) * margins)))


def searched(world: World, sample: Sample, objective: str, scored: Scored) -> Found:
    """Greedy removal, as `telltale.searches.GreedyRemoval` does it, on arrays."""
    whole = sample.margins(world, [])
    baseline = float(scored(whole).mean())
    removed: list[int] = []
    rounds: list[Round] = []
    path, examples = LayerPath.whole(LAYERS), len(sample.own)
    value = float(values_of(whole, objective, scored).mean())
    origin = Candidate(path, None, baseline, value, examples)
    total = sample.own.copy()
    for _ in range(DEPTH):
        left = [layer for layer in range(LAYERS) if layer not in removed]
        scale = math.sqrt(1 + world.variance(len(removed) + 1))
        margins = (total[:, None] + sample.effects[:, left]) / np.float32(scale)
        margins += np.array(
            [world.level + world.shift([*removed, layer]) for layer in left], dtype=np.float32
        )
        biases = [world.bias_of([*removed, layer]) for layer in left]
        margins += np.outer(sample.labels, np.array(biases, dtype=np.float32))
        margins[sample.lost] = -9
        accuracies = scored(margins).mean(axis=0)
        values = values_of(margins, objective, scored).mean(axis=0, dtype=np.float64)
        may = accuracies >= baseline - TOLERANCE - 1e-9
        best = int(np.argmax(np.where(may, values, -np.inf) if may.any() else values))
        chosen = Candidate(
            path.without(left[best]), path, float(accuracies[best]), float(values[best]), examples
        )
        rounds.append(Round({chosen.path: chosen}, (chosen.path,) if may.any() else ()))
        if not may.any():
            break
        removed.append(left[best])
        path = chosen.path
        total += sample.effects[:, left[best]]
    return Found(origin, tuple(rounds))


def by_telltale(world: World, sample: Sample, objective: str, scored: Scored) -> Found:
    """The same by telltale's own search, example by example."""

    def measure(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
        for batch in batches:
            for path in paths:
                margins = sample.margins(world, path.removed)
                scores = scored(margins)
                outcomes = tuple(
                    Outcome(i, (ChoiceOutcome(float(margin), 1, 1, 1),), 0, float(scores[i]))
                    for i, margin in enumerate(margins)
                )
                yield Measurement(batch, path, outcomes)

    def value(outcome: Outcome) -> float:
        margin = np.array([outcome.choices[0].loglik])
        return float(values_of(margin, objective, scored)[0])

    search = GreedyRemoval(TOLERANCE, DEPTH, value=value)
    everything = Batch(tuple(range(len(sample.own))))
    return search(measure, [everything], LayerPath.whole(LAYERS))


@functools.cache
def scores_bounds(total: int) -> NDArray[Any]:
    """Tango's bound of what is lost, by the examples mended and broken: nearly the exact one."""
    mended, broken = np.meshgrid(np.arange(total + 1), np.arange(total + 1), indexing="ij")
    low, high = np.full(mended.shape, -1.0), (mended - broken) / total
    for _ in range(30):
        middle: Any = (low + high) / 2  # the statistic takes many differences as it takes one
        above = exact.statistic(mended, broken, total, middle) > one_sided(1 - ALPHA)
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return -high


def compared(whole: NDArray[Any], shallower: NDArray[Any], sample: Sample, *, orders: bool) -> Any:
    """A model against the whole one; where it only orders models, by a bound that is quick."""
    if sample.clusters is None and set(np.unique(shallower - whole)) <= {-1.0, 0.0, 1.0}:
        mended, broken = int((shallower > whole).sum()), int((shallower < whole).sum())
        total = len(whole)
        found = Pairs((mended - broken) / total, total, mended, broken)
        most = float(scores_bounds(total)[mended, broken]) if orders else math.nan
    else:
        found = pairs(whole.tolist(), shallower.tolist(), sample.clusters)
        quick = found if found.mended is None else found._replace(differences=())
        most = loses_at_most(quick) if orders else math.nan
    nothing = Interval(math.nan, math.nan)
    changed = {"changed": int((whole != shallower).sum())}
    return Comparison(
        float(shallower.mean()), nothing, found.gain, nothing, most, len(whole), found, changed
    )


@dataclass(frozen=True)
class Row:
    """Studies of one kind.

    ``sizes`` are those of the search set and of the held-out set; ``clusters`` are how many
    examples of each are together, where they are. In ``reruns``, so many searches with examples of
    their own look at one held-out set, one after the other.
    """

    world: World
    objective: str
    sizes: tuple[int, int]
    scored: Scored = RIGHT_OR_WRONG
    clusters: tuple[int, ...] | None = None
    reruns: int = 1
    note: str = ""

    @property
    def name(self) -> str:
        """What it is known by in the figures."""
        sizes = f"{self.sizes[0]}, {self.sizes[1]}"
        return "; ".join(
            part for part in (self.world.name, self.objective, sizes, self.note) if part
        )


def study(row: Row, source: np.random.Generator, *, check: bool, covers: bool) -> dict[str, Any]:
    """One study: what it claims, and what is true. Of reruns, the first that claims wrongly."""
    unseen = sampled(row.world, row.sizes[1], source, row.clusters)
    found = [
        searching(row, unseen, source, looks, check=check, covers=covers)
        for looks in range(row.reruns)
    ]
    wrong = [one for one in found if one["safe_wrongly"] or one["confirmed_wrongly"]]
    return {
        **found[0],
        "confirmed_wrongly": any(one["confirmed_wrongly"] for one in found),
        "safe_wrongly": any(one["safe_wrongly"] for one in found),
        "any_wrongly": bool(wrong),
    }


def searching(
    row: Row,
    unseen: Sample,
    source: np.random.Generator,
    looks: int,
    *,
    check: bool,
    covers: bool,
) -> dict[str, Any]:
    """One search and what it claims of a held-out set that others have looked at."""
    world, scored = row.world, row.scored
    sample = sampled(world, row.sizes[0], source, clusters_for(row))
    removal = searched(world, sample, row.objective, scored)
    if check:
        theirs = by_telltale(world, sample, row.objective, scored)
        assert [one.removed for one in theirs.kept] == [one.removed for one in removal.kept]

    def against_whole(of: Sample, *, orders: bool) -> dict[LayerPath, Any]:
        whole = scored(of.margins(world, []))
        return {
            model.path: compared(whole, scored(of.margins(world, model.removed)), of, orders=orders)
            for model in removal.kept
            if model.removed
        }

    held_out = against_whole(unseen, orders=False)
    said = claims(
        removal, against_whole(sample, orders=True), held_out, MAX_LOSS, Level.after(looks, ALPHA)
    )
    truth = {model.path: world.truth(model.removed, scored) for model in removal.kept}
    whole = truth[removal.start]
    best, safe = removal.best, said.fastest_safe
    gain = truth[best.path] - whole
    of_best = held_out.get(best.path)
    losses = {path: whole - truth[path] for path in held_out}
    certified = [one.model.path for one in said.asked if one.certified]
    return {
        "removed": len(best.removed),
        "claimed": best.accuracy - removal.baseline,
        "gain": gain,
        "held_out_gain": of_best.gain if of_best else 0.0,
        "covered": [holds(of_best, gain)] if covers and of_best else [],
        "bounded": [
            held_out[path].risk(losses[path]) > ALPHA for path in list(losses)[-1:] if covers
        ],
        "changed": of_best.counts["changed"] if of_best else 0,
        "confirmed": said.confirmed_best is not None,
        "confirmed_wrongly": said.confirmed_best is not None and gain <= 0,
        "safe_depth": 0 if safe is None else len(safe.removed),
        "safe_wrongly": any(losses[path] >= MAX_LOSS for path in certified),
    }


def clusters_for(row: Row) -> Sequence[int] | None:
    """The search set's clusters: of the same sizes, as many as it takes."""
    if row.clusters is None:
        return None
    share = row.sizes[0] / row.sizes[1]
    return row.clusters if share == 1 else [max(1, round(size * share)) for size in row.clusters]


def holds(found: Comparison, gain: float) -> bool:
    """Whether the interval of a gain holds the true one: neither side refuses it."""
    there = found.pairs
    assert there is not None  # it was compared here, not read
    back = there._replace(
        gain=-there.gain,
        mended=there.broken,
        broken=there.mended,
        differences=tuple((cluster, -one) for cluster, one in there.differences),
    )
    return min(risk(there, -gain), risk(back, gain)) > ALPHA / 2


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
    biases = np.zeros(LAYERS)
    biases[:] = source.normal(0.0, 0.1, LAYERS)
    biases[[3, 9, 17, 26]] = -0.2
    return {
        one.name: one
        for one in (
            World("no layer matters", level, 0.35),
            World("no layer matters, few answers change", level, 0.05),
            World("four layers harm, the rest do not matter", level, 0.35, tuple(harmful)),
            World("four layers harm, the rest are needed", level, 0.35, tuple(mixed)),
            World("every layer is needed a little", level, 0.35, tuple(needed)),
            World("any shallower model loses 3.05 points", level, 0.35, at_once=edge),
            World(
                "layers favour a label", 0.7, 0.35, bias=0.7, biases=tuple(biases.round(3).tolist())
            ),
            World("any shallower model loses 4 in 100 wholly", 1.5, 0.05, lost=0.04),
        )
    }


def rows() -> list[Row]:
    """Every kind of study that is tried."""
    of = worlds()
    usual = [world for world in of.values() if not world.lost]
    edges = [of["no layer matters"], of["any shallower model loses 3.05 points"]]
    clusters = [(count, kind, sizes_of(count, kind)) for count in (2, 5, 10, 40) for kind in KINDS]
    return [
        *(
            Row(world, objective, (size, size))
            for world in usual
            for objective in ("accuracy", "likelihood")
            for size in (150, 500)
        ),
        *(
            Row(world, "likelihood", sizes)
            for sizes in ((30, 30), (150, 400), (500, 150))
            for world in usual
        ),
        *(
            Row(
                world,
                "likelihood",
                (sum(sizes), sum(sizes)),
                clusters=sizes,
                note=f"{count} clusters, {kind}",
            )
            for world in edges
            for count, kind, sizes in clusters
        ),
        *(
            Row(
                next(world for world in of.values() if world.lost),
                "likelihood",
                (sum(sizes), sum(sizes)),
                clusters=sizes,
                note=f"{count} clusters, {kind}",
            )
            for count, kind, sizes in clusters
        ),
        *(
            Row(world, "accuracy", (size, size), GRADED, note="graded")
            for world in (*edges, next(world for world in of.values() if world.lost))
            for size in (30, 150)
        ),
        *(
            Row(world, objective, (150, 150), reruns=RERUNS, note=f"{RERUNS} searches, one set")
            for world in edges
            for objective in ("accuracy", "likelihood")
        ),
    ]


def sizes_of(count: int, kind: str) -> tuple[int, ...]:
    """So many clusters of some 200 examples: alike, or as 1, 1/2, 1/3 and so on."""
    weights = [1.0 if kind == "even" else 1 / (i + 1) for i in range(count)]
    return tuple(max(1, round(200 * weight / sum(weights))) for weight in weights)


def run(studies: int, out: Path, only: str) -> None:
    """Simulate what is missing in the file."""
    for row in rows():
        known = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
        slow = row.clusters is not None or row.scored is GRADED or row.reruns > 1
        wanted = studies // 5 if slow else studies
        if only not in row.name or known.get(row.name, {}).get("studies", 0) >= wanted:
            continue
        source = np.random.default_rng([*row.sizes, *row.name.encode()])
        found = [
            study(row, source, check=number < CHECKED, covers=number < COVERED)
            for number in range(wanted)
        ]
        known = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
        known[row.name] = summary(found)
        write_json(out, known)
        print(row.name, known[row.name], flush=True)


def summary(found: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What many studies say together; gains and losses in points."""

    def mean(name: str) -> float:
        return float(np.mean([one[name] for one in found]))

    def hit(name: str) -> float:
        hits = [one for each in found for one in each[name]]
        return float(np.mean(hits)) if hits else math.nan

    return {
        "studies": len(found),
        "removed": mean("removed"),
        "claimed": 100 * mean("claimed"),
        "gain": 100 * mean("gain"),
        "bias": 100 * float(np.mean([one["held_out_gain"] - one["gain"] for one in found])),
        "covered": hit("covered"),
        "bounded": hit("bounded"),
        "changed": float(np.mean([one["changed"] for one in found if one["removed"]] or [0])),
        "confirmed": mean("confirmed"),
        "confirmed_wrongly": mean("confirmed_wrongly"),
        "confirmed_gain": 100 * float(np.mean([one["confirmed"] * one["gain"] for one in found])),
        "safe_depth": mean("safe_depth"),
        "safe_wrongly": mean("safe_wrongly"),
        "any_wrongly": mean("any_wrongly"),
    }


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown."""
    lines = [
        "| world; objective; examples to search by, and held out | BEST claims | true gain "
        "| bias of the held-out gain | gain's intervals that hold the truth "
        "| bounds of the loss that do | answers that differ "
        "| gain said to be shown: in all, wrongly | fastest safe: layers, wrongly |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {one['claimed']:+.2f} | {one['gain']:+.2f} | {one['bias']:+.2f} "
        f"| {100 * one['covered']:.1f}% | {100 * one['bounded']:.1f}% | {one['changed']:.0f} "
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
    parser.add_argument("--studies", type=int, default=10000)
    parser.add_argument("--only", default="", help="Rows whose name holds this.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="Print the file; simulate nothing.")
    given = parser.parse_args()
    if given.table:
        print(table(json.loads(given.out.read_text(encoding="utf-8"))))
    else:
        run(given.studies, given.out, given.only)


if __name__ == "__main__":
    main()
