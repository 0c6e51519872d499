"""A path is what is kept, in the original model's indices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telltale.errors import InputError
from telltale.paths import LayerPath


@given(st.integers(2, 40), st.data())
def test_kept_and_removed_are_each_others_complement(total: int, data: st.DataObject) -> None:
    removed = data.draw(st.sets(st.integers(0, total - 1), max_size=total - 1))
    path = LayerPath.from_removed(sorted(removed, reverse=True), total)
    assert sorted([*path.kept, *path.removed]) == list(range(total))
    assert set(path.removed) == removed
    assert path.depth == total - len(removed)


def test_leaving_out_one_by_one_equals_leaving_out_at_once() -> None:
    assert LayerPath.whole(6).without(4).without(1) == LayerPath.from_removed([1, 4], 6)


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ([40], "layer 40 is not in this model, whose layers are 0-5"),
        ([-1], "layer -1 is not in this model"),
        ([2, 2], "layer 2 is given twice"),
        ([0, 1, 2, 3, 4, 5], "leaves nothing"),
    ],
)
def test_what_cannot_be_left_out_is_refused(removed: list[int], message: str) -> None:
    assert LayerPath.from_removed([2], 6)
    with pytest.raises(InputError, match=message):
        LayerPath.from_removed(removed, 6)


def test_a_path_must_increase_and_stay_inside() -> None:
    with pytest.raises(InputError, match="must increase"):
        LayerPath((3, 1), 6)
    with pytest.raises(InputError, match="layer 9"):
        LayerPath((3, 9), 6)
    with pytest.raises(InputError, match="not on this path"):
        LayerPath((0, 1), 6).without(2)
