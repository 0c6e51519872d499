"""Stability: the same search on parts of the search set, judged by the rest of it."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

import telltale
from telltale.cli.main import main
from telltale.errors import InputError
from telltale.measure import Batch, Measurement, Outcome
from telltale.paths import LayerPath
from telltale.searches import GreedyRemoval
from telltale.study.reading import read_study
from telltale.study.stability import Part, of_size, parts_of, said, searched, sizes_for
from telltale.tasks.sets import HELD_OUT
from telltale.watcher import Watcher
from tests.searches.oracle import best_and_bsba, removal_order
from tests.studies import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

EXAMPLES = range(60)
APART = {example: example for example in EXAMPLES}
BATCHES = [Batch(tuple(EXAMPLES[:25])), Batch(tuple(EXAMPLES[25:]))]


def score(removed: frozenset[int], example: int) -> int:
    return random.Random(f"{sorted(removed)} {example}").randint(0, 1)


def measure(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
    for batch in batches:
        for path in paths:
            outcomes = tuple(
                Outcome(i, (), 0, float(score(frozenset(path.removed), i))) for i in batch.examples
            )
            yield Measurement(batch, path, outcomes)


def test_a_part_is_searched_by_its_examples_and_judged_by_the_others() -> None:
    from fractions import Fraction

    for seed in range(12):
        ((part, rest),) = parts_of(APART, 20, 1, seed)

        def table(gone: frozenset[int], part: list[int] = part) -> Fraction:
            return Fraction(sum(score(gone, i) for i in part), len(part))

        search = GreedyRemoval(tolerance=0.2, max_removed=3)
        found = searched(search, measure, BATCHES, LayerPath.whole(5), part, rest)
        best, _ = best_and_bsba(table, removal_order(table, 5, Fraction(1, 5), 3))
        assert list(found.removed) == best
        assert found.claimed == pytest.approx(float(table(frozenset(best)) - table(frozenset())))
        assert rest == [i for i in EXAMPLES if i not in part]
        gain = sum(score(frozenset(best), i) - score(frozenset(), i) for i in rest) / len(rest)
        assert found.unseen == pytest.approx(gain)


def test_parts_are_without_repeats_and_differ() -> None:
    alone = {position: position for position in range(100, 160)}
    parts = parts_of(alone, 30, 8, 0)
    assert all(len(set(part)) == 30 and min(part) >= 100 for part, _ in parts)
    assert len({tuple(part) for part, _ in parts}) == 8
    assert parts == parts_of(alone, 30, 8, 0) != parts_of(alone, 30, 8, 1)


def test_what_shares_a_passage_with_a_part_does_not_judge_it() -> None:
    together = {position: position // 7 for position in range(80)}
    for part, rest in parts_of(together, 30, 10, 0):
        assert len(part) == 30
        assert rest
        assert {together[i] for i in part}.isdisjoint(together[i] for i in rest)
    with pytest.raises(InputError, match="leave none that shares no passage"):
        parts_of(dict.fromkeys(range(60), 1), 30, 2, 0)


def test_sizes_leave_enough_to_judge_by() -> None:
    assert sizes_for(None, 200) == [50, 100, 150]
    assert sizes_for(None, 60) == [30]
    assert sizes_for([90, 30, 30], 200) == [30, 90]
    for given, examples in (([19], 200), ([181], 200), (None, 30)):
        with pytest.raises(InputError, match=r"give a `limit`|`sizes` must be in"):
            sizes_for(given, examples)


def test_sizes_of_its_own_that_do_not_fit_are_told_with_the_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO", "telltale"):
        sizes_for(None, 200)
        assert not caplog.messages
        sizes_for(None, 60)
    assert caplog.messages == [
        "Of a search set of 60 no parts of 15 or 45 are searched: a part needs at least 20 "
        "examples, and as many must be left to judge it by"
    ]


def test_what_is_said_is_of_the_largest_parts() -> None:
    parts = [Part((3, 1), 0.1, 0.02), Part((3,), 0.2, 0.0), Part((1, 3), 0.3, -0.02)]
    size = of_size(40, parts)
    assert size["removed"] == {"3": 1.0, "1": pytest.approx(2 / 3)}
    assert (size["claimed"], size["unseen"]) == pytest.approx((0.2, 0.0))
    assert size["unseen_spread"] == pytest.approx(0.02)
    sentence = said([of_size(20, [Part((), 0.0, 0.0)] * 2), size])
    assert sentence.startswith("Given 40 examples, the search always removes layer 3.")
    assert "judges the procedure, and shows no model to be better" in sentence


class Counting(Watcher):
    """Counts what was measured anew."""

    def __init__(self) -> None:
        self.fresh = 0

    def measured(self, measurement: Measurement, *, remembered: bool) -> None:
        self.fresh += not remembered


def asked(out: Path) -> dict[str, Any]:
    return {
        "out": out,
        "limit": 60,
        "held_out": 30,
        "tolerance": 0.5,
        "max_removed": 2,
        "text": PAGE,
    }


def test_a_study_is_used_and_added_to_and_its_held_out_set_left_alone(
    tiny_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "s"
    first = Counting()
    found = telltale.stability(
        str(tiny_folder), "capitals", resamples=2, watcher=first, **asked(out)
    )
    assert [size["examples"] for size in found["sizes"]] == [30]
    assert json.loads((out / "stability.json").read_text()) == found
    assert not any(role == HELD_OUT for role, _ in read_study(out).outcomes)
    again, searching = Counting(), Counting()
    assert found == telltale.stability(
        str(tiny_folder), "capitals", resamples=2, watcher=again, **asked(out)
    )
    assert first.fresh > again.fresh == 0
    # The search itself goes on from what the parts have measured.
    telltale.search(str(tiny_folder), "capitals", watcher=searching, **asked(out))
    fresh = Counting()
    telltale.search(str(tiny_folder), "capitals", watcher=fresh, **asked(tmp_path / "t"))
    assert searching.fresh < fresh.fresh
    part = found["sizes"][0]["parts"][0]
    assert {len(part["removed"]) for part in found["sizes"][0]["parts"]} <= {0, 1, 2}
    assert set(part) == {"removed", "claimed", "unseen"}


def test_the_command_says_what_parts_have_in_common(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(
            [
                *("stability", str(tiny_folder), "capitals", "--out", str(tmp_path / "s")),
                *("--limit", "60", "--held-out", "30", "--max-removed", "1"),
                *("--sizes", "25,40", "--resamples", "2"),
            ]
        )
    printed = capsys.readouterr().out
    assert "Given 40 examples, the search" in printed
    with pytest.raises(SystemExit, match="2"):
        main(
            [
                *("stability", str(tiny_folder), "capitals", "--out", str(tmp_path / "s")),
                *("--limit", "60", "--held-out", "30", "--sizes", "a few"),
            ]
        )
    assert "--sizes 'a few' is not a list of sizes" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"^`resamples` must be at least 2, got 1"):
        telltale.stability(str(tiny_folder), "capitals", resamples=1, **asked(tmp_path / "s"))
