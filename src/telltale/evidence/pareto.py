"""Which of the models kept are on the Pareto front of accuracy and size, and how each is had.

Accuracy is held out, so that the best of many points promises a little too much: each has its
interval, and none is claimed to be better than another. Size is the number of parameters, which is
exact; speed goes with it where layers are alike. Knows no file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from telltale.evidence.parts import PathModel


def front(models: Iterable[PathModel]) -> tuple[PathModel, ...]:
    """The models that no other dominates, in their order.

    One dominates another that is at least as accurate on the held-out set and has no more
    parameters, one of the two truly; of models that are equal in both, the first stays.

    Args:
        models: some of which held-out accuracy and parameters are known.
    """
    kept: list[tuple[float, int, PathModel]] = []
    for model in models:
        if model.held_out is None or model.parameters is None:
            continue
        point = (model.held_out.accuracy, model.parameters, model)
        if not any(one[0] >= point[0] and one[1] <= point[1] for one in kept):
            kept = [one for one in kept if not (point[0] >= one[0] and point[1] <= one[1])]
            kept.append(point)
    return tuple(model for _, _, model in kept)


def export_command(model: PathModel) -> str | None:
    """The command that writes a model of a study; None of the whole one."""
    count = len(model.removed)
    return f"telltale export STUDY --pick {count} --to FOLDER" if count else None


def front_document(models: Iterable[PathModel]) -> list[dict[str, Any]]:
    """The front as JSON values: each point with its cost and its recipe."""
    return [
        {
            "removed": list(model.removed),
            "parameters": model.parameters,
            "accuracy": model.held_out.accuracy,
            "interval": list(model.held_out.interval),
            "command": export_command(model),
        }
        for model in front(models)
        if model.held_out is not None
    ]
