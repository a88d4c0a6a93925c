"""`GET /metrics`, in Prometheus's text format (prometheus.io/docs/instrumenting/exposition_formats, version 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from app.api.counters import BUCKETS_S
from app.api.service import Service
from model.interface import EngineStats, Latency

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def metrics(service: Service, request: Request) -> Response:
    """The engine's load and what the API counted."""
    lines = [*_engine_lines(service.engine.stats()), *_api_lines(service)]
    return PlainTextResponse("\n".join(lines) + "\n", headers={"Content-Type": CONTENT_TYPE})


def _engine_lines(stats: EngineStats) -> Iterator[str]:
    gauges = {
        "engine_requests_running": (stats.num_running, "Requests computed now."),
        "engine_requests_waiting": (stats.num_waiting, "Requests waiting in the engine."),
        "engine_kv_blocks_free": (stats.num_free_blocks, "KV blocks no request holds."),
        "engine_kv_blocks_usable": (stats.num_usable_blocks, "KV blocks there are."),
        "engine_generated_tokens_per_second": (stats.tokens_per_s, "Over the last 10 seconds."),
    }
    totals = {
        "engine_generated_tokens_total": (stats.num_generated_tokens, "Tokens generated."),
        "engine_prompt_tokens_total": (stats.num_prompt_tokens, "Prompt tokens of requests that began to run."),
        "engine_cached_tokens_total": (stats.num_cached_tokens, "Prompt tokens found in the prefix cache."),
        "engine_draft_tokens_total": (stats.num_draft_tokens, "Tokens guessed by speculative decoding."),
        "engine_accepted_tokens_total": (stats.num_accepted_tokens, "Guessed tokens that were right."),
        "engine_requests_finished_total": (stats.num_finished, "Requests that finished."),
        "engine_requests_aborted_total": (stats.num_aborted, "Requests that were aborted."),
        "engine_preemptions_total": (stats.num_preemptions, "Requests put back to make room."),
        "engine_steps_total": (stats.num_steps, "Batches computed."),
    }
    for kind, values in (("gauge", gauges), ("counter", totals)):
        for name, (value, text) in values.items():
            yield from _head(name, kind, text)
            yield f"{name} {value}"
    yield from _quantiles("engine_time_to_first_token_seconds", stats.ttft_s, "Of the last requests.")
    yield from _quantiles("engine_inter_token_seconds", stats.inter_token_s, "Of the last tokens.")


def _api_lines(service: Service) -> Iterator[str]:
    counters, gate = service.counters, service.gate
    yield from _head("api_answers_admitted", "gauge", "Answers API clients wait for.")
    yield f"api_answers_admitted {gate.num_admitted}"
    yield from _head("api_requests_rejected_total", "counter", "Requests refused because the queue was full.")
    yield f"api_requests_rejected_total {gate.num_rejected}"
    yield from _head("api_requests_total", "counter", "Requests that ended, by path and status.")
    for (path, status), count in sorted(counters.requests.items()):
        yield f'api_requests_total{{path="{path}",status="{status}"}} {count}'
    name = "api_request_duration_seconds"
    yield from _head(name, "histogram", "From a request's arrival to its last byte.")
    for path, within in sorted(counters.durations.items()):
        for bound, count in zip((*(f"{bound:g}" for bound in BUCKETS_S), "+Inf"), within, strict=True):
            yield f'{name}_bucket{{path="{path}",le="{bound}"}} {count}'
        yield f'{name}_sum{{path="{path}"}} {counters.seconds[path]:.6f}'
        yield f'{name}_count{{path="{path}"}} {within[-1]}'


def _quantiles(name: str, latency: Latency | None, text: str) -> Iterator[str]:
    if latency is None:
        return
    for kind, value in (("p50", latency.p50), ("p95", latency.p95), ("max", latency.maximum)):
        yield from _head(f"{name}_{kind}", "gauge", text)
        yield f"{name}_{kind} {value:.6f}"


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
