"""What a study tells a watcher, without a study: three rounds, the last one refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from telltale.evidence.comparison import compare
from telltale.evidence.result import (
    Cost,
    FinalLook,
    PathModel,
    Result,
    Text,
    verdict,
)
from telltale.evidence.selection import Level, claims
from telltale.measure import Batch, Measurement, Outcome
from telltale.paths import LayerPath
from tests.rounds import found_by, step

if TYPE_CHECKING:
    from telltale.watcher import Watcher

PRIVATE = "/home/ines/secret"
ASKED: dict[str, Any] = {
    "model": {
        "name": "small",
        "given": f"{PRIVATE}/small",
        "revision": None,
        "sha256": "ab12",
        "trust_remote_code": False,
        "layers": 4,
    },
    "task": {
        "name": "capitals",
        "prompt": "Question: {question}\nAnswer:",
        "shots": 0,
        "stop": ["\n", "é"],
        "shares": {"hf:org/one": 2.0},
    },
    "guards": [{"task": "arc (easy)", "most_loss": 0.01}],
    "search": {"objective": "likelihood", "tolerance": 0.08, "max_removed": None, "protected": [0]},
}
WHOLE = LayerPath.whole(4)
ROUNDS = (
    step(WHOLE, {1: 0.5, 2: 0.75, 3: 0.25}, 2, {1: -2.0, 2: -1.0, 3: -3.0}),
    step(WHOLE.without(2), {1: 0.5, 3: 0.25}, 1, {1: -1.5, 3: -2.0}),
    step(WHOLE.without(2).without(1), {3: 0.0}, None, {3: -4.0}),
)
FOUND = found_by(WHOLE, 0.5, ROUNDS, -1.25)


def outcomes(scores: list[int]) -> tuple[Outcome, ...]:
    return tuple(Outcome(number, (), 0, float(score)) for number, score in enumerate(scores))


def whole_measured() -> list[Measurement]:
    """The whole model's scores on the search set, in two batches of unlike size: half are right."""
    first, second = outcomes([1, 1, 0, 0])[:3], outcomes([1, 1, 0, 0])[3:]
    return [
        Measurement(Batch(tuple(one.example for one in part)), WHOLE, part)
        for part in (first, second)
    ]


def result(*, final: bool = True) -> Result:
    """What a finished study of these rounds says."""
    scores = {0: [1] * 20 + [0] * 20, 1: [1] * 36 + [0] * 4, 2: [1] * 20 + [0] * 20}
    by_removed = {
        removed: {one.example: one for one in outcomes(right)} for removed, right in scores.items()
    }
    compared = {
        kept.path: compare(by_removed[0], by_removed[number])
        for number, kept in enumerate(FOUND.kept)
    }
    names = ((), ("best", "confirmed_best"), ("bsba",))
    models = tuple(
        PathModel(
            kept=kept,
            parameters=100 - 10 * number,
            held_out=compared[kept.path],
            perplexity=20.0 + number,
            tokens_per_second=50.0 + number,
            names=names[number],
        )
        for number, kept in enumerate(FOUND.kept)
    )
    claimed = claims(FOUND, compared, compared, 0.03, Level(0.05))
    last = FinalLook("confirmed_best", (2,), 0.5, compared[models[1].path])
    return Result(
        model={"name": "small", "layers": 4},
        task={"name": "capitals", "search_examples": 100, "held_out_examples": 40},
        settings={"tolerance": 0.08},
        models=models,
        rounds=ROUNDS,
        fingerprint="f" * 64,
        claims=claimed,
        final=last if final else None,
        verdict=verdict(FOUND, compared, claimed, 0.03, 0.95),
        cautions=(),
        text=Text("a page", "b" * 64),
        cost=Cost(
            layer_tokens=100,
            dense_passes=3.5,
            naive_passes=None,
            batches_measured=1,
            seconds=12.0,
            search_tokens=10,
        ),
    )


def tell_search(watcher: Watcher) -> None:
    """All up to the last round."""
    watcher.advised("Differences under 20 points cannot be seen")
    watcher.begun(ASKED)
    watcher.phase("another set")
    watcher.measured(Measurement(Batch((9,)), WHOLE, (Outcome(9, (), 0, 1.0),)), remembered=False)
    watcher.phase("search")
    watcher.expect(2)
    for measurement in whole_measured():
        watcher.measured(measurement, remembered=False)
    for done in ROUNDS:
        watcher.expect(1)
        watcher.weighed({done.first.path: 1.0})
        wrong = Measurement(Batch((0,)), done.first.path, outcomes([0]))
        watcher.measured(wrong, remembered=True)
        watcher.round_done(done)


def tell(watcher: Watcher) -> None:
    """A study from start to end."""
    tell_search(watcher)
    watcher.phase("held-out")
    watcher.measured(Measurement(Batch((4,)), WHOLE, (Outcome(4, (), 0, 1.0),)), remembered=False)
    watcher.finished(result())
    watcher.stepped(1, 2, seconds=1.0, tokens=9, loss=0.5, development_loss=None)
