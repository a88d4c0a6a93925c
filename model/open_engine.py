"""From checkpoints' names to running engines: the one constructor `app` and `evals` use."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict, Unpack

import torch

from model.checkpoint.errors import CheckpointError
from model.checkpoint.loaded import LoadedModel, load_checkpoint
from model.engine.backends import set_backends
from model.engine.block_pool import BlockPool
from model.engine.core import EngineCore
from model.engine.cuda_graphs import DecodeGraphs, capture_graphs, why_no_graphs
from model.engine.engine import LocalEngine
from model.engine.faults import SWITCH, cause_faults
from model.engine.graph_backend import CudaGraphBackend
from model.engine.heads import Heads
from model.engine.memory_plan import GPU_MEMORY_UTILIZATION, CacheNeed, MemoryPlan, plan_memory, step_workspace_bytes
from model.engine.model_runner import ModelRunner
from model.engine.scheduler import Scheduler
from model.families.mpt import MptConfig
from model.interface import EngineInfo, InvalidRequest
from model.layers.attention_backends import (
    DETERMINISTIC,
    AttentionBackend,
    AttentionNeeds,
    choose_attention,
    find_missing,
)
from model.layers.ops import DESCRIPTIONS, ChosenOps, choose_ops
from model.own_thread import in_own_thread

logger = logging.getLogger(__name__)

DEMO_CHECKPOINTS = tuple(Path(__file__).parent / "demo" / name for name in ("persimmon-demo", "mpt-demo", "llama-demo"))
DEMO_CHECKPOINT = DEMO_CHECKPOINTS[0]

HEADS_FOLDER = "heads"
"""Folder in a checkpoint's folder; the classification heads in it are attached when the checkpoint is opened."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PROMPT_TOKENS_BESIDE_ANSWERS = {"cpu": 128, "cuda": 512}
"""Default of `max_num_prompt_tokens`: on a GPU so many tokens of an 8-billion-parameter model take about as long as
reading its weights a few times (Sarathi-Serve, arXiv:2403.02310, uses 512); a CPU computes far fewer in that time."""
ROPE_POSITION_DTYPES = ("float32", "bfloat16")
_LIBRARIES = ("torch", "transformers", "tokenizers", "sentencepiece", "safetensors")


class EngineOptions(TypedDict, total=False):
    """What :func:`open_engines` may be told; it says what each means and what it is if left out."""

    revision: str | None
    device: str
    dtype: str
    rope_position_dtype: str
    context_length: int | None
    max_num_requests: int
    max_num_batched_tokens: int
    max_num_prompt_tokens: int | None
    block_size: int
    kv_cache_tokens: int | None
    num_draft_tokens: int
    graphs: bool
    gpu_memory_utilization: float
    attention_backend: str
    kernels: str
    deterministic: bool
    load: Callable[..., LoadedModel]


def open_engine(checkpoint: str, **options: Unpack[EngineOptions]) -> LocalEngine:
    """Load one checkpoint and start its engine; options and errors are those of :func:`open_engines`."""
    return open_engines([checkpoint], **options)[0]


def open_engines(
    checkpoints: Sequence[str],
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    rope_position_dtype: str = "float32",
    context_length: int | None = None,
    max_num_requests: int = 64,
    max_num_batched_tokens: int = 2048,
    max_num_prompt_tokens: int | None = None,
    block_size: int = 16,
    kv_cache_tokens: int | None = None,
    num_draft_tokens: int = 0,
    graphs: bool = True,
    gpu_memory_utilization: float = GPU_MEMORY_UTILIZATION,
    attention_backend: str = "auto",
    kernels: str = "auto",
    deterministic: bool = False,
    load: Callable[..., LoadedModel] = load_checkpoint,
) -> list[LocalEngine]:
    """Load checkpoints and start an engine for each, in their order.

    All weights are loaded before the first cache is made, and what is left is shared: equal parts, but what one model
    has no use for goes to the others. On a CPU each gets an equal part of torch's threads.

    Args:
        checkpoints: folders or Hub ids, told apart by their last part; `revision`: Hub branch, tag or commit.
        device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.
        dtype: `auto` (bfloat16 on a GPU, float32 on a CPU), `float32`, `bfloat16` or `float16`.
        rope_position_dtype: `float32` (as Hugging Face) or `bfloat16` (as Adept's server; answers differ beyond
            position 256), see `model.layers.rotary.RotaryConfig`.
        context_length: most tokens of prompt and answer together, if not the checkpoint's own number; more than that
            only where the model has no table of positions (MPT with ALiBi).
        max_num_requests: most requests running together; more wait.
        max_num_batched_tokens: most tokens computed in one step.
        max_num_prompt_tokens: most tokens of prompts in a step that also goes on with an answer somebody reads: it
            bounds the gap between two tokens of that answer. `None`: a number for the device.
        block_size: tokens in a KV block.
        kv_cache_tokens: size of each KV cache; `None` fills the memory that may be used.
        num_draft_tokens: most tokens guessed from the text so far and checked together (speculative decoding by prompt
            lookup); answers are the same. 0 is off.
        graphs: whether decode steps are captured as CUDA graphs on a GPU and replayed; answers are the same.
        gpu_memory_utilization: share of a GPU's memory for weights, workspace and caches, 0.1 to 1.
        attention_backend: `auto`, or a name of `model.layers.attention_backends`, or two as `PROMPTS/ANSWERS`.
        kernels: `auto`, `triton`, `numba` or `reference`, see `model.layers.ops.choose_ops`.
        deterministic: whether a request's answer is the same bits whatever runs beside it, at a price in speed; on a
            GPU, and not for the `top_logprobs` of scores. See `model.layers.triton_ops`.
        load: gives a checkpoint's model, as `load_checkpoint` does from files.

    Raises:
        CheckpointError: a checkpoint cannot be used.
        InvalidRequest: an option's value breaks its rule, or two checkpoints have one name.
        EngineError: there is not enough memory.
    """
    names = [Path(checkpoint).name for checkpoint in checkpoints]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequest(
                f"two checkpoints are named {name!r}, and a model is asked for by its name: give each one once, and "
                "folders different names"
            )
    torch_device = choose_device(device)
    torch_dtype = choose_dtype(dtype, torch_device)
    if rope_position_dtype not in ROPE_POSITION_DTYPES:
        raise InvalidRequest(
            f"rope_position_dtype={rope_position_dtype!r} is not allowed: use {' or '.join(ROPE_POSITION_DTYPES)}"
        )
    position_dtype = DTYPES[rope_position_dtype]
    if torch_device.type == "cpu" and attention_backend != "auto":
        if kernels == "numba":
            raise InvalidRequest(
                f"attention_backend={attention_backend!r} is not allowed with kernels='numba', which has attention of "
                "its own: use auto, or kernels='reference'"
            )
        kernels = "reference" if kernels == "auto" else kernels
    chosen = choose_ops(torch_device, dtype=torch_dtype, wanted=kernels, deterministic=deterministic)
    if deterministic and attention_backend != "auto":
        raise InvalidRequest(
            f"attention_backend={attention_backend!r} is not allowed with deterministic, which has one of its own: use "
            "auto"
        )
    if max_num_prompt_tokens is None:
        max_num_prompt_tokens = PROMPT_TOKENS_BESIDE_ANSWERS[torch_device.type]
    for name, value, least in (
        ("max_num_requests", max_num_requests, 1),
        ("block_size", block_size, 1),
        ("max_num_prompt_tokens", max_num_prompt_tokens, 1),
        ("num_draft_tokens", num_draft_tokens, 0),
    ):
        if value < least:
            raise InvalidRequest(f"{name}={value} is not allowed: {name} must be at least {least}")
    if not 0.1 <= gpu_memory_utilization <= 1:
        raise InvalidRequest(
            f"gpu_memory_utilization={gpu_memory_utilization} is not allowed: give a share from 0.1 to 1"
        )
    if max_num_batched_tokens < max_num_requests:
        raise InvalidRequest(
            f"max_num_batched_tokens={max_num_batched_tokens} is not allowed: it must be at least "
            f"max_num_requests={max_num_requests}"
        )

    def open_all() -> list[LocalEngine]:
        set_backends()
        models = [
            load(
                checkpoint,
                revision=revision,
                device=torch_device,
                dtype=torch_dtype,
                rope_position_dtype=position_dtype,
                ops=chosen.ops,
            )
            for checkpoint in checkpoints
        ]
        if chosen.ops.compile is not None:
            for loaded in models:
                chosen.ops.compile(loaded.model.config.head_dim)
        lengths = [_context_length(loaded, context_length) for loaded in models]
        backends = [
            _attention(loaded, torch_device, torch_dtype, block_size, attention_backend, deterministic=deterministic)
            for loaded in models
        ]
        if chosen.ops.name == "numba":
            backends = [replace(attention, few="numba") for attention in backends]
        plans = plan_memory(
            [
                CacheNeed(loaded.model.config.kv_cache_shape, length)
                for loaded, length in zip(models, lengths, strict=True)
            ],
            max_num_requests=max_num_requests,
            block_size=block_size,
            dtype=torch_dtype,
            device=torch_device,
            kv_cache_tokens=kv_cache_tokens,
            gpu_memory_utilization=gpu_memory_utilization,
            workspace_bytes=sum(
                step_workspace_bytes(
                    hidden_size=loaded.model.config.hidden_size,
                    intermediate_size=loaded.model.config.intermediate_size,
                    vocab_size=loaded.model.config.vocab_size,
                    max_num_batched_tokens=max_num_batched_tokens,
                    max_num_requests=max_num_requests,
                    dtype=torch_dtype,
                )
                for loaded in models
            ),
        )
        # Engines that each use all cores keep more threads than there are cores, see `in_own_thread`.
        num_threads = max(1, torch.get_num_threads() // len(models)) if len(models) > 1 else None
        with ExitStack() as opened:
            engines = []
            for loaded, length, plan, attention in zip(models, lengths, plans, backends, strict=True):
                scheduler = Scheduler(
                    BlockPool(
                        plan.num_blocks,
                        block_size,
                        caches_prefixes=not loaded.model.config.keys_depend_on_prompt_length,
                    ),
                    max_num_requests=max_num_requests,
                    max_num_batched_tokens=max_num_batched_tokens,
                    max_num_prompt_tokens=max_num_prompt_tokens,
                )
                info = _info(loaded, plan, length, rope_position_dtype, max_num_requests, attention, chosen)
                engines.append(
                    _start(loaded, plan, scheduler, info, num_draft_tokens, num_threads, attention, graphs=graphs)
                )
                opened.callback(engines[-1].close)
            opened.pop_all()
        return engines

    return in_own_thread(open_all)


def _context_length(loaded: LoadedModel, wanted: int | None) -> int:
    config = loaded.model.config
    if wanted is None:
        return config.context_length
    if wanted < 2 or (wanted > config.context_length and not config.can_exceed_context_length):
        raise InvalidRequest(
            f"context_length={wanted} is not allowed: {loaded.model_name} takes 2 to {config.context_length}"
        )
    return wanted


def _attention(
    loaded: LoadedModel, device: torch.device, dtype: torch.dtype, block_size: int, wanted: str, *, deterministic: bool
) -> AttentionBackend:
    config = loaded.model.config
    needs = AttentionNeeds(
        device_type=device.type,
        capability=torch.cuda.get_device_capability(device) if device.type == "cuda" else None,
        dtype=dtype,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.kv_cache_shape.num_kv_heads,
        head_dim=config.head_dim,
        uses_alibi=isinstance(config, MptConfig) and config.alibi_bias_max is not None,
        block_size=block_size,
    )
    if not deterministic:
        return choose_attention(needs, find_missing(needs), wanted=wanted)
    if config.keys_depend_on_prompt_length:
        raise InvalidRequest(
            f"deterministic is not allowed for {loaded.model_name}: its rope type is dynamic, whose powers torch "
            "rounds as suits their number"
        )
    if device.type == "cuda":
        choose_attention(needs, find_missing(needs), wanted="triton")  # or it says why not
    return DETERMINISTIC


def _info(
    loaded: LoadedModel,
    plan: MemoryPlan,
    context_length: int,
    rope_position_dtype: str,
    max_num_requests: int,
    attention: AttentionBackend,
    chosen: ChosenOps,
) -> EngineInfo:
    return EngineInfo(
        model_name=loaded.model_name,
        source=loaded.source,
        revision=loaded.revision,
        family=loaded.family,
        num_parameters=loaded.num_parameters,
        vocab_size=loaded.model.config.vocab_size,
        context_length=context_length,
        weights_sha256=loaded.weights_sha256,
        tokenizer_sha256=loaded.tokenizer_sha256,
        prompts_begin_with_bos=loaded.special.prompts_begin_with_bos,
        device=loaded.device,
        dtype=loaded.dtype,
        rope_position_dtype=rope_position_dtype,
        attention_backend=attention.description,
        attention_not_used=dict(attention.not_used),
        kernels=DESCRIPTIONS[chosen.ops.name],
        kernels_note=chosen.note,
        block_size=plan.block_size,
        num_blocks=plan.num_blocks,
        max_num_requests=max_num_requests,
        notice=loaded.notice,
        licence=loaded.licence,
        has_lm_head=loaded.head is None,
        versions={"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
    )


def _start(
    loaded: LoadedModel,
    plan: MemoryPlan,
    scheduler: Scheduler,
    info: EngineInfo,
    num_draft_tokens: int,
    num_threads: int | None,
    attention: AttentionBackend,
    *,
    graphs: bool,
) -> LocalEngine:
    logger.info("%s: %s", info.model_name, plan)
    hidden_size = loaded.model.config.hidden_size
    heads = Heads(info, hidden_size=hidden_size, own=loaded.head)
    for folder in sorted(path.parent for path in (loaded.folder / HEADS_FOLDER).glob("*/head.json")):
        try:
            heads.attach(folder)
        except CheckpointError as error:  # such as one of weights that have been trained again since
            logger.warning("%s", error)
    runner = ModelRunner(
        loaded.model,
        num_blocks=plan.num_blocks,
        block_size=plan.block_size,
        attention=None if info.device == "cpu" and attention is not DETERMINISTIC else attention,
        num_threads=num_threads,
    )
    if os.environ.get(SWITCH):
        cause_faults(runner, os.environ[SWITCH])
    captured: DecodeGraphs | None = None
    note = why_no_graphs(runner, wanted=graphs, has_lm_head=info.has_lm_head)
    if note is None:
        captured = capture_graphs(
            runner,
            CudaGraphBackend(runner.device),
            max_num_requests=scheduler.max_num_requests,
            max_request_tokens=min(info.context_length, plan.num_tokens),
        )
        info = replace(
            info,
            graph_batch_sizes=captured.sizes,
            graph_capture_s=captured.capture_s,
            graph_bytes=captured.num_bytes,
        )
        logger.info("%s: CUDA graphs %s", info.model_name, captured)
    else:
        info = replace(info, graph_note=note)
    core = EngineCore(
        runner,
        scheduler,
        loaded.tokenizer,
        eos_token_ids=loaded.special.eos_token_ids,
        num_draft_tokens=num_draft_tokens,
        graphs=captured,
    )
    return LocalEngine(
        core,
        info=info,
        tokenizer=loaded.tokenizer,
        chat_template=loaded.model.chat_template,
        max_request_tokens=min(info.context_length, plan.num_tokens),
        hidden_size=hidden_size,
        heads=heads,
        pad_token_id=loaded.pad_token_id,
    )


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` as a torch device.

    Raises:
        InvalidRequest: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    index = name.removeprefix("cuda").removeprefix(":") or "0"
    if not name.startswith("cuda") or not index.isdigit():
        raise InvalidRequest(f"device={name!r} is not allowed: use auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count()
    if int(index) >= count:
        raise InvalidRequest(f"device={name!r} is not there: this machine has {count} CUDA devices")
    return torch.device("cuda", int(index))


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto`, `float32`, `bfloat16` or `float16` as a torch dtype.

    Raises:
        InvalidRequest: another name.
    """
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise InvalidRequest(f"dtype={name!r} is not allowed: use auto, {', '.join(DTYPES)}")
    return DTYPES[name]
