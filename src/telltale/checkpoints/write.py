"""Writing a smaller checkpoint from the whole model's files, one file at a time.

Weights are renamed and left out, never passed through a model: what the original files say (rotary
settings above all) stays as every other program reads it.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from telltale.checkpoints.config import Family, family_of, shallower_config
from telltale.errors import InputError, TelltaleError, UnsupportedModelError
from telltale.models.folder import INDEX_FILE, files_beside, weight_files
from telltale.models.soundness import CONFIG_FILE, read_object
from telltale.models.tensors import save_tensors
from telltale.support.files import write_json
from telltale.support.words import one_of

if TYPE_CHECKING:
    from pathlib import Path

    from telltale.models.source import ModelSource
    from telltale.paths import LayerPath

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def write_checkpoint(
    source: ModelSource, path: LayerPath, folder: Path, dtype: str | None = None
) -> None:
    """Write the model with only a path's layers into a new folder.

    Args:
        source: the whole model's files.
        path: the layers to keep.
        folder: where to write; must not exist.
        dtype: float32, bfloat16 or float16; by default what the files hold.

    Raises:
        UnsupportedModelError: this model cannot be written smaller.
        InputError: no such dtype, or the files do not hold the layers.
    """
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"`dtype` must be {one_of(DTYPES)}, got {dtype!r}")
    config = read_config(source)
    shallower = shallower_config(config, path)
    if dtype is not None:
        shallower.pop("torch_dtype", None)
        shallower["dtype" if "dtype" in config else "torch_dtype"] = dtype
    folder.mkdir(parents=True)
    _write_weights(source, path, folder, family_of(config), DTYPES[dtype] if dtype else None)
    write_json(folder / CONFIG_FILE, shallower)
    for file in files_beside(source.folder, with_code=source.trust_remote_code):
        shutil.copyfile(file, folder / file.name)


def read_config(source: ModelSource) -> dict[str, Any]:
    """The whole model's ``config.json``.

    Raises:
        InputError: it is not a JSON object.
    """
    return read_object(source.folder / CONFIG_FILE, source.name)


def precision_of(source: ModelSource, remedy: str = "") -> str:
    """The precision that a model's configuration says its weights have.

    Raises:
        TelltaleError: a checkpoint in it cannot be verified; ``remedy`` ends the message.
    """
    config = read_config(source)
    precision = config.get("dtype") or config.get("torch_dtype") or "float32"
    if precision not in DTYPES:
        raise TelltaleError(f"the weights are in {precision!r}, which cannot be verified{remedy}")
    return str(precision)


def _write_weights(
    source: ModelSource, path: LayerPath, folder: Path, family: Family, dtype: torch.dtype | None
) -> None:
    new_index = {old: new for new, old in enumerate(path.kept)}
    weight_map: dict[str, str] = {}
    written: set[int] = set()
    size = 0
    for file in weight_files(source.folder):
        tensors: dict[str, torch.Tensor] = {}
        with safe_open(file, framework="pt") as weights:
            metadata = weights.metadata() or {"format": "pt"}
            for key in weights.keys():  # noqa: SIM118 - not a mapping
                match = family.layer_key.fullmatch(key)
                layer = int(match[2]) if match else None
                if layer is not None and layer not in new_index:
                    continue
                name = key
                if match and layer is not None:
                    written.add(layer)
                    name = f"{match[1]}{new_index[layer]}{match[3]}"
                tensor = weights.get_tensor(key)
                if dtype is not None and tensor.is_floating_point():
                    tensor = tensor.to(dtype)
                tensors[name] = tensor
                weight_map[name] = file.name
                size += tensor.numel() * tensor.element_size()
        if tensors:
            save_tensors(tensors, folder / file.name, metadata)
    if missing := set(path.kept) - written:
        raise UnsupportedModelError(
            f"the weights of {source.name} hold no layer {min(missing)} under the name that this "
            "type uses; the model cannot be exported"
        )
    if (source.folder / INDEX_FILE).is_file():
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        write_json(folder / INDEX_FILE, index)
