"""Which two models are timed: a study's whole and shallower one, or those that are named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import telltale
from telltale.checkpoints import export as export_module
from telltale.checkpoints.verify import Verification
from telltale.errors import InputError
from telltale.models.source import resolve_model
from telltale.models.work import work_of
from telltale.paths import LayerPath
from telltale.study import read_study
from telltale.timing import sides as sides_module
from telltale.timing.settings import LLAMA, TRANSFORMERS
from telltale.timing.sides import side_of, sides_of
from tests import tiny
from tests.checkpoints.test_gguf_file import fields, written

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def study(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "study"
    telltale.search(
        str(tiny_folder),
        "capitals",
        out=folder,
        limit=40,
        held_out=30,
        tolerance=0.5,
        max_removed=2,
        device="cpu",
    )
    return folder


@pytest.fixture(autouse=True)
def verified(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """An export's own verification, which has tests of its own, is noted and not made."""
    calls: list[Any] = []

    def note(*given: Any) -> Verification:
        calls.append(given)
        return Verification("float32", 48, 0.0, 0.0)

    monkeypatch.setattr(export_module, "verify_checkpoint", note)
    return calls


def test_a_study_is_its_whole_model_against_its_shallower_one(
    study: Path, tiny_folder: Path, verified: list[Any]
) -> None:
    result = read_study(study).result
    assert result is not None
    for pick, removed in {
        None: result.shown_first.removed,  # type: ignore[union-attr]
        "2": result.models[-1].removed,
    }.items():
        with sides_of(str(study), None, pick, TRANSFORMERS) as (whole, shallower):
            assert whole == side_of(resolve_model(str(tiny_folder)), TRANSFORMERS)
            assert shallower.removed == removed
            # What is timed has the layers that are counted.
            found = side_of(resolve_model(str(shallower.files)), TRANSFORMERS)
            path = LayerPath(tuple(one for one in range(6) if one not in removed), 6)
            assert found.work == shallower.work == work_of(tiny.build("llama")).on(path)
            assert found.size == shallower.size < whole.size
        assert not shallower.files.exists()
    assert len(verified) == 2


def test_llama_cpp_gets_a_gguf_file_with_fewer_layers(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verified: list[Any]
) -> None:
    """The study's model stands for one that came from the file."""
    whole_file = written(tmp_path / "whole.gguf", layers=6)
    monkeypatch.setattr(sides_module, "gguf_of", lambda _: whole_file)
    with sides_of(str(study), None, "2", LLAMA) as (whole, shallower):
        assert whole.files == whole_file
        assert whole.size == whole_file.stat().st_size > shallower.size
        assert fields(shallower.files)["llama.block_count"][1] == 4
        assert len(shallower.work.layers) == 4
        assert (whole.letter, shallower.letter) == (2, 2)
    assert not shallower.files.exists()
    assert verified == []


def test_a_folder_that_is_there_saves_the_export(
    study: Path, tmp_path: Path, verified: list[Any]
) -> None:
    folder = tiny.save(tmp_path / "smaller", num_hidden_layers=4)
    with sides_of(str(study), str(folder), None, TRANSFORMERS) as (whole, other):
        assert (whole.name, len(whole.work.layers)) == ("tiny-llama", 6)
        assert (other.name, len(other.work.layers), other.removed) == ("smaller", 4, ())
    assert verified == []


def test_two_models_of_unlike_families(tiny_folder: Path, tmp_path: Path) -> None:
    other = tiny.save(tmp_path / "other", "gpt2")
    with sides_of(str(tiny_folder), str(other), None, TRANSFORMERS) as sides:
        assert [side.name for side in sides] == ["tiny-llama", "other"]
        assert sides[1].work == work_of(tiny.build("gpt2"))
    with sides_of(str(tiny_folder), None, None, TRANSFORMERS) as (alone,):
        assert alone.name == "tiny-llama"


@pytest.mark.parametrize(
    ("against", "pick", "words"),
    [
        ("x", "best", "and there is `against` too; give one of them"),
        (None, "99", "`pick` 99 names no model of this study"),
    ],
)
def test_a_study_is_asked_for_one_model(
    study: Path, against: str | None, pick: str | None, words: str
) -> None:
    with pytest.raises(InputError, match=words), sides_of(str(study), against, pick, TRANSFORMERS):
        pass
