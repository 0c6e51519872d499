"""Exporting a study's model as a verified checkpoint with its recipe.

Written beside its place, verified, and only then moved there: a checkpoint that is there is right.
"""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from telltale.checkpoints.config import family_of
from telltale.checkpoints.verify import Verification, verify_checkpoint
from telltale.checkpoints.write import DTYPES, read_config, write_checkpoint
from telltale.errors import InputError, TelltaleError
from telltale.evidence.result import NAMED
from telltale.models.load import choose_device
from telltale.models.source import resolve_model
from telltale.paths import LayerPath
from telltale.study.records import is_at_work, open_records
from telltale.support.files import write_json

if TYPE_CHECKING:
    from telltale.models.source import ModelSource

RECIPE_FILE = "recipe.json"
RECIPE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Exported:
    """A checkpoint that was written and verified."""

    folder: Path
    removed: tuple[int, ...]
    layers: int
    verification: Verification


def export_study(
    study: Path, *, pick: str, to: Path, dtype: str | None = None, device: str = "auto"
) -> Exported:
    """See `telltale.export`."""
    with open_records(study, write=False) as records:
        result, asked = records.fact("result"), records.fact("asked")
        looks = records.fact("held_out_looks")
    if result is None:
        remedy = "wait for the run" if is_at_work(study) else "give its command again first"
        raise InputError(f"the search in {study} is not finished; {remedy}")
    removed = _picked(result, pick)
    _check_target(to)
    model = asked["model"]
    source = resolve_model(
        model["given"],
        revision=model["revision"],
        trust_remote_code=model["trust_remote_code"],
    )
    if source.sha256 != model["sha256"]:
        raise InputError(
            f"{source.name} has changed since the search: its bytes are other ones; get back the "
            "model that was searched, or search again"
        )
    family_of(read_config(source))
    path = LayerPath.from_removed(removed, result["model"]["layers"])
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}-") as parent:
        fresh = Path(parent) / "checkpoint"
        write_checkpoint(source, path, fresh, dtype)
        precision = dtype or _precision(source)
        verification = verify_checkpoint(fresh, source, path, precision, choose_device(device))
        recipe = _recipe(result, removed, path, looks, verification)
        write_json(fresh / RECIPE_FILE, recipe)
        if to.is_dir():
            to.rmdir()  # empty, as was checked
        fresh.rename(to)
    return Exported(to, removed, path.depth, verification)


def _picked(result: dict[str, Any], pick: str) -> tuple[int, ...]:
    """The layers that the picked model lacks, in order of removal."""
    path = [done["removed"] for done in result["rounds"] if done["accepted"]]
    if not path:
        raise InputError(
            "the search removed nothing: no shallower model stayed within the tolerance; search "
            "again with a larger `tolerance`"
        )
    counts = f"1-{len(path)}" if len(path) > 1 else "1"
    if pick in NAMED:
        if result[pick] is None:
            raise InputError(
                f"{pick} is no model of this study: its held-out examples show none; see "
                f"telltale show, or pick best, bsba or a number of removed layers, {counts}"
            )
        removed = tuple(result[pick]["removed"])
        if not removed:
            raise InputError(
                f"{pick} is the whole model, with nothing removed; pick the number of "
                f"layers to remove instead, {counts}, with `pick`"
            )
        return removed
    if not pick.isdecimal() or not 1 <= int(pick) <= len(path):
        raise InputError(
            f"`pick` {pick} names no model of this study; give {', '.join(NAMED)} or a number of "
            f"removed layers, {counts}"
        )
    return tuple(path[: int(pick)])


def _check_target(to: Path) -> None:
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InputError(f"{to} is there already and not an empty folder; give another `to`")


def _precision(source: ModelSource) -> str:
    config = read_config(source)
    precision = config.get("dtype") or config.get("torch_dtype") or "float32"
    if precision not in DTYPES:
        raise TelltaleError(
            f"the weights are in {precision!r}, which cannot be verified; add `dtype` float32"
        )
    return str(precision)


def _recipe(
    result: dict[str, Any],
    removed: tuple[int, ...],
    path: LayerPath,
    looks: int | None,
    verification: Verification,
) -> dict[str, Any]:
    """The small file that people share: what to remove from which model, and why one may."""
    named = [name for name in NAMED if result[name] and tuple(result[name]["removed"]) == removed]
    model = result["path"][len(removed)]
    final = result["final"]
    return {
        "version": RECIPE_VERSION,
        "telltale": version("telltale-llm"),
        "model": result["model"],
        "task": result["task"],
        "layers_removed": list(removed),
        "layers_kept": list(path.kept),
        "named": named,
        "evidence": {
            "study": result["fingerprint"],
            "search_accuracy": model["search"]["accuracy"],
            "baseline_search_accuracy": result["baseline"]["search"]["accuracy"],
            "held_out": model["held_out"],
            "loses_at_most": model["loses_at_most"],
            "confidence": result["search"]["confidence"],
            "final": final if final and tuple(final["removed"]) == removed else None,
            "baseline_held_out": result["baseline"]["held_out"],
            "held_out_looked_at_by_other_searches": looks,
            "text": result["text"],
            "text_perplexity": model["text_perplexity"],
            "baseline_text_perplexity": result["baseline"]["text_perplexity"],
            "cautions": result["cautions"],
            "verdict": result["verdict"],
        },
        "verified": dataclasses.asdict(verification),
    }
