"""Carrying a LoRA adapter of the whole model onto the shallower one, and back.

What an adapter adds to a layer does not depend on the layers beside it. Of an adapter of the whole
model the parts of the layers kept, renumbered, are therefore the shallower model's, and it gives
what the whole model gives with the adapter and without the layers removed. Tensors are renamed and
left out, never changed.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from telltale.checkpoints.config import FAMILIES
from telltale.errors import InputError, UnsupportedModelError
from telltale.models.adapter import PREFIX, TENSORS_FILE, Adapter, note_base, read_adapter
from telltale.models.folder import ADAPTER_FILE
from telltale.models.tensors import save_tensors
from telltale.support.files import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from telltale.models.source import ModelSource
    from telltale.paths import LayerPath

# How families name a layer, each once.
KEYS = list({family.layer_key.pattern: family.layer_key for family in FAMILIES.values()}.values())


@dataclass(frozen=True, slots=True)
class Carried:
    """An adapter that was carried onto another depth.

    ``dropped`` names the modules that the adapter changes in layers that are not there any more,
    as they are called in the whole model, in the order of layers.
    """

    folder: Path
    modules: int
    dropped: tuple[str, ...]
    dropped_layers: tuple[int, ...]


def carry_adapter(
    adapter: Path, path: LayerPath, to: Path, *, model: ModelSource | None = None
) -> Carried:
    """Write a whole model's adapter for the model that has only a path's layers.

    Layers are renumbered as `telltale.checkpoints.write.write_checkpoint` does; what the adapter
    changes in layers removed is left out.

    Args:
        adapter: the adapter's folder, in peft's format.
        path: the layers kept, of the model that the adapter changes.
        to: the folder to write; must not exist.
        model: the shallower model, which the adapter then names as its own.

    Raises:
        InputError: the adapter cannot be used or changes layers that the model does not have, or
            all that it changes is removed.
    """
    new_index = {old: new for new, old in enumerate(path.kept)}
    return _renumbered(read_adapter(adapter), path.total, path.depth, new_index, to, model)


def lift_adapter(
    adapter: Path, path: LayerPath, to: Path, *, model: ModelSource | None = None
) -> Carried:
    """Write an adapter of the model that has only a path's layers for the whole model.

    The inverse of `carry_adapter`: layers that the path lacks are not changed.

    Args:
        adapter: the adapter's folder, in peft's format.
        path: the layers, of the whole model, that the adapter's model has.
        to: the folder to write; must not exist.
        model: the whole model, which the adapter then names as its own.

    Raises:
        InputError: the adapter cannot be used, or changes layers that its model does not have.
    """
    new_index = dict(enumerate(path.kept))
    return _renumbered(read_adapter(adapter), path.depth, path.total, new_index, to, model)


def _renumbered(
    adapter: Adapter,
    depth: int,
    total: int,
    new_index: Mapping[int, int],
    to: Path,
    model: ModelSource | None,
) -> Carried:
    """Write an adapter with layers renumbered, and those without a new number left out.

    Args:
        adapter: the adapter.
        depth: how many layers its model has.
        total: how many the model has for which it is written.
        new_index: of layers of its model, their new numbers.
        to: the folder to write.
        model: the model for which it is written.
    """

    def renamed(name: str) -> str | None:
        layer = _layer_in(name)
        if layer is None:
            return name
        before, index, after = layer
        if index >= depth:
            raise InputError(
                f"the adapter {adapter.name} changes layer {index}, and its model has layers "
                f"0-{depth - 1}; give an adapter of that model"
            )
        return f"{before}{new_index[index]}{after}" if index in new_index else None

    modules = {name: renamed(name) for name in adapter.modules}
    names = {
        **{
            key: f"{PREFIX}{modules[name]}{key.removeprefix(PREFIX + name)}"
            for name, parts in adapter.modules.items()
            for key in parts.values()
            if modules[name] is not None
        },
        **{
            key: f"{PREFIX}{new}"
            for key in adapter.replaced.values()
            if (new := renamed(key.removeprefix(PREFIX))) is not None
        },
    }
    if not names:
        raise InputError(
            f"all that the adapter {adapter.name} changes is in layers that are removed, so that "
            "nothing of it is left; the model needs no adapter"
        )
    is_every_layer = sorted(new_index.values()) == list(range(total))
    settings = _settings(adapter, modules, renamed, model, is_every_layer=is_every_layer)
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}-") as parent:
        fresh = Path(parent) / "adapter"
        fresh.mkdir()
        with safe_open(adapter.file, framework="pt") as tensors:
            kept = {new: tensors.get_tensor(old) for old, new in names.items()}
        save_tensors(kept, fresh / TENSORS_FILE, {"format": "pt"})
        write_json(fresh / ADAPTER_FILE, settings)
        if model is not None:
            note_base(fresh, model)
        fresh.rename(to)
    gone = sorted(
        (layer[1], name)
        for name in (*adapter.modules, *adapter.replaced)
        if (layer := _layer_in(name)) is not None and layer[1] not in new_index
    )
    return Carried(
        to,
        sum(new is not None for new in modules.values()),
        tuple(name for _, name in gone),
        tuple(sorted({layer for layer, _ in gone})),
    )


def _layer_in(name: str) -> tuple[str, int, str] | None:
    """A name parted at the layer's index; None where it is of no layer.

    Raises:
        UnsupportedModelError: it holds an index, and no family that can be written has such names.
    """
    for key in KEYS:
        if found := key.fullmatch(name):
            return found[1], int(found[2]), found[3]
    if _has_index(name):
        raise UnsupportedModelError(
            f"the adapter changes {name!r}, and which layer that is of is not known here; adapters "
            f"of these can be carried: {', '.join(FAMILIES)}"
        )
    return None


def _settings(
    adapter: Adapter,
    modules: Mapping[str, str | None],
    renamed: Callable[[str], str | None],
    model: ModelSource | None,
    *,
    is_every_layer: bool,
) -> dict[str, Any]:
    """The configuration, for modules by their new names.

    Where it says by the ends of names which modules are changed, and none but those of layers
    removed is left out, it goes on saying so; else the modules are named one by one.
    """
    settings = dict(adapter.settings)
    settings["base_model_name_or_path"] = None if model is None else model.given
    kept = {old: new for old, new in modules.items() if new is not None}
    ranks = {new: adapter.rank(old) for old, new in kept.items()}
    alphas = {new: adapter.alpha(old) for old, new in kept.items()}
    settings["rank_pattern"] = _other_than(settings["r"], ranks)
    settings["alpha_pattern"] = _other_than(settings["lora_alpha"], alphas)
    targets = settings.get("target_modules")
    by_ends = isinstance(targets, list) and not any(_has_index(one) for one in targets)
    narrowed = ("layers_to_transform", "layers_pattern", "exclude_modules")
    if not (by_ends and is_every_layer) or any(settings.get(one) for one in narrowed):
        settings |= {"target_modules": sorted(kept.values()), **dict.fromkeys(narrowed)}
    if whole := settings.get("modules_to_save"):
        settings["modules_to_save"] = [new for one in whole if (new := renamed(one)) is not None]
    return settings


def _other_than(default: float, values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value != default}


def _has_index(name: str) -> bool:
    return any(part.isdecimal() for part in name.split("."))
