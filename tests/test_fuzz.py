"""Two thousand inputs with something wrong: each is measured or refused in one line.

Through the real command, in this process, whose options are parsed anew each time but made once.
In the fuzz of data the model, its tokenizer and what was found out about it are kept from case to
case, since what varies is read before them; in that of configurations nothing is kept.
"""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telltale.cli import commands as cli
from telltale.engine import runner
from tests import tiny

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hypothesis.strategies import SearchStrategy

JSONL_CASES, SEPARATED_CASES, CONFIG_CASES = 800, 600, 600
# A quarter of them at each run of the tests, all with the slow ones.
PARTS = pytest.mark.parametrize("part", [4, pytest.param(1, marks=pytest.mark.slow)])


def fuzz(cases: int) -> settings:
    return settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=True,  # the same cases on every machine
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "small", num_hidden_layers=2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module", autouse=True)
def _command_made_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "app", typer.main.get_command(cli.app))
        yield


@pytest.fixture
def _loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("load_model", "load_tokenizer", "find_capabilities"):
        monkeypatch.setattr(runner, name, kept(getattr(runner, name)))


def kept(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, which is called once and then gives the same again whatever it is given."""
    found: list[Any] = []

    def once(*arguments: Any, **options: Any) -> Any:
        if not found:
            found.append(function(*arguments, **options))
        return found[0]

    return once


def outcome(*arguments: str) -> tuple[int, str]:
    """The command's status and its complaint, where both are as they must be."""
    out, err = io.StringIO(), io.StringIO()
    status: Any = "none"
    with redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main(list(arguments))
        except SystemExit as ended:
            status = ended.code
    complaints = [line for line in err.getvalue().splitlines() if line.startswith("telltale: ")]
    assert status in (0, 2), (status, complaints, err.getvalue())
    assert "Traceback" not in err.getvalue()
    assert len(complaints) == (1 if status == 2 else 0), err.getvalue()
    assert all(line.isprintable() for line in complaints)
    return status, "".join(complaints)


# Values with something odd about them

ODD_TEXTS = st.sampled_from(
    [
        *("", " ", "\n", "\x00", "\ufeff", "\u2028", "\x85", "\x1b[31m", "\ud800", "a\udc00b"),
        *("\U0010ffff", "é" * 50, "e\u0301", "\u202eabc", "{question}", "{0}", "{{", "%s", "\\n"),
        *("=1+1", "0", "00", "1", "-1", "A", "a", "B", "²", "１", "1.0", "true", "null", "NaN"),
        *("x" * 5000, "the " * 400, "9" * 5000, '["yes", "no"]', "[", '"', "<s>", "</s><s>"),
    ]
)
TEXTS = ODD_TEXTS | st.text(max_size=20)
NUMBERS = st.sampled_from(
    [0, 1, 2, -1, 0.0, 1.0, -0.0, 0.5, 1e308, 5e-324, 10**400, -(10**30), 2**63, 2**64]
) | st.sampled_from([math.nan, math.inf, -math.inf])
PLAIN = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES: SearchStrategy[Any] = PLAIN | st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=5,
)
OPTIONS = st.sampled_from(
    [
        *[[]] * 12,
        *(["--skip-bad-rows"], ["--skip-bad-rows"], ["--limit", "1"], ["--remove", "1"]),
        *(["--answer-form", "text"], ["--answer-form", "letter"], ["--answer-form", "index"]),
        *(["--scoring", "loglik-per-token"], ["--prompt", "{question}"], ["--prompt", "{q}{id}"]),
        *(["--prompt", "{passage}{question}"], ["--question-field", "id"]),
    ]
)
SUFFIXES = st.sampled_from(
    [*[b""] * 30, b"\n\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"\r", b"\x1a", b'"', b"[" * 3000]
)


def encoded(text: str, encoding: str) -> bytes:
    return text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")


ENCODINGS = st.sampled_from([*["utf-8"] * 30, "utf-8-sig", "utf-16", "utf-32-le", "latin-1"])


# JSON lines

GOOD_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "question": st.sampled_from(["Is it?", "Who was it?", "What is the capital of X?"]),
            "choices": st.sampled_from([["yes", "no"], ["a", "b", "c"], ["1", "2"]]),
            "answer": st.sampled_from([0, 1]),
        },
        optional={"id": st.just("i"), "passage": st.just("Once upon a time."), "label": st.just(1)},
    ),
    min_size=1,
    max_size=4,
)
KEYS = st.sampled_from(["question", "choices", "answer", "passage", "id", "label", "text"])


@st.composite
def rows_with_one_thing_wrong(draw: Any) -> list[Any]:
    rows: list[Any] = [dict(row) for row in draw(GOOD_ROWS)]
    row = draw(st.sampled_from(rows))
    kind = draw(st.sampled_from(["set", "set", "set", "choice", "delete", "text", "twice", "row"]))
    if kind == "set":
        row[draw(KEYS)] = draw(VALUES)
    elif kind == "choice":
        row["choices"] = [*row["choices"], draw(VALUES)]
    elif kind == "delete":
        del row[draw(st.sampled_from(["question", "choices", "answer"]))]
    elif kind == "text":
        for one in rows:
            one["answer"] = draw(st.sampled_from([*one["choices"], "A", "b", "1", 1, 1.0, True]))
    elif kind == "twice":
        row["choices"] = [row["choices"][0]] * 2
    else:
        rows.insert(draw(st.integers(0, len(rows))), draw(VALUES))
    return rows


@st.composite
def json_lines(draw: Any) -> bytes:
    kind = draw(st.sampled_from(["good", "bytes", *["rows"] * 12, "cut", "nested"]))
    if kind == "bytes":
        return bytes(draw(st.binary(max_size=200)))
    rows = draw(GOOD_ROWS) if kind in ("good", "cut") else draw(rows_with_one_thing_wrong())
    ascii_only = draw(st.booleans())
    text = "\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows)
    if kind == "nested":
        depth = draw(st.sampled_from([100, 900, 1100, 100_000]))
        text += '\n{"question": "q", "choices": ' + "[" * depth + "]" * depth + ', "answer": 0}'
    data = encoded(text, draw(ENCODINGS)) + draw(SUFFIXES)
    return data[: draw(st.integers(0, len(data)))] if kind == "cut" else data


@pytest.mark.usefixtures("_loaded_once")
@PARTS
def test_json_lines_are_measured_or_refused_in_one_line(
    model: Path, place: Path, part: int
) -> None:
    file = place / "data.jsonl"
    good = {"question": "Is it?", "choices": ["yes", "no"], "answer": 0}
    file.write_text(json.dumps(good))
    assert outcome("eval", str(model), "--data", str(file)) == (0, "")
    seen: Counter[int] = Counter()

    @fuzz(JSONL_CASES // part)
    @given(json_lines(), OPTIONS)
    def check(data: bytes, options: list[str]) -> None:
        file.write_bytes(data)
        status, _ = outcome("eval", str(model), "--data", str(file), *options)
        seen[status] += 1

    check()
    assert min(seen[0], seen[2]) > JSONL_CASES // part // 8, seen


# CSV and TSV


@st.composite
def separated(draw: Any) -> tuple[str, bytes]:
    suffix = draw(st.sampled_from(["csv", "tsv"]))
    kind = draw(st.sampled_from([*["cell"] * 8, "good", "header", "labels", "bytes", "cut", "raw"]))
    if kind == "bytes":
        return suffix, bytes(draw(st.binary(max_size=200)))
    header = ["question", "choice_1", "choice_2", "answer"]
    rows = [["Is it?", "yes", "no", "0"], ["Who?", "he", "she", "1"], ["Say", "x", "y", "0"]]
    if kind == "labels":
        header = ["text", "label"]
        rows = [[f"text {i}", draw(st.sampled_from(["good", "bad"]))] for i in range(12)]
    if kind == "cell":
        row = draw(st.sampled_from(rows))
        row[draw(st.integers(0, len(row) - 1))] = draw(TEXTS)
    elif kind == "header":
        header[draw(st.integers(0, len(header) - 1))] = draw(
            TEXTS | st.sampled_from(["choices", "choice_0", "choice_99999999999", "id", "answer"])
        )
    elif kind == "raw":
        rows.insert(draw(st.integers(0, len(rows))), draw(st.lists(TEXTS, max_size=6)))
    delimiter = "," if suffix == "csv" else "\t"
    quoted = draw(st.booleans()) or kind in ("cell", "header")

    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if quoted else text

    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = end.join(delimiter.join(map(cell, row)) for row in [header, *rows])
    data = encoded(text, draw(ENCODINGS)) + draw(SUFFIXES)
    return suffix, data[: draw(st.integers(0, len(data)))] if kind == "cut" else data


@pytest.mark.usefixtures("_loaded_once")
@PARTS
def test_separated_values_are_measured_or_refused_in_one_line(
    model: Path, place: Path, part: int
) -> None:
    for suffix, delimiter in (("csv", ","), ("tsv", "\t")):
        rows = (("question", "choice_1", "choice_2", "answer"), ("Is it?", "yes", "no", "0"))
        (place / f"good.{suffix}").write_text("\n".join(map(delimiter.join, rows)))
        assert outcome("eval", str(model), "--data", str(place / f"good.{suffix}")) == (0, "")
    seen: Counter[int] = Counter()

    @fuzz(SEPARATED_CASES // part)
    @given(separated(), OPTIONS)
    def check(case: tuple[str, bytes], options: list[str]) -> None:
        suffix, data = case
        file = place / f"data.{suffix}"
        file.write_bytes(data)
        status, _ = outcome("eval", str(model), "--data", str(file), *options)
        seen[status] += 1

    check()
    assert min(seen[0], seen[2]) > SEPARATED_CASES // part // 8, seen


# Configurations

CONFIG_VALUES = (
    VALUES
    | st.sampled_from([3, 7, 16, 31, 33, 64, 299, 301, 1000, 10**6, 10**9, 10**12, -7])
    | st.sampled_from([1e-6, 1e-30, 1e30, 1e300, -1e-6, -0.1, 0.9999, 1.5, [32], [2, 2], {"a": 1}])
    | st.sampled_from(["llama", "gpt2", "gelu", "relu", "silu", "auto", "float16", "eager", "sdpa"])
)
MORE_KEYS = st.sampled_from(
    [
        *("sliding_window", "num_labels", "rope_scaling", "rope_theta", "layer_types", "auto_map"),
        *("quantization_config", "torch_dtype", "text_config", "is_decoder", "pruned_heads"),
        *("output_attentions", "output_hidden_states", "return_dict", "use_sliding_window"),
        *("attn_implementation", "chunk_size_feed_forward", "problem_type", "id2label", "n_layer"),
        *("partial_rotary_factor", "tokenizer_class", "is_encoder_decoder", "per_layer_config"),
        *("cross_attention_hidden_size", "task_specific_params", "_name_or_path", "base_model_tp"),
    ]
)


@st.composite
def configs(draw: Any, valid: dict[str, Any]) -> bytes:
    config = json.loads(json.dumps(valid))
    kind = draw(st.sampled_from([*["set"] * 9, "two", "more", "delete", "rope", "bytes"]))
    keys = st.sampled_from(sorted(config))
    if kind in ("set", "two"):
        for _ in range(1 + (kind == "two")):
            config[draw(keys)] = draw(CONFIG_VALUES)
    elif kind == "more":
        config[draw(MORE_KEYS)] = draw(CONFIG_VALUES)
    elif kind == "delete":
        del config[draw(keys)]
    elif kind == "rope":
        keys = st.sampled_from(["rope_theta", "rope_type", "factor", "type", "attention_factor"])
        config["rope_parameters"][draw(keys)] = draw(
            CONFIG_VALUES | st.sampled_from(["linear", "dynamic", "yarn", "longrope", "llama3"])
        )
    data = bytearray(encoded(json.dumps(config), draw(ENCODINGS)))
    if kind == "bytes":
        change = draw(st.sampled_from(["cut", "flip", "put"]))
        place = draw(st.integers(0, len(data) - 1))
        if change == "cut":
            del data[place:]
        elif change == "flip":
            data[place] ^= 1 << draw(st.integers(0, 7))
        else:
            data[place:place] = draw(st.binary(min_size=1, max_size=4))
    return bytes(data)


@PARTS
def test_configurations_are_measured_or_refused_in_one_line(
    model: Path, place: Path, part: int
) -> None:
    folder = place / "model"
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).symlink_to(file)
    command = ("eval", str(folder), "capitals", "--limit", "2")
    assert outcome(*command) == (0, "")
    valid = json.loads((model / "config.json").read_text())
    (folder / "config.json").unlink()
    seen: Counter[int] = Counter()

    @fuzz(CONFIG_CASES // part)
    @given(configs(valid))
    def check(data: bytes) -> None:
        (folder / "config.json").write_bytes(data)
        status, _ = outcome(*command)
        seen[status] += 1

    check()
    assert min(seen[0], seen[2]) > CONFIG_CASES // part // 8, seen
