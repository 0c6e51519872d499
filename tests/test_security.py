"""Nothing that a model or a data file brings is run, followed out of its folder or obeyed."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.exceptions import SecurityError, UndefinedError

from telltale.cli import screen
from telltale.cli.commands import main
from telltale.errors import InputError, TelltaleError
from telltale.models.load import load_model, load_tokenizer
from telltale.models.source import resolve_model
from telltale.support.files import json_text, write_json
from telltale.support.plain import PlainFormatter, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ESCAPES = "\x1b[31m", "\x9b31m", "\x07", "\u202e", "\u2066", "\u200b", "\r", "\x00", "\u2028"
ODD = "".join(ESCAPES)


def is_obeyed(character: str) -> bool:
    """Whether a terminal or a reader's eye may do something else than show it."""
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character != "\n"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.fixture
def model(tiny_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_folder, tmp_path / "model")


# Nothing is run


class Bomb:
    """An object whose pickle, when read, makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.file),)


def test_pickled_weights_are_never_read(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "read"))
    for name in ("pytorch_model.bin", "model.pt", "tokenizer.pkl", "training_args.bin"):
        (model / name).write_bytes(bomb)
    # Beside safetensors they are left alone; without them they are refused.
    assert run(capsys, "eval", str(model), "capitals", "--limit", "2")[0] == 0
    (model / "model.safetensors").unlink()
    status, _, err = run(capsys, "eval", str(model), "capitals", "--limit", "2")
    assert status == 2
    assert "a pickle can run any code" in err
    (model / "model.safetensors").write_bytes(bomb)
    assert run(capsys, "eval", str(model), "capitals", "--limit", "2")[0] == 2
    assert not (tmp_path / "read").exists()
    pickle.loads(bomb)
    assert (tmp_path / "read").exists()


def test_python_files_run_only_where_they_are_trusted(model: Path, tmp_path: Path) -> None:
    body = f"from pathlib import Path\nPath({str(tmp_path / 'run')!r}).touch()\n"
    (model / "configuration_own.py").write_text(
        body + "from transformers import LlamaConfig\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
    )
    (model / "modeling_own.py").write_text(
        "from transformers import LlamaForCausalLM\n"
        "from .configuration_own import OwnConfig\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    config = json.loads((model / "config.json").read_text())
    config["model_type"] = "own"
    config["auto_map"] = {
        "AutoConfig": "configuration_own.OwnConfig",
        "AutoModelForCausalLM": "modeling_own.OwnModel",
    }
    (model / "config.json").write_text(json.dumps(config))
    import torch

    def load(*, trusted: bool) -> int:
        source = resolve_model(str(model), trust_remote_code=trusted)
        return load_model(source, torch.device("cpu"), torch.float32).depth

    with pytest.raises(TelltaleError, match="cannot load model"):
        load(trusted=False)
    assert not (tmp_path / "run").exists()
    config["auto_map"]["AutoConfig"] = "org/other--configuration_own.OwnConfig"
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="takes code from another model"):
        load(trusted=True)
    assert not (tmp_path / "run").exists()
    config["auto_map"]["AutoConfig"] = "configuration_own.OwnConfig"
    (model / "config.json").write_text(json.dumps(config))
    assert load(trusted=True) == 6
    assert (tmp_path / "run").exists()


ATTACKS = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.mkdir(messages[0].content) }}",
    "{{ messages.__class__.__base__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ messages.append(1) }}",
    "{{ raise_exception.__globals__ }}",
    "{% set x = namespace() %}{{ x.__init__.__globals__ }}",
    "{{ '{0.__class__}'.format(messages) }}{{ ''['__class__']['__mro__'] }}",
)


@pytest.mark.parametrize("where", ["tokenizer_config.json", "chat_template.jinja"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_chat_template_reaches_nothing_of_the_program(
    model: Path, tmp_path: Path, attack: str, where: str
) -> None:
    messages = [{"role": "user", "content": str(tmp_path / "made")}]

    def render(template: str) -> str:
        if where.endswith(".jinja"):
            (model / where).write_text(template)
        else:
            file = model / where
            settings = {**json.loads(file.read_text()), "chat_template": template}
            file.write_text(json.dumps(settings))
        tokenizer = load_tokenizer(resolve_model(str(model)))
        return str(tokenizer.apply_chat_template(messages, tokenize=False))

    assert render("{{ messages[0].role }}") == "user"
    try:
        text = render(attack)
    except (SecurityError, UndefinedError, TypeError) as problem:
        text = str(problem)
    for reached in ("<class 'object'>", "<class 'type'>", "Popen", "<module", "<function"):
        assert reached not in text
    assert not (tmp_path / "made").exists()
    assert messages == [{"role": "user", "content": str(tmp_path / "made")}]


@pytest.mark.parametrize(
    "cell", ["=1+1", "=HYPERLINK(A1)", "@SUM(1)", "+1", "-1", "__import__('os')"]
)
def test_a_formula_is_text(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path, cell: str
) -> None:
    file = tmp_path / "data.csv"
    file.write_text(f'question,choice_1,choice_2,answer\n"{cell}","{cell}",2,"{cell}"\n')
    out = tmp_path / "out.json"
    arguments = ("--data", str(file), "--answer-form", "text", "--out", str(out))
    status, _, err = run(capsys, "eval", str(model), *arguments)
    assert (status, err) == (0, "")


# Nothing is followed out of the model's folder


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"configuration_files": ["config.1.0.0.json"]}),
        ("config.json", {"transformers_weights": "../other/model.safetensors"}),
        ("config.json", {"attn_implementation": "org/kernel"}),
        ("config.json", {"text_config": {"_attn_implementation": {"": "org/kernel@v1"}}}),
        ("tokenizer_config.json", {"gguf_file": "/elsewhere/model.gguf"}),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["../tokenizer.5.0.0.json"]}),
        ("tokenizer_config.json", {"tokenizer_class": "AutoModel"}),
        ("tokenizer_config.json", {"tokenizer_class": 5}),
        ("special_tokens_map.json", {"tokenizer_file": "/elsewhere/tokenizer.json"}),
        ("special_tokens_map.json", {"vocab_file": "../vocab.json"}),
    ],
)
def test_files_that_point_out_of_the_folder_are_refused(
    model: Path, file: str, changes: dict[str, Any]
) -> None:
    resolve_model(str(model))
    path = model / file
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, **changes}))
    with pytest.raises(InputError, match=file) as refused:
        resolve_model(str(model))
    assert "\n" not in str(refused.value)


def test_without_its_own_tokenizer_none_is_taken_from_outside(model: Path, tmp_path: Path) -> None:
    moved = shutil.move(model / "tokenizer.json", tmp_path / "tokenizer.json")
    settings = {"tokenizer_class": "TokenizersBackend", "vocab_file": str(moved)}
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="names a file outside its folder in 'vocab_file'"):
        resolve_model(str(model))


def test_where_a_tokenizer_once_lay_does_no_harm(model: Path, tmp_path: Path) -> None:
    """Saved settings often name old places; transformers must not look there."""
    decoy = tmp_path / "elsewhere"
    decoy.mkdir()
    for name in ("tokenizer.json", "special_tokens_map.json", "vocab.json"):
        (decoy / name).write_text("{}")
    file = model / "tokenizer_config.json"
    old = {
        "special_tokens_map_file": str(decoy / "special_tokens_map.json"),
        "tokenizer_file": str(decoy / "tokenizer.json"),
        "vocab_file": str(decoy / "vocab.json"),
        "name_or_path": str(decoy),
    }
    file.write_text(json.dumps({**json.loads(file.read_text()), **old}))
    opened: list[str] = []
    AUDITED.append(lambda path: opened.append(path) if str(decoy) in path else None)
    try:
        assert load_tokenizer(resolve_model(str(model)))("Paris")["input_ids"]
        assert opened == []
        (decoy / "vocab.json").read_text()
        assert opened == [str(decoy / "vocab.json")]
    finally:
        AUDITED.clear()


AUDITED: list[Any] = []  # an audit hook cannot be taken away again, so it asks here


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if AUDITED and event == "open" and isinstance(arguments[0], str | os.PathLike):
        for note in AUDITED:
            note(os.fspath(arguments[0]))


sys.addaudithook(_audit)


# Nothing is obeyed by a terminal


@given(st.text(st.characters(), max_size=50))
def test_what_is_made_printable_shows_itself_and_nothing_else(text: str) -> None:
    plain = printable(text)
    assert not any(is_obeyed(character) or character == "\n" for character in plain)
    assert printable(plain) == plain


# Unassigned characters, those for private use and spaces may stay or be written out.
SHOWN = st.characters(exclude_categories=["Cn", "Co", "Cs", "Zs"]).filter(
    lambda character: not is_obeyed(character)
)


@given(st.text(st.one_of(SHOWN, st.just("\n")), max_size=50))
def test_what_no_terminal_obeys_stays_as_it_is(text: str) -> None:
    assert printable(text) == text.replace("\n", "\\x0a")


def test_letters_of_all_scripts_stay() -> None:
    text = "Zürich, 北京, القاهرة, Αθήνα, हिन्दी, 🙂, non\u00a0breaking"
    assert printable(text) == text
    assert printable("\x1b\x9b\u202e\U000e0001\ud800\n") == r"\x1b\x9b\u202e\U000e0001\ud800\x0a"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_json_that_is_written_parses_to_the_same_and_obeys_nobody(value: Any) -> None:
    text = json_text(value)
    assert json.loads(text) == value
    assert not any(is_obeyed(character) for character in text)


def test_json_that_is_written_stays_readable(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"Zürich": "北京\u202e\x9b\x7f\ud800"})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == '{\n  "Zürich": "北京\\u202e\\u009b\\u007f\\ud800"\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(PlainFormatter("%(message)s"))
    logger = logging.getLogger("telltale")
    logger.addHandler(handler)
    yield written
    logger.removeHandler(handler)


def test_log_lines_hold_one_printable_line(log: io.StringIO) -> None:
    logging.getLogger("telltale.api").warning("Left out %d: %s", 1, f"Zürich{ODD}\nsecond")
    try:
        raise ValueError(ODD)
    except ValueError:
        logging.getLogger("telltale.api").exception("failed")
    lines = log.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("Left out 1: Zürich\\x1b[31m")
    assert not any(is_obeyed(character) for line in lines for character in line)


def test_names_with_control_characters_are_shown_escaped(tiny_folder: Path, tmp_path: Path) -> None:
    """All that the command writes, as a terminal would get it, with hostile names all over."""
    odd = ODD.replace("\x00", "")
    model = shutil.copytree(tiny_folder, tmp_path / f"model{odd}")
    good = {"question": f"q{ODD}", "choices": [f"a{ODD}", "b"], "answer": 0, "id": ODD}
    data = tmp_path / f"data{odd}.jsonl"
    rows = [json.dumps(good), json.dumps({**good, "answer": ODD}), json.dumps(good)]
    data.write_text("\n".join(rows), encoding="utf-8")
    out = tmp_path / "out.json"

    program = (
        "import sys\n"
        "from telltale.cli.commands import main\n"
        "for more in (['--skip-bad-rows', '--out', sys.argv[3]], []):\n"
        "    try:\n"
        "        main(['eval', sys.argv[1], '--data', sys.argv[2], *more])\n"
        "    except SystemExit as ended:\n"
        "        print('status', ended.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(model), str(data), str(out)],
        capture_output=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
    )
    written, complaints = done.stdout.decode(), done.stderr.decode()
    assert [line for line in written.splitlines() if "status" in line] == ["status 0", "status 2"]
    assert r"model\x1b[31m" in written
    left_out, refused = complaints.splitlines()
    assert left_out.startswith(r"Left out 1 of 3 rows; the first: data\x1b[31m")
    assert refused.startswith(r"telltale: data\x1b[31m")
    assert not any(is_obeyed(character) for character in written + complaints)
    assert not any(is_obeyed(character) for character in out.read_text(encoding="utf-8"))
    assert json.loads(out.read_text(encoding="utf-8"))["examples"][0]["id"] == ODD


def test_tables_and_lines_on_the_screen_are_printable(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    table = Table(f"heading{ODD}")
    table.add_row(f"cell{ODD}")
    out = screen.console()
    out.print(f"line{ODD}")
    out.print(table)
    text = capsys.readouterr().out
    assert all(rf"{word}\x1b[31m" in text for word in ("line", "heading", "cell"))
    assert not any(is_obeyed(character) for character in text)
