"""What an engine says about itself: what it runs, and its load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


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
        attention_backend: which attention runs. attention_not_used: why those preferred to it do not, by name.
        kernels: what computes norms, rotation, activations and log-probabilities; kernels_note: why it is not ours.
        block_size, num_blocks: KV cache, in tokens and blocks. max_num_requests: most requests running together.
        has_lm_head: whether it can generate and score; a checkpoint of a `...ForSequenceClassification` can only
            classify and give hidden states.
        graph_batch_sizes: of the decode steps captured as CUDA graphs; graph_capture_s, graph_bytes: what that took in
            seconds and GPU memory. graph_note: why there are none.
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
    has_lm_head: bool = True
    graph_batch_sizes: tuple[int, ...] = ()
    graph_capture_s: float = 0.0
    graph_bytes: int = 0
    graph_note: str | None = None
    attention_not_used: Mapping[str, str] = field(default_factory=dict)
    kernels: str = "not stated"
    kernels_note: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def attention_choice(self) -> str:
        """The attention that runs and why others do not, in one line."""
        reasons = "; ".join(f"{name}: {reason}" for name, reason in self.attention_not_used.items())
        return f"{self.attention_backend} (not {reasons})" if reasons else self.attention_backend

    @property
    def kernels_choice(self) -> str:
        """What computes what stands between the matrices and why our kernels do not, in one line."""
        return self.kernels if self.kernels_note is None else f"{self.kernels} ({self.kernels_note})"

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON gives it back."""
        return asdict(self) | {"graph_batch_sizes": list(self.graph_batch_sizes)}


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
        num_live_rows, num_rows: of second MLP matrices in steps of at most 8 tokens, where the rows whose activation is
            exactly 0 for all of them are not read: how many were, and all there are. 0 where nothing is skipped.
        ttft_s, inter_token_s: of the last requests and tokens.
        tokens_per_s: generated, over the last 10 seconds.
        step_age_s: how long the step now being computed has taken so far; 0 between steps.
        is_closed: whether the engine takes no more requests: it was closed, or its loop failed.
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
    num_live_rows: int = 0
    num_rows: int = 0
    ttft_s: Latency | None = None
    inter_token_s: Latency | None = None
    tokens_per_s: float = 0.0
    step_age_s: float = 0.0
    is_closed: bool = False

    @property
    def prefix_hit_rate(self) -> float | None:
        """Share of prompt tokens that were in the cache; `None` before the first."""
        return self.num_cached_tokens / self.num_prompt_tokens if self.num_prompt_tokens else None

    @property
    def acceptance_rate(self) -> float | None:
        """Share of draft tokens that were right; `None` before the first."""
        return self.num_accepted_tokens / self.num_draft_tokens if self.num_draft_tokens else None

    @property
    def live_fraction(self) -> float | None:
        """Share of the second MLP matrices' rows that were live; `None` where nothing is skipped, and before the first
        step."""
        return self.num_live_rows / self.num_rows if self.num_rows else None
