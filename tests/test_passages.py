"""What examples on few passages say, said: intervals, cautions, refusals, by study and by eval."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import telltale
from telltale.evidence.cautions import evaluation_cautions, few_passages
from telltale.evidence.stats import clustering, wilson
from telltale.measure import Outcome
from telltale.tasks.task import Example
from tests.studies import PAGE

if TYPE_CHECKING:
    from pathlib import Path


def examples(passages: int, size: int = 8) -> list[Example]:
    return [
        Example(f"{p}-{i}", f"Question {p} {i}?", ("a", "b"), i % 2, passage=f"Passage {p}.")
        for p in range(passages)
        for i in range(size)
    ]


def outcomes(count: int) -> list[Outcome]:
    return [Outcome(i, (), i % 2, float(i % 3 > 0)) for i in range(count)]


@pytest.mark.parametrize(("passages", "said"), [(1, 1), (2, 1), (9, 1), (10, 0), (40, 0)])
def test_below_ten_passages_a_caution_says_so(passages: int, said: int) -> None:
    found = few_passages("evaluated", outcomes(8 * passages), examples(passages))
    assert len(found) == said


def test_nothing_is_said_of_examples_that_stand_by_themselves() -> None:
    alone = [Example(str(i), f"Question {i}?", ("a", "b"), 0) for i in range(5)]
    assert few_passages("evaluated", outcomes(5), alone) == []


def test_passages_of_unequal_sizes_count_as_fewer() -> None:
    uneven = [*examples(1, 60), *examples(12, 1)[1:]]
    (line,) = few_passages("baseline", outcomes(71), uneven)
    assert (
        "share 12 passages or prompts, which differ so much in size that they count as 1.4" in line
    )


def test_passages_of_equal_sizes_are_not_called_unequal() -> None:
    (line,) = few_passages("baseline", outcomes(16), examples(2))
    assert "share 2 passages or prompts: on fewer than 10, intervals are wide" in line


def test_an_evaluation_says_that_one_passage_is_one_observation() -> None:
    lines = evaluation_cautions(outcomes(30), examples(1, 30))
    assert "which is one observation" in lines[0]


def written(folder: Path, passages: int) -> Path:
    file = folder / f"questions{passages}.jsonl"
    rows = [
        {
            "question": f"Is {i} on page {p}?",
            "passage": f"Page {p} of the book.",
            "choices": ["yes", "no"],
            "answer": (i + p) % 2,
        }
        for p in range(passages)
        for i in range(24 // passages)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_an_evaluation_minds_passages_as_a_study_does(tiny_folder: Path, tmp_path: Path) -> None:
    task = telltale.load_task(data=written(tmp_path, 6))
    found = telltale.evaluate(str(tiny_folder), task, text=PAGE)
    scores = [one["score"] for one in found["examples"]]
    clusters = [i // 4 for i in range(24)]
    expected = wilson(sum(scores), 24, shared=clustering(scores, clusters))
    assert found["interval"] == pytest.approx(list(expected))
    assert any("share 6 passages" in line for line in found["cautions"])
    alone = wilson(sum(scores), 24)
    assert found["interval"][1] - found["interval"][0] > alone.high - alone.low


def test_an_evaluation_on_one_passage_has_no_interval(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from telltale.cli.commands import main

    file, out = written(tmp_path, 1), tmp_path / "found.json"
    with pytest.raises(SystemExit, match="0"):
        main(["eval", str(tiny_folder), "--data", str(file), "--out", str(out)])
    assert json.loads(out.read_text())["interval"] is None
    printed = capsys.readouterr().out
    assert "of 24 examples" in printed
    assert "95% interval" not in printed
    assert "one observation" in printed
