"""What stands between the matrices of a layer, as a table of functions that is chosen once, when a model is built.

`REFERENCE` is torch's operations one by one: the definition. `model.layers.triton_ops.TRITON` is our kernels for GPUs
and `model.layers.numba_ops.NUMBA` those for CPUs; each kernel does in one launch what takes the reference several.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels.cpu import threads
from kernels.linear import linear
from kernels.sampling import DrawParams
from kernels.squared_relu import squared_relu_linear_
from kernels.token_logprobs import TokenLogprobs, token_logprobs_reference
from model.interface import InvalidRequest
from model.layers.attention import cached_attention
from model.layers.attention_backends import OLDEST_CAPABILITY
from model.layers.forward_batch import ForwardBatch
from model.layers.norms import RMSNorm


@dataclass(frozen=True, kw_only=True, slots=True)
class Ops:
    """The functions a model is built with.

    A layer hands on its residual stream and what has yet to be added to it, the delta: the sum is made together with
    the next norm. A delta is [num_tokens, hidden_size], or partial sums [num_partials, num_tokens, hidden_size] in
    float32; its bias, [hidden_size], is added too.

    Attributes:
        name: `reference`, `triton`, `deterministic` or `numba`.
        linear: (states, weight, bias) -> states @ weight.T + bias.
        layer_norm: (residual, delta, its bias, norm) -> the sum and its norm; delta and bias may be `None`.
        rms_norm: (residual, delta, norm) -> the same.
        attention: as `model.layers.attention.cached_attention`.
        squared_relu_linear: (states of the batch's tokens, matrix, batch) -> the delta relu(states)^2 @ matrix, and a
            bias that it has yet to be given; the states may be overwritten.
        swiglu: (gate, up) -> silu(gate) * up.
        gelu: with the exact error function.
        token_logprobs: as `kernels.token_logprobs.token_logprobs_reference`.
        draw: as `kernels.sampling.draw_reference`; `None`: the sampler's own way, which needs the host.
        compile: (size of a head) -> None, before the first step, which would wait for it; `None`: nothing to do.
        pads_steps: whether `linear` is faster on a CPU where tokens that mean nothing follow a step's, up to
            `kernels.linear.padded_rows`.
        reads_columns: whether squared_relu_linear wants the matrix's columns, [intermediate_size, hidden_size], each in
            one piece of memory.
    """

    name: str
    linear: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    layer_norm: Callable[[Tensor, Tensor | None, Tensor | None, nn.LayerNorm], tuple[Tensor, Tensor]]
    rms_norm: Callable[[Tensor, Tensor | None, RMSNorm], tuple[Tensor, Tensor]]
    attention: Callable[..., Tensor]
    squared_relu_linear: Callable[[Tensor, nn.Linear, ForwardBatch], tuple[Tensor, Tensor | None]]
    swiglu: Callable[[Tensor, Tensor], Tensor]
    gelu: Callable[[Tensor], Tensor]
    token_logprobs: Callable[..., TokenLogprobs]
    draw: Callable[[Tensor, DrawParams], Tensor] | None
    compile: Callable[[int], None] | None
    pads_steps: bool
    reads_columns: bool


def _layer_norm(
    residual: Tensor, delta: Tensor | None, delta_bias: Tensor | None, norm: nn.LayerNorm
) -> tuple[Tensor, Tensor]:
    if delta is not None:
        residual = residual + (delta if delta_bias is None else delta + delta_bias)
    return residual, norm(residual)


def _rms_norm(residual: Tensor, delta: Tensor | None, norm: RMSNorm) -> tuple[Tensor, Tensor]:
    if delta is not None:
        residual = residual + delta
    return residual, norm(residual)


def _squared_relu_linear(states: Tensor, matrix: nn.Linear, batch: ForwardBatch) -> tuple[Tensor, Tensor | None]:
    return squared_relu_linear_(states, matrix.weight, matrix.bias), None


def _swiglu(gate: Tensor, up: Tensor) -> Tensor:
    return F.silu(gate) * up


REFERENCE = Ops(
    name="reference",
    linear=linear,
    layer_norm=_layer_norm,
    rms_norm=_rms_norm,
    attention=cached_attention,
    squared_relu_linear=_squared_relu_linear,
    swiglu=_swiglu,
    gelu=F.gelu,
    token_logprobs=token_logprobs_reference,
    draw=None,
    compile=None,
    pads_steps=True,
    reads_columns=False,
)
NAMES = ("auto", "triton", "numba", "reference")
DESCRIPTIONS = {
    "triton": "Triton kernels",
    "deterministic": "Triton kernels with fixed tiles",
    "numba": "Numba kernels",
    "reference": "torch's operations",
}


@dataclass(frozen=True, slots=True)
class ChosenOps:
    """The table, and in words why it is not the kernels' one; `None` if it is."""

    ops: Ops
    note: str | None


def choose_ops(
    device: torch.device, *, dtype: torch.dtype, wanted: str = "auto", deterministic: bool = False
) -> ChosenOps:
    """The kernels of the device where what they need is there, else the reference.

    Args:
        dtype: the model's.
        wanted: `auto`, `triton` (GPUs), `numba` (CPUs) or `reference`. `triton` runs on a CPU too where
            TRITON_INTERPRET=1 was set before Triton was imported: very slowly, for checking.
        deterministic: the kernels that give a token the same bits in any batch.

    Raises:
        InvalidRequest: no such name, or the kernels cannot run here and are needed.
    """
    if wanted not in NAMES:
        raise InvalidRequest(f"kernels={wanted!r} is not allowed: use {', '.join(NAMES)}")
    if deterministic and wanted in ("reference", "numba"):
        raise InvalidRequest(f"kernels={wanted!r} is not allowed with deterministic: torch's sums depend on the batch")
    if wanted == "reference":
        return ChosenOps(REFERENCE, "the reference was asked for")
    name = wanted
    if wanted == "auto":
        name = "numba" if device.type == "cpu" and not deterministic else "triton"
    reason = _why_not_numba(device, dtype) if name == "numba" else _why_not_triton(device, wanted)
    if reason is None:
        return ChosenOps(_table(name, deterministic), None)
    if deterministic:
        raise InvalidRequest(f"deterministic is not allowed here: {reason}")
    if wanted != "auto":
        raise InvalidRequest(f"kernels={wanted!r} is not allowed here: {reason}")
    return ChosenOps(REFERENCE, reason)


def _table(name: str, deterministic: bool) -> Ops:
    # Neither of what they import is installed everywhere.
    if name == "numba":
        from model.layers.numba_ops import NUMBA

        return NUMBA
    from model.layers.triton_ops import DETERMINISTIC, TRITON

    return DETERMINISTIC if deterministic else TRITON


def _why_not_numba(device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type != "cpu":
        return "Numba's kernels are for CPUs"
    if dtype != torch.float32:
        return f"Numba's kernels take float32, not {str(dtype).removeprefix('torch.')}"
    return threads.missing()


def _why_not_triton(device: torch.device, wanted: str) -> str | None:
    if device.type != "cuda":
        return None if wanted == "triton" and _is_interpreting() else "the kernels need an NVIDIA GPU"
    if find_spec("triton") is None:
        return "Triton is not installed"
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST_CAPABILITY:
        least, found = (".".join(map(str, each)) for each in (OLDEST_CAPABILITY, capability))
        return f"the kernels need a GPU of compute capability {least}, and this one's is {found}"
    return None


def _is_interpreting() -> bool:
    if find_spec("triton") is None:
        return False
    import triton

    return bool(triton.knobs.runtime.interpret)
