"""A task file's `generation_kwargs`, read as lm-eval's back-ends read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evals.errors import EvaluationError

DEFAULT_MAX_GEN_TOKS = 256  # as lm-eval's HFLM.max_gen_toks

_MAX_TOKENS_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # lm-eval's aliases
_SAMPLING_NAMES = ("top_p", "top_k", "min_p")
_KNOWN_NAMES = {"until", "do_sample", "temperature", "repetition_penalty", *_MAX_TOKENS_NAMES, *_SAMPLING_NAMES}


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """How one answer is generated; temperature 0 is greedy, and then `others` holds no filter of samples."""

    until: tuple[str, ...]
    max_tokens: int
    temperature: float
    others: dict[str, Any]


def sampling_options(task: str | None, options: Mapping[str, Any]) -> GenerationOptions:
    """The options of one request.

    Raises:
        EvaluationError: one is not known, or they contradict each other.
    """
    unknown = sorted(set(options) - _KNOWN_NAMES)
    if unknown:
        raise EvaluationError(
            f"{task}: generation option {unknown[0]!r} is not known: use {', '.join(sorted(_KNOWN_NAMES))}"
        )
    until = options.get("until") or []
    lengths = [options[name] for name in _MAX_TOKENS_NAMES if options.get(name) is not None]
    temperature = float(options.get("temperature") or 0.0)
    do_sample = options.get("do_sample", temperature > 0)
    if do_sample and temperature == 0:
        raise EvaluationError(f"{task}: do_sample needs a temperature above 0")
    others = {name: options[name] for name in _SAMPLING_NAMES if do_sample and name in options}
    if "repetition_penalty" in options:  # it also shapes greedy answers
        others["repetition_penalty"] = options["repetition_penalty"]
    return GenerationOptions(
        until=tuple(stop for stop in ([until] if isinstance(until, str) else until) if stop),
        max_tokens=int(lengths[0]) if lengths else DEFAULT_MAX_GEN_TOKS,
        temperature=temperature if do_sample else 0.0,
        others=others,
    )
