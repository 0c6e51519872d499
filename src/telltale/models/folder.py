"""The files of a model's folder, by what they are for. Knows no torch."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from telltale.errors import InputError
from telltale.support.files import sha256_of, sha256_of_file

LOG = logging.getLogger(__name__)
WEIGHTS = "*.safetensors"
WHOLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
ADAPTER_FILE = "adapter_config.json"
TOKENIZER_PATTERNS = ("tokenizer*", "*.model", "vocab*", "merges*", "special_tokens*", "added_tok*")
COPIED = ("generation_config.json", "chat_template*", "LICENSE*", "NOTICE*", "USE_POLICY*")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that transformers would load, in order.

    Raises:
        InputError: the index is damaged, or names a file that is absent or outside the folder.
    """
    index = folder / INDEX_FILE
    if not index.is_file():
        return sorted(folder.glob(WHOLE_FILE)) or sorted(folder.glob(WEIGHTS))
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        files = [folder / name for name in names]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise InputError(f"{index.name} of {folder.name} is damaged; get the model again") from None
    for name, file in zip(names, files, strict=True):
        if Path(name).name != name or not file.is_file():
            raise InputError(
                f"{folder.name} lacks the weights file {name!r} that its index names; get the "
                "model again"
            )
    if (folder / WHOLE_FILE).is_file() and names != [WHOLE_FILE]:
        raise InputError(
            f"{folder.name} holds {WHOLE_FILE} and an index of other weights, so that programs may "
            f"differ in what they load; remove {WHOLE_FILE} or {INDEX_FILE}"
        )
    return files


def tokenizer_files(folder: Path) -> list[Path]:
    """A folder's tokenizer files."""
    found = {path for pattern in TOKENIZER_PATTERNS for path in folder.glob(pattern)}
    return sorted(path for path in found if path.is_file() and path.suffix != ".safetensors")


def files_beside(folder: Path, *, with_code: bool) -> list[Path]:
    """What a model made from a folder's takes over as it is: all but weights and configuration.

    Args:
        folder: the model's folder.
        with_code: take the Python files too.
    """
    patterns = (*COPIED, "*.py") if with_code else COPIED
    others = [file for pattern in patterns for file in folder.glob(pattern) if file.is_file()]
    return [*tokenizer_files(folder), *others]


def hash_of_files(paths: list[Path]) -> str:
    """The SHA-256 of files, their names too."""
    LOG.debug("hashing %d files", len(paths))
    return sha256_of(*(part for path in paths for part in (path.name, sha256_of_file(path))))
