"""A host that fills a device's queue is not to wait for it: how often values are asked for.

The meta device has shapes and no values, so that whatever asks for one raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from transformers.integrations import sdpa_attention

from telltale.engine import choosing, shared
from telltale.engine.choosing import Choosing
from telltale.engine.shared import Capabilities, SharedEngine
from telltale.engine.store import StateStore
from telltale.engine.transfers import Fetched
from telltale.measure import Batch, Measurement
from telltale.models.layered import LayeredModel
from telltale.paths import LayerPath
from telltale.tasks import Scoring
from tests import tiny
from tests.encoded import example

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from telltale.engine.encode import EncodedExample

WHOLE = LayerPath.whole(6)
ROUND = [WHOLE.without(layer) for layer in range(6)]
PREFIX = (1, 2, 3)
BATCHES = [Batch((0, 1)), Batch((2, 3))]
META = torch.device("meta")


def examples() -> list[EncodedExample]:
    return [example((*PREFIX, 9 + i, 7), ((11, 12, 13), (14,), (15, 16))) for i in range(4)]


def engine_on(model: LayeredModel) -> SharedEngine:
    return SharedEngine(
        model,
        examples(),
        Choosing(Scoring.LOGLIK),
        capabilities=Capabilities(
            keeps_prefix=True, shares_context=True, packs=True, padding_free=True
        ),
        token_prefix=PREFIX,
        store=StateStore(10**9),
    )


@pytest.fixture
def without_values() -> LayeredModel:
    """A model whose tensors have no values."""
    model = LayeredModel(tiny.build("llama"))
    model.model.to(META)
    model.device = META
    try:
        torch.is_autocast_enabled(META.type)
    except RuntimeError:
        if not hasattr(sdpa_attention, "pack_gqa"):
            pytest.skip("this release of transformers asks torch what it does not say of meta")
    return model


class Sent(TorchFunctionMode):
    """Counts what is brought from the host: copied, made of numbers, or indexed by."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and found.device == META:
            given = tree_leaves((args, kwargs))
            on_host = any(isinstance(one, torch.Tensor) and one.device != META for one in given)
            by_list = func is torch.Tensor.__getitem__ and _has_list(args[1])
            self.count += on_host or by_list or func in (torch.tensor, torch.as_tensor)
        return found


def _has_list(index: Any) -> bool:
    return isinstance(index, list) or (isinstance(index, tuple) and any(map(_has_list, index)))


class Counted:
    """Counts what is fetched, and gives numbers in its place."""

    count = 0

    def __init__(self, numbers: torch.Tensor) -> None:
        Counted.count += 1
        self._many = len(numbers)

    def numbers(self) -> list[float]:
        return [-1.0] * self._many


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    monkeypatch.setattr(Counted, "count", 0)
    monkeypatch.setattr(choosing, "Fetched", Counted)
    return Counted


def test_a_path_asks_the_device_for_nothing_but_one_row_of_numbers(
    without_values: LayeredModel, fetches: type[Counted]
) -> None:
    measured = list(engine_on(without_values)([WHOLE, *ROUND], BATCHES))
    assert len(measured) == 7 * len(BATCHES)
    assert fetches.count == len(measured)


def test_whatever_else_asks_for_a_value_would_be_seen(without_values: LayeredModel) -> None:
    with pytest.raises((RuntimeError, NotImplementedError), match="meta tensor"):
        list(engine_on(without_values)([WHOLE], BATCHES[:1]))


@pytest.mark.usefixtures("fetches")
def test_what_is_sent_to_the_device_is_sent_once_a_batch(without_values: LayeredModel) -> None:
    sent = []
    for paths in ([WHOLE], [WHOLE, *ROUND]):
        for batches in (BATCHES[:1], BATCHES):
            engine = engine_on(without_values)
            with Sent() as mode:
                list(engine(paths, batches))
            sent.append(mode.count)
    of_one, of_two, *of_seven_paths = sent
    assert of_two > of_one > 0
    assert of_seven_paths == [of_one, of_two]


@pytest.mark.usefixtures("fetches")
def test_what_is_read_of_a_batch_is_sent_once_for_all_rounds(without_values: LayeredModel) -> None:
    engine = engine_on(without_values)
    counts = []
    for _ in range(3):
        with Sent() as mode:
            list(engine([WHOLE], BATCHES))
        counts.append(mode.count)
    assert counts[0] > counts[1] == counts[2]


@pytest.mark.parametrize(
    "bring",
    [
        lambda: torch.zeros(2).to(META),
        lambda: torch.tensor([1, 2], device=META),
        lambda: torch.zeros(3, device=META)[[0, 1]],
        lambda: torch.zeros((2, 3), device=META)[:, [0, 1]],
        lambda: torch.zeros(3, device=META)[torch.tensor([0, 1])],
        lambda: torch.zeros(2, device=META).copy_(torch.zeros(2)),
    ],
)
def test_whatever_is_brought_to_a_device_is_counted(bring: Callable[[], object]) -> None:
    with Sent() as mode:
        bring()
    assert mode.count == 1


# ---- paths are walked ahead of what is read


def ahead(monkeypatch: pytest.MonkeyPatch, paths: int) -> SharedEngine:
    monkeypatch.setattr(shared, "READ_AHEAD", {"cpu": paths})
    return engine_on(tiny.layered("llama"))


@pytest.mark.parametrize("paths", [1, 3, 100])
def test_walking_ahead_changes_no_measurement(monkeypatch: pytest.MonkeyPatch, paths: int) -> None:
    expected = list(engine_on(tiny.layered("llama"))([WHOLE, *ROUND], BATCHES))
    assert list(ahead(monkeypatch, paths)([WHOLE, *ROUND], BATCHES)) == expected


def test_the_next_path_is_walked_before_a_path_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []

    class Told(Fetched):
        def __init__(self, numbers: torch.Tensor) -> None:
            said.append("walked")
            super().__init__(numbers)

        def numbers(self) -> list[float]:
            said.append("waited")
            return super().numbers()

    monkeypatch.setattr(choosing, "Fetched", Told)
    measured = ahead(monkeypatch, 1)(ROUND[:3], BATCHES[:1])
    taken: list[Measurement] = list(_each(measured, said))
    assert [one.path for one in taken] == sorted(ROUND[:3], reverse=True)
    assert said == ["walked", "walked", "waited", "had", "walked", "waited", "had", "waited", "had"]


def _each(measured: Iterator[Measurement], said: list[str]) -> Iterator[Measurement]:
    for one in measured:
        said.append("had")
        yield one


def test_of_what_was_walked_ahead_and_left_nothing_is_counted_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = ahead(monkeypatch, 1)
    left = engine(ROUND, BATCHES[:1])
    next(left)
    left.close()  # type: ignore[attr-defined]
    alone = list(engine_on(tiny.layered("llama"))([ROUND[5]], BATCHES[1:]))
    again = list(engine([ROUND[5]], BATCHES[1:]))
    assert again[0].outcomes == alone[0].outcomes
    assert again[0].layer_tokens <= alone[0].layer_tokens
