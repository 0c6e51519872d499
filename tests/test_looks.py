"""The ledger and the seal: who has looked at an example before, whatever prompt or file it has."""

from __future__ import annotations

import json
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

import telltale
from telltale.errors import InputError
from telltale.study.ledger import Looks, Seen, note_look, note_searched, seen_before
from telltale.study.reading import read_study
from telltale.support.home import data_dir
from tests import tiny
from tests.studies import PAGE

if TYPE_CHECKING:
    from pathlib import Path

    from telltale.study.run import Result


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 120 questions with choices."""
    file = tmp_path_factory.mktemp("data") / "sums.jsonl"
    rows = [
        {"question": f"Is {n} and {n % 7} odd?", "choices": ["no", "yes"], "answer": n * 3 % 2}
        for n in range(120)
    ]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


def search(model: Path, data: Path, out: Path, **changes: Any) -> Result:
    settings: dict[str, Any] = {"limit": 30, "held_out": 30, "tolerance": 1, "max_removed": 1}
    settings |= {"text": PAGE, **changes}
    task = telltale.load_task(data=data, prompt=settings.pop("prompt", None))
    return telltale.search(str(model), task, out=out, **settings)


# Looks


def test_a_search_keeps_its_place_in_the_order_of_looks() -> None:
    assert note_look("first", ["a", "b"]) == Looks(0)
    assert note_look("second", ["b", "c"]) == Looks(1)
    assert note_look("third", ["a"]) == Looks(1)
    assert note_look("fourth", ["a", "b", "c"]) == Looks(3)
    again = [note_look("first", ["b", "a"]), note_look("second", ["b", "c"])]
    assert again == [Looks(0), Looks(1)]
    assert note_look("first", ["d"]) == Looks(0)  # another set of the same search


def test_what_a_study_remembers_goes_before_what_the_ledger_knows() -> None:
    note_look("first", ["a"])
    assert note_look("copied", ["a"], 0) == Looks(0)
    assert note_look("copied", ["a"]) == Looks(0)
    assert note_look("next", ["a"]) == Looks(2)


def test_looks_in_a_ledger_without_places_count_as_before() -> None:
    data_dir().mkdir(parents=True)
    with sqlite3.connect(data_dir() / "ledger.sqlite") as db:
        db.execute(
            "CREATE TABLE looks (example TEXT, search TEXT, PRIMARY KEY (example, search)) "
            "WITHOUT ROWID"
        )
        db.executemany("INSERT INTO looks VALUES (?, ?)", [("a", "old"), ("a", "older")])
    assert note_look("new", ["a", "b"]) == Looks(2)
    assert note_look("newer", ["b"]) == Looks(1)
    assert seen_before("newest", [("a",), ("b",), ("c",)]) == Seen(2, 4)


def test_an_example_is_seen_by_any_of_its_names_and_by_others_alone() -> None:
    note_searched("first", ["prompt a", "row a"])
    note_look("second", ["prompt b", "row b"])
    examples = [("other prompt a", "row a"), ("prompt b",), ("prompt c", "row c")]
    assert seen_before("third", examples) == Seen(2, 2)
    assert seen_before("first", examples) == Seen(1, 1)


def test_another_prompt_is_another_look_at_the_same_examples(
    tiny_folder: Path, tmp_path: Path, sums: Path
) -> None:
    first = search(tiny_folder, sums, tmp_path / "a", limit=60, held_out=60)
    second = search(tiny_folder, sums, tmp_path / "b", limit=60, held_out=60, prompt="{question}")
    assert [first.held_out_looks, second.held_out_looks] == [0, 1]


def test_a_search_that_is_run_again_is_told_what_it_was_told_first(
    tiny_folder: Path, tmp_path: Path, sums: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looks(out: str, **changes: Any) -> int | None:
        return search(tiny_folder, sums, tmp_path / out, **changes).held_out_looks

    found = [looks("a"), looks("a", tolerance=0.5), looks("a"), looks("elsewhere")]
    assert found == [0, 1, 0, 0]
    # Copied to a machine on which others have looked.
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    monkeypatch.setenv("TELLTALE_HOME", str(tmp_path / "another home"))
    assert looks("other", tolerance=0.7) == 0
    assert [looks("copy"), looks("copy", tolerance=0.5)] == [0, 1]
    assert read_study(tmp_path / "copy").held_out_looks == 1


# The seal


def test_a_final_set_cannot_come_later_into_a_study(
    tiny_folder: Path, tmp_path: Path, sums: Path
) -> None:
    search(tiny_folder, sums, tmp_path / "without")
    with pytest.raises(InputError, match=r"begun with no `final`, and .* sealed when a study beg"):
        search(tiny_folder, sums, tmp_path / "without", final=20)
    search(tiny_folder, sums, tmp_path / "with", final=20, tolerance=0.9)
    for other, said in ((None, "no `final`"), (25, "`final` 25")):
        with pytest.raises(InputError, match=rf"with `final` 20, and .* cannot go on with {said};"):
            search(tiny_folder, sums, tmp_path / "with", final=other)


def test_a_final_set_of_examples_that_were_looked_at_is_refused(
    tiny_folder: Path, tmp_path: Path, sums: Path
) -> None:
    search(tiny_folder, sums, tmp_path / "first")  # the first 60 of the seed's order
    sealed = search(tiny_folder, sums, tmp_path / "second", final=60 - 30, held_out=20)
    assert len(read_study(tmp_path / "second").examples) == 30 + 20 + 30
    assert not any("sealed" in line for line in sealed.document["cautions"])
    # The last 70 have ten that were held out, whatever the prompt.
    with pytest.raises(InputError, match=r"10 of the 70 final .* before, by [12] search.* machine"):
        search(tiny_folder, sums, tmp_path / "third", final=70, held_out=20)
    assert not (tmp_path / "third").exists()
    with pytest.raises(InputError, match=r"of the 20 final examples were searched or held out"):
        search(tiny_folder, sums, tmp_path / "third", final=20, prompt="Say: {question}", seed=7)


def test_a_seal_that_another_search_broke_is_told(
    tiny_folder: Path, tmp_path: Path, sums: Path
) -> None:
    sealed = tmp_path / "sealed"
    settings: dict[str, Any] = {"final": 20, "max_loss": 0.9, "tolerance": 1}
    nothing = search(tiny_folder, sums, sealed, **{**settings, "max_loss": 0})
    assert nothing.document["final"] is None
    search(tiny_folder, sums, tmp_path / "all", limit=60, held_out=60)
    found = search(tiny_folder, sums, sealed, **settings).document
    assert found["final"] is not None
    said = [line for line in found["cautions"] if "20 of the 20 final examples were sea" in line]
    assert len(said) == 1
    assert search(tiny_folder, sums, sealed, **settings).document["cautions"] == found["cautions"]


def test_what_another_model_was_asked_does_not_count(
    tiny_folder: Path, tmp_path: Path, sums: Path
) -> None:
    other = tiny.save(tmp_path / "other", rope_theta=4000.0)
    found = [
        search(model, sums, tmp_path / name).document["claims"]["looks_before"]
        for model, name in ((tiny_folder, "a"), (other, "b"))
    ]
    assert found == [0, 0]
    again = search(tiny_folder, sums, tmp_path / "c", max_loss=0.1).document["claims"]
    assert again["looks_before"] == 1
    assert again["safety_level"] == pytest.approx(0.05 / 4)


def test_looks_that_an_older_ledger_knows_without_a_model_count(
    tiny_folder: Path, tmp_path: Path, sums: Path
) -> None:
    search(tiny_folder, sums, tmp_path / "a")
    with sqlite3.connect(data_dir() / "ledger.sqlite") as db:
        db.executescript("DELETE FROM looks; DELETE FROM searched; DELETE FROM places;")
    task = telltale.load_task(data=sums)
    held_out = {one.id for one in read_study(tmp_path / "a").examples if one.role == "held-out"}
    old = [one.digest for one in task.examples if one.id in held_out]
    assert old
    with sqlite3.connect(data_dir() / "ledger.sqlite") as db:
        db.executemany("INSERT INTO looks VALUES (?, 'of old')", [(one,) for one in old])
    found = search(tiny_folder, sums, tmp_path / "b").document
    assert found["claims"]["looks_before"] == 1


def test_where_no_ledger_can_be_kept_it_is_said_that_looks_are_not_known(
    tiny_folder: Path, tmp_path: Path, sums: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TELLTALE_HOME", str(tmp_path / "file"))
    found = search(tiny_folder, sums, tmp_path / "s").document
    assert found["claims"]["looks_before"] is None
    assert any("it is not known whether other searches" in line for line in found["cautions"])
