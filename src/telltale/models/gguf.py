"""GGUF files: converted once to a folder of float32 safetensors in the cache.

The conversion is transformers' own. It takes half a minute for a small model, and as much disk as
float32 weights do.
"""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import shutil
import sys
import tempfile
from contextlib import nullcontext, redirect_stderr
from pathlib import Path
from typing import Any

from telltale.errors import InputError
from telltale.files import sha256_of_file
from telltale.home import cache_dir

LOG = logging.getLogger(__name__)
FORMAT = 1  # raised when the folder that is written changes


def convert_gguf(file: Path) -> Path:
    """The folder that holds a GGUF file's model, converting it if it is not in the cache.

    Raises:
        InputError: a package is missing, or transformers cannot read the file.
    """
    for package in ("gguf", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise InputError(
                f"reading {file.name} needs the package {package}; "
                "install it with: pip install 'telltale-llm[gguf]'"
            )
    folder = cache_dir() / f"gguf-{sha256_of_file(file)[:16]}-{FORMAT}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    LOG.info("Converting %s to safetensors, once", file.name)
    # In a folder of its own and then renamed, so that no run ever sees half a conversion.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="converting-") as parent:
        fresh = Path(parent) / "model"
        try:
            _convert(file, fresh)
        except Exception as problem:  # damaged files end in whatever error their reader has
            reason = " ".join(str(problem).split())
            raise InputError(f"cannot read {file.name} as a GGUF model: {reason}") from problem
        try:
            fresh.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another run was first, with the same result
                raise
    return folder


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from telltale.models.quiet import quiet_transformers

    # Its progress bar is welcome in a terminal and noise in a log.
    bars = nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO())
    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    with quiet_transformers(), bars:
        tokenizer: Any = AutoTokenizer.from_pretrained(**where)
        model: Any = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
        # The weights are no longer quantised, and saving refuses a model that says they are.
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    _write_plain_config(folder / "config.json")
    for licence in file.parent.glob("LICENSE*"):
        shutil.copy(licence, folder)


def _write_plain_config(path: Path) -> None:
    """Name the rotary base as every release of transformers, vLLM and llama.cpp reads it.

    transformers 5 writes ``rope_parameters`` alone, and transformers 4 then silently takes its own
    default for ``rope_theta``.
    """
    config = json.loads(path.read_text(encoding="utf-8"))
    rope = config.get("rope_parameters") or {}
    if isinstance(rope.get("rope_theta"), int | float):
        config["rope_theta"] = rope["rope_theta"]
        scaling = {name: value for name, value in rope.items() if name != "rope_theta"}
        config["rope_scaling"] = scaling if rope.get("rope_type") != "default" else None
    config.pop("_model_name_or_path", None)
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
