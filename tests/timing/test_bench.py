"""What is said of two models that are timed in alternation, on a machine of a script."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import telltale
from telltale.cli.commands import main
from telltale.cli.screen import console
from telltale.cli.timed import timed
from telltale.errors import InputError
from telltale.models.work import work_of
from telltale.paths import LayerPath
from telltale.timing import bench as bench_module
from telltale.timing.bench import FIGURES, bench_models
from telltale.timing.settings import BenchSettings, Cell
from telltale.timing.sides import Side
from tests import tiny
from tests.test_docs import INLINE, ROOT, keys
from tests.timing.scripted import Machine

if TYPE_CHECKING:
    from telltale.cli.columns import Column

PATH = LayerPath((0, 2, 5), 6)
WHOLE = Side("whole", Path("w"), 3000, tiny.VOCABULARY, work_of(tiny.build("llama")), sha256="ab")
SHALLOW = replace(WHOLE, name="shallow", size=1500, work=WHOLE.work.on(PATH), removed=(1, 3, 4))
SECONDS = {"whole": (0.3, 1.2), "shallow": (0.2, 0.6)}
SETTINGS = BenchSettings((4, 8), (1, 2), new_tokens=7, repeats=6)


def bench(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, *sides: Side, **changes: Any
) -> dict[str, Any]:
    monkeypatch.setattr(bench_module, "held", machine.held)
    settings = replace(SETTINGS, **changes)
    found = bench_models(sides or (WHOLE, SHALLOW), settings, device="cpu")
    assert machine.open == []
    return found


def test_each_repeat_has_both_next_to_each_other_now_one_first_and_now_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(seconds=SECONDS)
    bench(machine, monkeypatch)
    asked = [(name, Cell(one["batch_size"], one["prompt_length"])) for name, one in machine.log]
    cells = list(dict.fromkeys(cell for _, cell in asked))
    assert cells == [(1, 4), (1, 8), (2, 4), (2, 8)]
    turns = ["whole", "shallow", *["whole", "shallow", "shallow", "whole"] * 3]
    assert asked == [(name, cell) for cell in cells for name in turns]
    firsts = [place for place, (_, one) in enumerate(machine.log) if one["is_first"]]
    assert firsts == [place for cell in range(4) for place in (14 * cell, 14 * cell + 1)]
    assert {one["new_tokens"] for _, one in machine.log} == {7}


def test_figures_are_medians_and_ratios_are_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine has two speeds, which blur both figures and not their ratio."""
    machine = Machine(slowness=lambda turn: 1.0 if turn % 2 else 5.0, seconds=SECONDS)
    document = bench(machine, monkeypatch)
    json.dumps(document, allow_nan=False)
    cell = document["cells"][-1]
    assert (cell["batch_size"], cell["prompt_length"]) == (2, 8)
    first = cell["time_to_first_token_ms"]
    assert first["model"]["interval"] == pytest.approx([300, 1500])
    assert first["against"]["value"] == pytest.approx(600)
    assert [first["ratio"]["value"], *first["ratio"]["interval"]] == pytest.approx([1.5] * 3)
    assert first["ideal"] == WHOLE.work.first_token(8) / SHALLOW.work.first_token(8)
    decoding = cell["decode_tokens_per_second"]
    assert decoding["model"]["interval"] == pytest.approx([2 * 6 / 6.0, 2 * 6 / 1.2])
    assert [decoding["ratio"]["value"], *decoding["ratio"]["interval"]] == pytest.approx([2.0] * 3)
    assert decoding["ideal"] == WHOLE.work.decoding(8, 7) / SHALLOW.work.decoding(8, 7)
    of_cpu = cell["decode_tokens_per_cpu_second"]["model"]["interval"]
    assert of_cpu == pytest.approx([2 * one for one in decoding["model"]["interval"]])
    memory = cell["peak_memory_bytes"]
    assert memory["model"] == {"value": 1000, "interval": [1000, 1000]}
    assert memory["ideal"] == WHOLE.work.numbers_held(2, 14) / SHALLOW.work.numbers_held(2, 14)
    assert document["against"]["removed"] == [1, 3, 4]
    assert document["size_on_disk_ratio"] == 2


def test_all_but_the_head_goes_with_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the layers: the ideal lies between nothing saved and twice as fast."""
    for cell in bench(Machine(seconds=SECONDS), monkeypatch)["cells"]:
        for name in FIGURES:
            assert 1.3 < cell[name]["ideal"] < 2


def test_one_model_alone_has_no_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    document = bench(Machine(seconds=SECONDS), monkeypatch, WHOLE)
    assert document["against"] is document["size_on_disk_ratio"] is None
    figure = document["cells"][0]["time_to_first_token_ms"]
    assert figure["model"]["value"] == pytest.approx(300)
    assert figure["against"] is figure["ratio"] is figure["ideal"] is None


def test_what_is_not_known_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    document = bench(Machine(seconds=SECONDS, on_cpu=False), monkeypatch)
    unknown = {name for name in FIGURES if document["cells"][0][name] is None}
    known = {"time_to_first_token_ms", "decode_tokens_per_second"}
    assert unknown == set(FIGURES) - known
    other = bench(Machine(seconds=SECONDS), monkeypatch, engine="llama.cpp")
    assert other["cells"][0]["peak_memory_bytes"]["ideal"] is None
    # Where two requests are subtracted nothing may be left of the second.
    nothing = bench(Machine(seconds={"whole": (1.0, 0.0)}), monkeypatch, WHOLE)
    assert nothing["cells"][0]["decode_tokens_per_second"] is None


def test_every_field_is_in_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs/reference/bench.md").read_text(encoding="utf-8")
    document = bench(Machine(seconds=SECONDS), monkeypatch)
    assert keys(document) - set(INLINE.findall(page)) == set()


def test_a_table_for_each_figure_with_a_line_for_each_cell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    timed(bench(Machine(seconds=SECONDS), monkeypatch), console())
    said = capsys.readouterr().out
    assert "against: shallow without layers 1, 3, 4: 3 layers" in said
    assert "2.00 times smaller" in said
    tables = said.split("\n\n")[1:-1]
    assert len(tables) == len(FIGURES)
    for table in tables:
        assert [line.split()[:2] for line in table.splitlines()[2:]] == [
            ["1", "4"],
            ["1", "8"],
            ["2", "4"],
            ["2", "8"],
        ]
    assert re.search(r"2 +8 +300 \(300-300\) +200 \(200-200\) +1\.50 \(1\.50-1\.50\) +1\.\d+", said)


def test_a_table_of_one_model_has_no_ratio(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[list[str]] = []

    def note(columns: list[Column], *_: Any, **__: Any) -> None:
        shown.append([column.name for column in columns])

    monkeypatch.setattr("telltale.cli.timed.print_table", note)
    timed(bench(Machine(seconds=SECONDS, on_cpu=False), monkeypatch, WHOLE), console())
    assert shown == [["batch", "prompt", "model (95%)"]] * 2
    assert "ratio" not in capsys.readouterr().out


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "an engine": ({"engine": "triton"}, "`engine` must be transformers, llama.cpp or vllm, got"),
    "few repeats": ({"repeats": 5}, "`repeats` must be at least 6, got 5"),
    "one token": ({"new_tokens": 1}, "`new_tokens` must be at least 2, got 1"),
    "no prompt": ({"prompt_lengths": []}, "`prompt_lengths` must be one or several different"),
    "a prompt of nothing": ({"prompt_lengths": [0, 4]}, "`prompt_lengths` must be one or several"),
    "twice the same": ({"batch_sizes": [2, 2]}, "`batch_sizes` must be one or several different"),
    "no threads": ({"threads": 0}, "`threads` must be at least 1, got 0"),
    "no study": ({"pick": 3}, "`pick` is of a study's models, and there is no study; leave it out"),
    "a long prompt": (
        {"prompt_lengths": [4, 250], "new_tokens": 7},
        "`prompt_lengths` 250 and `new_tokens` 7 are 257 tokens, and tiny-llama takes 256; give",
    ),
    "a device": ({"device": "tpu"}, "`device` must be auto, cpu, cuda, cuda:N or mps, got 'tpu'"),
    "no model": ({"against": "./none"}, "no model at ./none"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_timed_is_refused_in_one_line(case: str, tiny_folder: Path) -> None:
    given, words = BAD[case]
    with pytest.raises(InputError) as told:
        telltale.bench(str(tiny_folder), **given)
    assert str(told.value).startswith(words)
    assert "\n" not in str(told.value)


INSTALLED = {
    "not there": ({}, None, "needs the package {package}, which is not installed; install it"),
    "no dtype": ({"dtype": "float32"}, "llama.cpp", "`dtype` float32 cannot be had with"),
    "no device": ({"device": "cpu"}, "vllm", "`device` cpu cannot be had with `engine` vllm"),
    "no GGUF": ({}, "llama.cpp", "llama.cpp reads GGUF files, and tiny-llama is none; give"),
}


@pytest.mark.parametrize("case", INSTALLED)
def test_an_engine_that_is_not_here_or_cannot(
    case: str, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, only, words = INSTALLED[case]
    found = None if only is None else object()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: found)
    for engine, package in {"llama.cpp": "xllamacpp", "vllm": "vllm"}.items():
        if only in (None, engine):
            with pytest.raises(InputError) as told:
                telltale.bench(str(tiny_folder), engine=engine, **given)
            assert words.format(package=package) in str(told.value)
            assert "\n" not in str(told.value)


def test_the_command_names_its_options_and_checks_its_file_first(
    tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = {
        "--new-tokens must be at least 2": ("x.json", "--new-tokens", "1"),
        "--batch-sizes '1;2' is not a list of numbers": ("x.json", "--batch-sizes", "1;2"),
        "there is no folder": ("none/x.json",),
    }
    for words, (out, *options) in cases.items():
        with pytest.raises(SystemExit, match="2"):
            main(["bench", str(tiny_folder), "--out", str(tmp_path / out), *options])
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1


def test_the_command_writes_and_shows(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bench_module, "held", Machine(seconds={"tiny-llama": (1, 2)}).held)
    out = tmp_path / "bench.json"
    with pytest.raises(SystemExit, match="0"):
        main(
            [
                *("bench", str(tiny_folder), "--against", str(tiny_folder), "--out", str(out)),
                *("--prompt-lengths", "4,8", "--batch-sizes", "3", "--device", "cpu"),
            ]
        )
    document = json.loads(out.read_text(encoding="utf-8"))
    assert document["version"] == 1
    assert [(one["batch_size"], one["prompt_length"]) for one in document["cells"]] == [
        (3, 4),
        (3, 8),
    ]
    assert {one["decode_tokens_per_second"]["ideal"] for one in document["cells"]} == {1.0}
    assert f"Written to {out}" in capsys.readouterr().out
