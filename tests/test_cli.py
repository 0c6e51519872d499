"""The command: what it prints, its exit status, and one line whatever goes wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from telltale.cli.commands import main
from telltale.errors import InputError
from tests import tiny
from tests.studies import result_of, search_arguments, start_command

if TYPE_CHECKING:
    from pathlib import Path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    out, err = capsys.readouterr()
    status = ended.value.code
    return (status if isinstance(status, int) else 0), out, err


@pytest.fixture(scope="module")
def study(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "study"
    with pytest.raises(SystemExit) as ended:
        main(search_arguments(tiny_folder, folder, "--max-removed", "2", "--tolerance", "1"))
    assert ended.value.code == 0
    return folder


def test_a_search_prints_its_table_its_verdict_and_what_to_do_next(
    capsys: pytest.CaptureFixture[str], study: Path, tiny_folder: Path
) -> None:
    arguments = search_arguments(tiny_folder, study, "--max-removed", "2", "--tolerance", "1")
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    result = result_of(study)
    assert result["verdict"] in out
    for word in (
        "layers",
        "parameters",
        "held out (95%)",
        "tokens/s",
        "whole model",
        "BEST",
        "BSBA",
    ):
        assert word in out
    # Nothing is recommended of a model that guesses.
    assert f"To have a smaller model all the same: telltale export {study} --pick" in out


def test_a_safe_model_of_one_that_guesses_is_not_what_to_export_next(
    capsys: pytest.CaptureFixture[str], tiny_folder: Path, tmp_path: Path
) -> None:
    loose = ("--max-removed", "1", "--tolerance", "1", "--max-loss", "0.9")
    status, out, _ = run(capsys, *search_arguments(tiny_folder, tmp_path / "s", *loose))
    assert status == 0
    result = result_of(tmp_path / "s")
    assert (result["recommended"], result["confirmed_best"]) == ("fastest_safe", None)
    assert "\nNext: " not in out
    assert "To have a smaller model all the same: telltale export " in out
    assert "is safe only beside a whole model that is not shown to be more than guessing" in (
        " ".join(out.split())
    )


def test_a_log_gets_one_line_a_round(
    capsys: pytest.CaptureFixture[str], tiny_folder: Path, tmp_path: Path
) -> None:
    status, _, err = run(
        capsys, *search_arguments(tiny_folder, tmp_path / "s", "--max-removed", "2")
    )
    assert status == 0
    rounds = result_of(tmp_path / "s")["rounds"]
    advice, *lines = err.strip().splitlines()
    assert advice.startswith("With 30 held-out examples a difference under about")
    assert len(lines) == len(rounds)
    assert lines[0].startswith(f"round 1: layer {rounds[0]['removed']} ")


def test_show_prints_what_the_search_printed(
    capsys: pytest.CaptureFixture[str], study: Path, tiny_folder: Path
) -> None:
    arguments = search_arguments(tiny_folder, study, "--max-removed", "2", "--tolerance", "1")
    _, searched, _ = run(capsys, *arguments)
    status, out, _ = run(capsys, "show", str(study))
    assert status == 0
    assert out == searched
    assert result_of(study)["verdict"] in out
    assert f": telltale export {study} --pick" in out


def test_tasks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "tasks")
    assert status == 0
    assert re.search(r"capitals +195 ", out)
    assert re.search(r"boolean_expressions +250 ", out)


def test_eval_agrees_with_the_search_and_writes_every_example(
    capsys: pytest.CaptureFixture[str], tiny_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "e.json"
    arguments = ("eval", str(tiny_folder), "capitals", "--limit", "25", "--remove", "4,1")
    status, out, _ = run(capsys, *arguments, "--out", str(file))
    document = json.loads(file.read_text(encoding="utf-8"))
    assert status == 0
    assert document["removed"] == [4, 1]
    assert document["layers"] == 4
    assert len(document["examples"]) == 25
    assert document["accuracy"] == sum(e["score"] for e in document["examples"]) / 25
    for example in document["examples"]:
        best = max(example["loglikelihoods"])
        assert example["loglikelihoods"][example["answer"]] == best
    assert "25 examples" in out
    text = document["text"]
    assert text["name"] == "built-in page"
    ratio = text["perplexity"] / text["whole_perplexity"]
    assert f"this one {text['perplexity']:.1f} (x{ratio:.2f})" in out


def test_eval_of_the_whole_model_has_no_perplexity_to_compare(
    capsys: pytest.CaptureFixture[str], tiny_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "e.json"
    arguments = ("eval", str(tiny_folder), "capitals", "--limit", "2", "--out", str(file))
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    assert "Perplexity" not in out
    assert "text" not in json.loads(file.read_text(encoding="utf-8"))


def test_rows_that_are_left_out_are_counted(
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tiny_folder: Path,
    tmp_path: Path,
) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text("\n".join([json.dumps(GOOD), "{", json.dumps(GOOD)]), encoding="utf-8")
    arguments = ("eval", str(tiny_folder), "--data", str(file))
    assert run(capsys, *arguments)[0] == 2
    status, out, _ = run(capsys, *arguments, "--skip-bad-rows")
    assert status == 0
    assert "2 examples" in out
    assert "Left out 1 of 3 rows; the first: data.jsonl, line 2" in caplog.text


def test_export_says_that_it_was_verified(
    capsys: pytest.CaptureFixture[str], study: Path, tmp_path: Path
) -> None:
    status, out, _ = run(capsys, "export", str(study), "--pick", "1", "--to", str(tmp_path / "x"))
    assert status == 0
    assert "Verified: reloaded with plain transformers in a fresh process, 5 layers" in out
    assert (tmp_path / "x" / "recipe.json").is_file()


GOOD = {"question": "Is it?", "choices": ["yes", "no"], "answer": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search"], "Missing argument"),
        (["search", "m", "capitals"], "--out"),
        (["dig"], "No such command 'dig'"),
        (["search", "./no/model", "capitals", "--out", "OUT"], "no such file or folder"),
        (["eval", "./no/model", "capitals", "--remove", "x"], "--remove 'x'"),
        (["eval", "./no/model", "capitals", "--limit", "0"], "--limit must be at least 1, got 0"),
        (["eval", "./no/model", "capitals", "--out", "/no/folder/e.json"], "there is no folder"),
        (["show", "OUT"], "is not a study"),
        (["export", "OUT", "--to", "x"], "is not a study"),
    ],
)
def test_usage_errors_are_one_line_and_status_two(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    arguments = [str(tmp_path / "out") if word == "OUT" else word for word in arguments]
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_messages_hold_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "search", "./\x1b[31mred\n\x07", "capitals", "--out", "x")
    assert status == 2
    assert "\x1b" not in err
    assert "\x07" not in err
    assert len(err.splitlines()) == 1


def test_an_unforeseen_error_is_one_line_and_status_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero\nsomewhere")

    monkeypatch.setattr("telltale.api.evaluate", fail)
    status, _, err = run(capsys, "eval", "m", "capitals")
    assert status == 1
    assert err.startswith("telltale: ZeroDivisionError: by zero somewhere")
    monkeypatch.setenv("TELLTALE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["eval", "m", "capitals"])


def test_help_and_import_are_quick_and_bring_no_torch() -> None:
    program = (
        "import sys, telltale, telltale.cli.commands\n"
        "try:\n"
        "    telltale.cli.commands.main(['search', '--help'])\n"
        "except SystemExit:\n"
        "    pass\n"
        "sys.exit(str([m for m in ('torch', 'transformers') if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == "[]"
    assert "--held-out" in done.stdout


COMMANDS = (
    *("search", "compare", "stability", "eval", "explain", "transfer", "tune", "export", "bench"),
    *("tasks", "show", "report"),
)


def test_the_list_of_commands_cuts_no_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = run(capsys, "--help")
    listed = out.partition("Commands:\n")[2].strip().splitlines()
    assert [line.split()[0] for line in listed] == list(COMMANDS)
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_breaks_no_option_over_two_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = run(capsys, command, "--help")
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    assert re.search(r"--[\w-]*-\n", out) is None
    assert "..." not in out.replace("{STUDY}...", "").replace("STUDY...", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "status", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_prints_how_to_go_on_and_the_same_command_does(
    tmp_path: Path, sent: signal.Signals, status: int, word: str
) -> None:
    model = tiny.save(tmp_path / "model", num_hidden_layers=12)  # slow enough to be stopped
    rounds = ("--tolerance", "1", "--max-removed", "5")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for attempt in range(5):  # on a busy machine the search may end before it is interrupted
        arguments = search_arguments(model, tmp_path / f"s{attempt}", *rounds)
        command = [sys.executable, "-m", "telltale", *arguments]
        process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            # Tests that are run in the background have Ctrl-C ignored, and children inherit it.
            preexec_fn=lambda: signal.signal(sent, signal.SIG_DFL),
        )
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any(line.startswith("round 1") for line in lines)
        process.send_signal(sent)
        _, err = process.communicate(timeout=60)
        if process.returncode != 0:
            break
    assert process.returncode == status
    assert "Traceback" not in err
    assert f"telltale: {word}; what was measured is kept, and the same command goes on:" in err
    assert f"\n  telltale search {model} capitals" in err
    going_on = start_command(arguments)
    going_on.join()
    assert going_on.exitcode == 0
    alone = start_command(search_arguments(model, tmp_path / "alone", *rounds))
    alone.join()
    assert result_of(tmp_path / f"s{attempt}") == result_of(tmp_path / "alone")


def test_sigterm_is_left_to_whoever_minds_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def look(*_: object, **__: object) -> None:
        seen.append(signal.getsignal(signal.SIGTERM))
        raise InputError("enough")

    monkeypatch.setattr("telltale.api.evaluate", look)
    with ThreadPoolExecutor() as threads:  # where no signal can be set
        assert threads.submit(run, capsys, "eval", "m", "capitals").result()[0] == 2
    assert run(capsys, "eval", "m", "capitals")[0] == 2
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert run(capsys, "eval", "m", "capitals")[0] == 2
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    in_a_thread, alone, ignored = seen
    assert in_a_thread is signal.SIG_DFL
    assert alone is not signal.SIG_DFL
    assert ignored is signal.SIG_IGN


def test_what_keeps_nothing_does_not_say_that_it_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("telltale.api.evaluate", stop)
    assert run(capsys, "eval", "m", "capitals") == (143, "", "telltale: terminated\n")


def test_a_reader_that_stops_reading_is_no_error() -> None:
    command = f"{sys.executable} -m telltale tasks | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
