"""GGUF files: converted once to a folder of float32 safetensors in the cache.

The conversion is transformers' own. It takes a minute or two for a small model, and as much disk
as float32 weights do.
"""

from __future__ import annotations

import importlib.util
import io
import json
import re
import shutil
import sys
from contextlib import ExitStack, redirect_stderr
from typing import TYPE_CHECKING, Any

from telltale.errors import InputError
from telltale.support.files import full_disk, make_readable, sha256_of_file
from telltale.support.home import cache_dir
from telltale.support.scratch import scratch_folder
from telltale.support.waiting import waiting

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 2  # raised when the folder that is written changes
LICENCES = ("LICENSE*", "NOTICE*")
_PERCENT = re.compile(r"(\d+)%\|")  # in a progress bar of tqdm


def convert_gguf(file: Path) -> Path:
    """The folder of a GGUF file's model, converted unless it is in the cache.

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
    # In a folder of its own and then renamed, so that no run ever sees half a conversion.
    with scratch_folder("converting") as parent:
        fresh = parent / "model"
        try:
            _convert(file, fresh)
        except Exception as problem:  # damaged files end in whatever error their reader has
            if no_room := full_disk(problem, folder):
                raise no_room from problem
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

    bar = io.StringIO()
    text = f"Converting {file.name} to safetensors, once"
    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    with ExitStack() as stack:
        is_shown = stack.enter_context(waiting(text, lambda: _share_in(bar)))
        stack.enter_context(quiet_transformers())
        # The library's own bar is welcome in a terminal where nobody shows another.
        if is_shown or not sys.stderr.isatty():
            stack.enter_context(redirect_stderr(bar))
        tokenizer: Any = AutoTokenizer.from_pretrained(**where)
        if _asks_for_bos(file) and tokenizer("a")["input_ids"][0] != tokenizer.bos_token_id:
            raise ValueError(
                "this release of transformers makes a tokenizer of it that leaves out the "
                "beginning-of-text token; pip install 'telltale-llm[gguf]' gets one that does not"
            )
        model: Any
        model, loading = AutoModelForCausalLM.from_pretrained(
            **where, dtype=torch.float32, output_loading_info=True
        )
        # transformers fills these with random numbers, and only warns.
        if missing := sorted(loading["missing_keys"]):
            raise ValueError(f"it holds no {missing[0]} ({len(missing)} weights are missing)")
        # The weights are no longer quantised, and saving refuses a model that says they are.
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    _write_plain_config(folder / "config.json")
    for weights in folder.glob("*.safetensors"):
        make_readable(weights)
    for licence in (found for pattern in LICENCES for found in file.parent.glob(pattern)):
        if licence.is_file():
            shutil.copy(licence, folder)


def _share_in(bar: io.StringIO) -> float | None:
    """How far a progress bar has come that was written here; None before there is one."""
    found = _PERCENT.findall(bar.getvalue())
    return int(found[-1]) / 100 if found else None


def _asks_for_bos(file: Path) -> bool:
    """Whether a GGUF file says that every text begins with the beginning-of-text token."""
    from gguf import GGUFReader

    field = GGUFReader(file).get_field("tokenizer.ggml.add_bos_token")
    return field is not None and bool(field.parts[field.data[0]][0])


def _write_plain_config(path: Path) -> None:
    """Name the rotary bases as every release of transformers, vLLM and llama.cpp reads them.

    transformers 5 writes ``rope_parameters`` alone, and transformers 4 then silently takes its own
    default for ``rope_theta``. Gemma 3 has parameters for each type of layer, and transformers 4
    two names for their bases.
    """
    config = json.loads(path.read_text(encoding="utf-8"))
    rope = config.get("rope_parameters") or {}
    windowed = rope.get("sliding_attention", {})
    rope = rope.get("full_attention", rope)
    if isinstance(rope.get("rope_theta"), int | float):
        config["rope_theta"] = rope["rope_theta"]
        scaling = {name: value for name, value in rope.items() if name != "rope_theta"}
        config["rope_scaling"] = scaling if rope.get("rope_type") != "default" else None
    if "rope_theta" in windowed:
        config["rope_local_base_freq"] = windowed["rope_theta"]
    config.pop("_model_name_or_path", None)
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
