"""Prompts as tokens: what a model goes on from, cut or refused where there is no room."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telltale.engine.encode import (
    EncodedExample,
    InputLimit,
    chat_prompts,
    encode_choices,
    encode_prompts,
    encode_text,
)
from telltale.errors import DataError, InputError
from telltale.tasks import Example, Generation, Task
from tests import tiny

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TEXT, CHAT = (
    Task("t", (), "", generation=Generation(chat, extract="exact", max_new_tokens=5, stop=()))
    for chat in (False, True)
)
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message.role }}] {{ message.content }}\n"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


def chatting(template: str = TEMPLATE, *, adds_bos: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer of a chat model."""
    own = copy.deepcopy(tiny.tokenizer(adds_bos=adds_bos))
    own.chat_template = template
    return own


def prompts(*contexts: str) -> list[Example]:
    return [Example(f"row {i}", text, ("yes",), 0) for i, text in enumerate(contexts)]


def encoded(context: str, limit: InputLimit) -> EncodedExample:
    (found,) = encode_prompts(TEXT, prompts(context), tiny.tokenizer(), limit=limit)
    return found


CONTEXTS = st.lists(st.integers(0, 9), min_size=1, max_size=30)


@given(CONTEXTS, st.integers(0, 12), st.integers(1, 30), st.sampled_from([None, 0]))
def test_a_context_is_kept_whole_or_cut_to_what_there_is_room_for(
    context: list[int], after: int, longest: int, first: int | None
) -> None:
    fits = len(context) + after <= longest
    begins = context[0] == first
    try:
        found = InputLimit(longest, cuts=True).fit("row 1", context, after, first)
    except DataError:
        # No token of the prompt's own would be left.
        assert not fits
        assert longest - after - begins < 1
    else:
        assert len(found) == min(len(context), longest - after)
        own = found[begins:]
        assert own == tuple(context[len(context) - len(own) :])
        assert found[:begins] == tuple(context[:begins])
        assert own or len(context) == begins
    assert InputLimit(None).fit("row 1", context, after, first) == tuple(context)


@given(CONTEXTS, st.integers(0, 12), st.integers(0, 12), st.sampled_from([None, 0]))
def test_a_context_that_fits_is_kept_whole(
    context: list[int], after: int, spare: int, first: int | None
) -> None:
    longest = len(context) + after + spare
    assert InputLimit(longest).fit("row 1", context, after, first) == tuple(context)


@given(CONTEXTS, st.integers(0, 12), st.data())
def test_a_context_that_does_not_fit_is_refused_where_none_is_cut(
    context: list[int], after: int, data: st.DataObject
) -> None:
    tokens = len(context) + after
    longest = data.draw(st.integers(0, tokens - 1))
    with pytest.raises(DataError, match=f"^row 1: {tokens} tokens are more than"):
        InputLimit(longest).fit("row 1", context, after, first=None)


def test_a_long_prompt_is_refused_or_cut_and_then_says_so() -> None:
    long = "one two three four five six"
    tokens = tiny.tokenizer()(long)["input_ids"]
    enough = len(tokens) + 4  # the last token written is never read
    whole, cut = (
        encoded(long, InputLimit(enough, cuts=True)),
        encoded(long, InputLimit(enough - 1, cuts=True)),
    )
    assert (whole.context, whole.is_cut) == (tuple(tokens), False)
    assert (cut.context, cut.is_cut) == (tuple(tokens[1:]), True)
    with pytest.raises(DataError, match=r"example 'row 0': .*cut long prompts with `truncate`"):
        encoded(long, InputLimit(enough - 1))
    with pytest.raises(DataError, match=r"or lower `max_new_tokens` \(now 5\)$"):
        encoded(long, InputLimit(4, cuts=True))


def test_examples_with_choices_are_cut_to_leave_room_for_the_longest() -> None:
    example = Example("row 7", "one two three four five six", ("yes", "no or never"), 0)
    tokenizer = tiny.tokenizer(adds_bos=True)

    def encode(limit: InputLimit) -> EncodedExample:
        return encode_choices(Task("t", (), ""), [example], tokenizer, limit=limit)[0]

    whole = encode(InputLimit(None))
    longest = len(whole.context) + max(map(len, whole.choices)) - 1
    assert encode(InputLimit(longest)) == whole
    cut = encode(InputLimit(longest - 2, cuts=True))
    assert cut.is_cut
    assert cut.choices == whole.choices
    assert cut.context == (whole.context[0], *whole.context[3:])  # it begins as texts begin
    with pytest.raises(DataError, match=r"example 'row 7': .* tokens are more than the"):
        encode(InputLimit(longest - 2))


def test_a_plain_prompt_is_tokenized_as_it_is() -> None:
    context = "Question: Is it?\nAnswer: "
    for adds_bos in (False, True):
        tokenizer = tiny.tokenizer(adds_bos=adds_bos)
        (found,) = encode_prompts(TEXT, prompts(context), tokenizer, limit=InputLimit(None))
        assert found == EncodedExample(tuple(tokenizer(context)["input_ids"]), (), (), 0)
        assert (found.context[0] == 0) == adds_bos
    with pytest.raises(DataError, match="example 'row 0': the prompt has no tokens"):
        encoded("", InputLimit(None))


@pytest.mark.parametrize("adds_bos", [False, True])
def test_a_chats_prompt_is_a_users_turn_with_one_beginning(adds_bos: bool) -> None:
    tokenizer = chatting(adds_bos=adds_bos)
    (found,) = encode_prompts(CHAT, prompts("Is it?"), tokenizer, limit=InputLimit(None))
    turn = [{"role": "user", "content": "Is it?"}]
    # The library's own way from messages to tokens.
    expected = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=True)
    assert found.context == tuple(expected["input_ids"])
    assert found.context.count(0) == 1
    assert tokenizer.decode(found.context[1:]) == "[user] Is it?\n[assistant]"
    assert chat_prompts(CHAT, prompts("Is it?"), tokenizer) == ["<s>[user] Is it?\n[assistant]"]


def test_a_tokenizer_without_a_template_is_no_chat_models() -> None:
    assert chat_prompts(CHAT, prompts("Is it?"), chatting())
    with pytest.raises(InputError, match=r"no chat template.*give `protocol` text"):
        chat_prompts(CHAT, prompts("Is it?"), tiny.tokenizer())


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('one\ntwo') }}", "one two"),
        ("{% if %}", "Expected an expression"),
        ("{{ messages[3].content }}", "no element 3"),
    ],
)
def test_a_template_that_fails_is_told_in_one_line(template: str, message: str) -> None:
    assert chat_prompts(CHAT, prompts("Is it?"), chatting("{{ messages[0].content }}")) == [
        "Is it?"
    ]
    with pytest.raises(
        InputError, match=rf"chat template fails \(.*{message}.*`protocol` text"
    ) as e:
        chat_prompts(CHAT, prompts("Is it?"), chatting(template))
    assert "\n" not in str(e.value)


TEXTS = st.lists(st.sampled_from(["a", "Rome ", "is not ", "\n", "42"]), max_size=40).map("".join)


@given(TEXTS, st.integers(2, 12), st.integers(1, 60), st.booleans())
def test_windows_of_a_text_hold_its_tokens_once_and_begin_as_texts_begin(
    text: str, window: int, most: int, adds_bos: bool
) -> None:
    tokenizer = tiny.tokenizer(adds_bos=adds_bos)
    found = encode_text(text, tokenizer, window=window, most=most)
    windows = [[*one.context, *one.choices[0]] for one in found]
    tokens = tokenizer(text)["input_ids"][:most]
    begin = tokens[:1] if adds_bos else []
    assert all(len(one) <= window for one in windows)
    assert all(len(one) == window for one in windows[:-1])
    assert all(len(one.context) == len(one.choices) == 1 for one in found)
    assert all(one[: len(begin)] == begin for one in windows)
    held = [token for one in windows for token in one[len(begin) :]]
    rest = tokens[len(begin) :]
    # A last token alone, with nothing before it, cannot be predicted.
    alone = not begin and len(rest) % window == 1
    assert held == rest[: len(rest) - alone]
