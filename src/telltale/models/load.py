"""Loading a model and its tokenizer onto a device, in the precision asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from telltale.errors import InputError, MeasurementError, UnsupportedModelError
from telltale.models.folder import tokenizer_files
from telltale.models.layered import LayeredModel, is_out_of_memory
from telltale.models.quiet import quiet_transformers
from telltale.support.words import one_of

if TYPE_CHECKING:
    from telltale.models.source import ModelSource

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(wanted: str) -> torch.device:
    """The device for ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        InputError: it is no device, or none of this machine.
    """
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, number = wanted.partition(":")
    here = {
        "cpu": wanted == "cpu",
        "cuda": torch.cuda.is_available()
        and (not number or (number.isdecimal() and int(number) < torch.cuda.device_count())),
        "mps": wanted == "mps" and torch.backends.mps.is_available(),
    }
    if kind not in here:
        raise InputError(f"`device` must be auto, cpu, cuda, cuda:N or mps, got {wanted!r}")
    if not here[kind]:
        raise InputError(f"there is no device {wanted!r} on this machine; try `device` auto")
    return torch.device(wanted)


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """The precision for ``float32``, ``bfloat16`` or ``auto``: float32 on a CPU, else bfloat16.

    A function of what is given alone, so that whoever measures once, such as an evaluation, gets
    the same numbers again. A search, which a study can hold to what it began with, asks
    `telltale.models.precision` on a CPU.

    Raises:
        InputError: it is none of these.
    """
    if wanted == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if wanted not in DTYPES:
        raise InputError(f"`dtype` must be {one_of([*DTYPES, 'auto'])}, got {wanted!r}")
    return DTYPES[wanted]


def load_tokenizer(source: ModelSource) -> Any:
    """The model's tokenizer.

    Raises:
        InputError: the folder has none that can be read.
    """
    # Some releases of transformers make an empty tokenizer where there is none.
    if not tokenizer_files(source.folder):
        raise InputError(
            f"cannot read the tokenizer of {source.name}: there are no files of one, such as "
            "tokenizer.json; add those of the model that it was made from"
        )
    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(
                source.folder, trust_remote_code=source.trust_remote_code
            )
    except Exception as problem:  # damaged files end in whatever error their reader has
        raise InputError(
            f"cannot read the tokenizer of {source.name}: {_line(problem)}"
        ) from problem


def load_model(source: ModelSource, device: torch.device, dtype: torch.dtype) -> LayeredModel:
    """Load the model as a `LayeredModel`.

    Raises:
        InputError: the files cannot be read as a model, or lack some of its weights.
        UnsupportedModelError: the architecture is unknown or cannot be driven.
    """
    try:
        with quiet_transformers():
            model, loading = AutoModelForCausalLM.from_pretrained(
                source.folder,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=source.trust_remote_code,
                output_loading_info=True,
            )
    except ValueError as problem:  # how transformers says that it has no such architecture
        raise UnsupportedModelError(f"cannot load {source.name}: {_line(problem)}") from problem
    except Exception as problem:  # damaged files end in whatever error their reader has
        if is_out_of_memory(problem):
            raise _no_memory(source, torch.device("cpu")) from problem
        raise InputError(f"cannot load {source.name}: {_line(problem)}") from problem
    # transformers gives random numbers to what it does not find, and only notes it.
    if missing := sorted(loading["missing_keys"]):
        raise InputError(
            f"{source.name} lacks {len(missing)} weights that its config.json asks for, such as "
            f"{missing[0]}; the two are not of one model: get it again"
        )
    try:
        return LayeredModel(model.to(device))
    except RuntimeError as problem:
        if not is_out_of_memory(problem):
            raise
        raise _no_memory(source, device) from problem


def hollow_model(source: ModelSource) -> Any:
    """The model as its configuration says, without numbers: it takes no memory and cannot be run.

    Raises:
        InputError: the configuration cannot be read as a model.
        UnsupportedModelError: the architecture is unknown.
    """
    trusts = source.trust_remote_code
    try:
        with quiet_transformers(), torch.device("meta"):
            config = AutoConfig.from_pretrained(source.folder, trust_remote_code=trusts)
            return AutoModelForCausalLM.from_config(config, trust_remote_code=trusts)
    except ValueError as problem:  # how transformers says that it has no such architecture
        raise UnsupportedModelError(f"cannot load {source.name}: {_line(problem)}") from problem
    except Exception as problem:
        raise InputError(f"cannot load {source.name}: {_line(problem)}") from problem


def _no_memory(source: ModelSource, device: torch.device) -> MeasurementError:
    return MeasurementError(
        f"{source.name} does not fit in the memory of {device}; close other programs, use `dtype` "
        "bfloat16 or another `device`"
    )


def _line(problem: Exception) -> str:
    """An error's first sentence or so, on one line."""
    text = " ".join(str(problem).split())
    return text if len(text) <= 240 else text[:240] + "..."
