"""Bad input by the command line: each case is one change to a command that works."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from telltale.cli.commands import main
from tests import questions, tiny

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROWS: list[dict[str, Any]] = [
    {"question": f"Is {i} even?", "choices": ["yes", "no"], "answer": i % 2, "id": f"row {i}"}
    for i in range(44)
]
FREE: list[dict[str, Any]] = [
    {"question": f"What is {i} and one?", "answer": str(i + 1)} for i in range(44)
]


class Change(NamedTuple):
    """What is changed of the good command, and what is said about it."""

    message: str
    options: tuple[str, ...] = ()
    row: dict[str, Any] | None = None  # stands for the third row
    data: Callable[[bytes], bytes] = lambda good: good
    model: Callable[[Path], Any] = lambda _: None  # is given a copy of the model's folder
    rows: list[dict[str, Any]] = ROWS


def edit_config(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return edit


def one_layer(folder: Path) -> None:
    shutil.rmtree(folder)
    tiny.save(folder, num_hidden_layers=1)


THIRD = {"question": "Is 2 even?", "choices": ["yes", "no"], "answer": 0}
CHANGES = {
    # Data
    "no answer": Change("data.jsonl, line 3: no answer", row={**THIRD, "answer": None}),
    "no answer at all": Change(
        "data.jsonl, line 3: no answer; fill in 'answer'",
        row={"question": "Is 2 even?", "choices": ["yes", "no"]},
    ),
    "an answer outside its choices": Change(
        "line 3: answer '2' is not an index from 0 to 1", row={**THIRD, "answer": 2}
    ),
    "an empty prompt": Change("line 3: 'question' is empty", row={**THIRD, "question": " "}),
    "a prompt made empty": Change(
        "line 3: the prompt is empty",
        ("--prompt", "{extra}"),
        row={**THIRD, "extra": " "},
        rows=[{**row, "extra": "text"} for row in ROWS],
    ),
    "a byte that is not UTF-8": Change(
        "line 2: byte 0xff is not UTF-8", data=lambda good: good.replace(b"Is 1", b"Is \xff", 1)
    ),
    "an unclosed line": Change(
        "line 44: not a JSON object", data=lambda good: good.rstrip().removesuffix(b"}")
    ),
    "a list for a row": Change("line 1: a JSON list", data=lambda good: b"[1]\n" + good),
    "two equal choices": Change(
        "line 3: two choices are 'yes' and one of them is the answer",
        row={**THIRD, "choices": ["yes", "yes"]},
    ),
    "an empty file": Change("data.jsonl holds no rows", data=lambda _: b""),
    "blank lines only": Change("data.jsonl holds no rows", data=lambda _: b"\n \n"),
    "too few examples": Change(
        "10 examples are too few", data=lambda good: b"\n".join(good.split(b"\n")[:10])
    ),
    "one question again and again": Change(
        "20 examples with 1 different ones among them are too few",
        rows=[{**row, "question": f"Is it {i % 2}?"} for i, row in enumerate(ROWS)],
    ),
    "all answers equal": Change(
        "the right answer of all 44 examples is 'yes'",
        rows=[{**row, "answer": 0} for row in ROWS],
    ),
    "all labels equal": Change(
        "every answer in the file is 'good'",
        rows=[{"question": str(i), "answer": "good"} for i in range(44)],
    ),
    "no such field": Change("no field 'question'", rows=[{"q": "a", "answer": "b"}] * 44),
    "a file of another kind": Change("No such file", ("--data", "none.jsonl")),
    # Prompts
    "a template that names no field of the rows": Change(
        "no field 'x' for the prompt template; the row has {question}", ("--prompt", "{x}")
    ),
    "a template without fields": Change("names no field", ("--prompt", "Well?")),
    "a template that reaches for attributes": Change(
        "plain field names in braces only", ("--prompt", "{question.__class__}")
    ),
    "an example longer than the model takes": Change(
        "example 'row 2': 420 tokens are more than the 256 that this model takes; shorten it or "
        "leave it out, or cut long prompts with --truncate left",
        row={**THIRD, "id": "row 2", "question": "?!" * 200},
    ),
    # Settings
    "a layer outside the model": Change("layer 6 is not in this model", ("--protect", "6")),
    "layers that are no numbers": Change("not a list of layers", ("--protect", "a")),
    "a tolerance of 8": Change("--tolerance must be in [0, 1], got 8", ("--tolerance", "8")),
    "a tolerance of nan": Change("--tolerance must be in [0, 1], got nan", ("--tolerance", "nan")),
    "a limit of nothing": Change("--limit must be at least 20, got 0", ("--limit", "0")),
    "a limit that is no number": Change("'--limit'", ("--limit", "many")),
    "a limit that leaves nothing": Change("lower --limit", ("--limit", "43")),
    "a dtype of int8": Change(
        "--dtype must be float32, bfloat16 or auto, got 'int8'", ("--dtype", "int8")
    ),
    "a memory that is no size": Change(
        "--memory must be a number of bytes, or a size such as 2GiB or 500MB, got 'much'",
        ("--memory", "much"),
    ),
    "a device of tpu": Change("cuda:N or mps, got 'tpu'", ("--device", "tpu")),
    "no layer to remove": Change("--max-removed must be at least 1, got 0", ("--max-removed", "0")),
    "a scoring that is not there": Change(
        "loglik-per-character, got 'best'", ("--scoring", "best")
    ),
    "a protocol that is not there": Change(
        "--protocol must be loglik, chat or text, got 'ask'", ("--protocol", "ask")
    ),
    "an answer form that is not there": Change("text or free, got 'x'", ("--answer-form", "x")),
    "a truncation that is not there": Change(
        "--truncate must be left or no, got 'right'", ("--truncate", "right")
    ),
    "an unknown option": Change("--deep", ("--deep",)),
    "a task and a file": Change("give either a task's name or --data", ("capitals",)),
    # Generation
    "a chat without a chat template": Change(
        "no chat template, so it is no chat model; give --protocol text", ("--protocol", "chat")
    ),
    "free text by log-likelihood": Change("offers no choices", ("--protocol", "loglik"), rows=FREE),
    "an extraction with log-likelihoods": Change(
        "--extract is for generated text", ("--extract", "letter")
    ),
    "an extraction that is not there": Change(
        "regex:PATTERN, got 'last'", ("--protocol", "text", "--extract", "last")
    ),
    "a pattern that is none": Change(
        "is not a regular expression", ("--protocol", "text", "--extract", "regex:(")
    ),
    "letters without choices": Change(
        "--extract letter needs 2 to 26 choices",
        ("--protocol", "text", "--extract", "letter"),
        rows=FREE,
    ),
    "a number that is none": Change(
        "line 3: answer 'three' is not one number",
        ("--protocol", "text", "--extract", "number"),
        rows=[{**row, "answer": "three"} if i == 2 else row for i, row in enumerate(FREE)],
    ),
    "no room to write": Change(
        "--max-new-tokens must be at least 1, got 0",
        ("--protocol", "text", "--max-new-tokens", "0"),
    ),
    "more to write than the model takes": Change(
        "are more than the 256 that this model takes",
        ("--protocol", "text", "--max-new-tokens", "300"),
    ),
    "a stop of nothing": Change(
        "--stop must be some text, got ''", ("--protocol", "text", "--stop", "")
    ),
    "a scoring of generated text": Change(
        "--scoring is for log-likelihoods", ("--protocol", "text", "--scoring", "loglik")
    ),
    # The page on which perplexity is measured
    "a text that is not there": Change("No such file", ("--text", "none.txt")),
    "a text that is empty": Change("is empty; give a page", ("--text", "EMPTY")),
    # The model
    "a configuration that is no JSON": Change(
        "config.json", model=lambda folder: (folder / "config.json").write_text("{")
    ),
    "no weights": Change(
        "holds no .safetensors weights",
        model=lambda folder: (folder / "model.safetensors").unlink(),
    ),
    "weights that are cut off": Change(
        "model.safetensors",
        model=lambda folder: (folder / "model.safetensors").write_bytes(
            (folder / "model.safetensors").read_bytes()[:5000]
        ),
    ),
    "no tokenizer": Change(
        "cannot read the tokenizer",
        model=lambda folder: [file.unlink() for file in folder.glob("tokenizer*")],
    ),
    "an architecture that no one knows": Change(
        "cannot load", model=edit_config(model_type="abacus", architectures=["Abacus"])
    ),
    "a configuration of more layers": Change(
        "says 'num_hidden_layers' is 7, but its weights name 6 layers",
        model=edit_config(num_hidden_layers=7),
    ),
    "a model of one layer": Change("a single layer", model=one_layer),
}


def command(folder: Path, change: Change) -> list[str]:
    """The good command with one change, its files in ``folder``."""
    rows = [dict(row) for row in change.rows]
    if change.row is not None:
        rows[2] = change.row
    good = "\n".join(json.dumps(row) for row in rows).encode() + b"\n"
    (folder / "data.jsonl").write_bytes(change.data(good))
    (folder / "empty.txt").write_text("")
    options = [str(folder / "empty.txt") if word == "EMPTY" else word for word in change.options]
    change.model(folder / "model")
    sizes = ["--limit", "20", "--held-out", "20", "--max-removed", "1"]
    data = [] if "--data" in options else ["--data", str(folder / "data.jsonl")]
    out = ["--out", str(folder / "study")]
    return ["search", str(folder / "model"), *data, *sizes, *out, *options]


@pytest.fixture
def place(tmp_path: Path, tiny_folder: Path) -> Path:
    shutil.copytree(tiny_folder, tmp_path / "model")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[object, str, str]:
    capsys.readouterr()  # what making the input has printed
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    return ended.value.code, out, err


@pytest.mark.parametrize(
    "good",
    [
        Change(""),
        Change("", ("--protocol", "text", "--max-new-tokens", "3")),
        Change("", ("--protocol", "text", "--max-new-tokens", "3"), rows=FREE),
        Change("", ("--truncate", "left"), row={**THIRD, "question": "?!" * 200}),
        Change("", rows=[{**row, "extra": "text"} for row in ROWS]),
    ],
)
def test_the_command_that_the_cases_change_works(
    capsys: pytest.CaptureFixture[str], place: Path, good: Change
) -> None:
    status, out, _ = run(capsys, command(place, good))
    assert status == 0
    assert "whole model" in out
    assert (place / "study" / "result.json").is_file()


@pytest.mark.parametrize("name", CHANGES)
def test_bad_input_is_one_line_and_status_two_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], place: Path, name: str
) -> None:
    change = CHANGES[name]
    status, out, err = run(capsys, command(place, change))
    assert change.message in err
    assert (status, out) == (2, "")
    assert err.startswith("telltale: ")
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
    assert not (place / "study").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--remove", "6"], "layer 6 is not in this model, whose layers are 0-5"),
        (["--remove", "1,1"], "layer 1 is given twice"),
        (["--remove", "0,1,2,3,4,5"], "removing all 6 layers leaves nothing"),
        (["--out", "FOLDER"], "it is a folder; give a file's name"),
        (["--limit", "0"], "--limit must be at least 1, got 0"),
    ],
)
def test_bad_input_to_eval_is_one_line_and_status_two(
    capsys: pytest.CaptureFixture[str], place: Path, arguments: list[str], message: str
) -> None:
    good = ["eval", str(place / "model"), "capitals", "--limit", "2"]
    assert run(capsys, [*good, "--remove", "1,4", "--out", str(place / "e.json")])[0] == 0
    changed = [str(place) if word == "FOLDER" else word for word in arguments]
    status, out, err = run(capsys, [*good, *changed])
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert message in err


def test_a_folder_that_is_not_ours_or_another_studys_is_left_alone(
    capsys: pytest.CaptureFixture[str], place: Path
) -> None:
    good = command(place, Change(""))
    (place / "study").mkdir()
    (place / "study" / "mine.txt").write_text("keep")
    status, _, err = run(capsys, good)
    assert status == 2
    assert "is not empty and not a study; give another folder" in err
    assert [file.name for file in (place / "study").iterdir()] == ["mine.txt"]
    (place / "study" / "mine.txt").unlink()
    assert run(capsys, good)[0] == 0
    before = (place / "study" / "result.json").read_bytes()
    other = command(place, Change("", ("--protocol", "text")))
    status, _, err = run(capsys, other)
    assert status == 2
    assert "holds another study, which differs in: " in err
    assert "how the task is asked and scored" in err
    assert (place / "study" / "result.json").read_bytes() == before


def test_bad_rows_are_left_out_and_counted(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, place: Path
) -> None:
    change = CHANGES["two equal choices"]
    assert run(capsys, command(place, change))[0] == 2
    assert run(capsys, [*command(place, change), "--skip-bad-rows"])[0] == 0
    assert "Left out 1 of 44 rows; the first: data.jsonl, line 3: two choices" in caplog.text


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "data.csv: columns not used: source, year"),
        (("--prompt", "{year} {question}"), "data.csv: columns not used: source"),
        (("--prompt", "{source} {year} {question}"), ""),
    ],
)
def test_columns_that_neither_rows_nor_the_prompt_use_are_told_once(
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    options: tuple[str, ...],
    told: str,
) -> None:
    rows = "".join(f"s,Is {i} even?,yes,no,{'AB'[i % 2]},19{i}\n" for i in range(44))
    (tmp_path / "data.csv").write_text("source,question,A,B,answer,year\n" + rows)
    data = ["--data", str(tmp_path / "data.csv")]
    assert run(capsys, ["tasks", *data, "--show", "1", *options])[0] == 0
    lines = [line for line in caplog.messages if "not used" in line]
    assert lines == ([f"{tmp_path.name}/{told}"] if told else [])


def test_a_guard_is_read_from_a_folder_that_lacks_the_task_telltale_makes(
    capsys: pytest.CaptureFixture[str], place: Path
) -> None:
    file = questions.put(place / "data", "arc_easy", "test", questions.choices("test", 44))
    sizes = ["--limit", "20", "--held-out", "20", "--max-removed", "1", "--tolerance", "1"]
    arguments = ["search", str(place / "model"), "capitals", "--out", str(place / "study"), *sizes]
    guard = ["--guard", "arc_easy:0.9", "--data-dir", str(file.parent.parent)]
    assert run(capsys, [*arguments, *guard])[0] == 0
    result = json.loads((place / "study" / "result.json").read_text())
    assert result["search"]["guards"] == [{"task": "arc_easy", "most_loss": 0.9}]


def test_nan_in_the_weights_is_a_failure_and_not_an_input_error(
    capsys: pytest.CaptureFixture[str], place: Path
) -> None:
    from safetensors.torch import load_file, save_file

    good = command(place, Change(""))
    file = place / "model" / "model.safetensors"
    weights = load_file(file)
    weights["model.layers.3.mlp.up_proj.weight"][:] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})
    status, _, err = run(capsys, good)
    assert status == 1
    assert "gives NaN on plain text in float32" in err
    assert len(err.splitlines()) == 1


def test_a_model_that_runs_out_of_memory_at_one_example_is_a_failure_that_keeps_what_was_measured(
    capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from telltale.engine.shared import SharedEngine
    from telltale.measure import BatchTooLargeError
    from telltale.study.records import open_records

    good = command(place, Change(""))
    measure, measured = SharedEngine._measure, 0

    def small(engine: SharedEngine, batch: Any, plan: Any) -> Any:
        nonlocal measured
        for measurement in measure(engine, batch, plan):
            measured += 1
            if measured > 15:
                raise BatchTooLargeError(batch, "cpu")
            yield measurement

    with monkeypatch.context() as patch:
        patch.setattr(SharedEngine, "_measure", small)
        status, _, err = run(capsys, good)
    assert status == 1
    assert "a batch of 1 examples did not fit in the memory of cpu" in err
    with open_records(place / "study", write=False) as records:
        assert records.cost().layer_tokens > 0
    assert run(capsys, good)[0] == 0
