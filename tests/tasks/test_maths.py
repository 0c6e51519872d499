"""Maths answers: MATH500's and GSM8K's own, rewritten, mixed up, and hostile ones."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telltale.errors import InputError, MeasurementError
from telltale.tasks import maths
from telltale.tasks.answers import last_number
from telltale.tasks.asking import Asking, make_task
from telltale.tasks.extractions import extraction
from telltale.tasks.rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("math_verify", reason="the extra math is not installed")

LONGEST_S = 3.0
Answers = list[str]


def read_answers(path: Path) -> Answers:
    if not path.is_file():
        pytest.skip(f"no task data at {path}")
    return [json.loads(line)["answer"] for line in path.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def math500(shared_tasks: Path) -> Answers:
    return read_answers(shared_tasks / "math500" / "test.jsonl")


@pytest.fixture(scope="module", autouse=True)
def _started() -> None:
    """The worker is there, so that no test's time is that of loading sympy."""
    assert maths.same("x+x", "2x")


def score(text: str, right: str) -> float:
    way = extraction("math")
    return way.score(way.find(text), right)


# What MATH500 holds, and how else it is written.


def respelled(answer: str) -> str:
    """Other commands for the same signs."""
    text = re.sub(r"\\d?frac(?![a-zA-Z])", r"\\tfrac", answer)
    text = text.replace(r"\tfrac", r"\dfrac", 1)
    text = re.sub(r"\^\\circ", "°", text)
    text = text.replace(r"\mbox", r"\text").replace(r"\pi", r"\pi ")
    return re.sub(r"_(\d)$", r"_{\1}", re.sub(r"\^(\d)", r"^{\1}", text))


def unsized(answer: str) -> str:
    """Brackets the other way: with their size where they had none, without where they had."""
    if r"\left" in answer:
        return answer.replace(r"\left", "").replace(r"\right", "")
    if re.fullmatch(r"[(\[][^()\[\]]*[)\]]", answer):
        return rf"\left{answer[:-1]}\right{answer[-1]}"
    return re.sub(r"\\([{}])", lambda m: rf"\{'left' if m[1] == '{' else 'right'}{m[0]}", answer)


def spaced(answer: str) -> str:
    """Spaces round signs, and none where there were some."""
    text = re.sub(r"(?<=[^,({\[=<^\s])([-+=])(?=[^\s])", r" \1 ", answer)
    return f"  {text}\t" if text != answer else re.sub(r"(?<![a-zA-Z\d]) (?!\d)", "", answer)


def reordered(answer: str) -> str:
    """A list or set backwards."""
    inner = re.fullmatch(r"(\\\{)?([^()\[\]]*, *[^()\[\]]*?)(\\\})?", answer)
    if inner is None or re.search(r",\\!|,\d{3}$", answer):
        return answer
    parts = [part.strip() for part in inner[2].split(",")]
    return (inner[1] or "") + ", ".join(reversed(parts)) + (inner[3] or "")


def renamed(answer: str) -> str:
    """Named where it was a number or a formula, and not where it was named."""
    if re.match(r"[a-z] *(=|\\in )", answer):
        return re.sub(r"^[a-z] *(=|\\in )", "", answer)
    is_formula = not re.search(r"text|mbox|[,=$_]|\\pm|\\circ|\\cup", answer)
    return f"x = {answer}" if is_formula else answer


def rewritten(answer: str) -> Iterator[str]:
    yield answer + "."
    yield f"${answer}$"
    yield rf"\boxed{{{answer}}}"
    for rewrite in (respelled, unsized, spaced, reordered, renamed):
        yield rewrite(answer)
        yield rewrite(spaced(respelled(answer)))


def test_each_right_answer_equals_itself(math500: Answers) -> None:
    assert len(math500) == 500
    assert [answer for answer in math500 if not maths.same(answer, answer)] == []
    box = [rf"So it is $\boxed{{{answer}}}$, as \{{1\}} was to be shown: 7." for answer in math500]
    assert [text for text, right in zip(box, math500, strict=True) if not score(text, right)] == []


def test_each_right_answer_equals_itself_by_meaning_too(math500: Answers) -> None:
    """Not only as text: the library's own word for all that is not a plain number or words."""
    tidy = sorted({maths._tidy(answer) for answer in math500})
    asked = [
        answer
        for answer in tidy
        if last_number(answer) != answer and not maths._word(answer) and not maths._based(answer)
    ]
    assert len(asked) > 100
    assert [answer for answer in asked if not maths._is_modest(answer)] == []
    assert [answer for answer in asked if not maths._compared(answer, answer)] == []


def test_each_right_answer_equals_its_rewritten_forms(math500: Answers) -> None:
    pairs = [(form, answer) for answer in sorted(set(math500)) for form in rewritten(answer)]
    changed = {pair for pair in pairs if pair[0] != pair[1]}
    assert len(changed) > 1400
    assert [pair for pair in sorted(changed) if not maths.same(*pair)] == []


@pytest.mark.parametrize(
    "answer",
    ["1 \\pm \\sqrt{19}", "\\{1\\pm\\sqrt{5},-2\\}", "3 \\pm 2 \\sqrt{2}"],
)
def test_two_roots_at_once_are_two_roots(answer: str) -> None:
    apart = re.sub(r"([^{,]*)\\pm([^,]*?)(?=,|$)", r"\1-\2, \1+\2", answer)
    assert r"\pm" not in apart
    assert maths.same(apart, answer)
    assert maths.same(answer, apart)


# Mixed up: nothing is equal that is not.


def value(answer: str) -> mpmath.mpf | None:
    """The number that an answer is, by nothing of telltale or math-verify; None for no number."""
    text = re.sub(r"\\(text|mbox)\{[^}]*\}(\^\d)?|\^\\circ|\\[$!]|\\left|\\right|\s", "", answer)
    text = re.sub(r"^[a-z]=", "", text)
    if re.fullmatch(r"\d{1,3}(,\d{3})+", text):
        text = text.replace(",", "")
    text = re.sub(r"\\d?frac(\d)(\d)", r"((\1)/(\2))", text)
    text = re.sub(r"\\frac(\d)\{(\d+)\}", r"((\1)/(\2))", text)
    text = re.sub(r"\\frac\{(\d+)\}(\d)", r"((\1)/(\2))", text)
    text = re.sub(r"\\sqrt\{?(\d+)\}?", r"(root(\1))", text)
    text = re.sub(r"\\d?frac\{([^{}]+)\}\{([^{}]+)\}", r"((\1)/(\2))", text)
    text = text.replace(r"\pi", "(pi)")
    text = re.sub(r"^(\d+)\(\((\d+)\)/\((\d+)\)\)$", r"(\1+(\2)/(\3))", text)  # mixed
    text = re.sub(r"(?<=[\d)])\(", "*(", text)
    if not re.fullmatch(r"(?:root|pi|[-+*/().\d])+", text):
        return None
    number = re.sub(r"(\d+\.\d*|\.?\d+)", r"number('\1')", text)
    with mpmath.workdps(50):
        names = {"number": mpmath.mpf, "root": mpmath.sqrt, "pi": +mpmath.pi}
        return mpmath.mpf(eval(number, {"__builtins__": {}}, names))


def truly_same(left: str, right: str) -> bool:
    values = value(left), value(right)
    if values[0] is not None and values[1] is not None:
        return bool(abs(values[0] - values[1]) < mpmath.mpf(10) ** -30)
    lists = [text.replace(" ", "").split(",") for text in (left, right)]
    if not re.search(r"[(\[{\\]", left + right):  # roots, which have no order
        lists = [sorted(parts) for parts in lists]
    return lists[0] == lists[1]


def test_the_oracle_of_this_test_reads_most_numbers(math500: Answers) -> None:
    assert sum(value(answer) is not None for answer in math500) > 400
    assert value(r"137 \frac{1}{2}") == mpmath.mpf("137.5")
    assert value(r"\$32,\!348") == 32348
    assert truly_same(r"\frac{3\sqrt{3}}{4}", r"\frac 34\sqrt3")
    assert not truly_same("(2,4)", "24")


@pytest.mark.parametrize(
    "seed",
    [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))],
)
def test_mixed_up_answers_are_the_same_only_where_they_are(math500: Answers, seed: int) -> None:
    others = list(math500)
    random.Random(seed).shuffle(others)
    wrong = [
        (given, right)
        for given, right in zip(others, math500, strict=True)
        if maths.same(given, right) != truly_same(given, right)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("(4,2)", "(2,4)"),
        ("[2,4]", "(2,4)"),
        ("2,4", "(2,4)"),
        ("(1,2)", r"\{1,2\}"),
        ("1", "1,1"),
        ("1, 234", "1234"),
        ("(100,200)", "(100200)"),
        ("2", "2m"),
        ("0", "5x - 7y + 11z + 4 = 0"),
        ("5x - 7y + 11z + 4 = 0", "0"),
        ("x^2+2=0", "x^2+1=0"),
        ("y=5", "x=5"),
        ("52", "52_8"),
        ("42", "52_8"),
        ("52_9", "52_8"),
        ("0.0000671", ".0000672"),
        ("0.00199", r"\frac{2}{1005}"),
        ("0.33333333", r"\frac{1}{3}"),
        (r"10^{-20}\pi", "10^{-20}e"),
        (r"\frac45", r"1\frac45"),
        (r"\text{odd}", r"\text{even}"),
        ("seat", r"\text{east}"),
        ("seat", "east"),
        ("2", r"2\mathrm{i}"),
        ("x=2", "x=3"),
        ("B", r"\text{(C)}"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}"),
        (r"(9,36) \cup (0,8)", r"(0,9) \cup (9,36)"),
        ("", "0"),
        ("$", "0"),
    ],
)
def test_what_is_not_the_same(answer: str, right: str) -> None:
    assert not maths.same(answer, right)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("0.75", r"\frac 34"),
        (r"\frac{1}{\sqrt3}", r"\frac{\sqrt{3}}{3}"),
        (r"\frac{\cos x}{\sin x}", r"\cot x"),
        ("ab+2a+5b+10", "(a+5)(b+2)"),
        ("6-5 i", "6 - 5i"),
        ("36 dollars", r"\$36"),
        ("864 square inches", r"864 \mbox{ inches}^2"),
        ("15 cm^2", r"15\mbox{ cm}^2"),
        ("106 degrees", r"106^\circ"),
        ("137 1/2", r"137 \frac{1}{2}"),
        ("-5x+7y-11z-4=0", "5x - 7y + 11z + 4 = 0"),
        (r"-2 \le x \le 7", r"x \in [-2,7]"),
        (r"\{1, 2\}", "2,1"),
        ("y=2x+3", "2x+3"),
        (r"(3,\infty)\cup(-\infty,2)", r"(-\infty, 2) \cup (3, \infty)"),
        (
            r"\begin{bmatrix} 0.2 \\ -3.6 \end{bmatrix}",
            r"\begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}",
        ),
        ("25.132741228718345", r"8 \pi"),
        ("50", r"50\%"),
        ("evelyn.", r"\text{Evelyn}"),
        ("C", r"\text{(C)}"),
        (r"1{,}234", "1,234"),
        ("\u22123\u03c0", r"-3\pi"),
        ("A = 3 + 4 = 7", "7"),
        ("52_{8}", "52_8"),
        (r"x = \{2, 1\}", r"x = \{1, 2\}"),
    ],
)
def test_what_is_the_same(answer: str, right: str) -> None:
    assert maths.same(answer, right)


# Reading an answer from a text.


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        (r"first \boxed{1}, then \boxed{2}, not 3", "2"),
        (r"\boxed{\text{(C)} \{1\}}", r"\text{(C)} \{1\}"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{1} and \boxed{2", "1"),
        (r"\fbox{7}", "7"),
        (r"\boxed{ }", None),
        ("The answer is 1,234.", "1,234"),
        ("The answer is $18.00 a day, for 7 days.", "7"),
        ("The answer is $18.00.", "$18.00"),
        (r"The answer is $\frac{3}{4}$. Note that $x=5$.", r"\frac{3}{4}"),
        (r"The answer is 2 \sqrt{3}.", r"2 \sqrt{3}"),
        ("The answer is (3, 4).", "(3, 4)"),
        ("The answer is Evelyn.", "Evelyn"),
        ("**Answer:** -3", "-3"),
        ("Final answer:\n$$\nx^2\n$$", "x^2"),
        ("#### 42", "42"),
        (r"so the area is $12\pi$.", r"12\pi"),
        (r"so it is \[ x^2 + 1 \]", "x^2 + 1"),
        ("costs $18 and then $20 each", "20"),
        ("x = 1/2", "1/2"),
        ("The area is 15 cm^2", "15"),
        ("it costs $18.0", "18"),
        ("no maths at all", None),
        ("", None),
    ],
)
def test_an_answer_is_found(text: str, answer: str | None) -> None:
    assert extraction("math").find(text) == answer


@pytest.mark.parametrize(
    ("text", "right"), [("1,234", "1234"), ("$18", "18"), ("18.0", "18"), ("-3", "-3")]
)
@pytest.mark.parametrize("name", ["math", "number"])
@pytest.mark.parametrize(
    "sentence",
    ["{}", "{}.", "The answer is {}.", "So it is {}", "#### {}", r"Thus $\boxed{{{}}}$."],
)
def test_the_forms_of_numbers_are_read(name: str, sentence: str, text: str, right: str) -> None:
    way = extraction(name)
    answer = way.find(sentence.format(text))
    assert way.score(answer, right) == 1
    assert way.score(answer, text) == 1
    assert way.score(answer, f"{right}1") == 0


@pytest.mark.parametrize("file", ["gsm8k/test.jsonl", "gsm8k/train.jsonl", "gsm_hard/test.jsonl"])
def test_right_answers_of_gsm_are_numbers(shared_tasks: Path, file: str) -> None:
    for right in sorted(set(read_answers(shared_tasks / file))):
        number = last_number(right)
        assert number is not None, right
        assert math.isclose(float(number), float(right.replace(",", "")), rel_tol=1e-12), right
        assert score(f"The answer is {right}.", right) == 1
        assert score(right, right) == 1
        assert extraction("number").score(number, right) == 1
        assert not maths.same(right, f"1{number.removeprefix('-')}")


# Hostile answers.

SURDS = r"\frac{1}{" + "+".join(rf"\sqrt{{{n}}}" for n in (2, 3, 5, 7, 11, 13, 17)) + "}"
HOSTILE = [
    "9" * 1_000_000,
    "9" * 900,
    "0." + "9" * 900,
    "9^" * 50 + "9",
    "9^{" * 20 + "9" + "}" * 20,
    "9^{9^{9^{9}}}",
    "9^9^9^9",
    "9**9**9**9",
    r"(((9^{999})^{999})^{999})^{999}",
    r"9^{99\cdot 99\cdot 99\cdot 99\cdot 99}",
    r"9^{99(99)(99)(99)}",
    r"10^{-999999999}",
    "9e99e99",
    "1e99",
    r"\exp(\exp(\exp(\exp(9))))",
    "99999999!",
    "((99!)!)!",
    "9!!!!",
    "x!^{9!}",
    r"\binom{99999999}{5555555}",
    r"\binom{\binom{99}{50}}{40}",
    r"\sum_{n=1}^{99999999} n",
    r"\int_0^1 \sin(\cos(\tan(x^x))) dx",
    r"\prod_{n=1}^{999999999} n",
    r"\lim_{x \to 0} \frac{\sin x}{x}",
    r"\sqrt{" * 40 + "2" + "}" * 40,
    r"\frac{1}{" * 40 + "2" + "}" * 40,
    SURDS,
    "(" * 150 + "1" + ")" * 150,
    "(" * 100_000,
    "{" * 1_000_000,
    "}" * 1_000_000,
    r"\boxed{" * 100_000,
    r"\boxed{" * 2_000 + "}" * 2_000,
    "$" * 1_000_000,
    r"\[" * 500_000,
    r"\(" * 10_000 + r"\)",
    "answer is " * 100_000,
    "answer " * 2_800,
    "1/2 " * 250_000,
    "$1$, " * 200_000,
    "cm " * 330,
    "1 cm cm " * 120,
    r"\text{" * 150,
    r"1\text{ a}" * 90,
    "=" * 900,
    "x=" * 140 + "1",
    "," * 300,
    "1," * 149 + "1",
    "\x00\x01\x1b[31m\r\n\u2028\ud800",
    "import os",
    "__import__('os').system('true')",
    r"\variable{x}",
    r"\begin{pmatrix}" + "1 & " * 60 + r"1 \end{pmatrix}",
    r"\left(" * 100,
    "|" * 299,
    "-" * 299,
    "+".join(f"x^{{{n}}}" for n in range(40)),
    "(x+1)^{999}",
    r"(\sin x + \cos x)^{99}",
    r"\log_{\log_{2}(3)}(\log_{5}(7))",
    rf"y = {SURDS}",
    r"y = (\sin x + \cos x)^{99} + \sin(x^{99})",
    rf"({SURDS}, 2)",
    rf"\{{ {SURDS}, (\sin x + \cos x)^{{99}} \}}",
    rf"[0, {SURDS}]",
    rf"(0, {SURDS}) \cup (9, 10)",
    rf"x < {SURDS}",
    "x" * 300,
    r"\infty - \infty",
    r"\frac{0}{0}",
    "1/0",
    "nan",
    "\u0661\u0662\u0663",
]


def check_bounds(text: str, right: str) -> None:
    """Reads and compares a text, which neither raises nor takes long.

    What is done here is bounded by this process's own time, whatever else the machine does. The
    worker is to answer before its clock ends it: that the sizes are bounded must be enough.
    """
    way = extraction("math")
    worker = maths._worker()
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    assert way.score(way.find(text), right) in (0, 1)
    assert way.score(text, right) in (0, 1)
    assert way.score(right, text) in (0, 1)
    assert time.process_time() - cpu_s < LONGEST_S
    assert time.perf_counter() - wall_s < 3 * maths.LIMIT_S
    assert maths._worker() is worker


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: f"{text[:12]!a}x{len(text)}")
def test_hostile_text_neither_raises_nor_takes_long(text: str) -> None:
    for right in (
        r"(0,9) \cup (9,36)",
        r"\{1\pm\sqrt{5},-2\}",
        "y = 2x + 3",
    ):
        check_bounds(text, right)


PIECES = st.sampled_from(
    [
        *"0123456789xyie+-*/^_()[]{}=,.!|<>&$% \\\x00\n\u00e9",
        *(r"\frac{", r"\sqrt{", r"\pi", r"\infty", r"\cup", r"\pm", r"\left(", r"\right)", r"\{"),
        *(r"\}", r"\text{", r"\boxed{", r"\cdot", r"\le", r"\begin{pmatrix}", r"\end{pmatrix}"),
        *(r"\\", r"\sin", r"\log_", r"\binom{", "^{", "99", "999", r"^\circ", "answer is "),
    ]
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(PIECES, max_size=40).map("".join), st.text(max_size=60))
def test_no_text_raises_or_takes_long(text: str, other: str) -> None:
    check_bounds(text, r"\frac{1}{2}")
    check_bounds(text, other)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(PIECES, max_size=40).map("".join))
def test_every_text_that_says_something_equals_itself(text: str) -> None:
    assert maths.same(text, text) == bool(maths._tidy(text))


def test_what_takes_too_long_is_not_the_same_and_harms_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The bound on time itself, in a thread: with what the bounds on size let nobody ask."""
    monkeypatch.setattr(maths, "LIMIT_S", 0.5)
    maths._end(maths._worker())
    maths._worker.cache_clear()
    said: list[bool] = []
    thread = threading.Thread(target=lambda: said.append(maths._compared("9^{9^{9^{9}}}", "3")))
    began = time.perf_counter()
    thread.start()
    thread.join(timeout=30)
    assert said == [False]
    assert time.perf_counter() - began < 20
    monkeypatch.undo()
    assert maths._compared("x+x+x", "3x")  # by a new worker


def test_threads_may_compare_at_once() -> None:
    said: dict[int, bool] = {}

    def compare(number: int) -> None:
        said[number] = maths.same(f"{number}x + x", f"{number + number % 2}x")

    threads = [threading.Thread(target=compare, args=(number,)) for number in range(2, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {number: number % 2 == 1 for number in range(2, 10)}


# What is installed, and when it is loaded.


def test_without_the_library_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maths, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'telltale-llm\[math\]'"):
        Asking(extract="math")


def test_a_worker_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    maths._end(maths._worker())
    maths._worker.cache_clear()
    monkeypatch.setattr(maths, "LIMIT_S", "no number")
    with pytest.raises(MeasurementError, match="import math_verify"):
        maths._compared("x+x", "2x+0")


def test_nothing_of_it_is_loaded_until_it_is_asked_for() -> None:
    program = (
        "import sys, telltale.tasks\n"
        "from telltale.tasks.extractions import extraction\n"
        "extraction('number')\n"
        "assert extraction('math').find('5') == '5'\n"
        "assert not {'math_verify', 'sympy', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_task_of_maths_asks_for_long_texts() -> None:
    rows = [
        Row("a", {"question": "1/3 + 1/6?"}, (r"\frac{1}{2}",), 0, "here"),
        Row("b", {"question": "sides?"}, ("3, 5, 7",), 0, "there"),
    ]
    generation = make_task("maths", rows, Asking(extract="math")).generation
    assert generation is not None
    assert (generation.extract, generation.max_new_tokens) == ("math", 512)
