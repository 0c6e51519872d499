"""Checks of a model folder's files before anything is built from them.

A configuration is not trusted. A number too large in it makes building the model take all memory or
not end; a wrong one makes the model wrong; a name can make the library fetch code or files of
others. All of that shows in ``config.json``, the tokenizer's settings and the headers of the
weights. Only these are read: nothing is run, nothing of a claimed size is allocated.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from telltale.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CONFIG_FILE = "config.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
LONGEST_HEADER = 100_000_000  # bytes; the format's own bound

LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
MOST_LAYERS = 1000  # of a part that is not the decoder, whose weights may be absent
LONGEST_LENGTH = 2**27  # tokens; ten times the longest context known
SIZES = (
    *("hidden_size", "vocab_size", "intermediate_size", "head_dim", "n_embd", "n_embed", "n_inner"),
    *("d_model", "d_ff", "ffn_dim", "ffn_hidden_size", "num_attention_heads", "n_head", "n_heads"),
    *("num_key_value_heads", "num_kv_heads", "embedding_size", "word_embed_proj_dim"),
    *("moe_intermediate_size", "v_head_dim", "qk_nope_head_dim", "qk_rope_head_dim"),
)
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "n_shared_experts")
MOST_LABELS = 1_000_000  # transformers makes a name for each
LARGEST_INTEGER = 2**63 - 1
LARGEST_NUMBER = 1e30  # what is larger is infinite in some precision sooner or later
LARGEST_THETA = 1e15
SMALLEST_EPSILON = 1e-20  # with none, a state of zeros becomes NaN
MAY_BE_INFINITE = "time_step_limit"  # of state-space models: no upper limit
TOKENIZER_CLASS = re.compile(r"\w*(Tokenizer|TokenizerFast|Backend)")


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors named in the headers of weight files, and their total number of elements."""

    names: tuple[str, ...]
    elements: int

    @property
    def most_layers(self) -> int:
        """An upper bound of the number of layers: one more than the largest index in a name."""
        indices = [int(part) for name in self.names for part in name.split(".") if _is_index(part)]
        return 1 + max(indices) if indices else len(self.names)


def check_sound(folder: Path, files: Sequence[Path], name: str, *, trusts_code: bool) -> None:
    """Refuse a folder whose files are inconsistent, invalid or point outside it.

    Args:
        folder: the model's folder.
        files: its weights.
        name: the model's name, for messages.
        trusts_code: the user allows code that the model brings.

    Raises:
        InputError: names the file, what is in it, and what to do.
    """
    config = read_object(folder / CONFIG_FILE, name)
    weights = read_headers(files, name)
    _check_pointers(folder, config, name, trusts_code=trusts_code)
    _check_numbers(config, weights, name)


# The headers of weights


def read_headers(files: Sequence[Path], name: str) -> Weights:
    """The tensors of safetensors files, from their headers alone.

    Raises:
        InputError: a file is cut off or is not one.
    """
    names: list[str] = []
    elements = 0
    for file in files:
        for tensor, count in _read_header(file, name):
            names.append(tensor)
            elements += count
    if not elements:
        raise InputError(f"the weights of {name} hold no numbers; get the model again")
    return Weights(tuple(names), elements)


def _read_header(file: Path, name: str) -> Iterator[tuple[str, int]]:
    """Each tensor's name and number of elements."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 or length > min(LONGEST_HEADER, size - 8):
            raise _damaged(file, name, "it is no safetensors file, or cut off")
        content = opened.read(length)
    try:
        header = json.loads(content)
        entries = [(key, value) for key, value in header.items() if key != "__metadata__"]
        tensors = [(key, value["shape"], value["data_offsets"][1]) for key, value in entries]
    except (ValueError, RecursionError, TypeError, KeyError, IndexError, AttributeError):
        raise _damaged(file, name, "its header cannot be read") from None
    most = 8 * size  # elements, were each a single bit
    for tensor, shape, end in tensors:
        numbers = [*shape, end] if isinstance(shape, list) else [None]
        if not all(isinstance(n, int) and 0 <= n <= most for n in numbers):
            raise _damaged(file, name, "its header is invalid")
        if end > size - 8 - length:
            raise _damaged(file, name, "it is cut off")
        yield tensor, math.prod(shape)


def _damaged(file: Path, name: str, how: str) -> InputError:
    return InputError(f"{file.name} of {name} is damaged: {how}; get the model again")


def _is_index(part: str) -> bool:
    return part.isascii() and part.isdecimal() and len(part) < 9


# What points out of the folder


def _check_pointers(folder: Path, config: dict[str, Any], name: str, *, trusts_code: bool) -> None:
    """Refuse what transformers would follow out of the folder, or past what was hashed."""
    for key in ("configuration_files", "transformers_weights"):
        if config.get(key) is not None:
            raise InputError(
                f"{CONFIG_FILE} of {name} names other files to use in {key!r}; put their content "
                f"in place of {CONFIG_FILE} or model.safetensors and remove {key!r}"
            )
    for found in (inner for inner in _walk(config) if isinstance(inner, dict)):
        for key, value in found.items():
            if key.endswith("_implementation") and any("/" in text for text in _texts(value)):
                raise InputError(
                    f"{CONFIG_FILE} of {name} takes code from outside its folder in {key!r}: "
                    f"{_shown(value)}; remove {key!r}"
                )
    settings = [(CONFIG_FILE, config)]
    for file in (TOKENIZER_CONFIG_FILE, SPECIAL_TOKENS_FILE):
        if (folder / file).exists():
            settings.append((file, read_object(folder / file, name)))
    for file, found in settings:
        _check_code(file, found, name, trusts_code=trusts_code)
        if file != CONFIG_FILE:
            _check_files_named(folder, file, found, name)


def _check_code(file: str, found: dict[str, Any], name: str, *, trusts_code: bool) -> None:
    wanted = found.get("tokenizer_class")
    known = wanted is None or (isinstance(wanted, str) and TOKENIZER_CLASS.fullmatch(wanted))
    if not known and not trusts_code:
        raise InputError(
            f"{file} of {name} names the tokenizer class {_shown(wanted)}, which is none of "
            "transformers' tokenizers; mend 'tokenizer_class'"
        )
    # "org/name--file.Class" is code of another model than the one that was given and hashed.
    if trusts_code and any("--" in text for text in _texts(found.get("auto_map"))):
        raise InputError(
            f"{file} of {name} takes code from another model ({_shown(found['auto_map'])}), and "
            "`trust_remote_code` is for what the model brings itself; put the Python files into "
            "the model's folder and remove all up to -- in 'auto_map'"
        )


def _check_files_named(folder: Path, file: str, found: dict[str, Any], name: str) -> None:
    """Refuse files that the tokenizer would read though they are not the model's.

    Saved tokenizers often hold where they once lay; where transformers does not look there, it
    does no harm.
    """
    harmless = {"special_tokens_map_file"}
    if (folder / "tokenizer.json").exists() and file == TOKENIZER_CONFIG_FILE:
        harmless |= {key for key in found if key != "gguf_file"}
    for key, value in found.items():
        if not key.endswith(("_file", "_files")) or key in harmless:
            continue
        if key == "gguf_file" or not all(map(_is_plain_name, _texts(value))):
            raise InputError(
                f"{file} of {name} names a file outside its folder in {key!r}: {_shown(value)}; "
                f"put the file into the model's folder and remove {key!r}"
            )
    if not all(map(_is_plain_name, _texts(found.get("fast_tokenizer_files")))):
        raise InputError(
            f"{file} of {name} names a file outside its folder in 'fast_tokenizer_files'; remove it"
        )


def _is_plain_name(text: str) -> bool:
    return not re.search(r"[/\\\0]", text) and text not in (".", "..")


# Numbers that make no sense


def _check_numbers(config: dict[str, Any], weights: Weights, name: str) -> None:
    decoder = [config, config.get("text_config")]
    largest = _largest(weights)
    for found in _walk(config):
        if not isinstance(found, dict):
            continue
        of_decoder = any(found is own for own in decoder)
        for key, value in found.items():
            for item in value if isinstance(value, list) else [value]:
                problem = _problem_in_decoder(key, item, found, weights) if of_decoder else None
                problem = problem or _problem(key, item, found, largest)
                if problem is not None:
                    raise InputError(
                        f"{CONFIG_FILE} of {name} says {key!r} is {_shown(item)}, but {problem}; "
                        "get the model again or mend it"
                    )


def _largest(weights: Weights) -> dict[str, int]:
    """The largest value of each setting by which the size of a model grows."""
    return {
        **dict.fromkeys(LAYER_COUNTS, max(weights.most_layers, MOST_LAYERS)),
        **dict.fromkeys(LENGTHS, LONGEST_LENGTH),
        **dict.fromkeys((*SIZES, *EXPERTS), weights.elements),
        "num_labels": MOST_LABELS,
    }


def _problem(
    key: str, value: object, beside: dict[str, Any], largest: dict[str, int]
) -> str | None:
    """What is wrong with a setting wherever it stands, or None."""
    if key == "rope_theta" and value is not None:
        return _unless(_is_number(value, 1, LARGEST_THETA), f"from 1 to {LARGEST_THETA:.0e}")
    if "rope_type" in beside and key.endswith("factor") and value is not None:
        return _unless(_is_number(value, 1e-6, 1e6), "from 1e-6 to 1e6")
    if "eps" in key.split("_") or key.endswith("epsilon"):
        good = value is None or _is_number(value, SMALLEST_EPSILON, 1)
        return _unless(good, f"from {SMALLEST_EPSILON:.0e} to 1")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None if key == MAY_BE_INFINITE and value > 0 else "a setting is a finite number"
    if key in largest and abs(value) > largest[key]:
        return f"with weights such as these it is {largest[key]:,} at most"
    if abs(value) > (LARGEST_INTEGER if isinstance(value, int) else LARGEST_NUMBER):
        return "no setting is as large"
    return None


def _problem_in_decoder(
    key: str, value: object, beside: dict[str, Any], weights: Weights
) -> str | None:
    """What is wrong with a setting of the decoder itself, or None."""
    if key in LAYER_COUNTS and isinstance(value, int) and value > weights.most_layers:
        return f"its weights name {weights.most_layers} layers at most"
    window = key == "sliding_window" and beside.get("use_sliding_window") is not False
    if value is not None and (window or key in (*LAYER_COUNTS, *LENGTHS, *SIZES)):
        good = isinstance(value, int) and not isinstance(value, bool) and value > 0
        return None if good else "it must be a whole number above 0"
    return None


def _unless(good: bool, allowed: str) -> str | None:
    return None if good else f"it must be a number {allowed}"


def _is_number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


# JSON


def read_object(path: Path, name: str) -> dict[str, Any]:
    """Read a model's JSON file, which must hold an object.

    Raises:
        InputError: it is not.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InputError(f"{path.name} of {name} is not a JSON object; get the model again")
    return value


def _walk(value: Any) -> Iterator[Any]:
    """A value and all that it holds, however deep."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        yield found
        if isinstance(found, dict):
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found


def _texts(value: Any) -> list[str]:
    return [found for found in _walk(value) if isinstance(found, str)]


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:80] + "..."
