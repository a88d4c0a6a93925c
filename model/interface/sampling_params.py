"""How to continue a prompt, checked where it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from model.interface.errors import is_integer, is_real, require

MAX_STOP_STRINGS = 16  # OpenAI allows 4; lm-eval's HumanEval task uses 6, Adept's protocol up to 8
MAX_SEED = 2**63 - 1
MAX_TOP_LOGPROBS = 20  # as OpenAI's API
MAX_PENALTY = 2.0  # presence and frequency, either sign: OpenAI's range
MAX_LOGIT_BIAS = 100.0  # either sign, as OpenAI: -100 forbids a token, 100 all but forces it


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingParams:
    """How to continue one prompt. What changes the logits applies in this order: logit bias, repetition penalty,
    frequency and presence penalty, temperature, top-k, top-p, min-p.

    Attributes:
        max_tokens: most tokens to generate, >= 1; `None` means until the context is full.
        temperature: 0 is greedy; otherwise logits are divided by it. 0 to 100.
        top_p: keep the smallest set of tokens whose probability reaches it, 0 < top_p <= 1; 1 is off.
        top_k: keep the k most probable tokens; 0 is off.
        min_p: drop tokens less probable than min_p times the most probable one, 0 <= min_p <= 1; 0 is off.
        repetition_penalty: divides positive and multiplies negative logits of tokens already seen in prompt or
            answer (Keskar et al. 2019, CTRL); > 0, 1 is off.
        presence_penalty: taken from the logit of every token already in the answer; frequency_penalty: taken as often
            as it is there. -2 to 2, 0 is off (OpenAI's definition).
        logit_bias: added to the logits of these token ids, -100 to 100; -100 forbids a token.
        logprobs: if given, every generated token comes with its log-probability and the `logprobs` most probable ones
            at its place, 0 to 20. They are the model's own, before all that is described here.
        prompt_logprobs: the same for the prompt's tokens.
        stop: generation ends when one of these strings appears; the text is cut before it.
        stop_token_ids: generation ends at these ids, beside the checkpoint's end-of-document ids.
        ignore_eos: go on past the end-of-document token.
        seed: makes the request reproducible whatever else runs beside it; `None` draws a fresh one.

    Raises:
        InvalidRequest: a value breaks its rule.
    """

    max_tokens: int | None = 256
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    seed: int | None = None

    def __post_init__(self) -> None:
        require(
            self.max_tokens is None or (is_integer(self.max_tokens) and self.max_tokens >= 1),
            "max_tokens",
            self.max_tokens,
            "a whole number of at least 1, or None for the rest of the context",
        )
        require(
            is_real(self.temperature) and 0 <= self.temperature <= 100,
            "temperature",
            self.temperature,
            "a number from 0 (greedy) to 100",
        )
        require(
            is_real(self.top_p) and 0 < self.top_p <= 1,
            "top_p",
            self.top_p,
            "a number above 0 and at most 1",
        )
        require(is_integer(self.top_k) and self.top_k >= 0, "top_k", self.top_k, "a whole number, 0 for no limit")
        require(is_real(self.min_p) and 0 <= self.min_p <= 1, "min_p", self.min_p, "a number from 0 to 1")
        require(
            is_real(self.repetition_penalty) and 0 < self.repetition_penalty <= 100,
            "repetition_penalty",
            self.repetition_penalty,
            "a number above 0 and at most 100 (1 is off)",
        )
        for name, penalty in (
            ("presence_penalty", self.presence_penalty),
            ("frequency_penalty", self.frequency_penalty),
        ):
            require(
                is_real(penalty) and abs(penalty) <= MAX_PENALTY,
                name,
                penalty,
                f"a number from -{MAX_PENALTY:g} to {MAX_PENALTY:g} (0 is off)",
            )
        require(
            isinstance(self.logit_bias, Mapping)
            and all(
                is_integer(token) and token >= 0 and is_real(bias) and abs(bias) <= MAX_LOGIT_BIAS
                for token, bias in self.logit_bias.items()
            ),
            "logit_bias",
            self.logit_bias,
            f"a mapping from token ids to numbers from -{MAX_LOGIT_BIAS:g} to {MAX_LOGIT_BIAS:g}",
        )
        for name, count in (("logprobs", self.logprobs), ("prompt_logprobs", self.prompt_logprobs)):
            require(
                count is None or (is_integer(count) and 0 <= count <= MAX_TOP_LOGPROBS),
                name,
                count,
                f"a whole number from 0 to {MAX_TOP_LOGPROBS}, or None",
            )
        require(
            isinstance(self.stop, tuple) and all(isinstance(text, str) and text for text in self.stop),
            "stop",
            self.stop,
            "a tuple of non-empty strings",
        )
        require(len(self.stop) <= MAX_STOP_STRINGS, "stop", self.stop, f"at most {MAX_STOP_STRINGS} strings long")
        require(
            isinstance(self.stop_token_ids, tuple)
            and all(is_integer(token) and token >= 0 for token in self.stop_token_ids),
            "stop_token_ids",
            self.stop_token_ids,
            "a tuple of token ids",
        )
        require(
            self.seed is None or (is_integer(self.seed) and 0 <= self.seed <= MAX_SEED),
            "seed",
            self.seed,
            f"a whole number from 0 to {MAX_SEED}, or None",
        )
