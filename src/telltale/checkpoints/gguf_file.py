"""A GGUF file with fewer layers, of a GGUF file: for llama.cpp, which reads no other.

Weights are copied as they are, quantised or not; layers are renumbered, and what the file says of
its layers is subset or recounted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from telltale.errors import UnsupportedModelError
from telltale.support.words import one_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from telltale.paths import LayerPath

# Architectures of which it was tried that llama.cpp reads the result as the shallower model. Of
# those with a period of windowed layers, its length: llama.cpp has it built in, and is told the
# kind of every layer instead.
PERIODS = {"llama": None, "gemma3": 6}
_LAYER = re.compile(r"blk\.(\d+)\.(.+)")
_OWN = ("GGUF.", "general.architecture")  # what whoever writes a file says by itself


def write_gguf(file: Path, path: LayerPath, to: Path) -> None:
    """Write a GGUF file's model with only a path's layers.

    Args:
        file: the whole model's.
        path: the layers to keep.
        to: the file to write; must not exist.

    Raises:
        UnsupportedModelError: the architecture is another than those that were tried, or the file
            holds other layers than the path is of.
    """
    from gguf import GGUFReader, GGUFWriter

    reader: Any = GGUFReader(file)
    said = {
        name: (field.types, field.contents())
        for name, field in reader.fields.items()
        if not name.startswith(_OWN)
    }
    architecture = reader.get_field("general.architecture").contents()
    if architecture not in PERIODS:
        raise UnsupportedModelError(
            f"a GGUF file of the architecture {architecture!r} cannot be written smaller here, "
            f"only {one_of(PERIODS)}; give a GGUF file of the shallower model as `against`"
        )
    depth = said[f"{architecture}.block_count"][1]
    if depth != path.total:
        raise UnsupportedModelError(
            f"{file.name} has {depth} layers where the path is of {path.total}; was it changed?"
        )
    writer: Any = GGUFWriter(to, architecture)
    for name, (types, value) in _of_fewer(said, architecture, path).items():
        writer.add_key_value(name, value, types[0], types[1] if len(types) > 1 else None)
    index = {old: new for new, old in enumerate(path.kept)}
    for tensor in reader.tensors:
        layer = _LAYER.fullmatch(tensor.name)
        if layer is None:
            name = tensor.name
        elif int(layer[1]) in index:
            name = f"blk.{index[int(layer[1])]}.{layer[2]}"
        else:
            continue
        writer.add_tensor(name, tensor.data, raw_dtype=tensor.tensor_type)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _of_fewer(
    said: Mapping[str, tuple[Any, Any]], architecture: str, path: LayerPath
) -> dict[str, tuple[Any, Any]]:
    """What the file says, of the layers that are left."""
    from gguf import GGUFValueType as Kind

    found = dict(said)
    period, pattern = PERIODS[architecture], f"{architecture}.attention.sliding_window_pattern"
    if period is not None and pattern not in found:
        windowed = [layer % period < period - 1 for layer in range(path.total)]
        found[pattern] = [Kind.ARRAY, Kind.BOOL], windowed
    for name, (types, value) in found.items():
        if not name.startswith(f"{architecture}."):
            continue
        if isinstance(value, list) and len(value) == path.total:
            found[name] = types, [value[layer] for layer in path.kept]
    count = f"{architecture}.block_count"
    return {**found, count: (found[count][0], path.depth)}


def letter_in(file: Path) -> int:
    """A token of a GGUF file's vocabulary that is one plain letter."""
    from gguf import GGUFReader

    reader: Any = GGUFReader(file)
    tokens = reader.get_field("tokenizer.ggml.tokens")
    return next(
        number for number in range(len(tokens.data)) if tokens.contents(number) in ("a", "▁a", "Ġa")
    )
