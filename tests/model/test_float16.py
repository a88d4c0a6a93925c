"""fp16 with squared ReLU: activations beyond 256 stay finite, and what is not finite names its layer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from kernels.linear import linear
from kernels.squared_relu import squared_relu_linear_, squared_relu_linear_reference
from model.checkpoint.load import load_model
from model.interface import EngineError, SamplingParams
from model.open_engine import open_engine
from model.parity.our_forward import our_logits
from model.parity.random_checkpoint import random_prompt, save_random_persimmon

CPU = torch.device("cpu")


@pytest.mark.parametrize("largest", [1.0, 100.0, 255.0, 256.0, 3000.0, 60000.0])
@pytest.mark.parametrize("with_bias", [False, True])
def test_half_precision_follows_double(largest: float, with_bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(5, 64, generator=generator)
    states *= largest / states.amax(dim=-1, keepdim=True)
    states[3] = -1.0  # a row without any live neuron
    weight = torch.randn(16, 64, generator=generator) * min(1.0, 1e4 / (64 * largest**2))
    bias = torch.randn(16, generator=generator) if with_bias else None
    half = [None if t is None else t.half() for t in (states, weight, bias)]
    result = squared_relu_linear_reference(*half)  # type: ignore[arg-type]
    exact = F.linear(F.relu(half[0].double()).square(), half[1].double())  # type: ignore[union-attr]
    if half[2] is not None:
        exact += half[2].double()
    assert result.isfinite().all()
    assert result.dtype == torch.float16
    # fp16 has 11 bits; each of the 64 products and the sum may lose the last one
    bound = 64 * 2**-11 * (F.relu(states).square() @ weight.abs().T).double() + 2**-10
    assert ((result.double() - exact).abs() <= bound).all()


def test_plain_squares_would_have_overflowed() -> None:
    assert torch.tensor(256.0).half().square().isinf()


def test_other_dtypes_take_the_plain_way() -> None:
    states, weight = torch.randn(3, 8) * 1e4, torch.randn(4, 8)
    with torch.inference_mode():
        result = squared_relu_linear_reference(states, weight, None)
        assert torch.equal(result, linear(F.relu(states).square(), weight, None))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_overwriting_the_input_changes_no_bit(dtype: torch.dtype) -> None:
    states, weight, bias = (torch.randn(*shape).to(dtype) for shape in ((3, 8), (4, 8), (4,)))
    with torch.inference_mode():
        expected = squared_relu_linear_reference(states, weight, bias)
        assert torch.equal(squared_relu_linear_(states, weight, bias), expected)


def test_hot_activations_give_the_right_logits(tmp_path: Path) -> None:
    save_random_persimmon(tmp_path, hot=True)
    ids = random_prompt()
    exact = our_logits(load_model(tmp_path, device=CPU, dtype=torch.float32), ids)
    half = our_logits(load_model(tmp_path, device=CPU, dtype=torch.float16), ids)
    brain = our_logits(load_model(tmp_path, device=CPU, dtype=torch.bfloat16), ids)
    assert half.isfinite().all()
    assert (half - exact).abs().mean() < (brain - exact).abs().mean()


def test_cold_float16_is_near_float32(tmp_path: Path) -> None:
    save_random_persimmon(tmp_path)
    ids = random_prompt()
    exact = our_logits(load_model(tmp_path, device=CPU, dtype=torch.float32), ids)
    half = our_logits(load_model(tmp_path, device=CPU, dtype=torch.float16), ids)
    assert (half - exact).abs().max() <= 0.01 * exact.abs().max()


@pytest.mark.parametrize("place", ["mlp.dense_4h_to_h", "self_attn.dense"])
def test_numbers_that_are_not_finite_name_their_layer(place: str, random_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(random_checkpoint, tmp_path / "broken"))
    tensors = load_file(folder / "model.safetensors")
    tensors[f"model.layers.1.{place}.weight"] *= 6e4  # still finite in fp16, but not what comes out
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    engine = open_engine(str(folder), device="cpu", dtype="float16")
    try:
        module = "mlp" if "mlp" in place else place
        with pytest.raises(EngineError, match=rf"model\.layers\.1\.{module}\S* gave a number that is not finite"):
            engine.generate(["The"], SamplingParams(temperature=0.0, max_tokens=4))
        assert engine.stats().num_free_blocks == engine.stats().num_usable_blocks
    finally:
        engine.close()
