"""Data files: every form that is taken, and every fault named by file and line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telltale.errors import DataError, InputError
from telltale.tasks.datafile import AnswerForm, Fields, read_data_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

GOOD = {"question": "Is it?", "choices": ["yes", "no"], "answer": 1}


def jsonl(folder: Path, *rows: Any, name: str = "data.jsonl") -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return folder / name


def csv(folder: Path, text: str) -> Path:
    (folder / "data.csv").write_text(text, encoding="utf-8")
    return folder / "data.csv"


def test_json_lines_give_rows_with_all_their_fields(tmp_path: Path) -> None:
    file = jsonl(tmp_path, {**GOOD, "id": "a", "passage": "Long ago.", "n": 3, "x": None}, "", GOOD)
    first, second = read_data_file(file).rows
    assert (first.id, first.choices, first.answer) == ("a", ("yes", "no"), 1)
    assert first.fields == {
        "question": "Is it?",
        "answer": "1",
        "id": "a",
        "passage": "Long ago.",
        "n": "3",
    }
    assert second.where == "data.jsonl, line 3"
    assert "passage" not in second.fields


def test_a_line_separator_inside_a_string_does_not_end_a_line(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(json.dumps({**GOOD, "question": "a\u2028b\x85c"}, ensure_ascii=False), "utf-8")
    assert read_data_file(file).rows[0].fields["question"] == "a\u2028b\x85c"


@pytest.mark.parametrize("answer", ["1", "B", "b", "no", " no "])
def test_answers_may_be_indices_letters_or_texts(tmp_path: Path, answer: str) -> None:
    assert read_data_file(jsonl(tmp_path, {**GOOD, "answer": answer})).rows[0].answer == 1


def test_csv_takes_columns_of_choices_and_shorter_questions(tmp_path: Path) -> None:
    file = csv(
        tmp_path, '\ufeffquestion,choice_1,choice_2,choice_10,answer\n"a, b",x,y,z,2\nc,x,y,,0\n'
    )
    first, second = read_data_file(file).rows
    assert (first.fields["question"], first.choices, first.answer) == ("a, b", ("x", "y", "z"), 2)
    assert second.choices == ("x", "y")


def test_csv_takes_a_json_list_of_choices(tmp_path: Path) -> None:
    file = csv(tmp_path, 'question,choices,answer\nq,"[""x"", ""y""]",y\n')
    assert read_data_file(file).rows[0].choices == ("x", "y")


def test_text_and_label_make_a_classification(tmp_path: Path) -> None:
    text = "text,label\n" + "".join(f"word {i},{('good', 'bad')[i % 2]}\n" for i in range(12))
    rows = read_data_file(csv(tmp_path, text)).rows
    assert {row.choices for row in rows} == {("bad", "good")}
    assert [row.answer for row in rows[:2]] == [1, 0]
    assert rows[0].fields["question"] == rows[0].fields["text"] == "word 0"


@pytest.mark.parametrize("rows_per_answer", [1, 4])
def test_answers_that_are_too_many_to_be_labels_are_free_text(
    tmp_path: Path, rows_per_answer: int
) -> None:
    lines = [
        {"question": f"How many are {i}?", "answer": f" {i // rows_per_answer:,} "}
        for i in range(40)
    ]
    rows = read_data_file(jsonl(tmp_path, *lines)).rows
    assert [row.choices for row in rows] == [(f"{i // rows_per_answer}",) for i in range(40)]
    assert {row.answer for row in rows} == {0}
    assert rows[3].fields["question"] == "How many are 3?"
    assert rows[3].where == "data.jsonl, line 4"


def labelled(factory: pytest.TempPathFactory, answers: Sequence[int]) -> Path:
    text = "text,label\n" + "".join(f"word {i},{answer}\n" for i, answer in enumerate(answers))
    return csv(factory.mktemp("labels"), text)


# Of each label, how many rows: five a label on the whole, and fewer.
ENOUGH = st.lists(st.integers(0, 9), min_size=2, max_size=6).map(
    lambda more: [label for label, count in enumerate(more) for _ in range(5 + count)]
)
TOO_FEW = st.lists(st.integers(1, 4), min_size=1, max_size=10).map(
    lambda counts: [label for label, count in enumerate(counts) for _ in range(count)]
)


@given(ENOUGH.flatmap(st.permutations))
def test_answers_are_labels_where_each_has_five_rows(
    tmp_path_factory: pytest.TempPathFactory, answers: list[int]
) -> None:
    different = tuple(sorted({str(answer) for answer in answers}))
    rows = read_data_file(labelled(tmp_path_factory, answers)).rows
    assert [row.choices for row in rows] == [different] * len(answers)
    assert [row.choices[row.answer] for row in rows] == [str(answer) for answer in answers]


@given(
    st.one_of(
        st.tuples(
            TOO_FEW.flatmap(st.permutations), st.sampled_from([AnswerForm.AUTO, AnswerForm.FREE])
        ),
        st.tuples(ENOUGH.flatmap(st.permutations), st.just(AnswerForm.FREE)),
    )
)
def test_answers_of_fewer_rows_or_said_to_be_free_are_free_text(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[list[int], AnswerForm]
) -> None:
    answers, form = case
    rows = read_data_file(labelled(tmp_path_factory, answers), Fields(answer_form=form)).rows
    assert [row.choices for row in rows] == [(str(answer),) for answer in answers]
    assert {row.answer for row in rows} == {0}


@pytest.mark.parametrize("count", [5, 6, 40])
def test_one_label_alone_leaves_nothing_to_choose(
    tmp_path_factory: pytest.TempPathFactory, count: int
) -> None:
    with pytest.raises(
        DataError, match=r"nothing to choose; give choices.*`fields.answer_form` free"
    ):
        read_data_file(labelled(tmp_path_factory, [3] * count))


@pytest.mark.parametrize(
    ("answer", "text"), [(18, "18"), (-3.5, "-3.5"), (18.0, "18.0"), (True, "true"), (" a ", "a")]
)
def test_free_text_is_what_the_file_says(tmp_path: Path, answer: Any, text: str) -> None:
    file = jsonl(tmp_path, {"question": "Is it?", "answer": answer})
    free = read_data_file(file, Fields(answer_form=AnswerForm.FREE)).rows[0]
    assert free.choices == (text,)
    assert read_data_file(file).rows[0].choices == (text,)  # one row is no label


def test_free_text_is_no_choice_even_where_there_are_choices(tmp_path: Path) -> None:
    file = jsonl(tmp_path, {**GOOD, "answer": "B"}, {**GOOD, "answer": "perhaps"})
    rows = read_data_file(file, Fields(answer_form=AnswerForm.FREE)).rows
    assert [row.choices for row in rows] == [("B",), ("perhaps",)]
    with pytest.raises(DataError, match="line 2: answer 'perhaps' is not a letter"):
        read_data_file(file)


def test_free_text_without_an_answer_is_refused_by_line_or_skipped(tmp_path: Path) -> None:
    good = {"question": "Is it?", "answer": "It is."}
    assert len(read_data_file(jsonl(tmp_path, good, good)).rows) == 2
    file = jsonl(tmp_path, good, {**good, "answer": " "}, {**good, "answer": ["It"]})
    with pytest.raises(DataError, match=r"data.jsonl, line 2: no answer; fill in 'answer'"):
        read_data_file(file)
    assert len(read_data_file(file, skip_bad_rows=True).skipped) == 2


def test_fields_may_have_other_names(tmp_path: Path) -> None:
    file = jsonl(tmp_path, {"q": "Is it?", "options": ["yes", "no"], "gold": 0, "context": "P"})
    names = Fields(question="q", choices="options", answer="gold", passage="context")
    row = read_data_file(file, names).rows[0]
    assert (row.fields["question"], row.fields["passage"], row.answer) == ("Is it?", "P", 0)


BAD_ROWS: dict[str, tuple[Any, str]] = {
    "no answer": ({**GOOD, "answer": None}, "no answer; fill in 'answer'"),
    "an index past the choices": ({**GOOD, "answer": 2}, r"answer '2' is not an index from 0 to 1"),
    "a negative index": ({**GOOD, "answer": -1}, r"answer '-1' is not an index"),
    "equal choices, one right": ({**GOOD, "choices": ["no", "no"]}, "two choices are 'no'"),
    "one choice": ({**GOOD, "choices": ["no"]}, "at least two"),
    "no choices": ({**GOOD, "choices": []}, "0 choices"),
    "choices that are no list": ({**GOOD, "choices": "yes"}, "is not a list"),
    "an empty choice": ({**GOOD, "choices": ["", "no"]}, "an empty choice"),
    "a choice that is no text": ({**GOOD, "choices": [{}, "no"]}, "an empty choice"),
    "an empty question": ({**GOOD, "question": " "}, "'question' is empty"),
    "an unclosed line": ('{"question": "Is it?", "choi', "not a JSON object"),
    "a list": ("[1, 2]", "a JSON list, not an object"),
    "nesting without end": ("[" * 100_000, "not a JSON object"),
    "a number of many digits": (
        '{"answer": ' + "9" * 5000 + "}",
        "not a JSON object|no answer|empty",
    ),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_refused_by_file_and_line_or_skipped(tmp_path: Path, name: str) -> None:
    row, message = BAD_ROWS[name]
    assert len(read_data_file(jsonl(tmp_path, GOOD, GOOD)).rows) == 2  # the good case
    file = jsonl(tmp_path, GOOD, row, GOOD)
    with pytest.raises(DataError, match=f"^data.jsonl, line 2: .*({message})"):
        read_data_file(file)
    found = read_data_file(file, skip_bad_rows=True)
    assert len(found.rows) == 2
    assert len(found.skipped) == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "data.csv",
            "question,choice_1,choice_2,answer\nq,a,b\n",
            "line 2: 3 cells where the header has 4",
        ),
        ("data.csv", 'question,answer\n"q,a\n', "close every quote"),
        ("data.csv", "question,question\na,b\n", "names a column twice"),
        ("data.csv", "question,answer\n", "holds no rows"),
        ("data.jsonl", "", "holds no rows"),
        ("data.jsonl", '{"a": 1}', "no field 'question', only 'a'; name it with `fields.question`"),
        ("data.jsonl", '{"question": "a"}', "`fields.answer`"),
        ("data.parquet", "PAR1", "of no known format"),
        ("data.csv", "text,label\n" + "a,same\n" * 30, "every answer in the file is 'same'"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_data_file(tmp_path / name)


def test_a_byte_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_bytes(json.dumps(GOOD).encode() + b"\n\n{\xff}")
    with pytest.raises(DataError, match=r"data.jsonl, line 3: byte 0xff is not UTF-8"):
        read_data_file(tmp_path / "data.jsonl")


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_data_file(tmp_path / "none.jsonl")


def test_a_choices_field_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`fields\.choices`"):
        read_data_file(jsonl(tmp_path, GOOD), Fields(choices="options"))


def test_answers_that_may_mean_two_things_are_asked_about(tmp_path: Path) -> None:
    file = jsonl(tmp_path, {**GOOD, "choices": ["1", "0"], "answer": "0"})
    forms = r"`fields\.answer_form` index or `fields\.answer_form` text"
    with pytest.raises(InputError, match=forms):
        read_data_file(file)
    by_text = read_data_file(file, Fields(answer_form=AnswerForm.TEXT))
    by_index = read_data_file(file, Fields(answer_form=AnswerForm.INDEX))
    assert (by_text.rows[0].answer, by_index.rows[0].answer) == (1, 0)


@settings(max_examples=300)
@given(st.binary(max_size=200), st.sampled_from([".jsonl", ".csv", ".tsv"]), st.booleans())
def test_no_bytes_end_in_anything_but_rows_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str, skip: bool
) -> None:
    file = tmp_path_factory.mktemp("fuzz") / f"data{suffix}"
    file.write_bytes(data)
    try:
        assert read_data_file(file, skip_bad_rows=skip).rows
    except InputError as problem:
        assert "\n" not in str(problem)


def test_all_the_real_task_files_can_be_read(shared_tasks: Path) -> None:
    counts = {}
    for file in sorted(shared_tasks.glob("*/validation.jsonl")):
        counts[file.parent.name] = len(read_data_file(file, skip_bad_rows=True).rows)
    # CommonsenseQA and MMLU have rows with two equal choices of which one is right.
    assert counts["commonsense_qa"] == 1221 - 6
    assert counts["boolq"] == 3270
    assert counts["sst2"] == 872


LAYOUTS: dict[str, tuple[dict[str, Any], ...]] = {
    # Each with the second of three as the right answer, in every way that a file may say so.
    "capitals": tuple({"A": "x", "B": "y", "C": "z", "answer": a} for a in ("B", "b", "y")),
    "letters": tuple({"a": "x", "b": "y", "c": "z", "answer": a} for a in ("B", "b", "y")),
    "lettered options": tuple(
        {"option_a": "x", "option_b": "y", "option_c": "z", "answerKey": a} for a in ("B", "y")
    ),
    "options in words": ({"Option A": "x", "Option B": "y", "Option C": "z", "Answer": "B"},),
    "numbered options": ({"option_1": "x", "option_2": "y", "option_3": "z", "target": "y"},),
    "choices from 0": tuple(
        {"choice_0": "x", "choice_1": "y", "choice_2": "z", "answer": a} for a in (1, "1", "B", "y")
    ),
    "choices from 1": ({"choice_1": "x", "choice_2": "y", "choice_3": "z", "answer": "B"},),
    "MedMCQA": tuple({"opa": "x", "opb": "y", "opc": "z", "cop": a} for a in ("b", "y")),
    "SWAG": tuple({"ending0": "x", "ending1": "y", "ending2": "z", "label": a} for a in (1, "1")),
    "PIQA": ({"sol1": "x", "sol2": "y", "sol3": "z", "correct": "y"},),
    "ARC": tuple(
        {"choices": {"text": ["x", "y", "z"], "label": labels}, "answerKey": a}
        for labels, a in ((["A", "B", "C"], "B"), (["1", "2", "3"], "2"), (["q", "r", "s"], "r"))
    ),
    "ARC, indexed": ({"choices": {"text": ["x", "y", "z"], "label": ["A", "B", "C"]}, "label": 1},),
    "a list of options": tuple({"options": ["x", "y", "z"], "answer": a} for a in (1, "B", "y")),
    "endings": ({"ctx": "Is it?", "endings": ["x", "y", "z"], "label": "1"},),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_usual_layouts_give_the_texts_of_the_choices_and_the_right_one(
    tmp_path: Path, layout: str
) -> None:
    for row in LAYOUTS[layout]:
        found = read_data_file(jsonl(tmp_path, {"question": "Is it?"} | row))
        assert (found.rows[0].choices, found.rows[0].answer) == (("x", "y", "z"), 1)
        assert found.unused == (("ctx",) if layout == "endings" else ())


@pytest.mark.parametrize(
    "columns", [("choice_1", "choice_2", "choice_3"), ("sol1", "sol2", "sol3"), ("A", "B", "C")]
)
@pytest.mark.parametrize(("answers", "right"), [((0, 1, 2), (0, 1, 2)), ((1, 2, 3), (0, 1, 2))])
def test_numbers_for_columns_are_counted_from_what_the_whole_file_shows(
    tmp_path: Path,
    columns: tuple[str, ...],
    answers: tuple[int, ...],
    right: tuple[int, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    header = ",".join(("question", *columns, "answer"))
    file = csv(tmp_path, "\n".join([header, *(f"q,x,y,z,{answer}" for answer in answers)]))
    with caplog.at_level("INFO", "telltale"):
        assert tuple(row.answer for row in read_data_file(file).rows) == right
    assert f"data.csv: answers are counted from {answers[0]}" in caplog.text


def test_numbers_that_fit_both_ways_of_counting_are_asked_about(tmp_path: Path) -> None:
    file = csv(tmp_path, "question,choice_1,choice_2,choice_3,answer\nq,x,y,z,1\nr,x,y,z,2\n")
    with pytest.raises(
        InputError,
        match=r"line 2: answer '1' may be a choice's index \(counted from 0\) or its number "
        r"\(counted from 1\); say which with `fields\.answer_form` index or "
        r"`fields\.answer_form` number",
    ):
        read_data_file(file)
    for form, right in ((AnswerForm.INDEX, [1, 2]), (AnswerForm.NUMBER, [0, 1])):
        rows = read_data_file(file, Fields(answer_form=form)).rows
        assert [row.answer for row in rows] == right


@pytest.mark.parametrize("of", ["choices", "choice_0"])
def test_a_list_and_columns_from_0_are_indexed_from_0_and_told_where_that_fits_worse(
    tmp_path: Path, of: str, caplog: pytest.LogCaptureFixture
) -> None:
    choices = {"choices": ["x", "y"]} if of == "choices" else {"choice_0": "x", "choice_1": "y"}
    file = jsonl(tmp_path, *({"question": "q", **choices, "answer": a} for a in (1, 2, 1)))
    with pytest.raises(DataError, match="line 2: answer '2' is not an index from 0 to 1"):
        read_data_file(file)
    caplog.clear()
    read_data_file(file, skip_bad_rows=True)
    assert "more answers fit if they are counted from 1" in caplog.text
    counted = read_data_file(file, Fields(answer_form=AnswerForm.NUMBER)).rows
    assert [row.answer for row in counted] == [0, 1, 0]


def test_labels_may_differ_from_row_to_row(tmp_path: Path) -> None:
    rows = [
        {"question": "q", "choices": {"text": ["x", "y"], "label": labels}, "answerKey": key}
        for labels, key in ((["A", "B"], "A"), (["1", "2"], "2"), (["A", "B"], "B"))
    ]
    assert [row.answer for row in read_data_file(jsonl(tmp_path, *rows)).rows] == [0, 1, 1]
    uneven = {**rows[0], "choices": {"text": ["x", "y"], "label": ["A"]}}
    with pytest.raises(DataError, match="line 1: 2 choices with 1 labels"):
        read_data_file(jsonl(tmp_path, uneven))


def test_an_empty_cell_among_choices_is_refused_since_what_follows_would_move(
    tmp_path: Path,
) -> None:
    file = csv(tmp_path, "question,A,B,C,answer\nq,x,y,z,B\nr,x,,z,C\n")
    with pytest.raises(DataError, match="line 3: 'B' is empty and 'C' is not"):
        read_data_file(file)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "question,target,gold,A,B",
            "'target' and 'gold' may each be the answer; say which with `fields.answer`",
        ),
        (
            "goal,query,label,A,B",
            "'goal' and 'query' may each be the question; say which with `fields.question`",
        ),
        (
            "question,answer,choice_1,choice_2,opa,opb",
            "the choices may be choice_1, choice_2 or opa, opb; take out or rename one",
        ),
        ("question,answer,A,B,a", "'A' and 'a' are the same; rename one"),
        ("question;A, or so;answer", "its header has semicolons: separate by commas"),
    ],
)
def test_names_that_may_mean_two_things_are_asked_about(
    tmp_path: Path, header: str, message: str
) -> None:
    file = csv(tmp_path, f"{header}\n" + ",".join("x" for _ in header.split(",")) + "\n")
    with pytest.raises(InputError, match=message):
        read_data_file(file)


def test_a_column_that_holds_the_question_or_the_answer_is_no_choice(tmp_path: Path) -> None:
    file = csv(tmp_path, "a,b,c\n" + "q,yes,1\nr,no,2\n" * 6)
    found = read_data_file(file, Fields(question="a", answer="b"))
    assert {row.choices for row in found.rows} == {("no", "yes")}
    assert found.unused == ("c",)


def test_columns_that_are_not_used_are_named_in_the_order_of_the_file(tmp_path: Path) -> None:
    file = csv(tmp_path, "source,question,A,B,C,D,answer,id,year\ns,q,w,x,y,z,D,7,1999\n")
    found = read_data_file(file)
    assert (found.rows[0].choices, found.rows[0].answer) == (("w", "x", "y", "z"), 3)
    assert found.unused == ("source", "year")


def test_cells_are_separated_by_semicolons_where_the_header_has_no_comma(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = csv(tmp_path, 'question;A;B;answer\n"Is it, or not?";yes, it is;no;A\n')
    with caplog.at_level("INFO", "telltale"):
        row = read_data_file(file).rows[0]
    assert (row.fields["question"], row.choices) == ("Is it, or not?", ("yes, it is", "no"))
    assert "data.csv: its header has semicolons and no comma" in caplog.text
