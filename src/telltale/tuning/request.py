"""What `telltale.tune` is asked, made into what is tuned; refused is refused before any work."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from telltale.errors import InputError
from telltale.evidence.tuned import REGIMES
from telltale.models.load import choose_device, choose_dtype
from telltale.models.source import resolve_model
from telltale.objectives import check_objective, default_objective, objective_named
from telltale.study.picking import finished, picked_from, searched_source
from telltale.study.question import digest_of
from telltale.study.records import has_begun, open_records
from telltale.study.request import cuts_by
from telltale.study.settings import Settings
from telltale.support.words import one_of
from telltale.tasks.loading import load_task
from telltale.tasks.task import Task
from telltale.tuning.regimes import SEARCH_PICKS, Tuning
from telltale.tuning.results import ADAPTER, MERGED
from telltale.tuning.sets import read_train, train_split, tuning_sets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.models.source import ModelSource
    from telltale.tuning.sets import TuningSets
    from telltale.tuning.settings import TuningSettings

DEFAULT_REGIME = "ft"


def checked_regime(regime: str | None, output: str, seeds: int, *, compare: bool) -> str:
    """The regime that is run, by its name; with ``compare`` all are.

    Raises:
        InputError: there is no such regime or output, or something does not go together.
    """
    if regime is not None and regime not in REGIMES:
        raise InputError(f"`regime` must be {one_of(REGIMES)}, got {regime!r}")
    if output not in (MERGED, ADAPTER):
        raise InputError(f"`output` must be {MERGED} or {ADAPTER}, got {output!r}")
    if seeds < 1:
        raise InputError(f"`seeds` must be at least 1, got {seeds}")
    if compare and regime is not None:
        raise InputError("`compare` runs every regime; leave out `regime`")
    if compare and output != MERGED:
        raise InputError(
            "`compare` writes no checkpoint; leave out `output`, and give it with a `regime` in "
            "the same `out` afterwards"
        )
    if not compare and seeds != 1:
        raise InputError("`seeds` goes with `compare`; for one run give its `seed`")
    return DEFAULT_REGIME if regime is None else regime


def tuning_of(
    model: str,
    task: Task | str,
    *,
    train: Task | str | Path | None,
    settings: TuningSettings,
    limit: int | None,
    held_out: int | None,
    objective: str | None,
    tolerance: float,
    max_removed: int | None,
    remove: Sequence[int],
    pick: str,
    adapter: str | Path | None,
    seed: int,
    truncate: str,
    device: str,
    dtype: str,
    revision: str | None,
    trust_remote_code: bool,
) -> Tuning:
    """What is tuned. See `telltale.tune`.

    Raises:
        TelltaleError: something of it cannot be used.
    """
    cuts = cuts_by(truncate)
    if pick not in SEARCH_PICKS and not (pick.isdecimal() and int(pick) > 0):
        raise InputError(
            f"`pick` must be {', '.join(SEARCH_PICKS)} or a number of layers removed, got "
            f"{pick!r}; others are chosen by held-out examples, which could then not judge them"
        )
    given = _training(task, train)
    chosen = load_task(task) if isinstance(task, str) else task
    sets = tuning_sets(chosen, given, limit=limit, held_out=held_out, seed=seed)
    ranks = default_objective(chosen) if objective is None else objective_named(objective)
    check_objective(ranks, chosen)
    search = Settings(ranks, tolerance, max_removed)
    where = choose_device(device)
    precision = str(choose_dtype(dtype, where)).removeprefix("torch.")
    removed = tuple(remove)
    if has_begun(Path(model)):
        if removed or adapter is not None or revision is not None:
            raise InputError(
                f"{model} is a search's folder, which has a model and its layers; leave out "
                "`remove`, `adapter` and `revision`"
            )
        source, removed = _searched(Path(model), pick, sets)
    else:
        source = resolve_model(
            model, revision=revision, trust_remote_code=trust_remote_code, adapter=adapter
        )
    return Tuning(
        source=source,
        task=chosen,
        sets=sets,
        settings=settings,
        search=search,
        pick=pick,
        removed=removed,
        seed=seed,
        device=device if device != "auto" else where.type,
        dtype=precision,
        cuts=cuts,
    )


def _training(task: Task | str, train: Task | str | Path | None) -> Task | None:
    """The examples to train on, where they are not a part of the task's own."""
    if isinstance(train, Task):
        return train
    if train is not None:
        return read_train(load_task(task) if isinstance(task, str) else task, Path(train))
    if isinstance(task, str):
        return train_split(task, None, partial(load_task, task))
    return None


def _searched(study: Path, pick: str, sets: TuningSets) -> tuple[ModelSource, tuple[int, ...]]:
    """A finished search's model, and the layers to leave out.

    Raises:
        InputError: it is not finished, has no such model, or has searched by other examples.
    """
    result, asked = finished(study)
    with open_records(study, write=False) as records:
        searched: dict[str, Any] = records.fact("identity")
    if searched["search_sha256"] != digest_of(sets.search):
        size, seed = asked["task"]["search_examples"], asked["task"]["seed"]
        raise InputError(
            f"{study} was searched by other examples, some of which may be trained on or held out "
            f"here; give the same task with `limit` {size} and `seed` {seed}"
        )
    named = {"best": result.best, "bsba": result.bsba}
    found = named[pick] if pick in named else picked_from(result, pick)
    return searched_source(asked), found.removed
