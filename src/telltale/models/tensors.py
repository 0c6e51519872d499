"""Writing safetensors files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetensors.torch import save_file

from telltale.support.files import full_disk, make_readable

if TYPE_CHECKING:
    from pathlib import Path

    import torch


def save_tensors(
    tensors: dict[str, torch.Tensor], file: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file with the user's default permissions.

    Raises:
        OSError: there is no room for it.
    """
    try:
        save_file(tensors, file, metadata=metadata)
    except Exception as problem:
        raise full_disk(problem, file) or problem from None
    make_readable(file)
