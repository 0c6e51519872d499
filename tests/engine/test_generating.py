"""Generated text is what the model itself generates, token for token, whole and shallower."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from telltale.checkpoints.write import write_checkpoint
from telltale.engine.batches import canonical_batches
from telltale.engine.encode import EncodedExample, common_token_prefix
from telltale.engine.generating import Generating
from telltale.engine.selftest import find_capabilities
from telltale.engine.shared import Capabilities, SharedEngine
from telltale.engine.store import StateStore
from telltale.errors import MeasurementError
from telltale.measure import Batch, Outcome, outcomes_by_path
from telltale.models.source import resolve_model
from telltale.paths import LayerPath
from telltale.tasks import Example, Generation
from tests import tiny
from tests.encoded import example

NEW_TOKENS = 8
WHOLE = LayerPath.whole(6)
PATH = LayerPath((1, 2, 4, 5), 6)
LONGEST = 40
ENDS = frozenset(range(0, 300, 9))  # made to end texts, so that rows end one by one


class Spelling:
    """A tokenizer that spells tokens as numbers, so that no text hides which they were."""

    def decode(self, tokens: list[int], **_: object) -> str:
        return "".join(f" {token}" for token in tokens)


def prompts(count: int, *, seed: int = 1, prefix: int = 3) -> list[EncodedExample]:
    """Prompts of uneven length with some first tokens in common."""
    source = random.Random(seed)
    common = tuple(source.randrange(300) for _ in range(prefix))
    return [
        example(common + tuple(source.randrange(300) for _ in range(source.randint(1, LONGEST))))
        for _ in range(count)
    ]


def engine_for(
    family: str,
    encoded: list[EncodedExample],
    *,
    capabilities: Capabilities | None = None,
    budget: int = 10**9,
    end_tokens: frozenset[int] = ENDS,
    tokenizer: Any = None,
    examples: list[Example] | None = None,
    **settings: Any,
) -> SharedEngine:
    model = tiny.layered(family)
    found = capabilities or find_capabilities(
        model, longest=LONGEST + 3 + NEW_TOKENS, generates=True
    )
    generation = Generation(
        **{
            "chat": False,
            "extract": "exact",
            "max_new_tokens": NEW_TOKENS,
            "stop": (),
            **settings,
        }
    )
    reader = Generating(
        tokenizer or Spelling(),
        generation,
        examples or [Example(str(i), "", ("x",), 0) for i in range(len(encoded))],
        end_tokens=end_tokens,
        continues=found.continues,
    )
    return SharedEngine(
        model,
        encoded,
        reader,
        capabilities=found,
        token_prefix=common_token_prefix(encoded),
        store=StateStore(budget),
    )


def batches_of(encoded: list[EncodedExample], budget: int = 400) -> tuple[Batch, ...]:
    sizes = {i: (1, len(one.context)) for i, one in enumerate(encoded)}
    return canonical_batches(sizes, token_budget=budget)


def written(outcomes: dict[int, Outcome]) -> list[list[int]]:
    texts = [outcomes[i].generated for i in range(len(outcomes))]
    return [[int(word) for word in text.text.split()] for text in texts if text is not None]


def generated_by(model: Any, encoded: list[EncodedExample]) -> list[list[int]]:
    """What the library generates, all prompts in one batch, padded on the left."""
    longest = max(len(one.context) for one in encoded)
    pads = [longest - len(one.context) for one in encoded]
    ids = [[0] * pad + list(one.context) for pad, one in zip(pads, encoded, strict=True)]
    mask = [[0] * pad + [1] * (longest - pad) for pad in pads]
    with torch.inference_mode():
        found = model.generate(
            torch.tensor(ids),
            attention_mask=torch.tensor(mask),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            use_cache=True,
            eos_token_id=sorted(ENDS),
            pad_token_id=0,
        )
    rows = [row[longest:].tolist() for row in found]
    ends = [next((i for i, token in enumerate(row) if token in ENDS), None) for row in rows]
    return [row[:end] for row, end in zip(rows, ends, strict=True)]


@pytest.mark.parametrize("family", ["llama", "gemma3", "mistral-window", "gpt2"])
def test_fifty_uneven_prompts_give_what_the_library_generates(family: str) -> None:
    encoded = prompts(50)
    engine = engine_for(family, encoded)
    assert engine.capabilities.continues
    found = outcomes_by_path(engine([WHOLE], batches_of(encoded)))[WHOLE]
    expected = generated_by(tiny.build(family), encoded)
    assert written(found) == expected
    assert {len(row) for row in expected} > {NEW_TOKENS}  # some end before, and some do not
    for outcome, row in zip((found[i] for i in range(50)), expected, strict=True):
        assert outcome.generated is not None
        # What ends at the very last token allowed has been ended by itself.
        assert not outcome.generated.cut_off or len(row) == NEW_TOKENS
        assert outcome.generated.tokens == len(row)


@pytest.mark.parametrize("family", ["llama", "mistral-window", "qwen2-window"])
def test_a_path_writes_what_the_exported_model_generates(family: str, tmp_path: Any) -> None:
    encoded = prompts(50, seed=2)
    engine = engine_for(family, encoded)
    paths = [WHOLE, PATH, WHOLE.without(2), WHOLE.without(0)]
    found = outcomes_by_path(engine(paths, batches_of(encoded)))
    write_checkpoint(
        resolve_model(str(tiny.save(tmp_path / "whole", family))), PATH, tmp_path / "x"
    )
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "x").eval()
    assert written(found[PATH]) == generated_by(exported, encoded)
    assert written(found[WHOLE]) == generated_by(tiny.build(family), encoded)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_cached_and_recomputed_texts_are_the_same(family: str) -> None:
    encoded = prompts(4, seed=3)
    batches = batches_of(encoded, 80)
    paths = [PATH]
    plain = Capabilities(keeps_prefix=False, shares_context=True, continues=False)
    slow = outcomes_by_path(engine_for(family, encoded, capabilities=plain)(paths, batches))
    fast = engine_for(family, encoded)
    assert fast.capabilities.continues
    assert outcomes_by_path(fast(paths, batches)) == slow


def test_rounds_go_on_from_states_with_their_keys_and_values() -> None:
    encoded = prompts(4, seed=4)
    batches = batches_of(encoded, 100)
    engine = engine_for("llama", encoded)
    rounds = [
        [WHOLE],
        [WHOLE.without(layer) for layer in WHOLE.kept],
        [WHOLE.without(3).without(layer) for layer in WHOLE.without(3).kept],
    ]
    for paths in rounds:
        found = outcomes_by_path(engine(paths, batches))
        alone = outcomes_by_path(
            m for path in paths for m in engine_for("llama", encoded, budget=0)([path], batches)
        )
        assert found == alone


def test_writing_that_is_left_at_any_time_begins_again_alike() -> None:
    encoded = prompts(6, seed=4)
    batches = batches_of(encoded, 100)
    paths = [WHOLE, *(WHOLE.without(layer) for layer in WHOLE.kept)]
    expected = outcomes_by_path(engine_for("llama", encoded)(paths, batches))
    engine = engine_for("llama", encoded)
    for count in range(1, len(paths) * len(batches), 3):
        left = engine(paths, batches)
        found = outcomes_by_path(next(left) for _ in range(count))
        left.close()  # type: ignore[attr-defined]
        for path, outcomes in found.items():
            assert outcomes.items() <= expected[path].items()
    assert outcomes_by_path(engine(paths, batches)) == expected


def test_a_stop_string_ends_a_text_before_it_even_across_tokens() -> None:
    encoded = prompts(8, seed=5)
    (first,) = batches_of(encoded, 10_000)
    free = outcomes_by_path(engine_for("llama", encoded, end_tokens=frozenset())([WHOLE], [first]))
    tokens = written(free[WHOLE])[0]
    stop = f"{tokens[4]} {tokens[5]}"[1:]  # ends one token and holds the next
    engine = engine_for("llama", encoded, end_tokens=frozenset(), stop=(stop, "never"))
    stopped = outcomes_by_path(engine([WHOLE], [first]))[WHOLE]
    outcome = stopped[0].generated
    whole = free[WHOLE][0].generated
    assert outcome is not None
    assert whole is not None
    assert outcome.text == whole.text[: whole.text.index(stop)]
    assert not outcome.cut_off
    read = next(n for n in range(9) if stop in Spelling().decode(tokens[:n]))
    assert outcome.tokens == read < NEW_TOKENS
    assert whole.cut_off


class Lettering(Spelling):
    """Spells each token as a letter and a space."""

    def decode(self, tokens: list[int], **_: object) -> str:
        return "".join(f"{'ABxyz'[token % 5]} " for token in tokens)


def test_a_text_ends_where_no_more_of_it_could_change_the_answer() -> None:
    encoded = prompts(20, seed=6)
    letters = [Example(str(i), "", ("A", "B"), i % 2) for i in range(20)]
    batches = batches_of(encoded)

    def outcomes(extract: str) -> dict[int, Outcome]:
        engine = engine_for(
            "llama", encoded, tokenizer=Lettering(), examples=letters, extract=extract
        )
        return outcomes_by_path(engine([WHOLE], batches))[WHOLE]

    early, late = outcomes("letter"), outcomes("regex:[AB]")
    for i in range(20):
        one, other = early[i], late[i]
        assert one.generated is not None
        assert other.generated is not None
        assert (one.answer or "").casefold() == (other.answer or "")
        assert one.score == float(one.answer == letters[i].choices[letters[i].answer])
        assert one.answer is None or one.generated.tokens <= other.generated.tokens
        assert other.generated.text.startswith(one.generated.text)
    assert any(a.generated.tokens < late[i].generated.tokens for i, a in early.items())  # type: ignore[union-attr]
    assert {outcome.score for outcome in early.values()} == {0.0, 1.0}


def test_text_without_an_answer_is_wrong_and_has_none() -> None:
    encoded = prompts(3, seed=7)
    engine = engine_for("llama", encoded, extract="regex:never")
    for outcome in outcomes_by_path(engine([WHOLE], batches_of(encoded)))[WHOLE].values():
        assert (outcome.answer, outcome.score) == (None, 0.0)


def test_not_a_number_ends_in_a_measurement_error(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = prompts(3, seed=8)
    engine = engine_for("llama", encoded)
    assert list(engine([WHOLE], batches_of(encoded)))  # the good case
    logits = type(engine.model).next_logits

    def broken(self: Any, *args: Any) -> Any:
        return logits(self, *args) * float("nan")

    monkeypatch.setattr(type(engine.model), "next_logits", broken)
    with pytest.raises(MeasurementError, match="NaN while generating; try `dtype` float32"):
        list(engine([WHOLE], batches_of(encoded)))


def test_layer_tokens_count_what_is_read_and_what_is_written() -> None:
    encoded = [example((5, 6, 7)), example((8, 9, 7))]
    plain = Capabilities(keeps_prefix=False, shares_context=True, continues=True)
    engine = engine_for("llama", encoded, capabilities=plain, end_tokens=frozenset())
    (measured,) = engine([PATH], [Batch((0, 1))])
    # The last token written is never read.
    assert measured.layer_tokens == PATH.depth * 2 * (3 + NEW_TOKENS - 1)
