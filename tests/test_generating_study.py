"""Studies in which the model writes its answers, from start to end."""

from __future__ import annotations

import copy
import datetime
import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers.utils import chat_template_utils

import telltale
from telltale.cli.commands import main
from telltale.errors import InputError
from telltale.study.reading import read_study
from telltale.study.run import Watcher
from tests import tiny
from tests.studies import result_of

if TYPE_CHECKING:
    from pathlib import Path

    from telltale.measure import Measurement
    from telltale.study.run import Result
    from telltale.tasks import Task

ROWS = 60
ASKING = ("protocol", "prompt", "extract", "stop", "max_new_tokens", "shots")
DATED = (
    "{{ bos_token }}It is {{ strftime_now('%d %B') }}.\n{% for message in messages %}"
    "{{ message.content }}\n{% endfor %}{% if add_generation_prompt %}So:{% endif %}"
)


# The family of each kind's model, and what it likes to write, so that some texts hold an answer.
LIKED = {
    "letters": ("llama", dict.fromkeys("ABC", 6) | dict.fromkeys("Ġ.", 4)),
    "numbers": ("olmo2", {"<s>": 3}),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model for each kind of study, which knows how to chat."""
    found = {}
    for kind, (family, liked) in LIKED.items():
        found[kind] = tmp_path_factory.mktemp("models") / kind
        inner = tiny.build(family, num_hidden_layers=3)
        tokenizer = copy.deepcopy(tiny.tokenizer())
        tokenizer.chat_template = DATED
        with torch.no_grad():
            for token, factor in liked.items():
                inner.lm_head.weight[tokenizer.convert_tokens_to_ids(token)] *= factor
        inner.save_pretrained(found[kind])
        tokenizer.save_pretrained(found[kind])
    return found


def letters(number: int) -> dict[str, Any]:
    """A question whose choices are offered as letters."""
    choices = [str(number + more) for more in (1, 2)]
    choices.insert(number % 3, str(number))
    return {"question": f"Which is {number}?", "choices": choices, "answer": number % 3}


def numbers(number: int) -> dict[str, Any]:
    """A question whose answer is a number to be written."""
    answer = "$77.0" if number % 2 else f"{1000 + number:,}"
    return {"question": f"What is half of {number}?", "answer": answer}


KINDS = {"letters": letters, "numbers": numbers}


def data_file(folder: Path, kind: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{kind}.jsonl"
    rows = [json.dumps({"id": str(i), **KINDS[kind](i)}) for i in range(ROWS)]
    file.write_text("\n".join(rows), encoding="utf-8")
    return file


def search(models: dict[str, Path], kind: str, out: Path, **changes: Any) -> Result:
    file = data_file(out.parent, kind)
    (out.parent / "page.txt").write_text("Is it? It is as it was. " * 9, encoding="utf-8")
    settings: dict[str, Any] = {
        "limit": 30,
        "held_out": 30,
        "tolerance": 1,
        "max_removed": 1,
        "text": out.parent / "page.txt",
        **changes,
    }
    asking = {name: settings.pop(name) for name in ASKING if name in settings}
    task = asked(file, **asking)
    return telltale.search(str(models[kind]), task, out=out, **settings)


def asked(file: Path, **changes: Any) -> Task:
    return telltale.load_task(data=file, **{"protocol": "text", "max_new_tokens": 4, **changes})


class Interrupting(Watcher):
    """Counts what is measured anew, and interrupts the study when that is too much."""

    def __init__(self, most: int = 10**9) -> None:
        self.most = most
        self.fresh = 0

    def measured(self, measurement: Measurement, *, remembered: bool) -> None:
        self.fresh += not remembered
        if self.fresh > self.most:
            raise KeyboardInterrupt


@pytest.fixture(scope="module", params=list(KINDS))
def finished(
    request: pytest.FixtureRequest,
    models: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Path]:
    """A finished study of each kind; tests do not change it."""
    folder = tmp_path_factory.mktemp("generating") / request.param
    search(models, request.param, folder)
    return request.param, folder


def test_a_result_counts_what_was_written(
    finished: tuple[str, Path], models: dict[str, Path]
) -> None:
    kind, folder = finished
    result = result_of(folder)
    extract = {"letters": "letter", "numbers": "number"}[kind]
    assert result["task"]["protocol"] == "text"
    assert result["task"]["extract"] == extract
    counts = []
    for name in ("baseline", "best"):
        # All rows are in one of the sets, so the counts must add up to a recount of every text.
        found = telltale.evaluate(
            str(models[kind]),
            asked(folder.parent / f"{kind}.jsonl"),
            remove=result[name]["removed"],
        )
        texts = found["examples"]
        assert len(texts) == ROWS
        unparsable = sum(one["answer"] is None for one in texts)
        cut_off = sum(one["cut_off"] for one in texts)
        right = sum(one["score"] for one in texts)
        assert (found["unparsable"], found["cut_off"]) == (unparsable, cut_off)
        sets = [result[name]["search"], result[name]["held_out"]]
        assert sum(one["unparsable"] for one in sets) == unparsable
        assert sum(one["cut_off"] for one in sets) == cut_off
        assert sum(one["accuracy"] * 30 for one in sets) == pytest.approx(right)
        assert all(one["answer"] is not None for one in texts if one["score"])
        counts.append((unparsable, cut_off, right))
    for several in zip(*counts, strict=True):  # the counts say something
        assert any(0 < count < ROWS for count in several)


def test_a_finished_study_is_shown_with_its_texts_and_its_cautions(
    finished: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = finished
    with pytest.raises(SystemExit) as ended:
        main(["show", str(folder)])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    result = result_of(folder)
    for name in ("baseline", "best", "bsba"):
        counts = result[name]["held_out"]
        assert str(counts["unparsable"]) in shown
        assert f"{result[name]['text_perplexity']:.1f}" in shown
    assert "how many the token limit cut off: whole model" in shown
    assert "Perplexity on ordinary text (page.txt)" in shown
    assert result["cautions"]
    assert all(f"Mind: {line}." in shown for line in result["cautions"])


def test_a_finished_study_measures_nothing_again(
    finished: tuple[str, Path], models: dict[str, Path]
) -> None:
    kind, folder = finished
    before, watcher = result_of(folder, cost=True), Interrupting()
    search(models, kind, folder, watcher=watcher)
    assert watcher.fresh == 0
    assert result_of(folder, cost=True) == before


def test_an_interrupted_study_goes_on_to_the_same_result(
    finished: tuple[str, Path], models: dict[str, Path], tmp_path: Path
) -> None:
    kind, folder = finished
    out = tmp_path / folder.parent.name / "s"  # the data's folder is part of its name
    out.parent.mkdir()
    with pytest.raises(KeyboardInterrupt):
        search(models, kind, out, watcher=Interrupting(most=2))
    assert not (out / "result.json").exists()
    watcher = Interrupting()
    search(models, kind, out, watcher=watcher)
    assert watcher.fresh > 0
    assert result_of(out) == result_of(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extract": "regex:[0-9]"}, "how the task is asked and scored"),
        ({"stop": ["x"]}, "how the task is asked and scored"),
        ({"max_new_tokens": 5}, "how the task is asked and scored"),
        ({"truncate": "left"}, "`truncate`"),
    ],
)
def test_another_way_to_ask_is_another_study(
    finished: tuple[str, Path], models: dict[str, Path], changes: dict[str, Any], message: str
) -> None:
    kind, folder = finished
    before = (folder / "study.sqlite").read_bytes()
    with pytest.raises(InputError, match=f"holds another study, which differs in: .*{message}"):
        search(models, kind, folder, **changes)
    assert (folder / "study.sqlite").read_bytes() == before


def test_a_text_to_read_may_change_and_is_measured_alone(
    models: dict[str, Path], tmp_path: Path
) -> None:
    first = search(models, "numbers", tmp_path / "s").document
    (tmp_path / "other.txt").write_text("What was it? " * 20, encoding="utf-8")
    watcher = Interrupting()
    changes: dict[str, Any] = {"text": tmp_path / "other.txt", "watcher": watcher}
    second = search(models, "numbers", tmp_path / "s", **changes).document
    assert watcher.fresh == 0
    assert second["text"]["name"] == "other.txt"
    assert second["fingerprint"] == first["fingerprint"]
    for name in ("baseline", "best"):
        assert second[name]["text_perplexity"] != first[name]["text_perplexity"]
        assert second[name]["held_out"] == first[name]["held_out"]
    assert search(models, "numbers", tmp_path / "s").document == first


def test_prompts_that_lost_their_beginning_are_told(
    models: dict[str, Path], tmp_path: Path
) -> None:
    changes = {"prompt": "so on and " * 100 + r"{question}\nAnswer:", "truncate": "left"}
    found = search(models, "numbers", tmp_path / "s", **changes).document
    told = f"{ROWS} prompts were longer than the model takes and lost their beginning"
    assert told in found["cautions"]
    with pytest.raises(InputError, match=r"or cut long prompts with `truncate` left"):
        search(models, "numbers", tmp_path / "t", **{**changes, "truncate": "no"})


def test_a_chat_that_names_another_day_is_another_study(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Day(datetime.datetime):
        number = 3

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Day:
            return cls(2026, 5, cls.number, tzinfo=tz)

    monkeypatch.setattr(chat_template_utils, "datetime", Day)
    chat = {"protocol": "chat", "max_removed": None, "protect": [0, 1]}
    found = search(models, "letters", tmp_path / "s", **chat).document
    assert found["task"]["protocol"] == "chat"
    assert found["task"]["stop"] == []
    again = Interrupting()
    assert search(models, "letters", tmp_path / "s", **chat, watcher=again).document == found
    assert again.fresh == 0
    Day.number = 4
    with pytest.raises(InputError, match=r"differs in: the prompts as the model reads them"):
        search(models, "letters", tmp_path / "s", **chat)
    assert read_study(tmp_path / "s").document == found
    # Plain text names no day.
    text = {**chat, "protocol": "text"}
    search(models, "letters", tmp_path / "t", **text)
    Day.number = 5
    assert search(models, "letters", tmp_path / "t", **text)


def test_a_chat_model_that_is_none_is_refused_and_leaves_nothing_behind(
    tiny_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"no chat template.*give `protocol` text"):
        search({"numbers": tiny_folder}, "numbers", tmp_path / "s", protocol=None)
    assert not (tmp_path / "s").exists()
