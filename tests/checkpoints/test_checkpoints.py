"""A written checkpoint is the measured path, or it is not there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

import telltale
from telltale.checkpoints import export, reload_check
from telltale.checkpoints import verify as verify_module
from telltale.checkpoints import write as checkpoint_module
from telltale.checkpoints.carry import Carried, carry_adapter
from telltale.checkpoints.config import DEPTHS, shallower_config
from telltale.checkpoints.verify import verify_checkpoint
from telltale.checkpoints.write import write_checkpoint
from telltale.cli.commands import main
from telltale.errors import InputError, TelltaleError, UnsupportedModelError
from telltale.models import tensors
from telltale.models.source import resolve_model
from telltale.paths import LayerPath
from telltale.study import read_study
from telltale.study.picking import picked_from
from tests import tiny
from tests.adapters import load, quiet_peft, save_adapter

CPU = torch.device("cpu")
PATH = LayerPath((0, 2, 3, 5), 6)


@pytest.fixture(scope="module")
def study(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "study"
    telltale.search(
        str(tiny_folder),
        "capitals",
        out=folder,
        limit=40,
        held_out=30,
        tolerance=0.5,
        max_removed=3,
    )
    return folder


@pytest.fixture
def same_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reload in this process: without the seconds that a fresh one takes to import torch."""

    def reload(
        checkpoint: Path, probe: Path, device: torch.device, *adapter: Path
    ) -> dict[str, Any]:
        with quiet_peft():
            return reload_check.check(*map(str, (checkpoint, probe, device, *adapter)))

    monkeypatch.setattr(verify_module, "_reload", reload)


@pytest.mark.usefixtures("same_process")
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_checkpoint_is_verified_past_every_window(family: str, tmp_path: Path) -> None:
    source = resolve_model(str(tiny.save(tmp_path / "whole", family)))
    write_checkpoint(source, PATH, tmp_path / "smaller")
    verified = verify_checkpoint(tmp_path / "smaller", source, PATH, "float32", CPU)
    assert verified.tokens >= tiny.WINDOW + verify_module.COMPARED
    assert verified.logit_difference <= 1e-5
    assert verified.cache_difference <= 1e-4


@pytest.mark.usefixtures("same_process")
@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("change", [0.0, 1e-3])
def test_sums_that_differ_from_process_to_process_are_no_defect_and_hide_none(
    family: str, change: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by 3e-5 in float32, on a processor whose kernels do so; and a weight that is another."""
    source = resolve_model(str(tiny.save(tmp_path / "whole", family)))
    write_checkpoint(source, PATH, tmp_path / "smaller")
    file = tmp_path / "smaller" / "model.safetensors"
    weights = load_file(file)
    next(one for name, one in weights.items() if "mlp" in name).view(-1)[0] += change
    save_file(weights, file, {"format": "pt"})
    save, saved = verify_module.save_tensors, []

    def noisy(tensors: dict[str, torch.Tensor], path: Path) -> None:
        saved.append(tensors["logits"].dtype)
        if saved[-1] == torch.float32:
            tensors = tensors | {"logits": tensors["logits"] + 3e-5}
        save(tensors, path)

    monkeypatch.setattr(verify_module, "save_tensors", noisy)
    if change:
        with pytest.raises(TelltaleError, match="its logits differ"):
            verify_checkpoint(tmp_path / "smaller", source, PATH, "float32", CPU)
    else:
        verified = verify_checkpoint(tmp_path / "smaller", source, PATH, "float32", CPU)
        assert verified.logit_difference <= 1e-5
    assert saved == [torch.float32, torch.float64]


def test_it_loads_where_telltale_was_never_installed(tmp_path: Path) -> None:
    source = resolve_model(str(tiny.save(tmp_path / "whole")))
    write_checkpoint(source, PATH, tmp_path / "smaller")
    program = (
        "import sys; sys.modules['telltale'] = None\n"  # as if it were not there
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        f"model = AutoModelForCausalLM.from_pretrained({str(tmp_path / 'smaller')!r})\n"
        f"tokens = AutoTokenizer.from_pretrained({str(tmp_path / 'smaller')!r})"
        "('Question: Is it?', return_tensors='pt')\n"
        "out = model.generate(**tokens, max_new_tokens=5, min_new_tokens=5, use_cache=True)\n"
        "print(model.config.num_hidden_layers, out.shape[1] - tokens['input_ids'].shape[1])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["4", "5"]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "llama"}, {}),
        ({"model_type": "llama", "rope_theta": 5.0, "eos_token_id": [1, 2, 3, 4, 5, 6]}, {}),
        (
            {"model_type": "mistral", "layer_types": list("abcdef")},
            {"layer_types": ["a", "c", "d", "f"]},
        ),
        ({"model_type": "qwen2", "max_window_layers": 3}, {"max_window_layers": 2}),
        ({"model_type": "qwen2", "max_window_layers": 28}, {"max_window_layers": 4}),
        ({"model_type": "qwen3", "max_window_layers": 1}, {"max_window_layers": 1}),
        ({"model_type": "qwen3"}, {"max_window_layers": 4}),
        ({"model_type": "qwen3", "max_window_layers": None}, {}),
        (
            {"model_type": "gemma3_text", "layer_types": list("abcdef")},
            {"layer_types": ["a", "c", "d", "f"]},
        ),
    ],
)
def test_a_configuration_is_right_for_the_layers_that_are_left(
    config: dict[str, Any], expected: dict[str, Any]
) -> None:
    config = {"num_hidden_layers": 6, **config}
    assert shallower_config(config, PATH) == {**config, "num_hidden_layers": 4, **expected}


@pytest.mark.parametrize("depths", [["n_layer"], ["num_hidden_layers"], list(DEPTHS)])
def test_the_depth_is_written_under_every_name_it_is_read_from(depths: list[str]) -> None:
    config = {"model_type": "gpt2", **dict.fromkeys(depths, 6)}
    assert shallower_config(config, PATH) == {"model_type": "gpt2", **dict.fromkeys(depths, 4)}


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"sliding_window_pattern": 2},
        {"sliding_window_pattern": 3, "layer_types": None},
        {"_sliding_window_pattern": 3},
        {"_sliding_window_pattern": 3, "layer_types": ["full_attention", "sliding_attention"] * 3},
    ],
)
def test_windows_that_follow_from_a_period_are_written_for_each_layer(said: dict[str, Any]) -> None:
    """As transformers itself reads the same file, and with nothing left that says otherwise."""
    config = {"model_type": "gemma3_text", "num_hidden_layers": 6, **said}
    types = AutoConfig.for_model(**config).layer_types
    assert shallower_config(config, PATH) == {
        "model_type": "gemma3_text",
        "num_hidden_layers": 4,
        "layer_types": [types[layer] for layer in PATH.kept],
    }


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "bloom"}, "'bloom' cannot be exported, only llama, .*falcon: .*not known"),
        ({"model_type": "gemma3", "text_config": {}}, "'gemma3' .*; search and export a text-only"),
        ({}, "type None cannot be exported"),
        (
            {"model_type": "llama", "num_hidden_layers": 7},
            "says num_hidden_layers 7 where the path",
        ),
        ({"model_type": "gpt2", "n_layer": 7}, "num_hidden_layers 6 and n_layer 7 where the path"),
        ({"model_type": "llama", "layer_scale": [1] * 6}, "'layer_scale', one entry a layer"),
        ({"model_type": "llama", "quantization_config": {"bits": 4}}, "is quantised"),
        ({"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": True}, "the layer's place"),
        ({"model_type": "gpt2", "pruned_heads": {"3": [0]}}, "heads were pruned"),
    ],
)
def test_what_cannot_be_written_is_refused_with_the_reason(
    config: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        shallower_config({"num_hidden_layers": 6, **config}, PATH)


def test_a_configuration_that_says_no_depth_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="says no number of layers where"):
        shallower_config({"model_type": "falcon"}, PATH)


def test_what_refuses_nothing_when_it_is_off_refuses_nothing() -> None:
    off = {"scale_attn_by_inverse_layer_idx": False, "pruned_heads": {}}
    config = {"model_type": "gpt2", "n_layer": 6, **off}
    assert shallower_config(config, PATH) == {**config, "n_layer": 4}


@pytest.mark.usefixtures("same_process")
def test_files_in_shards_keep_their_index(tmp_path: Path) -> None:
    tiny.build("llama").save_pretrained(tmp_path / "whole", max_shard_size="60KB")
    tiny.tokenizer().save_pretrained(tmp_path / "whole")
    assert len(list((tmp_path / "whole").glob("*.safetensors"))) > 2
    source = resolve_model(str(tmp_path / "whole"))
    write_checkpoint(source, PATH, tmp_path / "smaller")
    index = json.loads((tmp_path / "smaller" / "model.safetensors.index.json").read_text())
    size = 0
    for name, file in index["weight_map"].items():
        tensor = load_file(tmp_path / "smaller" / file)[name]
        size += tensor.numel() * tensor.element_size()
    assert index["metadata"]["total_size"] == size
    verify_checkpoint(tmp_path / "smaller", source, PATH, "float32", CPU)


@pytest.mark.usefixtures("same_process")
@pytest.mark.parametrize("dtype", ["bfloat16"])
def test_weights_may_be_converted(tmp_path: Path, dtype: str) -> None:
    source = resolve_model(str(tiny.save(tmp_path / "whole")))
    write_checkpoint(source, PATH, tmp_path / "smaller", dtype)
    weights = load_file(tmp_path / "smaller" / "model.safetensors")
    assert {str(w.dtype) for w in weights.values()} == {f"torch.{dtype}"}
    assert verify_checkpoint(tmp_path / "smaller", source, PATH, dtype, CPU).dtype == dtype
    with pytest.raises(InputError, match=r"`dtype` must be .*, got 'int3'"):
        write_checkpoint(source, PATH, tmp_path / "other", "int3")


@pytest.mark.usefixtures("same_process")
def test_a_study_is_exported_with_its_recipe(
    study: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    done = telltale.export(study, pick=2, to=tmp_path / "smaller")
    result = json.loads((study / "result.json").read_text(encoding="utf-8"))
    removed = [r["removed"] for r in result["rounds"]][:2]
    recipe = json.loads((tmp_path / "smaller" / "recipe.json").read_text(encoding="utf-8"))
    assert (list(done.removed), done.layers) == (removed, 4)
    assert recipe["layers_removed"] == removed
    assert sorted(recipe["layers_removed"] + recipe["layers_kept"]) == list(range(6))
    assert recipe["model"]["sha256"] == resolve_model(str(tiny_folder)).sha256
    assert recipe["task"]["name"] == "capitals"
    assert recipe["evidence"]["baseline_held_out"] == result["baseline"]["held_out"]
    whole = result["baseline"]["text_perplexity"]
    assert recipe["evidence"]["baseline_text_perplexity"] == whole
    assert recipe["evidence"]["cautions"] == result["cautions"]
    assert recipe["verified"]["logit_difference"] <= 1e-5
    assert str(tmp_path) not in json.dumps(recipe)
    names = {file.name for file in (tmp_path / "smaller").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "recipe.json"} <= names
    assert {file.stat().st_mode & 0o044 for file in (tmp_path / "smaller").iterdir()} == {0o044}


@pytest.mark.parametrize("pick", ["0", "4", "-1", "worst", "1.5", ""])
def test_a_pick_that_the_study_has_not_is_refused(study: Path, tmp_path: Path, pick: str) -> None:
    with pytest.raises(InputError, match=r"give best, .*fastest_safe or a number of .*, 1-3"):
        telltale.export(study, pick=pick, to=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_nothing_removed_is_refused_with_what_to_pick_instead(study: Path) -> None:
    result = read_study(study).result
    assert result is not None
    names = [tuple(name for name in one.names if name != "best") for one in result.models]
    models = [replace(one, names=own) for one, own in zip(result.models, names, strict=True)]
    models[0] = replace(models[0], names=("best", *names[0]))
    with pytest.raises(InputError, match=r"best is the whole model.*1-3"):
        picked_from(replace(result, models=tuple(models)), "best")
    with pytest.raises(InputError, match="larger `tolerance`"):
        picked_from(replace(result, models=tuple(models[:1])), "1")


def test_a_folder_that_is_not_empty_is_left_alone(study: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="not an empty folder"):
        telltale.export(study, pick=1, to=tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


@pytest.mark.usefixtures("same_process")
def test_an_empty_folder_is_taken(study: Path, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    telltale.export(study, pick=1, to=tmp_path / "x")
    assert (tmp_path / "x" / "config.json").is_file()


def test_a_model_that_has_changed_since_is_refused(tmp_path: Path, tiny_folder: Path) -> None:
    model = shutil.copytree(tiny_folder, tmp_path / "model")
    telltale.search(
        str(model),
        "capitals",
        out=tmp_path / "s",
        limit=20,
        held_out=20,
        max_removed=1,
        tolerance=1,
    )
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * 2
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="has changed since the search"):
        telltale.export(tmp_path / "s", pick=1, to=tmp_path / "x")


def test_an_unfinished_study_is_refused(tmp_path: Path) -> None:
    from telltale.study.records import open_records

    with open_records(tmp_path / "s", write=True):
        pass
    with pytest.raises(InputError, match="is not finished"):
        telltale.export(tmp_path / "s", to=tmp_path / "x")


@pytest.mark.usefixtures("same_process")
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("swap", "its logits differ from the measured path's"),
        ("lose", "it lacks weights"),
        ("config", "its layers are 3, not 4|holds unused weights"),
    ],
)
def test_a_checkpoint_that_is_not_the_path_is_never_called_done(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, message: str
) -> None:
    """Each way in which writing could go wrong is seen by the verification."""
    write = checkpoint_module.write_checkpoint

    def damaged(source: Any, path: LayerPath, folder: Path, dtype: str | None = None) -> None:
        write(source, path, folder, dtype)
        file = folder / "model.safetensors"
        weights = load_file(file)
        one, two = "model.layers.1.mlp.up_proj.weight", "model.layers.2.mlp.up_proj.weight"
        if damage == "swap":
            weights[one], weights[two] = weights[two], weights[one]
        elif damage == "lose":
            del weights[one]
        elif damage == "config":
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
        save_file(weights, file, metadata={"format": "pt"})

    monkeypatch.setattr("telltale.checkpoints.export.write_checkpoint", damaged)
    with pytest.raises(TelltaleError, match=message):
        telltale.export(study, pick=2, to=tmp_path / "out" / "x")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_checkpoint_that_does_not_load_is_never_called_done(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def garbled(source: Any, path: LayerPath, folder: Path, dtype: str | None = None) -> None:
        write_checkpoint(source, path, folder, dtype)
        (folder / "model.safetensors").write_bytes(b"nothing of the kind")

    monkeypatch.setattr("telltale.checkpoints.export.write_checkpoint", garbled)
    with pytest.raises(TelltaleError, match="does not load in plain transformers"):
        telltale.export(study, pick=2, to=tmp_path / "out" / "x")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.usefixtures("same_process")
@pytest.mark.parametrize("file", ["model.safetensors", "probe.safetensors"])
def test_a_full_disk_is_told_and_leaves_nothing_behind(
    study: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    file: str,
) -> None:
    """As safetensors tells it: in words, with the system's number at the end."""
    save = tensors.save_file

    def full(tensors: Any, path: Path, **more: Any) -> None:
        if path.name == file:
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        save(tensors, path, **more)

    monkeypatch.setattr(tensors, "save_file", full)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["export", str(study), "--pick", "1", "--to", str(tmp_path / "out" / "x")])
    err = capsys.readouterr().err
    assert ended.value.code == 1
    assert f"{file}: No space left on device; make room" in err
    assert len(err.splitlines()) == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_the_fresh_process_imports_no_telltale() -> None:
    program = Path(verify_module.__file__).with_name("reload_check.py").read_text(encoding="utf-8")
    assert "import telltale" not in program
    assert "from telltale" not in program


def test_weights_under_other_names_are_refused(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "whole")
    weights = load_file(folder / "model.safetensors")
    renamed = {name.replace("model.layers.", "blocks."): w for name, w in weights.items()}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnsupportedModelError, match="hold no layer 0"):
        write_checkpoint(resolve_model(str(folder)), PATH, tmp_path / "x")


# telltale export --carry


@pytest.fixture(scope="module")
def lora(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(tiny_folder, tmp_path_factory.mktemp("carry") / "lora")


@pytest.mark.usefixtures("same_process")
def test_an_export_carries_an_adapter_and_verifies_it(
    study: Path, lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    options = ["--pick", "2", "--to", str(tmp_path / "out"), "--carry", str(lora)]
    with pytest.raises(SystemExit) as ended:
        main(["export", str(study), *options])
    assert not ended.value.code
    out = " ".join(capsys.readouterr().out.split())
    recipe = json.loads((tmp_path / "out/recipe.json").read_text())
    told = recipe["adapter"]
    assert "for 8 modules; dropped with layers" in out
    assert all(name in out for name in told["dropped"])
    assert "with peft, its logits differ" in out
    assert told["folder"] == "adapter"
    assert told["dropped_layers"] == sorted(recipe["layers_removed"])
    assert 0 <= told["verified"]["logit_difference"] <= 1e-5
    adapter = tmp_path / "out/adapter"
    named = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == str(tmp_path / "out")
    # What was written down of the checkpoint is what is found of it, and of no other.
    assert resolve_model(str(tmp_path / "out"), adapter=adapter).adapter
    with pytest.raises(InputError, match="trained on 'out', whose bytes are not"):
        resolve_model(read_study(study).asked["model"]["given"], adapter=adapter)  # type: ignore[index]
    # Plain transformers does not take the adapter beside it for a part of the checkpoint.
    assert not any("lora" in name for name in load(tmp_path / "out").state_dict())


@pytest.mark.slow
def test_a_carried_adapter_is_verified_in_a_fresh_process(
    study: Path, lora: Path, tmp_path: Path
) -> None:
    exported = telltale.export(study, pick=2, to=tmp_path / "good", carry=lora)
    assert exported.carried is not None
    assert exported.carried.adapter.folder == tmp_path / "good/adapter"
    assert exported.carried.verification.logit_difference <= 1e-5


@pytest.mark.usefixtures("same_process")
def test_an_adapter_that_is_carried_wrongly_leaves_nothing_behind(
    study: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(adapter: Path, path: LayerPath, to: Path, **more: Any) -> Carried:
        return carry_adapter(adapter, LayerPath(tuple(range(path.depth)), path.total), to, **more)

    monkeypatch.setattr(export, "carry_adapter", wrong)
    with pytest.raises(TelltaleError, match="its logits differ from the measured path's"):
        telltale.export(study, pick=2, to=tmp_path / "bad", carry=lora)
    assert not list(tmp_path.iterdir())


def test_an_adapter_of_another_model_is_refused_before_anything_is_written(
    study: Path, tmp_path: Path
) -> None:
    save_adapter(tiny.save(tmp_path / "other", hidden_size=64), tmp_path / "lora")
    with pytest.raises(InputError, match="is not of this model"):
        telltale.export(study, pick=2, to=tmp_path / "out", carry=tmp_path / "lora")
    assert not (tmp_path / "out").exists()
