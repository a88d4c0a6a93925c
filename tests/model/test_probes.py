"""Zeros after the activation, against Hugging Face's own activations; and what a step reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.checkpoint.errors import CheckpointError
from model.checkpoint.load import load_model
from model.engine.engine import LocalEngine
from model.families.mpt import MptForCausalLM
from model.families.persimmon import PersimmonForCausalLM
from model.interface import EngineError, InvalidRequest
from model.parity.random_checkpoint import random_prompt, save_random_llama, save_random_mpt, save_random_persimmon
from model.probes.activations import GROUP_SIZES, LayerCounts, count_zeros
from model.probes.loaded import load, read_family
from model.probes.mlp import mlps
from model.probes.streamed import StreamedParameters, streamed_parameters

CPU = torch.device("cpu")
TEXTS = [random_prompt(count=count) for count in (41, 3, 16, 9, 64, 5)]  # the fifth is longer than a step of 48
STEP_TOKENS = 48


def ours(folder: Path, texts: list[list[int]] = TEXTS, *, step_tokens: int = STEP_TOKENS) -> list[LayerCounts]:
    return count_zeros(load_model(folder, device=CPU, dtype=torch.float32), texts, step_tokens=step_tokens)


@torch.inference_mode()
def hugging_faces(model: Any, watched: Callable[[Any], torch.nn.Module], *, inputs: bool) -> list[list[Tensor]]:
    """By layer, for each text: [num_tokens, num_neurons], the input or output of the module watched in every layer."""
    layers = getattr(model, "model", None) or model.transformer
    seen: list[list[Tensor]] = []
    for layer in getattr(layers, "layers", None) or layers.blocks:
        found: list[Tensor] = []
        seen.append(found)
        watched(layer).register_forward_hook(
            lambda module, given, output, found=found: found.append((given[0] if inputs else output)[0].clone())
        )
    for text in TEXTS:
        model(torch.tensor([text]))
    return seen


def assert_equal(counts: list[LayerCounts], expected: list[list[Tensor]]) -> None:
    """A neuron whose input is within rounding of 0 may fall on either side."""
    assert len(counts) == len(expected)
    for layer, texts in zip(counts, expected, strict=True):
        zeros = np.concatenate([(states == 0).sum(dim=1).numpy() for states in texts])
        assert layer.num_neurons == texts[0].shape[1]
        assert len(layer.zeros) == len(zeros) == sum(map(len, TEXTS))
        assert np.abs(layer.zeros - zeros).max() <= 1
        assert np.abs(layer.zeros - zeros).sum() <= 2
        for size in GROUP_SIZES:
            groups = [
                int((states[start : start + size] != 0).any(dim=0).sum())
                for states in texts
                for start in range(0, len(states) - size + 1, size)
            ]
            assert layer.consecutive[size].num_groups == len(groups)
            assert abs(layer.consecutive[size].num_live - sum(groups)) <= 2


def test_persimmon_is_as_hugging_face(tmp_path: Path) -> None:
    reference = save_random_persimmon(tmp_path)
    counts = ours(tmp_path)
    assert_equal(counts, hugging_faces(reference, lambda layer: layer.mlp.act, inputs=False))
    for layer in counts:
        assert 0.4 < layer.zero_share < 0.6, "random weights give about a half"
        shares = [layer.consecutive[size].share for size in GROUP_SIZES]
        assert shares == sorted(shares)
        assert shares[0] == pytest.approx(1 - layer.zero_share)


@pytest.mark.parametrize("activation", ["silu", "relu"])
def test_llama_is_as_hugging_face(tmp_path: Path, activation: str) -> None:
    reference = save_random_llama(tmp_path, hidden_act=activation)
    reference.model.layers[0].mlp.up_proj.weight.data[:20] = 0  # a quarter of the first layer's neurons
    reference.save_pretrained(tmp_path)
    counts = ours(tmp_path)
    assert_equal(counts, hugging_faces(reference, lambda layer: layer.mlp.down_proj, inputs=True))
    if activation == "silu":
        assert [layer.zero_share for layer in counts] == pytest.approx([0.25, 0, 0], abs=0.01)


def test_mpt_is_as_hugging_face(tmp_path: Path) -> None:
    reference = save_random_mpt(tmp_path)
    reference.transformer.blocks[0].ffn.up_proj.weight.data[:48] = 0  # a quarter of the first layer's neurons
    reference.save_pretrained(tmp_path)
    counts = ours(tmp_path)
    assert_equal(counts, hugging_faces(reference, lambda layer: layer.ffn.down_proj, inputs=True))
    assert [layer.zero_share for layer in counts] == pytest.approx([0.25, 0, 0], abs=0.01)


def test_tokens_apart_are_spread_over_a_step(tmp_path: Path) -> None:
    """A step of 41 + 3 + 16 + 9 = 69 tokens, then 64, then 5: only pairs of the first two are far enough apart."""
    reference = save_random_persimmon(tmp_path)
    expected = hugging_faces(reference, lambda layer: layer.mlp.act, inputs=False)
    for layer, texts in zip(ours(tmp_path, step_tokens=69), expected, strict=True):
        live = 0
        for step in (torch.cat(texts[:4]), torch.cat(texts[4:])):  # 69 tokens each
            live += int(((step[:34] != 0) | (step[34:68] != 0)).sum())
        assert layer.apart[2].num_groups == 68
        assert abs(layer.apart[2].num_live - live) <= 2
        assert layer.apart[4].num_groups == layer.apart[8].num_groups == 0
        assert np.isnan(layer.apart[8].share)
        assert layer.apart[1] == layer.consecutive[1]


def test_bias_makes_all_or_none_zero(tmp_path: Path) -> None:
    save_random_persimmon(tmp_path)
    model = load_model(tmp_path, device=CPU, dtype=torch.float32)
    for mlp, bias in zip(mlps(model), (-1e4, 1e4, 0.0), strict=True):
        mlp.dense_h_to_4h.bias.fill_(bias)  # type: ignore[union-attr]
        mlp.dense_4h_to_h.weight.mul_(1e-6)  # type: ignore[union-attr]
    none, every, some = count_zeros(model, TEXTS)
    assert none.zero_share == 1
    assert {none.consecutive[size].share for size in GROUP_SIZES} == {0}
    assert every.zero_share == 0
    assert {every.consecutive[size].share for size in GROUP_SIZES} == {1}
    assert 0.3 < some.zero_share < 0.7


def test_no_hook_stays_and_errors_are_sentences(tmp_path: Path) -> None:
    save_random_persimmon(tmp_path)
    model = load_model(tmp_path, device=CPU, dtype=torch.float32)
    count_zeros(model, TEXTS)
    for texts in ([], [[1, 2], []]):
        with pytest.raises(InvalidRequest, match="none or empty"):
            count_zeros(model, texts)
    mlps(model)[0].dense_4h_to_h.bias.fill_(torch.nan)  # type: ignore[union-attr]
    with pytest.raises(EngineError, match=r"not finite in torch\.float32"):
        count_zeros(model, TEXTS)
    assert not any(mlp._forward_pre_hooks for mlp in mlps(model))


def test_a_step_of_the_published_model_reads_what_is_known() -> None:
    """8.32 G of 9.40 G parameters; the gains are those of 90 % zeros that do not depend on each other."""
    config = {
        "vocab_size": 262144,
        "hidden_size": 4096,
        "intermediate_size": 16384,
        "num_hidden_layers": 36,
        "num_attention_heads": 64,
        "hidden_act": "relu2",
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": 16384,
        "rope_theta": 25000.0,
    }
    with torch.device("meta"):
        model = PersimmonForCausalLM.from_json(config, rope_position_dtype=torch.float32)
    streamed = streamed_parameters(model)
    assert streamed.total == 9_397_175_296 - 262144 * 4096
    assert streamed.second_matrices == (4096 * 16384,) * 36
    ratios = [streamed.traffic_ratio([1 - 0.9**size] * 36) for size in (1, 2, 4, 8)]
    assert ratios == pytest.approx([1.35, 1.31, 1.24, 1.14], abs=0.01)
    assert streamed.traffic_ratio([1.0] * 36) == 1
    assert np.isnan(streamed.traffic_ratio([float("nan")] * 36))


def test_a_tied_table_is_read_as_the_head() -> None:
    config = {"vocab_size": 100, "d_model": 16, "n_heads": 2, "n_layers": 3, "max_seq_len": 32}
    with torch.device("meta"):
        model = MptForCausalLM.from_json(config, rope_position_dtype=torch.float32)
    streamed = streamed_parameters(model)
    assert streamed.total == sum(parameter.numel() for parameter in model.parameters())
    assert streamed.second_matrices == (16 * 64,) * 3
    assert StreamedParameters(total=100, second_matrices=(20, 20)).traffic_ratio([0.5, 0.0]) == 100 / 70


def test_identity_is_the_engines(random_checkpoint: Path, engine: LocalEngine) -> None:
    loaded = load(str(random_checkpoint), device="cpu")
    for name in ("model_name", "source", "family", "num_parameters", "weights_sha256", "tokenizer_sha256", "dtype"):
        assert getattr(loaded, name) == getattr(engine.info, name)
    assert loaded.device == engine.info.device == "cpu"
    assert read_family(str(random_checkpoint)) == "persimmon"


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither a folder here nor a Hub id"):
        read_family("no such place")
    with pytest.raises(InvalidRequest, match="dtype='int4'"):
        load(str(tmp_path), device="cpu", dtype="int4")
