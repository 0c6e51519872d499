"""What regimes gave: one run with its checkpoint, or all of them beside each other."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from telltale.errors import InputError
from telltale.evidence.tuned import (
    COMPARED_FILE,
    FILE,
    REGIMES,
    TUNE,
    RegimesCompared,
    Run,
    TuneResult,
    rows_of,
)
from telltale.support.files import write_json
from telltale.support.words import counted
from telltale.tasks.split import clusters_of
from telltale.tuning.regimes import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from telltale.tuning.regimes import Regimes, State, Tuning

LOCK = "tune.lock"
MERGED, ADAPTER = "merged", "adapter"  # what may be written in the end


def check_run_folder(folder: Path) -> None:
    """Refuse a folder that holds something else than a run.

    Raises:
        InputError: it is a file, or holds other files.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give `out` a folder")
    is_ours = (folder / WHOLE).is_dir() or (folder / LOCK).exists()
    if folder.is_dir() and any(folder.iterdir()) and not is_ours:
        raise InputError(f"{folder} is not empty and holds no tuning; give another `out`")


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Keep other writers out of a run's folder, which is made where it is not there.

    Raises:
        InputError: the folder holds something else, or another process writes to it.
    """
    check_run_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        raise InputError(
            f"another process is at work in {folder}; wait for it, or give another `out`"
        ) from None
    try:
        yield
    finally:
        lock.release()


def tune_once(regimes: Regimes, regime: str, seed: int, output: str) -> TuneResult:
    """Run a regime, write the final model and ``tune.json``.

    Args:
        regimes: runs it.
        regime: its name.
        seed: of the training.
        output: `MERGED` or `ADAPTER`.

    Raises:
        InputError: the regime trains nothing, so that there is no adapter; or see `Regimes.run`.
    """
    if output == ADAPTER and TUNE not in REGIMES[regime]:
        raise InputError(
            f"`output` adapter: the regime {regime} trains nothing, so there is none; give merged"
        )
    states = regimes.run(regime, seed)
    baseline, start, final = regimes.baseline(), regimes.start(), states[-1]
    checkpoint, adapter = regimes.checkpoint(final, merged=output == MERGED)
    speeds = regimes.speeds([baseline, final])
    folder = regimes.folder
    result = TuneResult(
        **_described(regimes.tuning, baseline),
        regime=regime,
        seed=seed,
        baseline=baseline.step,
        start=start.step if regimes.tuning.removed else None,
        steps=tuple(one.step for one in states),
        tokens_per_second=(speeds[0], speeds[1]),
        checkpoint=checkpoint.relative_to(folder).as_posix(),
        adapter=None if adapter is None else adapter.relative_to(folder).as_posix(),
        cautions=tuple(_cautions(regimes.tuning, states)),
    )
    write_json(folder / FILE, result.document)
    return result


def compare_regimes(regimes: Regimes, seeds: Sequence[int]) -> RegimesCompared:
    """Run all regimes, those that train with every seed, and write ``comparison.json``."""
    ends: dict[tuple[str, int | None], list[State]] = {}
    for seed in seeds:
        for regime, kinds in REGIMES.items():
            key = (regime, seed if TUNE in kinds else None)
            if key not in ends:
                ends[key] = regimes.run(regime, seed)
    baseline, start = regimes.baseline(), regimes.start()
    speeds = regimes.speeds([baseline, *(states[-1] for states in ends.values())])
    runs = tuple(
        Run(
            regime=regime,
            seed=seed,
            steps=tuple(one.step for one in states),
            tokens_per_second=speed,
        )
        for ((regime, seed), states), speed in zip(ends.items(), speeds[1:], strict=True)
    )
    rows, reached = rows_of(
        runs,
        {key: states[-1].scores for key, states in ends.items()},
        baseline.scores,
        clusters_of(regimes.tuning.sets.held_out),
        regimes.tuning.search.confidence,
    )
    every = {one.name: one for states in ends.values() for one in states}
    compared = RegimesCompared(
        **_described(regimes.tuning, baseline),
        baseline=baseline.step,
        baseline_speed=speeds[0],
        start=start.step if regimes.tuning.removed else None,
        runs=runs,
        rows=rows,
        reached_loss=reached,
        cautions=tuple(_cautions(regimes.tuning, list(every.values()))),
    )
    write_json(regimes.folder / COMPARED_FILE, compared.document)
    return compared


def _described(tuning: Tuning, baseline: State) -> dict[str, Any]:
    """What both documents begin with."""
    source, task, sets = tuning.source, tuning.task, tuning.sets
    return {
        "model": {
            "name": source.name,
            "revision": source.revision,
            "sha256": source.sha256,
            "layers": baseline.step.layers,
            "dtype": tuning.dtype,
        },
        "task": {
            "name": task.name,
            "prompt": task.template,
            **task.settings(),
            "truncate": "left" if tuning.cuts else "no",
        },
        "sets": {
            "search": len(sets.search),
            "held_out": len(sets.held_out),
            "train": len(sets.train),
            "development": len(sets.development),
            "origin": sets.origin,
            "left_out": sets.left_out,
            "seed": tuning.seed,
        },
        "settings": {
            "search": {**tuning.search.document(), "pick": tuning.pick},
            "tuning": {
                name: value for name, value in tuning.settings.document().items() if name != "seed"
            },
        },
    }


def _cautions(tuning: Tuning, states: Sequence[State]) -> list[str]:
    """What a reader should be told, without a full stop."""
    said = []
    for state in states:
        training = state.step.training
        if training is None:
            continue
        if training.ended == "diverged":
            said.append(
                f"training {state.name} diverged after {counted(training.steps, 'step')}; what is "
                f"kept is from step {training.best_step}, when the development loss was least; "
                "give a lower learning rate"
            )
        if not training.best_step:
            said.append(
                f"training {state.name} never lowered the development loss, so that its adapter "
                "changes nothing"
            )
    if tuning.sets.left_out:
        said.append(
            f"{counted(tuning.sets.left_out, 'example')} to train on share a text or a passage "
            "with other sets, and were left out"
        )
    return said
