"""Boolean expressions such as ``not ( True ) and False is``, with their values.

Generated, in the grammar of BIG-Bench-Hard's task of the same name: an expression is a chain of
``and`` and ``or`` over terms; a term is a constant, a bracketed expression or a negated term. The
value is worked out while the text is made; no text is ever evaluated.
"""

from __future__ import annotations

import random

from telltale.tasks.rows import Row

SIZE = 1000
WORDS = 8  # constants, operators and brackets, as in BIG-Bench-Hard
CHOICES = ("False", "True")


def rows() -> list[Row]:
    """The same thousand distinct expressions on every machine."""
    source = random.Random("telltale boolean expressions 1")
    values: dict[str, bool] = {}
    while len(values) < SIZE:
        text, value = _expression(source, WORDS)
        if len(text.split()) == WORDS:
            values.setdefault(text, value)
    return [
        Row(
            id=f"boolean_expressions-{number}",
            fields={"question": f"{text} is"},
            choices=CHOICES,
            answer=int(value),
            where=f"boolean_expressions, row {number}",
        )
        for number, (text, value) in enumerate(values.items())
    ]


def _expression(source: random.Random, length: int) -> tuple[str, bool]:
    """A chain of about ``length`` words, and its value."""
    # `and` binds tighter than `or`, so the value is any(all(...)) over the chain cut at each `or`.
    text, value = _term(source, length)
    words, conjunctions = [text], [value]
    disjunctions: list[bool] = []
    length -= len(text.split())
    while length > 0:
        text, value = _term(source, length)
        length -= len(text.split()) + 1
        if source.random() < 0.5:
            words += ["and", text]
            conjunctions.append(value)
        else:
            words += ["or", text]
            disjunctions.append(all(conjunctions))
            conjunctions = [value]
    return " ".join(words), any([*disjunctions, all(conjunctions)])


def _term(source: random.Random, length: int) -> tuple[str, bool]:
    kind = source.random()
    if length > 1 and kind < 0.35:
        text, value = _term(source, length - 1)
        return f"not {text}", not value
    if length > 2 and kind < 0.6:
        text, value = _expression(source, min(length - 2, 3))
        return f"( {text} )", value
    value = source.random() < 0.5
    return str(value), value
