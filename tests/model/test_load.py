"""What the loader accepts, and the one sentence it says about everything else."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.checkpoint.card import read_card
from model.checkpoint.errors import CheckpointError
from model.checkpoint.fingerprint import weights_sha256
from model.checkpoint.load import load_model
from model.checkpoint.source import resolve
from model.families.registry import CausalLM
from model.interface import EngineError, InvalidRequest
from model.open_engine import choose_device, choose_dtype, open_engine
from model.parity.our_forward import our_logits
from model.parity.random_checkpoint import save_random_persimmon

CPU = torch.device("cpu")
IDS = [3, 1, 4, 1, 5, 9, 2, 6]


def load(folder: Path, dtype: torch.dtype = torch.float32) -> CausalLM:
    return load_model(folder, device=CPU, dtype=dtype)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save_random_persimmon(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A private copy to damage."""
    return Path(shutil.copytree(saved, tmp_path / "checkpoint"))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in (config | changes).items() if v is not ...}))


def test_shards_equal_one_file(saved: Path, tmp_path: Path) -> None:
    save_random_persimmon(tmp_path, shard="60KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 3
    assert torch.equal(our_logits(load(tmp_path), IDS), our_logits(load(saved), IDS))


def test_weights_arrive_in_the_dtype_asked_for(saved: Path) -> None:
    model = load(saved, torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_stored_buffers_are_ignored(folder: Path, saved: Path) -> None:
    change_weights(folder, lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(3)}))
    assert torch.equal(our_logits(load(folder), IDS), our_logits(load(saved), IDS))


def test_the_vocabulary_size_is_read_from_the_weights(folder: Path, saved: Path) -> None:
    change_config(folder, vocab_size=262144)
    assert load(folder).config.vocab_size == 211
    assert torch.equal(our_logits(load(folder), IDS), our_logits(load(saved), IDS))


def test_a_tied_head_may_be_stored_twice_if_equal(tmp_path: Path) -> None:
    save_random_persimmon(tmp_path, tie_word_embeddings=True)
    before = our_logits(load(tmp_path), IDS)
    change_weights(tmp_path, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    assert torch.equal(our_logits(load(tmp_path), IDS), before)
    change_weights(tmp_path, lambda t: t["lm_head.weight"].add_(1))
    with pytest.raises(CheckpointError, match=r"lm_head\.weight, which differs from model\.embed_tokens\.weight"):
        load(tmp_path)


def as_pickles(folder: Path) -> None:
    """Two `.bin` shards instead of the safetensors file, as the Hub's older repositories have them."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    index = {}
    for i, part in enumerate((names[:20], names[20:]), start=1):
        file = f"pytorch_model-0000{i}-of-00002.bin"
        torch.save({name: tensors[name] for name in part}, folder / file)
        index |= dict.fromkeys(part, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "model.safetensors").unlink()


def test_bin_shards_load_without_running_anything(folder: Path, saved: Path) -> None:
    as_pickles(folder)
    assert torch.equal(our_logits(load(folder), IDS), our_logits(load(saved), IDS))
    first = folder / "pytorch_model-00001-of-00002.bin"
    whole = first.read_bytes()
    first.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"pytorch_model-00001-of-00002\.bin cannot be read"):
        load(folder)
    torch.save({"model.embed_tokens.weight": Touch(folder / "touched")}, first)
    with pytest.raises(CheckpointError, match=r"pytorch_model-00001-of-00002\.bin holds more than tensors"):
        load(folder)
    assert not (folder / "touched").exists()
    torch.save([torch.ones(1)], first)
    with pytest.raises(CheckpointError, match="no table of tensors by name"):
        load(folder)


class Touch:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def remove(name: str) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda tensors: tensors.pop(name)


def put(name: str, tensor: torch.Tensor) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda tensors: tensors.update({name: tensor})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            remove("model.layers.1.mlp.dense_4h_to_h.bias"),
            r"lacks the tensor model\.layers\.1\.mlp\.dense_4h_to_h\.bias",
        ),
        (remove("lm_head.weight"), r"lacks the tensor lm_head\.weight"),
        (put("model.extra", torch.ones(1)), r"model\.safetensors holds model\.extra, which has no place"),
        (
            put("model.final_layernorm.weight", torch.ones(47)),
            r"model\.safetensors holds model\.final_layernorm\.weight with shape \[47\] .* asks for \[48\]",
        ),
        (put("lm_head.weight", torch.ones(210, 48)), r"lm_head\.weight with shape \[210, 48\]"),
        (
            put("model.final_layernorm.weight", torch.ones(48, dtype=torch.int8)),
            r"model\.final_layernorm\.weight as I8: only F64, F32, F16, BF16",
        ),
    ],
)
def test_wrong_tensors_are_named(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], object], sentence: str
) -> None:
    change_weights(folder, change)
    with pytest.raises(CheckpointError, match=sentence):
        load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_numbers_that_are_not_finite_are_named(folder: Path, value: float) -> None:
    change_weights(folder, lambda tensors: tensors["model.layers.2.mlp.dense_4h_to_h.weight"][7, 3].fill_(value))
    with pytest.raises(CheckpointError, match=r"holds model\.layers\.2\.mlp\.dense_4h_to_h\.weight with numbers"):
        load(folder)


def test_float16_too_small_for_a_weight_is_named(folder: Path) -> None:
    change_weights(folder, lambda tensors: tensors["lm_head.weight"][7, 3].fill_(1e5))
    load(folder, torch.bfloat16)
    with pytest.raises(CheckpointError, match=r"lm_head\.weight with numbers that are not finite in torch\.float16"):
        load(folder, torch.float16)


def test_cut_files_are_named_with_the_tensor(folder: Path) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for size, sentence in (
        (len(whole) - 1, r"model\.safetensors is cut short: [\w.]+ ends at byte"),
        (len(whole) // 2, r"model\.safetensors is cut short: [\w.]+ ends at byte"),
        (100, "bad header length"),
        (4, "bad header length"),
        (0, "bad header length"),
    ):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=sentence):
            load(folder)


def test_damaged_headers_are_one_sentence(folder: Path) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for place in (8, 9, 40):
        path.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
        with pytest.raises(CheckpointError, match=r"model\.safetensors has a damaged safetensors header"):
            load(folder)


def test_missing_and_moved_shards_are_named(tmp_path: Path) -> None:
    save_random_persimmon(tmp_path, shard="60KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    name, wrong = next((n, f) for n, f in index["weight_map"].items() if f == shards[1].name)
    index["weight_map"][name] = shards[0].name
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=f"{re.escape(shards[0].name)} lacks {re.escape(name)}"):
        load(tmp_path)
    index["weight_map"][name] = wrong
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / wrong).unlink()
    with pytest.raises(CheckpointError, match=f"{re.escape(wrong)} is missing"):
        load(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../outside.safetensors"}}')
    with pytest.raises(CheckpointError, match=r"has no weight_map of \.safetensors file names"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model_type": "gpt2"}, "model_type='gpt2', which is not supported: use one of persimmon, mpt, llama"),
        ({"model_type": ...}, "model_type=None"),
        ({"hidden_size": ...}, "has no hidden_size"),
        ({"hidden_size": "48"}, "hidden_size='48': it must be a positive whole number"),
        ({"num_attention_heads": 5}, "hidden_size=48, which num_attention_heads=5 does not divide"),
        ({"num_key_value_heads": 2}, "num_key_value_heads=2"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0"),
        ({"hidden_act": "mish"}, "hidden_act='mish'"),
        ({"qk_layernorm": "yes"}, "qk_layernorm='yes': it must be true or false"),
        ({"num_hidden_layers": 4}, r"lacks the tensor model\.layers\.3\..* \(and 15 more\)"),
        ({"num_hidden_layers": 2}, r"holds model\.layers\.2\..*, which has no place"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope type 'yarn'"),
        ({"rope_parameters": {"rope_type": "default"}}, "has no rope_theta"),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.1}}, "rotates 1 of 12"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 0.5}}, "factor=0.5"),
    ],
)
def test_bad_configs_name_the_key(folder: Path, changes: dict[str, object], sentence: str) -> None:
    change_config(folder, **changes)
    with pytest.raises(CheckpointError, match=sentence):
        load(folder)


def test_folders_that_are_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read as JSON"):
        load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "persimmon"}')
    with pytest.raises(CheckpointError, match=r"has no weights: it needs model\.safetensors"):
        load(tmp_path)


def test_sources(saved: Path, tmp_path: Path) -> None:
    assert resolve(str(saved)).folder == saved.resolve()
    with pytest.raises(CheckpointError, match="neither a folder here nor a Hub id"):
        resolve(str(tmp_path / "absent"))
    with pytest.raises(CheckpointError, match="only Hub ids have one"):
        resolve(str(saved), revision="main")
    with pytest.raises(CheckpointError, match="is a file"):
        resolve(str(saved / "config.json"))
    with pytest.raises(CheckpointError, match="the Hub cannot be reached"):  # the tests run offline
        resolve("adept/persimmon-8b-chat")


def test_the_fingerprint_follows_the_content(folder: Path, saved: Path) -> None:
    assert weights_sha256(folder) == weights_sha256(saved)
    change_weights(folder, lambda tensors: tensors["lm_head.weight"].mul_(2))
    assert weights_sha256(folder) != weights_sha256(saved)


def test_cards(tmp_path: Path) -> None:
    assert read_card(tmp_path, name="adept/persimmon-8b-chat").licence == "cc-by-nc-4.0"
    assert read_card(tmp_path, name="x").licence is None
    (tmp_path / "README.md").write_text("---\nlicense: mit\nnotice: Only a demonstration.\n---\n# Title\n")
    card = read_card(tmp_path, name="x")
    assert (card.licence, card.notice) == ("mit", "Only a demonstration.")
    (tmp_path / "README.md").write_text("---\n- a: [\n---\n")
    with pytest.raises(CheckpointError, match="front matter"):
        read_card(tmp_path, name="x")


def test_a_tokenizer_larger_than_the_weights_is_refused(random_checkpoint: Path, tmp_path: Path) -> None:
    save_random_persimmon(tmp_path, vocab_size=100)
    shutil.copy(random_checkpoint / "tokenizer.model", tmp_path)
    with pytest.raises(CheckpointError, match="do not belong together"):
        open_engine(str(tmp_path))


def test_devices_and_dtypes() -> None:
    assert choose_dtype("auto", CPU) == torch.float32
    assert choose_dtype("auto", torch.device("cuda", 0)) == torch.bfloat16
    assert choose_device("cpu") == CPU
    with pytest.raises(InvalidRequest, match="device='tpu'"):
        choose_device("tpu")
    with pytest.raises(InvalidRequest, match="device='cuda:99' is not there"):
        choose_device("cuda:99")
    with pytest.raises(InvalidRequest, match="dtype='int8'"):
        choose_dtype("int8", CPU)


def test_options_are_checked(random_checkpoint: Path) -> None:
    with pytest.raises(InvalidRequest, match="max_num_requests=0"):
        open_engine(str(random_checkpoint), max_num_requests=0)
    with pytest.raises(InvalidRequest, match="max_num_batched_tokens=3"):
        open_engine(str(random_checkpoint), max_num_batched_tokens=3)
    with pytest.raises(EngineError, match=r"the KV cache needs .* GB and .* GB may be used"):
        open_engine(str(random_checkpoint), kv_cache_tokens=10**12)


@pytest.mark.slow
def test_peak_memory_is_the_model_and_one_shard(tmp_path: Path) -> None:
    """The resident set while loading a 300 MB checkpoint in shards, in a process of its own, after
    a small one has made torch load what it needs."""
    import subprocess
    import sys

    small, large = tmp_path / "small", tmp_path / "large"
    save_random_persimmon(small)
    save_random_persimmon(
        large, vocab_size=30_000, hidden_size=512, num_hidden_layers=14, intermediate_size=2048, shard="20MB"
    )
    stored = sum(file.stat().st_size for file in large.glob("*.safetensors"))
    program = (
        "import sys, torch; from pathlib import Path; from model.checkpoint.load import load_model\n"
        "rss = lambda: int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) * 1024\n"
        "load = lambda path: load_model(Path(path), device=torch.device('cpu'), dtype=torch.bfloat16)\n"
        "load(sys.argv[1]); before = rss(); model = load(sys.argv[2])\n"
        "print(rss() - before, sum(p.nbytes for p in model.parameters()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(small), str(large)], capture_output=True, text=True, check=True
    )
    peak, model = map(int, done.stdout.split())
    assert 2 * model == pytest.approx(stored, rel=0.01)
    # beyond the model: one mapped shard (the largest, 61 MB, is the embedding) and the slice in hand
    assert peak < model + 61e6 + 32e6, (peak, model)
