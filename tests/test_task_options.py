"""Tasks by the command line: every way to name and to ask one, measured and shown."""

from __future__ import annotations

import copy
import importlib.util
import json
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch

import telltale
from telltale.cli import main
from telltale.showing import BETWEEN, CLOSE, OPEN
from telltale.tasks.named import NAMED
from tests import questions, tiny
from tests.studies import result_of

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}> {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
JUDGE = """
def judge(text, right, question):
    return (len(text) + len(question)) % 3 / 2
"""
# What the model likes to write, so that some texts hold an answer.
LIKED = dict.fromkeys("ABC", 6) | dict.fromkeys("0123Ġ.", 4)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, own_datasets: None) -> Path:
    """A folder with a model that knows how to chat, data, a YAML file and a scorer."""
    folder = tmp_path_factory.mktemp("place")
    inner = tiny.build("llama", num_hidden_layers=4, max_position_embeddings=1024)
    tokenizer = copy.deepcopy(tiny.tokenizer())
    tokenizer.chat_template = TEMPLATE
    with torch.no_grad():
        for token, factor in LIKED.items():
            inner.lm_head.weight[tokenizer.convert_tokens_to_ids(token)] *= factor
    inner.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    shutil.copytree(folder / "model", folder / "with-bos")
    tiny.tokenizer(adds_bos=True).save_pretrained(folder / "with-bos")
    questions.harness_file(questions.data_dir(folder / "data"), folder)
    (folder / "judge.py").write_text(JUDGE)
    (folder / "page.txt").write_text("Is it? It is as it was. " * 9)
    return folder


class Way(NamedTuple):
    """A way to name and ask a task; ``examples`` it has, and what the result says of it."""

    task: str
    options: tuple[str, ...]
    asked: dict[str, Any]
    examples: int = 60


SHORT = ("--max-new-tokens", "4")
WAYS = {
    "a split": Way("arc_easy", ("--split", "validation"), {"protocol": "loglik", "shots": 0}, 40),
    "shots": Way("arc_easy", ("--shots", "2"), {"shots": 2, "scoring": "loglik"}),
    "shots by subject": Way("mmlu", ("--shots", "1"), {"shots": 1}),
    "lengths": Way(
        "sst2", ("--scoring", "loglik-per-character"), {"scoring": "loglik-per-character"}, 40
    ),
    "chat": Way(
        "arc_easy",
        ("--protocol", "chat", "--shots", "1", *SHORT),
        {"protocol": "chat", "extract": "letter", "max_new_tokens": 4, "shots": 1},
    ),
    "text": Way(
        "gsm8k",
        ("--protocol", "text", "--stop", "zz", *SHORT),
        {"protocol": "text", "extract": "number", "stop": ["zz"]},
    ),
    "a scorer": Way(
        "gsm8k", ("--scorer", "PLACE/judge.py:judge", *SHORT), {"protocol": "chat", "shots": 0}
    ),
    "the harness": Way(
        "harness:PLACE/made.yaml",
        ("--metric", "acc_norm", "--shots", "2"),
        {"name": "harness:made", "scoring": "loglik-per-character", "shots": 2},
    ),
    "a group": Way(
        "sst2=2,piqa",
        (),
        {"name": "sst2=2,piqa=1", "shares": pytest.approx({"sst2": 2 / 3, "piqa": 1 / 3})},
    ),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    if request.param == "the harness" and importlib.util.find_spec("lm_eval") is None:
        pytest.skip("lm-evaluation-harness is not installed")
    found = WAYS[request.param]
    return found


def arguments(place: Path, way: Way) -> list[str]:
    """The task and its options, as they come after the model."""
    is_named = not way.task.startswith("harness:")
    data = ["--data-dir", str(place / "data")] if is_named else []
    return [word.replace("PLACE", str(place)) for word in (way.task, *way.options)] + data


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    out, err = capsys.readouterr()
    assert ended.value.code == 0, err
    return out


def evaluated(
    capsys: pytest.CaptureFixture[str], place: Path, way: Way, out: Path, *more: str
) -> dict[str, Any]:
    """What eval writes, checked for what is true of every way."""
    asked = arguments(place, way)
    options = ["--out", str(out), "--text", str(place / "page.txt")]
    told = run(capsys, "eval", str(place / "model"), *asked, *options, *more)
    document: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    examples = document["examples"]
    scores = [example["score"] for example in examples]
    assert document["accuracy"] == sum(scores) / len(scores)
    low, high = document["interval"]
    assert 0 <= low < document["accuracy"] < high <= 1
    assert len({example["id"] for example in examples}) == len(examples)
    assert all(0 <= score <= 1 for score in scores)
    assert f"of {len(examples)} examples" in told
    for example in examples:
        if document["task"]["protocol"] == "loglik":
            assert len(example["loglikelihoods"]) == 3
            assert example["answer"] in range(3)
        else:
            assert {"text", "right", "cut_off", "answer"} <= example.keys()
    if document["task"].get("scoring") == "loglik":
        assert all(
            one["loglikelihoods"][one["answer"]] == max(one["loglikelihoods"]) for one in examples
        )
    return document


def test_each_way_is_evaluated_and_searched_alike(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path, way: Way
) -> None:
    whole = evaluated(capsys, place, way, tmp_path / "whole.json")
    assert (whole["removed"], whole["layers"]) == ([], 4)
    assert len(whole["examples"]) == way.examples
    for name, value in way.asked.items():
        assert whole["task"][name] == value
    half = way.examples // 2
    asked = arguments(place, way)
    sizes = ["--limit", str(half), "--held-out", str(half), "--max-removed", "1"]
    options = ["--tolerance", "1", "--text", str(place / "page.txt"), "--out", str(tmp_path / "s")]
    told = run(capsys, "search", str(place / "model"), *asked, *sizes, *options)
    found = result_of(tmp_path / "s")
    assert found["verdict"] in told
    for name, value in way.asked.items():
        assert found["task"][name] == value
    # Both sets together are all examples.
    assert found["task"]["search_examples"] == found["task"]["held_out_examples"] == half
    sets = [found["baseline"][side]["accuracy"] for side in ("search", "held_out")]
    assert sum(sets) / 2 == pytest.approx(whole["accuracy"])


def test_layers_left_out_change_what_is_measured_and_it_is_what_the_function_gives(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path, way: Way
) -> None:
    whole = evaluated(capsys, place, way, tmp_path / "whole.json", "--limit", "12")
    less = evaluated(capsys, place, way, tmp_path / "less.json", "--limit", "12", "--remove", "1,3")
    assert len(whole["examples"]) == len(less["examples"]) == 12
    assert (less["removed"], less["layers"]) == ([1, 3], 2)
    assert less["text"]["perplexity"] != less["text"]["whole_perplexity"]
    measured = "loglikelihoods" if whole["task"]["protocol"] == "loglik" else "text"
    for one, other in zip(whole["examples"], less["examples"], strict=True):
        assert one["id"] == other["id"]
    assert [one[measured] for one in whole["examples"]] != [
        one[measured] for one in less["examples"]
    ]
    given = arguments(place, way)
    options = {
        name.removeprefix("--").replace("-", "_"): value
        for name, value in zip(given[1::2], given[2::2], strict=True)
    }
    for name in {"shots", "max_new_tokens"} & options.keys():
        options[name] = int(options[name])  # type: ignore[call-overload]
    again = telltale.evaluate(
        str(place / "model"),
        telltale.load_task(given[0], **options),  # type: ignore[arg-type]
        remove=[1, 3],
        limit=12,
        text=place / "page.txt",
    )
    assert json.loads(json.dumps(again)) == less
