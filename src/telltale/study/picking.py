"""A finished study's models, picked by name, and the model that was searched, found again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from telltale.errors import InputError
from telltale.evidence.parts import NAMED
from telltale.models.source import resolve_model
from telltale.study.reading import result_of
from telltale.study.records import is_at_work, open_records

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from telltale.evidence.result import PathModel, Result
    from telltale.models.source import ModelSource


def finished(study: Path) -> tuple[Result, dict[str, Any]]:
    """A study's result, and what it asked.

    Raises:
        InputError: the folder is no study, or it is not finished.
    """
    with open_records(study, write=False) as records:
        result, asked = result_of(records), records.fact("asked")
    if result is None:
        remedy = "wait for the run" if is_at_work(study) else "give its command again first"
        raise InputError(f"the search in {study} is not finished; {remedy}")
    return result, asked


def searched_source(asked: Mapping[str, Any]) -> ModelSource:
    """The model that a study has searched.

    Raises:
        InputError: it is not to be had, or has changed.
    """
    model = asked["model"]
    source = resolve_model(
        model["given"],
        revision=model["revision"],
        trust_remote_code=model["trust_remote_code"],
        adapter=model.get("adapter_given"),
    )
    if source.sha256 != model["sha256"]:
        raise InputError(
            f"{source.name} has changed since the search: its bytes are other ones; get back the "
            "model that was searched, or search again"
        )
    return source


def picked_from(result: Result, pick: str) -> PathModel:
    """The model of that name, or the one that lacks so many layers.

    Raises:
        InputError: the study has none such, or it is the whole model.
    """
    by_count = {str(len(model.removed)): model for model in result.models if model.removed}
    if not by_count:
        raise InputError(
            "the search removed nothing: no shallower model stayed within the tolerance; search "
            "again with a larger `tolerance`"
        )
    most = len(result.models[-1].removed)
    counts = f"1-{most}" if len(by_count) == most > 1 else ", ".join(by_count)
    if pick in NAMED:
        named = result.by_name(pick)
        if named is None:
            if pick == "target":
                raise InputError(_without_target(result, counts))
            raise InputError(
                f"{pick} is no model of this study: its held-out examples show none; see "
                f"telltale show, or pick best, bsba or a number of removed layers, {counts}"
            )
        if not named.removed:
            raise InputError(
                f"{pick} is the whole model, with nothing removed; pick the number of "
                f"layers to remove instead, {counts}, with `pick`"
            )
        return named
    # As a number, so that 02 is 2.
    found = by_count.get(str(int(pick))) if pick.isdecimal() else None
    if found is None:
        names = [name for name in NAMED if name != "target" or result.target is not None]
        raise InputError(
            f"`pick` {pick} names no model of this study; give {', '.join(names)} or a number of "
            f"removed layers, {counts}"
        )
    return found


def _without_target(result: Result, counts: str) -> str:
    """Why a study has no model called target, and what to do."""
    if result.target is None:
        return (
            "this study was asked for no target; search again with one, such as `target_speedup` "
            f"1.3, or pick best, bsba or a number of removed layers, {counts}"
        )
    return f"{result.target_said} Or pick best, bsba or a number of removed layers, {counts}"
