"""LoRA adapters in peft's format: checked, and merged into the files of the model they change.

An adapter (Hu et al. 2021, arXiv:2106.09685) is a folder of ``adapter_config.json`` and
``adapter_model.safetensors``; of every module that it changes it holds two small matrices whose
product is added to the weight. Merging does that once, on the model's raw files: what they are
called, and the configuration, stay as they are, so that all that reads the model reads the merged
one. Needs no peft, which is the oracle in the tests. Pickles are never read. Knows no layers.
"""

from __future__ import annotations

import logging
import math
import re
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from telltale.errors import InputError
from telltale.models.folder import (
    ADAPTER_FILE,
    INDEX_FILE,
    PICKLES,
    files_beside,
    hash_of_files,
    weight_files,
)
from telltale.models.load import hollow_model
from telltale.models.soundness import CONFIG_FILE, read_headers, read_object
from telltale.models.tensors import save_tensors
from telltale.support.files import sha256_of, write_json
from telltale.support.home import cache_dir
from telltale.support.scratch import scratch_folder
from telltale.support.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from telltale.models.source import ModelSource

LOG = logging.getLogger(__name__)
FORMAT = 1  # raised when what merging writes changes
TENSORS_FILE = "adapter_model.safetensors"
BASE_FILE = "base.json"  # which model's bytes an adapter changes; telltale's own, peft ignores it
PREFIX = "base_model.model."  # of every tensor's name, before the model's own name of the module
WRAPPED = ".base_layer."  # what peft puts before the names of a changed module's own tensors
# How a tensor's name ends, and what it is of its module.
ENDINGS = {
    ".lora_A.weight": "A",
    ".lora_B.weight": "B",
    ".lora_embedding_A": "A",
    ".lora_embedding_B": "B",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
}
MERGE = (
    "merge it with peft's merge_and_unload() where peft can, save the result and give that folder "
    "as the model"
)
# Settings with which more or other happens than a product is added, and what.
REFUSED = {
    "layer_replication": "repeats layers of its model",
    "alora_invocation_tokens": "acts from some token on",
    "target_parameters": "changes parameters that are no module's weight",
    "trainable_token_indices": "holds embeddings of single tokens",
    "use_qalora": "averages what it reads",
    "use_bdlora": "holds blocks of its matrices",
    "arrow_config": "chooses among several",
    "kasa_config": "was trained on other weights than its model's",
    "lora_bias": "has biases in its matrices",
}
# How training began, where that leaves the model's weights as they are.
INITIAL = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter's files, checked as far as they say of themselves.

    ``settings`` is its configuration. ``modules`` gives, by the name that transformers has for a
    module, the names of its tensors in the file by what they are (``A``, ``B``, ``magnitude``);
    ``replaced`` by a tensor's name in the model that of the tensor which takes its place.
    """

    name: str
    folder: Path
    settings: Mapping[str, Any]
    modules: Mapping[str, Mapping[str, str]]
    replaced: Mapping[str, str]
    sha256: str

    @property
    def file(self) -> Path:
        """The file of its tensors."""
        return self.folder / TENSORS_FILE

    def rank(self, module: str) -> int:
        """The rank of a module's matrices, by the configuration."""
        found: int = self._setting("rank_pattern", "r", module)
        return found

    def alpha(self, module: str) -> float:
        """What the product of a module's matrices is scaled by, times the rank or its root."""
        found: float = self._setting("alpha_pattern", "lora_alpha", module)
        return found

    def scale(self, module: str) -> float:
        """By how much the product of a module's matrices counts.

        With ``use_rslora`` by the root of the rank (Kalajdzievski 2023, arXiv:2312.03732).
        """
        rank = self.rank(module)
        return self.alpha(module) / (math.sqrt(rank) if self.settings.get("use_rslora") else rank)

    def _setting(self, patterns: str, default: str, module: str) -> Any:
        """What the first pattern says that fits the end of a module's name, as peft reads them."""
        for pattern, value in (self.settings.get(patterns) or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        return self.settings[default]


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one tensor of a model: another takes its place, a product is added, or both.

    ``parts`` are names in the adapter's file. ``is_transposed`` says that the model holds the
    weight as (in, out), and the adapter's product is (out, in).
    """

    parts: Mapping[str, str]
    scale: float = 1.0
    is_transposed: bool = False


def read_adapter(folder: Path) -> Adapter:
    """An adapter's files, read and checked without its model.

    Raises:
        InputError: it is no adapter, is pickled, damaged, or of a kind that cannot be merged here.
    """
    name = folder.name
    _check_files(folder, name)
    settings = read_object(folder / ADAPTER_FILE, name)
    _check_settings(settings, name)
    modules: dict[str, dict[str, str]] = {}
    replaced: dict[str, str] = {}
    for tensor in read_headers([folder / TENSORS_FILE], name).names:
        if not tensor.startswith(PREFIX):
            raise InputError(
                f"{TENSORS_FILE} of {name} holds {tensor!r}, which is no tensor of an adapter that "
                f"peft has saved (their names begin with {PREFIX}); save it with peft"
            )
        of_model = tensor.removeprefix(PREFIX)
        ending = next((one for one in ENDINGS if of_model.endswith(one)), None)
        if ending is None:
            replaced[of_model.replace(WRAPPED, ".")] = tensor
        else:
            modules.setdefault(of_model.removesuffix(ending), {})[ENDINGS[ending]] = tensor
    for module, parts in modules.items():
        if lacks := {"A", "B", *(["magnitude"] if settings.get("use_dora") else [])} - parts.keys():
            raise InputError(
                f"{TENSORS_FILE} of {name} lacks {module}.lora_{min(lacks)}; save the adapter again"
            )
    sha256 = hash_of_files([folder / ADAPTER_FILE, folder / TENSORS_FILE])
    return Adapter(name, folder, settings, modules, replaced, sha256)


def merge_adapter(source: ModelSource, adapter: Path, to: Path) -> None:
    """Write a model with an adapter merged into its weights, as a new folder.

    Weights keep their names, their files and their precision, to which the sum is rounded; all else
    is copied. The folder is there whole or not at all.

    Args:
        source: the model that the adapter changes.
        adapter: the adapter's folder, in peft's format.
        to: the folder to write; must not exist.

    Raises:
        InputError: the adapter cannot be used, or is not of this model.
    """
    found = read_adapter(adapter)
    changes = changes_of(source, found)
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}-") as parent:
        fresh = Path(parent) / "merged"
        _merge(source, found, changes, fresh)
        fresh.rename(to)


def adapted(source: ModelSource, adapter: str | Path) -> ModelSource:
    """A model with an adapter merged in, from the cache or merged once.

    Its hash is of both hashes, so that it is the same wherever it was merged.

    Raises:
        InputError: the adapter cannot be used, or is not of this model.
    """
    found = read_adapter(_folder_of(adapter))
    _check_base(source, found)
    sha256 = sha256_of(source.sha256, found.sha256)
    folder = cache_dir() / f"adapter-{sha256[:16]}-{FORMAT}"
    if not folder.is_dir():
        changes = changes_of(source, found)
        text = f"Merging {found.name} into {source.name}, once"
        with scratch_folder("merging") as parent, waiting(text):
            fresh = parent / "model"
            _merge(source, found, changes, fresh)
            try:
                fresh.rename(folder)
            except OSError:
                if not folder.is_dir():  # else another run was first, with the same result
                    raise
    return replace(
        source,
        name=f"{source.name} + {found.name}",
        folder=folder,
        sha256=sha256,
        adapter=str(found.folder),
    )


def note_base(adapter: Path, source: ModelSource) -> None:
    """Write down beside an adapter which model it changes, so that no other is taken for it."""
    document = {"version": 1, "name": source.name, "sha256": source.sha256}
    write_json(adapter / BASE_FILE, document)


def changes_of(source: ModelSource, adapter: Adapter) -> dict[str, Change]:
    """What an adapter does to a model, by the names of tensors in the model's files.

    Raises:
        InputError: it is not of this model, or of a model whose embedding and head are one.
    """
    _check_base(source, adapter)
    names = set(read_headers(weight_files(source.folder), source.name).names)
    config = read_object(source.folder / CONFIG_FILE, source.name)
    if config.get("quantization_config"):
        raise InputError(
            f"{source.name} is quantised, and an adapter cannot be merged into quantised weights; "
            "give the model that it was made of"
        )
    model = hollow_model(source)
    shapes = {name: tuple(one.shape) for name, one in model.state_dict().items()}
    own = dict(model.named_modules())
    tied = _tied(model)
    found: dict[str, Change] = {}
    with safe_open(adapter.file, framework="pt") as tensors:
        shape = {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118 - not a mapping
    wanted = {f"{one}.weight": _of_module(adapter, one, own, shape) for one in adapter.modules}
    for name in adapter.replaced:  # which may be a weight that a product is added to
        whole = _of_tensor(adapter, name, shapes, shape)
        change = wanted.get(name, Change({}))
        wanted[name] = replace(change, parts={**change.parts, "whole": whole})
    for name, change in wanted.items():
        if name in tied:
            raise InputError(
                f"the adapter {adapter.name} changes {name} of {source.name}, whose embedding and "
                "head are one tensor, so that merging would change both; " + MERGE
            )
        in_files = name if name in names else name.removeprefix(f"{model.base_model_prefix}.")
        if in_files not in names:
            raise InputError(
                f"the files of {source.name} hold no {name}, which the adapter {adapter.name} "
                f"changes; " + MERGE
            )
        found[in_files] = change
    return found


# An adapter's own files


def _folder_of(given: str | Path) -> Path:
    place = Path(given).expanduser()
    if not place.is_dir():
        raise InputError(
            f"there is no folder {given}; `adapter` is a folder with {ADAPTER_FILE}, such as peft "
            "saves (of the hub, get it with `hf download`)"
        )
    return place.resolve()


def _check_files(folder: Path, name: str) -> None:
    if not (folder / ADAPTER_FILE).is_file():
        is_model = (folder / CONFIG_FILE).is_file()
        raise InputError(
            f"{name} holds no {ADAPTER_FILE}, so it is no adapter"
            + ("; it is a whole model: give it as `model`" if is_model else "")
        )
    if not (folder / TENSORS_FILE).is_file():
        if any(path for pattern in PICKLES for path in folder.glob(pattern)):
            raise InputError(
                f"the adapter {name} is pickled, and a pickle can run any code; save it again "
                f"with peft's save_pretrained(), which writes {TENSORS_FILE}"
            )
        raise InputError(f"the adapter {name} holds no {TENSORS_FILE}; get it again")


def _check_settings(settings: Mapping[str, Any], name: str) -> None:
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise InputError(
            f"{name} is an adapter of kind {kind!r}, and only LORA can be merged here; " + MERGE
        )
    for field, what in REFUSED.items():
        if settings.get(field):
            raise InputError(f"the adapter {name} {what} ({field!r}); {MERGE}")
    begun = settings.get("init_lora_weights", True)
    if begun not in INITIAL:
        raise InputError(
            f"the adapter {name} began as {begun!r}, by which its model's weights were changed too;"
            " save it as a plain LoRA (peft: path_initial_model_for_weight_conversion), or " + MERGE
        )
    numbers = {
        "r": [settings.get("r"), *_values(settings, "rank_pattern", name)],
        "lora_alpha": [settings.get("lora_alpha"), *_values(settings, "alpha_pattern", name)],
    }
    for field, values in numbers.items():
        for value in values:
            good = isinstance(value, int if field == "r" else int | float)
            if isinstance(value, bool) or not good or not 0 < value < math.inf:
                raise InputError(
                    f"{ADAPTER_FILE} of {name} says {field!r} is {value!r}, which is no number "
                    "above 0; save the adapter again"
                )


def _values(settings: Mapping[str, Any], field: str, name: str) -> list[Any]:
    patterns = settings.get(field) or {}
    try:
        for pattern in patterns:
            re.compile(pattern)
        return list(patterns.values())
    except (re.error, TypeError, AttributeError):
        raise InputError(
            f"{ADAPTER_FILE} of {name} says {field!r} is {patterns!r}, which is no table of "
            "patterns; save the adapter again"
        ) from None


# An adapter and its model


def _check_base(source: ModelSource, adapter: Adapter) -> None:
    """Refuse another model where it is known which; else say what differs by name."""
    if (adapter.folder / BASE_FILE).is_file():
        base = read_object(adapter.folder / BASE_FILE, adapter.name)
        if base.get("sha256") != source.sha256:
            raise InputError(
                f"the adapter {adapter.name} was trained on {base.get('name')!r}, whose bytes are "
                f"not those of {source.name}; give that model, or remove {BASE_FILE} from the "
                "adapter's folder if it is the same"
            )
        return
    named = str(adapter.settings.get("base_model_name_or_path"))
    is_hub_id = re.fullmatch(r"[\w.-]+/[\w.-]+", named) is not None
    if source.revision is not None and is_hub_id and named.casefold() != source.given.casefold():
        LOG.warning(
            "the adapter %s names %s as its model, not %s; whether it was trained on it, only its "
            "shapes are known to say",
            adapter.name,
            named,
            source.given,
        )


def _tied(model: Any) -> set[str]:
    """The names of the embedding's and the head's weights, where they are one tensor."""
    parts = (model.get_input_embeddings(), model.get_output_embeddings())
    if None in parts or not model.config.get_text_config().tie_word_embeddings:
        return set()
    return {f"{name}.weight" for name, one in model.named_modules() if one in parts}


def _of_module(
    adapter: Adapter,
    module: str,
    own: Mapping[str, nn.Module],
    shape: Mapping[str, tuple[int, ...]],
) -> Change:
    """What happens to a module's weight."""
    parts, layer = adapter.modules[module], own.get(module)
    is_embedding = parts["A"].endswith(".lora_embedding_A")
    if not isinstance(layer, nn.Embedding if is_embedding else nn.Linear | Conv1D):
        is_there = "no such module" if layer is None else f"a {type(layer).__name__}"
        raise _other_base(adapter, f"it changes {module}, and there is {is_there} in the model")
    is_transposed = is_embedding or isinstance(layer, Conv1D)
    whole = tuple(layer.weight.shape)
    rows, columns = whole[::-1] if is_transposed else whole
    rank = adapter.rank(module)
    expected = {"A": [(rank, columns)], "B": [(rows, rank)], "magnitude": [(rows,), (rows, 1)]}
    for part, key in parts.items():
        if shape[key] not in expected[part]:
            raise _other_base(
                adapter, f"its {key} is {shape[key]}, and {expected[part][0]} would fit"
            )
    return Change(parts, adapter.scale(module), is_transposed)


def _of_tensor(
    adapter: Adapter,
    name: str,
    shapes: Mapping[str, tuple[int, ...]],
    shape: Mapping[str, tuple[int, ...]],
) -> str:
    """The tensor, by its name in the adapter's file, that takes the place of one of the model."""
    key = adapter.replaced[name]
    if name not in shapes:
        raise _other_base(adapter, f"it changes {name}, and there is no such tensor in the model")
    if shapes[name] != shape[key]:
        raise _other_base(adapter, f"its {name} is {shape[key]}, and the model's {shapes[name]}")
    return key


def _other_base(adapter: Adapter, how: str) -> InputError:
    named = adapter.settings.get("base_model_name_or_path")
    return InputError(
        f"the adapter {adapter.name} is not of this model: {how}; give the model that it was "
        f"trained on{f' ({named})' if named else ''}"
    )


# Merging


def _merge(
    source: ModelSource, adapter: Adapter, changes: Mapping[str, Change], folder: Path
) -> None:
    """Write the merged model into a new folder."""
    folder.mkdir()
    with safe_open(adapter.file, framework="pt") as own:
        for file in weight_files(source.folder):
            with safe_open(file, framework="pt") as weights:
                tensors = {key: weights.get_tensor(key) for key in weights.keys()}  # noqa: SIM118 - not a mapping
                metadata = weights.metadata() or {"format": "pt"}
            for name in tensors.keys() & changes.keys():
                change = changes[name]
                parts = {part: own.get_tensor(key) for part, key in change.parts.items()}
                tensors[name] = _changed(tensors[name], parts, change)
            save_tensors(tensors, folder / file.name, metadata)
    others = files_beside(source.folder, with_code=source.trust_remote_code)
    index = source.folder / INDEX_FILE
    for other in [source.folder / CONFIG_FILE, *([index] if index.is_file() else []), *others]:
        shutil.copyfile(other, folder / other.name)


def _changed(weight: Tensor, parts: Mapping[str, Tensor], change: Change) -> Tensor:
    """A weight with an adapter's part merged in, in the weight's precision.

    With a magnitude, each output's weights have that length (DoRA, Liu et al. 2024,
    arXiv:2402.09353).
    """
    start = parts.get("whole", weight)
    if "A" not in parts:
        return start.to(weight.dtype)
    exact = torch.promote_types(weight.dtype, torch.float32)
    product = (parts["B"].to(exact) @ parts["A"].to(exact)) * change.scale
    whole = (start.T if change.is_transposed else start).to(exact) + product
    if "magnitude" in parts:
        length = torch.linalg.norm(whole, dim=1)
        whole = whole * (parts["magnitude"].to(exact).flatten() / length)[:, None]
    return (whole.T if change.is_transposed else whole).to(weight.dtype).contiguous()
