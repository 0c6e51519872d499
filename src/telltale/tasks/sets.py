"""The roles of sets of examples: what each is for. They name sets in a study's file."""

from __future__ import annotations

from enum import StrEnum

GUARD = "guard "  # how the name of a guard's set begins


class Part(StrEnum):
    """What the examples of a set do.

    ``search`` chooses layers, ``held-out`` judges the models found, ``final`` is looked at once.
    ``train`` is for fine-tuning, and ``development`` says when that is to stop.
    """

    SEARCH = "search"
    HELD_OUT = "held-out"
    FINAL = "final"
    TRAIN = "train"
    DEVELOPMENT = "development"


class Role(str):
    """The role of a set: what it is for, and the guard whose it is; "" for the task searched.

    It is the text that names it in a study's file: ``search``, ``guard TASK held-out``.
    """

    part: Part
    guard: str

    def __new__(cls, part: Part, guard: str = "") -> Role:
        """Make the text of its parts."""
        role = super().__new__(cls, f"{GUARD}{guard} {part}" if guard else part)
        role.part, role.guard = part, guard
        return role

    def __getnewargs__(self) -> tuple[Part, str]:  # type: ignore[override]
        """What it is made of again where it was pickled."""
        return self.part, self.guard


SEARCH = Role(Part.SEARCH)
HELD_OUT = Role(Part.HELD_OUT)
FINAL = Role(Part.FINAL)
TRAIN = Role(Part.TRAIN)
DEVELOPMENT = Role(Part.DEVELOPMENT)


def role_from(name: str) -> Role:
    """The role that a study's file names.

    Raises:
        ValueError: it is no role's name.
    """
    guard, _, part = name.removeprefix(GUARD).rpartition(" ")
    return Role(Part(part), guard) if name.startswith(GUARD) else Role(Part(name))
