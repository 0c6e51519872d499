r"""Maths answers, compared by what they mean: ``--extract math``.

The answer in a text is what its last ``\boxed{...}`` holds. Where there is none, it is what follows
the last "answer is", or else the last formula between dollar signs or the last number. It is text,
as the model wrote it.

Two answers are the same where they are equal as text but for how they are set (spaces, ``\dfrac``,
``\left``, dollar and degree signs, units after a number, a full stop), as decimal numbers, or, by
math-verify, as expressions, sets, intervals, matrices or equations. By what MATH's questions ask:

- roots with commas between them ("Enter all such integers, separated by commas") have no order, and
  are the same with braces round them; points, intervals and vectors have, and their brackets count;
- ``x=5`` and ``x \in [-2,7]`` are 5 and ``[-2,7]``; ``y=5`` is not ``x=5``;
- a number in another base is that text only: 52_8 is not 52, and not 42, which is not in base 8;
- a percent sign is a unit: 50% is 50. Degrees are too;
- words have no case, and ``\text{(C)}`` is C;
- a decimal is a fraction when it is exact: 0.33 is not 1/3.

What a model writes may be anything. What is longer or of greater powers than answers are, or has
commands that final answers do not need, is compared as text alone, so that no clock decides. The
rest goes to a process of its own (`telltale.tasks.maths_worker`), which ends itself after
`LIMIT_S`; then the answers are not the same.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import subprocess
import sys
from functools import cache, lru_cache
from importlib.util import find_spec
from math import inf, prod
from pathlib import Path
from threading import Lock

from telltale.errors import InputError, MeasurementError
from telltale.tasks.answers import Extraction, exact, is_number, last_number

LONGEST_TEXT = 20_000  # characters at a text's end in which an answer is looked for
LONGEST_SETTING = 1_000  # characters of an answer as it is written
LONGEST_ANSWER = 150  # ... and without its setting; MATH's longest have 60
LONGEST_NUMBER = 20  # digits, within an expression
GREATEST_POWER = 1000
DEEPEST = 8  # brackets within brackets
LIMIT_S = 10.0  # for one comparison, which takes milliseconds on a machine with nothing else to do

_BOX_OR_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_CUE = re.compile(r"(?i:\banswer\b[^\n.$\\]{0,60}?(?:\bis\b|[:=]))[\s:*=]*|####\s*")
# Pandoc's rule tells a formula's dollar signs from those of money.
_FORMULA = re.compile(
    r"\$\$(?P<display>[^$]+)\$\$|(?<![\\$\d])\$(?![\s$])(?P<inline>(?:\\.|[^$\\\n])+?)(?<!\s)\$(?!\d)"
    r"|\\\((?P<round>(?:(?!\\[()]).)+)\\\)|\\\[(?P<square>(?:(?!\\[][]).)+)\\\]",
    re.DOTALL,
)
_CLAUSE = re.compile(r"(?:[^.\n]|\.(?=\S))*")
_PROSE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_FRACTION = re.compile(r"(?<![\d/.,])(?:(?<!\w)-)?\d+/[1-9]\d*(?![\d/]|\.\d)")

_TEXT = r"\\(?:text|mbox|textrm|mathrm)\s*\{(?![ije]\})[^{}]*\}"
_WORDS = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|mathrm)\s*\{([^{}\d]*)\}")
_UNIT_WORDS = (
    "(?:sq|square|cubic|degrees?|dollars?|cents?|inch|inches|in|feet|foot|ft|yards?|miles?|mph|mm|"
    "cm|km|meters?|metres?|units?|hours?|minutes?|seconds?|days?|weeks?|years?|percent)"
)
_UNITS = re.compile(
    rf"(?:\s*{_TEXT}|(?<=[\d}}]) ?{_UNIT_WORDS}(?: {_UNIT_WORDS})*\b\.?) ?(?:\^ ?\{{?\d\}}?)?$"
)
_UNIT_POWERS = re.compile(rf"\b{_UNIT_WORDS}\^\{{?\d\}}?")
_NAME = re.compile(r"^[a-zA-Z](?:\([a-zA-Z]\))?=")
_BASED = re.compile(r"([0-9A-F]*[0-9][0-9A-F]*)_\{?(\d+)\}?")
# How an answer is set, which is nothing to its meaning. Each is in MATH500, or in what models make
# of it.
_SETTING = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\(?:left|right|[bB]igg?[lr]?)(?![a-zA-Z])", ""),
        (r"\\displaystyle(?![a-zA-Z])", ""),
        (r"(?<=\d),\s*\\[!,]\s*(?=\d{3})|(?<=\d)\{,\}(?=\d{3})", ","),  # 10,\!080
        (r"(?<!\\)\\[,!;:>]|\\q?quad(?![a-zA-Z])", " "),
        (r"(?<!\\)\\(?=\s)|~", " "),
        (r"\s*(?:\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-zA-Z]))|\\degree(?![a-zA-Z])|°)", ""),
        (r"\\\$|^\s*[$€£]", ""),
        (r"\s*\\?%\s*$", ""),
        (r"\u2212", "-"),
        (r"\u03c0", r"\\pi "),
        (r"\u221e", r"\\infty "),
        (r"^\s*[a-zA-Z]\s*\\in(?![a-zA-Z])", ""),
        (r"^\s*\\(?:text|mbox|mathrm)\s*\{([^{}]*\d[^{}]*)\}\s*$", r"\1"),
        (r"^\s*(-?\d+)\s+(\d+)/(\d+)\s*$", r"\1\\frac{\2}{\3}"),
    ]
]
_SPACES = re.compile(r"(?<![a-zA-Z])\s+(?!\d)|(?<!\d)\s+(?![a-zA-Z\d])|(?<![a-zA-Z\d])\s+")

_COMMANDS = re.compile(
    r"(?:frac|sqrt|pi|infty|cup|cap|setminus|pm|mp|cdot|times|div|text|mbox|mathrm|mathbf|mathbb|"
    "begin|end|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|log|ln|binom|le|leq|ge|geq|lt|gt|ne|neq|"
    "in|emptyset|varnothing|lfloor|rfloor|lceil|rceil|lvert|rvert|vert|alpha|beta|gamma|delta|"
    "epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau|phi|varphi|chi|psi|omega)"
)
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_EXPONENT = re.compile(r"\s*(?:\{(?:[^{}^]|\{[^{}^]*\})*\}|\d+|\\[a-zA-Z]+|[^\s{}^\\])")

_lock = Lock()


def math() -> Extraction:
    """The extraction that reads and compares maths answers.

    Raises:
        InputError: what compares them is not installed.
    """
    if find_spec("math_verify") is None:
        raise InputError(
            "`extract` math compares answers with math-verify, which is not here; install it with: "
            "pip install 'telltale-llm[math]'"
        )
    return Extraction("math", find, 512, ("\nQuestion:",), same=same)


def find(text: str) -> str | None:
    """The answer as written in a text, or None."""
    text = text[-LONGEST_TEXT:]
    box = _boxed(text)
    if box is not None:
        return box.strip() or None
    cues = list(_CUE.finditer(text))
    return _stated(text[cues[-1].end() :]) if cues else _last(text)


def same(answer: str, right: str) -> bool:
    """Whether an answer is mathematically equal to the right one. No content makes it raise."""
    if max(len(answer), len(right)) > LONGEST_SETTING:
        return exact(answer) == exact(right)
    tidy, expected = _unnamed(_tidy(answer), _tidy(right))
    if tidy == expected:
        return bool(tidy)
    if is_number(tidy) and is_number(expected):
        return last_number(tidy) == last_number(expected)
    for form in (_word, _based):
        if form(tidy) or form(expected):
            return (form(tidy) or tidy.casefold()) == (form(expected) or expected.casefold())
    if not (_is_modest(tidy) and _is_modest(expected) and _shapes_agree(tidy, expected)):
        return False
    return _compared(expected, tidy)


def _boxed(text: str) -> str | None:
    """What the last whole box holds: of boxes in boxes, the inner."""
    opened: list[re.Match[str]] = []
    last: tuple[int, str] | None = None
    for mark in _BOX_OR_BRACE.finditer(text):
        if mark[0].endswith("{") and mark[0] != r"\{":
            opened.append(mark)
        elif mark[0] == "}" and opened:
            start = opened.pop()
            if start[0] != "{" and (last is None or start.start() > last[0]):
                last = start.start(), text[start.end() : mark.start()]
    return last[1] if last else None


def _stated(text: str) -> str | None:
    """The answer at the beginning of what follows "answer is"."""
    line = text.split("\n", 1)[0]
    formula = _FORMULA.search(line) or _FORMULA.match(text)
    if formula:
        return _inside(formula)
    found = _CLAUSE.match(line)
    clause = found[0].strip().rstrip(".*").strip() if found else ""
    if _PROSE.search(re.sub(_TEXT, "", clause)):  # "18 dollars a day"
        return _last_value(clause) or clause
    return clause or None


def _last(text: str) -> str | None:
    """The last formula, or the last number where that comes later."""
    formulas = list(_FORMULA.finditer(text))
    if formulas:
        return _last_value(text[formulas[-1].end() :]) or _inside(formulas[-1])
    return _last_value(text)


def _last_value(text: str) -> str | None:
    """The last number, or a fraction of two."""
    text = _UNIT_POWERS.sub("", text)
    fractions = list(_FRACTION.finditer(text))
    if fractions and last_number(text[fractions[-1].end() :]) is None:
        return fractions[-1][0]
    return last_number(text)


def _inside(formula: re.Match[str]) -> str | None:
    return (formula[formula.lastgroup or 0]).strip() or None


def _tidy(text: str) -> str:
    """An answer without its setting."""
    text = re.sub(r"[\x00-\x20\x7f]+", " ", _boxed(text) or text).strip().rstrip(".,;: ")
    formula = _FORMULA.fullmatch(text)
    text = (_inside(formula) or "") if formula else text
    for pattern, replacement in _SETTING:
        text = pattern.sub(replacement, text)
    bare = _UNITS.sub("", text).strip()
    text = (bare or text).strip().rstrip(".,;: ")
    parts = text.split("=")
    if len(parts) > 2 and "," not in text:  # A = 3 + 4 = 7
        text = parts[-1].strip()
    return text if is_number(text) else _SPACES.sub("", text).replace(",", ", ")


def _unnamed(left: str, right: str) -> tuple[str, str]:
    """Both without ``x =`` or ``f(x) =``, where both have the same, or the other is no equation."""
    names = [_NAME.match(text) for text in (left, right)]
    if names[0] and names[1] and names[0][0] == names[1][0]:
        return left[names[0].end() :], right[names[1].end() :]
    if "=" not in left:
        right = _NAME.sub("", right)
    elif "=" not in right:
        left = _NAME.sub("", left)
    return left, right


def _word(text: str) -> str | None:
    r"""Words as they are compared: what ``\text`` holds, (C), and words too long for products."""
    words = _WORDS.fullmatch(text)
    bare = (words[1] if words else text).strip()
    is_word = words or re.fullmatch(r"\([A-Za-z]\)|(?=.*[A-Za-z]{4})[A-Za-z][A-Za-z' -]+", bare)
    return bare.strip("() ").casefold() if is_word else None


def _based(text: str) -> str | None:
    """A number with its base, in one form."""
    based = _BASED.fullmatch(text)
    return f"{based[1]}_{based[2]}".casefold() if based else None


def _is_modest(text: str) -> bool:
    """Whether an answer is small enough that comparing it must take little time and memory."""
    return (
        0 < len(text) <= LONGEST_ANSWER
        and text.isascii()
        and all(_COMMANDS.fullmatch(command) for command in _COMMAND.findall(text))
        and not re.search(rf"\d{{{LONGEST_NUMBER + 1}}}", text)
        and _factorials_are_small(text)
        and _greatest_power(text) <= GREATEST_POWER
    )


def _factorials_are_small(text: str) -> bool:
    if "!" not in text and r"\binom" not in text:
        return True
    return not re.search(r"\d{4}|\^|(?<![\da-zA-Z])!|\\binom.*\\binom", text)


def _greatest_power(text: str) -> float:
    """The power to which anything is raised in all; infinite for towers and what is malformed."""
    groups = [[1.0, 1.0]]  # of each open bracket: its greatest power, that of what stands before
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character in "([{":
            groups.append([1.0, 1.0])
        elif character in ")]}":
            inner = groups.pop()[0]
            if not groups:
                return inf
            groups[-1] = [max(groups[-1][0], inner), inner]
        elif character == "^":
            exponent = _EXPONENT.match(text, position)
            if exponent is None:
                return inf
            position = exponent.end()
            raised = groups[-1][1] * prod(max(int(n), 2) for n in re.findall(r"\d+", exponent[0]))
            groups[-1] = [max(groups[-1][0], raised), raised]
        elif character != " ":
            groups[-1][1] = 1.0
        if len(groups) > DEEPEST + 1:
            return inf
    return groups[0][0] if len(groups) == 1 else inf


def _shapes_agree(left: str, right: str) -> bool:
    """Whether two lists, sets, points or intervals have the same brackets and as many parts.

    The library lets a point equal a set, and a root named twice a single one.
    """
    (bracket, parts), (other, other_parts) = _shape(left), _shape(right)
    if parts > 1 and other_parts > 1 and bracket != other:
        return False
    if r"\pm" in left + right or bracket + other or not parts * other_parts:
        return True
    return parts == other_parts


def _shape(text: str) -> tuple[str, int]:
    """The brackets round all, none for braces; and how many parts have commas between them.

    No parts, 0, for what is no list: relations, unions and matrices.
    """
    if re.search(r"\\(?:cup|cap|setminus|begin|le|ge|lt|gt|in|emptyset|varnothing)|[<>]", text):
        return "", 0
    inner, bracket = text, ""
    outer = re.fullmatch(r"(\\\{|[(\[])(.*)(\\\}|[)\]])", text)
    if outer and _commas(text, 0) == 0:
        inner, bracket = outer[2], "" if outer[1] == r"\{" else outer[1] + outer[3]
    return bracket, _commas(inner, 0) + 1


def _commas(text: str, depth: int) -> int:
    """How many commas stand outside of all brackets."""
    count = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        count += character == "," and depth == 0
    return count


@lru_cache(maxsize=2**16)
def _compared(right: str, answer: str) -> bool:
    """What the worker says of two answers; no, where it ends before it says anything."""
    said = ""
    with _lock:
        worker = _worker()
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            worker.stdin.write(json.dumps([right, answer]) + "\n")
            worker.stdin.flush()
            said = worker.stdout.readline().strip()
        except OSError:  # it has ended
            pass
        finally:
            if not said:  # ended or interrupted: nothing that it might still say may be read
                _end(worker)
                _worker.cache_clear()
    return said == "same"


@cache
def _worker() -> subprocess.Popen[str]:
    """The process that compares, ready for questions.

    Raises:
        MeasurementError: it did not start.
    """
    program = Path(__file__).with_name("maths_worker.py")
    worker = subprocess.Popen(
        # -P: the program's folder must lend no module of its own.
        [sys.executable, "-P", str(program), str(LIMIT_S)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        # sympy's order of terms may follow hashes.
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    assert worker.stdout is not None
    if worker.stdout.readline().strip() != "ready":
        _end(worker)
        raise MeasurementError(
            "the process that compares maths answers does not start; see what `python -c 'import "
            "math_verify'` says, and install it again with: pip install 'telltale-llm[math]'"
        )
    atexit.register(_end, worker)
    return worker


def _end(worker: subprocess.Popen[str]) -> None:
    worker.kill()
    worker.communicate()
    atexit.unregister(_end)
