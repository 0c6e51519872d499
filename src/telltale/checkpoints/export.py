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
from telltale.evidence.parts import NAMED
from telltale.models.load import choose_device
from telltale.models.source import resolve_model
from telltale.study.reading import result_of
from telltale.study.records import is_at_work, open_records
from telltale.support.files import write_json

if TYPE_CHECKING:
    from telltale.evidence.parts import PathModel
    from telltale.evidence.result import Result
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
        result, asked = result_of(records), records.fact("asked")
    if result is None:
        remedy = "wait for the run" if is_at_work(study) else "give its command again first"
        raise InputError(f"the search in {study} is not finished; {remedy}")
    picked = picked_from(result, pick)
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
    path = picked.path
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}-") as parent:
        fresh = Path(parent) / "checkpoint"
        write_checkpoint(source, path, fresh, dtype)
        precision = dtype or _precision(source)
        verification = verify_checkpoint(fresh, source, path, precision, choose_device(device))
        recipe = _recipe(result, picked, verification)
        write_json(fresh / RECIPE_FILE, recipe)
        if to.is_dir():
            to.rmdir()  # empty, as was checked
        fresh.rename(to)
    return Exported(to, picked.removed, path.depth, verification)


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
        raise InputError(
            f"`pick` {pick} names no model of this study; give {', '.join(NAMED)} or a number of "
            f"removed layers, {counts}"
        )
    return found


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


def _recipe(result: Result, model: PathModel, verification: Verification) -> dict[str, Any]:
    """The small file that people share: what to remove from which model, and why one may."""
    document = result.document
    of_model = next(one for one in document["path"] if one["removed"] == list(model.removed))
    whole, final = document["baseline"], result.final
    arms = [document.get("calibration", {}).get(name) for name in model.names]
    return {
        "version": RECIPE_VERSION,
        "telltale": version("telltale-llm"),
        "model": document["model"],
        "task": document["task"],
        "layers_removed": list(model.removed),
        "layers_kept": list(model.path.kept),
        "named": list(model.names),
        "evidence": {
            "study": result.fingerprint,
            "search_accuracy": model.accuracy,
            "baseline_search_accuracy": result.baseline.accuracy,
            "held_out": of_model["held_out"],
            "loses_at_most": of_model["loses_at_most"],
            "confidence": result.settings["confidence"],
            "final": document["final"] if final and final.removed == model.removed else None,
            "baseline_held_out": whole["held_out"],
            "held_out_looked_at_by_other_searches": result.held_out_looks,
            **({"calibration": arms[0]} if arms and arms[0] else {}),
            "text": document["text"],
            "text_perplexity": model.perplexity,
            "baseline_text_perplexity": result.baseline.perplexity,
            "cautions": document["cautions"],
            "verdict": result.verdict,
        },
        "verified": dataclasses.asdict(verification),
    }
