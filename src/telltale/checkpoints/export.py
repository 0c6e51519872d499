"""Exporting a study's model as a verified checkpoint with its recipe.

Written beside its place, verified, and only then moved there: a checkpoint that is there is right.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import tempfile
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from telltale.checkpoints.carry import Carried, carry_adapter
from telltale.checkpoints.config import family_of
from telltale.checkpoints.verify import Verification, verify_checkpoint
from telltale.checkpoints.write import precision_of, read_config, write_checkpoint
from telltale.errors import InputError
from telltale.models.adapter import changes_of, read_adapter
from telltale.models.load import choose_device
from telltale.models.source import resolve_model
from telltale.study.picking import finished, picked_from, searched_source
from telltale.support.files import write_json

if TYPE_CHECKING:
    import torch

    from telltale.evidence.parts import PathModel
    from telltale.evidence.result import Result
    from telltale.models.source import ModelSource
    from telltale.paths import LayerPath

RECIPE_FILE = "recipe.json"
RECIPE_VERSION = 1
CARRIED = "adapter"  # the folder in the checkpoint's that has the adapter carried onto it


@dataclass(frozen=True, slots=True)
class WithAdapter:
    """An adapter that was carried onto a checkpoint, and verified with it."""

    adapter: Carried
    verification: Verification


@dataclass(frozen=True, slots=True)
class Exported:
    """A checkpoint that was written and verified; with the adapter that was carried onto it."""

    folder: Path
    removed: tuple[int, ...]
    layers: int
    verification: Verification
    carried: WithAdapter | None = None


def export_study(
    study: Path,
    *,
    pick: str,
    to: Path,
    dtype: str | None = None,
    device: str = "auto",
    carry: Path | None = None,
) -> Exported:
    """See `telltale.export`."""
    result, asked = finished(study)
    picked = picked_from(result, pick)
    _check_target(to)
    source = searched_source(asked)
    family_of(read_config(source))
    if carry is not None:
        _check_carries(source, carry)
    path = picked.path
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}-") as parent:
        fresh = Path(parent) / "checkpoint"
        write_checkpoint(source, path, fresh, dtype)
        precision = dtype or precision_of(source, "; add `dtype` float32")
        verification = verify_checkpoint(fresh, source, path, precision, choose_device(device))
        carried = None
        if carry is not None:
            carried = _carried(carry, source, path, fresh, to, precision, choose_device(device))
        recipe = _recipe(result, picked, verification, carried)
        write_json(fresh / RECIPE_FILE, recipe)
        if to.is_dir():
            to.rmdir()  # empty, as was checked
        fresh.rename(to)
    return Exported(to, picked.removed, path.depth, verification, carried)


def _check_carries(source: ModelSource, adapter: Path) -> None:
    """Refuse what cannot be carried before anything is written."""
    if source.adapter is not None:
        raise InputError(
            f"the model that was searched is {source.name}, and its checkpoint holds that adapter "
            "already; leave out `carry`, which is for a search of the model without one"
        )
    if importlib.util.find_spec("peft") is None:
        raise InputError(
            "verifying an adapter beside a checkpoint needs the package peft; install it with: "
            "pip install 'telltale-llm[tune]'"
        )
    changes_of(source, read_adapter(adapter))


def _carried(
    adapter: Path,
    source: ModelSource,
    path: LayerPath,
    checkpoint: Path,
    to: Path,
    precision: str,
    device: torch.device,
) -> WithAdapter:
    """Carry an adapter onto a checkpoint that is to be moved, and verify the two together."""
    model = replace(resolve_model(str(checkpoint)), name=to.name, given=str(to.resolve()))
    done = carry_adapter(adapter, path, checkpoint / CARRIED, model=model)
    verification = verify_checkpoint(
        checkpoint, source, path, precision, device, adapters=(adapter, done.folder)
    )
    return WithAdapter(replace(done, folder=to / CARRIED), verification)


def _check_target(to: Path) -> None:
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InputError(f"{to} is there already and not an empty folder; give another `to`")


def _recipe(
    result: Result, model: PathModel, verification: Verification, carried: WithAdapter | None
) -> dict[str, Any]:
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
        **({} if carried is None else {"adapter": _carried_document(carried)}),
    }


def _carried_document(carried: WithAdapter) -> dict[str, Any]:
    return {
        "folder": carried.adapter.folder.name,
        "modules": carried.adapter.modules,
        "dropped_layers": list(carried.adapter.dropped_layers),
        "dropped": list(carried.adapter.dropped),
        "verified": dataclasses.asdict(carried.verification),
    }
