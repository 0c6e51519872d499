"""A task of short questions for trainings of tiny models, and trainings of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file

from telltale.models.source import resolve_model
from telltale.tasks import Example, Scoring, Task
from telltale.tuning.settings import TuningSettings
from telltale.tuning.training import tune_model
from tests import planted

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from telltale.tuning.course import Tuned

EXAMPLES = tuple(
    Example(
        id=str(number),
        context=planted.PROMPT.format(question=row["question"]),
        choices=tuple(row["choices"]),
        answer=row["answer"],
    )
    for number, row in enumerate(planted.rows(96, seed=5))
)
TASK = Task("words", EXAMPLES, planted.PROMPT, Scoring.LOGLIK)
TRAIN, DEVELOPMENT = EXAMPLES[:64], EXAMPLES[64:]
# Choices of several tokens, of unlike lengths, one of which begins another.
LONGER = tuple(
    Example(f"longer {number}", one.context, ("False", "False or so", "True as can be"), number % 3)
    for number, one in enumerate(EXAMPLES[:12])
)
FAST: dict[str, Any] = {"learning_rate": 1e-2, "batch_size": 8, "epochs": 2, "rank": 4}


def tuned(
    model: Path, folder: Path, *, task: Task = TASK, adapter: Path | None = None, **given: Any
) -> Tuned:
    """A training of a folder's model on the words, by default a fast one."""
    own = {name: given.pop(name) for name in ("teacher", "watcher", "dtype") if name in given}
    sets = [given.pop(name, one) for name, one in (("train", TRAIN), ("development", DEVELOPMENT))]
    settings = TuningSettings(**{**FAST, **given})
    source = resolve_model(str(model), adapter=adapter)
    return tune_model(source, task, *sets, settings, folder, device="cpu", **own)


def weights(found: Tuned) -> dict[str, Tensor]:
    """An adapter's tensors."""
    read: dict[str, Tensor] = load_file(found.adapter / "adapter_model.safetensors")
    return read
