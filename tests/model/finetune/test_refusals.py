"""What fine-tuning refuses, each with one sentence and no folder left behind; and documents that do not fit a row."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import tiny_settings, write_examples, write_tiny

from model.checkpoint.errors import CheckpointError
from model.finetune import prepare_model, run
from model.finetune.documents import DataError
from model.finetune.loss_curve import Diverged
from model.finetune.prepare_model import load_for_training
from model.finetune.settings import MAX_SEED, FinetuneSettings, SettingsError
from model.interface import EngineError
from model.parity.random_checkpoint import save_random_mpt_by_definition

pytestmark = pytest.mark.usefixtures("no_pictures")

BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    (
        {"dtype": "float16"},
        "dtype='float16' is not allowed in training: squared ReLU leaves float16's range at inputs of ",
    ),
    ({"dtype": "float8"}, "dtype='float8' is not allowed: use bfloat16 or float32"),
    ({"method": "qlora"}, "method='qlora' is not allowed: use lora or full"),
    ({"optimizer": "sgd"}, "optimizer='sgd' is not allowed: use adamw or adafactor or muon"),
    ({"data_format": "alpaca"}, "data_format='alpaca' is not allowed: use chat or plain"),
    ({"too_long": "cut"}, "too_long='cut' is not allowed: use refuse or skip or truncate"),
    ({"device": "cuda:7"}, "device='cuda:7' is not allowed: use auto or cpu or cuda"),
    (
        {"rows_per_step": 6, "rows_at_once": 4},
        "rows_per_step=6 is not allowed: it must be a multiple of rows_at_once=4",
    ),
    *[
        ({name: 0}, f"{name}=0 is not allowed: it must be at least 1")
        for name in ("row_length", "rows_per_step", "rows_at_once", "epochs", "max_steps", "lora_rank", "log_every")
    ],
    ({"save_every": 0}, "save_every=0 is not allowed: it must be at least 1"),
    *[
        ({name: value}, f"{name}={value} is not allowed: it must be above 0")
        for name in ("learning_rate", "matrix_learning_rate", "max_grad_norm", "lora_alpha")
        for value in (0.0, -1.0, math.inf, math.nan)
    ],
    *[
        ({name: value}, f"{name}={value} is not allowed: it must be 0 or more")
        for name in ("prompt_weight", "weight_decay")
        for value in (-1.0, math.inf, math.nan)
    ],
    ({"warm_up_steps": -1}, "warm_up_steps=-1 is not allowed: it must be 0 or more"),
    ({"decay_steps": -1}, "decay_steps=-1 is not allowed: it must be 0 or more"),
    ({"lora_dropout": 1.0}, "lora_dropout=1.0 is not allowed: it must be at least 0 and below 1"),
    ({"last_fraction": 1.5}, "last_fraction=1.5 is not allowed: it must be from 0 to 1"),
    ({"seed": -1}, f"seed=-1 is not allowed: it must be from 0 to {MAX_SEED}"),
    ({"seed": MAX_SEED + 1}, f"seed={MAX_SEED + 1} is not allowed"),
    (
        {"learning_rate_of": {"": 1.0}},
        "learning_rate_of==1.0 is not allowed: give a part of a parameter's name and a rate",
    ),
    ({"learning_rate_of": {"norm": -1.0}}, "learning_rate_of=norm=-1.0 is not allowed"),
]


@pytest.mark.parametrize(("changes", "sentence"), BAD_SETTINGS, ids=[str(changes) for changes, _ in BAD_SETTINGS])
def test_settings_have_rules(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as raised:
        FinetuneSettings(checkpoint="x", data=Path("x.jsonl"), output=Path("x"), **changes)
    assert str(raised.value).startswith(sentence)
    assert "\n" not in str(raised.value)


def test_the_reason_against_float16_is_true() -> None:
    squared = torch.tensor([255.0, 256.0], dtype=torch.float16).square()
    assert squared.isfinite().tolist() == [True, False]
    assert torch.tensor([6e-8, 2e-8], dtype=torch.float16).tolist()[1] == 0.0


def refused(settings: FinetuneSettings, kind: type[EngineError], sentence: str) -> None:
    """`sentence` is a pattern that the whole text begins with."""
    with pytest.raises(kind) as raised:
        run.finetune(settings)
    said = str(raised.value)
    assert re.match(sentence, said), said
    assert "\n" not in said


@pytest.fixture
def settings(checkpoints: dict[str, Path], tmp_path: Path) -> FinetuneSettings:
    return tiny_settings(checkpoints["persimmon"], tmp_path)


def changed(settings: FinetuneSettings, **changes: Any) -> FinetuneSettings:
    return tiny_settings(Path(settings.checkpoint), settings.data.parent, **changes)


def test_an_output_that_is_there(settings: FinetuneSettings) -> None:
    settings.output.mkdir()
    refused(settings, SettingsError, r"output='.*tuned' is there already: choose another folder or remove it")
    assert not list(settings.output.iterdir())


def test_no_such_device(settings: FinetuneSettings) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    refused(
        changed(settings, device="cuda"), SettingsError, "device='cuda' is not there: this machine has no CUDA device"
    )
    assert not settings.output.with_name("tuned.training").exists()


def test_rows_for_all_processes(settings: FinetuneSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    sentence = "rows_per_step=2 is not allowed: it must be a multiple of rows_at_once=1 times 3 processes"
    refused(settings, SettingsError, sentence)


def test_no_such_checkpoint(settings: FinetuneSettings, tmp_path: Path) -> None:
    refused(
        tiny_settings(tmp_path / "none", tmp_path), CheckpointError, ".*none' is neither a folder here nor a Hub id"
    )


def test_no_data(settings: FinetuneSettings, tmp_path: Path) -> None:
    refused(changed(settings, data=tmp_path / "none.jsonl"), DataError, ".*none.jsonl is not there: check the path")
    refused(changed(settings, validation=tmp_path / "none.csv"), DataError, ".*none.csv is not there: check the path")
    wrong = tmp_path / "data.txt"
    wrong.write_text("x")
    refused(changed(settings, data=wrong), DataError, r".*data.txt is neither \.jsonl nor \.csv")


def test_a_checkpoint_without_end_of_document(tmp_path: Path) -> None:
    base = write_tiny("llama", tmp_path / "base")
    (base / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"eos_token_id": None}))
    refused(tiny_settings(base, tmp_path), CheckpointError, "config.json has no eos_token_id, with which documents end")


def test_a_checkpoint_without_tokenizer(tmp_path: Path) -> None:
    base = write_tiny("mpt", tmp_path / "base")
    (base / "tokenizer.json").unlink()
    refused(tiny_settings(base, tmp_path), CheckpointError, ".* has no tokenizer: put a tokenizer.json")


@pytest.mark.parametrize("lost", [r"layernorm\.weight", "embed_tokens", "lm_head"])
def test_hugging_face_may_not_invent_weights(lost: str, tmp_path: Path) -> None:
    """It would fill what a file lacks with random numbers, with a warning only."""
    base = write_tiny("persimmon", tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not re.search(lost, name)}
    assert len(kept) < len(tensors)
    save_file(kept, base / "model.safetensors", metadata={"format": "pt"})
    refused(tiny_settings(base, tmp_path), CheckpointError, ".*lacks the tensor")


def test_a_tokenizer_of_another_checkpoint(tmp_path: Path) -> None:
    base = write_tiny("persimmon", tmp_path / "base", vocab_size=300, bos_token_id=3, eos_token_id=3)
    refused(tiny_settings(base, tmp_path), CheckpointError, r".* has ids up to \d+ but the weights only 300 rows")


def test_a_trimmed_vocabulary_is_the_weights(tmp_path: Path) -> None:
    """Derivatives exist whose config still says 262,144."""
    base = write_tiny("llama", tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"vocab_size": 262_144}))
    settings = tiny_settings(base, tmp_path, max_steps=1)
    assert run.finetune(settings).finished
    assert json.loads((settings.output / "config.json").read_text())["vocab_size"] == config["vocab_size"]


MPT_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"attn_config": {"alibi_bias_max": 4}}, "alibi_bias_max"),
    ({"attn_config": {"alibi": False}}, "alibi"),
    ({"attn_config": {"qk_ln": True}}, "qk_ln"),
    ({"no_bias": False}, "no_bias"),
    ({"logit_scale": 0.5}, "logit_scale"),
    ({"logit_scale": "inv_sqrt_d_model"}, "logit_scale"),
    ({"expansion_ratio": 2}, "expansion_ratio"),
]


@pytest.mark.parametrize(("options", "name"), MPT_OPTIONS, ids=[str(options) for options, _ in MPT_OPTIONS])
def test_mpt_options_that_hugging_face_ignores(options: dict[str, Any], name: str, tmp_path: Path) -> None:
    save_random_mpt_by_definition(tmp_path, options)
    settings = tiny_settings(tmp_path, tmp_path, row_length=64)
    sentence = f"config.json sets {name}, which Hugging Face's MPT class ignores, so another model would be trained"
    with pytest.raises(CheckpointError, match=sentence):
        load_for_training(tmp_path, settings, torch.device("cpu"))


def test_rows_longer_than_mpt_takes(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    sentence = "row_length=257 is not allowed: Hugging Face's MPT class takes at most max_seq_len=256 of config.json"
    refused(tiny_settings(checkpoints["mpt"], tmp_path, row_length=257), SettingsError, sentence)


@pytest.mark.parametrize(
    ("optimizer", "method", "fits"),
    [("adamw", "full", False), ("muon", "full", False), ("adafactor", "full", True), ("adamw", "lora", True)],
)
def test_memory_is_counted_before_the_weights_are_loaded(
    optimizer: str,
    method: str,
    fits: bool,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = tiny_settings(checkpoints["llama"], tmp_path, optimizer=optimizer, method=method)
    parameters = sum(tensor.numel() for tensor in load_file(checkpoints["llama"] / "model.safetensors").values())

    class Card:
        total_memory = 12 * parameters

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Card)
    monkeypatch.setattr(prepare_model.AutoModelForCausalLM, "from_pretrained", loaded)
    with pytest.raises(Loaded if fits else SettingsError) as raised:
        load_for_training(checkpoints["llama"], settings, torch.device("cuda"))
    if not fits:
        assert "method='full' is not possible here: weights, gradients and the state of" in str(raised.value)


class Loaded(Exception):
    """The weights would be loaded now."""


def loaded(*values: object, **named: object) -> None:
    raise Loaded


def test_documents_longer_than_a_row(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    long = {"prompt": "a", "answer": "q w e r t y u i o p " * 3}
    lost = {"prompt": "q w e r t y u i o p " * 3, "answer": "a"}  # cut off before its answer
    rows = write_examples(tmp_path / "rows.jsonl", [{"prompt": "a", "answer": "b"}, long, lost])
    base = checkpoints["persimmon"]
    sentence = (
        r".*rows\.jsonl, document 2 has \d+ tokens but a row only 32: raise row_length, or choose too_long=skip or"
    )
    refused(tiny_settings(base, tmp_path, data=rows, row_length=32), DataError, sentence)
    counts = {}
    for too_long in ("skip", "truncate"):
        output = tmp_path / too_long
        options = {"data": rows, "row_length": 32, "too_long": too_long, "max_steps": 1, "output": output}
        assert run.finetune(tiny_settings(base, tmp_path, **options)).finished
        counts[too_long] = json.loads((output / "finetune.json").read_text())["data"]
    short = counts["skip"]["tokens"]
    chosen = ("documents", "skipped", "truncated", "tokens", "rows")
    assert {name: [count[key] for key in chosen] for name, count in counts.items()} == {
        "skip": [1, 2, 0, short, 1],
        "truncate": [2, 1, 1, short + 32, 2],
    }
    sentence = r".*rows\.jsonl has no document that fits into row_length=4: raise it"
    refused(tiny_settings(base, tmp_path, data=rows, row_length=4, too_long="skip"), DataError, sentence)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"learning_rate": 1e30, "epochs": 4},
            "the loss is (nan|inf) after step [23]: remove .*tuned.training and give a",
        ),
        # What would spoil the weights in the last step only.
        ({"learning_rate": 1e30, "epochs": 4, "log_every": 100}, "the loss is (nan|inf) after step 4: remove"),
    ],
)
def test_a_loss_that_is_no_number(changes: dict[str, Any], sentence: str, settings: FinetuneSettings) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    refused(changed(settings, **changes), Diverged, sentence)
    assert not settings.output.exists()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_gradient_that_is_no_number(settings: FinetuneSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is still one, but the weights would not be."""

    def load(*values: Any) -> Any:
        model = load_for_training(*values)
        model.lm_head.weight.register_hook(lambda gradient: gradient * math.nan)
        return model

    monkeypatch.setattr(run, "load_for_training", load)
    refused(changed(settings, max_steps=1), Diverged, "the gradient is nan after step 1: remove")
    assert not settings.output.exists()


def test_a_failed_write_leaves_nothing_but_the_state(
    settings: FinetuneSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("model.finetune.write._card", full_disk)
        with pytest.raises(OSError, match="full"):
            run.finetune(settings)
    assert {path.name for path in settings.output.parent.iterdir()} == {"examples.jsonl", "tuned.training"}
    result = run.finetune(settings)
    assert result.finished
    assert result.resumed_from == result.steps == 1


def full_disk(*values: object) -> None:
    raise OSError("the disk is full")


def test_pickled_weights(tmp_path: Path) -> None:
    base = write_tiny("llama", tmp_path / "base")
    torch.save(load_file(base / "model.safetensors"), base / "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    settings = tiny_settings(base, tmp_path, max_steps=1)
    assert run.finetune(settings).finished


@pytest.mark.slow
def test_two_processes_refuse_with_one_sentence(settings: FinetuneSettings) -> None:
    """The data are read by the first only; the second stops too, instead of waiting or failing in its own way."""
    settings.data.write_text("{")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "model.finetune"]
    options = [f"--{name}={getattr(settings, name)}" for name in ("checkpoint", "data", "output", "device")]
    done = subprocess.run(
        [sys.executable, *launcher, *options],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.count("this is no JSON") == 1
    assert "[rank" not in done.stderr  # torch puts this before every line of a process's traceback
