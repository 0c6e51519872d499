"""Tasks of lm-evaluation-harness: what it would send and say itself is what ours must be."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import random
import statistics
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telltale.errors import InputError, MeasurementError
from telltale.measure import ChoiceOutcome, Generated, Outcome
from telltale.support.files import sha256_of_json
from telltale.tasks.task import Generation, Protocol, Request, Scoring

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

from lm_eval import evaluator
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from telltale.engine.workbench import Workbench
from telltale.models.source import resolve_model
from telltale.paths import LayerPath
from telltale.tasks.harness import _stops, harness_task
from telltale.tasks.harness_source import find
from telltale.tasks.shots import without_shown
from tests import tiny

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from telltale.tasks.task import Example, Task

pytestmark = [
    # What the harness and its libraries say of themselves when they are asked directly.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
WORDS = ["red", "green", "blue", "grey", "brown", "pink", "black", "white", "gold", "teal"]


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No data set's cache is written where the user's are."""
    from datasets import config

    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("datasets")
        patch.setattr(config, "HF_DATASETS_CACHE", folder)
        patch.setattr(config, "HF_MODULES_CACHE", str(folder / "modules"))
        patch.setattr(config, "DOWNLOADED_DATASETS_PATH", folder / "downloads")
        patch.setattr(evaluator, "add_env_info", lambda _: None)
        yield


# Tasks made up for the tests


@dataclass
class Made:
    """A YAML file over made-up rows."""

    folder: Path
    config: dict[str, Any]
    rows: dict[str, list[dict[str, Any]]]
    python: str = ""
    name: str = "made.yaml"
    files: dict[str, str] = field(default_factory=dict)

    def write(self) -> str:
        self.folder.mkdir(exist_ok=True)
        paths = {}
        for split, rows in self.rows.items():
            path = self.folder / f"{split}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
            paths[split] = str(path)
        config = {
            "task": "made",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": paths},
        } | self.config
        (self.folder / self.name).write_text(as_yaml(config), "utf-8")
        if self.python:
            (self.folder / "utils.py").write_text(self.python, "utf-8")
        return str(self.folder / self.name)


def as_yaml(config: dict[str, Any]) -> str:
    # JSON is YAML, but for tags.
    return "".join(
        f"{key}: {value if str(value).startswith('!') else json.dumps(value)}\n"
        for key, value in config.items()
    )


def questions(split: str, count: int) -> list[dict[str, Any]]:
    return [
        {
            "question": f"Which {split} colour is number {index}?",
            "choices": [WORDS[(index + step) % 10] + "er" * step for step in range(4)],
            "answer": index % 4,
        }
        for index in range(count)
    ]


CHOICE = {
    "output_type": "multiple_choice",
    "training_split": "train",
    "test_split": "test",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "answer",
    "metric_list": [
        {"metric": name, "aggregation": "mean", "higher_is_better": True}
        for name in ("acc", "acc_norm", "acc_bytes")
    ],
}


def choice(folder: Path, **config: Any) -> Made:
    rows = {"train": questions("train", 12), "test": questions("test", 9)}
    return Made(folder, CHOICE | config, rows)


def mutual(folder: Path) -> Made:
    return choice(
        folder,
        metric_list=[
            {"metric": name, "aggregation": "mean", "higher_is_better": True}
            for name in ("acc", "acc_mutual_info")
        ],
    )


def lettered(folder: Path) -> Made:
    """As MMLU is asked: letters for choices, a description, the first of a split for shots."""
    made = choice(
        folder,
        training_split=None,
        fewshot_split="dev",
        fewshot_config={"sampler": "first_n"},
        description="The following are questions about colours.\n\n",
        doc_to_text="{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nAnswer:",
        doc_to_choice=["A", "B", "C", "D"],
    )
    made.rows["dev"] = questions("dev", 5)
    return made


BLANK = """
def which(doc):
    return {"1": 0, "2": 1}[doc["answer"]]


def heads(doc):
    head = doc["sentence"].partition("_")[0]
    return [head + doc["option1"], head + doc["option2"]]


def tail(doc):
    return doc["sentence"].partition("_")[2].strip()
"""


def blank(folder: Path) -> Made:
    """As WinoGrande is asked: a prompt for each choice, and the same end after all."""
    nouns = ["cup", "box", "car", "bag", "hat", "map"]
    rows = {
        split: [
            {
                "sentence": f"The {nouns[index % 6]} of {split} did not fit the {WORDS[index]} one "
                "because the _ was too big.",
                "option1": nouns[index % 6],
                "option2": f"{WORDS[index]} one",
                "answer": str(1 + index % 2),
            }
            for index in range(9)
        ]
        for split in ("train", "test")
    }
    return Made(
        folder,
        CHOICE
        | {
            "doc_to_text": "!function utils.which",
            "doc_to_choice": "!function utils.heads",
            "doc_to_target": "!function utils.tail",
        },
        rows,
        BLANK,
    )


def several_right(folder: Path) -> Made:
    # Shots must have one answer: the harness cannot show several.
    made = choice(folder, doc_to_target="{{right}}", fewshot_config={"doc_to_target": "answer"})
    for rows in made.rows.values():
        for index, row in enumerate(rows):
            row["right"] = [index % 4, (index + 2) % 4]
    return made


def sums(folder: Path, **config: Any) -> Made:
    """As GSM8K is asked: text, and two filters."""
    rows = {
        split: [
            {
                "question": f"What is {start + index} plus {2 * index}?",
                "answer": f"We add them.\n#### {start + 3 * index}",
            }
            for index in range(9)
        ]
        for split, start in (("train", 100), ("test", 1))
    }
    return Made(
        folder,
        {
            "output_type": "generate_until",
            "training_split": "train",
            "fewshot_split": "train",
            "test_split": "test",
            "doc_to_text": "Question: {{question}}\nAnswer:",
            "doc_to_target": "{{answer}}",
            "generation_kwargs": {
                "until": ["Question:", "</s>"],
                "do_sample": False,
                "temperature": 0.0,
                "max_gen_toks": 24,
            },
            "metric_list": [
                {
                    "metric": "exact_match",
                    "aggregation": "mean",
                    "higher_is_better": True,
                    "ignore_case": True,
                    "regexes_to_ignore": [",", "(?s).*#### "],
                }
            ],
            "filter_list": [
                {
                    "name": "strict",
                    "filter": [
                        {"function": "regex", "regex_pattern": "#### (\\-?[0-9.,]+)"},
                        {"function": "take_first"},
                    ],
                },
                {
                    "name": "flexible",
                    "filter": [
                        {
                            "function": "regex",
                            "group_select": -1,
                            "regex_pattern": "(-?[$0-9.,]{2,})|(-?[0-9]+)",
                        },
                        {"function": "take_first"},
                    ],
                },
            ],
        }
        | config,
        rows,
    )


KINDS: dict[str, Callable[[Path], Made]] = {
    "choice": choice,
    "mutual": mutual,
    "lettered": lettered,
    "blank": blank,
    "several": several_right,
    "sums": sums,
}


# The harness itself, with a model that makes things up


def number(seed: int, *texts: str) -> int:
    data = "\x00".join([str(seed), *texts]).encode()
    return int.from_bytes(hashlib.sha256(data).digest()[:4], "big")


def loglik(seed: int, context: str, continuation: str) -> float:
    """Coarse, so that some are equal."""
    return -float(1 + number(seed, context, continuation) % 12)


def text(seed: int, context: str) -> str:
    value = number(seed, context)
    ends = [
        f"#### {value % 30}",
        f"it is {value % 30}.",
        "nothing",
        f"#### 1,{value % 1000:03}",
        "",
    ]
    return f"Well, {ends[value % 5]}"


class MadeUp(LM):
    """Remembers what it is asked."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.asked: list[tuple[Any, ...]] = []

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        self.asked += [request.args for request in requests]
        return [(loglik(self.seed, *request.args), False) for request in requests]

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        raise NotImplementedError

    def generate_until(self, requests: list[Any]) -> list[str]:
        self.asked += [request.args for request in requests]
        return [text(self.seed, request.args[0]) for request in requests]


def own_run(
    file: str, seed: int = 0, shots: int | None = None, limit: int | None = None
) -> tuple[list[tuple[Any, ...]], dict[str, float], list[dict[str, Any]]]:
    """What the harness asks of a model, its metrics, and what it says of each document."""
    model = MadeUp(seed)
    results = evaluator.simple_evaluate(
        model,
        tasks=[file],
        num_fewshot=shots,
        limit=limit,
        bootstrap_iters=0,
        task_manager=TaskManager(include_defaults=False),
    )
    return model.asked, results["results"]["made"], results["samples"]["made"]


def outcome(task: Task, example: Example, seed: int) -> Outcome:
    """What an engine would give for the same model."""
    if task.generation is not None:
        written = text(seed, example.requests[0].context)
        return Outcome(0, (), None, 0.0, Generated(written, 9, cut_off=False))
    choices = tuple(
        ChoiceOutcome(loglik(seed, *request), 1, len(choice), len(choice.encode()))
        for request, choice in zip(example.requests, example.choices, strict=True)
    )
    return Outcome(0, choices, task.scoring.choose(choices), 0.0)


def judged(task: Task, seed: int) -> list[Outcome]:
    assert task.scorer is not None
    return [task.scorer(example, outcome(task, example, seed)) for example in task.examples]


@pytest.fixture(scope="module", params=KINDS)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return KINDS[request.param](tmp_path_factory.mktemp(request.param)).write()


@functools.cache
def ours(file: str, shots: int | None, limit: int | None, metric: str | None = None) -> Task:
    return harness_task(file, shots=shots, limit=limit, metric=metric)


@pytest.mark.parametrize(("shots", "limit"), [(None, None), (0, None), (3, None), (3, 4), (5, 9)])
def test_a_model_reads_what_the_harness_would_send(
    file: str, shots: int | None, limit: int | None
) -> None:
    task = ours(file, shots, limit)
    asked, _, _ = own_run(file, shots=shots, limit=limit)
    if task.generation is not None:
        asked = [(context, "") for context, _ in asked]
    assert [request for example in task.examples for request in example.requests] == [
        Request(*one) for one in asked
    ]
    assert all(task.requests(example) == example.requests for example in task.examples)


MADE_UP = given(
    seed=st.integers(0, 10**6), shots=st.sampled_from([None, 2]), limit=st.sampled_from([None, 5])
)
OFTEN = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))


def metrics_of(results: dict[str, float]) -> list[str]:
    """Those of single examples, each with its filter: ``acc,none``."""
    names = [metric.partition(",")[::2] for metric in results]
    found = [f"{name},{by}" for name, by in names if by and not name.endswith("_stderr")]
    assert found
    return found


@OFTEN
@MADE_UP
def test_scores_are_the_harness_s_own(
    file: str, seed: int, shots: int | None, limit: int | None
) -> None:
    _, results, samples = own_run(file, seed, shots, limit)
    for metric in metrics_of(results):
        name, _, filtered_by = metric.partition(",")
        outcomes = judged(ours(file, shots, limit, metric), seed)
        mean = sum(one.score for one in outcomes) / len(outcomes)
        assert mean == pytest.approx(results[metric], abs=1e-12)
        of_filter = [one for one in samples if one["filter"] == filtered_by]
        assert [one.score for one in outcomes] == [one[name] for one in of_filter]


@pytest.mark.parametrize("file", ["choice", "mutual", "lettered", "blank"], indirect=True)
@OFTEN
@MADE_UP
def test_the_answer_that_is_told_is_the_one_that_was_judged(
    file: str, seed: int, shots: int | None, limit: int | None
) -> None:
    _, results, _ = own_run(file, seed, shots, limit)
    for metric in metrics_of(results):
        task = ours(file, shots, limit, metric)
        outcomes = judged(task, seed)
        right = [example.answer for example in task.examples]
        told = [float(one.answer == a) for one, a in zip(outcomes, right, strict=True)]
        assert told == [one.score for one in outcomes]


def test_a_task_of_choices_says_how_they_are_compared(tmp_path: Path) -> None:
    file = choice(tmp_path).write()
    task = harness_task(file)
    assert (task.name, task.protocol) == ("harness:made", Protocol.LOGLIK)
    assert task.scoring is Scoring.LOGLIK
    assert harness_task(file, metric="acc_norm").scoring is Scoring.LOGLIK_PER_CHARACTER
    first = task.examples[0]
    assert first.context == "Question: Which test colour is number 0?\nAnswer:"
    assert first.choices == ("red", "greener", "blueerer", "greyererer")
    assert (first.answer, first.description, first.shots) == (0, "", ())


def test_mutual_information_reads_each_choice_alone_too(tmp_path: Path) -> None:
    first = harness_task(mutual(tmp_path).write()).examples[0]
    assert first.choices[:4] == first.choices[4:]
    assert [request.context for request in first.requests[4:]] == [""] * 4


def test_a_blank_is_known_by_what_its_sentences_share(tmp_path: Path) -> None:
    task = harness_task(blank(tmp_path).write())
    assert task.examples[0].context == (
        "The cup of test did not fit the red one because the ... was too big."
    )
    assert len({example.context for example in task.examples}) == len(task.examples)


def test_several_right_answers_count_each(tmp_path: Path) -> None:
    task = harness_task(several_right(tmp_path).write())
    assert task.scorer is not None
    first = task.examples[0]
    assert first.answer == 0
    scores = []
    for best in range(4):
        choices = tuple(ChoiceOutcome(-float(i != best), 1, 1, 1) for i in range(4))
        scores.append(task.scorer(first, Outcome(0, choices, best, 0.0)).score)
    assert scores == [1, 0, 1, 0]


def test_questions_in_the_same_words_are_known_by_their_choices(tmp_path: Path) -> None:
    task = harness_task(choice(tmp_path, doc_to_text="").write())
    assert task.examples[0].context == "red / greener / blueerer / greyererer"


def test_content_is_the_document_however_it_is_asked(tmp_path: Path) -> None:
    plain = harness_task(choice(tmp_path / "a").write()).examples
    asked = harness_task(choice(tmp_path / "b", doc_to_text="Say: {{question}}").write(), shots=2)
    assert [one.content for one in plain] == [one.content for one in asked.examples]
    assert len({one.content for one in plain}) == len(plain) == 9
    assert {one.digest for one in plain}.isdisjoint(one.digest for one in asked.examples)


def test_text_is_written_as_the_harness_s_own_backend_would(tmp_path: Path) -> None:
    task = harness_task(sums(tmp_path).write())
    assert task.generation == Generation(False, "exact", 24, ("Question:", "</s>"))
    assert task.protocol is Protocol.TEXT
    assert task.examples[0].choices == ("We add them.\n#### 1",)
    settings = {"until": "\n\n", "max_new_tokens": 40, "top_p": 0.9, "num_beams": 1}
    task = harness_task(sums(tmp_path, generation_kwargs=settings).write())
    assert task.generation == Generation(False, "exact", 40, ("\n\n",))
    task = harness_task(sums(tmp_path, generation_kwargs=None, fewshot_delimiter="\n--\n").write())
    assert task.generation == Generation(False, "exact", 256, ("\n--\n",))


@given(
    written=st.text("abQ:\n", max_size=12),
    until=st.lists(st.text("aQ:\n", min_size=1, max_size=2), max_size=3),
)
def test_text_ends_where_the_harness_cuts_it(written: str, until: list[str]) -> None:
    from lm_eval.models.utils import postprocess_generated_text

    # A model stops as soon as one of the strings has come.
    ends = [written.find(one) + len(one) for one in until if one in written]
    written = written[: min(ends, default=None)]
    stops = [written.find(one) for one in _stops(until) if one in written]
    assert written[: min(stops, default=None)] == postprocess_generated_text(written, until, None)


def test_an_answer_is_what_the_filter_found(tmp_path: Path) -> None:
    file = sums(tmp_path).write()
    for metric, answers in (
        (None, ["12", None, None]),
        ("exact_match,flexible", ["12", "30", None]),
        ("exact_match", ["12", None, None]),
    ):
        task = harness_task(file, metric=metric)
        assert task.scorer is not None
        found = [
            task.scorer(
                task.examples[0], Outcome(0, (), None, 0.0, Generated(written, 1, cut_off=False))
            ).answer
            for written in ("So #### 12", "It is 30", "Who knows?")
        ]
        assert found == answers


# Shots


def repeated(folder: Path, copies: int = 6) -> Made:
    """Some of the questions are also among those that could be shown, in other white space."""
    made = choice(folder)
    for index in range(copies):
        twin = dict(made.rows["test"][index])
        twin["question"] = twin["question"].replace(" ", "  ")
        made.rows["train"][index] = twin
    return made


def test_the_harness_s_shots_are_kept_and_no_set_has_one_of_them(tmp_path: Path) -> None:
    file = repeated(tmp_path).write()
    task = harness_task(file, shots=4)
    asked, _, _ = own_run(file, shots=4)
    assert [request for example in task.examples for request in example.requests] == asked
    shown = set()
    for example in task.examples:
        *shots, _ = example.requests[0].context.split("\n\n")
        assert len(shots) == 4
        shown |= {" ".join(shot.rpartition("Answer:")[0].split()) for shot in shots}
    marked = {example.id for example in task.examples if example.is_shown}
    assert marked
    for example in task.examples:
        question = " ".join(example.context.rpartition("Answer:")[0].split())
        assert (example.id in marked) == (question in shown)
    assert not any(example.is_shown for example in without_shown(task).examples)


def test_nothing_is_marked_where_no_shot_is_asked(tmp_path: Path) -> None:
    task = harness_task(choice(tmp_path).write(), shots=4)
    assert without_shown(task) == task
    assert not any(
        example.is_shown for example in harness_task(repeated(tmp_path).write()).examples
    )


def test_shots_of_one_s_own_are_shown_and_marked(tmp_path: Path) -> None:
    own = [*questions("own", 1), *questions("test", 2)]
    file = choice(tmp_path, training_split=None, fewshot_config={"samples": own}).write()
    asked, _, _ = own_run(file, shots=2)
    task = harness_task(file, shots=2)
    assert [request for example in task.examples for request in example.requests] == asked
    assert {example.id for example in task.examples if example.is_shown} == {"0", "1"}


@pytest.mark.parametrize("config", [{"fewshot_split": "test"}, {"training_split": None}])
def test_shots_from_the_split_that_is_asked_are_refused(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    file = choice(tmp_path, **config).write()
    assert len(harness_task(file).examples) == 9
    with pytest.raises(InputError, match="from 'test', the split that it asks; give `shots` 0"):
        harness_task(file, shots=1)


def test_more_shots_than_there_are_are_refused(tmp_path: Path) -> None:
    file = choice(tmp_path).write()
    with pytest.raises(InputError, match="has 12 examples to show, and 13 are wanted"):
        harness_task(file, shots=13)
    with pytest.raises(InputError, match="`shots` must be at least 0, got -1"):
        harness_task(file, shots=-1)


def test_a_task_that_has_no_shots_says_so(tmp_path: Path) -> None:
    file = choice(tmp_path, num_fewshot=0).write()
    assert harness_task(file, shots=0).examples == harness_task(file).examples
    with pytest.raises(InputError, match="the harness would ignore `shots` 2; leave it out"):
        harness_task(file, shots=2)


# Groups


def colours(folder: Path, **config: Any) -> str:
    """A group's file, and those of its two tasks beside it, of 9 and 18 questions."""
    for name, count in (("red", 9), ("blue", 18)):
        made = choice(folder / name, task=name)
        made.rows["test"] = questions(name, count)
        made.write()
        (folder / f"{name}.yaml").write_text((folder / name / "made.yaml").read_text("utf-8"))
    (folder / "unrelated.yaml").write_text("no: [task")
    group = {"group": "colours", "task": ["red", "blue"]} | config
    (folder / "colours.yaml").write_text(as_yaml(group), "utf-8")
    return str(folder / "colours.yaml")


def group_run(file: str) -> tuple[list[tuple[Any, ...]], dict[str, float]]:
    """What the harness asks of a model for a group, and the group's metrics."""
    model = MadeUp(0)
    results = evaluator.simple_evaluate(
        model,
        tasks=["colours"],
        num_fewshot=2,
        bootstrap_iters=0,
        task_manager=TaskManager(include_path=str(Path(file).parent), include_defaults=False),
    )
    return model.asked, results["results"]["colours"]


@pytest.mark.parametrize("by_size", [True, False])
def test_a_group_s_score_is_the_harness_s_own(tmp_path: Path, *, by_size: bool) -> None:
    listed = [{"metric": one, "weight_by_size": by_size} for one in ("acc_norm", "acc")]
    file = colours(tmp_path, aggregate_metric_list=listed)
    asked, metrics = group_run(file)
    for metric, key in ((None, "acc_norm,none"), ("acc", "acc,none")):
        task = harness_task(file, shots=2, metric=metric)
        assert task.name == "harness:colours"
        assert [one for example in task.examples for one in example.requests] == asked
        scores: dict[str, list[float]] = {}
        for example, outcome in zip(task.examples, judged(task, 0), strict=True):
            scores.setdefault(example.part, []).append(outcome.score)
        weighted = sum(share * statistics.mean(scores[name]) for name, share in task.shares)
        assert weighted == pytest.approx(metrics[key])
    assert dict(task.shares)["harness:red"] == pytest.approx(1 / 3 if by_size else 1 / 2)


@pytest.mark.slow
def test_a_group_may_hold_groups_and_change_its_tasks(tmp_path: Path) -> None:
    inner = {"group": "shades", "task": [{"task": "blue", "num_fewshot": 3}]}
    file = colours(tmp_path, task=[inner, "red"])
    task = harness_task(file)
    assert dict(task.shares) == {"harness:red": 0.5, "harness:blue": 0.5}
    assert task.shots == 3
    with pytest.raises(InputError, match="a group without tasks"):
        harness_task(colours(tmp_path, task=[{"group": "shades", "task": []}, "red"]))


def test_a_group_s_task_that_cannot_be_asked_is_named(tmp_path: Path) -> None:
    changed = {"task": "blue", "output_type": "loglikelihood"}
    with pytest.raises(InputError, match="task blue is of output_type loglikelihood"):
        harness_task(colours(tmp_path, task=["red", changed]))
    changed = {
        "task": "blue",
        "output_type": "generate_until",
        "metric_list": [{"metric": "exact_match"}],
    }
    with pytest.raises(InputError, match="harness:red and harness:blue are not asked in the same"):
        harness_task(colours(tmp_path, task=["red", changed]))


def test_what_one_of_a_group_shows_no_search_asks_of_another(tmp_path: Path) -> None:
    file = colours(tmp_path)
    shown = harness_task(file, shots=3)
    assert not any(example.is_shown for example in shown.examples)
    rows = [json.loads(line) for line in (tmp_path / "red/train.jsonl").read_text().splitlines()]
    (tmp_path / "blue/test.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows + questions("blue", 8))
    )
    shown = harness_task(file, shots=3)
    assert {one.part for one in shown.examples if one.is_shown} == {"harness:blue"}


# What is refused


@pytest.mark.parametrize(
    ("config", "metric", "message"),
    [
        ({}, "f1", "has no metric 'f1'; it has acc, acc_norm, acc_bytes"),
        ({}, "acc,strict", "has no filter 'strict'; it has none"),
        ({"metric_list": [{"metric": "f1"}, {"metric": "acc"}]}, None, "f1 is not a mean.*acc"),
        ({"metric_list": [{"metric": "exact_match"}, {"metric": "acc"}]}, None, "would write.*acc"),
        (
            {"metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": False}]},
            None,
            "better the lower it is.*give another task",
        ),
        (
            {"metric_list": [{"metric": "likelihood"}, {"metric": "acc"}]},
            None,
            "not a number from 0 to 1",
        ),
        ({"output_type": "loglikelihood"}, None, "of output_type loglikelihood"),
        ({"output_type": "loglikelihood_rolling"}, None, "of output_type loglikelihood_rolling"),
        ({"output_type": "poem"}, None, "of output_type poem"),
        ({"doc_to_image": "picture"}, None, "pictures"),
        ({"unsafe_code": True}, None, "runs the code that a model writes"),
        ({"group": "colours", "task": ["no_such"]}, None, "task no_such: there is no such task"),
        ({"group": "colours", "task": []}, None, "a group without tasks; name some"),
        ({"group": "colours", "task": ["colours"]}, None, "task colours: the group is within"),
        ({"task": ["red", "blue"]}, None, "no name of its own; add group: NAME"),
        ({"colour": "red"}, None, "unexpected keyword argument 'colour'"),
        ({"doc_to_text": "{{colour}}"}, None, "'colour' is undefined"),
        ({"doc_to_text": "{{question"}, None, "unexpected end of template"),
        ({"metric_list": []}, None, "has no metrics"),
        ({"metric_list": "acc"}, None, "'metric' key not provided"),
        ({"dataset_path": None}, None, "cannot be used"),
        ({"dataset_path": "no/such/thing/at/all"}, None, "check its dataset_path"),
        ({"dataset_kwargs": {"data_files": "nowhere.jsonl"}}, None, "check its dataset_path"),
        ({"test_split": "exam"}, None, "cannot be used .KeyError: exam"),
        (
            {"doc_to_target": "{{7 if answer == 2 else answer}}"},
            None,
            "right answer of example 2 is 7, none of its 4 choices",
        ),
        (
            {"metric_list": [{"metric": "colourfulness"}]},
            None,
            "has no metric 'colourfulness'; mend",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    config: dict[str, Any],
    metric: str | None,
    message: str,
) -> None:
    file = choice(tmp_path, **config).write()
    with pytest.raises(InputError, match=message) as caught:
        harness_task(file, metric=metric)
    assert f"harness:{file}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"generation_kwargs": {"do_sample": True, "temperature": 1}}, "draws its text at random"),
        ({"generation_kwargs": {"temperature": 0.7}}, "draws its text at random"),
        ({"generation_kwargs": {"num_beams": 4}}, "num_beams: 4"),
        ({"generation_kwargs": {"max_length": 400}}, "max_length: 400"),
        ({"generation_kwargs": {"until": ["a", ""]}}, "mend its until"),
        ({"generation_kwargs": {"max_gen_toks": 0}}, "max_gen_toks must be at least 1, got 0"),
        ({"repeats": 3}, "asks each question 3 times"),
    ],
)
def test_text_that_would_vary_is_refused(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        harness_task(sums(tmp_path, **config).write())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: [made", "cannot be used"),
        ("- made", "Expected YAML dict"),
        ("", "cannot be used"),
        ("include: nowhere.yaml\ntask: made\n", "nowhere.yaml"),
        ("include: made.yaml\ntask: made\n", "Include cycle"),
        ("dataset_path: json\n", "Unknown config shape"),
    ],
)
def test_a_file_that_is_no_task_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "made.yaml").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        harness_task(str(tmp_path / "made.yaml"))
    assert "\n" not in str(caught.value)


def test_no_file_and_no_examples_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.yaml: there is no such file"):
        harness_task(str(tmp_path / "nowhere.yaml"))
    made = choice(tmp_path, process_docs="!function utils.none")
    made.python = "def none(docs):\n    return docs.select([])\n"
    with pytest.raises(InputError, match="has no examples; check its splits"):
        harness_task(made.write())
    made = choice(tmp_path / "empty")
    made.rows["test"] = []
    with pytest.raises(InputError, match='"test" corresponds to no data'):
        harness_task(made.write())
    made.rows["train"] = []
    with pytest.raises(InputError, match="has no examples; check its splits"):
        harness_task(made.write())


def test_includes_are_taken_and_nothing_else_of_the_folder(tmp_path: Path) -> None:
    made = choice(tmp_path)
    made.name = "base.yaml"
    made.write()
    (tmp_path / "broken.yaml").write_text("task: [")
    (tmp_path / "leaf.yaml").write_text("include: base.yaml\ntask: leaf\ndescription: Look. \n")
    task = harness_task(str(tmp_path / "leaf.yaml"))
    assert task.name == "harness:leaf"
    assert task.examples[0].requests[0].context.startswith("Look.")


def test_a_missing_harness_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(InputError, match=r"pip install 'telltale-llm\[harness\]'"):
        harness_task("arc_easy")
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "0.4.9")
    with pytest.raises(InputError, match=r"lm-eval 0.4.9 is installed, and telltale knows 0.4.13"):
        harness_task("arc_easy")


@pytest.mark.parametrize(
    "python", ["raise SystemExit", "import nowhere_at_all", "def f(:", "x = 1"]
)
def test_a_user_s_python_that_fails_is_told(tmp_path: Path, python: str) -> None:
    made = blank(tmp_path)
    made.python = python
    with pytest.raises(InputError, match="cannot be used") as caught:
        harness_task(made.write())
    assert "\n" not in str(caught.value)


def test_nothing_is_left_beside_a_file(tmp_path: Path) -> None:
    file = blank(tmp_path).write()
    before = sorted(tmp_path.rglob("*"))
    harness_task(file)
    assert sorted(tmp_path.rglob("*")) == before


# Scorers of one's own, within the harness


def own_metric(folder: Path, body: str) -> Made:
    made = choice(
        folder,
        process_results="!function utils.judge",
        metric_list=[{"metric": "own", "aggregation": "mean", "higher_is_better": True}],
    )
    made.python = f"def judge(doc, results):\n    {body}\n"
    return made


def test_a_user_s_own_metric_is_taken(tmp_path: Path) -> None:
    body = "doc.pop('choices'); return {'own': float(results[0][0] > results[1][0])}"
    task = harness_task(own_metric(tmp_path, body).write())
    assert [one.score for one in judged(task, 3)] == [one.score for one in judged(task, 3)]
    assert {one.score for seed in range(4) for one in judged(task, seed)} == {0.0, 1.0}


def test_a_metric_that_fails_while_measuring_is_told(tmp_path: Path) -> None:
    body = "return {'own': 1.0 if results[0][0] == -1.0 else [][0]}"
    task = harness_task(own_metric(tmp_path, body).write())
    assert task.scorer is not None
    bad = Outcome(0, tuple(ChoiceOutcome(-9.0, 1, 1, 1) for _ in range(4)), 0, 0.0)
    with pytest.raises(MeasurementError, match="own failed on example '2'"):
        task.scorer(task.examples[2], bad)
    body = "return {'own': 1.0 if results[0][0] == -1.0 else 7}"
    task = harness_task(own_metric(tmp_path / "b", body).write())
    assert task.scorer is not None
    with pytest.raises(MeasurementError, match="own is 7 for example '2', not a number from 0"):
        task.scorer(task.examples[2], bad)


def test_a_metric_that_only_some_examples_have_is_refused(tmp_path: Path) -> None:
    body = "return {'own': 1.0} if doc['answer'] != 2 else {}"
    with pytest.raises(InputError, match=r"own is not given for every example \(example 2\)"):
        harness_task(own_metric(tmp_path, body).write())


def test_identity_is_of_what_decides_a_score(tmp_path: Path) -> None:
    def identity(made: Made, **options: Any) -> dict[str, Any]:
        task = harness_task(made.write(), **options)
        assert task.scorer is not None
        sha256_of_json(task.settings())
        return task.scorer.identity

    first = identity(blank(tmp_path / "a"))
    assert first == identity(blank(tmp_path / "b"))
    assert first != identity(blank(tmp_path / "a"), metric="acc_norm")
    assert first != identity(blank(tmp_path / "a"), shots=2)
    changed = blank(tmp_path / "c")
    changed.python += "\n# another word\n"
    assert first != identity(changed)
    changed = blank(tmp_path / "d")
    changed.rows["test"].pop()
    assert first != identity(changed)


# A model


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model") / "tiny", max_position_embeddings=1024)


@pytest.mark.filterwarnings("ignore")
def test_our_engine_measures_what_the_harness_measures(file: str, model_folder: Path) -> None:
    from lm_eval.models.huggingface import HFLM

    theirs = evaluator.simple_evaluate(
        HFLM(str(model_folder), device="cpu", dtype="float32", batch_size=1),
        tasks=[file],
        num_fewshot=2,
        bootstrap_iters=0,
        task_manager=TaskManager(include_defaults=False),
    )
    task = ours(file, 2, None)
    source = resolve_model(str(model_folder))
    bench = Workbench(source, task, task.examples, "cpu", "float32")
    whole = LayerPath(tuple(range(6)), 6)
    measured = bench.measure([whole], bench.batches(range(len(task.examples))))
    found = {one.example: one for batch in measured for one in batch.outcomes}
    assert task.scorer is not None
    metric = task.scorer.identity["metric"]
    filtered_by = metric.partition(",")[2]
    samples = [one for one in theirs["samples"]["made"] if one["filter"] == filtered_by]
    for position, sample in enumerate(samples):
        generated = found[position].generated
        if generated is not None:
            assert generated.text == sample["resps"][0][0]
            continue
        logliks = [response[0][0] for response in sample["resps"]]
        assert [one.loglik for one in found[position].choices] == pytest.approx(logliks, abs=1e-4)
    mean = sum(one.score for one in found.values()) / len(found)
    assert mean == pytest.approx(theirs["results"]["made"][metric])


# Real data


REAL: dict[str, dict[str, Any]] = {
    "arc_challenge": {"doc_to_text": "Question: {{question}}\nAnswer:"},
    "boolq": {
        "doc_to_text": "{{passage}}\nQuestion: {{question}}?\nAnswer:",
        "doc_to_choice": ["no", "yes"],
        "test_split": None,
        "validation_split": "validation",
    },
    "gsm8k": {
        "output_type": "generate_until",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": None,
        "generation_kwargs": {"until": ["Question:"], "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}


@pytest.mark.parametrize("name", REAL)
def test_real_questions_are_asked_as_the_harness_does(
    name: str, shared_tasks: Path, tmp_path: Path
) -> None:
    splits = {path.stem: str(path) for path in (shared_tasks / name).glob("*.jsonl")}
    own = {"dataset_kwargs": {"data_files": splits}} | REAL[name]
    file = Made(tmp_path, CHOICE | own, {}).write()
    asked, _, _ = own_run(file, shots=5, limit=40)
    task = harness_task(file, shots=5, limit=40)
    assert [one[0] for one in asked] == [
        request.context for example in task.examples for request in example.requests
    ]


# Behaving well


def test_the_rest_of_the_program_is_left_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import numpy as np
    from lm_eval import utils

    made = blank(tmp_path)
    made.python += "\nimport random\nprint('loud', random.random())\n"
    before = random.getstate(), str(np.random.get_state()), logging.root.manager.disable, utils.env
    task = harness_task(made.write(), shots=2)
    judged(task, 0)
    after = random.getstate(), str(np.random.get_state()), logging.root.manager.disable, utils.env
    assert after == before
    assert capfd.readouterr() == ("", "")


def test_choices_shuffled_while_they_are_made_are_shuffled_as_the_harness_does(
    tmp_path: Path,
) -> None:
    made = choice(tmp_path, process_docs="!function utils.shuffled")
    made.python = textwrap.dedent("""
        import random


        def shuffled(docs):
            def one(doc):
                random.shuffle(doc["choices"])
                return doc

            return docs.map(one, load_from_cache_file=False, keep_in_memory=True)
        """)
    file = made.write()
    asked, _, _ = own_run(file, shots=2)
    random.seed(5)
    task = harness_task(file, shots=2)
    assert [request for example in task.examples for request in example.requests] == asked


@pytest.mark.slow
def test_the_harness_s_own_tasks_are_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    rows = [
        {
            "question": row["question"],
            "choices": {"text": row["choices"], "label": list("ABCD")},
            "answerKey": "ABCD"[row["answer"]],
        }
        for row in questions("test", 30)
    ]
    made = datasets.DatasetDict(
        {split: datasets.Dataset.from_list(rows) for split in ("train", "validation", "test")}
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda **_: made)
    task = harness_task("arc_easy", limit=20, metric="acc_norm")
    assert (task.name, len(task.examples)) == ("harness:arc_easy", 20)
    with pytest.raises(InputError, match=r"did you mean .*arc_easy"):
        harness_task("arc_esy")
    both = harness_task("ai2_arc", limit=20)
    assert (both.name, dict(both.shares)) == (
        "harness:ai2_arc",
        {"harness:arc_challenge": 0.5, "harness:arc_easy": 0.5},
    )
    assert find("mmlu").aggregated(None) == ("acc", True)
    assert find("bbh_zeroshot").aggregated(None) == ("exact_match,flexible-extract", True)
    assert find("ai2_arc").aggregated(None) == (None, False)
    with pytest.raises(InputError, match="runs the code that a model writes"):
        harness_task("humaneval")


def test_tasks_are_listed_without_the_harness(tmp_path: Path) -> None:
    """Importing the module imports neither the harness nor torch."""
    code = (
        "import sys, telltale.tasks.harness; heavy = {'torch', 'lm_eval', 'datasets', 'numpy'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert told.stdout == "[]\n"
