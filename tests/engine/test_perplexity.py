"""Perplexity on ordinary text is what plain transformers gives, whole and shallower."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from telltale.checkpoints.write import write_checkpoint
from telltale.engine.perplexity import (
    FEWEST_TOKENS,
    WINDOW,
    Page,
    built_in_page,
    page_from,
    perplexities,
)
from telltale.engine.workbench import Workbench
from telltale.errors import DataError, InputError
from telltale.models.source import resolve_model
from telltale.paths import LayerPath
from telltale.tasks import Example, Task
from tests import tiny

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = LayerPath.whole(6)
PATH = LayerPath((1, 2, 4, 5), 6)
TASK = Task("t", (Example("a", "x", ("A", "B"), 0),), "{question}")


def bench_for(folder: Path) -> Workbench:
    return Workbench(resolve_model(str(folder)), TASK, TASK.examples, "cpu", "float32")


def by_the_library(model: Any, windows: list[list[int]]) -> float:
    """exp of the mean negative log-likelihood, with the library's own loss."""
    total, tokens = 0.0, 0
    for window in windows:
        ids = torch.tensor([window])
        with torch.inference_mode():
            loss = model(ids, labels=ids).loss.item()
        total += loss * (len(window) - 1)
        tokens += len(window) - 1
    return math.exp(total / tokens)


@pytest.mark.parametrize("adds_bos", [False, True])
@pytest.mark.parametrize("family", ["llama", "mistral-window"])
def test_perplexity_is_the_librarys_for_the_whole_model_and_for_an_exported_path(
    family: str, adds_bos: bool, tmp_path: Path
) -> None:
    folder = tiny.save(tmp_path / "whole", family)
    tiny.tokenizer(adds_bos=adds_bos).save_pretrained(folder)
    page = built_in_page()
    found = perplexities(bench_for(folder), page, [WHOLE, PATH])
    write_checkpoint(resolve_model(str(folder)), PATH, tmp_path / "smaller")
    longest = 256  # what these models take, which is less than a window
    begin = [0] if adds_bos else []
    rest = tiny.tokenizer()(page.text)["input_ids"]
    size = longest - len(begin)
    windows = [begin + rest[start : start + size] for start in range(0, len(rest), size)]
    assert len(windows) > 3
    assert len(windows[-1]) < longest
    for path, written in ((WHOLE, folder), (PATH, tmp_path / "smaller")):
        model = AutoModelForCausalLM.from_pretrained(written).eval()
        assert found[path] == pytest.approx(by_the_library(model, windows), rel=1e-5)
    assert found[WHOLE] != pytest.approx(found[PATH], rel=1e-3)


def test_a_model_of_any_length_reads_windows_of_the_same_size(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "long", max_position_embeddings=4 * WINDOW)
    page = Page("page", built_in_page().text[:3000])
    found = perplexities(bench_for(folder), page, [WHOLE])
    tokens = tiny.tokenizer()(page.text)["input_ids"]
    windows = [tokens[start : start + WINDOW] for start in range(0, len(tokens), WINDOW)]
    assert len(windows) > 1
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert found[WHOLE] == pytest.approx(by_the_library(model, windows), rel=1e-5)


def test_a_page_of_too_few_tokens_is_refused(tiny_folder: Path) -> None:
    bench = bench_for(tiny_folder)
    tokens = tiny.tokenizer()
    long = next(
        "Why? " * count
        for count in range(1, 99)
        # The first token is not predicted.
        if len(tokens("Why? " * count)["input_ids"]) > FEWEST_TOKENS
    )
    assert perplexities(bench, Page("mine.txt", long), [WHOLE])[WHOLE] > 1
    with pytest.raises(InputError, match=r"the text mine.txt has \d+ tokens, too few"):
        perplexities(bench, Page("mine.txt", long[: len(long) // 2]), [WHOLE])


def test_a_page_is_named_by_its_file_and_known_by_its_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Some prose.\n", encoding="utf-8")
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfSome prose.\n")
    one, other = page_from(tmp_path / "a.txt"), page_from(tmp_path / "b.txt")
    assert (one.name, one.text) == ("a.txt", "Some prose.\n")
    assert one.sha256 == other.sha256 != built_in_page().sha256
    (tmp_path / "c.txt").write_text(" \n", encoding="utf-8")
    with pytest.raises(InputError, match=r"`text` c.txt is empty"):
        page_from(tmp_path / "c.txt")
    with pytest.raises(InputError, match="cannot read"):
        page_from(tmp_path / "none.txt")
    (tmp_path / "d.txt").write_bytes(b"one\ntwo \xff")
    with pytest.raises(DataError, match=r"d.txt, line 2: byte 0xff is not UTF-8"):
        page_from(tmp_path / "d.txt")


def test_the_built_in_page_is_long_enough_to_say_something() -> None:
    page = built_in_page()
    assert page.text.count(" ") > 700
    assert page.text.isascii()  # so that no tokenizer is put to a test of its own
