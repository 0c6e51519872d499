"""Tasks: labelled examples, how a model is asked and how its answers are scored. Knows no model."""

from telltale.tasks.asking import Asking, make_task
from telltale.tasks.task import (
    Example,
    Generation,
    Protocol,
    Request,
    Scorer,
    Scoring,
    Shot,
    Task,
)

__all__ = [
    "Asking",
    "Example",
    "Generation",
    "Protocol",
    "Request",
    "Scorer",
    "Scoring",
    "Shot",
    "Task",
    "make_task",
]
