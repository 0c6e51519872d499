"""The worker process that compares maths answers by math-verify. Imports no telltale.

Reads a line ``[right, answer]`` of JSON, each LaTeX, and writes ``same`` or ``other``. It is a
process because sympy gives no bound on time: one that takes longer than its limit ends itself, by a
thread that needs neither signals nor Python's lock. Its first line, ``ready``, says that its
libraries are there.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import signal
import sys
from functools import lru_cache
from typing import Any

from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex
from math_verify import verify
from sympy import Eq, Expr, FiniteSet, Interval, MatrixBase, Rational, Tuple, simplify

# No units: the library takes the m of "2m" for metres, so that it would equal 2.
NORMAL = NormalizationConfig(malformed_operators=True, nits=True, boxed="none")
DECIMALS = 10  # to which a decimal must agree with what is exact
DIGITS = 50


@lru_cache(maxsize=2**12)  # the right answers come again with every path
def parsed(latex: str) -> Any:
    """The expression, set, tuple, matrix or relation that LaTeX says."""
    # All letters stand for real numbers: math-verify itself decides it by the letter i, apart for
    # each side, so that "5i" and "5 i" differ.
    return latex2sympy(
        normalize_latex(latex, NORMAL),
        is_real=True,
        convert_degrees=False,
        normalization_config=None,
    )


def at(expression: Expr, point: int) -> Any:
    """An expression's value at a point, whose coordinates are the same in every process."""
    letters = sorted(expression.free_symbols, key=str)
    values = {letter: Rational(1009 + 31 * n, 701 + point) for n, letter in enumerate(letters)}
    return expression.subs(values).evalf(DIGITS)


def differ(left: Expr, right: Expr) -> bool:
    """Whether two expressions differ at a point, which decides most cases without algebra."""
    gap = abs(at(left - right, 0))
    return bool(gap.is_Float and gap > 10 ** (1 - DECIMALS))


def are_multiples(left: Expr, right: Expr) -> bool:
    """Whether two expressions, neither of them 0, differ by a factor."""
    ratio = left / right
    if differ(at(ratio, 0), at(ratio, 1)):
        return False
    factor = simplify(ratio)
    return bool(factor.is_number and factor.is_finite and not factor.is_zero)


def parts_are_same(right: Any, answer: Any) -> bool | None:
    """Whether two tuples, sets or the like have equal parts; None unless both are of one kind."""
    match right, answer:
        case (Tuple(), Tuple()):
            return len(right) == len(answer) and all(map(same, right, answer))
        case (FiniteSet(), FiniteSet()):
            return len(right) == len(answer) and all(
                any(same(part, other) for other in answer.args) for part in right.args
            )
        case (Interval(), Interval()):
            ends = [(i.left_open, i.right_open) for i in (right, answer)]
            return ends[0] == ends[1] and all(map(same, right.args[:2], answer.args[:2]))
        case (MatrixBase(), MatrixBase()):
            return right.shape == answer.shape and all(map(same, right.flat(), answer.flat()))
    return None


def same(right: Any, answer: Any) -> bool:
    """Whether two parsed answers are mathematically equal.

    math-verify has the last word on what is equal at a point. It is not asked about equations:
    it calls "x + y = 0" equal to 0, and any two without real solutions equal. Nor is it about sets:
    it compares their elements in an order that need not be that of both.
    """
    if isinstance(right, Eq) and isinstance(answer, Eq):
        return are_multiples(right.lhs - right.rhs, answer.lhs - answer.rhs)
    if isinstance(right, Eq) or isinstance(answer, Eq):
        return False
    parts = parts_are_same(right, answer)
    if parts is not None:
        return parts
    if isinstance(right, Expr) and isinstance(answer, Expr) and differ(right, answer):
        return False
    return bool(
        verify(
            right,
            answer,
            float_rounding=DECIMALS,
            numeric_precision=DIGITS,
            allow_set_relation_comp=True,
            timeout_seconds=None,
        )
    )


def main(limit_s: float) -> None:
    """Answer requests until the input ends."""
    print("ready", flush=True)
    for line in sys.stdin:
        faulthandler.dump_traceback_later(limit_s, exit=True)
        try:
            right, answer = (parsed(text) for text in json.loads(line))
            verdict = same(right, answer)
        except Exception:  # whatever the libraries make of what a model wrote
            verdict = False
        faulthandler.cancel_dump_traceback_later()
        print("same" if verdict else "other", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever reads ends it, and may have to finish
    logging.disable(logging.CRITICAL)
    main(float(sys.argv[1]))
