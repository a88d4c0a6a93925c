"""The narrow waist: everything `app` and `evals` may know about a running model.

An :class:`Engine` has five verbs, `generate`, `stream`, `score`, `hidden_states` and `close`, and async twins of those
that return results; a stream can be read from a thread or from an event loop. Prompts are text, token ids, or token ids
with vectors in some places. Nothing here imports torch, so a page or a test can use a scripted engine instead of a real
one (`tests/scripted_engine.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from numbers import Integral, Real
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FinishReason: TypeAlias = Literal["stop", "length", "abort"]

MAX_STOP_STRINGS = 16  # OpenAI allows 4; lm-eval's HumanEval task uses 6, Adept's protocol up to 8
MAX_SEED = 2**63 - 1
MAX_TOP_LOGPROBS = 20  # as OpenAI's API
MAX_PENALTY = 2.0  # presence and frequency, either sign: OpenAI's range
MAX_LOGIT_BIAS = 100.0  # either sign, as OpenAI: -100 forbids a token, 100 all but forces it
FLOAT32_MAX = (2 - 2**-23) * 2.0**127

Priority: TypeAlias = Literal["interactive", "batch"]
"""A person waits for `interactive` requests; `batch` ones step back for them, but never for ever."""


class EngineError(Exception):
    """Any failure the engine reports; its text is one sentence a user can act on."""


class InvalidRequest(EngineError):
    """A parameter or prompt breaks a rule; the text names the value, the rule and what to do."""


class ContextLengthExceeded(InvalidRequest):
    """The prompt (plus what was asked for) cannot fit.

    Attributes:
        num_prompt_tokens: tokens in the prompt.
        limit: the most tokens a prompt may have here.
    """

    def __init__(self, num_prompt_tokens: int, limit: int, *, reason: str = "the context length") -> None:
        super().__init__(f"the prompt has {num_prompt_tokens} tokens but {reason} allows at most {limit}: shorten it")
        self.num_prompt_tokens = num_prompt_tokens
        self.limit = limit


class EngineClosed(EngineError):
    """The engine was closed, or its loop failed; no further request is taken."""


def _require(condition: bool, name: str, value: object, rule: str) -> None:
    if not condition:
        raise InvalidRequest(f"{name}={value!r} is not allowed: {name} must be {rule}")


def _is_real(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and value == value


def _is_integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EmbeddedPrompt:
    """A prompt in which vectors stand in place of some tokens' embeddings, such as Fuyu's image patches.

    Attributes:
        token_ids: every place's token; where a vector stands, any id (a placeholder's, usually).
        positions: places of the vectors in token_ids, rising.
        vectors: [len(positions), hidden_size], finite; used in the model's dtype.
    """

    token_ids: tuple[int, ...]
    positions: tuple[int, ...]
    vectors: NDArray[np.float32]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.positions, self.positions[1:], strict=False))
        inside = all(0 <= position < len(self.token_ids) for position in self.positions)
        if not (self.positions and rising and inside):
            raise InvalidRequest(
                f"positions={self.positions!r} is not allowed: it must be rising places in a prompt of "
                f"{len(self.token_ids)} tokens"
            )
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.positions):
            raise InvalidRequest(
                f"vectors of shape {self.vectors.shape} came with {len(self.positions)} positions: give one row each"
            )
        if not bool((abs(self.vectors) <= FLOAT32_MAX).all()):
            raise InvalidRequest("vectors holds numbers that are not finite in float32: give finite ones")


Prompt: TypeAlias = str | Sequence[int] | EmbeddedPrompt


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
        _require(
            self.max_tokens is None or (_is_integer(self.max_tokens) and self.max_tokens >= 1),
            "max_tokens",
            self.max_tokens,
            "a whole number of at least 1, or None for the rest of the context",
        )
        _require(
            _is_real(self.temperature) and 0 <= self.temperature <= 100,
            "temperature",
            self.temperature,
            "a number from 0 (greedy) to 100",
        )
        _require(
            _is_real(self.top_p) and 0 < self.top_p <= 1,
            "top_p",
            self.top_p,
            "a number above 0 and at most 1",
        )
        _require(_is_integer(self.top_k) and self.top_k >= 0, "top_k", self.top_k, "a whole number, 0 for no limit")
        _require(_is_real(self.min_p) and 0 <= self.min_p <= 1, "min_p", self.min_p, "a number from 0 to 1")
        _require(
            _is_real(self.repetition_penalty) and 0 < self.repetition_penalty <= 100,
            "repetition_penalty",
            self.repetition_penalty,
            "a number above 0 and at most 100 (1 is off)",
        )
        for name, penalty in (
            ("presence_penalty", self.presence_penalty),
            ("frequency_penalty", self.frequency_penalty),
        ):
            _require(
                _is_real(penalty) and abs(penalty) <= MAX_PENALTY,
                name,
                penalty,
                f"a number from -{MAX_PENALTY:g} to {MAX_PENALTY:g} (0 is off)",
            )
        _require(
            isinstance(self.logit_bias, Mapping)
            and all(
                _is_integer(token) and token >= 0 and _is_real(bias) and abs(bias) <= MAX_LOGIT_BIAS
                for token, bias in self.logit_bias.items()
            ),
            "logit_bias",
            self.logit_bias,
            f"a mapping from token ids to numbers from -{MAX_LOGIT_BIAS:g} to {MAX_LOGIT_BIAS:g}",
        )
        for name, count in (("logprobs", self.logprobs), ("prompt_logprobs", self.prompt_logprobs)):
            _require(
                count is None or (_is_integer(count) and 0 <= count <= MAX_TOP_LOGPROBS),
                name,
                count,
                f"a whole number from 0 to {MAX_TOP_LOGPROBS}, or None",
            )
        _require(
            isinstance(self.stop, tuple) and all(isinstance(text, str) and text for text in self.stop),
            "stop",
            self.stop,
            "a tuple of non-empty strings",
        )
        _require(len(self.stop) <= MAX_STOP_STRINGS, "stop", self.stop, f"at most {MAX_STOP_STRINGS} strings long")
        _require(
            isinstance(self.stop_token_ids, tuple)
            and all(_is_integer(token) and token >= 0 for token in self.stop_token_ids),
            "stop_token_ids",
            self.stop_token_ids,
            "a tuple of token ids",
        )
        _require(
            self.seed is None or (_is_integer(self.seed) and 0 <= self.seed <= MAX_SEED),
            "seed",
            self.seed,
            f"a whole number from 0 to {MAX_SEED}, or None",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Wall-clock times of one request, in seconds, from its arrival at the engine.

    Attributes:
        queued_s: until its first token was scheduled.
        ttft_s: until its first generated token; `None` if it ended before one.
        total_s: until it finished.
    """

    queued_s: float
    ttft_s: float | None
    total_s: float

    def tokens_per_s(self, num_tokens: int) -> float | None:
        """Decode speed: tokens after the first, over the time since the first; `None` if undefined."""
        if self.ttft_s is None or num_tokens < 2 or self.total_s <= self.ttft_s:
            return None
        return (num_tokens - 1) / (self.total_s - self.ttft_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenLogprob:
    """One token's natural-log probability given all before it, and the most probable tokens at its place.

    Attributes:
        token_id, logprob: of the token that stands there.
        top: (token id, logprob), most probable first, as many as were asked for. If the token is among them, both its
            log-probabilities are the same float.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """A finished answer.

    Attributes:
        text: what was generated, before any stop string, without end-of-document tokens. A leading space is kept,
            so that prompt + text is the whole document.
        token_ids: every generated id, the stopping one included.
        finish_reason: `stop` (end of document, stop id or stop string), `length` (max_tokens or context full),
            `abort` (the caller went away).
        stop_reason: the stop string or token id that ended it, else `None`.
        num_prompt_tokens: tokens in the prompt.
        seed: the seed that was used, given or drawn; running it again with it gives the same answer.
        timing: see :class:`Timing`.
        logprobs: of the generated tokens, if asked for, else empty.
        prompt_logprobs: of the prompt's tokens from the second on (nothing predicts the first), if asked for.
        num_cached_tokens: prompt tokens whose keys and values were in the cache already.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    stop_reason: str | int | None
    num_prompt_tokens: int
    seed: int
    timing: Timing
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    num_cached_tokens: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamChunk:
    """What is new since the previous chunk. The last chunk of a stream carries the whole `completion`.

    The texts of all chunks, joined, are `completion.text`; text that may yet turn out to be the start of a stop
    string or an unfinished UTF-8 character is held back until it is decided.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    completion: Completion | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRequest:
    """One continuation to score after its context, both as token ids; neither may be empty: position 0 of a sequence
    has no prediction, so whoever scores a whole text supplies a first token. `top_logprobs`: most probable tokens
    wanted at every place, 0 to 20.

    Requests of one call with the same context compute it once.
    """

    context_token_ids: tuple[int, ...]
    continuation_token_ids: tuple[int, ...]
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        _require(
            _is_integer(self.top_logprobs) and 0 <= self.top_logprobs <= MAX_TOP_LOGPROBS,
            "top_logprobs",
            self.top_logprobs,
            f"a whole number from 0 to {MAX_TOP_LOGPROBS}",
        )
        if not self.context_token_ids:
            raise InvalidRequest("the context is empty: give at least one token, such as the end-of-document id")
        if not self.continuation_token_ids:
            raise InvalidRequest("the continuation is empty: there is nothing to score")


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenScore:
    """Scores of one continuation, one entry a token.

    Attributes:
        token_ids: the continuation.
        logprobs: natural-log probability of each token given all before it.
        is_greedy: whether each token is the most probable one at its place.
        top: the most probable (token id, logprob) at each place, if asked for, else empty.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    is_greedy: tuple[bool, ...]
    top: tuple[tuple[tuple[int, float], ...], ...] = ()

    @property
    def loglikelihood(self) -> float:
        """Sum of the log-probabilities."""
        return sum(self.logprobs)

    @property
    def all_greedy(self) -> bool:
        """Whether greedy decoding would have produced the whole continuation."""
        return all(self.is_greedy)


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineInfo:
    """What runs, for pages, records and /health. All values are plain data.

    Attributes:
        model_name: short name, such as `persimmon-8b-chat`; `source`: folder or Hub id it came from, and
            `revision`, the Hub commit, where known.
        family: `persimmon`, ...; `num_parameters`; `vocab_size` as in the weights; `context_length` in tokens.
        weights_sha256: hash over the weight files and config.json; `tokenizer_sha256` of the tokenizer file; these
            identify the answers a record holds.
        prompts_begin_with_bos: whether `encode_prompt` puts a BOS first.
        device, dtype: such as `cuda:0`, `bfloat16`. rope_position_dtype: `float32` (as Hugging Face) or `bfloat16` (as
            Adept's server).
        attention_backend: which attention runs and why.
        block_size, num_blocks: KV cache, in tokens and blocks. max_num_requests: most requests running together.
        notice: what every user must be told (the demonstration model's), or `None`. licence: of the weights.
        versions: of the libraries in use.
    """

    model_name: str
    source: str
    revision: str | None
    family: str
    num_parameters: int
    vocab_size: int
    context_length: int
    weights_sha256: str
    tokenizer_sha256: str
    prompts_begin_with_bos: bool
    device: str
    dtype: str
    rope_position_dtype: str
    attention_backend: str
    block_size: int
    num_blocks: int
    max_num_requests: int
    notice: str | None
    licence: str | None
    versions: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The same as a JSON-ready dict."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Quantiles of `count` durations, in seconds."""

    count: int
    p50: float
    p95: float
    maximum: float


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineStats:
    """A snapshot of the engine's load: counts since the start, but for those that run, wait or are free now.

    Attributes:
        num_free_blocks: KV blocks not held by any request (their content may still serve as prefix cache); the null
            block is never free. num_usable_blocks: all there are.
        num_prompt_tokens: of requests that began to run; num_cached_tokens: those of them found in the prefix cache or
            shared with a fork, so that they were not computed.
        num_draft_tokens, num_accepted_tokens: of speculative decoding.
        ttft_s, inter_token_s: of the last requests and tokens.
        tokens_per_s: generated, over the last 10 seconds.
    """

    num_running: int
    num_waiting: int
    num_free_blocks: int
    num_usable_blocks: int
    num_generated_tokens: int
    num_prompt_tokens: int
    num_finished: int
    num_aborted: int
    num_preemptions: int
    num_steps: int
    num_cached_tokens: int = 0
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0
    ttft_s: Latency | None = None
    inter_token_s: Latency | None = None
    tokens_per_s: float = 0.0

    @property
    def prefix_hit_rate(self) -> float | None:
        """Share of prompt tokens that were in the cache; `None` before the first."""
        return self.num_cached_tokens / self.num_prompt_tokens if self.num_prompt_tokens else None

    @property
    def acceptance_rate(self) -> float | None:
        """Share of draft tokens that were right; `None` before the first."""
        return self.num_accepted_tokens / self.num_draft_tokens if self.num_draft_tokens else None


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def bos_token_id(self) -> int | None: ...

    @property
    def eos_token_ids(self) -> tuple[int, ...]: ...

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; no BOS or EOS is added."""
        ...

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of `text` at the beginning of a document: with the BOS where the family's prompts have one (Llama's do,
        Persimmon's and MPT's do not), unless `text` itself begins with it."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of a whole document; special tokens give nothing and a leading dummy space is dropped."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The UTF-8 bytes one id stands for inside a text; special tokens give b""."""
        ...


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn. `prefix` is text before the whole conversation (these models have no system role)."""

    role: Literal["prefix", "user", "assistant"]
    content: str


class ChatTemplate(Protocol):
    """How a checkpoint's family writes a conversation as one prompt."""

    @property
    def name(self) -> str: ...

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings at which a client must cut, beside the end-of-document token."""
        ...

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """The prompt up to where the next answer begins; if the last message is the assistant's, up to its end, so
        that it is continued.

        Raises:
            InvalidRequest: no user message, or turns out of order.
        """
        ...

    def answer(self, text: str) -> str:
        """A completion's text as it should be shown and put back into the history (outer blanks dropped)."""
        ...


class CompletionStream(Protocol):
    """A running request. Iterate it (`for` or `async for`), or poll it with a timeout; leaving its context, or
    `abort()`, ends the request and frees what it holds. Errors of the request are raised from the read."""

    def next_chunk(self, timeout: float | None = None) -> StreamChunk | None:
        """The next chunk, waiting at most `timeout` seconds; `None` if none came in time.

        Raises:
            StopIteration: the stream has ended.
            EngineError: the request failed.
        """
        ...

    async def anext_chunk(self, timeout: float | None = None) -> StreamChunk | None:
        """As :meth:`next_chunk`, without blocking the event loop; raises StopAsyncIteration at the end."""
        ...

    def abort(self) -> None:
        """End the request now; safe to call twice, after the end, or from any thread."""
        ...

    def __iter__(self) -> Iterator[StreamChunk]: ...

    def __aiter__(self) -> AsyncIterator[StreamChunk]: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Engine(Protocol):
    """A loaded model that takes requests from any thread or event loop.

    All methods raise InvalidRequest (bad values, prompt too long) before anything is queued, and EngineClosed after
    `close`.
    """

    @property
    def info(self) -> EngineInfo: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def chat_template(self) -> ChatTemplate: ...

    def stats(self) -> EngineStats: ...

    def generate(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams],
        *,
        priority: Priority = "interactive",
    ) -> list[Completion]:
        """Continue all prompts, batched; results in the order of the prompts. A prompt of eight tokens or more that is
        there several times is computed once and then forked, but for an :class:`EmbeddedPrompt`, one whose own
        log-probabilities are wanted, and models whose keys depend on the prompt's length (dynamic rope)."""
        ...

    async def agenerate(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams],
        *,
        priority: Priority = "interactive",
    ) -> list[Completion]:
        """As :meth:`generate`; cancelling it aborts its requests."""
        ...

    def stream(self, prompt: Prompt, params: SamplingParams, *, priority: Priority = "interactive") -> CompletionStream:
        """Start one request and read it as it grows, from a thread or an event loop."""
        ...

    def streams(
        self, prompt: Prompt, params: Sequence[SamplingParams], *, priority: Priority = "interactive"
    ) -> Sequence[CompletionStream]:
        """Several answers to one prompt, computed once where :meth:`generate` does, each to be read as it grows."""
        ...

    def score(self, requests: Sequence[ScoreRequest], *, priority: Priority = "batch") -> list[TokenScore]:
        """Log-probability and is-greedy flag of every continuation token; results in order."""
        ...

    async def ascore(self, requests: Sequence[ScoreRequest], *, priority: Priority = "batch") -> list[TokenScore]:
        """As :meth:`score`; cancelling it aborts its requests."""
        ...

    def hidden_states(self, prompts: Sequence[Prompt], *, priority: Priority = "batch") -> list[NDArray[np.float32]]:
        """The last token's hidden state after the final norm, [hidden_size], of each prompt: what a classification head
        reads."""
        ...

    async def ahidden_states(
        self, prompts: Sequence[Prompt], *, priority: Priority = "batch"
    ) -> list[NDArray[np.float32]]:
        """As :meth:`hidden_states`; cancelling it aborts its requests."""
        ...

    def close(self) -> None:
        """Abort what runs, stop the loop, free the memory; safe to call twice."""
        ...
