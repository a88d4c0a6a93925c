"""What an engine says about itself, as rows of a table; what it does not say is said to be unknown."""

from __future__ import annotations

from collections.abc import Mapping

from model.interface import EngineInfo, EngineStats, Latency

UNKNOWN = "not stated"


def model_facts(info: EngineInfo) -> dict[str, str]:
    """The model's card."""
    return {
        "Family": info.family,
        "Licence of the weights": info.licence or UNKNOWN,
        "Source": info.source,
        "Revision": info.revision or UNKNOWN,
        "Parameters": f"{info.num_parameters:,}",
        "Vocabulary": f"{info.vocab_size:,} tokens",
        "Context": f"{info.context_length:,} tokens",
        "Prompts begin with BOS": "yes" if info.prompts_begin_with_bos else "no",
        "Weights, SHA-256": info.weights_sha256,
        "Tokenizer, SHA-256": info.tokenizer_sha256,
    }


def engine_facts(info: EngineInfo) -> dict[str, str]:
    """How the model is run."""
    cached = (info.num_blocks - 1) * info.block_size  # one block is the null block
    return {
        "Device": info.device,
        "Number format": info.dtype,
        "Rotary positions": info.rope_position_dtype,
        "Attention": info.attention_choice,
        "Kernels": info.kernels_choice,
        "CUDA graphs": cuda_graphs(info),
        "KV cache": f"{cached:,} tokens in {info.num_blocks - 1:,} blocks of {info.block_size}",
        "Answers at once": f"at most {info.max_num_requests:,}",
    }


def cuda_graphs(info: EngineInfo) -> str:
    """Whether steps are replayed from captured graphs."""
    if info.graph_batch_sizes:
        return (
            f"for {len(info.graph_batch_sizes)} batch sizes up to {info.graph_batch_sizes[-1]}, captured in "
            f"{duration(info.graph_capture_s)}, {info.graph_bytes / 1e9:.2f} GB"
        )
    if info.graph_note is not None:
        return f"none: {info.graph_note}"
    if not info.device.startswith("cuda"):
        return f"none: they need a GPU, and this engine runs on {info.device}"
    return f"none: {UNKNOWN} why"


def versions(info: EngineInfo) -> Mapping[str, str]:
    """Of the libraries in use, by name."""
    return dict(sorted(info.versions.items()))


def load_facts(info: EngineInfo, stats: EngineStats) -> dict[str, str]:
    """What the engine is doing, and what it did since it started."""
    return {
        "Running": f"{stats.num_running:,} of at most {info.max_num_requests:,}",
        "Waiting in the queue": f"{stats.num_waiting:,}",
        "KV blocks in use": f"{stats.num_usable_blocks - stats.num_free_blocks:,} of {stats.num_usable_blocks:,}",
        "Prefix cache": share(stats.prefix_hit_rate, "of the prompt tokens were there already"),
        "Speculative decoding": share(stats.acceptance_rate, "of the guessed tokens were right"),
        "Second MLP matrices": live_rows(stats.live_fraction),
        "Preemptions": f"{stats.num_preemptions:,}",
        "Requests": f"{stats.num_finished:,} finished, {stats.num_aborted:,} aborted",
        "Tokens": f"{stats.num_generated_tokens:,} generated, {stats.num_prompt_tokens:,} read in prompts",
        "Steps": f"{stats.num_steps:,}",
        "Time to first token": quantiles(stats.ttft_s),
        "Between two tokens": quantiles(stats.inter_token_s),
    }


def share(part: float | None, text: str) -> str:
    """A share of 1 in percent; that there is none yet is said."""
    return "none yet" if part is None else f"{100 * part:.1f} % {text}"


def live_rows(part: float | None) -> str:
    """What was read of them in steps of few tokens."""
    if part is None:
        return "read whole so far"
    return f"{100 * part:.1f} % of their rows were live in steps of few tokens; the others need not be read"


def quantiles(latency: Latency | None) -> str:
    """Median, 95 % quantile and maximum."""
    if latency is None:
        return "none yet"
    shown = (("median", latency.p50), ("95 %", latency.p95), ("longest", latency.maximum))
    return ", ".join(f"{name} {duration(value)}" for name, value in shown) + f" (of the last {latency.count:,})"


def duration(seconds: float) -> str:
    """Seconds, or milliseconds where there is less than one."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"
