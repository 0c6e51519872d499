"""What is tried of a model, at which length, at which cost, and what is said of what is missing."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

import telltale
from telltale.engine.selftest import DIFFERS, NOT_TRIED, RAISED, Absence, find_capabilities
from telltale.engine.shared import Capabilities
from telltale.engine.workbench import Workbench
from telltale.models.layered import LayerCache, LayeredModel
from telltale.models.source import resolve_model
from telltale.report.sentences import cost_of, minds
from telltale.study.reading import read_study
from telltale.study.records import open_records
from telltale.tasks import Example, Task
from telltale.watcher import Watcher
from tests import tiny
from tests.studies import PAGE

if TYPE_CHECKING:
    from pathlib import Path

BOTH = Capabilities(keeps_prefix=True, shares_context=True, packs=True, padding_free=True)
PREFIX_ONLY = Capabilities(keeps_prefix=True, shares_context=False)
PLAIN = Capabilities(keeps_prefix=False, shares_context=False)
SMALL: dict[str, Any] = {
    "limit": 40,
    "held_out": 30,
    "tolerance": 0.5,
    "max_removed": 1,
    "text": PAGE,
}
RENAMED = "forward() got an unexpected keyword argument 'past'"
FIRST_LAYER_OF_EACH_KIND = {
    "llama": (0,),
    "gpt2": (0,),
    "mistral-window": (0,),
    "qwen2-window": (0, 3),
    "gemma3": (0, 1),
}


class Heard(Watcher):
    """Keeps what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def phase(self, name: str) -> None:
        self.told.append(name)

    def advised(self, advice: str) -> None:
        self.told.append(advice)

    def measured(self, *_: Any, **__: Any) -> None:
        self.told.append("measured")


def refuses_caches() -> LayeredModel:
    """A model whose forward raises where it is given keys and values."""
    model = tiny.build("llama")
    forward = model.forward

    @functools.wraps(forward)
    def without(*args: Any, **kwargs: Any) -> Any:
        if any(kwargs.get(name) is not None for name in ("cache", "past_key_values")):
            raise TypeError(RENAMED)
        return forward(*args, **kwargs)

    model.forward = without
    return LayeredModel(model)


@pytest.fixture
def _renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    def given(*_: Any) -> Any:
        raise TypeError(RENAMED)

    monkeypatch.setattr(LayeredModel, "_given", given)


def test_what_raises_is_missing_with_its_exception() -> None:
    absences: list[Absence] = []
    found = find_capabilities(refuses_caches(), longest=20, absences=absences)
    assert found == BOTH._replace(keeps_prefix=False)
    assert absences == [Absence("keeps_prefix", RAISED, f"TypeError: {RENAMED}")]
    assert absences[0].words == (
        f"the model cannot keep a token prefix (TypeError: {RENAMED}): every prompt is read whole, "
        "which is slower; please report it"
    )


def test_what_differs_is_missing_with_the_difference() -> None:
    absences: list[Absence] = []
    find_capabilities(tiny.layered("mistral-window"), longest=30, absences=absences)
    (absence,) = absences
    assert (absence.capability, absence.kind) == ("shares_context", DIFFERS)
    assert "with 30 tokens its log-likelihoods differ by " in absence.reason
    assert "please report" not in absence.words


def test_rows_are_not_packed_where_a_model_places_a_second_text_wrongly() -> None:
    """As one that takes positions from the row's first token on, wherever a text begins."""
    model = tiny.build("llama")
    forward = model.forward

    @functools.wraps(forward)
    def falls_never(*args: Any, **kwargs: Any) -> Any:
        positions = kwargs.get("position_ids")
        if positions is not None and int((positions == 1).sum(-1).max()) > 1:
            kwargs["position_ids"] = positions.cummax(-1).values
        return forward(*args, **kwargs)

    absences: list[Absence] = []
    model.forward = falls_never
    found = find_capabilities(LayeredModel(model), longest=60, prefix=0, absences=absences)
    assert not found.packs
    assert absences[-1].capability == "packs"
    assert absences[-1].kind == DIFFERS


@pytest.mark.usefixtures("_renamed")
def test_a_search_says_before_it_measures_that_a_capability_raised(
    tiny_folder: Path, tmp_path: Path
) -> None:
    heard = Heard()
    arguments = {**SMALL, "out": tmp_path / "study", "watcher": heard}
    telltale.search(str(tiny_folder), "capitals", **arguments)
    sentence = f"the model cannot keep a token prefix (TypeError: {RENAMED})"
    warnings = [line for line in heard.told if sentence in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("Warning: ")
    assert heard.told.index(warnings[0]) < heard.told.index("measured")
    result = read_study(tmp_path / "study").result
    assert result is not None
    assert [line for line in minds(result) if sentence in line]
    with open_records(tmp_path / "study", write=False) as records:
        kept = records.fact("plan")["absences"]
    assert ["keeps_prefix", RAISED, f"TypeError: {RENAMED}"] in kept


@pytest.mark.usefixtures("_renamed")
def test_an_evaluation_says_that_a_capability_raised(tiny_folder: Path) -> None:
    heard = Heard()
    document = telltale.evaluate(str(tiny_folder), "capitals", limit=10, watcher=heard)
    assert heard.told[0] == "self-test"
    assert heard.told[1].startswith("Warning: the model cannot keep a token prefix (TypeError: ")
    assert [line for line in document["cautions"] if RENAMED in line]


def test_a_measured_difference_is_told_beside_the_cost_and_is_no_warning(tmp_path: Path) -> None:
    folder, heard = tiny.save(tmp_path / "windows", "mistral-window"), Heard()
    arguments = {**SMALL, "out": tmp_path / "study", "watcher": heard}
    telltale.search(str(folder), "capitals", **arguments)
    said = [line for line in heard.told if "cannot read several choices after one" in line]
    assert len(said) == 1
    assert said[0].startswith("The model cannot")
    study = read_study(tmp_path / "study")
    cost = cost_of(study)
    assert len(cost) == 2
    assert "the context is read again for each choice, which is slower" in cost[1]
    assert study.result is not None
    assert not [line for line in minds(study.result) if "cannot read several" in line]


def test_the_self_test_is_a_phase_of_a_new_study_only(tiny_folder: Path, tmp_path: Path) -> None:
    first, again = Heard(), Heard()
    for heard in (first, again):
        arguments = {**SMALL, "out": tmp_path / "study", "watcher": heard}
        telltale.search(str(tiny_folder), "capitals", **arguments)
    assert first.told[0] == "self-test"
    assert "self-test" not in again.told
    assert "search" in again.told


def test_a_study_that_kept_no_reasons_is_gone_on_with(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    first = telltale.search(str(tiny_folder), "capitals", out=folder, **SMALL).document
    with open_records(folder, write=True) as records:
        plan = records.fact("plan")
        assert plan["capabilities"] == [True, True, False, True, True]
        del plan["absences"]
        records.set_facts({"plan": plan})
    again = telltale.search(str(tiny_folder), "capitals", out=folder, **SMALL).document
    assert again["path"] == first["path"]
    assert again["fingerprint"] == first["fingerprint"]


@pytest.mark.parametrize("says", [True, False])
def test_a_window_that_only_long_inputs_pass_is_found(
    monkeypatch: pytest.MonkeyPatch, says: bool
) -> None:
    """By the configuration; and where it says nothing, by the layers of each kind."""
    model = LayeredModel(tiny.build("mistral-window", sliding_window=100))
    assert model.minds_length(150)
    if not says:
        monkeypatch.setattr(LayeredModel, "minds_length", lambda *_: False)
    assert find_capabilities(model, longest=90) == BOTH
    assert find_capabilities(model, longest=150) == PREFIX_ONLY


def test_a_layer_with_a_window_among_others_is_found() -> None:
    kinds = ["full_attention"] * 4 + ["sliding_attention", "full_attention"]
    model = LayeredModel(tiny.build("gemma3", sliding_window=100, layer_types=kinds))
    assert model.one_of_each_kind(range(150)).kept == (0, 4)
    assert find_capabilities(model, longest=150) == PREFIX_ONLY


@pytest.mark.parametrize("family", FIRST_LAYER_OF_EACH_KIND)
def test_layers_are_of_one_kind_if_nothing_but_their_weights_and_index_differs(family: str) -> None:
    found = tiny.layered(family).one_of_each_kind(range(2, 60))
    assert found.kept == FIRST_LAYER_OF_EACH_KIND[family]


def test_what_would_cost_more_than_it_saves_is_not_tried() -> None:
    model = LayeredModel(tiny.build("mistral-window", sliding_window=100))
    absences: list[Absence] = []
    assert find_capabilities(model, longest=150, saves=1000, absences=absences) == PLAIN
    assert {absence.kind for absence in absences} == {NOT_TRIED}
    assert "trying it with 150 tokens would take longer than it saves" in absences[0].reason
    assert find_capabilities(model, longest=150, saves=10_000) == PREFIX_ONLY


@pytest.mark.parametrize(
    ("choices", "most"),
    [(["yes", "no"], 1.1), (["yes, it is", "no, it is not so"], 1.8)],
    ids=["a token each", "several tokens"],
)
def test_one_long_prompt_is_read_little_more_than_once(
    choices: list[str], most: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.save(tmp_path / "model", num_hidden_layers=12, max_position_embeddings=4096)
    words = "the capital of France is a large city, and so is that of Spain. "
    question = words * 60
    tokens = len(tiny.tokenizer()(question)["input_ids"])
    assert 1000 < tokens < 4000
    data = tmp_path / "one.jsonl"
    data.write_text(json.dumps({"question": question, "choices": choices, "answer": 0}) + "\n")
    read = 0
    run_layer = LayeredModel.run_layer

    def counted(self: LayeredModel, layer: int, hidden: torch.Tensor, prepared: Any) -> Any:
        nonlocal read
        read += hidden.shape[0] * hidden.shape[1]
        return run_layer(self, layer, hidden, prepared)

    monkeypatch.setattr(LayeredModel, "run_layer", counted)
    task = telltale.load_task(data=str(data), prompt="{question}")
    telltale.evaluate(str(folder), task, device="cpu")
    # One of twelve layers is tried at full length; of thirty that is less.
    assert 1 <= read / (12 * tokens) < most


@pytest.mark.parametrize(
    ("shared", "own", "keeps"), [(2, 700, False), (300, 400, True), (2, 25, True), (0, 25, False)]
)
def test_long_rows_keep_a_prefix_only_where_that_outweighs_the_mask_they_then_need(
    shared: int, own: int, keeps: bool, tmp_path: Path
) -> None:
    folder = tiny.save(tmp_path / "model", max_position_embeddings=2048)
    letters = ["A" * shared + letter * own for letter in "BC"]
    examples = tuple(Example(text[-1], text, ("y", "n"), 0) for text in letters)
    task = Task("t", examples, "{question}", delimiter="")
    bench = Workbench(resolve_model(str(folder)), task, examples, "cpu", "float32")
    assert [len(one.branches) for one in bench.encoded] == [1, 1]
    assert bench.capabilities.keeps_prefix is keeps
    assert (len(bench.token_prefix) > 0) is keeps


@pytest.mark.parametrize("cache", [None, LayerCache(0)], ids=["plain", "a token prefix"])
def test_what_is_simply_causal_has_no_mask(cache: LayerCache | None) -> None:
    model = tiny.layered("llama")
    assert model.attention == "sdpa"
    prepared = model.prepare(torch.arange(200)[None], cache=cache)
    assert [call.kwargs["attention_mask"] for call in prepared.calls] == [None] * 6
