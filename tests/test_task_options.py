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
from telltale.cli.commands import main
from telltale.cli.showing import BETWEEN, CLOSE, OPEN
from telltale.tasks.named import NAMED
from telltale.tasks.sources import hub
from tests import questions, tiny
from tests.studies import result_of

if TYPE_CHECKING:
    from collections.abc import Callable
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
    inner = tiny.build("olmo2", num_hidden_layers=4, max_position_embeddings=1024)
    tokenizer = copy.deepcopy(tiny.tokenizer())
    tokenizer.chat_template = TEMPLATE
    with torch.no_grad():
        for token, factor in LIKED.items():
            inner.lm_head.weight[tokenizer.convert_tokens_to_ids(token)] *= factor
    inner.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    shutil.copytree(folder / "model", folder / "with-bos")
    adding = copy.deepcopy(tiny.tokenizer(adds_bos=True))
    adding.chat_template = "{{ bos_token }}" + TEMPLATE
    adding.save_pretrained(folder / "with-bos")
    data = questions.data_dir(folder / "data")
    questions.harness_file(data, folder)
    questions.harness_file(data, folder, task="gsm8k", name="written", **questions.WRITTEN)
    (folder / "judge.py").write_text(JUDGE)
    (folder / "page.txt").write_text("Is it? It is as it was. " * 9)
    return folder


class Way(NamedTuple):
    """A way to name and ask a task; ``examples`` it has, and what the result says of it."""

    task: str
    options: tuple[str, ...]
    asked: dict[str, Any]
    examples: int = 40


LETTERED = r"{question}\n{options}\nWhich?"
LAST = ("--extract", "regex:([ABC])[^ABC]*$")
SHORT = ("--max-new-tokens", "4")
WAYS = {
    "a split": Way("arc_easy", ("--split", "validation"), {"protocol": "loglik", "shots": 0}),
    "shots": Way("arc_easy", ("--shots", "2"), {"shots": 2, "scoring": "loglik"}),
    "shots by subject": Way("mmlu", ("--shots", "1"), {"shots": 1}),
    "lengths": Way(
        "sst2", ("--scoring", "loglik-per-character"), {"scoring": "loglik-per-character"}
    ),
    "chat": Way(
        "arc_easy",
        ("--protocol", "chat", "--shots", "1", "--prompt", LETTERED, *LAST, *SHORT),
        {"protocol": "chat", "extract": LAST[1], "prompt": LETTERED, "shots": 1},
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
    "the harness's text": Way(
        "harness:PLACE/written.yaml",
        ("--shots", "1"),
        {"name": "harness:written", "protocol": "text", "stop": ["zz"], "max_new_tokens": 4},
    ),
    "a group": Way(
        "sst2=2,piqa",
        (),
        {"name": "sst2=2,piqa=1", "shares": pytest.approx({"sst2": 2 / 3, "piqa": 1 / 3})},
        60,
    ),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    if "harness" in request.param and importlib.util.find_spec("lm_eval") is None:
        pytest.skip("lm-evaluation-harness is not installed")
    return WAYS[request.param]


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
    whole = evaluated(capsys, place, way, tmp_path / "whole.json", "--limit", "30")
    less = evaluated(capsys, place, way, tmp_path / "less.json", "--limit", "30", "--remove", "1,3")
    assert len(whole["examples"]) == len(less["examples"]) == 30
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
        limit=30,
        text=place / "page.txt",
    )
    assert json.loads(json.dumps(again)) == less


def test_a_data_set_of_the_hub_is_asked_like_a_file_of_one_s_own(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    place: Path,
    tmp_path: Path,
) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    rows = [{"q": row["question"], **row} for row in questions.choices("hub", 30)]
    asked = []

    def read(dataset: str, config: str | None, choose: Callable[[list[str]], str]) -> hub.Data:
        asked.append((dataset, config, choose(["train", "test"])))
        return hub.Data(datasets.Dataset.from_list(rows), "test")

    monkeypatch.setattr(hub, "read", read)
    options = ("--question-field", "q", "--shots", "2")
    file = place / "data" / "hub.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = []
    for number, task in enumerate((("hf:org/name:config",), ("--data", str(file)))):
        out = tmp_path / f"{number}.json"
        run(capsys, "eval", str(place / "model"), *task, *options, "--out", str(out))
        found.append(json.loads(out.read_text(encoding="utf-8")))
    assert asked == [("org/name", "config", "test")]
    assert found[0]["task"]["name"] == "hf:org/name:config"
    scores = [[(one["score"], one["loglikelihoods"]) for one in of["examples"]] for of in found]
    assert scores[0] == scores[1]
    assert len(scores[0]) == 28


# Shown


def test_every_named_task_is_listed_with_its_size_its_licence_and_its_source(
    capsys: pytest.CaptureFixture[str],
) -> None:
    header, *lines, remedy = run(capsys, "tasks").splitlines()
    assert "telltale tasks NAME --show" in remedy
    # "examples" is aligned to the right, under what is longest; the others to the left.
    starts = [0, *(header.index(name) for name in ("what is asked", "licence", "source"))]
    cells: dict[str, list[str]] = {}
    for line in lines:
        if not line.startswith(" "):
            found = cells[line.split()[0]] = ["", "", "", ""]
        for number, (start, end) in enumerate(zip(starts, [*starts[1:], None], strict=True)):
            found[number] += line[start:end].replace(" ", "")  # cells are folded
    assert list(cells) == list(NAMED)
    for name, (first, asked, licence, source) in cells.items():
        task = NAMED[name]
        assert first == f"{name}{task.sizes[task.split]:,}{task.split}"
        assert asked == task.summary.replace(" ", "")
        assert licence == task.licence.replace(" ", "")
        assert task.home.replace(" ", "").endswith(source.removeprefix("hf:"))


@pytest.mark.parametrize("name", [*NAMED, "mmlu_anatomy"])
def test_a_named_task_is_described(capsys: pytest.CaptureFixture[str], name: str) -> None:
    task = NAMED[name.partition("_anatomy")[0]]
    told = run(capsys, "tasks", name)
    assert told.startswith(f"{name}: ")
    for size in task.sizes.values():
        assert f"{size:,}" in told
    for word in (task.split, task.licence, task.home, *task.templates.values()):
        assert word in told
    shots = task.shots_split and f"from the {task.shots_split} split of {task.shots_task or name}"
    assert (shots or "from the questions themselves, which are then not asked") in told


def shown(capsys: pytest.CaptureFixture[str], place: Path, *given: str) -> list[list[str]]:
    """What is printed of each question, in lines; the first names it."""
    data = [] if given[0].startswith("harness:") else ["--data-dir", str(place / "data")]
    out = run(capsys, "tasks", *given, *data)
    found: list[list[str]] = []
    for line in out.splitlines():
        if not line.startswith(("  ", "* ", OPEN)) and line:
            found.append([])
        if line and not line.startswith(OPEN):
            found[-1].append(line)
    return found


FIRST = ["  Question: Which test colour is number 0?", "  Answer:"]


def scored(lines: list[str]) -> list[tuple[bool, str]]:
    """Of each choice, whether it is the right one, and what is scored."""
    return [
        (line.startswith("* "), line.partition(OPEN)[2].removesuffix(CLOSE).replace(BETWEEN, ""))
        for line in lines
    ]


def test_questions_are_shown_without_a_model_with_what_is_scored(
    capsys: pytest.CaptureFixture[str], place: Path
) -> None:
    first, second = shown(capsys, place, "arc_easy", "--show", "2")
    name, question, answer, *choices = first
    assert [question, answer] == FIRST
    assert scored(choices) == [(True, " red"), (False, " greener"), (False, " blueerer")]
    assert scored(second[3:]) == [(False, " green"), (True, " blueer"), (False, " greyerer")]
    assert name.startswith("arc_easy, arc_easy-test-0")
    assert "tokens" not in name
    assert choices[0] == f"* {OPEN} red{CLOSE}"


@pytest.mark.parametrize("model", ["model", "with-bos"])
def test_questions_are_shown_as_a_model_reads_them_with_what_is_scored(
    capsys: pytest.CaptureFixture[str], place: Path, model: str
) -> None:
    first, second = shown(capsys, place, "arc_easy", "--show", "2", "--model", str(place / model))
    name, question, answer, *choices = first
    begins = {"with-bos": "<s>"}.get(model, "")
    assert [question.replace(begins, ""), answer] == FIRST
    assert question.startswith(f"  {begins}Question")
    assert scored(choices) == [(True, " red"), (False, " greener"), (False, " blueerer")]
    assert scored(second[3:]) == [(False, " green"), (True, " blueer"), (False, " greyerer")]
    assert name.startswith("arc_easy, arc_easy-test-0")
    tokenizer = tiny.tokenizer(adds_bos=model == "with-bos")
    prompt = "\n".join(line[2:] for line in FIRST)
    context = tokenizer(prompt)["input_ids"]
    assert name.endswith(f", {len(context)} tokens")
    assert context.count(tokenizer.bos_token_id) == (model == "with-bos")
    whole = tokenizer(prompt + " red")["input_ids"]
    pieces = [tokenizer.decode(token) for token in whole[len(context) :]]
    assert choices[0] == f"* {OPEN}{BETWEEN.join(pieces)}{CLOSE}"


@pytest.mark.parametrize("task", ["winogrande", "harness:FILE"])
def test_what_differs_before_what_is_scored_is_shown_unmarked(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path, task: str
) -> None:
    row = {"question": "Of the cup and the lid, the _ was red.", "choices": ["cup", "lid"]}
    questions.put(tmp_path / "data", "winogrande", "validation", [{**row, "answer": 1}])
    if task.startswith("harness:"):
        pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
        rows = [{**row, "answer": 1, "heads": ["Of the cup", "Of the lid"]}] * 2
        questions.put(tmp_path / "data", "arc_easy", "test", rows)
        questions.put(tmp_path / "data", "arc_easy", "train", rows)
        changes = {"doc_to_text": "answer", "doc_to_choice": "heads", "doc_to_target": "was red."}
        task = f"harness:{questions.harness_file(tmp_path / 'data', tmp_path, **changes)}"
    for model in ((), ("--model", str(place / "model"))):
        (lines,) = shown(capsys, tmp_path, task, "--show", "1", *model)
        *_, first, second = lines
        assert scored([first, second]) == [(False, " was red."), (True, " was red.")]
        read = [line[2:].partition(OPEN)[0] for line in (first, second)]
        assert (read[0].endswith("cup"), read[1].endswith("lid")) == (True, True)
        assert "was red" not in "".join(lines[1:-2])


@pytest.mark.parametrize(("model", "begins"), [("model", ""), ("with-bos", "<s>")])
def test_a_chat_is_shown_as_the_model_s_template_renders_it(
    capsys: pytest.CaptureFixture[str], place: Path, model: str, begins: str
) -> None:
    options = ("--protocol", "chat", "--shots", "1", "--show", "1")
    (by_roles,) = shown(capsys, place, "arc_easy", *options)
    (rendered,) = shown(capsys, place, "arc_easy", *options, "--model", str(place / model))
    task = telltale.load_task("arc_easy", data_dir=place / "data", protocol="chat", shots=1)
    (shot,) = task.examples[0].shots
    question = (
        "Which test colour is number 0?\nA. red\nB. greener\nC. blueerer\n"
        "Answer with the letter of the right choice."
    )
    turns = (
        f"{begins}<user> {shot.question}\n<assistant> {shot.answer}\n<user> {question}\n<assistant>"
    )
    name, *lines, right = rendered
    assert [line[2:] for line in lines] == turns.split("\n")
    assert right == by_roles[-1] == "  right: A"
    tokens = tiny.tokenizer()(turns, add_special_tokens=False)["input_ids"]
    assert name == f"arc_easy, arc_easy-test-0, {len(tokens)} tokens"
    plain = f"[user]\n{shot.question}\n[assistant]\n{shot.answer}\n[user]\n{question}\n[assistant]"
    assert [line[2:] for line in by_roles[1:-1] if line.strip()] == plain.split("\n")


def test_a_text_to_go_on_from_is_shown_with_its_right_answer(
    capsys: pytest.CaptureFixture[str], place: Path
) -> None:
    options = ("--protocol", "text", "--show", "1", "--shots", "1")
    for model, begins in ((), ""), (("--model", str(place / "with-bos")), "<s>"):
        ((_, first, *more, right),) = shown(capsys, place, "gsm8k", *options, *model)
        assert first.startswith(f"  {begins}Question: Of the train's ")
        assert [line for line in more if line.startswith("  #### ")]  # a worked answer
        assert more[-2] == "  Question: Of the test's 0 eggs in fours, how many are left?"
        assert (more[-1], right) == ("  Answer:", "  right: 0")


@pytest.mark.parametrize("task", ["harness:FILE", "sst2=2,piqa"])
def test_a_task_without_a_name_of_its_own_is_shown_at_once(
    capsys: pytest.CaptureFixture[str], place: Path, task: str
) -> None:
    if task.startswith("harness:"):
        pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
    found = shown(capsys, place, task.replace("FILE", str(place / "made.yaml")))
    assert len(found) == 3
    assert found[0][0].startswith("harness:made, 0" if ":" in task else "sst2=2,piqa=1, sst2/")
    assert scored(found[0][-3:]) == [(True, " red"), (False, " greener"), (False, " blueerer")]
