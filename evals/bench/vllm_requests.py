"""A workload as `vllm_program.py` takes it: token ids, and options of `vllm.SamplingParams`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evals.bench import verify
from evals.bench.settings import SMALL_BLOCK, VllmSetting
from evals.bench.workloads import AnswerRequest, DecodeRequest, ScoreRequest, Vocabulary, Work
from evals.errors import EvaluationError

MAX_NUM_REQUESTS = 64  # running at once, as ours
BLOCK_SIZE = 128  # tokens; what vLLM takes by itself on a CPU (vllm/platforms/cpu.py)

GREEDY = {"temperature": 0.0, "detokenize": False}


def requests(
    folder: Path, asked: Sequence[DecodeRequest | ScoreRequest | AnswerRequest], *, context_length: int, sharing: bool
) -> list[dict[str, Any]]:
    """The same requests for vLLM.

    Args:
        sharing: as in `settings.VllmSetting`.

    Raises:
        EvaluationError: one does not fit: vLLM reads the last token too and always generates one.
    """
    found = []
    vocabulary, first_token = Vocabulary(folder), verify.prefix_id(str(folder))
    for request in asked:
        first_scored = None
        if isinstance(request, DecodeRequest):
            token_ids = list(request.prompt_token_ids)
            options: dict[str, Any] = {"max_tokens": request.max_tokens, "ignore_eos": True}
        elif isinstance(request, AnswerRequest):
            room = context_length - request.max_tokens
            (token_ids,) = verify.prompt_ids(str(folder), [request.prompt], room=room)
            options = {"max_tokens": request.max_tokens}
        else:
            context = vocabulary.ids(request.context)
            whole = vocabulary.ids(request.context + request.continuation)
            token_ids = list(whole) if context else [first_token, *whole]
            first_scored = len(context) or 1
            options = {"max_tokens": 1, "prompt_logprobs": 0}
            if sharing:
                options["skip_reading_prefix_cache"] = False
        if len(token_ids) + options["max_tokens"] > context_length:
            raise EvaluationError(
                f"vLLM cannot take {len(token_ids)} tokens and generate {options['max_tokens']}: the context length is "
                f"{context_length}"
            )
        found.append({"prompt_token_ids": token_ids, "options": GREEDY | options, "first_scored": first_scored})
    return found


def message(folder: Path, work: Work, *, context_length: int, setting: VllmSetting) -> dict[str, Any]:
    """What the program reads: the engine's options, the warm-up and the timed requests."""
    warm_up, timed = (
        requests(folder, asked, context_length=context_length, sharing=setting.sharing)
        for asked in (work.warm_up, work.requests)
    )
    return {
        "engine": {
            "model": str(folder),
            "dtype": "float32",
            "max_model_len": context_length,
            "max_num_seqs": MAX_NUM_REQUESTS,
            "enforce_eager": not setting.compiled,
            "block_size": SMALL_BLOCK if setting.sharing else BLOCK_SIZE,
            "kv_cache_memory_bytes": _kv_cache_tokens(timed, context_length) * _bytes_per_token(folder),
        },
        "warm_up": warm_up,
        "requests": timed,
    }


def _kv_cache_tokens(asked: Sequence[dict[str, Any]], context_length: int) -> int:
    """Whole blocks for the longest requests that can run at once, and at least for one of the context length."""
    blocks: list[int] = sorted(
        -(-(len(one["prompt_token_ids"]) + one["options"]["max_tokens"]) // BLOCK_SIZE) for one in asked
    )
    most = max(sum(blocks[-MAX_NUM_REQUESTS:]), -(-context_length // BLOCK_SIZE))
    return (most + 1) * BLOCK_SIZE  # vLLM keeps one block that nobody uses


def _bytes_per_token(folder: Path) -> int:
    """Keys and values of all layers in fp32."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return 2 * int(config["num_hidden_layers"]) * int(config["hidden_size"]) * 4
